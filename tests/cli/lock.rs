//! `lock` and `check`: what is missing is locked, what is there stays.

use std::fs;

use crate::project::{Project, first, later};

#[test]
fn a_lock_is_made_from_nothing_and_names_no_mirror() {
    let project = Project::new();
    let served = project.serve(first(), 48);
    let run = project.run(&served, &["lock"]).code(0);
    insta::assert_snapshot!("lock_from_nothing", project.redact(&served, &run.out));
    let text = project.read("images/images.lock");
    assert!(!text.contains(&format!(":{}", served.server.port())), "{text}");
    assert!(text.contains(crate::project::RECORD));
    assert_eq!(project.pins(), ["app 1", "core 1", "engine 1", "extra 1", "library 1", "tool 1"]);
}

#[test]
fn a_second_lock_does_nothing_and_asks_nobody() {
    let (project, served) = Project::locked();
    let (text, asked) = (project.read("images/images.lock"), served.server.requests().len());
    let run = project.run(&served, &["lock"]).code(0);
    assert_eq!(run.out, "nothing to lock: 6 packages locked\n");
    assert_eq!(run.err, "");
    assert_eq!(served.server.requests().len(), asked);
    assert_eq!(project.read("images/images.lock"), text);
    let json = project.run(&served, &["lock", "--json"]).code(0).json();
    assert_eq!(json["packages"], 6);
    assert_eq!(json["stale"], serde_json::json!([]));
}

#[test]
fn check_says_what_is_stale_and_lock_moves_no_other_pin() {
    let (project, served) = Project::locked();
    let run = project.run(&served, &["check"]).code(0);
    assert_eq!(run.out, "checked 2 images and 2 recipes\nthe lock matches the recipes\n");

    project.app(&["app", "more"]);
    let moved_on = project.serve(later(), 24);
    let run = project.run(&moved_on, &["check"]).code(0);
    insta::assert_snapshot!("check_stale", run.out);
    let json = project.run(&moved_on, &["check", "--json"]).code(0).json();
    assert_eq!(json["stale"][0]["changed-set"]["added"], serde_json::json!(["more"]));

    // The archive is at version 2 meanwhile; the lock stays at the state it pins, which the store has.
    let before = project.read("images/images.lock");
    let run = project.run(&moved_on, &["lock"]).code(0);
    insta::assert_snapshot!("lock_one_more", project.redact(&moved_on, &run.out));
    let pins = ["app 1", "core 1", "engine 1", "extra 1", "library 1", "more 1", "tool 1"];
    assert_eq!(project.pins(), pins);
    let after = project.read("images/images.lock");
    let gone: Vec<_> = before.lines().filter(|line| !after.contains(line.trim_end_matches(','))).collect();
    // Only the digest of the request, and the seal of the whole, are others.
    assert!(gone.len() <= 2, "{gone:#?}");
    assert_eq!(moved_on.server.count(&moved_on.in_release()), 0);
}

#[test]
fn pins_that_an_update_left_behind_stay_when_one_more_package_is_locked() {
    let (project, _served) = Project::locked();
    let moved_on = project.serve(later(), 24);
    project.run(&moved_on, &["update", "app"]).code(0);
    let pins = ["app 2", "core 1", "engine 2", "extra 1", "library 1", "tool 1"];
    assert_eq!(project.pins(), pins);

    // The new state of the archive lists none of the old versions; their .debs still are in the pool.
    project.serve_too(&moved_on, first());
    project.app(&["app", "more"]);
    project.run(&moved_on, &["lock"]).code(0);
    let pins = ["app 2", "core 1", "engine 2", "extra 1", "library 1", "more 2", "tool 1"];
    assert_eq!(project.pins(), pins);
    assert!(!project.read("images/images.lock").contains("alone"));
    // And the next update of one package still moves no other.
    project.run(&moved_on, &["update", "extra"]).code(0);
    let pins = ["app 2", "core 1", "engine 2", "extra 2", "library 1", "more 2", "tool 1"];
    assert_eq!(project.pins(), pins);
}

#[test]
fn check_without_a_lock_says_how_to_make_one() {
    let project = Project::new();
    let served = project.serve(first(), 48);
    let run = project.run(&served, &["check"]).code(0);
    insta::assert_snapshot!(run.out, @"
    checked 2 images and 2 recipes
    nothing is locked yet: `build-images lock` or the first build does it
    ");
    assert!(served.server.requests().is_empty());
}

#[test]
fn a_lock_edited_by_hand_is_refused() {
    let (project, served) = Project::locked();
    let text = project.read("images/images.lock");
    let edited = text.replacen("engine", "angine", 1);
    fs::write(project.path("images/images.lock"), edited).unwrap();
    for command in [&["lock"][..], &["check"], &["build"], &["update"], &["show"], &["why", "app", "engine"]]
    {
        let run = project.run(&served, command).code(2);
        insta::allow_duplicates! {
            insta::assert_snapshot!("lock_edited", project.redact(&served, &run.err));
        }
        assert_eq!(run.out, "");
    }
    assert!(project.read("images/images.lock").contains("angine"));
}

#[test]
fn what_does_not_fit_is_explained_and_nothing_is_written() {
    let (project, served) = Project::locked();
    let before = project.read("images/images.lock");
    project.app(&["app", "broken"]);
    let run = project.run(&served, &["lock"]).code(1);
    insta::assert_snapshot!("does_not_fit", project.redact(&served, &run.err));
    assert_eq!(project.read("images/images.lock"), before);
    project.app(&["app", "mroe"]);
    let run = project.run(&served, &["lock"]).code(1);
    insta::assert_snapshot!("no_such_package", project.redact(&served, &run.err));
}

#[test]
fn a_wrong_recipe_stops_everything_before_it_begins() {
    let project = Project::new();
    let served = project.serve(first(), 48);
    project.base("\n[[file]]\npath = \"etc/relative\"\ncontent = \"x\"\n\n[unit]\nenable = []\n");
    for command in [&["lock"][..], &["check"], &[], &["update"], &["config", "app"]] {
        let run = project.run(&served, command).code(2);
        assert!(run.err.contains("recipes/base/recipe.toml:"), "{}", run.err);
        assert!(run.err.ends_with("\n2 errors\n"), "{}", run.err);
        assert_eq!(run.out, "");
    }
    let run = project.run(&served, &["check", "--json"]).code(2);
    let json: serde_json::Value = serde_json::from_str(&run.err).unwrap();
    assert!(json.to_string().contains("unit"), "{json}");
    assert!(served.server.requests().is_empty());
    assert!(!project.path("images/images.lock").exists());
    assert!(!project.path("result").exists());
}

#[test]
fn an_unsigned_or_stale_archive_gives_no_lock() {
    let project = Project::new();
    let old = project.serve(first(), 24 * 30);
    let run = project.run(&old, &["lock"]).code(1);
    assert!(run.err.contains("`trixie`"), "{}", run.err);
    assert!(!project.path("images/images.lock").exists());
    // Another project's key is not this one's.
    let other = Project::new();
    let run = project.run(&other.serve(first(), 1), &["lock"]).code(1);
    assert!(run.err.contains("sign"), "{}", run.err);
    assert!(!project.path("images/images.lock").exists());
}
