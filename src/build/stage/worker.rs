//! The worker process: everything that happens inside the sandbox.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::builtin::Offer;
use super::decompress::feed;
use super::descriptors;
use super::failure::Failure;
use super::install::{Order, install};
use super::job::{Message, Orders, Parent};
use super::package::load_all;
use super::place::Placed;
use super::read_back::read_back;
use super::restore::{Packs, restore};
use super::root::Root;
use super::scripts::{Command, Ended, Scripts, environment};
use crate::layer::{FORMAT, LayerIndex, PackWriter};
use crate::progress::{Event, Unit};
use crate::sandbox::{
    self, Calls, Connection, Inside, Job, JobError, Medium, RELAY_DIRECTORY, Relay, Reply, RootDir,
};

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
    let events = RefCell::new(events);
    let say = |message: &Message| {
        if let Ok(mut line) = serde_json::to_vec(message) {
            line.push(b'\n');
            // When nobody listens any more, the sandbox ends this process.
            let _ = events.borrow_mut().write_all(&line);
        }
    };
    let result = serde_json::from_reader::<_, Orders>(BufReader::new(orders))
        .map_err(|error| Failure::Worker { reason: format!("cannot read its orders: {error}") })
        .and_then(|orders| {
            work(&mut inside, &orders, files.collect(), &socket, &|event| say(&Message::Event(event)))
        });
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
    debs: Vec<File>,
    socket: &OwnedFd,
    say: &dyn Fn(Event),
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
    let stage = |action: &str, total: usize| {
        say(Event::Stage {
            subject: orders.subject.clone(),
            action: action.to_owned(),
            total: total as u64,
            unit: Unit::Packages,
        });
    };
    let relay =
        orders.limits.builtins.then(|| inside.relay()).transpose().map_err(|error| sandbox(&error))?;
    let mut scripts = InSandbox { directory: &directory, epoch: orders.job.epoch, root: &root, relay };

    let packages = load_all(&orders.job.packages, debs)?;
    let order = Order::of(&orders.job, &packages);
    // All but the layer below is here, so its packages can be unpacked ahead; other threads go first as long as that one
    // is in the making.
    let ahead = orders.job.parent.is_some();
    let debs: Vec<_> = order.all().map(|package| &package.deb).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (placed, files) = feed(&debs, (threads, ahead), orders.limits.buffer_bytes, |feed| {
        let mut files = descriptors::receive(socket).map_err(|error| sandbox(&error))?.into_iter();
        let missing = || Failure::Worker { reason: "a descriptor is missing".into() };
        let mut next = || files.next().map(File::from).ok_or_else(missing);
        let below: Option<Parent> = serde_json::from_reader(BufReader::new(next()?))
            .map_err(|error| Failure::Worker { reason: format!("cannot read its orders: {error}") })?;
        let (pack, index) = (next()?, next()?);
        let mut placed = Placed::default();
        let mut contents = BTreeSet::new();
        if let Some(Parent { tree, packs }) = below {
            stage("restoring the layer below", 0);
            let packs = packs.into_iter().map(|offsets| Ok((offsets, next()?)));
            let packs = packs.collect::<Result<Vec<_>, Failure>>()?;
            contents.extend(packs.iter().flat_map(|(offsets, _)| offsets.keys().copied()));
            placed = restore(&root, &tree, &Packs { packs })?;
        }
        install(&root, &mut scripts, orders, &packages, &order, feed, &mut placed, say)?;
        Ok::<_, Failure>((placed, (pack, index, contents)))
    })?;

    stage("reading the tree back", 0);
    let (pack, index, contents) = files;
    let (tree, offsets) = read_back(&root, &placed, orders.job.epoch, PackWriter::new(pack, contents))?;
    let layer = LayerIndex { format: FORMAT, parent: orders.job.parent, tree, offsets };
    layer
        .write(index)
        .map_err(|error| Failure::Worker { reason: format!("cannot write the layer's index: {error}") })
}

/// Programs of the image, each in the sandbox.
struct InSandbox<'a> {
    directory: &'a RootDir,
    epoch: i64,
    root: &'a Root,
    relay: Option<Relay>,
}

impl Scripts for InSandbox<'_> {
    fn run(&mut self, command: &Command, on_line: &mut dyn FnMut(&str)) -> Result<Ended, Failure> {
        let offer = match &self.relay {
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
            calls,
            ..Job::default()
        };
        match self.directory.run(&job, on_line) {
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
