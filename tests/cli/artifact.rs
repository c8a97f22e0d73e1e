//! `diff` and `verify` on artifacts made by hand from small trees.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use build_images::archive::{self, Head, Parameters, Source};
use build_images::artifact::{FORMAT, FileEntry, FrameEntry, Manifest, PackageEntry};
use build_images::digest::Sha256;
use build_images::progress::Silent;
use build_images::store::Store;
use build_images::tree::{Content, Node, Tree, TreePath};

use crate::project::{Run, program};

const ARCHIVE: &str = "vzdump-lxc-159-2026_11_01-00_00_00.tar.zst";

/// An artifact to be.
struct Artifact {
    tree: Tree,
    contents: BTreeMap<Sha256, Vec<u8>>,
    config: String,
    packages: Vec<(&'static str, &'static str)>,
}

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

impl Artifact {
    fn new() -> Self {
        let mut artifact = Self {
            tree: Tree::new(),
            contents: BTreeMap::new(),
            config: "arch: amd64\ncores: 2\n".to_owned(),
            packages: vec![("app", "1"), ("library", "1")],
        };
        for directory in ["etc", "usr", "usr/bin", "var", "var/lib", "var/lib/dpkg"] {
            artifact.tree.insert(path(directory), Node::directory(0o755, 1));
        }
        artifact.file("etc/a", "one", 0o644);
        artifact.file("usr/bin/app", "program", 0o755);
        artifact.file("var/lib/dpkg/status", "Package: app\nArchitecture: amd64\nVersion: 1\n", 0o644);
        artifact.tree.insert(path("usr/bin/link"), Node::symlink("app", 1));
        artifact
    }

    fn file(&mut self, name: &str, bytes: &str, mode: u32) {
        let content = Content::of(bytes.as_bytes());
        self.contents.insert(content.sha256, bytes.as_bytes().to_vec());
        self.tree.insert(path(name), Node::file(content, mode, 1));
    }

    fn write(&self, directory: &Path) -> PathBuf {
        fs::create_dir_all(directory).unwrap();
        let store = tempfile::tempdir().unwrap();
        let store = Store::open(store.path()).unwrap();
        let head = [Head { path: path("etc/vzdump/pct.conf"), bytes: self.config.clone().into_bytes() }];
        let layers = BTreeMap::new();
        let source =
            Source { tree: &self.tree, contents: &self.contents, head: &head, mtime: 1, layers: &layers };
        let file = File::create(directory.join(ARCHIVE)).unwrap();
        let summary =
            archive::write(&source, &store, &Parameters::default(), 1, ("test", &Silent), file).unwrap();
        let entry = |file: &str, bytes: &str| {
            fs::write(directory.join(file), bytes).unwrap();
            FileEntry { file: file.to_owned(), size: bytes.len() as u64, sha256: Sha256::of(bytes) }
        };
        let table = &summary.table;
        let package = |(name, version): &(&str, &str)| PackageEntry {
            name: (*name).to_owned(),
            version: (*version).to_owned(),
            architecture: "amd64".to_owned(),
            sha256: Sha256::of(name),
        };
        let manifest = Manifest {
            space: Vec::new(),
            format: FORMAT,
            tool: "build-images 0".to_owned(),
            image: "app".to_owned(),
            vmid: 159,
            plan: Sha256::of("plan"),
            lock: Sha256::of("lock"),
            locked_at: "2026-11-01T00:00:00Z".to_owned(),
            config: entry("159.conf", &self.config),
            sbom: entry("sbom.spdx.json", "{}\n"),
            archive: FileEntry { file: ARCHIVE.to_owned(), size: summary.size, sha256: summary.sha256 },
            tar: FileEntry { file: String::new(), size: table.tar_size, sha256: table.tar_sha256 },
            layers: Vec::new(),
            packages: self.packages.iter().map(package).collect(),
            tarballs: Vec::new(),
            frames: table.frames.iter().map(|frame| FrameEntry { key: None, frame: frame.clone() }).collect(),
        };
        fs::write(directory.join("manifest.json"), manifest.to_text()).unwrap();
        directory.join(ARCHIVE)
    }
}

fn run(directory: &Path, arguments: &[&str]) -> Run {
    Run::of(program().current_dir(directory).args(arguments).output().unwrap())
}

/// Two artifacts, `old` and `new`, in one directory.
fn two() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut artifact = Artifact::new();
    artifact.write(&directory.path().join("old"));
    artifact.file("etc/a", "two", 0o644);
    artifact.file("etc/new", "new", 0o600);
    artifact.tree.remove(&path("usr/bin/link"));
    artifact.tree.get_mut(&path("usr/bin/app")).unwrap().mode = 0o4755;
    artifact.tree.get_mut(&path("usr/bin")).unwrap().gid = 50;
    artifact.tree.get_mut(&path("usr")).unwrap().mtime = 2;
    artifact.file("var/lib/dpkg/status", "Package: app\nArchitecture: amd64\nVersion: 2\n", 0o644);
    artifact.config = "arch: amd64\ncores: 4\n".to_owned();
    artifact.packages = vec![("app", "2"), ("more", "1")];
    artifact.write(&directory.path().join("new"));
    directory
}

#[test]
fn two_artifacts_differ_in_packages_files_and_configuration() {
    let directory = two();
    let text = run(directory.path(), &["diff", "old", "new"]).code(0).out;
    insta::assert_snapshot!(text, @"
    +  more     1
    -  library  1
    ~  app      1 -> 2
    ~ /etc/a: content
    + /etc/new: 0600 0:0 file of 3 bytes
    ~ /usr/bin: owner (0755 0:0 directory -> 0755 0:50 directory)
    ~ /usr/bin/app: mode (0755 0:0 file of 7 bytes -> 4755 0:0 file of 7 bytes)
    - /usr/bin/link: 0777 0:0 link to app
    ~ /var/lib/dpkg/status: content
    - cores: 2
    + cores: 4
    ");
    // The archive stands for its directory.
    let archives = [format!("old/{ARCHIVE}"), format!("new/{ARCHIVE}")];
    let run_of = |old: &str, new: &str| run(directory.path(), &["diff", old, new]).code(0).out;
    assert_eq!(run_of(&archives[0], &archives[1]), text);
    let json = run(directory.path(), &["diff", "old", "new", "--json"]).code(0).json();
    let files = json["artifacts"]["files"].as_array().unwrap();
    assert_eq!(files[0]["what"], serde_json::json!(["content"]));
    assert_eq!(json["artifacts"]["configuration_added"], serde_json::json!(["cores: 4"]));
    assert_eq!(json["artifacts"]["changed"][0]["new"], "2");
    // Alone, what dpkg says is installed stands for the manifest.
    for side in ["old", "new"] {
        let from = directory.path().join(side).join(ARCHIVE);
        fs::copy(from, directory.path().join(format!("{side}.tar.zst"))).unwrap();
    }
    let alone = run_of("old.tar.zst", "new.tar.zst");
    assert!(alone.starts_with("~  app  1 -> 2\n~ /etc/a: content\n"), "{alone}");
}

#[test]
fn an_artifact_does_not_differ_from_itself() {
    let directory = two();
    let text = run(directory.path(), &["diff", "old", "old"]).code(0).out;
    assert_eq!(text, "no package changes\nno file changes\nno configuration changes\n");
    fs::write(directory.path().join("x.lock"), "version = 1\n").unwrap();
    let run_of = |old: &str, new: &str| run(directory.path(), &["diff", old, new]).code(2).err;
    insta::assert_snapshot!(run_of("old", "x.lock"), @"error: `x.lock` is a lock and `old` an artifact; give two of one kind");
    insta::assert_snapshot!(run_of("old", "."), @"error: there is no artifact in `.`: it has no manifest.json");
}

#[test]
fn a_good_artifact_is_good_wherever_it_lies() {
    let directory = two();
    let verified = run(directory.path(), &["verify", "old"]).code(0);
    assert_eq!(verified.out.matches("good  ").count(), 3, "{}", verified.out);
    let json = run(directory.path(), &["verify", &format!("old/{ARCHIVE}"), "--json"]).code(0).json();
    assert_eq!(json["image"], "app");
    assert_eq!(json["archive_problem"], serde_json::Value::Null);
    // In the directory itself.
    run(&directory.path().join("old"), &["verify", "."]).code(0);
    run(&directory.path().join("old"), &["verify", ARCHIVE]).code(0);
    let missing = run(directory.path(), &["verify", "nothing"]).code(2);
    assert_eq!(missing.err, "error: there is no `nothing`\n");
}

#[test]
fn every_kind_of_damage_is_found() {
    let directory = two();
    let archive = directory.path().join("old").join(ARCHIVE);
    let good = fs::read(&archive).unwrap();
    let bad = |bytes: &[u8]| {
        fs::write(&archive, bytes).unwrap();
        let run = run(directory.path(), &["verify", "old"]).code(1);
        assert!(run.out.contains(&format!("BAD   {ARCHIVE}: expected ")), "{}", run.out);
        run.out.lines().find_map(|line| line.strip_prefix("BAD   the archive: ").map(str::to_owned)).unwrap()
    };
    let cut = bad(&good[..good.len() - 20]);
    assert!(cut.contains("no frame table at its end"), "{cut}");
    let mut flipped = good.clone();
    flipped[40] ^= 1;
    let flipped = bad(&flipped);
    assert!(flipped.starts_with("frame 1 of "), "{flipped}");
    bad(&[]);
    // Another good archive is not this one, also when nobody looks at the hash of the file.
    let other = fs::read(directory.path().join("new").join(ARCHIVE)).unwrap();
    let other = bad(&other);
    assert!(other.starts_with("the tar in it hashes to "), "{other}");
    fs::write(&archive, &good).unwrap();
    run(directory.path(), &["verify", "old"]).code(0);

    fs::write(directory.path().join("old/159.conf"), "arch: i386\n").unwrap();
    fs::remove_file(directory.path().join("old/sbom.spdx.json")).unwrap();
    let damaged = run(directory.path(), &["verify", "old"]).code(1);
    assert!(damaged.out.contains("BAD   159.conf: expected "), "{}", damaged.out);
    assert!(damaged.out.contains("BAD   sbom.spdx.json: it is not there\n"), "{}", damaged.out);
}

#[test]
fn a_manifest_leads_to_no_other_directory() {
    let directory = two();
    let manifest = directory.path().join("old/manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"159.conf\"", "\"../new/159.conf\"")).unwrap();
    let run = run(directory.path(), &["verify", "old"]).code(1);
    insta::assert_snapshot!(run.err, @"error: the manifest names `../new/159.conf`, expected the name of a file beside it");
}

#[test]
fn two_builds_that_differ_are_told_apart_by_their_first_path() {
    let directory = two();
    let (old, new) = (directory.path().join("old"), directory.path().join("new"));
    let manifest = Manifest::parse(&fs::read_to_string(old.join("manifest.json")).unwrap()).unwrap();
    let compare = |new: &Path| build_images::commands::compare_artifacts(&old, new, &manifest).unwrap();
    let found = compare(&new);
    assert_eq!(found.different, [ARCHIVE, "159.conf", "manifest.json"]);
    let first = found.first_difference.unwrap();
    insta::assert_snapshot!(first, @"/etc/a: 0644 0:0 file of 3 bytes, built again 0644 0:0 file of 3 bytes (content)");
    let found = compare(&old);
    assert_eq!((found.different.len(), found.first_difference), (0, None));
    let mut artifact = Artifact::new();
    artifact.tree.get_mut(&path("usr")).unwrap().mtime = 2;
    artifact.write(&directory.path().join("time"));
    let found = compare(&directory.path().join("time"));
    assert_eq!(found.different, [ARCHIVE, "manifest.json"]);
    assert_eq!(found.first_difference.unwrap(), "times or the order of members");
}
