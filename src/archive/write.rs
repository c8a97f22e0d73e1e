//! From members to the finished file: frames made by several threads, written in order.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::Parameters;
use super::draft::{Cut, Draft};
use super::frame::{self, Frame};
use super::layout::{self, Owners, Part};
use super::member::{self, Head, Member, MemberError};
use super::queue::{Queue, Stop, ended_early};
use super::running::{self, RunningHash};
use super::table::{FORMAT, FrameInfo, FrameTable};
use crate::digest::{HashingWriter, Sha256};
use crate::progress::{Event, Over, Reporter, Unit};
use crate::store::{Kind, Store, StoreError};
use crate::tree::{Contents, Tree};

/// The state of the tar's hash is kept after every so many frames.
const STATE_EVERY: usize = 4;
/// Buffers larger than this are not kept, in bytes.
const MAX_BUFFER: usize = 8 << 20;
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
    let begin = |_: &[Sha256]| Ok((HashingWriter::new(out), Vec::new()));
    write_with(source, (store, parameters), threads, (subject, reporter), begin)
}

/// As [`write`], with what is already written of it. `draft` is asked for it as late as possible.
///
/// # Errors
/// See [`ArchiveError`].
pub fn write_on<W: Cut>(
    source: &Source<'_>,
    store: &Store,
    parameters: &Parameters,
    threads: usize,
    (subject, reporter): (&str, &dyn Reporter),
    draft: impl FnOnce() -> Option<Draft<W>>,
) -> Result<Summary, ArchiveError> {
    let gone = || io::Error::other("its file is gone");
    let begin = |keys: &[Sha256]| draft().ok_or_else(gone)?.settle(keys);
    write_with(source, (store, parameters), threads, (subject, reporter), begin)
}

/// Where an archive goes, and the frames it has already.
type Begun<W> = (HashingWriter<W>, Vec<FrameInfo>);

fn write_with<W: Write>(
    source: &Source<'_>,
    (store, parameters): (&Store, &Parameters),
    threads: usize,
    (subject, reporter): (&str, &dyn Reporter),
    begin: impl FnOnce(&[Sha256]) -> io::Result<Begun<W>>,
) -> Result<Summary, ArchiveError> {
    check(parameters)?;
    let (members, parts) = arrange(source, parameters)?;
    let ranges: Vec<_> = parts.into_iter().map(|part| part.range).collect();
    let total = ranges.len();
    let (work, chain, hash) = Work::new(source, (store, parameters), members, ranges, total);
    let action = "compressing frames".to_owned();
    reporter.report(Event::Stage {
        subject: subject.to_owned(),
        action,
        total: total as u64,
        unit: Unit::Frames,
    });
    let over = Over { reporter, subject };
    // The tar's hash needs these, whatever is written already.
    let queue = Queue::at_latest_from(work.hashed.start);
    let written: Result<_, ArchiveError> = std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, total.max(1)) {
            scope.spawn(|| work.run(&queue, |index| work.make(index)));
        }
        // Whatever ends this, the workers must not wait for it.
        let _stop = Stop(&queue);
        // Not before that: it may have to be waited for.
        let (out, frames) = begin(&work.keys).map_err(ArchiveError::Write)?;
        let (there, first) = (frames.len(), frames.len().min(work.hashed.start));
        queue.begin_at(first, work.hashed.start);
        let mut writer = Writer { out, frames, compressed: 0 };
        // Two threads take what is made: to hash the tar takes as long as all else that is done in order.
        let (bytes, received) = channel();
        let hashing = scope.spawn(|| work.hash(hash, &chain, received, store, &queue));
        for index in first..total {
            let done = queue.take(index)?.ok_or_else(ended_early)?;
            if index >= there {
                writer.frame(&done)?;
            }
            match done.bytes.map(|done| bytes.send((index, done))) {
                Some(Ok(())) => {}
                // It has met an error.
                Some(Err(_)) => break,
                None => queue.written(work.size(index)),
            }
            let (subject, item) = (subject.to_owned(), String::new());
            reporter.report(Event::Progress { subject, done: index as u64 + 1, item });
        }
        drop(bytes);
        let early = || io::Error::other("the thread that hashes the tar ended early");
        let hash = hashing.join().unwrap_or_else(|_| Err(ArchiveError::Write(early())))?;
        Ok((writer, hash))
    });
    drop(over);
    let (writer, hash) = written?;
    writer.finish(hash, parameters, work.keys)
}

/// The members of `source` in their order, and which of them make a frame.
pub(super) fn arrange(
    source: &Source<'_>,
    parameters: &Parameters,
) -> Result<(Vec<Member>, Vec<Part>), ArchiveError> {
    let members = member::list(source.head, source.tree, source.mtime)?;
    let owners = Owners::read(source.tree, source.contents, source.layers).map_err(ArchiveError::Contents)?;
    Ok(layout::arrange(members, &owners, source.head.len(), parameters))
}

pub(super) fn check(parameters: &Parameters) -> Result<(), ArchiveError> {
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
pub(super) struct Work<'a> {
    members: Vec<Member>,
    pub ranges: Vec<Range<usize>>,
    /// The names of the frames in the store.
    pub keys: Vec<Sha256>,
    source: &'a Source<'a>,
    store: &'a Store,
    parameters: &'a Parameters,
    /// Of these frames the bytes are needed for the tar's hash.
    pub hashed: Range<usize>,
    pub buffers: Buffers,
}

/// Memory for the tar bytes of frames. It is used again: fresh memory costs as much as what is done with it.
pub(super) struct Buffers {
    /// Bytes that fit into any but unusually large frames.
    usual: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    fn new(parameters: &Parameters) -> Self {
        let usual = usize::try_from(parameters.max_frame).map_or(MAX_BUFFER, |size| size.min(MAX_BUFFER));
        Self { usual, free: Mutex::default() }
    }

    /// A buffer of `size` bytes with whatever was in it.
    fn take(&self, size: u64) -> io::Result<Vec<u8>> {
        let size = usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if size > self.usual {
            return Ok(vec![0; size]);
        }
        let used = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = used.unwrap_or_else(|| vec![0; self.usual]);
        // Never beyond what it began with.
        buffer.resize(size, 0);
        Ok(buffer)
    }

    /// Gives a buffer back; unusually large ones are freed.
    pub fn put(&self, buffer: Vec<u8>) -> Option<Vec<u8>> {
        if buffer.capacity() == self.usual {
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
        None
    }
}

/// A frame that is ready to be written.
pub(super) struct Done {
    pub frame: Frame,
    /// The uncompressed bytes, where the tar's hash needs them.
    pub bytes: Option<Vec<u8>>,
    /// Whether it was compressed now.
    pub is_new: bool,
}

impl<'a> Work<'a> {
    /// With the chain of the first `in_order` frames, whose tar is to be hashed, and the last state of that hash that is kept.
    pub fn new(
        source: &'a Source<'a>,
        (store, parameters): (&'a Store, &'a Parameters),
        members: Vec<Member>,
        ranges: Vec<Range<usize>>,
        in_order: usize,
    ) -> (Self, Vec<Sha256>, RunningHash) {
        let key = |range: &Range<usize>| frame::key(&members[range.clone()], parameters);
        let keys: Vec<_> = ranges.par_iter().map(key).collect();
        let chain = running::chain(&keys[..in_order]);
        let (from, hash) = RunningHash::last(store, &chain);
        let (hashed, buffers) = (from..in_order, Buffers::new(parameters));
        (Self { members, ranges, keys, source, store, parameters, hashed, buffers }, chain, hash)
    }

    /// Whether the state of the tar's hash is kept after frame `index`.
    pub fn keeps_state(&self, index: usize) -> bool {
        let is_last = index + 1 == self.hashed.end;
        self.hashed.contains(&index) && (is_last || (index + 1).is_multiple_of(STATE_EVERY))
    }

    /// Bytes of tar in frame `index`.
    pub fn size(&self, index: usize) -> u64 {
        self.members[self.ranges[index].clone()].iter().map(Member::size).sum()
    }

    /// Calls `make` for frames until there are none left.
    pub fn run<T>(&self, queue: &Queue<T>, make: impl Fn(usize) -> Result<T, ArchiveError>) {
        let stop = Stop(queue);
        while let Some(index) = queue.next(self.ranges.len(), |index| self.size(index)) {
            let done = make(index);
            queue.put(index, done);
        }
        // Only a panic on the way here stops the others.
        std::mem::forget(stop);
    }

    /// Goes on with the tar's `hash` over the bytes of frames, which come in order, and keeps its states in `store` under `chain`.
    fn hash(
        &self,
        mut hash: RunningHash,
        chain: &[Sha256],
        received: Receiver<(usize, Vec<u8>)>,
        store: &Store,
        queue: &Queue<Done>,
    ) -> Result<RunningHash, ArchiveError> {
        for (index, bytes) in received {
            hash.update(&bytes);
            self.buffers.put(bytes);
            if self.keeps_state(index) {
                hash.keep(store, chain[index])?;
            }
            queue.written(self.size(index));
        }
        Ok(hash)
    }

    /// Makes a frame or takes it from the store.
    pub fn make(&self, index: usize) -> Result<Done, ArchiveError> {
        let needs_bytes = self.hashed.contains(&index);
        // Whoever works ahead may be at the same frame.
        let _turn = self.store.take_turn(Kind::Frame, self.keys[index]);
        if let Some(done) = self.reuse(index, needs_bytes) {
            return Ok(done);
        }
        let members = &self.members[self.ranges[index].clone()];
        let mut bytes = self.buffers.take(self.size(index)).map_err(ArchiveError::Contents)?;
        frame::assemble(members, self.source.contents, &mut bytes).map_err(ArchiveError::Contents)?;
        let frame = frame::compress(&bytes, self.parameters).map_err(ArchiveError::Compress)?;
        frame::keep(self.store, self.keys[index], &frame)?;
        let bytes = if needs_bytes { Some(bytes) } else { self.buffers.put(bytes) };
        Ok(Done { frame, bytes, is_new: true })
    }

    /// The frame from the store; nothing when it is absent or damaged.
    fn reuse(&self, index: usize, needs_bytes: bool) -> Option<Done> {
        let frame = frame::load(self.store, self.keys[index])?;
        if frame.tar_size != self.size(index) {
            return None;
        }
        let mut bytes = None;
        if needs_bytes {
            let mut buffer = self.buffers.take(frame.tar_size).ok()?;
            frame::decompress(&frame, &mut buffer).ok()?;
            bytes = Some(buffer);
        }
        Some(Done { frame, bytes, is_new: false })
    }
}

struct Writer<W: Write> {
    out: HashingWriter<W>,
    frames: Vec<FrameInfo>,
    compressed: usize,
}

impl<W: Write> Writer<W> {
    fn frame(&mut self, done: &Done) -> Result<(), ArchiveError> {
        self.out.write_all(&done.frame.compressed).map_err(ArchiveError::Write)?;
        self.compressed += usize::from(done.is_new);
        self.frames.push(done.frame.info());
        Ok(())
    }

    fn finish(
        mut self,
        mut hash: RunningHash,
        parameters: &Parameters,
        keys: Vec<Sha256>,
    ) -> Result<Summary, ArchiveError> {
        let end = frame::compress(&END, parameters).map_err(ArchiveError::Compress)?;
        self.frame(&Done { frame: end, bytes: None, is_new: false })?;
        hash.update(&END);
        let tar_size = self.frames.iter().map(|frame| frame.tar_size).sum();
        let tar_sha256 = hash.finish();
        let table = FrameTable { format: FORMAT, tar_sha256, tar_size, frames: self.frames };
        let encoded = table.encode().map_err(|error| ArchiveError::Write(error.into()))?;
        self.out.write_all(&encoded).map_err(ArchiveError::Write)?;
        self.out.flush().map_err(ArchiveError::Write)?;
        let (sha256, size, _) = self.out.finish();
        Ok(Summary { sha256, size, table, keys, compressed: self.compressed })
    }
}
