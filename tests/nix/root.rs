//! The Debian 13 root that all machines share, kept in the system's temporary directory from run to run; and what stands
//! in for nixpkgs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use build_images::digest::Sha256;

use crate::machine::{Machine, control_groups};
use crate::support::require;

/// What a machine has beside Debian's essential packages.
const PACKAGES: [&str; 5] = ["nix-bin", "openssh-server", "iproute2", "patchelf", "busybox-static"];

/// Libraries that the program and patchelf load, in the root.
const LIBRARIES: [&str; 5] = [
    "lib64/ld-linux-x86-64.so.2",
    "usr/lib/x86_64-linux-gnu/libc.so.6",
    "usr/lib/x86_64-linux-gnu/libgcc_s.so.1",
    "usr/lib/x86_64-linux-gnu/libm.so.6",
    "usr/lib/x86_64-linux-gnu/libstdc++.so.6",
];

/// A flake in nixpkgs' place: what it "compiles" is the program under test, with Debian's libraries beside it.
const STAND_IN: &str = include_str!("stand_in.nix");

/// nix.conf of a machine that builds images. Nothing outside the test's network is asked.
pub const BUILDER: &str = "\
experimental-features = nix-command flakes auto-allocate-uids cgroups
auto-allocate-uids = true
filter-syscalls = false
build-users-group =
substituters =
flake-registry =
max-jobs = 2
";

/// The root; nothing where it cannot be made or machines cannot be started.
pub fn root() -> Option<&'static Path> {
    static ROOT: OnceLock<Option<PathBuf>> = OnceLock::new();
    ROOT.get_or_init(|| {
        let ready = require("root", rustix::process::geteuid().is_root())
            && require("a cgroup2 mount", control_groups().is_some())
            && require("mmdebstrap", Command::new("mmdebstrap").arg("--version").output().is_ok());
        let made = if ready { make() } else { return None };
        require("a Debian mirror in the host's apt configuration", made.is_some()).then_some(made?)
    })
    .as_deref()
}

fn make() -> Option<PathBuf> {
    let home = std::env::temp_dir().join("build-images-nix-trixie");
    fs::create_dir_all(&home).ok()?;
    let lock = fs::File::create(home.join("lock")).ok()?;
    lock.lock().ok()?;
    let key = Sha256::of(PACKAGES.join(" ")).to_string();
    let root = home.join(&key[..16]);
    if !root.exists() {
        let fresh = tempfile::tempdir_in(&home).ok()?;
        let made = fresh.path().join("root");
        let output = Command::new("mmdebstrap")
            .args(["--quiet", "--variant=apt", &format!("--include={}", PACKAGES.join(",")), "trixie"])
            .arg(&made)
            .arg(mirror()?)
            .output()
            .ok()?;
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            return None;
        }
        fs::rename(&made, &root).ok()?;
    }
    Some(root)
}

/// Where the host's apt gets Debian from.
fn mirror() -> Option<String> {
    let output = Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().find(|uri| uri.trim_end_matches('/').ends_with("/debian")).map(str::to_owned)
}

/// Puts this project, without what is not part of its flake, into `/src` of `machine`, and the stand-in beside it;
/// `configuration` is the machine's nix.conf.
pub fn install_flake(root: &Path, machine: &Machine, configuration: &str) {
    machine.write("/etc/nix/nix.conf", configuration);
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    for part in ["flake.nix", "nix", "images", "recipes", "src", "Cargo.toml", "Cargo.lock", "build.rs"] {
        copy(&project.join(part), &machine.path("/src").join(part));
    }
    machine.write("/stand-in/flake.nix", STAND_IN);
    for program in ["busybox", "patchelf"] {
        copy(&root.join("usr/bin").join(program), &machine.path("/stand-in/bin").join(program));
    }
    for library in LIBRARIES {
        let name = Path::new(library).file_name().unwrap();
        copy(&root.join(library), &machine.path("/stand-in/lib").join(name));
    }
    let program = machine.path("/stand-in/program/build-images");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    // Debugging information is most of it, and is sent to each builder.
    let stripped = Command::new("strip")
        .args(["--strip-debug", "-o"])
        .arg(&program)
        .arg(env!("CARGO_BIN_EXE_build-images"))
        .status();
    if !stripped.is_ok_and(|status| status.success()) {
        copy(Path::new(env!("CARGO_BIN_EXE_build-images")), &program);
    }
    // As a committed flake.lock would: from here on the stand-in is what the flake's nixpkgs means.
    let lock = ["flake", "lock", "path:/src", "--override-input", "nixpkgs", "path:/stand-in"];
    machine.nix(&lock).good();
}

/// Copies a file or a directory, with its modes.
pub fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
}
