//! Nothing of the machine that built it, and nothing that should differ from container to container.

use std::collections::BTreeSet;

use crate::world::{HOST_NAME, Tar, USER_NAME, shipped};

#[test]
fn nothing_that_says_which_machine_it_is() {
    let Some(shipped) = shipped() else { return };
    let tar = Tar::of(&shipped.archive);
    let members = tar.list();
    assert_eq!(tar.text("./etc/machine-id"), "uninitialized\n");
    let unwanted = [
        "./etc/ssh/ssh_host_",
        "./var/lib/dbus/machine-id",
        "./var/lib/systemd/random-seed",
        "./var/lib/urandom/",
        "./var/lib/systemd/credential.secret",
        "./var/lib/systemd/timesync/clock",
        "./root/.bash_history",
        "./etc/resolv.conf.dpkg",
    ];
    for member in &members {
        let found = unwanted.iter().find(|begin| member.name.starts_with(**begin));
        // A link to the one identity is none itself.
        assert!(found.is_none() || member.mode.starts_with('l'), "{member:?}");
    }
}

#[test]
fn logs_caches_and_backups_are_empty() {
    let Some(shipped) = shipped() else { return };
    let tar = Tar::of(&shipped.archive);
    let archive = std::fs::File::open(tar.file.path()).unwrap();
    let mut filled = BTreeSet::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let below = [
            "./var/log/",
            "./var/cache/apt/",
            "./var/cache/ldconfig/",
            "./var/lib/apt/lists/",
            "./var/backups/",
        ];
        let empty = ["./tmp/", "./var/tmp/", "./run/"];
        if below.iter().chain(&empty).any(|place| name.starts_with(place)) && entry.size() > 0 {
            filled.insert(name.clone());
        }
        let names = ["passwd", "group", "shadow", "gshadow", "subuid", "subgid"];
        let backup = names.iter().any(|file| name == format!("./etc/{file}-"));
        assert!(!backup && !name.ends_with("-old") && !name.ends_with(".dpkg-new"), "{name}");
    }
    // Shipped by Debian's package.
    filled.remove("./var/log/README");
    assert_eq!(filled, BTreeSet::new());
}

#[test]
fn name_user_and_paths_of_the_build_host_are_nowhere() {
    let Some(shipped) = shipped() else { return };
    let directory = shipped.directory.to_str().unwrap();
    let temporary = std::env::temp_dir().join("build-images").display().to_string();
    let personal = [HOST_NAME, USER_NAME, directory, env!("CARGO_MANIFEST_DIR"), &temporary];
    let tar = Tar::of(&shipped.archive);
    assert_eq!(tar.find(&personal), BTreeSet::new());
    // The search does find what is there.
    assert_eq!(tar.find(&["uninitialized\n"]), BTreeSet::from(["uninitialized\n"]));
    let result = shipped.archive.parent().unwrap();
    for entry in std::fs::read_dir(result).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json" || extension == "conf") {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(!personal.iter().any(|personal| text.contains(personal)), "{}", path.display());
        }
    }
}
