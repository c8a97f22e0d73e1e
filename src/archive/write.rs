//! From members to the finished file: frames made by several threads, written in order.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::Parameters;
use super::frame::{self, Frame};
use super::layout::{self, Part};
use super::member::{self, Head, Member, MemberError};
use super::running::{self, RunningHash};
use super::table::{FORMAT, FrameInfo, FrameTable};
use crate::digest::{HashingWriter, Sha256};
use crate::priority::give_way;
use crate::progress::{Event, Over, Reporter, Unit};
use crate::store::{Kind, Store, StoreError};
use crate::tree::{Contents, Tree};

/// Bytes of tar that may be in memory at once, unless a single frame is larger.
const MAX_IN_FLIGHT: u64 = 64 << 20;
/// The state of the tar's hash is kept after every so many frames.
const STATE_EVERY: usize = 4;
/// The two blocks that end a tar archive.
const END: [u8; 1024] = [0; 1024];

/// What goes into an archive.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The root file system.
    pub tree: &'a Tree,
    /// The bytes behind it.
    pub contents: &'a dyn Contents,
    /// Members that go first; `./etc/vzdump/pct.conf` is the first of all.
    pub head: &'a [Head],
    /// Time of those and of the root directory, in seconds since 1970.
    pub mtime: i64,
    /// The layer that brings each package, counted from the lowest. What belongs to lower layers goes first, in frames
    /// of its own, so that images on the same layers have these frames in common.
    pub layers: &'a BTreeMap<String, usize>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Hash of the file.
    pub sha256: Sha256,
    /// Bytes of the file.
    pub size: u64,
    /// Its frames, and the hash of the uncompressed tar.
    pub table: FrameTable,
    /// The names of its frames in the store, in order; the end frame has none.
    pub keys: Vec<Sha256>,
    /// How many frames were compressed now and not taken from the store.
    pub compressed: usize,
}

/// An archive could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The tree has an entry that Proxmox could not restore.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// zstd or Proxmox does not take the parameters.
    #[error("{what} is {found}, expected {expected}")]
    Parameter {
        /// Which.
        what: &'static str,
        /// What is possible.
        expected: &'static str,
        /// What was given.
        found: i64,
    },
    /// Contents of the tree could not be read.
    #[error("cannot read the contents of the image: {0}")]
    Contents(io::Error),
    /// zstd failed.
    #[error("cannot compress a frame: {0}")]
    Compress(io::Error),
    /// The store could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file could not be written.
    #[error("cannot write the archive: {0}")]
    Write(io::Error),
}

/// Writes the archive of `source` to `out` with `threads` threads; the bytes do not depend on their number.
///
/// Frames that `store` has are copied, unless they are damaged; new ones are kept there. `subject` names the archive
/// in the events that `reporter` gets.
///
/// # Errors
/// See [`ArchiveError`].
pub fn write(
    source: &Source<'_>,
    store: &Store,
    parameters: &Parameters,
    threads: usize,
    (subject, reporter): (&str, &dyn Reporter),
    out: impl Write,
) -> Result<Summary, ArchiveError> {
    check(parameters)?;
    let (members, parts) = arrange(source, parameters)?;
    let ranges: Vec<_> = parts.into_iter().map(|part| part.range).collect();
    let keys: Vec<_> = ranges.iter().map(|range| frame::key(&members[range.clone()], parameters)).collect();
    let chain = running::chain(&keys);
    // From the last kept state on, the tar's bytes are needed for its hash.
    let kept = (0..chain.len()).rev().find_map(|at| Some((at + 1, RunningHash::load(store, chain[at])?)));
    let (hash_from, hash) = kept.unwrap_or_default();

    let total = ranges.len() as u64;
    let action = "compressing frames".to_owned();
    reporter.report(Event::Stage { subject: subject.to_owned(), action, total, unit: Unit::Frames });
    let over = Over { reporter, subject };
    let work = Work { members: &members, ranges: &ranges, keys: &keys, source, store, parameters, hash_from };
    let queue = Queue::default();
    let mut writer = Writer { out: HashingWriter::new(out), hash, frames: Vec::new(), compressed: 0 };
    let written: Result<(), ArchiveError> = std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, ranges.len().max(1)) {
            scope.spawn(|| work.run(&queue));
        }
        // Whatever ends this, the workers must not wait for it.
        let _stop = Stop(&queue);
        for (index, chain) in chain.iter().enumerate() {
            let done = queue.take(index)?;
            writer.frame(&done)?;
            let is_last = index + 1 == ranges.len();
            if index >= hash_from && (is_last || (index + 1) % STATE_EVERY == 0) {
                writer.hash.keep(store, *chain)?;
            }
            queue.written(work.size(index));
            let (subject, item) = (subject.to_owned(), String::new());
            reporter.report(Event::Progress { subject, done: index as u64 + 1, item });
        }
        Ok(())
    });
    drop(over);
    written?;
    writer.finish(parameters, keys)
}

/// Compresses the frames of the packages of `source`'s layers that `store` has not, until `stop` is set, and keeps them
/// there for a later [`write`]. For the tree of a finished layer while the next one is made: as far as that one leaves
/// its files alone, their frames are those of the archive. Gives the names of what was compressed.
///
/// # Errors
/// See [`ArchiveError`].
pub fn warm(
    source: &Source<'_>,
    store: &Store,
    parameters: &Parameters,
    threads: usize,
    stop: &AtomicBool,
) -> Result<BTreeSet<Sha256>, ArchiveError> {
    check(parameters)?;
    let (members, parts) = arrange(source, parameters)?;
    let ranges = parts.into_iter().filter(|part| part.layer.is_some_and(|layer| layer != usize::MAX));
    let frames: Vec<_> = ranges
        .map(|part| (frame::key(&members[part.range.clone()], parameters), part.range))
        .filter(|(key, _)| !store.contains(Kind::Frame, key))
        .collect();
    let next = AtomicUsize::new(0);
    let made = Mutex::new(Ok(BTreeSet::new()));
    let work = || {
        while !stop.load(Ordering::Relaxed)
            && let Some((key, range)) = frames.get(next.fetch_add(1, Ordering::Relaxed))
        {
            let bytes = frame::assemble(&members[range.clone()], source.contents);
            let done = bytes.map_err(ArchiveError::Contents).and_then(|bytes| {
                let frame = frame::compress(&bytes, parameters).map_err(ArchiveError::Compress)?;
                Ok(frame::keep(store, *key, &frame)?)
            });
            let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
            match (done, made.as_mut()) {
                (Ok(()), Ok(made)) => drop(made.insert(*key)),
                (Err(error), Ok(_)) => {
                    *made = Err(error);
                    stop.store(true, Ordering::Relaxed);
                }
                (_, Err(_)) => {}
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, frames.len().max(1)) {
            scope.spawn(|| {
                give_way();
                work();
            });
        }
    });
    made.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The members of `source` in their order, and which of them make a frame.
fn arrange(source: &Source<'_>, parameters: &Parameters) -> Result<(Vec<Member>, Vec<Part>), ArchiveError> {
    let mut members = member::list(source.head, source.tree, source.mtime)?;
    let owners = layout::owners(source.tree, source.contents).map_err(ArchiveError::Contents)?;
    let parts = layout::arrange(&mut members, &owners, source.layers, source.head.len(), parameters);
    Ok((members, parts))
}

fn check(parameters: &Parameters) -> Result<(), ArchiveError> {
    let Parameters { level, window_log, max_frame, min_frame } = *parameters;
    let bounds = [
        ("the compression level", "1 to 22", i64::from(level), (1..=22).contains(&level)),
        ("the window's logarithm", "10 to 27", i64::from(window_log), (10..=27).contains(&window_log)),
        (
            "the largest frame",
            "4096 bytes to 1 GiB",
            as_i64(max_frame),
            (4096..=1 << 30).contains(&max_frame),
        ),
        ("the smallest frame", "at most half the largest", as_i64(min_frame), min_frame <= max_frame / 2),
    ];
    match bounds.into_iter().find(|(.., good)| !good) {
        Some((what, expected, found, _)) => Err(ArchiveError::Parameter { what, expected, found }),
        None => Ok(()),
    }
}

fn as_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What the workers share and do not change.
struct Work<'a> {
    members: &'a [Member],
    ranges: &'a [Range<usize>],
    keys: &'a [Sha256],
    source: &'a Source<'a>,
    store: &'a Store,
    parameters: &'a Parameters,
    hash_from: usize,
}

/// A frame that is ready to be written.
struct Done {
    frame: Frame,
    /// The uncompressed bytes, where the tar's hash needs them.
    bytes: Option<Vec<u8>>,
    /// Whether it was compressed now.
    is_new: bool,
}

impl Work<'_> {
    /// Bytes of tar in frame `index`.
    fn size(&self, index: usize) -> u64 {
        self.members[self.ranges[index].clone()].iter().map(Member::size).sum()
    }

    /// Makes frames until there are none left.
    fn run(&self, queue: &Queue) {
        let stop = Stop(queue);
        while let Some(index) = queue.next(self.ranges.len(), |index| self.size(index)) {
            let done = self.make(index);
            queue.put(index, done);
        }
        // Only a panic on the way here stops the others.
        std::mem::forget(stop);
    }

    fn make(&self, index: usize) -> Result<Done, ArchiveError> {
        let needs_bytes = index >= self.hash_from;
        if let Some(done) = self.reuse(index, needs_bytes) {
            return Ok(done);
        }
        let members = &self.members[self.ranges[index].clone()];
        let bytes = frame::assemble(members, self.source.contents).map_err(ArchiveError::Contents)?;
        let frame = frame::compress(&bytes, self.parameters).map_err(ArchiveError::Compress)?;
        frame::keep(self.store, self.keys[index], &frame)?;
        Ok(Done { frame, bytes: needs_bytes.then_some(bytes), is_new: true })
    }

    /// The frame from the store; nothing when it is absent or damaged.
    fn reuse(&self, index: usize, needs_bytes: bool) -> Option<Done> {
        let frame = frame::load(self.store, self.keys[index])?;
        if frame.tar_size != self.size(index) {
            return None;
        }
        let bytes = if needs_bytes { Some(frame::decompress(&frame).ok()?) } else { None };
        Some(Done { frame, bytes, is_new: false })
    }
}

/// Hands out frames to workers and collects them for the writer, with a bound on the bytes between.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    next: usize,
    in_flight: u64,
    stopped: bool,
    done: BTreeMap<usize, Result<Done, ArchiveError>>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The next frame to make, once there is room for it; nothing when all are handed out.
    fn next(&self, count: usize, size: impl Fn(usize) -> u64) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if state.stopped || state.next >= count {
                return None;
            }
            let size = size(state.next);
            if state.in_flight == 0 || state.in_flight + size <= MAX_IN_FLIGHT {
                state.in_flight += size;
                state.next += 1;
                return Some(state.next - 1);
            }
            state = self.wait(state);
        }
    }

    fn put(&self, index: usize, done: Result<Done, ArchiveError>) {
        self.lock().done.insert(index, done);
        self.changed.notify_all();
    }

    /// Waits for frame `index`.
    fn take(&self, index: usize) -> Result<Done, ArchiveError> {
        let mut state = self.lock();
        loop {
            if let Some(done) = state.done.remove(&index) {
                return done;
            }
            if state.stopped {
                return Err(ArchiveError::Compress(io::Error::other("a thread ended early")));
            }
            state = self.wait(state);
        }
    }

    /// Gives back the room of a frame of `size` bytes.
    fn written(&self, size: u64) {
        self.lock().in_flight -= size;
        self.changed.notify_all();
    }
}

/// Stops all who work on a queue when it is dropped.
struct Stop<'a>(&'a Queue);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_all();
    }
}

struct Writer<W: Write> {
    out: HashingWriter<W>,
    hash: RunningHash,
    frames: Vec<FrameInfo>,
    compressed: usize,
}

impl<W: Write> Writer<W> {
    fn frame(&mut self, done: &Done) -> Result<(), ArchiveError> {
        let Done { frame, bytes, is_new } = done;
        self.out.write_all(&frame.compressed).map_err(ArchiveError::Write)?;
        if let Some(bytes) = bytes {
            self.hash.update(bytes);
        }
        self.compressed += usize::from(*is_new);
        let size = frame.compressed.len() as u64;
        let Frame { sha256, tar_size, tar_sha256, .. } = *frame;
        self.frames.push(FrameInfo { size, sha256, tar_size, tar_sha256 });
        Ok(())
    }

    fn finish(mut self, parameters: &Parameters, keys: Vec<Sha256>) -> Result<Summary, ArchiveError> {
        let end = frame::compress(&END, parameters).map_err(ArchiveError::Compress)?;
        self.frame(&Done { frame: end, bytes: Some(END.to_vec()), is_new: false })?;
        let tar_size = self.frames.iter().map(|frame| frame.tar_size).sum();
        let tar_sha256 = self.hash.finish();
        let table = FrameTable { format: FORMAT, tar_sha256, tar_size, frames: self.frames };
        let encoded = table.encode().map_err(|error| ArchiveError::Write(error.into()))?;
        self.out.write_all(&encoded).map_err(ArchiveError::Write)?;
        self.out.flush().map_err(ArchiveError::Write)?;
        let (sha256, size, _) = self.out.finish();
        Ok(Summary { sha256, size, table, keys, compressed: self.compressed })
    }
}
