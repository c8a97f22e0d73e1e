//! `vendor`: a directory that serves as a mirror of everything in the lock.

use std::fs;

use crate::archives::Two;
use crate::project::Run;

/// Paths below a directory, sorted.
fn paths(directory: &std::path::Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(directory).sort_by_file_name().into_iter().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().is_file());
    files.map(|entry| entry.path().strip_prefix(directory).unwrap().display().to_string()).collect()
}

#[test]
fn it_can_be_locked_from_when_nothing_else_is_there() {
    let two = Two::new();
    let other = two.other(1, 48);
    two.run(Some(&other), &["lock"]).code(0);
    let target = two.project.path("a copy");
    let arguments = ["vendor", target.to_str().unwrap()];
    let run = two.run(Some(&other), &arguments).code(0);
    let said = two.project.redact(&two.test, &run.out);
    insta::assert_snapshot!("vendor", said);
    let listed = crate::support::repository::redact_hex(&paths(&target).join("\n"));
    insta::assert_snapshot!("vendor_paths", listed);

    // Again nothing is to be done; what is damaged is put right, and nothing else is touched.
    let json = two.run(None, &["vendor", "a copy", "--json"]).code(0).json();
    assert_eq!((&json["new"], &json["packages"]), (&0.into(), &8.into()), "{json}");
    let deb = target.join("other").join(&other.locked_packages()[0].path);
    let good = fs::read(&deb).unwrap();
    fs::write(&deb, b"damaged").unwrap();
    fs::write(target.join("other/mine"), b"mine").unwrap();
    assert_eq!(two.run(None, &["vendor", "a copy", "--json"]).code(0).json()["new"], 1);
    assert_eq!(fs::read(&deb).unwrap(), good);
    assert!(target.join("other/mine").exists());

    // Another machine with no network and an empty store makes the same lock from it, by paths or by what is printed.
    let lock = two.project.read("images/images.lock");
    let printed = run.out.lines().last().unwrap().split('\'').nth(1).unwrap();
    let given = "other=./a copy/other test=./a copy/test";
    for mirrors in [printed, given] {
        fs::remove_dir_all(two.project.store()).unwrap();
        fs::remove_file(two.project.path("images/images.lock")).unwrap();
        let mut command = crate::project::program();
        command
            .current_dir(two.project.path(""))
            .env("HOME", two.project.path(".."))
            .env("BUILD_IMAGES_STORE", two.project.store())
            .env("BUILD_IMAGES_MIRROR", mirrors)
            .arg("lock");
        Run::of(command.output().unwrap()).code(0);
        assert_eq!(two.project.read("images/images.lock"), lock);
    }
    // A web server that has the directory does as well.
    let read = |path: String| (path.clone(), fs::read(target.join(&path)).unwrap());
    let server = crate::support::server::Server::start(paths(&target).into_iter().map(read).collect());
    fs::remove_dir_all(two.project.store()).unwrap();
    fs::remove_file(two.project.path("images/images.lock")).unwrap();
    let mirrors = format!("test={0}test other={0}other", server.uri());
    let mut command = two.project.command(&two.test, &["lock"]);
    let asked = two.test.server.requests().len();
    Run::of(command.env("BUILD_IMAGES_MIRROR", mirrors).output().unwrap()).code(0);
    assert_eq!(two.project.read("images/images.lock"), lock);
    assert_eq!(two.test.server.requests().len(), asked);
}

#[test]
fn a_state_that_nobody_has_any_more_is_said_and_packages_are_copied_all_the_same() {
    let two = Two::new();
    let other = two.other(1, 48);
    two.run(Some(&other), &["lock"]).code(0);
    fs::remove_dir_all(two.project.store()).unwrap();
    let moved = two.other(2, 24);
    for package in other.locked_packages() {
        let path = format!("other/{}", package.path);
        moved.server.put(&path, other.server.file(&path));
    }
    let run = two.run(Some(&moved), &["vendor", "copy"]).code(0);
    assert!(run.out.contains("archive `other` has moved on: "), "{}", run.out);
    assert!(two.project.path("copy/other/pool/player_1_amd64.deb").exists());
    assert!(!two.project.path("copy/other/dists").exists());
    assert!(two.project.path("copy/test/dists/trixie/InRelease").exists());
}

#[test]
fn what_cannot_be_had_is_named() {
    let two = Two::new();
    let run = two.run(None, &["vendor", "copy"]).code(2);
    assert_eq!(run.err, "error: there is no lock yet; run `build-images lock`\n");
    let run = two.run(None, &["lock"]).code(1);
    assert!(run.err.contains("`other`"), "{}", run.err);
    // Of an image that is not locked nothing can be copied.
    let run = two.run(None, &["vendor", "copy"]).code(0);
    assert!(run.err.contains("the lock does not hold all that `media` asks for"), "{}", run.err);
    two.test.server.remove(&two.test.deb("tool"));
    fs::remove_dir_all(two.project.store()).unwrap();
    let run = two.run(None, &["vendor", "copy"]).code(1);
    assert!(run.err.contains("cannot fetch packages: no place has `tool` 1 (amd64) any more"), "{}", run.err);
    two.project.write("file", "");
    let run = two.run(None, &["vendor", "file/below"]).code(1);
    assert!(run.err.contains("cannot make the directory `file/below`"), "{}", run.err);
}
