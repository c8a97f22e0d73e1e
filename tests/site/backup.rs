//! `backup.sh` in a scratch root: state is saved while the container is stopped, and put back as it was.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use build_images::model::Project;
use build_images::model::image::Mount;
use build_images::model::recipe::State;
use build_images::tree::TreePath;

use crate::support::require;
use crate::world::{facts, has_program, set_mode, set_owner};
use crate::{outcome, project, script_path, written};

/// Notes what it is asked, and says of 159 that it runs.
const PCT: &str = "#!/bin/sh
echo \"$*\" >> \"$0.log\"
case $* in
'status 159') echo 'status: running' ;;
status*) exit 2 ;;
esac
";

struct Node {
    site: tempfile::TempDir,
    place: tempfile::TempDir,
}

impl Node {
    fn new() -> Option<Self> {
        Self::of(&project())
    }

    fn of(project: &Project) -> Option<Self> {
        let ready = require("root", rustix::process::geteuid().is_root())
            && require("zstd (package zstd)", has_program("zstd"));
        if !ready {
            return None;
        }
        let node = Self { site: written(project), place: tempfile::tempdir().unwrap() };
        for directory in
            ["bin", "backups", "root/srv/appdata/jellyfin", "root/srv/appdata/qbittorrent/config"]
        {
            fs::create_dir_all(node.path(directory)).unwrap();
        }
        fs::write(node.path("bin/pct"), PCT).unwrap();
        set_mode(&node.path("bin/pct"), 0o755);
        let state = node.path("root/srv/appdata/qbittorrent");
        fs::write(state.join("config/settings"), "mine").unwrap();
        fs::write(state.join("a name with spaces\nand a line break"), "odd").unwrap();
        symlink("config/settings", state.join("link")).unwrap();
        fs::hard_link(state.join("config/settings"), state.join("twin")).unwrap();
        for path in ["", "config", "config/settings", "link"] {
            set_owner(&state.join(path), (100_959, 100_959));
        }
        set_mode(&state, 0o750);
        set_mode(&state.join("config/settings"), 0o600);
        Some(node)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.place.path().join(path)
    }

    fn backup(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(script_path(&self.site, "backup.sh"));
        command.arg(arguments[0]);
        if arguments[0] != "list" {
            command.arg("--root").arg(self.path("root"));
        }
        let output = command.args(&arguments[1..]).env("PATH", path).output().unwrap();
        let (code, text) = outcome(&output);
        (code, text.replace(self.place.path().to_str().unwrap(), ""))
    }

    /// What `pct` was asked since the last time.
    fn asked(&self) -> String {
        let log = self.path("bin/pct.log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(log);
        text
    }

    /// The state as a list of everything that matters.
    fn listing(&self) -> String {
        let output = Command::new("find")
            .args([".", "-printf", "%P %y %m %U:%G %s %l\\n"])
            .current_dir(self.path("root/srv/appdata/qbittorrent"))
            .output()
            .unwrap();
        let mut lines: Vec<_> =
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines.join("\n")
    }

    fn saved(&self) -> String {
        let backups = self.path("backups");
        let (code, text) = self.backup(&["save", backups.to_str().unwrap(), "qbittorrent"]);
        assert_eq!(code, Some(0), "{text}");
        format!("{}{}", self.place.path().display(), text.trim())
    }
}

#[test]
fn what_was_saved_is_put_back_and_what_was_there_is_kept() {
    let Some(node) = Node::new() else { return };
    let (code, text) = node.backup(&["list"]);
    assert_eq!(
        (code, text.as_str()),
        (Some(0), "jellyfin\t156\t/srv/appdata/jellyfin\nqbittorrent\t159\t/srv/appdata/qbittorrent\n")
    );
    let before = node.listing();
    let archive = node.saved();
    assert_eq!(node.asked(), "status 159\nshutdown 159 --timeout 300\nstart 159\n");
    assert_eq!(facts(archive.as_ref()).2, 0o600, "state is nobody else's to read");

    let state = node.path("root/srv/appdata/qbittorrent");
    fs::write(state.join("config/settings"), "ruined").unwrap();
    fs::remove_file(state.join("link")).unwrap();
    fs::write(state.join("new"), "later").unwrap();
    let (code, text) = node.backup(&["restore", &archive]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(node.listing(), before);
    assert_eq!(fs::read_to_string(state.join("config/settings")).unwrap(), "mine");
    assert_eq!(node.asked(), "status 159\nshutdown 159 --timeout 300\nstart 159\n");
    let beside: Vec<_> =
        fs::read_dir(node.path("root/srv/appdata")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let kept = beside.iter().find(|path| path.to_string_lossy().contains("qbittorrent.before-")).unwrap();
    assert_eq!(fs::read_to_string(kept.join("new")).unwrap(), "later");
    assert_eq!(beside.len(), 3, "{beside:?}");

    // One that is not there is not stopped and not started.
    let backups = node.path("backups");
    let (code, text) = node.backup(&["save", backups.to_str().unwrap(), "jellyfin"]);
    assert_eq!((code, node.asked().as_str()), (Some(0), "status 156\n"), "{text}");
}

#[test]
fn what_is_damaged_or_foreign_is_refused_and_nothing_changes() {
    let Some(node) = Node::new() else { return };
    let archive = node.saved();
    node.asked();
    let before = node.listing();
    let refused = |arguments: &[&str], reason: &str| {
        let (code, text) = node.backup(arguments);
        assert!(
            code.is_some_and(|code| code != 0) && text.contains(reason),
            "{arguments:?}: {code:?} {text}"
        );
        assert_eq!(node.listing(), before);
        assert_eq!(node.asked(), "", "the container is not even stopped");
        assert_eq!(fs::read_dir(node.path("root/srv/appdata")).unwrap().count(), 2);
    };
    let sum = format!("{archive}.sha256");
    let good = fs::read(&archive).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    fs::write(&archive, bad).unwrap();
    refused(&["restore", &archive], "is damaged");
    fs::write(&archive, good).unwrap();
    let kept = fs::read(&sum).unwrap();
    fs::remove_file(&sum).unwrap();
    refused(&["restore", &archive], "which says whether the archive is whole");
    fs::write(&sum, kept).unwrap();

    // Another image's archive under this one's name.
    let foreign = node.path("backups/state-jellyfin-20260101T000000Z.tar.zst");
    fs::copy(&archive, &foreign).unwrap();
    let output = Command::new("sha256sum")
        .arg(foreign.file_name().unwrap())
        .current_dir(node.path("backups"))
        .output();
    fs::write(format!("{}.sha256", foreign.display()), output.unwrap().stdout).unwrap();
    refused(&["restore", foreign.to_str().unwrap()], "which is no state of jellyfin");
    refused(&["restore", "/etc/passwd"], "is not named as");
    refused(&["save", "/", "plex"], "no image `plex` has state to keep; there are: jellyfin qbittorrent");
    refused(&["svae"], "say list, save or restore");
    // Something that writes there fails half way: the container is started again, no archive is left.
    fs::remove_dir_all(node.path("root/srv/appdata/jellyfin")).unwrap();
    let (code, text) = node.backup(&["save", node.path("backups").to_str().unwrap()]);
    assert!(code == Some(1) && text.contains("/srv/appdata/jellyfin is not there"), "{text}");
}

/// Of several directories of one image each comes back to its own place, however deep it is.
#[test]
fn an_image_may_have_state_in_several_places() {
    let mut project = project();
    let path = TreePath::new("/var/lib/other").unwrap();
    let [owner, group] = ["root"; 2].map(str::to_owned);
    let state = State { path: path.clone(), owner, group, mode: 0o755, backup: true, migrates: None };
    project.recipes.get_mut("qbittorrent").unwrap().state.push(state);
    let source = "/srv/a/b c/deep".replace(' ', "_");
    let mount = Mount {
        source: source.clone(),
        target: path.clone(),
        read_only: false,
        state: Some(path),
        owner: None,
    };
    project.images.get_mut("qbittorrent").unwrap().mounts.push(mount);
    let Some(node) = Node::of(&project) else { return };
    let other = node.path("root").join(source.trim_start_matches('/'));
    fs::create_dir_all(other.join("inner")).unwrap();
    fs::write(other.join("inner/file"), "second").unwrap();
    let before = node.listing();
    let archive = node.saved();
    fs::remove_dir_all(other.join("inner")).unwrap();
    fs::remove_file(node.path("root/srv/appdata/qbittorrent/twin")).unwrap();
    let (code, text) = node.backup(&["restore", "--live", &archive]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(fs::read_to_string(other.join("inner/file")).unwrap(), "second");
    assert_eq!(node.listing(), before);
    assert_eq!(
        node.asked(),
        "status 159\nshutdown 159 --timeout 300\nstart 159\n",
        "the restore asks nothing"
    );
}
