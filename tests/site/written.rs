//! `result/site/`: written by every build and by `site`, only when something changed.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output};

use crate::{files, outcome, project};

fn build_images(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_build-images"))
        .args(["--root", env!("CARGO_MANIFEST_DIR"), "--store"])
        .arg(directory.join("store"))
        .arg("--result")
        .arg(directory.join("result"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn a_second_run_writes_nothing_and_a_change_is_mended() {
    let directory = tempfile::tempdir().unwrap();
    let site = directory.path().join("result/site");
    let (code, text) = outcome(&build_images(directory.path(), &["site"]));
    assert_eq!((code, text.lines().count()), (Some(0), files(&project()).len()), "{text}");
    for file in files(&project()) {
        let path = site.join(&file.path);
        assert_eq!(fs::read_to_string(&path).unwrap(), file.contents);
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if file.executable { 0o755 } else { 0o644 }, "{}", file.path);
    }
    let stamp = |path: &str| {
        let status = fs::metadata(site.join(path)).unwrap();
        (status.ino(), status.mtime(), status.mtime_nsec())
    };
    let before = stamp("storage.sh");
    let (code, text) = outcome(&build_images(directory.path(), &["site"]));
    assert_eq!(code, Some(0));
    assert!(text.starts_with(&format!("nothing changed: {} files in ", files(&project()).len())), "{text}");
    assert_eq!(stamp("storage.sh"), before);

    // What somebody edited, removed, added, or made a link of is as it should be again.
    fs::write(site.join("verify.sh"), "exit 0\n").unwrap();
    fs::remove_file(site.join("backup.list")).unwrap();
    fs::write(site.join("dns/old.txt"), "old").unwrap();
    fs::remove_file(site.join("storage.sh")).unwrap();
    std::os::unix::fs::symlink("/bin/true", site.join("storage.sh")).unwrap();
    let output = build_images(directory.path(), &["--json", "site"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["changed"], serde_json::json!(["backup.list", "storage.sh", "verify.sh", "dns/old.txt"]));
    assert!(!site.join("dns/old.txt").exists());
    assert!(fs::symlink_metadata(site.join("storage.sh")).unwrap().is_file());
    assert_eq!(
        fs::read_dir(directory.path().join("result")).unwrap().count(),
        1,
        "nothing is left beside it"
    );
}

#[test]
fn only_images_that_are_named_are_in_it() {
    let directory = tempfile::tempdir().unwrap();
    build_images(directory.path(), &["site", "qbittorrent"]);
    let proxy = fs::read_to_string(directory.path().join("result/site/traefik/build-images.yml")).unwrap();
    assert!(proxy.contains("qbittorrent") && !proxy.contains("jellyfin"), "{proxy}");
    assert!(!directory.path().join("result/site/firewall/156.fw").exists());
    let (code, text) = outcome(&build_images(directory.path(), &["site", "plex"]));
    assert_eq!((code, text.contains("no image is named `plex`")), (Some(2), true), "{text}");
}

/// No archive is within reach, so nothing is locked and nothing is built.
#[test]
fn a_build_that_fails_writes_it_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("project");
    for part in ["images", "recipes"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(part);
        for entry in walkdir::WalkDir::new(&from) {
            let entry = entry.unwrap();
            let to = root.join(part).join(entry.path().strip_prefix(&from).unwrap());
            match entry.file_type().is_dir() {
                true => fs::create_dir_all(to).unwrap(),
                false => drop(fs::copy(entry.path(), to).unwrap()),
            }
        }
    }
    let lock = fs::read_to_string(root.join("images/images.lock")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_build-images"))
        .arg("--root")
        .arg(&root)
        .arg("--store")
        .arg(directory.path().join("store"))
        .arg("jellyfin")
        .env("http_proxy", "http://127.0.0.1:1")
        .env_remove("BUILD_IMAGES_MIRROR")
        .output()
        .unwrap();
    let (code, text) = outcome(&output);
    assert_eq!(code, Some(1), "{text}");
    for file in files(&project()) {
        let path = root.join("result/site").join(&file.path);
        assert_eq!(fs::read_to_string(path).unwrap(), file.contents);
    }
    assert!(!root.join("result/jellyfin").exists());
    assert_eq!(fs::read_to_string(root.join("images/images.lock")).unwrap(), lock);
}
