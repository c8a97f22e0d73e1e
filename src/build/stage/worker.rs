//! The worker process: everything that happens inside the sandbox.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::builtin::Offer;
use super::decompress::{Ahead, feed};
use super::descriptors;
use super::failure::Failure;
use super::gather::Gatherer;
use super::install::{Order, install};
use super::job::{Message, Orders, Task};
use super::known::{Known, Watch};
use super::package::load_all;
use super::packing::Packing;
use super::place::Placed;
use super::restore::{Packs, restore};
use super::root::Root;
use super::scripts::{Command, Ended, Scripts, environment};
use super::settle::settle;
use crate::layer::{LayerHead, LayerIndex, PackWriter};
use crate::sandbox::{
    self, Calls, Connection, Inside, Job, JobError, Medium, RELAY_DIRECTORY, Relay, Reply, RootDir,
};
use crate::tree::Tree;

/// Bytes of a file or directory that tmpfs needs at least; bounds how many there may be.
const BYTES_PER_FILE: u64 = 4096;

/// Bytes that scripts have to leave free on the disk of a scratch directory.
const KEEP_FREE: u64 = 256 << 20;

/// Runs a stage in this process, which [`build`](super::build) has started. Gives the exit status.
pub fn worker_main() -> i32 {
    // A worker that cannot enter has told the process that started it.
    let Ok(mut inside) = sandbox::enter() else { return 1 };
    let Some(socket) = inside.take_descriptors().into_iter().next() else { return 1 };
    let Ok(descriptors) = descriptors::receive(&socket) else { return 1 };
    let mut files = descriptors.into_iter().map(File::from);
    let (Some(orders), Some(events)) = (files.next(), files.next()) else { return 1 };
    let events = Mutex::new(events);
    let say = |message: &Message| {
        if let Ok(mut line) = serde_json::to_vec(message) {
            line.push(b'\n');
            // When nobody listens any more, the sandbox ends this process.
            let _ = events.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
        }
    };
    let result = serde_json::from_reader::<_, Orders>(BufReader::new(orders))
        .map_err(|error| Failure::Worker { reason: format!("cannot read its orders: {error}") })
        .and_then(|orders| work(&mut inside, &orders, &mut files, &say));
    match result {
        Ok(()) => {
            say(&Message::Done);
            0
        }
        Err(failure) => {
            say(&Message::Failed(failure));
            0
        }
    }
}

fn work(
    inside: &mut Inside,
    orders: &Orders,
    files: &mut dyn Iterator<Item = File>,
    say: &(dyn Fn(&Message) + Sync),
) -> Result<(), Failure> {
    let bytes = orders.limits.root_bytes;
    let medium = match orders.scratch {
        true => Medium::Scratch { keep_free: KEEP_FREE },
        false => Medium::Memory { bytes, files: bytes / BYTES_PER_FILE },
    };
    let sandbox = |error: &dyn std::fmt::Display| Failure::Sandbox { reason: error.to_string() };
    let directory = inside.mount_root(medium).map_err(|error| sandbox(&error))?;
    let descriptor: OwnedFd = directory.descriptor().try_clone_to_owned().map_err(|error| sandbox(&error))?;
    let root = Root::new(descriptor)?;
    let relay =
        orders.limits.builtins.then(|| inside.relay()).transpose().map_err(|error| sandbox(&error))?;

    let debs = |task: &Task| load_all(&task.job.packages, files.take(task.job.packages.len()).collect());
    let packages = orders.tasks.iter().map(debs).collect::<Result<Vec<_>, _>>()?;
    let order: Vec<_> =
        orders.tasks.iter().zip(&packages).map(|(task, packages)| Order::of(&task.job, packages)).collect();
    let all: Vec<_> = order.iter().flat_map(Order::all).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let sizes = order.iter().flat_map(Order::groups);
    let groups: Vec<_> = sizes.scan(0, |end, size| Some(*end + size).inspect(|new| *end = *new)).collect();
    let place = root.fd().try_clone().map_err(|error| sandbox(&error))?;
    // As many again are for packages, layers and directories.
    let most = getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most / 2).ok());
    let ahead = Ahead { bytes: orders.limits.buffer_bytes, files: most.unwrap_or(usize::MAX) };
    std::thread::scope(|scope| {
        feed(&all, place.as_fd(), (threads, &groups), ahead, |feed| {
            let results = orders.tasks.iter().map(|_| Results::next(files)).collect::<Result<Vec<_>, _>>()?;
            let mut known = Known::new(directory.path());
            let mut placed = Placed::default();
            let mut contents: Arc<BTreeSet<_>> = Arc::default();
            if let (1.., Some(first)) = (orders.below, orders.tasks.first()) {
                say(&first.stage("restoring the layer below"));
                let (tree, packs) = below(orders.below, files)?;
                Arc::make_mut(&mut contents)
                    .extend(packs.packs.iter().flat_map(|(offsets, _)| offsets.keys().copied()));
                placed = restore(&root, &mut known, &tree, &packs)?;
                known.wait();
            }
            for (number, ((task, packages), results)) in
                orders.tasks.iter().zip(&packages).zip(results).enumerate()
            {
                let (epoch, parent) = (task.job.epoch, task.job.parent);
                let watch = known.watch();
                let relay = relay.as_ref();
                let one_processor = orders.one_processor;
                let mut scripts =
                    InSandbox { directory: &directory, epoch, root: &root, relay, one_processor, watch };
                let on_event = |event| say(&Message::Event(event));
                let limits = &orders.limits;
                let foresee = |tree: Tree, packed| {
                    scope.spawn(move || {
                        // Whoever waits for it does without.
                        if LayerIndex::new(parent, tree, packed).write(results.foreseen).is_ok() {
                            say(&Message::Foreseen(number));
                        }
                    });
                };
                let mut gatherer = Gatherer {
                    root: &root,
                    known: &mut known,
                    pack: Packing::new(PackWriter::new(results.pack, Arc::clone(&contents))),
                    epoch,
                    foresee: Some(foresee),
                };
                install(
                    &root,
                    &mut scripts,
                    (task, limits),
                    packages,
                    &order[number],
                    feed,
                    &mut placed,
                    &on_event,
                    &mut gatherer,
                )?;
                say(&task.stage("reading the tree back"));
                let (read, packed) = gatherer.finish(&placed)?;
                if number + 1 < orders.tasks.len() {
                    Arc::make_mut(&mut contents).extend(packed.keys().map(|content| content.sha256));
                    placed = settle(&root, &mut known, &read)?;
                    known.wait();
                }
                let written = LayerIndex::new(parent, read.tree, packed).write(results.index);
                written.map_err(|error| Failure::Worker {
                    reason: format!("cannot write the layer's index: {error}"),
                })?;
                say(&Message::Layer(number));
            }
            Ok(())
        })
    })
}

/// The files that one layer is written to.
struct Results {
    pack: File,
    index: File,
    foreseen: File,
}

impl Results {
    fn next(files: &mut dyn Iterator<Item = File>) -> Result<Self, Failure> {
        Ok(Self { pack: next(files)?, index: next(files)?, foreseen: next(files)? })
    }
}

fn next(files: &mut dyn Iterator<Item = File>) -> Result<File, Failure> {
    files.next().ok_or_else(|| Failure::Worker { reason: "a descriptor is missing".into() })
}

/// The layers below: the tree of the topmost, and all packs.
fn below(count: usize, files: &mut dyn Iterator<Item = File>) -> Result<(Tree, Packs), Failure> {
    // The build has read them just before.
    let unusable = |error| Failure::Worker { reason: format!("cannot read a layer's index: {error:?}") };
    let LayerIndex { head, tree } = LayerIndex::read(&next(files)?).map_err(unusable)?;
    let mut packs = vec![(head.offsets, next(files)?)];
    for _ in 1..count {
        let head = LayerHead::read(&next(files)?).map_err(unusable)?;
        packs.push((head.offsets, next(files)?));
    }
    Ok((tree, Packs { packs }))
}

/// Programs of the image, each in the sandbox.
struct InSandbox<'a> {
    directory: &'a RootDir,
    epoch: i64,
    root: &'a Root,
    relay: Option<&'a Relay>,
    one_processor: bool,
    watch: Rc<Watch>,
}

impl Scripts for InSandbox<'_> {
    fn run(&mut self, command: &Command, on_line: &mut dyn FnMut(&str)) -> Result<Ended, Failure> {
        let offer = match self.relay {
            Some(relay) => {
                let offer = Offer::look(self.root)?;
                relay.offer(offer.names()).map_err(|error| Failure::Sandbox { reason: error.to_string() })?;
                Some((relay, offer))
            }
            None => None,
        };
        let answer = |request, connection: &mut Connection| match &offer {
            Some((_, offer)) => offer.answer(request, connection),
            None => Reply::Exit(127),
        };
        let calls =
            offer.as_ref().map(|(relay, offer)| Calls { relay, covered: offer.covered(), answer: &answer });
        let mut variables = environment(self.epoch, calls.map(|_| RELAY_DIRECTORY));
        variables.extend(command.variables.iter().cloned());
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let arguments: Vec<_> = command.arguments.iter().map(String::as_str).collect();
        let job = Job {
            program: &command.program,
            args: &arguments,
            env: &variables,
            timeout: Duration::from_secs(command.seconds),
            one_processor: self.one_processor,
            calls,
            ..Job::default()
        };
        let mut on_line = |line: &str| {
            self.watch.hear();
            on_line(line);
        };
        match self.directory.run(&job, &mut on_line) {
            Ok(outcome) if outcome.success() => Ok(Ended { failed: None, tail: outcome.tail, left_by: None }),
            Ok(outcome) => {
                let failed = Some(match outcome.status {
                    sandbox::Status::Exited(_) => format!("returned {}", outcome.status),
                    sandbox::Status::Killed(_) => format!("was killed by {}", outcome.status),
                });
                Ok(Ended { failed, tail: outcome.tail, left_by: None })
            }
            Err(error @ JobError::Setup { .. }) => Err(Failure::Sandbox { reason: error.to_string() }),
            Err(error) => {
                let failed = match &error {
                    JobError::TimedOut { seconds, .. } => format!("did not end within {seconds} s"),
                    JobError::Memory { limit, .. } => format!("used more than {limit} bytes of memory"),
                    JobError::Output { limit, .. } => format!("wrote more than {limit} bytes"),
                    JobError::Disk { limit, .. } => format!("left less than {limit} bytes free on the disk"),
                    JobError::LeftBehind { left, .. } => {
                        let commands: Vec<_> = left.iter().map(|process| process.command.as_str()).collect();
                        format!("left a process running: {}", commands.join(", "))
                    }
                    JobError::Setup { .. } => "could not be started".into(),
                };
                let left_by = match &error {
                    JobError::LeftBehind { left, .. } => left.iter().find_map(started_by),
                    _ => None,
                };
                Ok(Ended { failed: Some(failed), tail: error.tail().to_vec(), left_by })
            }
        }
    }
}

/// The package and the script in which a process was started, as dpkg tells scripts.
fn started_by(process: &sandbox::LeftProcess) -> Option<(String, String)> {
    let variable = |name| Some(process.variable(name)?.to_owned());
    Some((variable("DPKG_MAINTSCRIPT_PACKAGE")?, variable("DPKG_MAINTSCRIPT_NAME")?))
}
