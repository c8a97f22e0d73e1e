//! The build's side of a stage: what the worker needs, what it says, what becomes of its result.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::failure::Failure;
use super::job::{Limits, Message, Orders, StageJob, Task};
use super::{descriptors, shared};
use crate::digest::Sha256;
use crate::layer::{INDEX, Layer, LayerError, LayerFiles, PACK};
use crate::progress::{Event, Over, Reporter};
use crate::sandbox::{Cleaner, IdRange, Scratch, ScratchError, Worker, WorkerError, processors_are_alike};
use crate::store::{Guard, Kind, Store, StoreError, TemporaryDirectory};

/// The first argument that makes the program a worker; see `worker_main`.
const WORKER_ARGUMENT: &str = "__stage";
/// Longest line that a worker may write, in bytes.
const MAX_LINE: usize = 4 << 20;
/// How often it is looked whether the build was cancelled.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// One stage and where it happens.
#[derive(Clone, Copy)]
pub struct Stage<'a> {
    /// What to do.
    pub job: &'a StageJob,
    /// Names the stage in events.
    pub subject: &'a str,
    /// What scripts may use.
    pub limits: &'a Limits,
    /// This program; started again as the worker.
    pub executable: &'a Path,
    /// The ids that the image's ids stand for.
    pub range: &'a IdRange,
    /// A directory on disk in which the root is made, instead of memory.
    pub scratch: Option<&'a Path>,
    /// Set from elsewhere to end the stage.
    pub cancel: &'a AtomicBool,
}

/// Why there is no layer.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Something in the worker: a package, a script, the tree.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The worker did not start, or died.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The scratch directory cannot be made.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer cannot be used.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A package that was to be in the store is not.
    #[error("package `{package}` cannot be opened in the store: {source}")]
    Deb {
        /// The package.
        package: String,
        /// Why.
        source: io::Error,
    },
    /// Talking to the worker failed.
    #[error("cannot {action} for a stage: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
}

fn cannot<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> StageError {
    move |source| StageError::Io { action, source: source.into() }
}

/// Makes the layer of `stage`, or opens it when the store has it already. The .debs and the layer below have to be in
/// the store.
///
/// Raises this process's limit of open files, since each package needs one.
///
/// # Errors
/// See [`StageError`]. Nothing is left behind then.
pub fn build(stage: &Stage<'_>, store: &Store, reporter: &dyn Reporter) -> Result<Layer, StageError> {
    drop(build_all(std::slice::from_ref(stage), store, reporter, &mut |_| ())?);
    Ok(Layer::open(store, stage.job.key())?)
}

/// Makes the layers of `stages`, each on the one before, as far as the store has them not; as [`build`] does one. They
/// share all but job and subject, which are the first's.
///
/// One worker makes them all on the same root: nothing is restored in between, and packages of later layers are unpacked
/// while scripts of earlier ones run. `on_news` hears of each layer. Whoever has more to do does that before dropping what this
/// gives.
///
/// # Errors
/// See [`StageError`]. The layers that were finished stay; nothing else is left behind then.
pub fn build_all(
    stages: &[Stage<'_>],
    store: &Store,
    reporter: &dyn Reporter,
    on_news: &mut dyn FnMut(News),
) -> Result<Leaving, StageError> {
    // From the top, as everywhere: then no two processes wait for each other.
    let guards = stages.iter().rev().map(|stage| shared::turn(stage, store, reporter));
    let mut guards = guards.collect::<Result<Vec<Guard>, _>>()?;
    let mut there = 0;
    for stage in stages {
        match Layer::open(store, stage.job.key()) {
            Err(LayerError::Missing(_)) => break,
            opened => drop(opened?),
        }
        guards.pop();
        on_news(News::Made(there));
        there += 1;
    }
    let Some(first) = stages.get(there) else { return Ok(Leaving::default()) };
    let parent = first.job.parent.map(|key| Layer::open(store, key)).transpose()?;
    let mut making = Making {
        stages: &stages[there..],
        store,
        guards,
        pending: Vec::new(),
        packs: Vec::new(),
        foreseen: Vec::new(),
        done: 0,
    };
    let (worker, events, scratch) = making.start(parent.as_ref(), reporter)?;
    let mut overs: Vec<_> =
        making.stages.iter().rev().map(|stage| Over { reporter, subject: stage.subject }).collect();
    let last = making.stages.len() - 1;
    let ended = attend(worker, events, first.cancel, reporter, &mut |step| {
        match step {
            // The last waits until nothing of the scratch directory is left: the next build need not look for it then.
            Step::Made(number) if number < last => {
                overs.pop();
                making.finish(number)?;
                on_news(News::Made(there + number));
            }
            Step::Made(_) => {}
            Step::Foreseen(number) => {
                if let Some(foreseen) = making.foreseen.get_mut(number).and_then(Option::take) {
                    on_news(News::Foreseen(foreseen));
                }
            }
        }
        Ok(())
    });
    drop(overs);
    if let Err(StageError::Failed(failure)) = &ended {
        let parent = parent.as_ref().filter(|_| making.done == 0);
        stages.iter().for_each(|stage| shared::note_damage(failure, stage.job, parent, store));
    }
    // Who has a scratch directory waits for the worker, so that nobody uses it any more.
    let (ended, leaving) = match ended {
        Ok(worker) if scratch.is_some() => (worker.wait().map_err(StageError::from), Leaving::default()),
        Ok(worker) => (Ok(()), Leaving::of(worker)),
        Err(error) => (Err(error), Leaving::default()),
    };
    let mut warn = |error: ScratchError| reporter.report(Event::Warning(error.to_string()));
    if let Some(Err(error)) = scratch.map(|scratch| scratch.end(&cleaner(first), &mut warn)) {
        warn(error);
    }
    ended?;
    making.finish(last)?;
    on_news(News::Made(there + last));
    Ok(leaving)
}

/// What there is to say of layers before all are made.
#[derive(Debug)]
pub enum News {
    /// The packages of one are unpacked; only scripts are still to run.
    Foreseen(Foreseen),
    /// The store has the one with this number.
    Made(usize),
}

/// A layer as it will be but for what scripts still change.
#[derive(Debug)]
pub struct Foreseen {
    store: Store,
    key: Sha256,
    files: LayerFiles,
}

impl Foreseen {
    /// Reads it.
    ///
    /// # Errors
    /// See [`LayerError`].
    pub fn open(self) -> Result<Layer, LayerError> {
        Layer::foreseen(&self.store, self.key, self.files)
    }
}

/// What the worker has done for a layer, by its number.
enum Step {
    Foreseen(usize),
    Made(usize),
}

/// A worker that has done all and is being taken down, and the memory of its root with it: tenths of a second in which
/// others can go on. Waits for that when it is dropped.
#[derive(Debug, Default)]
#[must_use = "dropping it waits"]
pub struct Leaving(Option<std::thread::JoinHandle<()>>);

impl Leaving {
    fn of(worker: Worker) -> Self {
        // Where no thread can be had, the worker is dropped here, which ends and awaits it.
        let name = std::thread::Builder::new().name("leaving".to_owned());
        // What it was to do is done and checked: how it ends does not matter any more.
        Self(name.spawn(move || drop(worker.wait())).ok())
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

/// Layers in the making by one worker.
struct Making<'a> {
    stages: &'a [Stage<'a>],
    store: &'a Store,
    /// The first stage's is the last. Each is given up with its layer.
    guards: Vec<Guard>,
    /// Where the layers are written; the first's is the last.
    pending: Vec<TemporaryDirectory>,
    /// The pack of each, the first's first.
    packs: Vec<File>,
    /// What is foreseen of each, the first's first.
    foreseen: Vec<Option<Foreseen>>,
    /// How many are in the store.
    done: usize,
}

type Started = (Worker, File, Option<Scratch>);

impl Making<'_> {
    /// Starts the worker and gives it all that it needs.
    fn start(&mut self, parent: Option<&Layer>, reporter: &dyn Reporter) -> Result<Started, StageError> {
        raise_file_limit();
        let first = &self.stages[0];
        let (events, told) = pipe_with(PipeFlags::CLOEXEC).map_err(cannot("make a pipe"))?;
        let task = |stage: &Stage<'_>| Task { job: stage.job.clone(), subject: stage.subject.to_owned() };
        let orders = Orders {
            tasks: self.stages.iter().map(task).collect(),
            below: parent.map_or(0, |layer| layer.files().count()),
            limits: first.limits.clone(),
            one_processor: processors_are_alike(),
            scratch: first.scratch.is_some(),
        };
        let mut files = vec![in_memory(&orders)?, File::from(told)];
        for stage in self.stages {
            files.extend(open_debs(stage.job, self.store)?);
        }
        for stage in self.stages {
            let pending = self.store.create_directory()?;
            for name in [PACK, INDEX] {
                let mut options = File::options();
                let file = options.read(true).write(true).create_new(true).open(pending.path().join(name));
                files.push(file.map_err(cannot("make a file of the layer"))?);
            }
            let pack = || files[files.len() - 2].try_clone().map_err(cannot("open the pack"));
            self.packs.push(pack()?);
            let pack = pack()?;
            let index = memory_file()?;
            files.push(index.try_clone().map_err(cannot("make a file in memory"))?);
            let (store, files) = (self.store.clone(), LayerFiles { index, pack });
            self.foreseen.push(Some(Foreseen { store, key: stage.job.key(), files }));
            self.pending.insert(0, pending);
        }
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(cannot("make a socket"))?;
        let mut warn = |error: ScratchError| reporter.report(Event::Warning(error.to_string()));
        let scratch =
            first.scratch.map(|parent| Scratch::create(parent, &cleaner(first), &mut warn)).transpose()?;
        let started = start(first, theirs, scratch.as_ref()).map_err(StageError::from).and_then(|worker| {
            let below = parent.iter().flat_map(|layer| layer.files());
            let below = below.flat_map(|LayerFiles { index, pack }| [index.as_fd(), pack.as_fd()]);
            let all: Vec<BorrowedFd<'_>> = files.iter().map(File::as_fd).chain(below).collect();
            match descriptors::send(&ours, &all) {
                // A worker that failed early is gone; what it said is read next.
                Ok(()) | Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => Ok(worker),
                Err(error) => Err(cannot("hand files to the worker")(error)),
            }
        });
        match started {
            // Only the worker holds the writing end of its events now: `files` is dropped.
            Ok(worker) => Ok((worker, events.into(), scratch)),
            Err(error) => {
                if let Some(Err(error)) = scratch.map(|scratch| scratch.remove(&cleaner(first))) {
                    warn(error);
                }
                Err(error)
            }
        }
    }

    /// Puts the layer of stage `number`, which is the next, into the store.
    fn finish(&mut self, number: usize) -> Result<(), StageError> {
        let (Some(pending), true) = (self.pending.pop(), number == self.done) else {
            let reason = format!("it says that layer {number} is complete, which is not its turn");
            return Err(Failure::Worker { reason }.into());
        };
        let key = self.stages[number].job.key();
        self.store.commit_directory(pending, Kind::Layer, key)?;
        self.store.wrote_layer(key, &self.packs[number]);
        self.done += 1;
        self.guards.pop();
        Ok(())
    }
}

fn cleaner<'a>(stage: &Stage<'a>) -> Cleaner<'a> {
    Cleaner { exe: stage.executable, args: &[WORKER_ARGUMENT], range: stage.range }
}

fn start(stage: &Stage<'_>, socket: OwnedFd, scratch: Option<&Scratch>) -> Result<Worker, WorkerError> {
    let (arguments, files) = ([WORKER_ARGUMENT], vec![socket]);
    match scratch {
        Some(scratch) => {
            Worker::spawn_with_scratch(stage.executable, &arguments, files, stage.range, scratch)
        }
        None => Worker::spawn(stage.executable, &arguments, files, stage.range),
    }
}

/// Listens to the worker until it has done all; it is brought to its end when the stage is cancelled.
fn attend(
    worker: Worker,
    events: File,
    cancel: &AtomicBool,
    reporter: &dyn Reporter,
    on_step: &mut dyn FnMut(Step) -> Result<(), StageError>,
) -> Result<Worker, StageError> {
    if listen(events, cancel, reporter, on_step)?.is_some() {
        return Ok(worker);
    }
    worker.wait()?;
    // It said neither that it is done nor why it failed.
    Err(Failure::Worker { reason: "it ended without a result".to_owned() }.into())
}

/// An empty file without a name.
fn memory_file() -> Result<File, StageError> {
    let file = rustix::fs::memfd_create("stage", rustix::fs::MemfdFlags::CLOEXEC);
    Ok(file.map_err(cannot("make a file in memory"))?.into())
}

/// A file without a name that holds `value` for the worker.
fn in_memory(value: &impl serde::Serialize) -> Result<File, StageError> {
    let mut file = memory_file()?;
    let text = serde_json::to_vec(value).map_err(cannot("write the worker's orders"))?;
    file.write_all(&text).and_then(|()| file.rewind()).map_err(cannot("write the worker's orders"))?;
    Ok(file)
}

fn open_debs(job: &StageJob, store: &Store) -> Result<Vec<File>, StageError> {
    let open = |package: &super::StagePackage| {
        let path = store.path(Kind::Deb, package.sha256);
        File::open(path).map_err(|source| StageError::Deb { package: package.name.clone(), source })
    };
    job.packages.iter().map(open).collect()
}

fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // When it cannot be raised, opening one file too many says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Passes on what the worker says, until it says how it ended; nothing when it ended without a word.
fn listen(
    mut events: File,
    cancel: &AtomicBool,
    reporter: &dyn Reporter,
    on_step: &mut dyn FnMut(Step) -> Result<(), StageError>,
) -> Result<Option<()>, StageError> {
    let mut waiting: Vec<u8> = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        if cancel.load(Ordering::Relaxed) {
            return Err(StageError::Cancelled);
        }
        let mut ready = [PollFd::new(&events, PollFlags::IN)];
        match poll(&mut ready, Some(&LOOK_EVERY)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(cannot("listen to the worker")(error)),
        }
        let read = events.read(&mut buffer).map_err(cannot("listen to the worker"))?;
        if read == 0 {
            return Ok(None);
        }
        waiting.extend_from_slice(&buffer[..read]);
        let Some(end) = waiting.iter().rposition(|byte| *byte == b'\n') else {
            if waiting.len() > MAX_LINE {
                return Err(cannot("listen to the worker")(io::Error::from(io::ErrorKind::FileTooLarge)));
            }
            continue;
        };
        let rest = waiting.split_off(end + 1);
        for line in waiting.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line).map_err(cannot("understand the worker"))? {
                Message::Event(event) => reporter.report(event),
                Message::Foreseen(number) => on_step(Step::Foreseen(number))?,
                Message::Layer(number) => on_step(Step::Made(number))?,
                Message::Failed(failure) => return Err(failure.into()),
                Message::Done => return Ok(Some(())),
            }
        }
        waiting = rest;
    }
}
