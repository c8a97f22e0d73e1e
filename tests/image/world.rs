//! Projects, stores and runs of the program.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use build_images::apt::lockfile::{Lock, LockedPackage, PackageSet, Reason, SetMember};
use build_images::apt::sources::host_sources;
use build_images::model;
use build_images::plan::Requests;
use serde_json::Value;

use crate::support::deb::Deb;
use crate::support::repository::{Repository, Served};
use crate::support::require;

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_build-images");

/// What the build host is called while the shipped project is built; must not be found in the image.
pub const HOST_NAME: &str = "build-host-of-the-test";
/// Who builds it.
pub const USER_NAME: &str = "build-user-of-the-test";

/// The shipped project, built.
pub struct Shipped {
    /// Where everything of it is, store and project.
    pub directory: PathBuf,
    /// The archive of `qbittorrent`.
    pub archive: PathBuf,
    /// The lock.
    pub lock: Lock,
    /// Kept locked, so that two runs of these tests do not share the directory.
    _turn: fs::File,
}

impl Shipped {
    fn store(&self) -> PathBuf {
        self.directory.join("store")
    }
}

/// How a run of the program ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Runs `command` to its end.
    pub fn of(command: &mut Command) -> Self {
        let output = command.stdin(Stdio::null()).output().unwrap();
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What was done for the only image; fails when the run did.
    #[track_caller]
    pub fn built(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        let report: Value = serde_json::from_str(&self.stdout).unwrap();
        report[0].clone()
    }

    /// The message of a run that has to have failed, from `error:` on.
    #[track_caller]
    pub fn error(&self) -> &str {
        assert_eq!(self.code, Some(1), "{}\n{}", self.stdout, self.stderr);
        let at = self.stderr.find("error: ").unwrap_or_else(|| panic!("no error in\n{}", self.stderr));
        &self.stderr[at..]
    }
}

/// The shipped project, built once; `None` when this machine lacks what that needs.
pub fn shipped() -> Option<&'static Shipped> {
    static SHIPPED: OnceLock<Result<Shipped, &'static str>> = OnceLock::new();
    if !require("root", rustix::process::geteuid().is_root()) {
        return None;
    }
    match SHIPPED.get_or_init(build_shipped) {
        Ok(shipped) => Some(shipped),
        Err(what) => {
            require(what, false);
            None
        }
    }
}

fn build_shipped() -> Result<Shipped, &'static str> {
    if host_sources(Path::new("/")).is_empty() {
        return Err("a Debian mirror in the host's apt configuration");
    }
    // Packages stay for the next run: they are checked against the lock whenever they are used.
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image");
    fs::create_dir_all(&directory).unwrap();
    let turn = fs::File::create(directory.join("turn")).unwrap();
    turn.lock().unwrap();
    let project = directory.join("project");
    let store = directory.join("store");
    for old in ["layers", "frames", "scans", "tmp", "partial"].map(|name| store.join(name)) {
        remove(&old);
    }
    remove(&project);
    for part in ["images", "recipes"] {
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join(part), &project.join(part));
    }
    // Its packages come from somewhere else than Debian's mirror; see `tests/boot`.
    fs::remove_file(project.join("images/jellyfin.toml")).unwrap();
    let home = directory.join("home");
    fs::create_dir_all(&home).unwrap();
    let script = format!("hostname {HOST_NAME} && exec \"$@\"");
    let run = Run::of(
        Command::new("unshare")
            .args(["--uts", "sh", "-c", &script, "sh", PROGRAM, "--json", "qbittorrent"])
            .arg("--root")
            .arg(&project)
            .arg("--store")
            .arg(&store)
            .current_dir(&home)
            .envs([("HOME", home.to_str().unwrap()), ("USER", USER_NAME), ("LOGNAME", USER_NAME)])
            .envs([("TZ", "Pacific/Chatham"), ("HOSTNAME", HOST_NAME)]),
    );
    if run.stderr.contains("cannot fetch") {
        return Err("the Debian mirror of the host's apt configuration");
    }
    let archive = PathBuf::from(run.built()["archive"].as_str().unwrap());
    let text = fs::read_to_string(project.join("images/images.lock")).unwrap();
    let lock = Lock::parse(&text).unwrap();
    Ok(Shipped { directory, archive, lock, _turn: turn })
}

fn remove(path: &Path) {
    if path.exists() {
        fs::remove_dir_all(path).unwrap();
    }
}

/// Copies a directory.
fn copy(from: &Path, to: &Path) {
    walk(from, to, &|from, to| assert!(fs::copy(from, to).is_ok()));
}

/// Makes a directory of hard links. Layers and frames are never written to, only replaced.
fn link(from: &Path, to: &Path) {
    walk(from, to, &|from, to| fs::hard_link(from, to).unwrap());
}

fn walk(from: &Path, to: &Path, file: &dyn Fn(&Path, &Path)) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => walk(&entry.path(), &target, file),
            false => file(&entry.path(), &target),
        }
    }
}

/// A project with one image, `hostile`: the shipped base and a recipe on top.
pub struct World {
    /// The loopback archive.
    pub served: Served,
    /// Everything of this test.
    pub directory: tempfile::TempDir,
    /// The lock, as it was written at first.
    pub lock: Lock,
    options: Vec<String>,
}

const IMAGE: &str = r#"description = "Made for a test"
recipes = ["debian-13", "hostile"]

[container]
vmid = 998
hostname = "hostile"
address = 98
cores = 1
memory = "512 MiB"
swap = "0 MiB"
disk = "4 GiB"
"#;

impl World {
    /// An image with all of `packages`, and what `recipe` says. The store has the base layer.
    pub fn new(packages: Vec<Deb>, recipe: &str) -> Option<Self> {
        let shipped = shipped()?;
        let directory = tempfile::Builder::new().prefix("build-images-image-").tempdir().unwrap();
        // Nothing but the sandbox is to keep anybody from reading and writing here.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let served = packages.into_iter().fold(Repository::new(), Repository::package).serve();
        let mut world = Self { served, directory, lock: shipped.lock.clone(), options: Vec::new() };
        for part in ["layers", "frames"] {
            link(&shipped.store().join(part), &world.store().join(part));
        }
        let project = world.project();
        copy(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/debian-13"),
            &project.join("recipes/debian-13"),
        );
        fs::create_dir_all(project.join("images")).unwrap();
        let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/site.toml");
        fs::copy(site, project.join("images/site.toml")).unwrap();
        fs::write(project.join("images/hostile.toml"), IMAGE).unwrap();
        fs::create_dir_all(project.join("recipes/hostile/files")).unwrap();
        world.recipe(recipe);
        world.lock.set.retain(|set| set.recipes == ["debian-13"]);
        let base: BTreeSet<_> = world.lock.set[0].packages.iter().map(|m| (&m.name, &m.version)).collect();
        world.lock.package.retain(|package| base.contains(&(&package.name, &package.version)));
        world.lock_packages();
        Some(world)
    }

    /// Adds options of the command line.
    pub fn with(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|option| (*option).to_owned()));
        self
    }

    /// Writes the recipe anew.
    pub fn recipe(&self, rest: &str) {
        let packages = self.served.locked_packages();
        let mut text = "description = \"Made for a test\"\n".to_owned();
        let directory = self.project().join("recipes/hostile");
        if !packages.is_empty() {
            let archive = self.served.archive();
            fs::create_dir_all(directory.join("keys")).unwrap();
            fs::write(directory.join("keys/test.asc"), &archive.keys[0]).unwrap();
            let names: Vec<_> = packages.iter().map(|package| &package.name).collect();
            text += &format!(
                "[archive.test]\nuri = {:?}\nsuites = [\"trixie\"]\ncomponents = [\"main\"]\n\
                 keys = [\"test.asc\"]\nfingerprints = [{:?}]\n[packages]\ninstall = {names:?}\n",
                archive.uri, archive.fingerprints[0]
            );
        }
        fs::write(directory.join("recipe.toml"), text + rest).unwrap();
    }

    /// Writes a file of the recipe.
    pub fn file(&self, name: &str, text: &str) {
        fs::write(self.project().join("recipes/hostile/files").join(name), text).unwrap();
    }

    /// Locks what the archive of the test has.
    fn lock_packages(&mut self) {
        let packages = self.served.locked_packages();
        if !packages.is_empty() {
            let recipes = vec!["debian-13".to_owned(), "hostile".to_owned()];
            let project =
                model::load(&self.project()).unwrap_or_else(|problems| panic!("{}", problems.render(false)));
            let requests = Requests::of(&project);
            let request = requests.sets.iter().find(|set| set.recipes == recipes).unwrap().digest();
            let member = |package: &LockedPackage| SetMember {
                name: package.name.clone(),
                version: package.version.clone(),
                architecture: package.architecture.clone(),
                reason: Reason::Requested,
                by: None,
            };
            let mut members: Vec<_> = packages.iter().map(member).collect();
            members.sort_by(|a, b| a.name.cmp(&b.name));
            self.lock.set.push(PackageSet {
                recipes,
                alone: false,
                unresolved: false,
                request,
                packages: members,
            });
            self.lock.package.extend(packages);
            self.lock.package.sort();
            self.lock.archive.push(self.served.locked());
            self.lock.archive.sort_by(|a, b| a.name.cmp(&b.name));
        }
        self.write_lock(&self.lock);
    }

    /// Writes a lock, sealed.
    pub fn write_lock(&self, lock: &Lock) {
        fs::write(self.lock_path(), lock.to_text()).unwrap();
    }

    pub fn lock_path(&self) -> PathBuf {
        self.project().join("images/images.lock")
    }

    pub fn project(&self) -> PathBuf {
        self.directory.path().join("project")
    }

    pub fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Arguments of the program.
    pub fn arguments(&self) -> Vec<String> {
        let path = |path: PathBuf| path.to_str().unwrap().to_owned();
        let mut arguments =
            vec!["--json".to_owned(), "--root".to_owned(), path(self.project()), "--store".to_owned()];
        arguments.push(path(self.store()));
        arguments.extend(self.options.iter().cloned());
        arguments
    }

    /// Builds the image.
    pub fn build(&self) -> Run {
        Run::of(Command::new(PROGRAM).args(self.arguments()))
    }

    /// Layers in the store.
    pub fn layers(&self) -> BTreeSet<String> {
        names(&self.store().join("layers"))
    }

    /// Fails when the store or the project has anything that a failed build must not leave.
    #[track_caller]
    pub fn expect_nothing_left(&self, layers: &BTreeSet<String>) {
        assert_eq!(names(&self.store().join("tmp")), BTreeSet::new(), "the store's `tmp`");
        assert_eq!(names(&self.store().join("partial")), BTreeSet::new(), "the store's `partial`");
        assert_eq!(&self.layers(), layers, "layers");
        let result = self.project().join("result");
        let mut left = if result.exists() { names(&result) } else { BTreeSet::new() };
        // The site's files need no image.
        left.remove("site");
        assert_eq!(left, BTreeSet::new(), "results");
    }

    /// The archive's members, as tar lists them, and its bytes.
    pub fn tar(&self, run: &Run) -> Tar {
        Tar::of(Path::new(run.built()["archive"].as_str().unwrap()))
    }
}

/// Names in a directory.
pub fn names(directory: &Path) -> BTreeSet<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// An archive, decompressed by zstd.
pub struct Tar {
    pub file: tempfile::NamedTempFile,
}

impl Tar {
    pub fn of(archive: &Path) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let output = Command::new("zstd").args(["-dqc"]).arg(archive).stdout(file.reopen().unwrap()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { file }
    }

    fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new("tar")
            .args(arguments)
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .env("TAR_OPTIONS", "")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        output.stdout
    }

    fn path(&self) -> &str {
        self.file.path().to_str().unwrap()
    }

    /// Mode, owner and name of each member, with what it links to.
    pub fn list(&self) -> Vec<Member> {
        let text = self.run(&["--numeric-owner", "--full-time", "-tvf", self.path()]);
        String::from_utf8(text).unwrap().lines().map(Member::parse).collect()
    }

    /// The member with this name.
    #[track_caller]
    pub fn member(&self, name: &str) -> Member {
        self.list().into_iter().find(|m| m.name == name).unwrap_or_else(|| panic!("there is no `{name}`"))
    }

    /// The text of a file.
    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.run(&["-xOf", self.path(), name])).unwrap()
    }

    /// Unpacks it with owners and xattrs.
    pub fn extract(&self, to: &Path) {
        let to = to.to_str().unwrap();
        self.run(&["-xpf", self.path(), "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", to]);
    }

    /// Which of `texts` stand anywhere in it.
    pub fn find<'a>(&self, texts: &[&'a str]) -> BTreeSet<&'a str> {
        let finder = aho_corasick::AhoCorasick::new(texts).unwrap();
        let bytes = fs::read(self.file.path()).unwrap();
        finder.find_iter(&bytes).map(|found| texts[found.pattern().as_usize()]).collect()
    }
}

/// One line of `tar -tv`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// `drwxr-xr-x`.
    pub mode: String,
    /// `0/0`.
    pub owner: String,
    /// `./etc/`.
    pub name: String,
    /// What a link points to, or whose second name it is.
    pub target: Option<String>,
}

impl Member {
    fn parse(line: &str) -> Self {
        let mut words = line.split_whitespace();
        let (mode, owner) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let (_size, _date, time) = (words.next(), words.next(), words.next().unwrap());
        // Names may have blanks, so the rest is taken as it is.
        let name = &line[line.find(time).unwrap() + time.len() + 1..];
        let (name, target) = match mode.as_bytes()[0] {
            b'l' => name.split_once(" -> ").map(|(name, target)| (name, Some(target))).unwrap(),
            b'h' => name.split_once(" link to ").map(|(name, target)| (name, Some(target))).unwrap(),
            _ => (name, None),
        };
        Self { mode, owner, name: name.to_owned(), target: target.map(str::to_owned) }
    }

    /// Mode and owner in one text.
    pub fn access(&self) -> String {
        format!("{} {}", self.mode, self.owner)
    }
}
