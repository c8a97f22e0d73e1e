//! Between the threads that make frames and the one that takes them in order, with a bound on the bytes between.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::write::ArchiveError;

/// Bytes of tar that may be in memory at once, unless a single frame is larger.
const MAX_IN_FLIGHT: u64 = 96 << 20;
/// A frame of so many bytes of tar is begun before its turn: all behind it would wait for the one thread that makes it.
const LARGE: u64 = 8 << 20;

/// Hands out frames by their numbers and collects what becomes of them.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    next: usize,
    /// What was handed out of those behind `next`.
    begun: BTreeSet<usize>,
    in_flight: u64,
    closed: bool,
    stopped: bool,
    done: BTreeMap<usize, Result<T, ArchiveError>>,
}

impl<T> Queue<T> {
    /// The frames from `first` on.
    pub fn from(first: usize) -> Self {
        let state = State {
            next: first,
            begun: BTreeSet::new(),
            in_flight: 0,
            closed: false,
            stopped: false,
            done: BTreeMap::new(),
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The next frame to make, once there is room for it; nothing when all are handed out. A large one comes before its turn
    /// when there is room for all up to it.
    pub fn next(&self, count: usize, size: impl Fn(usize) -> u64) -> Option<usize> {
        let mut state = self.lock();
        loop {
            while state.begun.contains(&state.next) {
                let next = state.next;
                state.begun.remove(&next);
                state.next += 1;
            }
            if state.stopped || state.closed || state.next >= count {
                return None;
            }
            if let Some(large) = state.large(count, &size) {
                state.in_flight += size(large);
                state.begun.insert(large);
                return Some(large);
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
        !state.closed || index < state.next || state.begun.contains(&index)
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

impl<T> State<T> {
    /// A large frame that is not handed out and fits together with all before it.
    fn large(&self, count: usize, size: impl Fn(usize) -> u64) -> Option<usize> {
        let mut room = MAX_IN_FLIGHT.checked_sub(self.in_flight)?;
        for index in (self.next..count).filter(|index| !self.begun.contains(index)) {
            let size = size(index);
            room = room.checked_sub(size)?;
            if size >= LARGE && index > self.next {
                return Some(index);
            }
        }
        None
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

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// The order in which one thread gets frames of these sizes, in MiB, when what was made is taken at once.
    fn order(sizes: &[u64]) -> Vec<usize> {
        let queue = Queue::from(0);
        let (mut order, mut taken) = (Vec::new(), 0);
        while let Some(index) = queue.next(sizes.len(), |index| sizes[index] * MIB) {
            order.push(index);
            queue.put(index, Ok(index));
            while taken < sizes.len() && order.contains(&taken) {
                assert_eq!(queue.take(taken).unwrap(), taken);
                queue.written(sizes[taken] * MIB);
                taken += 1;
            }
        }
        assert_eq!(taken, sizes.len());
        assert_eq!(queue.lock().in_flight, 0);
        order
    }

    #[test]
    fn a_large_frame_is_begun_before_its_turn_where_all_up_to_it_fit() {
        let sizes = [2, 2, 2, 32, 2, 12, 2];
        assert_eq!(order(&sizes), [3, 5, 0, 1, 2, 4, 6]);
        // It fits once the first two are gone.
        assert_eq!(order(&[40, 40, 4, 30, 1]), [1, 0, 3, 2, 4]);
        // Larger than there is ever room for: in its turn.
        assert_eq!(order(&[2, 100, 2, 9]), [0, 1, 3, 2]);
        assert_eq!(order(&[]), [] as [usize; 0]);
    }

    #[test]
    fn whoever_stops_early_still_gets_what_was_begun() {
        let queue = Queue::<usize>::from(0);
        let next = || queue.next(5, |index| if index == 3 { 16 * MIB } else { MIB });
        assert_eq!([next(), next()], [Some(3), Some(0)]);
        queue.close();
        assert_eq!(next(), None);
        assert_eq!([0, 1, 2, 3, 4].map(|index| queue.comes(index)), [true, false, false, true, false]);
    }
}
