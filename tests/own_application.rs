//! The examples of docs/own-application.md, built as they stand there, and built again without any network.
//!
//! Debian comes from the mirror of this host's apt configuration; the example's archive and web server are on the
//! loopback interface.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use build_images::archive;
use build_images::digest::Sha256;
use build_images::sandbox::IdRange;
use build_images::tree::{Kind, Node, TreePath};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use support::deb::{Deb, gzip};
use support::keys::Key;
use support::repository::{Repository, Served};
use support::require;
use support::server::Server;
use support::shipped::{copy, mirrors};

const PAGE: &str = include_str!("../docs/own-application.md");
const TARBALL: &str = "releases/ledger-2.1-linux-amd64.tar.gz";

/// The files that the page has: a line with nothing but a path, and the block below it.
fn files_of_the_page() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut lines = PAGE.lines().peekable();
    while let Some(line) = lines.next() {
        let path = line.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
        let Some(path) = path.filter(|path| path.contains('/') && !path.contains(' ')) else { continue };
        assert_eq!(lines.next(), Some(""), "below `{path}`");
        assert!(lines.next().unwrap_or_default().starts_with("```"), "below `{path}`");
        let text: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        files.insert(path.to_owned(), text.join("\n") + "\n");
    }
    files
}

/// Replaces the only text in quotes of so many hex digits.
fn with_digits(text: &str, length: usize, new: &str) -> String {
    let digits = |part: &&str| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let found: Vec<_> = text.split('"').filter(digits).collect();
    assert_eq!(found.len(), 1, "{text}");
    text.replace(found[0], new)
}

/// The makers' tarball.
fn tarball(version: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, mode: u32, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_uid(197_609);
        header.set_gid(197_121);
        header.set_mtime(1_600_000_000);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, format!("ledger-{version}/{name}"), bytes).unwrap();
    };
    add("bin/ledger", 0o775, format!("#!/bin/sh\necho ledger {version}\n").as_bytes());
    add("share/ledger/rates", 0o600, b"1 2 3\n");
    add("doc/manual", 0o644, b"not wanted\n");
    gzip(&builder.into_inner().unwrap())
}

/// The makers' package.
fn quill() -> Deb {
    let unit = "[Unit]\nDescription=Quill\n\n[Service]\nUser=quill\nExecStart=/usr/bin/quill\n\n\
                [Install]\nWantedBy=multi-user.target\n";
    Deb::new("quill", "3.2+deb13")
        .field("Priority", "optional")
        .field("Depends", "adduser")
        .file_with("/usr/bin/quill", "#!/bin/sh\necho quill\n", 0o755, (0, 0))
        .file("/usr/lib/systemd/system/quill.service", unit)
        .script(
            "postinst",
            "#!/bin/sh\nset -e\ngetent passwd quill > /dev/null || adduser --system --group quill\n\
             install -d -o quill -g quill /var/lib/quill\n",
        )
}

struct Place {
    directory: tempfile::TempDir,
    archive: Served,
    files: Server,
}

impl Place {
    /// The project of the page, with the shipped base.
    fn new() -> Self {
        let key = Key::generate();
        let date = Timestamp::now() - SignedDuration::from_hours(3);
        let date = Timestamp::from_second(date.as_second()).unwrap().to_string();
        let archive = Repository::new()
            .name("quill")
            .date(&date)
            .valid_until(None)
            .without("Acquire-By-Hash")
            .compressions(&[".gz"])
            .signer(key.clone())
            .package(quill())
            .serve();
        let files = Server::start(BTreeMap::from([(TARBALL.to_owned(), tarball("2.1"))]));
        let place = Self { directory: tempfile::tempdir().unwrap(), archive, files };
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        copy(&root.join("recipes/debian-13"), &place.path("project/recipes/debian-13"));
        fs::create_dir_all(place.path("project/images")).unwrap();
        fs::copy(root.join("images/site.toml"), place.path("project/images/site.toml")).unwrap();
        let files = files_of_the_page();
        let names: Vec<_> = files.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "images/ledger.toml",
                "images/quill.toml",
                "recipes/ledger/files/ledger.service.tera",
                "recipes/ledger/recipe.toml",
                "recipes/quill/recipe.toml",
            ]
        );
        for (name, text) in files {
            let text = match name.as_str() {
                "recipes/quill/recipe.toml" => with_digits(&text, 40, &key.fingerprint()),
                "recipes/ledger/recipe.toml" => {
                    with_digits(&text, 64, &Sha256::of(tarball("2.1")).to_string())
                }
                _ => text,
            };
            place.write(&name, text.as_bytes());
        }
        place.write("recipes/quill/keys/quill.asc", &key.certificate());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path("project").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn mirrors(&self) -> String {
        format!("quill={}quill/ ledger={}releases/", self.archive.server.uri(), self.files.uri())
    }

    /// The program, on the host's network or on none.
    fn command(&self, network: bool, store: &str, mirrors: &str, arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_build-images");
        let mut command = Command::new(if network { program } else { "unshare" });
        if !network {
            command.args(["--net", "--", program]);
        }
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.directory.path())
            .env("BUILD_IMAGES_MIRROR", mirrors)
            .arg("--root")
            .arg(self.path("project"))
            .arg("--store")
            .arg(self.path(store))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        done(self.command(true, "store", &self.mirrors(), arguments).output().unwrap())
    }
}

#[track_caller]
fn done(output: Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "out:\n{out}\nerr:\n{err}");
    out.into_owned()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// What stands in an archive at `path`.
fn node<'a>(archive: &'a archive::Archive, path: &str) -> &'a Node {
    archive.tree.get(&TreePath::new(path).unwrap()).unwrap_or_else(|| panic!("no `{path}`"))
}

fn hash_of_results(results: &Path) -> Vec<Sha256> {
    ["ledger", "quill"]
        .map(|image| archive_of(results, image))
        .map(|path| Sha256::of(fs::read(path).unwrap()))
        .into()
}

fn archive_of(results: &Path, image: &str) -> PathBuf {
    let entries = fs::read_dir(results.join(image)).unwrap().map(|entry| entry.unwrap().path());
    entries.into_iter().find(|path| path.to_string_lossy().ends_with(".tar.zst")).unwrap()
}

#[test]
fn the_examples_of_the_page_are_built_as_they_stand() {
    if !require("a range of subordinate ids", IdRange::discover().is_ok())
        || !require("a Debian mirror in this host's apt configuration", mirrors())
    {
        return;
    }
    let place = Place::new();
    assert!(place.run(&["check"]).starts_with("checked 2 images and 3 recipes\n"));
    place.run(&["lock"]);
    let built = json(&place.run(&["--json"]));
    // One image's packages are the base's alone; the other has a layer on top of the same.
    let layers = |built: &Value, at: usize| {
        (built[at]["layers_built"].as_u64().unwrap(), built[at]["layers_reused"].as_u64().unwrap())
    };
    assert_eq!((built[0]["image"].as_str(), layers(&built, 0)), (Some("ledger"), (1, 0)), "{built}");
    assert_eq!((built[1]["image"].as_str(), layers(&built, 1)), (Some("quill"), (1, 1)), "{built}");
    what_is_in_them(&place.path("project/result"));
    another_tarball_builds_no_layer(&place);
    kept_and_made_again(&place);
    if require("root", rustix::process::geteuid().is_root()) {
        without_network(&place);
    }
}

fn what_is_in_them(results: &Path) {
    let program = TreePath::new("opt/ledger/bin/ledger").unwrap();
    let unit = TreePath::new("usr/lib/systemd/system/ledger.service").unwrap();
    let ledger = archive::read(&archive_of(results, "ledger"), &[program.clone(), unit.clone()]).unwrap();
    let epoch = node(&ledger, "usr/lib/systemd/system/ledger.service").mtime;
    let what = |path: &str| {
        let node = node(&ledger, path);
        (node.mode, node.uid, node.gid, node.mtime == epoch)
    };
    assert_eq!(what("opt/ledger"), (0o755, 0, 0, true));
    assert_eq!(what("opt/ledger/bin/ledger"), (0o755, 0, 0, true));
    assert_eq!(what("opt/ledger/share/ledger/rates"), (0o644, 0, 0, true));
    assert!(!ledger.tree.contains_key(&TreePath::new("opt/ledger/doc").unwrap()));
    assert_eq!(ledger.kept[&program], b"#!/bin/sh\necho ledger 2.1\n");
    assert!(String::from_utf8_lossy(&ledger.kept[&unit]).contains("--listen 0.0.0.0:8091"));
    let enabled = "etc/systemd/system/multi-user.target.wants/ledger.service";
    assert!(matches!(node(&ledger, enabled).kind, Kind::Symlink { .. }));
    assert_eq!(node(&ledger, "var/lib/ledger").uid, 962);

    let manifest = json(&fs::read_to_string(results.join("ledger/manifest.json")).unwrap());
    let hash = Sha256::of(tarball("2.1")).to_string();
    assert_eq!(manifest["tarballs"][0]["sha256"], hash.as_str());
    let sbom = fs::read_to_string(results.join("ledger/sbom.spdx.json")).unwrap();
    let url = "https://example.org/releases/ledger-2.1-linux-amd64.tar.gz";
    assert!(sbom.contains(&hash) && sbom.contains(&format!("\"downloadLocation\": \"{url}\"")));
    // Where the bytes came from is nobody's concern.
    assert!(!sbom.contains("127.0.0.1"));

    let quill = archive::read(&archive_of(results, "quill"), &[]).unwrap();
    assert_eq!(node(&quill, "usr/bin/quill").mode, 0o755);
    assert_eq!(node(&quill, "var/lib/quill").uid, 961);
    assert!(
        quill.tree.contains_key(
            &TreePath::new("etc/systemd/system/multi-user.target.wants/quill.service").unwrap()
        )
    );
}

fn another_tarball_builds_no_layer(place: &Place) {
    let recipe = place.path("project/recipes/ledger/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    let lock = fs::read(place.path("project/images/images.lock")).unwrap();
    let newer = tarball("2.2");
    place.files.put(&TARBALL.replace("2.1", "2.2"), newer.clone());
    let changed = with_digits(&text.replace("2.1", "2.2"), 64, &Sha256::of(newer).to_string());
    fs::write(&recipe, changed).unwrap();
    place.run(&["lock"]);
    let built = json(&place.run(&["ledger", "--json"]));
    assert_eq!((&built[0]["layers_built"], &built[0]["layers_reused"]), (&0.into(), &1.into()), "{built}");
    fs::write(&recipe, text).unwrap();
    fs::write(place.path("project/images/images.lock"), lock).unwrap();
    place.run(&["ledger"]);
}

/// What the lock and results name stays, and an artifact with a tarball can be made again from it.
fn kept_and_made_again(place: &Place) {
    place.run(&["gc"]);
    let kept: Vec<_> =
        fs::read_dir(place.path("store/tarballs")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(kept, [Sha256::of(tarball("2.1")).to_string().as_str()]);
    let asked = place.files.requests().len();
    let result = place.path("project/result/ledger");
    let run = place.run(&["verify", "--rebuild", result.to_str().unwrap()]);
    assert!(run.ends_with("good  building it again gives the same bytes\n"), "{run}");
    assert_eq!(place.files.requests().len(), asked);
    assert_eq!(json(&place.run(&["ledger", "--json"]))[0]["done"], "unchanged");
}

/// From a directory alone: the same lock and the same bytes, in a network namespace that has nothing.
fn without_network(place: &Place) {
    let good = hash_of_results(&place.path("project/result"));
    let copied = json(&place.run(&["vendor", "--json", place.path("a copy").to_str().unwrap()]));
    assert_eq!(copied["unsigned"], serde_json::json!([]), "{copied}");
    let mirrors: Vec<_> = copied["mirrors"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, uri)| format!("{name}={}", uri.as_str().unwrap()))
        .collect();
    assert_eq!(mirrors.len(), 4, "{mirrors:?}");
    let mirrors = mirrors.join(" ");
    let alone = |store: &str, arguments: &[&str]| {
        done(place.command(false, store, &mirrors, arguments).output().unwrap())
    };
    let results = place.path("elsewhere");
    let built = json(&alone("new store", &["--json", "--result", results.to_str().unwrap()]));
    assert_eq!((&built[0]["layers_built"], &built[1]["layers_built"]), (&1.into(), &1.into()), "{built}");
    assert_eq!(hash_of_results(&results), good);
    let lock = place.path("project/images/images.lock");
    let text = fs::read_to_string(&lock).unwrap();
    fs::remove_file(&lock).unwrap();
    alone("third store", &["lock"]);
    assert_eq!(fs::read_to_string(&lock).unwrap(), text);
    // There really was no network.
    let output =
        place.command(false, "fourth store", &place.mirrors(), &["update", "quill"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("cannot be reached"), "{said}");
}
