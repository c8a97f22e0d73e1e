//! Between the threads that make frames and the one that takes them in order, with a bound on the bytes between.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::write::ArchiveError;

/// Bytes of tar that may be in memory at once, unless a single frame is larger.
const MAX_IN_FLIGHT: u64 = 96 << 20;
/// Of these, bytes of frames that are not large: enough that no thread waits, and that not much is left to hash in the end.
const MAX_USUAL_IN_FLIGHT: u64 = 32 << 20;
/// A frame of so many bytes of tar is begun before its turn: all behind it would wait for the one thread that makes it.
const LARGE: u64 = 8 << 20;

/// Hands out frames by their numbers and collects what becomes of them.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    next: usize,
    /// What goes before all else; nothing while that is not known.
    before: Option<Range<usize>>,
    /// The frame that somebody waits for.
    awaited: Option<usize>,
    /// What was handed out of those behind `next`.
    begun: BTreeSet<usize>,
    in_flight: u64,
    /// Of these, those of large frames.
    large: u64,
    closed: bool,
    stopped: bool,
    done: BTreeMap<usize, Result<T, ArchiveError>>,
}

impl<T> Queue<T> {
    /// The frames from `first` on.
    pub fn from(first: usize) -> Self {
        Self::new(first, Some(first..first))
    }

    /// The frames from `first` on, and perhaps some before, as will be [told](Self::begin_at).
    pub fn at_latest_from(first: usize) -> Self {
        Self::new(first, None)
    }

    fn new(first: usize, before: Option<Range<usize>>) -> Self {
        let state = State {
            next: first,
            before,
            awaited: None,
            begun: BTreeSet::new(),
            in_flight: 0,
            large: 0,
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

    /// Tells what the first frame is of those before `end`, with which it began.
    pub fn begin_at(&self, first: usize, end: usize) {
        self.lock().before = Some(first.min(end)..end);
        self.changed.notify_all();
    }

    /// The next frame to make, once there is room for it or somebody waits for it; nothing when all are handed out. A large one
    /// comes before its turn when there is room for all up to it.
    pub fn next(&self, count: usize, size: impl Fn(usize) -> u64) -> Option<usize> {
        let mut state = self.lock();
        loop {
            while state.begun.contains(&state.next) {
                let next = state.next;
                state.begun.remove(&next);
                state.next += 1;
            }
            if state.stopped || state.closed {
                return None;
            }
            if let Some(index) = state.before.clone().and_then(|mut before| before.next()) {
                if state.has_room(index, size(index)) {
                    state.begin(size(index));
                    state.before = state.before.take().map(|before| index + 1..before.end);
                    return Some(index);
                }
                state = self.wait(state);
                continue;
            }
            if state.next >= count {
                if state.before.is_some() {
                    return None;
                }
                state = self.wait(state);
                continue;
            }
            if let Some(large) = state.large(count, &size) {
                state.begin(size(large));
                state.begun.insert(large);
                return Some(large);
            }
            let size = size(state.next);
            if state.has_room(state.next, size) {
                state.begin(size);
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

    /// Waits for frame `index`. Nothing when it was not handed out, and never will be.
    pub fn take(&self, index: usize) -> Result<Option<T>, ArchiveError> {
        let mut state = self.lock();
        loop {
            if let Some(done) = state.done.remove(&index) {
                return done.map(Some);
            }
            if state.stopped {
                return Err(ended_early());
            }
            if state.closed && index >= state.next && !state.begun.contains(&index) {
                return Ok(None);
            }
            if state.awaited.replace(index) != Some(index) {
                self.changed.notify_all();
            }
            state = self.wait(state);
        }
    }

    /// Gives back the room of a frame of `size` bytes.
    pub fn written(&self, size: u64) {
        self.lock().end(size);
        self.changed.notify_all();
    }
}

/// What is said when a thread is gone that would have made a frame.
pub(super) fn ended_early() -> ArchiveError {
    ArchiveError::Compress(io::Error::other("a thread ended early"))
}

impl<T> State<T> {
    /// Whether frame `index` of `size` bytes can be begun.
    fn has_room(&self, index: usize, size: u64) -> bool {
        let usual = size >= LARGE || self.in_flight - self.large + size <= MAX_USUAL_IN_FLIGHT;
        let fits = usual && self.in_flight + size <= MAX_IN_FLIGHT;
        self.in_flight == 0 || fits || self.awaited == Some(index)
    }

    fn begin(&mut self, size: u64) {
        self.in_flight += size;
        self.large += if size >= LARGE { size } else { 0 };
    }

    fn end(&mut self, size: u64) {
        self.in_flight -= size;
        self.large -= if size >= LARGE { size } else { 0 };
    }

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
                assert_eq!(queue.take(taken).unwrap(), Some(taken));
                queue.written(sizes[taken] * MIB);
                taken += 1;
            }
        }
        assert_eq!(taken, sizes.len());
        let state = queue.lock();
        assert_eq!((state.in_flight, state.large), (0, 0));
        drop(state);
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
    fn less_of_usual_frames_is_in_memory_than_of_large_ones() {
        let queue = Queue::<usize>::from(0);
        let sizes = [30, 16, 16, 4, 1];
        let next = || queue.next(sizes.len(), |index| sizes[index] * MIB);
        assert_eq!([next(), next(), next(), next()], [Some(1), Some(2), Some(0), Some(3)]);
        // Of usual frames.
        let queue = Queue::<usize>::from(0);
        let next = || queue.next(99, |_| 4 * MIB);
        (0..8).for_each(|index| assert_eq!(next(), Some(index)));
        assert!(!queue.lock().has_room(8, 4 * MIB) && queue.lock().has_room(8, 8 * MIB));
        queue.written(4 * MIB);
        assert_eq!(next(), Some(8));
    }

    #[test]
    fn whoever_stops_early_still_gets_what_was_begun() {
        let queue = Queue::<usize>::from(0);
        let next = || queue.next(5, |index| if index == 3 { 16 * MIB } else { MIB });
        assert_eq!([next(), next()], [Some(3), Some(0)]);
        [0, 3].into_iter().for_each(|index| queue.put(index, Ok(index)));
        std::thread::scope(|scope| {
            // Also whoever waits already for what never comes.
            let waiting = scope.spawn(|| queue.take(1).unwrap());
            while queue.lock().awaited.is_none() {
                std::thread::yield_now();
            }
            queue.close();
            assert_eq!(waiting.join().unwrap(), None);
        });
        assert_eq!(next(), None);
        let taken = [0, 2, 3, 4].map(|index| queue.take(index).unwrap());
        assert_eq!(taken, [Some(0), None, Some(3), None]);
    }

    #[test]
    fn what_goes_before_may_be_told_late_and_is_made_although_there_is_no_room() {
        let queue = Queue::<usize>::at_latest_from(3);
        let next = || queue.next(5, |_| 90 * MIB);
        assert_eq!(next(), Some(3));
        std::thread::scope(|scope| {
            let worker = scope
                .spawn(|| std::iter::from_fn(next).inspect(|index| queue.put(*index, Ok(*index))).collect());
            queue.begin_at(1, 3);
            assert_eq!([1, 2].map(|index| queue.take(index).unwrap()), [Some(1), Some(2)]);
            (0..3).for_each(|_| queue.written(90 * MIB));
            let made: Vec<usize> = worker.join().unwrap();
            assert_eq!(made, [1, 2, 4]);
        });
        // Nobody ends before it is told, and then at once where there is nothing.
        let queue = Queue::<usize>::at_latest_from(0);
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| queue.next(0, |_| MIB));
            queue.begin_at(7, 0);
            assert_eq!(worker.join().unwrap(), None);
        });
    }
}
