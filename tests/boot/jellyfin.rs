//! The Jellyfin image of this project, built from the stand-in of its archive and the real Debian, and seen from
//! outside its container and from the node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use build_images::model;
use build_images::model::probe::{Answer, Health, Service};

use crate::container::Container;
use crate::pct::Config;
use crate::support::jellyfin::OLD;
use crate::support::keys::Key;
use crate::support::repository::Served;
use crate::support::shipped;
use crate::web::{Request, send};
use crate::world::{World, expect_success, facts};
use crate::{application, archive_in};

/// Its user and its own group as the node sees them.
pub const USER: u32 = 100_956;
/// Where the state is mounted.
pub const STATE: &str = "/var/lib/jellyfin";
/// Where finished downloads are mounted.
pub const DOWNLOADS: &str = "/media/downloads";

/// A copy of this project whose Jellyfin recipe trusts a key of this run. Everything else of the recipe is as shipped.
pub struct Project {
    directory: PathBuf,
    /// The archive's key.
    pub key: Key,
    /// Kept locked, so that two runs of these tests do not share the directory.
    _turn: fs::File,
    changing: Mutex<()>,
}

/// The project and the archive of its image from the stand-in's first generation; locked and built once.
pub fn built() -> (&'static Project, &'static Path) {
    static BUILT: OnceLock<(Project, PathBuf)> = OnceLock::new();
    let (project, archive) = BUILT.get_or_init(|| {
        let project = Project::new();
        let served = OLD.serve(&project.key, 48);
        project.lock(&served);
        let archive = project.build(&served, "old");
        (project, archive)
    });
    (project, archive)
}

impl Project {
    fn new() -> Self {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("boot-jellyfin");
        fs::create_dir_all(&place).unwrap();
        let turn = fs::File::create(place.join("turn")).unwrap();
        turn.lock().unwrap();
        let directory = place.join("project");
        if directory.exists() {
            fs::remove_dir_all(&directory).unwrap();
        }
        let project = Self { directory, key: Key::generate(), _turn: turn, changing: Mutex::default() };
        shipped::project(&project.directory);
        shipped::jellyfin_signed_by(&project.directory, &project.key);
        project
    }

    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.directory.join(path)
    }

    /// Whoever changes the project, or needs it unchanged, keeps this meanwhile.
    pub fn alone(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces a text of a file, which has to be there.
    pub fn change(&self, file: &str, old: &str, new: &str) {
        shipped::change(&self.directory, file, old, new);
    }

    /// Runs the program, with `served` for the archive. It shares its store with the other tests of this binary.
    pub fn output(&self, served: &Served, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_build-images"))
            .arg("--root")
            .arg(self.path(""))
            .args(["--mirror", &format!("jellyfin={}jellyfin/", served.server.uri())])
            .args(arguments)
            .output()
            .unwrap()
    }

    /// The same, when it has to succeed.
    pub fn run(&self, served: &Served, arguments: &[&str]) -> String {
        expect_success(&format!("build-images {}", arguments.join(" ")), &self.output(served, arguments))
    }

    /// Adds the archive to the lock that is shipped. Where the mirror has moved on from that one's state of Debian,
    /// everything is locked anew.
    fn lock(&self, served: &Served) {
        if !self.output(served, &["lock"]).status.success() {
            self.run(served, &["update"]);
        }
    }

    /// Builds the image; gives its archive, kept under `name` when the next one is built.
    pub fn build(&self, served: &Served, name: &str) -> PathBuf {
        self.run(served, &["jellyfin"]);
        let kept = self.path(name);
        let result = self.path("result/jellyfin");
        fs::create_dir(&kept).unwrap();
        for entry in fs::read_dir(&result).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), kept.join(entry.file_name())).unwrap();
        }
        archive_in(&kept, 156)
    }

    /// The recipe's `[service]`.
    pub fn service(&self) -> Service {
        let project =
            model::load(&self.path("")).unwrap_or_else(|problems| panic!("{}", problems.render(false)));
        project.recipes["jellyfin"].service.clone().unwrap()
    }
}

/// Makes the node's directories with the site's storage script.
pub fn make_directories(world: &World, config: &Config) {
    application::make_storage(world);
    for bind in config.binds() {
        let expected = match bind.target.as_str() {
            STATE => (USER, USER, 0o750),
            DOWNLOADS => (application::USER, application::MEDIA, 0o2775),
            media if media.starts_with("/media/") => (100_000, application::MEDIA, 0o2775),
            other => panic!("no test knows a mount on {other}"),
        };
        assert_eq!(facts(&world.path(&bind.source)), expected, "{}", bind.source);
    }
}

/// The address of its web interface.
pub fn base(config: &Config) -> String {
    format!("http://{}:8096", config.card().address)
}

/// Sends a request for a path; gives status and body.
pub fn ask(world: &World, config: &Config, path: &str, request: Request<'_>) -> (u16, String) {
    let url = base(config) + path;
    let answer = world.in_network(|| send(&url, request)).unwrap_or_else(|| panic!("no answer from {url}"));
    (answer.status, answer.body)
}

/// Sends JSON to a path; gives the status.
pub fn post(world: &World, config: &Config, path: &str, json: &str) -> u16 {
    let body = Some(("application/json", json.as_bytes()));
    ask(world, config, path, Request { headers: &[], body }).0
}

/// Starts a container and judges it from outside by the recipe's own rules from the first moment on, until it no longer
/// says that it is starting. Gives all that was said, without repetitions; how long it is silent before is chance.
pub fn started(container: &Container<'_>, service: &Service) -> Vec<String> {
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| container.world.in_network(|| watch(&container.config, service)));
        container.start();
        watcher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn watch(config: &Config, service: &Service) -> Vec<String> {
    let base = base(config);
    let mut seen: Vec<String> = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(120) {
        let health = service.judge(|path| {
            let answer = send(&format!("{base}{path}"), Request::default())?;
            Some(Answer { status: answer.status, body: answer.body })
        });
        let (word, done) = match health {
            Health::Healthy => ("healthy".to_owned(), true),
            Health::NeedsSetup => ("needs setup".to_owned(), true),
            Health::Failed(answer) => (format!("failed: {answer:?}"), true),
            Health::Starting { said: None, .. } => (String::new(), false),
            Health::Starting { said: Some(answer), .. } => (answer.body, false),
        };
        if !word.is_empty() && seen.last() != Some(&word) {
            seen.push(word);
        }
        if done {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(150));
    }
    panic!("it is starting for too long: {seen:?}");
}
