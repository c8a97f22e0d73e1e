//! Builds on a full disk at twenty seeded sizes: it is said, nothing half-made stays, and with more room the next run gives
//! the same bytes.

use std::path::{Path, PathBuf};
use std::process::Command;

use build_images::digest::Sha256;

use crate::project::Run;
use crate::quick::{Corner, Hashes, Quick, Seeded, damaged, quick, temporary};
use crate::support::require;

/// How many sizes there are.
const SIZES: u64 = 20;
/// Which ones.
const SEED: u64 = 20_261_127;

/// A file system in memory of a certain size, unmounted when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(path: PathBuf, bytes: u64) -> Self {
        std::fs::create_dir(&path).unwrap();
        let small = Self(path);
        run(&["-t", "tmpfs", "-o", &format!("size={bytes},mode=755"), "tmpfs"], &small.0);
        small
    }

    fn enlarge(&self, bytes: u64) {
        run(&["-o", &format!("remount,size={bytes}")], &self.0);
    }
}

fn run(arguments: &[&str], path: &Path) {
    let output = Command::new("mount").args(arguments).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: whatever still has a file open must not keep it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Bytes that a whole build of `app` needs of each place.
fn needs(quick: &Quick) -> ([(&'static str, u64); 3], Hashes) {
    let corner = Corner::new();
    corner.run(quick, &["app"]).code(0);
    let size = |path: &str| {
        let output =
            Command::new("du").args(["-sB1", "--apparent-size"]).arg(corner.path(path)).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let packs = size("store/layers");
    // The tree in the scratch directory is about what the layers hold; more than a quarter of that surely does not fit.
    ([("store", size("store")), ("result", size("result")), ("scratch", packs / 2)], corner.hashes("app"))
}

#[test]
fn nothing_half_made_is_trusted_wherever_the_disk_gets_full() {
    if !require("root", rustix::process::geteuid().is_root()) {
        return;
    }
    let Some(quick) = quick() else { return };
    let (needs, good) = needs(&quick);
    let mut seeded = Seeded(SEED);
    for number in 0..SIZES {
        // The store gets half of them: most is written there.
        let (place, needed) = needs[[0, 1, 0, 2][number as usize % 4]];
        let size = (64 << 10) + seeded.below(needed * 9 / 10 - (64 << 10));
        let context =
            format!("seed {SEED}, number {number}: {place} of {size} bytes, {needed} would be enough");
        fill(&quick, place, size, &good, &context);
    }
}

fn fill(quick: &Quick, place: &str, size: u64, good: &[(String, Sha256)], context: &str) {
    let corner = Corner::new();
    let small = Small::mount(corner.path(place), size);
    let inside = small.0.join("in");
    let start = || {
        let mut command = match place {
            "result" => quick.0.command(&quick.1, &["app", "--result"]),
            _ => corner.command(quick, &["app"]),
        };
        match place {
            "store" => command.env("BUILD_IMAGES_STORE", &inside),
            "result" => command.arg(&inside).env("BUILD_IMAGES_STORE", corner.store()),
            _ => command.arg("--scratch").arg(&inside),
        };
        Run::of(command.output().unwrap())
    };
    let store = if place == "store" { inside.clone() } else { corner.store() };
    let result = if place == "result" { inside.clone() } else { corner.path("result") };
    let run = start();
    assert_eq!(run.code, 1, "{context}: {}", run.err);
    let said = run.err.contains("No space left on device") && run.err.contains("help: make room");
    assert!(said, "{context}: {}", run.err);
    assert_eq!(damaged(&store), [""; 0], "{context}");
    assert!(!result.join("app").exists(), "{context}");
    assert_eq!(temporary(&store, &result, &inside), [""; 0], "{context}");

    // More than scripts have to leave free of a scratch directory.
    small.enlarge(1 << 30);
    let run = start();
    assert_eq!(run.code, 0, "{context}: {}", run.err);
    assert!(!run.err.contains("warning"), "{context}: {}", run.err);
    assert_eq!(crate::built::hashes(&result.join("app")), good, "{context}");
    assert_eq!(damaged(&store), [""; 0], "{context}");
    assert_eq!(temporary(&store, &result, &inside), [""; 0], "{context}");
}
