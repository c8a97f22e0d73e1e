//! What every test here needs: a store, ids for the sandbox, a way to run a stage.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use build_images::build::stage::{Limits, News, Stage, StageError, StageJob, StagePackage, build, build_all};
use build_images::digest::Sha256;
use build_images::layer::Layer;
use build_images::progress::{Event, Reporter};
use build_images::sandbox::IdRange;
use build_images::store::{Kind, Store};

use crate::support::require;

/// The time that all layers of these tests are dated with.
pub const EPOCH: i64 = 1_767_225_600;

/// Prints when each phase began.
pub struct Watch {
    begin: Instant,
    last: Mutex<Option<(Instant, String)>>,
    /// Every phase and how long it took, in seconds.
    pub phases: Mutex<Vec<(String, f64)>>,
    /// Warnings, in order.
    pub warnings: Mutex<Vec<String>>,
}

impl Watch {
    pub fn new() -> Self {
        let (last, phases, warnings) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { begin: Instant::now(), last, phases, warnings }
    }

    fn next(&self, action: Option<String>) {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap();
        if let Some((begin, action)) = last.take() {
            self.phases.lock().unwrap().push((action, (now - begin).as_secs_f64()));
        }
        *last = action.map(|action| (now, action));
    }

    pub fn print(&self) {
        self.next(None);
        for (action, seconds) in self.phases.lock().unwrap().iter() {
            println!("{seconds:7.2} s  {action}");
        }
        println!("{:7.2} s  in all", self.begin.elapsed().as_secs_f64());
    }
}

impl Reporter for Watch {
    fn report(&self, event: Event) {
        match event {
            Event::Stage { action, .. } => self.next(Some(action)),
            Event::Finished { .. } => self.next(None),
            Event::Warning(text) => self.warnings.lock().unwrap().push(text),
            _ => {}
        }
    }
}

/// Runs a stage with this program's own worker.
pub fn run(store: &Store, job: &StageJob, limits: &Limits, watch: &Watch) -> Result<Layer, StageError> {
    run_until(store, job, limits, watch, &AtomicBool::new(false))
}

/// As [`run`], until `cancel` is set.
pub fn run_until(
    store: &Store,
    job: &StageJob,
    limits: &Limits,
    watch: &Watch,
    cancel: &AtomicBool,
) -> Result<Layer, StageError> {
    let stage = Stage {
        job,
        subject: "test",
        limits,
        executable: Path::new(env!("CARGO_BIN_EXE_build-images")),
        range: &IdRange::discover().expect("ids for the sandbox"),
        scratch: None,
        cancel,
    };
    build(&stage, store, watch)
}

/// Runs stages on one root; gives the numbers of the layers in the order in which they were finished.
pub fn run_all(store: &Store, jobs: &[StageJob], limits: &Limits) -> Result<Vec<usize>, StageError> {
    run_all_with(store, jobs, limits, &mut |_| ())
}

/// As [`run_all`]; `on_foreseen` gets each layer before its last scripts run.
pub fn run_all_with(
    store: &Store,
    jobs: &[StageJob],
    limits: &Limits,
    on_foreseen: &mut dyn FnMut(Layer),
) -> Result<Vec<usize>, StageError> {
    let range = &IdRange::discover().expect("ids for the sandbox");
    let cancel = &AtomicBool::new(false);
    let executable = Path::new(env!("CARGO_BIN_EXE_build-images"));
    let stage = |job| Stage { job, subject: "test", limits, executable, range, scratch: None, cancel };
    let stages: Vec<_> = jobs.iter().map(stage).collect();
    let mut finished = Vec::new();
    let leaving = build_all(&stages, store, &Watch::new(), &mut |news| match news {
        News::Foreseen(foreseen) => on_foreseen(foreseen.open().unwrap()),
        News::Made(number) => {
            assert!(store.contains(Kind::Layer, jobs[number].key()));
            finished.push(number);
        }
    })?;
    drop(leaving);
    Ok(finished)
}

/// As [`run`], with another program as the worker.
pub fn run_with(
    executable: &Path,
    store: &Store,
    job: &StageJob,
    limits: &Limits,
    watch: &Watch,
) -> Result<Layer, StageError> {
    let range = &IdRange::discover().expect("ids for the sandbox");
    let cancel = &AtomicBool::new(false);
    let stage = Stage { job, subject: "test", limits, executable, range, scratch: None, cancel };
    build(&stage, store, watch)
}

/// Puts a .deb into the store and reads what the lock would say of it.
pub fn import(store: &Store, path: &Path) -> StagePackage {
    let bytes = fs::read(path).unwrap();
    let sha256 = Sha256::of(&bytes);
    fs::write(store.path(Kind::Deb, sha256), &bytes).unwrap();
    let deb = build_images::apt::deb::Deb::open(fs::File::open(path).unwrap()).unwrap();
    let text = deb.control().unwrap().text;
    let stanza = build_images::apt::control::stanzas(&text).next().unwrap().unwrap();
    let field = |name| stanza.get(name).unwrap().to_owned();
    StagePackage {
        name: field("Package"),
        version: field("Version"),
        architecture: field("Architecture"),
        sha256,
        size: bytes.len() as u64,
    }
}

/// A job that adds `packages` to an empty root.
pub fn job(mut packages: Vec<StagePackage>, requested: &[&str]) -> StageJob {
    packages.sort_by(|a, b| (&a.name, &a.architecture).cmp(&(&b.name, &b.architecture)));
    StageJob {
        packages,
        parent: None,
        users: Vec::new(),
        groups: Vec::new(),
        requested: requested.iter().map(|name| (*name).to_owned()).collect(),
        epoch: EPOCH,
    }
}

/// Whether stages can run and their trees be compared: root gives files to any owner.
pub fn ready() -> bool {
    require("root", rustix::process::geteuid().is_root())
}
