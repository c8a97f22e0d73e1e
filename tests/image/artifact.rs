//! The real image from the inside: what dpkg thinks of it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::world::{Tar, shipped};

/// Runs a command in the root, with /proc, in a mount namespace of its own.
fn inside(root: &Path, command: &[&str]) -> String {
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount -t proc proc \"$0/proc\" && exec chroot \"$0\" \"$@\""])
        .arg(root)
        .args(command)
        .env_clear()
        .envs([("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("LC_ALL", "C.UTF-8")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn dpkg_finds_nothing_wrong_and_exactly_the_locked_packages() {
    let Some(shipped) = shipped() else { return };
    let root = tempfile::tempdir().unwrap();
    Tar::of(&shipped.archive).extract(root.path());
    assert_eq!(inside(root.path(), &["dpkg", "--audit"]), "");
    assert_eq!(inside(root.path(), &["dpkg", "--verify"]), "");
    let asked = "${Package} ${Version} ${Architecture} ${db:Status-Status}\\n";
    let found = inside(root.path(), &["dpkg-query", "-W", "-f", asked]);
    let found: BTreeSet<_> = found.lines().map(str::to_owned).collect();
    let ours = |recipes: &[String]| recipes == ["debian-13"] || recipes == ["debian-13", "qbittorrent"];
    let sets = shipped.lock.set.iter().filter(|set| ours(&set.recipes));
    let expected: BTreeSet<_> = sets
        .flat_map(|set| &set.packages)
        .map(|member| format!("{} {} {} installed", member.name, member.version, member.architecture))
        .collect();
    assert!(expected.len() > 150, "{}", expected.len());
    assert_eq!(found, expected);
    // `--verify` compares with hashes in files of the image itself: a changed file has to show.
    std::fs::write(root.path().join("usr/bin/true"), "changed").unwrap();
    let verify = Command::new("chroot").arg(root.path()).args(["dpkg", "--verify"]).output().unwrap();
    assert!(String::from_utf8_lossy(&verify.stdout).contains("/usr/bin/true"));
}
