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
use super::job::{Limits, Message, Orders, Parent, StageJob};
use super::{descriptors, shared};
use crate::layer::{Layer, LayerError};
use crate::progress::{Event, Over, Reporter};
use crate::sandbox::{Cleaner, IdRange, Scratch, ScratchError, Worker, WorkerError};
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
    Preparing::start(stage, store, reporter)?.finish()
}

/// A stage that has begun: its packages are checked and unpacked in memory, at low priority, while the layer below may
/// still be in the making.
pub struct Preparing<'a> {
    stage: &'a Stage<'a>,
    store: &'a Store,
    reporter: &'a dyn Reporter,
    state: State,
    // Last, so that it is given up when everything else is gone.
    _guard: Guard,
}

enum State {
    /// The store has the layer.
    There(Layer),
    Started {
        // The order in which they are dropped: the worker uses the rest.
        worker: Worker,
        socket: OwnedFd,
        events: File,
        pending: TemporaryDirectory,
        scratch: Option<Scratch>,
    },
}

impl<'a> Preparing<'a> {
    /// Starts the worker of `stage` and gives it the packages; the .debs have to be in the store. Waits while another
    /// process makes the same layer.
    ///
    /// Whoever prepares several layers prepares the upper ones first: then no two processes wait for each other.
    ///
    /// # Errors
    /// See [`StageError`].
    pub fn start(
        stage: &'a Stage<'a>,
        store: &'a Store,
        reporter: &'a dyn Reporter,
    ) -> Result<Self, StageError> {
        let key = stage.job.key();
        let guard = shared::turn(stage, store, reporter)?;
        let state = match Layer::open(store, key) {
            Err(LayerError::Missing(_)) => start_worker(stage, store, reporter)?,
            opened => State::There(opened?),
        };
        Ok(Self { stage, store, reporter, state, _guard: guard })
    }

    /// Makes the layer, on the one below, which has to be in the store now.
    ///
    /// # Errors
    /// See [`StageError`]. Nothing is left behind then.
    pub fn finish(self) -> Result<Layer, StageError> {
        let Self { stage, store, reporter, state, _guard } = self;
        let (worker, socket, events, pending, scratch) = match state {
            State::There(layer) => return Ok(layer),
            State::Started { worker, socket, events, pending, scratch } => {
                (worker, socket, events, pending, scratch)
            }
        };
        let over = Over { reporter, subject: stage.subject };
        let parent = stage.job.parent.map(|key| Layer::open(store, key)).transpose();
        let ended = match &parent {
            Ok(parent) => go_on(parent.as_ref(), &socket, &pending).and_then(|()| {
                drop(socket);
                attend(worker, events, stage.cancel, reporter)
            }),
            Err(_) => {
                drop(worker);
                Ok(())
            }
        };
        drop(over);
        if let (Err(StageError::Failed(failure)), Ok(parent)) = (&ended, &parent) {
            shared::note_damage(failure, stage.job, parent.as_ref(), store);
        }
        // The worker is gone by now, so nobody uses the scratch directory.
        if let Some(Err(error)) = scratch.map(|scratch| scratch.remove(&cleaner(stage))) {
            reporter.report(Event::Warning(error.to_string()));
        }
        parent?;
        ended?;
        let key = stage.job.key();
        store.commit_directory(pending, Kind::Layer, key)?;
        Ok(Layer::open(store, key)?)
    }
}

fn cleaner<'a>(stage: &Stage<'a>) -> Cleaner<'a> {
    Cleaner { exe: stage.executable, args: &[WORKER_ARGUMENT], range: stage.range }
}

fn start_worker(stage: &Stage<'_>, store: &Store, reporter: &dyn Reporter) -> Result<State, StageError> {
    raise_file_limit();
    let pending = store.create_directory()?;
    let (events, told) = pipe_with(PipeFlags::CLOEXEC).map_err(cannot("make a pipe"))?;
    let orders = Orders {
        job: stage.job.clone(),
        limits: stage.limits.clone(),
        subject: stage.subject.to_owned(),
        scratch: stage.scratch.is_some(),
    };
    let mut files = vec![in_memory(&orders)?, File::from(told)];
    files.extend(open_debs(stage.job, store)?);
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(cannot("make a socket"))?;
    let mut warn = |error: ScratchError| reporter.report(Event::Warning(error.to_string()));
    let scratch =
        stage.scratch.map(|parent| Scratch::create(parent, &cleaner(stage), &mut warn)).transpose()?;
    let started = start(stage, theirs, scratch.as_ref()).map_err(StageError::from).and_then(|worker| {
        let all: Vec<BorrowedFd<'_>> = files.iter().map(File::as_fd).collect();
        descriptors::send(&ours, &all).map_err(cannot("hand files to the worker"))?;
        Ok(worker)
    });
    match started {
        // Only the worker holds the writing end of its events now: `files` is dropped.
        Ok(worker) => Ok(State::Started { worker, socket: ours, events: events.into(), pending, scratch }),
        Err(error) => {
            if let Some(Err(error)) = scratch.map(|scratch| scratch.remove(&cleaner(stage))) {
                warn(error);
            }
            Err(error)
        }
    }
}

/// Gives the worker the layer below and the files of its result.
fn go_on(parent: Option<&Layer>, socket: &OwnedFd, pending: &TemporaryDirectory) -> Result<(), StageError> {
    let below = parent.map(|layer| Parent {
        tree: layer.tree.clone(),
        packs: layer.packs().map(|(offsets, _)| offsets.clone()).collect(),
    });
    let mut files = vec![in_memory(&below)?];
    for name in ["pack", "layer.json"] {
        files.push(File::create(pending.path().join(name)).map_err(cannot("make a file of the layer"))?);
    }
    let mut all: Vec<BorrowedFd<'_>> = files.iter().map(File::as_fd).collect();
    all.extend(parent.iter().flat_map(|layer| layer.packs()).map(|(_, file)| file.as_fd()));
    match descriptors::send(socket, &all) {
        // A worker that failed early is gone; what it said is read next.
        Ok(()) | Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => Ok(()),
        Err(error) => Err(cannot("hand files to the worker")(error)),
    }
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

/// Listens to the worker until its end, which it is brought to when the stage is cancelled.
fn attend(
    worker: Worker,
    events: File,
    cancel: &AtomicBool,
    reporter: &dyn Reporter,
) -> Result<(), StageError> {
    let said = listen(events, cancel, reporter)?;
    worker.wait()?;
    // Otherwise it said neither that it is done nor why it failed.
    let reason = "it ended without a result".to_owned();
    said.ok_or(StageError::Failed(Failure::Worker { reason }))
}

/// A file without a name that holds `value` for the worker.
fn in_memory(value: &impl serde::Serialize) -> Result<File, StageError> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let file = rustix::fs::memfd_create("stage-orders", flags).map_err(cannot("make a file in memory"))?;
    let mut file = File::from(file);
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
fn listen(mut events: File, cancel: &AtomicBool, reporter: &dyn Reporter) -> Result<Option<()>, StageError> {
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
                Message::Failed(failure) => return Err(failure.into()),
                Message::Done => return Ok(Some(())),
            }
        }
        waiting = rest;
    }
}
