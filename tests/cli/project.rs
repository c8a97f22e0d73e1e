//! A small project in a temporary directory, the loopback repository it locks from, and runs of the program in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::deb::Deb;
use crate::support::keys::Key;
use crate::support::repository::{Repository, Served, redact_hex};

/// The archive's URI of record. Nothing listens there: bytes come from the mirror that a run is given.
pub const RECORD: &str = "http://127.0.0.1:1/test/";

/// What a run did.
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Run {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The same, when it ended with `code`.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "out:\n{}\nerr:\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

/// The program, with nothing of this process's environment that it looks at.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_build-images"));
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    command
}

/// A project with the recipes `base` and `app` and the images `app` and `bare`.
pub struct Project {
    directory: TempDir,
    key: Key,
}

/// What the archive has at first: nothing newer than 1.
pub fn first() -> Vec<Deb> {
    version(1)
}

/// What it has later: everything in version 2.
pub fn later() -> Vec<Deb> {
    version(2)
}

fn version(number: u32) -> Vec<Deb> {
    let deb = |name: &str| Deb::new(name, &number.to_string()).field("Priority", "optional");
    vec![
        deb("core").field("Essential", "yes"),
        deb("library"),
        deb("tool").field("Depends", "library (>= 1)"),
        deb("extra").field("Recommends", "more"),
        deb("engine"),
        deb("app").field("Depends", &format!("engine (= {number}), library")),
        deb("more"),
        deb("broken").field("Depends", "missing (>= 3)"),
    ]
}

impl Project {
    pub fn new() -> Self {
        let project = Self { directory: tempfile::tempdir().unwrap(), key: Key::generate() };
        project.write(
            "images/site.toml",
            r#"domain = "example.org"
timezone = "Etc/UTC"

[network]
bridge = "vmbr3"
subnet = "172.16.10.0/24"
gateway = "172.16.10.1"
nameservers = ["172.16.10.1"]
proxy = "172.16.10.102"

[node]
host = "root@192.168.1.3"
storage = "local-lvm"
release = "9.2"

[directories]
media = "/srv/media"
state = "/srv/appdata"
"#,
        );
        project.base("");
        project.app(&["app"]);
        project.image("app", &["base", "app"], 159);
        project.image("bare", &["base"], 160);
        fs::create_dir_all(project.path("recipes/base/keys")).unwrap();
        fs::write(project.path("recipes/base/keys/test.asc"), project.key.certificate()).unwrap();
        project
    }

    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join("project").join(path)
    }

    pub fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// Writes the recipe `base`, with `more` at its end.
    pub fn base(&self, more: &str) {
        let fingerprint = self.key.fingerprint();
        self.write(
            "recipes/base/recipe.toml",
            &format!(
                r#"description = "What all have"
release = "trixie"

[archive.test]
uri = "{RECORD}"
suites = ["trixie"]
components = ["main"]
keys = ["test.asc"]
fingerprints = ["{fingerprint}"]

[packages]
install = ["tool", "extra"]
{more}"#
            ),
        );
    }

    /// Writes the recipe `app`, which installs `packages`.
    pub fn app(&self, packages: &[&str]) {
        let text = format!("description = \"An application\"\n\n[packages]\ninstall = {packages:?}\n");
        self.write("recipes/app/recipe.toml", &text);
    }

    pub fn image(&self, name: &str, recipes: &[&str], vmid: u32) {
        let text = format!(
            "recipes = {recipes:?}\n\n[container]\nvmid = {vmid}\naddress = {}\ncores = 2\nmemory = \"2 GiB\"\n\
             disk = \"8 GiB\"\n",
            vmid - 100
        );
        self.write(&format!("images/{name}.toml"), &text);
    }

    /// An archive with `packages`, signed `hours` ago.
    pub fn serve(&self, packages: Vec<Deb>, hours: i64) -> Served {
        let date = Timestamp::now() - SignedDuration::from_hours(hours);
        let date = Timestamp::from_second(date.as_second()).unwrap();
        let until = (date + SignedDuration::from_hours(24 * 7)).to_string();
        let repository = Repository::new().date(&date.to_string()).valid_until(Some(&until));
        let repository = repository.signer(self.key.clone());
        packages.into_iter().fold(repository, Repository::package).serve()
    }

    /// Puts the .debs of `packages` into `served`'s pool, which does not list them.
    pub fn serve_too(&self, served: &Served, packages: Vec<Deb>) {
        let others = self.serve(packages, 1);
        for package in others.locked_packages() {
            let path = format!("test/{}", package.path);
            served.server.put(&path, others.server.file(&path));
        }
    }

    /// The program in this project, with `served` as its mirror.
    pub fn command(&self, served: &Served, arguments: &[&str]) -> Command {
        let mut command = program();
        command
            .current_dir(self.path(""))
            .env("HOME", self.directory.path())
            .env("BUILD_IMAGES_STORE", self.store())
            .env("BUILD_IMAGES_MIRROR", format!("test={}test/", served.server.uri()))
            .args(arguments);
        command
    }

    pub fn run(&self, served: &Served, arguments: &[&str]) -> Run {
        Run::of(self.command(served, arguments).output().unwrap())
    }

    /// A project whose lock was made from [`first`], and what it was made from.
    pub fn locked() -> (Self, Served) {
        let project = Self::new();
        let served = project.serve(first(), 48);
        project.run(&served, &["lock"]).code(0);
        (project, served)
    }

    /// The versions in the lock, as `name version`.
    pub fn pins(&self) -> Vec<String> {
        let text = self.read("images/images.lock");
        let lock = build_images::apt::lockfile::Lock::parse(&text).unwrap();
        lock.package.iter().map(|package| format!("{} {}", package.name, package.version)).collect()
    }

    /// `text` without what is another at each run.
    pub fn redact(&self, served: &Served, text: &str) -> String {
        let text = served.redact(text);
        let text = text.replace(&self.directory.path().display().to_string(), "DIRECTORY");
        redact_hex(&redact_dates(&text))
    }
}

/// `text` with every time of the form `2026-11-02T00:00:00Z` replaced.
pub fn redact_dates(text: &str) -> String {
    let mut redacted = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('T') {
        let date = at.checked_sub(10).and_then(|start| rest.get(start..at + 10));
        if date.is_some_and(|date| date.parse::<Timestamp>().is_ok()) {
            redacted += &rest[..at - 10];
            redacted += "DATE";
            rest = &rest[at + 10..];
        } else {
            redacted += &rest[..=at];
            rest = &rest[at + 1..];
        }
    }
    redacted + rest
}
