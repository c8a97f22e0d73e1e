//! Builds that cannot succeed: what is said, and what is left. Nothing here gets as far as the sandbox.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use build_images::sandbox::IdRange;

use crate::project::Project;
use crate::support::require;
use crate::support::server::Fault;

/// Ids are looked for before packages are fetched.
fn ids() -> bool {
    require("a range of subordinate ids", IdRange::discover().is_ok())
}

#[test]
fn a_package_that_nobody_has_any_more_is_named() {
    if !ids() {
        return;
    }
    let (project, served) = Project::locked();
    served.server.remove(&served.deb("tool"));
    let run = project.run(&served, &["bare"]).code(1);
    insta::assert_snapshot!("package_gone_out", run.out);
    insta::assert_snapshot!("package_gone", project.redact(&served, &run.err));
    assert!(!project.path("result/bare").exists());
    let left = fs::read_dir(project.path("result")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["site"], "what needs no build is there, and nothing else");
}

#[test]
fn a_package_that_is_another_one_is_refused() {
    if !ids() {
        return;
    }
    let (project, served) = Project::locked();
    let path = served.deb("extra");
    let mut bytes = served.server.file(&path);
    *bytes.last_mut().unwrap() ^= 1;
    served.server.fault(&path, Fault::Wrong(bytes));
    let run = project.run(&served, &["bare"]).code(1);
    insta::assert_snapshot!("package_changed", project.redact(&served, &run.err));
    let extra = &served.locked_packages()[3];
    assert!(!project.store().join("debs").join(extra.sha256.to_string()).exists());
}

#[test]
fn one_image_that_fails_does_not_stop_the_other() {
    if !ids() {
        return;
    }
    let (project, served) = Project::locked();
    for package in ["tool", "extra"] {
        served.server.remove(&served.deb(package));
    }
    let run = project.run(&served, &[]).code(1);
    // Each is tried and has its own line and error, with all of its packages.
    insta::assert_snapshot!(run.out, @"
    image  done    size  packages  seconds  archive
    app    failed
    bare   failed
    ");
    for text in ["app: cannot fetch its packages", "bare: cannot fetch its packages", "`tool` 1", "`extra` 1"]
    {
        assert!(run.err.contains(text), "{text}: {}", run.err);
    }
    let json = project.run(&served, &["--json"]).code(1).json();
    assert_eq!(json[0]["done"], "failed");
    assert_eq!(json[1]["image"], "bare");
    assert!(json[1]["error"].as_str().unwrap().contains("`tool` 1"), "{json}");
}

#[test]
fn a_place_that_cannot_be_written_is_said_before_anything_is_fetched() {
    let (project, served) = Project::locked();
    let asked = served.server.requests().len();
    project.write("file", "");
    let run = project.run(&served, &["bare", "--result", "file/below"]).code(1);
    assert!(run.err.starts_with("error: cannot make the directory `"), "{}", run.err);
    assert!(run.err.contains("project/file/below`"), "{}", run.err);
    if !rustix::process::geteuid().is_root() {
        fs::create_dir(project.path("result")).unwrap();
        fs::set_permissions(project.path("result"), fs::Permissions::from_mode(0o555)).unwrap();
        let run = project.run(&served, &["bare"]).code(1);
        assert!(run.err.contains("project/result"), "{}", run.err);
    }
    assert_eq!(served.server.requests().len(), asked);
    // The same of the store.
    let run = project.run(&served, &["bare", "--store", "file/store"]).code(1);
    assert!(run.err.contains("project/file/store"), "{}", run.err);
}

#[test]
fn a_lock_that_cannot_be_written_is_said() {
    let project = Project::new();
    let served = project.serve(crate::project::first(), 48);
    fs::create_dir(project.path("images/images.lock")).unwrap();
    let run = project.run(&served, &["lock"]).code(1);
    assert!(run.err.contains("images/images.lock"), "{}", run.err);
}
