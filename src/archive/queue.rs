//! Between the threads that make frames and the one that takes them in order, with a bound on the bytes between.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::write::ArchiveError;

/// Bytes of tar that may be in memory at once, unless a single frame is larger.
const MAX_IN_FLIGHT: u64 = 64 << 20;

/// Hands out frames by their numbers and collects what becomes of them.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    next: usize,
    in_flight: u64,
    closed: bool,
    stopped: bool,
    done: BTreeMap<usize, Result<T, ArchiveError>>,
}

impl<T> Queue<T> {
    /// The frames from `first` on.
    pub fn from(first: usize) -> Self {
        let state = State { next: first, in_flight: 0, closed: false, stopped: false, done: BTreeMap::new() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The next frame to make, once there is room for it; nothing when all are handed out.
    pub fn next(&self, count: usize, size: impl Fn(usize) -> u64) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if state.stopped || state.closed || state.next >= count {
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

    pub fn put(&self, index: usize, done: Result<T, ArchiveError>) {
        self.lock().done.insert(index, done);
        self.changed.notify_all();
    }

    /// Hands out no more frames; those that are handed out can still be taken.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Whether frame `index` is handed out, or could still be.
    pub fn comes(&self, index: usize) -> bool {
        let state = self.lock();
        !state.closed || index < state.next
    }

    /// Waits for frame `index`.
    pub fn take(&self, index: usize) -> Result<T, ArchiveError> {
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
    pub fn written(&self, size: u64) {
        self.lock().in_flight -= size;
        self.changed.notify_all();
    }
}

/// Stops all who work on a queue when it is dropped.
pub(super) struct Stop<'a, T>(pub &'a Queue<T>);

impl<T> Drop for Stop<'_, T> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_all();
    }
}
