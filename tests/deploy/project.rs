//! A project with a tiny image, in as many versions as a test wants, each built without a package inside.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use build_images::archive::{self, Head};
use build_images::artifact::{FORMAT, FileEntry, FrameEntry, Manifest, PackageEntry, ResultDirectory};
use build_images::build::stage::Limits;
use build_images::commands::{Options, Session};
use build_images::digest::Sha256;
use build_images::progress::Silent;
use build_images::tree::{Content, Node as Entry, Tree, TreePath};
use jiff::Timestamp;
use tempfile::TempDir;

use crate::node::Node;
use crate::support::deb::Deb;
use crate::support::keys::Key;
use crate::support::repository::Repository;
use crate::support::shipped::copy;

/// The state of the image, on the node.
pub const STATE: &str = "/srv/appdata/app";
/// Its user, on the node.
pub const USER: u32 = 100_900;
/// The container.
pub const VMID: u32 = 159;

/// What a version of the image is.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub number: u32,
    /// Words of `node/light`.
    pub behaviour: &'static str,
}

/// The project without a result; made once. Everything in it lies in this directory.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    &TEMPLATE
        .get_or_init(|| {
            let directory = tempfile::tempdir().unwrap();
            let root = directory.path().join("project");
            let key = Key::generate();
            let write = |path: &str, text: &str| {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            };
            write("images/site.toml", SITE);
            write("images/app.toml", IMAGE);
            let fingerprint = key.fingerprint();
            write(
                "recipes/base/recipe.toml",
                &format!(
                    "description = \"What all have\"\nrelease = \"trixie\"\n\n[archive.test]\n\
                     uri = \"http://127.0.0.1:1/test/\"\nsuites = [\"trixie\"]\ncomponents = [\"main\"]\n\
                     keys = [\"test.asc\"]\nfingerprints = [\"{fingerprint}\"]\n\n[packages]\ninstall = [\"core\"]\n"
                ),
            );
            write("recipes/app/recipe.toml", RECIPE);
            fs::create_dir_all(root.join("recipes/base/keys")).unwrap();
            fs::write(root.join("recipes/base/keys/test.asc"), key.certificate()).unwrap();
            let date = Timestamp::from_second(Timestamp::now().as_second() - 3600).unwrap();
            let repository = Repository::new().date(&date.to_string()).valid_until(None).signer(key);
            let served = repository.package(Deb::new("core", "1").field("Essential", "yes")).serve();
            let output = Command::new(env!("CARGO_BIN_EXE_build-images"))
                .arg("--root")
                .arg(&root)
                .arg("--store")
                .arg(directory.path().join("store"))
                .args(["--mirror", &format!("test={}test/", served.server.uri()), "lock"])
                .output()
                .unwrap();
            crate::node::expect_success("build-images lock", &output);
            (directory, root)
        })
        .1
}

/// A version of the project, with its result.
pub struct Project {
    directory: TempDir,
}

impl Project {
    pub fn new(version: &Version) -> Self {
        let project = Self { directory: tempfile::tempdir().unwrap() };
        copy(template(), &project.root());
        if version.behaviour.contains("one-way") {
            project.change("recipes/app/recipe.toml", "#migrates", "migrates");
        }
        project.build(version);
        project
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("project")
    }

    pub fn change(&self, file: &str, old: &str, new: &str) {
        let path = self.root().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "no `{old}` in {file}");
        fs::write(path, text.replace(old, new)).unwrap();
    }

    /// Makes the result that the program would make if its packages had anything in them.
    pub fn build(&self, version: &Version) {
        let cancel = AtomicBool::new(false);
        let options = Options {
            root: self.root(),
            results: self.root().join("result"),
            store: self.directory.path().join("store"),
            mirrors: BTreeMap::new(),
            host: PathBuf::from("/nowhere"),
            jobs: 1,
            scratch: None,
            limits: Limits::default(),
            proxy: None,
            now: Timestamp::now(),
            program: PathBuf::from("/nowhere"),
        };
        let session = Session::open(options, &Silent, &cancel).unwrap_or_else(|error| panic!("{error:?}"));
        let lock = session.read_lock().unwrap().unwrap();
        let plan = session.plan("app", &lock).unwrap();
        let (mut tree, mut contents) = (Tree::new(), BTreeMap::new());
        let mut file = |path: &str, bytes: &[u8], mode| {
            let path = TreePath::new(path).unwrap();
            for directory in path.ancestors() {
                if directory != path {
                    tree.entry(directory).or_insert_with(|| Entry::directory(0o755, 0));
                }
            }
            contents.insert(Sha256::of(bytes), bytes.to_vec());
            tree.insert(path, Entry::file(Content::of(bytes), mode, 0));
        };
        file("app/light", b"", 0o644);
        file("app/version", format!("{}\n", version.number).as_bytes(), 0o644);
        file("app/behaviour", version.behaviour.as_bytes(), 0o644);
        file("app/set-up", SET_UP.as_bytes(), 0o755);
        file("etc/debian_version", b"13.7\n", 0o644);
        file("usr/lib/os-release", b"ID=debian\n", 0o644);
        file("root/.profile", b"", 0o644);
        // Something that does not compress and is alike in all versions.
        let mut word = Sha256::of("ballast");
        let mut ballast = Vec::new();
        for _ in 0..2048 {
            word = Sha256::of(word.as_bytes());
            ballast.extend_from_slice(word.as_bytes());
        }
        file("usr/share/ballast", &ballast.repeat(8), 0o644);

        let result = ResultDirectory::new(&session.options.results, "app");
        let made = result.begin().unwrap();
        let name = format!("vzdump-lxc-{VMID}-2026_11_21-02_10_46.tar.zst");
        let head = [Head {
            path: TreePath::new("etc/vzdump/pct.conf").unwrap(),
            bytes: plan.config.clone().into_bytes(),
        }];
        let layers = BTreeMap::new();
        let source =
            archive::Source { tree: &tree, contents: &contents, head: &head, mtime: 0, layers: &layers };
        let out = File::create(made.path().join(&name)).unwrap();
        let summary =
            archive::write(&source, &session.store, &plan.parameters, 1, ("app", &Silent), out).unwrap();
        let entry = |file: &str, bytes: &str| {
            fs::write(made.path().join(file), bytes).unwrap();
            FileEntry { file: file.to_owned(), size: bytes.len() as u64, sha256: Sha256::of(bytes) }
        };
        let manifest = Manifest {
            format: FORMAT,
            tool: "test".to_owned(),
            image: "app".to_owned(),
            vmid: VMID,
            plan: plan.key,
            lock: Sha256::of(""),
            locked_at: plan.lock_time.to_string(),
            config: entry(&format!("{VMID}.conf"), &plan.config),
            space: Vec::new(),
            sbom: entry("sbom.spdx.json", "{}"),
            archive: FileEntry { file: name, size: summary.size, sha256: summary.sha256 },
            tar: FileEntry {
                file: String::new(),
                size: summary.table.tar_size,
                sha256: summary.table.tar_sha256,
            },
            layers: Vec::new(),
            packages: vec![PackageEntry {
                name: "app".to_owned(),
                version: version.number.to_string(),
                architecture: "all".to_owned(),
                sha256: Sha256::of(""),
            }],
            tarballs: Vec::new(),
            frames: summary
                .table
                .frames
                .iter()
                .map(|frame| FrameEntry { key: None, frame: frame.clone() })
                .collect(),
        };
        result.commit(made, &manifest, &session.store).unwrap();
    }

    /// The program in this project, for a node.
    pub fn command(&self, node: &Node, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_build-images"));
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.directory.path())
            .env("BUILD_IMAGES_STORE", self.directory.path().join("store"))
            .env("BUILD_IMAGES_SSH", node.ssh())
            .current_dir(self.root())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, node: &Node, arguments: &[&str]) -> Run {
        Run::of(self.command(node, arguments).output().unwrap())
    }

    pub fn deploy(&self, node: &Node) -> Run {
        self.run(node, &["deploy"])
    }
}

/// What a run of the program did.
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
}

/// A node with the directories that the image mounts.
pub fn node() -> Node {
    let node = Node::new("96m");
    node.directory(STATE, (USER, USER), 0o750);
    node
}

/// The version whose application answers, by what its root file system says; nothing when none runs.
pub fn running(node: &Node) -> Option<u32> {
    let (good, text) = node.try_run(&format!(
        "pct status {VMID} | grep -q running && timeout 5 bash -c 'exec 3<> /dev/tcp/172.16.10.59/8080; \
         printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3; grep -q HTTP <&3' && cat /mnt/storage/images/{VMID}/*/app/version"
    ));
    good.then(|| text.trim().parse().unwrap_or_else(|_| panic!("more than one root file system: {text}")))
}

const SITE: &str = r#"domain = "example.org"
timezone = "Etc/UTC"

[network]
bridge = "vmbr3"
subnet = "172.16.10.0/24"
gateway = "172.16.10.1"
nameservers = ["172.16.10.1"]
proxy = "172.16.10.102"

[node]
host = "root@node.test"
storage = "local-lvm"
release = "9.2"

[directories]
media = "/srv/media"
state = "/srv/appdata"
"#;

const IMAGE: &str = r#"recipes = ["base", "app"]

[container]
vmid = 159
address = 59
cores = 2
memory = "512 MiB"
disk = "8 GiB"
onboot = true
"#;

const RECIPE: &str = r##"description = "An application"

[packages]
install = ["core"]

[[user]]
name = "app"
uid = 900

[[state]]
path = "/var/lib/app"
owner = "app"
group = "app"
#migrates = { package = "app" }

[[secret]]
name = "password"
hash = "/var/lib/app/.password"

[[secret]]
name = "administrator"
run = "/app/set-up"

[service]
port = 8080

[service.probe]
path = "/"
body = "Healthy"
patience = "2 s"


[[service.probe.starting]]
body = "Degraded"
patience = "20 s"

[service.setup]
path = "/setup"
body = "not set up"
"##;

const SET_UP: &str = "#!/bin/sh\nread -r name\nread -r password\n[ -n \"$password\" ] || exit 1\necho \"$name\" > /srv/appdata/app/admin\n";
