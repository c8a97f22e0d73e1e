//! Commands that only look: `show`, `why`, `config`, `diff` of locks; and their JSON.

use crate::project::{Project, first, later};

#[test]
fn the_images() {
    let (project, served) = Project::locked();
    let run = project.run(&served, &["show"]).code(0);
    insta::assert_snapshot!("show", run.out);
    let json = project.run(&served, &["show", "--json"]).code(0).json();
    assert_eq!(json[0]["name"], "app");
    assert_eq!(json[0]["container"]["vmid"], 159);
    assert_eq!(json[1]["packages"].as_array().unwrap().len(), 4);
}

#[test]
fn one_image() {
    let (project, served) = Project::locked();
    let run = project.run(&served, &["show", "app"]).code(0);
    insta::assert_snapshot!("show_app", run.out);
    let json = project.run(&served, &["show", "app", "--json"]).code(0).json();
    let names: Vec<_> = json["packages"].as_array().unwrap().iter().map(|p| p["name"].clone()).collect();
    assert_eq!(names, ["app", "core", "engine", "extra", "library", "tool"]);
    assert_eq!(json["archive"], serde_json::Value::Null);
}

#[test]
fn without_a_lock_the_images_are_shown_and_the_rest_says_what_to_do() {
    let project = Project::new();
    let served = project.serve(first(), 48);
    assert!(project.run(&served, &["show"]).code(0).out.contains("172.16.10.59/24"));
    for command in [&["show", "app", "--plan"][..], &["why", "app", "tool"]] {
        let run = project.run(&served, command).code(2);
        assert_eq!(run.err, "error: there is no lock yet; run `build-images lock`\n");
    }
    assert!(served.server.requests().is_empty());
}

#[test]
fn a_plan_says_which_layers_are_there_and_which_never_were() {
    let (project, served) = Project::locked();
    let run = project.run(&served, &["show", "app", "--plan"]).code(0);
    insta::assert_snapshot!("show_plan", project.redact(&served, &run.out));
    let json = project.run(&served, &["show", "app", "--plan", "--json"]).code(0).json();
    assert_eq!(json["layers"][1]["recipes"], serde_json::json!(["base", "app"]));
    assert_eq!(json["layers"][1]["state"], "never-built");
    project.run(&served, &["show", "--plan"]).code(2);
}

#[test]
fn a_plan_of_a_stale_lock_names_what_is_stale() {
    let (project, served) = Project::locked();
    project.app(&["app", "more"]);
    let run = project.run(&served, &["show", "app", "--plan"]).code(2);
    insta::assert_snapshot!(run.err, @"error: the lock does not match the recipes of image `app`: the recipes `base` + `app` ask for something else than was locked; new: more; run `build-images lock`");
    // The other image has nothing to do with it.
    project.run(&served, &["show", "bare", "--plan"]).code(0);
}

#[test]
fn why_a_package_is_there() {
    let (project, served) = Project::locked();
    let run = project.run(&served, &["why", "app", "library"]).code(0);
    insta::assert_snapshot!(run.out, @"
    library 1: depends of tool
      tool 1: requested by recipe base
    ");
    let run = project.run(&served, &["why", "app", "engine"]).code(0);
    insta::assert_snapshot!(run.out, @"
    engine 1: depends of app
      app 1: requested by recipe app
    ");
    let run = project.run(&served, &["why", "bare", "core"]).code(0);
    assert_eq!(run.out, "core 1: essential by recipe base\n");
    let json = project.run(&served, &["why", "app", "engine", "--json"]).code(0).json();
    assert_eq!(json[0]["by"], "app");
    assert_eq!(json[1]["reason"], "requested");
    let run = project.run(&served, &["why", "bare", "tol"]).code(2);
    assert_eq!(run.err, "error: package `tol` is not in image `bare`; is it `tool`?\n");
}

#[test]
fn the_configuration_and_nothing_else() {
    let project = Project::new();
    let served = project.serve(first(), 48);
    let run = project.run(&served, &["config", "app"]).code(0);
    assert_eq!(run.err, "");
    let config = build_images::pve::Config::parse(&run.out).unwrap();
    assert_eq!(config.to_text(), run.out);
    assert!(run.out.contains("ip=172.16.10.59/24"), "{}", run.out);
    let json = project.run(&served, &["config", "app", "--json"]).code(0).json();
    assert_eq!(json["settings"]["cores"], "2");
    assert_eq!(json["text"], run.out.as_str());
}

#[test]
fn two_locks_differ_in_packages_that_come_and_go() {
    let (project, _served) = Project::locked();
    let moved_on = project.serve(later(), 24);
    project.write("old.lock", &project.read("images/images.lock"));
    project.app(&["more"]);
    project.run(&moved_on, &["lock"]).code(0);
    let run = project.run(&moved_on, &["diff", "old.lock", "images/images.lock"]).code(0);
    insta::assert_snapshot!(run.out, @"
    +  more    1
    -  app     1
    -  engine  1
    ");
    let run = project.run(&moved_on, &["diff", "old.lock", "old.lock"]).code(0);
    assert_eq!(run.out, "no package changes\n");
    let run = project.run(&moved_on, &["diff", "old.lock", "nothing.lock"]).code(2);
    assert_eq!(run.err, "error: there is no `nothing.lock`\n");
}
