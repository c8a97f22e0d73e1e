//! Unpacks the data archives of many packages at once, to be placed one after the other.
//!
//! Threads run ahead of the reader, over all packages together by a bounded number of bytes; only the package being read, and
//! those that were begun before it, may go beyond it, so that nobody waits for ever. Where the reader is, packages are taken
//! in its order; where it is not yet, the largest first, so that in the end not all wait for one that was begun last.
//!
//! What is wanted only after some scripts have run is unpacked by threads that use what others leave of the processor.
//! When the reader comes there, they hand what they have begun to the others, so that no idle thread is waited for.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::failure::Failure;
use super::loose::{Ready, Unpacking};
use super::package::Package;
use crate::sandbox::only_when_idle;

/// Most bytes of a file that are unpacked at a time.
const PIECE: usize = 1 << 18;
/// So many read bytes are given back at a time: each time, whoever waits is woken.
const GIVE_BACK: u64 = 1 << 20;

/// How far the threads may be ahead of the reader.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead {
    /// Bytes of contents, but for what the reader waits for.
    pub bytes: u64,
    /// Open files; further contents wait in memory.
    pub files: usize,
}

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
    /// The reader has gone.
    stopped: bool,
}

/// A package on its way.
struct Work<'a> {
    index: usize,
    unpacking: Unpacking<'a>,
    sender: Sender<Item>,
}

/// All that the threads share.
struct Shared<'a> {
    packages: &'a [&'a Package],
    /// A directory of the root's file system.
    place: BorrowedFd<'a>,
    /// Where each group ends: the packages that the reader wants one right after the other.
    groups: &'a [usize],
    ahead: Ahead,
    /// Contents that wait, most with an open file.
    open: AtomicUsize,
    senders: Vec<Mutex<Option<Sender<Item>>>>,
    state: Mutex<State<'a>>,
    changed: Condvar,
}

type Item = Result<Ready, Failure>;

/// Gives the members of each package's data archive, in order.
pub(super) struct Feed<'s, 'p> {
    shared: &'s Shared<'p>,
    receivers: std::vec::IntoIter<Receiver<Item>>,
    index: usize,
}

/// The members of one package's data archive.
pub(super) struct Members<'s, 'p> {
    shared: &'s Shared<'p>,
    receiver: Receiver<Item>,
    /// Bytes that were read and not yet given back.
    read: u64,
}

/// Runs `consume` while the packages are unpacked by `threads` threads into the file system of the directory `place`, so far
/// `ahead` at most. `groups` says where each group ends; only what else is left of the processor goes to groups that `consume`
/// is not at.
pub(super) fn feed<T>(
    packages: &[&Package],
    place: BorrowedFd<'_>,
    (threads, groups): (usize, &[usize]),
    ahead: Ahead,
    consume: impl FnOnce(&mut Feed<'_, '_>) -> T,
) -> T {
    let state = Mutex::new(State {
        taken: vec![false; packages.len()],
        reading: None,
        waiting: 0,
        begun: Vec::new(),
        busy: 0,
        stopped: false,
    });
    let (senders, receivers): (Vec<_>, Vec<_>) = packages.iter().map(|_| channel()).unzip();
    let senders = senders.into_iter().map(|sender| Mutex::new(Some(sender))).collect();
    let (open, changed) = (AtomicUsize::new(0), Condvar::new());
    let shared = Shared { packages, place, groups, ahead, open, senders, state, changed };
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
        let mut buffer = vec![0; PIECE];
        while let Some(mut work) = self.take(idle) {
            loop {
                let opens = self.open.load(Ordering::Relaxed) < self.ahead.files;
                let (length, item, ends) = match work.unpacking.step(&mut buffer, opens) {
                    Ok(step) => (step.length, step.ready.map(Ok), step.ends),
                    Err(failure) => (0, Some(Err(failure)), true),
                };
                if length > 0 && !self.may_hand_over(work.index, length) {
                    return;
                }
                self.open.fetch_add(item.as_ref().map_or(0, contents), Ordering::Relaxed);
                let sent = item.is_none_or(|item| work.sender.send(item).is_ok());
                let done = ends || !sent;
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
        left(group).max_by_key(|index| (self.packages[*index].deb.data_length(), std::cmp::Reverse(*index)))
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
        let unpacking = Unpacking::new(self.packages.get(index)?, self.place);
        Some(Work { index, unpacking, sender })
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
        while !state.stopped && !is_needed(&state) && state.waiting + length > self.ahead.bytes {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting += length;
        !state.stopped
    }
}

/// How many contents an item has.
fn contents(item: &Item) -> usize {
    usize::from(item.as_ref().is_ok_and(|ready| ready.file.is_some()))
}

impl<'s, 'p> Feed<'s, 'p> {
    /// The members of the next package, in the order of `packages`.
    pub fn next(&mut self) -> Option<Members<'s, 'p>> {
        let receiver = self.receivers.next()?;
        self.shared.lock().reading = Some(self.index);
        self.shared.changed.notify_all();
        self.index += 1;
        Some(Members { shared: self.shared, receiver, read: 0 })
    }
}

impl Drop for Feed<'_, '_> {
    /// Lets the threads end, also when the reader failed half-way.
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
    }
}

impl Members<'_, '_> {
    /// Makes room for what is still to come.
    fn give_back(&mut self) {
        self.shared.lock().waiting -= std::mem::take(&mut self.read);
        self.shared.changed.notify_all();
    }
}

impl Iterator for Members<'_, '_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        if self.read >= GIVE_BACK {
            self.give_back();
        }
        // A sender that is gone has sent everything.
        let item = self.receiver.recv().ok()?;
        self.shared.open.fetch_sub(contents(&item), Ordering::Relaxed);
        let file = item.as_ref().ok().and_then(|ready| ready.file.as_ref());
        self.read += file.map_or(0, |file| file.content.size);
        Some(item)
    }
}

impl Drop for Members<'_, '_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::apt::deb::maker;
    use crate::build::stage::job::StagePackage;
    use crate::build::stage::package::load_all;
    use crate::digest::Sha256;

    /// Packages with one file each, of sizes that rise and fall, some beyond what may wait.
    fn packages(count: usize) -> Vec<Package> {
        let made = (0..count).map(|number| {
            let text = vec![b'x'; size(number)];
            let name = format!("package-{number}");
            let made = maker::Deb::new(&name, "1").file("/usr/share/file", &text);
            let bytes = made.build().bytes;
            let mut file = tempfile::tempfile().unwrap();
            std::io::Write::write_all(&mut file, &bytes).unwrap();
            let (version, architecture) = (made.version.clone(), made.architecture.clone());
            let (sha256, size) = (Sha256::of(&bytes), bytes.len() as u64);
            (StagePackage { name, version, architecture, sha256, size }, file)
        });
        let (wanted, files): (Vec<_>, Vec<_>) = made.unzip();
        load_all(&wanted, files).unwrap()
    }

    fn size(number: usize) -> usize {
        1000 + (number * 7919) % 11 * 300_000
    }

    /// The sizes of the files of one package.
    fn sizes(members: Members<'_, '_>) -> usize {
        let files = members.filter_map(|item| item.unwrap().file);
        files.map(|file| usize::try_from(file.content.size).unwrap()).sum()
    }

    #[test]
    fn packages_come_in_order_whatever_was_taken_first() {
        let packages = packages(12);
        let packages: Vec<_> = packages.iter().collect();
        let expected: Vec<_> = (0..12).map(size).collect();
        let place = std::fs::File::open(std::env::temp_dir()).unwrap();
        let cases = [
            (1, &[12][..], 0, false),
            (2, &[12], 1 << 19, true),
            (2, &[0, 5, 5, 12], 1 << 20, true),
            (3, &[4, 12], 1 << 30, false),
        ];
        for (threads, groups, bytes, late) in cases {
            for files in [0, 1, usize::MAX] {
                let ahead = Ahead { bytes, files };
                let read: Vec<_> = feed(&packages, place.as_fd(), (threads, groups), ahead, |feed| {
                    if late {
                        // Until the threads have as much as may wait, of the largest.
                        std::thread::sleep(std::time::Duration::from_millis(100));
                    }
                    std::iter::from_fn(|| feed.next()).map(sizes).collect()
                });
                assert_eq!(read, expected, "{threads} {groups:?} {bytes} {files}");
            }
        }
    }

    #[test]
    fn threads_end_when_the_reader_goes() {
        let packages = packages(6);
        let packages: Vec<_> = packages.iter().collect();
        let place = std::fs::File::open(std::env::temp_dir()).unwrap();
        for begin in [false, true] {
            let ahead = Ahead { bytes: 1 << 10, files: usize::MAX };
            feed(&packages, place.as_fd(), (2, &[3, 6]), ahead, |feed| drop(begin.then(|| feed.next())));
        }
    }
}
