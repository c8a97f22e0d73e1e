//! Unpacks the data archives of many packages at once, to be read one after the other.
//!
//! Threads take packages in order and run ahead of the reader, over all packages together by a bounded number of
//! bytes; only the package being read may go beyond it, so that nobody waits for ever.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::apt::deb::Deb;
use crate::priority::{Way, give_way};

/// Size of the pieces that are handed over, in bytes.
const PIECE: usize = 1 << 18;

/// What the threads and the reader agree on.
struct State {
    /// The next package that nobody has taken.
    next: usize,
    /// The package that the reader is at.
    reading: usize,
    /// Bytes that are unpacked and not yet read.
    waiting: u64,
    /// The reader has gone.
    stopped: bool,
}

type Piece = io::Result<Vec<u8>>;

/// Gives each package's unpacked data archive, in order.
pub(super) struct Feed<'a> {
    state: &'a (Mutex<State>, Condvar),
    receivers: std::vec::IntoIter<Receiver<Piece>>,
    index: usize,
}

/// The unpacked data archive of one package.
pub(super) struct Unpacked<'a> {
    state: &'a (Mutex<State>, Condvar),
    receiver: Receiver<Piece>,
    piece: Vec<u8>,
    position: usize,
}

/// Runs `consume` while the packages are unpacked by `threads` threads, at most `budget` bytes ahead; `ahead` says that
/// they are to stand back behind whatever else runs.
pub(super) fn feed<T>(
    packages: &[&Deb],
    (threads, ahead): (usize, bool),
    budget: u64,
    consume: impl FnOnce(&mut Feed<'_>) -> T,
) -> T {
    let state = (Mutex::new(State { next: 0, reading: 0, waiting: 0, stopped: false }), Condvar::new());
    let (senders, receivers): (Vec<_>, Vec<_>) = packages.iter().map(|_| channel()).unzip();
    let senders: Vec<Mutex<Option<Sender<Piece>>>> =
        senders.into_iter().map(|sender| Mutex::new(Some(sender))).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, packages.len().max(1)) {
            scope.spawn(|| {
                if ahead {
                    give_way(Way::Soon);
                }
                unpack_some(packages, &senders, &state, budget);
            });
        }
        let mut feed = Feed { state: &state, receivers: receivers.into_iter(), index: 0 };
        consume(&mut feed)
    })
}

fn unpack_some(
    packages: &[&Deb],
    senders: &[Mutex<Option<Sender<Piece>>>],
    state: &(Mutex<State>, Condvar),
    budget: u64,
) {
    loop {
        let index = {
            let mut state = lock(&state.0);
            state.next += 1;
            state.next - 1
        };
        let Some(package) = packages.get(index) else { return };
        let Some(sender) = senders[index].lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        let mut reader = match package.data() {
            Ok(reader) => reader,
            Err(error) => {
                let _ = sender.send(Err(io::Error::other(error)));
                continue;
            }
        };
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            let read = (&mut reader).take(PIECE as u64).read_to_end(&mut piece);
            let ends = read.as_ref().map_or(true, |read| *read == 0);
            if !ends && !may_hand_over(state, index, piece.len() as u64, budget) {
                return;
            }
            if sender.send(read.map(|_| piece)).is_err() || ends {
                break;
            }
        }
    }
}

/// Waits until `length` more bytes of package `index` may wait; false when nobody reads any more.
fn may_hand_over(state: &(Mutex<State>, Condvar), index: usize, length: u64, budget: u64) -> bool {
    let mut guard = lock(&state.0);
    while !guard.stopped && guard.reading != index && guard.waiting + length > budget {
        guard = state.1.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
    guard.waiting += length;
    !guard.stopped
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Feed<'a> {
    /// The data archive of the next package, in the order of `packages`.
    pub fn next(&mut self) -> Option<Unpacked<'a>> {
        let receiver = self.receivers.next()?;
        lock(&self.state.0).reading = self.index;
        self.state.1.notify_all();
        self.index += 1;
        Some(Unpacked { state: self.state, receiver, piece: Vec::new(), position: 0 })
    }
}

impl Drop for Feed<'_> {
    /// Lets the threads end, also when the reader failed half-way.
    fn drop(&mut self) {
        lock(&self.state.0).stopped = true;
        self.state.1.notify_all();
    }
}

impl Read for Unpacked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.piece.len() {
            lock(&self.state.0).waiting -= self.piece.len() as u64;
            self.state.1.notify_all();
            self.position = 0;
            self.piece = Vec::new();
            // The last, empty piece is not counted; a sender that is gone has sent everything.
            self.piece = self.receiver.recv().unwrap_or(Ok(Vec::new()))?;
        }
        let length = buffer.len().min(self.piece.len() - self.position);
        buffer[..length].copy_from_slice(&self.piece[self.position..self.position + length]);
        self.position += length;
        Ok(length)
    }
}
