//! The same bytes whoever builds, wherever and how; and a user who cannot.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use build_images::digest::Sha256;

use crate::built::{Place, hashes};
use crate::project::{Project, Run};
use crate::support::require;

/// An id that no user of the host has.
const UID: u32 = 42_425;
/// Subordinate ids that nobody uses.
const START: u32 = 1_410_000_000;

/// Whether this process may become an ordinary user with subordinate ids.
fn can_become_user() -> bool {
    let tools = ["newuidmap", "newgidmap", "unshare", "mount", "setpriv"];
    let places = ["/usr/bin", "/bin", "/usr/sbin"];
    let has = |tool: &str| places.iter().any(|place| Path::new(place).join(tool).exists());
    let files = ["/etc/subuid", "/etc/subgid"].iter().all(|file| Path::new(file).exists());
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    require("root", rustix::process::geteuid().is_root())
        && require(
            "newuidmap (package uidmap), unshare, mount or setpriv",
            tools.into_iter().all(has) && files,
        )
        && require("ids beyond those of a container", map.trim_end().ends_with("4294967295"))
}

/// `script` run by an ordinary user to whom `subordinate` gives ids. The user exists only in a mount namespace of the
/// command, in which other files lie over those of `/etc`. In the script, `$program` is the program.
fn as_user(place: &Path, subordinate: &str, script: &str) -> Command {
    let file = |name: &str, text: String| {
        let path = place.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let passwd = file("passwd", format!("{passwd}\nbuild-images-test:x:{UID}:{UID}::/:/bin/sh\n"));
    let subordinate = file("subordinate", subordinate.to_owned());
    // Others may not be able to reach the directory that the program is in.
    let program = place.join("program");
    fs::copy(env!("CARGO_BIN_EXE_build-images"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let outer = format!(
        r#"set -e
        mount --bind "$1" /etc/passwd
        mount --bind "$2" /etc/subuid
        mount --bind "$2" /etc/subgid
        export program="$3"
        cd /
        exec setpriv --reuid {UID} --regid {UID} --clear-groups -- sh -c "$4""#
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &outer, "sh"]);
    command.args([&passwd, &subordinate, &program]).arg(script);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    command
}

/// Makes everything in `directory` the user's.
fn give(directory: &Path) {
    std::os::unix::fs::chown(directory, Some(UID), Some(UID)).unwrap();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            give(&path);
        } else {
            std::os::unix::fs::chown(path, Some(UID), Some(UID)).unwrap();
        }
    }
}

/// Builds with another user, directory, time zone, locale, umask, number of threads, file system and store.
pub fn as_another_user(place: &Place, good: &[(String, Sha256)]) {
    if !can_become_user() {
        return;
    }
    let home = place.path("another home");
    fs::create_dir(&home).unwrap();
    let project = place.project("another home/ein Projekt");
    let store = place.store("another home/store");
    give(&home);
    let script = "cd \"$PROJECT\"; umask 077; exec \"$program\" --jobs 1 --scratch \"$HOME/scratch\" --json";
    let mut command = as_user(&place.path(""), &format!("build-images-test:{START}:65536\n"), script);
    command.env("HOME", &home).env("BUILD_IMAGES_STORE", &store).env("PROJECT", &project);
    command.env("TZ", "Pacific/Auckland").env("LC_ALL", "tr_TR.UTF-8").env("LANG", "tr_TR.UTF-8");
    let run = Run::of(command.output().unwrap()).code(0);
    assert_eq!(run.json()[0]["layers_built"], 2, "{}", run.out);
    assert_eq!(hashes(&project.join("result/qbittorrent")), good);
    let left: Vec<_> =
        fs::read_dir(home.join("scratch")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["scratch.lock"]);
    // What is to be given to others can be read by them, whatever the umask.
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&project.join("result/qbittorrent")), 0o755);
    assert_eq!(mode(&project.join("result/qbittorrent/159.conf")), 0o644);
    fs::remove_dir_all(home).unwrap();
}

#[test]
fn a_user_without_subordinate_ids_is_told_which_line_to_add_where() {
    if !can_become_user() {
        return;
    }
    let (project, served) = Project::locked();
    for path in ["..", "."] {
        fs::set_permissions(project.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    give(&project.path(""));
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let script = "exec \"$program\" bare --root \"$PROJECT\" --store \"$STORE\"";
    let mut command = as_user(home.path(), "somebody:100000:65536\n", script);
    let store = home.path().join("store");
    fs::create_dir(&store).unwrap();
    give(&store);
    command.env("PROJECT", project.path("")).env("STORE", store).env("HOME", "/nonexistent");
    command.env("BUILD_IMAGES_MIRROR", format!("test={}test/", served.server.uri()));
    let asked = served.server.requests().len();
    let run = Run::of(command.output().unwrap()).code(1);
    insta::assert_snapshot!(run.err, @"error: bare: cannot build in a sandbox: `/etc/subuid` gives `build-images-test` no range of ids, but building needs one range of 65536; add the line `build-images-test:165536:65536` to it, and `build-images-test:165536:65536` to `/etc/subgid` (as root)");
    assert_eq!(served.server.requests().len(), asked);
}
