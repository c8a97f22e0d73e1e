//! The same packages as root and as an ordinary user with subordinate ids give the same layer.
//!
//! The user exists only in a mount namespace of this test, in which other files lie over those of `/etc`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use build_images::build::stage::Limits;
use build_images::digest::Sha256;
use build_images::store::Store;
use build_images::tree::TreePath;

use crate::machine::{self, Watch, import, job, run_with};
use crate::packages;
use crate::support::require;

/// An id that no user of the host has.
const UID: u32 = 42_425;
/// Subordinate ids that nobody uses.
const START: u32 = 1_400_100_000;
/// Where the inner run finds the program, and writes what it made.
const PROGRAM: &str = "BUILD_IMAGES_TEST_PROGRAM";
const RESULT: &str = "BUILD_IMAGES_TEST_RESULT";
/// Differ from run to run; the finishing step removes them.
const VOLATILE: [&str; 3] = ["var/cache/ldconfig/aux-cache", "var/log/alternatives.log", "var/log/dpkg.log"];

/// The hash of the base layer's tree without what differs from run to run, made with `program` as the worker.
fn base_hash(program: &Path) -> String {
    let fetched = packages::base().expect("fetched before");
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let packages = fetched.debs.iter().map(|path| import(&store, path)).collect();
    let layer = run_with(program, &store, &job(packages, &[]), &Limits::default(), &Watch::new());
    let mut tree = layer.unwrap_or_else(|error| panic!("{error}")).tree;
    let volatile: BTreeSet<_> = VOLATILE.iter().map(|path| TreePath::new(path).unwrap()).collect();
    tree.retain(|path, _| !volatile.contains(path));
    Sha256::of(serde_json::to_vec(&tree).unwrap()).to_string()
}

#[test]
#[ignore = "run by the next test, as another user"]
fn inner() {
    let (Some(program), Some(result)) = (std::env::var_os(PROGRAM), std::env::var_os(RESULT)) else { return };
    assert!(!rustix::process::geteuid().is_root());
    fs::write(result, base_hash(Path::new(&program))).unwrap();
}

#[test]
fn an_ordinary_user_gets_the_same_layer() {
    let fetched = if machine::ready() { packages::base() } else { None };
    if !require("a Debian mirror in the host's apt configuration", fetched.is_some()) {
        return;
    }
    let has = |tool: &str| ["/usr/bin", "/bin"].iter().any(|place| Path::new(place).join(tool).exists());
    let tools = ["newuidmap", "newgidmap", "unshare", "mount", "setpriv"].into_iter().all(has)
        && ["/etc/subuid", "/etc/subgid"].iter().all(|file| Path::new(file).exists());
    if !require("newuidmap (Debian package `uidmap`), unshare, mount or setpriv", tools) {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = |name: &str| place.path().join(name);
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    fs::write(path("passwd"), format!("{passwd}\nbuild-images-test:x:{UID}:{UID}::/:/bin/sh\n")).unwrap();
    fs::write(path("subordinate"), format!("build-images-test:{START}:65536\n")).unwrap();
    // Others may not be able to reach the directory that the programs are in.
    fs::copy(std::env::current_exe().unwrap(), path("test")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_build-images"), path("program")).unwrap();
    fs::create_dir(path("home")).unwrap();
    std::os::unix::fs::chown(path("home"), Some(UID), Some(UID)).unwrap();
    let script = format!(
        r#"set -e
        mount --bind "$1/passwd" /etc/passwd
        mount --bind "$1/subordinate" /etc/subuid
        mount --bind "$1/subordinate" /etc/subgid
        cd /
        umask 077
        export TZ=Pacific/Auckland LC_ALL=C BUILD_IMAGES_TEST_CACHE="$2" TMPDIR="$1/home"
        export {PROGRAM}="$1/program" {RESULT}="$1/home/result"
        exec setpriv --reuid {UID} --regid {UID} --clear-groups -- "$1/test" --exact user::inner --ignored"#
    );
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"])
        .args([place.path(), &packages::cache()])
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let theirs = fs::read_to_string(path("home/result")).unwrap_or_else(|_| panic!("no result: {said}"));
    assert_eq!(theirs, base_hash(Path::new(env!("CARGO_BIN_EXE_build-images"))));
}
