//! `update`: pins move forward, no more of them than asked.

use crate::project::{Project, first, later};
use crate::support::deb::Deb;

#[test]
fn everything_moves_and_the_difference_is_printed() {
    let (project, served) = Project::locked();
    let run = project.run(&served, &["update"]).code(0);
    assert_eq!(run.out, "everything is up to date: 6 packages locked\n");

    let moved_on = project.serve(later(), 24);
    let before = project.read("images/images.lock");
    let dry = project.run(&moved_on, &["update", "--dry-run"]).code(0);
    assert_eq!(project.read("images/images.lock"), before);
    let run = project.run(&moved_on, &["update"]).code(0);
    assert_eq!(run.out, dry.out);
    insta::assert_snapshot!("update_all", project.redact(&moved_on, &run.out));
    assert_eq!(project.pins(), ["app 2", "core 2", "engine 2", "extra 2", "library 2", "tool 2"]);
    // What `diff` says of the two locks is the same.
    project.write("old.lock", &before);
    let diff = project.run(&moved_on, &["diff", "old.lock", "images/images.lock"]).code(0);
    assert_eq!(run.out, format!("{}6 packages locked\n", diff.out));
    let json = project.run(&moved_on, &["diff", "--json", "old.lock", "images/images.lock"]).code(0).json();
    let change = &json["locks"]["changed"][0];
    assert_eq!(change, &serde_json::json!({ "package": "app", "old": "1", "new": "2" }));
    assert_eq!(json["locks"]["changed"].as_array().unwrap().len(), 6);
}

#[test]
fn an_archive_moves_by_its_name() {
    let (project, _served) = Project::locked();
    let moved_on = project.serve(later(), 24);
    let json = project.run(&moved_on, &["update", "test", "--json"]).code(0).json();
    assert_eq!(json["diff"]["changed"].as_array().unwrap().len(), 6);
    assert_eq!(json["diff"]["suites"][0]["suite"], "test trixie");
}

#[test]
fn one_package_moves_with_what_it_needs_and_nothing_else() {
    let (project, _served) = Project::locked();
    let moved_on = project.serve(later(), 24);
    let run = project.run(&moved_on, &["update", "extra"]).code(0);
    insta::assert_snapshot!("update_extra", project.redact(&moved_on, &run.out));
    // What stays is listed by neither state of the archive now, but the pool still has it.
    project.serve_too(&moved_on, first());
    // `app` needs the `engine` of its own version; `library` may stay.
    let run = project.run(&moved_on, &["update", "app"]).code(0);
    insta::assert_snapshot!("update_app", project.redact(&moved_on, &run.out));
    assert_eq!(project.pins(), ["app 2", "core 1", "engine 2", "extra 2", "library 1", "tool 1"]);
}

#[test]
fn a_dependency_in_the_layer_below_moves_along() {
    let (project, _served) = Project::locked();
    let mut packages = later();
    packages.retain(|deb| deb.name() != "app");
    packages.push(Deb::new("app", "2").field("Depends", "engine (= 2), library (>= 2)"));
    let moved_on = project.serve(packages, 24);
    project.run(&moved_on, &["update", "app"]).code(0);
    assert_eq!(project.pins(), ["app 2", "core 1", "engine 2", "extra 1", "library 2", "tool 1"]);
    assert!(!project.read("images/images.lock").contains("alone"));
}

#[test]
fn names_that_nobody_has_get_a_suggestion() {
    let (project, served) = Project::locked();
    for (name, near) in [("engin", "engine"), ("tset", "test"), ("ap", "app"), ("lib", "library")] {
        let run = project.run(&served, &["update", name]).code(2);
        let expected = format!("`{name}` is neither an archive nor a package of the lock; is it `{near}`?\n");
        assert!(run.err.ends_with(&expected), "{}", run.err);
    }
    let run = project.run(&served, &["update", "app", "zzzzzz"]).code(2);
    assert!(run.err.ends_with("`zzzzzz` is neither an archive nor a package of the lock\n"), "{}", run.err);
}

#[test]
fn an_older_archive_is_refused() {
    let project = Project::new();
    let served = project.serve(later(), 24);
    project.run(&served, &["lock"]).code(0);
    let before = project.read("images/images.lock");
    let rolled_back = project.serve(first(), 48);
    let run = project.run(&rolled_back, &["update"]).code(1);
    assert!(run.err.contains("older"), "{}", run.err);
    assert_eq!(project.read("images/images.lock"), before);
}
