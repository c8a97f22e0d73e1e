//! The same tests as others: an ordinary user, and root of a container with few ids.
//!
//! Both exist only in a mount namespace of this test, in which other files lie over those of `/etc`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::require;

/// An id that no user of the host has.
const UID: u32 = 42_424;
/// Subordinate ids that nobody uses.
const START: u32 = 1_400_000_000;

/// Runs the tests that `filters` choose as an ordinary user with subordinate ids; whether all passed or could not be
/// run.
pub fn run_as_user(filters: &[&str]) -> bool {
    let become_user = format!("setpriv --reuid {UID} --regid {UID} --clear-groups --");
    run("as a user: ", &format!("build-images-test:{START}:65536"), UID, &become_user, filters)
}

/// Runs the tests that `filters` choose as root of a user namespace that has 65,536 ids, such as an unprivileged
/// container or a build of Nix with `uid-range`; whether all passed or could not be run.
pub fn run_in_container(filters: &[&str]) -> bool {
    let become_root = format!(
        "unshare --user --map-users {START},0,65536 --map-groups {START},0,65536 --setuid 0 --setgid 0 --"
    );
    run("as root of a container: ", &format!("root:{START}:65536"), START, &become_root, filters)
}

fn run(label: &str, subordinate: &str, owner: u32, start: &str, filters: &[&str]) -> bool {
    let tools = ["newuidmap", "newgidmap", "unshare", "mount", "setpriv"];
    let places = ["/usr/bin", "/bin", "/usr/sbin"];
    let has = |tool: &str| places.iter().any(|place| Path::new(place).join(tool).exists());
    let files = ["/etc/subuid", "/etc/subgid"].iter().all(|file| Path::new(file).exists());
    if !require(
        "newuidmap (Debian package `uidmap`), unshare, mount or setpriv",
        tools.into_iter().all(has) && files,
    ) {
        return true;
    }
    let ids = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    if !require("ids beyond those of a container", ids.trim_end().ends_with("4294967295")) {
        return true;
    }
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = |name: &str, text: String| {
        let path = place.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let passwd = file("passwd", format!("{passwd}\nbuild-images-test:x:{UID}:{UID}::/:/bin/sh\n"));
    let subordinate = file("subordinate", format!("{subordinate}\n"));
    // Others may not be able to reach the directory that this binary is in.
    let exe = place.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    let home = place.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(owner), Some(owner)).unwrap();
    let script = format!(
        r#"set -e
        mount --bind "$1" /etc/passwd
        mount --bind "$2" /etc/subuid
        mount --bind "$2" /etc/subgid
        export TMPDIR="$3" INSTA_UPDATE=no INSTA_WORKSPACE_ROOT="$3"
        exe="$4" label="$5"
        shift 5
        cd /
        exec {start} "$exe" __user "$label" "$@""#
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    command.args([&passwd, &subordinate, &home, &exe]).arg(label).args(filters);
    command.status().unwrap().success()
}
