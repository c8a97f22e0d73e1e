//! `storage.sh` in a scratch root, as root: what it makes is written to through the container's ids; what it must not
//! touch stays.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::require;
use crate::world::{facts, has_program, set_mode, set_owner};
use crate::{outcome, project, run, written};

struct Node {
    site: tempfile::TempDir,
    root: tempfile::TempDir,
}

impl Node {
    /// An empty node; nothing when this machine cannot have one.
    fn new() -> Option<Self> {
        if !require("root", rustix::process::geteuid().is_root()) {
            return None;
        }
        let root = tempfile::tempdir().unwrap();
        // The container's ids have to reach what is in it.
        set_mode(root.path(), 0o755);
        Some(Self { site: written(&project()), root })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    fn storage(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let root = self.root.path().to_str().unwrap();
        let all: Vec<_> = ["--root", root].into_iter().chain(arguments.iter().copied()).collect();
        let (code, text) = run(&self.site, "storage.sh", &all);
        (code, text.replace(root, ""))
    }

    /// Makes a directory of the node with a file in it.
    fn make(&self, path: &str, owner: (u32, u32), file: &str) {
        fs::create_dir_all(self.path(path)).unwrap();
        set_owner(&self.path(path), owner);
        fs::write(self.path(path).join(file), "kept").unwrap();
    }

    /// Runs a shell script with an id of the container, as its kernel would see it.
    fn inside(&self, (uid, gid, groups): (u32, u32, &str), script: &str) -> (Option<i32>, String) {
        let output = Command::new("lxc-usernsexec")
            .args(["-m", "u:0:100000:65536", "-m", "g:0:100000:65536", "--"])
            .args(["setpriv", "--reuid", &uid.to_string(), "--regid", &gid.to_string(), "--groups", groups])
            .args(["sh", "-euc", script])
            .current_dir(self.root.path())
            .output()
            .unwrap();
        outcome(&output)
    }
}

#[test]
fn run_twice_it_changes_nothing_the_second_time() {
    let Some(node) = Node::new() else { return };
    let (code, text) = node.storage(&["--dry-run"]);
    assert_eq!((code, fs::read_dir(node.root.path()).unwrap().count()), (Some(1), 0), "{text}");
    assert!(text.contains("install -d -o 100959 -g 100950 -m 2775 /srv/media/downloads\n"), "{text}");
    let (code, made) = node.storage(&[]);
    assert_eq!((code, &made), (Some(0), &text), "what is done is what a dry run says");
    for (path, expected) in [
        ("/srv", (0, 0, 0o755)),
        ("/srv/appdata", (0, 0, 0o755)),
        ("/srv/appdata/jellyfin", (100_956, 100_956, 0o750)),
        ("/srv/appdata/qbittorrent", (100_959, 100_959, 0o750)),
        ("/srv/media", (0, 0, 0o755)),
        ("/srv/media/downloads", (100_959, 100_950, 0o2775)),
        ("/srv/media/downloads/complete", (100_959, 100_950, 0o2775)),
        ("/srv/media/movies", (100_000, 100_950, 0o2775)),
    ] {
        assert_eq!(facts(&node.path(path)), expected, "{path}");
    }
    for arguments in [&[][..], &["--dry-run"]] {
        let said = "all directories are as they should be\n".to_owned();
        assert_eq!(node.storage(arguments), (Some(0), said));
    }
    // What lost its mode or, being empty, its owner gets it back.
    set_mode(&node.path("/srv/media/downloads"), 0o755);
    set_owner(&node.path("/srv/media/movies"), (0, 0));
    let (code, text) = node.storage(&[]);
    assert_eq!(
        (code, text.as_str()),
        (Some(0), "chmod 2775 /srv/media/downloads\nchown 100000:100950 /srv/media/movies\n")
    );
    assert_eq!(facts(&node.path("/srv/media/movies")), (100_000, 100_950, 0o2775));
}

#[test]
fn the_containers_ids_can_write_what_they_should_and_read_what_others_wrote() {
    let Some(node) = Node::new() else { return };
    if !require("lxc-usernsexec (package lxc)", has_program("lxc-usernsexec")) {
        return;
    }
    assert_eq!(node.storage(&[]).0, Some(0));
    let (qbittorrent, jellyfin) = ((959, 950, "950"), (956, 956, "950"));
    let (code, text) = node.inside(
        qbittorrent,
        "umask 0002; echo x > srv/appdata/qbittorrent/state; mkdir srv/media/downloads/complete/tv
         echo film > srv/media/downloads/complete/tv/film",
    );
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(facts(&node.path("/srv/media/downloads/complete/tv")), (100_959, 100_950, 0o2775));
    assert_eq!(facts(&node.path("/srv/media/downloads/complete/tv/film")), (100_959, 100_950, 0o664));
    let (code, text) = node
        .inside(jellyfin, "cat srv/media/downloads/complete/tv/film; echo x > srv/appdata/jellyfin/state");
    assert_eq!((code, text.as_str()), (Some(0), "film\n"));
    for (who, what) in [
        (jellyfin, "ls srv/appdata/qbittorrent"),
        (qbittorrent, "echo x > srv/appdata/jellyfin/foreign"),
        (qbittorrent, "mkdir srv/media/tv2"),
        ((33, 33, "33"), "echo x > srv/media/downloads/foreign"),
    ] {
        assert_eq!(node.inside(who, what).0.map(|code| code != 0), Some(true), "{what}");
    }
    // The same directories as root made them, as the first deployment had them: nothing can be written.
    set_owner(&node.path("/srv/appdata/qbittorrent"), (0, 0));
    assert_ne!(node.inside(qbittorrent, "echo x > srv/appdata/qbittorrent/more").0, Some(0));
}

#[test]
fn what_belongs_to_somebody_else_is_left_alone_until_it_is_taken_over() {
    let Some(node) = Node::new() else { return };
    // A container made by other means: another range of ids, and media that people put there.
    node.make("/srv/appdata/qbittorrent/config", (110, 118), "settings");
    set_owner(&node.path("/srv/appdata/qbittorrent"), (110, 118));
    symlink("/etc/passwd", node.path("/srv/appdata/qbittorrent/link")).unwrap();
    node.make("/srv/media/movies", (1000, 1000), "film.mkv");
    fs::create_dir(node.path("/srv/media/movies/series")).unwrap();
    let before = |path: &str| facts(&node.path(path));
    let state = before("/srv/appdata/qbittorrent");

    let (code, text) = node.storage(&[]);
    assert_eq!(code, Some(1));
    insta::assert_snapshot!("foreign", text);
    assert_eq!(before("/srv/appdata/qbittorrent"), state);
    assert_eq!(before("/srv/media/movies").0, 1000);
    assert_eq!(before("/srv/appdata/jellyfin"), (100_956, 100_956, 0o750), "the rest is done all the same");

    let takes = ["--take-over", "/srv/appdata/qbittorrent/", "--take-over", "/srv/media/movies"];
    let (code, text) = node.storage(&takes);
    assert_eq!(code, Some(0), "{text}");
    for path in ["", "/config", "/config/settings", "/link"] {
        let (uid, gid, _) = before(&format!("/srv/appdata/qbittorrent{path}"));
        assert_eq!((uid, gid), (100_959, 100_959), "{path}");
    }
    assert_eq!(facts(Path::new("/etc/passwd")).0, 0, "a link's target is not taken over");
    assert_eq!(before("/srv/media/movies/series"), (100_000, 100_950, 0o2775));
    assert_eq!(before("/srv/media/movies/film.mkv"), (100_000, 100_950, 0o664));
    assert_eq!(fs::read_to_string(node.path("/srv/media/movies/film.mkv")).unwrap(), "kept");
    assert_eq!(node.storage(&takes), (Some(0), "all directories are as they should be\n".to_owned()));
}

#[test]
fn wrong_owners_inside_links_files_and_typing_errors_are_named() {
    let Some(node) = Node::new() else { return };
    assert_eq!(node.storage(&[]).0, Some(0));
    // Copied by root: the directory is right, what is in it is not.
    node.make("/srv/appdata/jellyfin", (100_956, 100_956), "library.db");
    fs::remove_dir(node.path("/srv/media/tv")).unwrap();
    symlink("/mnt/big", node.path("/srv/media/tv")).unwrap();
    fs::remove_dir(node.path("/srv/media/music")).unwrap();
    fs::write(node.path("/srv/media/music"), "").unwrap();
    let (code, text) = node.storage(&["--take-over", "/srv/media/film"]);
    assert_eq!(code, Some(1));
    insta::assert_snapshot!("wrong_things", text);
    let (code, text) = node.storage(&["--take-ower", "/srv"]);
    assert_eq!(code, Some(2));
    assert!(text.starts_with("storage.sh: unknown option `--take-ower`\n"), "{text}");
}
