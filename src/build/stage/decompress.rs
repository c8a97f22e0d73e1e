//! Unpacks the data archives of many packages at once, to be read one after the other.
//!
//! Threads run ahead of the reader, over all packages together by a bounded number of bytes; only the package being read, and
//! those that were begun before it, may go beyond it, so that nobody waits for ever. Where the reader is, packages are taken
//! in its order; where it is not yet, the largest first, so that in the end not all wait for one that was begun last.
//!
//! What is wanted only after some scripts have run is unpacked by threads that use what others leave of the processor.
//! When the reader comes there, they hand what they have begun to the others, so that no idle thread is waited for.

use std::io::{self, BufRead, Read};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::apt::deb::Deb;
use crate::sandbox::only_when_idle;

/// Size of the pieces that are handed over, in bytes.
const PIECE: usize = 1 << 18;
/// Most pieces that wait to be filled again.
const SPARE: usize = 32;

/// What the threads and the reader agree on.
struct State<'a> {
    /// Which packages somebody has taken.
    taken: Vec<bool>,
    /// The package that the reader is at, once it has come.
    reading: Option<usize>,
    /// Bytes that are unpacked and not yet read.
    waiting: u64,
    /// Packages that an idle thread has begun.
    begun: Vec<Work<'a>>,
    /// Idle threads that have a package.
    busy: usize,
    /// Pieces that were read, to be filled again: fresh memory costs more than what is done with it.
    spare: Vec<Vec<u8>>,
    /// The reader has gone.
    stopped: bool,
}

/// A package on its way.
struct Work<'a> {
    index: usize,
    reader: Box<dyn Read + Send + 'a>,
    sender: Sender<Piece>,
}

/// All that the threads share.
struct Shared<'a> {
    packages: &'a [&'a Deb],
    /// Where each group ends: the packages that the reader wants one right after the other.
    groups: &'a [usize],
    budget: u64,
    senders: Vec<Mutex<Option<Sender<Piece>>>>,
    state: Mutex<State<'a>>,
    changed: Condvar,
}

type Piece = io::Result<Vec<u8>>;

/// Gives each package's unpacked data archive, in order.
pub(super) struct Feed<'s, 'p> {
    shared: &'s Shared<'p>,
    receivers: std::vec::IntoIter<Receiver<Piece>>,
    index: usize,
}

/// The unpacked data archive of one package.
pub(super) struct Unpacked<'s, 'p> {
    shared: &'s Shared<'p>,
    receiver: Receiver<Piece>,
    piece: Vec<u8>,
    position: usize,
}

/// Runs `consume` while the packages are unpacked by `threads` threads, at most `budget` bytes ahead. `groups` says where
/// each group ends; only what else is left of the processor goes to groups that `consume` is not at.
pub(super) fn feed<T>(
    packages: &[&Deb],
    (threads, groups): (usize, &[usize]),
    budget: u64,
    consume: impl FnOnce(&mut Feed<'_, '_>) -> T,
) -> T {
    let state = Mutex::new(State {
        taken: vec![false; packages.len()],
        reading: None,
        waiting: 0,
        begun: Vec::new(),
        busy: 0,
        spare: Vec::new(),
        stopped: false,
    });
    let (senders, receivers): (Vec<_>, Vec<_>) = packages.iter().map(|_| channel()).unzip();
    let senders = senders.into_iter().map(|sender| Mutex::new(Some(sender))).collect();
    let shared = Shared { packages, groups, budget, senders, state, changed: Condvar::new() };
    let threads = threads.clamp(1, packages.len().max(1));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| shared.unpack(false));
            if groups.len() > 1 {
                scope.spawn(|| {
                    only_when_idle();
                    shared.unpack(true);
                });
            }
        }
        let mut feed = Feed { shared: &shared, receivers: receivers.into_iter(), index: 0 };
        consume(&mut feed)
    })
}

impl<'a> Shared<'a> {
    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unpacks what is wanted, or as an idle thread what will be, until nothing is left to do.
    fn unpack(&self, idle: bool) {
        while let Some(mut work) = self.take(idle) {
            loop {
                let spare = self.lock().spare.pop();
                let mut piece = spare.unwrap_or_else(|| Vec::with_capacity(PIECE));
                let read = (&mut work.reader).take(PIECE as u64).read_to_end(&mut piece);
                let ends = read.as_ref().map_or(true, |read| *read == 0);
                if !ends && !self.may_hand_over(work.index, piece.len() as u64) {
                    return;
                }
                let done = work.sender.send(read.map(|_| piece)).is_err() || ends;
                if !idle && done {
                    break;
                }
                if idle {
                    let mut state = self.lock();
                    if done || work.index < self.wanted(&state) {
                        state.busy -= 1;
                        state.begun.extend((!done).then_some(work));
                        self.changed.notify_all();
                        break;
                    }
                }
            }
        }
    }

    /// All packages before this number are wanted now: the group that the reader is in ends here.
    fn wanted(&self, state: &State<'_>) -> usize {
        let reading = state.reading.unwrap_or(0);
        self.groups.iter().copied().find(|end| reading < *end).unwrap_or(self.packages.len())
    }

    /// The package to take next, of those that are wanted now or, for an idle thread, of the first group after those that
    /// has one left.
    fn choose(&self, state: &State<'_>, idle: bool) -> Option<usize> {
        let wanted = self.wanted(state);
        let left = |range: Range<usize>| range.filter(|index| !state.taken[*index]);
        if !idle && state.reading.is_some() {
            return left(0..wanted).next();
        }
        let group = match idle {
            false => 0..wanted,
            true => {
                let first = left(wanted..self.packages.len()).next()?;
                let end = self.groups.iter().copied().find(|end| first < *end);
                first..end.unwrap_or(self.packages.len())
            }
        };
        left(group).max_by_key(|index| (self.packages[*index].data_length(), std::cmp::Reverse(*index)))
    }

    /// The next package to unpack.
    fn take(&self, idle: bool) -> Option<Work<'a>> {
        let mut state = self.lock();
        let index = loop {
            let ended = state.taken.iter().all(|taken| *taken);
            // What idle threads have begun may still come.
            if state.stopped || (ended && (idle || (state.busy == 0 && state.begun.is_empty()))) {
                return None;
            }
            if let Some(work) = state.begun.pop_if(|_| !idle) {
                return Some(work);
            }
            if let Some(index) = self.choose(&state, idle) {
                state.taken[index] = true;
                state.busy += usize::from(idle);
                break index;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        self.changed.notify_all();
        drop(state);
        let sender = self.senders.get(index)?.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let reader: Box<dyn Read + Send + 'a> = match self.packages.get(index)?.data() {
            Ok(reader) => Box::new(reader),
            Err(error) => Box::new(Failing(Some(io::Error::other(error)))),
        };
        Some(Work { index, reader, sender })
    }

    /// Waits until `length` more bytes of package `index` may wait; false when nobody reads any more.
    fn may_hand_over(&self, index: usize, length: u64) -> bool {
        let mut state = self.lock();
        // A package that is read and that nobody is at is for whoever has done what it is at.
        let is_needed = |state: &State<'_>| {
            let Some(reading) = state.reading else { return false };
            let waits = !state.taken[reading] || state.begun.iter().any(|work| work.index == reading);
            reading == index || waits
        };
        while !state.stopped && !is_needed(&state) && state.waiting + length > self.budget {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting += length;
        !state.stopped
    }
}

/// Gives an error, then nothing.
struct Failing(Option<io::Error>);

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

impl<'s, 'p> Feed<'s, 'p> {
    /// The data archive of the next package, in the order of `packages`.
    pub fn next(&mut self) -> Option<Unpacked<'s, 'p>> {
        let receiver = self.receivers.next()?;
        self.shared.lock().reading = Some(self.index);
        self.shared.changed.notify_all();
        self.index += 1;
        Some(Unpacked { shared: self.shared, receiver, piece: Vec::new(), position: 0 })
    }
}

impl Drop for Feed<'_, '_> {
    /// Lets the threads end, also when the reader failed half-way.
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
    }
}

impl BufRead for Unpacked<'_, '_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.piece.len() {
            self.position = 0;
            let mut piece = std::mem::take(&mut self.piece);
            let mut state = self.shared.lock();
            state.waiting -= piece.len() as u64;
            if piece.capacity() > 0 && state.spare.len() < SPARE {
                piece.clear();
                state.spare.push(piece);
            }
            drop(state);
            self.shared.changed.notify_all();
            // The last, empty piece is not counted; a sender that is gone has sent everything.
            self.piece = self.receiver.recv().unwrap_or(Ok(Vec::new()))?;
        }
        Ok(&self.piece[self.position..])
    }

    fn consume(&mut self, length: usize) {
        self.position += length;
    }
}

impl Read for Unpacked<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::apt::deb::maker;

    fn deb(number: usize) -> Deb {
        // Sizes that rise and fall, some beyond the budget.
        let text = vec![b'x'; 1000 + (number * 7919) % 11 * 300_000];
        let package = maker::Deb::new(&format!("package-{number}"), "1").file("/usr/share/file", &text);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&package.build().bytes).unwrap();
        Deb::open(file).unwrap()
    }

    #[test]
    fn packages_come_in_order_whatever_was_taken_first() {
        let debs: Vec<_> = (0..12).map(deb).collect();
        let packages: Vec<_> = debs.iter().collect();
        let length = |mut data: &mut dyn Read| io::copy(&mut data, &mut io::sink()).unwrap();
        let expected: Vec<u64> = packages.iter().map(|deb| length(&mut deb.data().unwrap())).collect();
        let cases = [
            (1, &[12][..], 0, false),
            (2, &[12], 1 << 19, true),
            (2, &[0, 5, 5, 12], 1 << 20, true),
            (3, &[4, 12], 1 << 30, false),
        ];
        for (threads, groups, budget, late) in cases {
            let read: Vec<u64> = feed(&packages, (threads, groups), budget, |feed| {
                if late {
                    // Until the threads have as much as may wait, of the largest.
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
                std::iter::from_fn(|| feed.next()).map(|mut data| length(&mut data)).collect()
            });
            assert_eq!(read, expected, "{threads} {groups:?} {budget}");
        }
    }

    #[test]
    fn threads_end_when_the_reader_goes() {
        let debs: Vec<_> = (0..6).map(deb).collect();
        let packages: Vec<_> = debs.iter().collect();
        for begin in [false, true] {
            feed(&packages, (2, &[3, 6]), 1 << 10, |feed| drop(begin.then(|| feed.next())));
        }
    }
}
