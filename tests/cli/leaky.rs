//! Secrets that packages bring: the archive is written before all of their files have been searched, and yet none is left.

use std::fs;

use crate::project::Project;
use crate::quick::{Corner, Quick};
use crate::support::{require, small};

/// The script that makes a key has it inside.
const SCRIPT: &str = "var/lib/dpkg/info/app.postinst";

/// Lines that look like a key, put together here so that nothing in the repository does.
fn key(seed: &str) -> String {
    let label = ["PRIVATE", "KEY"].join(" ");
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        format!("MC4CAQAwBQYDK2Vw{seed}").repeat(4)
    )
}

/// The quick project, whose `app` has these files besides, and a script that makes `/etc/made.key`, if wanted.
fn project(files: &[(&str, String)], made: bool) -> Option<Quick> {
    if !require("a range of subordinate ids", build_images::sandbox::IdRange::discover().is_ok()) {
        return None;
    }
    let packages = small::packages(0);
    if !require("this host's own dpkg and shell", packages.is_some()) {
        return None;
    }
    let mut packages = packages?;
    let more = if made { format!("printf '%s' '{}' >/etc/made.key\n", key("made")) } else { String::new() };
    let mut app = small::scripted_with("app", &more).field("Depends", "engine");
    for (path, text) in files {
        app = app.file(path, text.clone());
    }
    // Few contents are searched at once, before the archive.
    for number in 0..200 {
        app = app.file(&format!("/usr/share/app/{number}"), format!("{number}\n"));
    }
    packages.pop();
    packages.push(app);
    let project = Project::new();
    let served = project.serve(packages, 48);
    project.run(&served, &["lock"]).code(0);
    Some((project, served))
}

#[test]
fn secrets_of_packages_are_found_all_at_once_and_every_time() {
    let shipped = ("/usr/lib/app/shipped", key("shipped"));
    let by_path = ("/etc/app/login.env", format!("{}=correct-horse-battery\n", ["PASS", "WORD"].concat()));
    let cases = [
        (vec![shipped.clone()], false, vec!["usr/lib/app/shipped"]),
        (vec![], true, vec!["etc/made.key", SCRIPT]),
        (vec![by_path.clone()], false, vec!["etc/app/login.env"]),
        (
            vec![shipped, by_path],
            true,
            vec!["etc/app/login.env", "etc/made.key", "usr/lib/app/shipped", SCRIPT],
        ),
    ];
    for (files, made, expected) in cases {
        let Some(quick) = project(&files, made) else { return };
        let corner = Corner::new();
        // With nothing in the store; with frames, layers and lists of clean contents of the run before; without the lists; with
        // the layer below and its list only.
        for gone in [&[][..], &[], &["scans"], &["layers", "frames", "scans"]] {
            for kind in gone {
                // Lists there are only of what was searched ahead.
                let _ = fs::remove_dir_all(corner.store().join(kind));
            }
            if gone.len() > 1 {
                corner.run(&quick, &["bare"]).code(0);
            }
            let run = corner.run(&quick, &["app"]).code(1);
            let said = run
                .err
                .split_once("error: app: it would hold secrets")
                .unwrap_or_else(|| panic!("{}", run.err))
                .1;
            let found: Vec<_> =
                said.lines().filter_map(|line| line.trim().split_once(':')).map(|(path, _)| path).collect();
            let found: Vec<_> = found.iter().map(|path| path.trim_start_matches('/')).collect();
            let found: Vec<_> = found.into_iter().filter(|path| path.contains('/')).collect();
            assert_eq!(found, expected, "{}", run.err);
            assert!(!corner.path("result/app").exists());
            assert_eq!((corner.temporary(), corner.damaged()), (vec![], vec![]));
        }
        // The other image has nothing to hide.
        corner.run(&quick, &["bare"]).code(0);
    }
}
