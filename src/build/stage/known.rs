//! What the regular files of the root hold, so that one that nobody touched is read only once.
//!
//! A file is still what it was when inode, size and time of change are the same and nobody had it open for writing: on tmpfs not
//! every kernel moves a time when something is written through a shared mapping. The kernel tells of such openings (inotify).
//! Where it cannot be asked, or has told too much to remember, no file is known.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::tree::{Content, TreePath};

/// Longest time that the clock of files is waited for, in milliseconds; it moves at least every ten.
const LONGEST_TICK: u32 = 50;

/// What is known of one regular file.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub content: Content,
    /// The extended attributes that an image keeps.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Whether it has others.
    pub foreign: bool,
}

/// The regular files of the root by inode, and when each was changed last.
pub(super) struct Known {
    files: HashMap<u64, (Changed, Seen)>,
    latest: Changed,
    watch: Rc<Watch>,
}

/// When an inode was changed, in seconds since 1970 and nanoseconds.
type Changed = (i64, i64);

/// The directories of the root, and which of their files were opened for writing.
pub(super) struct Watch {
    top: PathBuf,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// Nothing once something could have been missed.
    inotify: Option<OwnedFd>,
    /// Inodes by watch.
    directories: HashMap<i32, u64>,
    watched: HashSet<u64>,
    /// Names by the inodes of their directories.
    opened: HashMap<Box<[u8]>, Vec<u64>>,
}

impl Known {
    /// Knows nothing of the root at `top` yet.
    pub fn new(top: &Path) -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok();
        let state = RefCell::new(State { inotify, ..State::default() });
        let watch = Rc::new(Watch { top: top.to_owned(), state });
        Self { files: HashMap::new(), latest: (0, 0), watch }
    }

    /// Hears of openings.
    pub fn watch(&self) -> Rc<Watch> {
        Rc::clone(&self.watch)
    }

    /// Forgets all files.
    pub fn clear(&mut self) {
        self.files.clear();
    }

    /// Remembers what the file with `stat` holds; nobody may have it open for writing.
    pub fn note(&mut self, stat: &Stat, seen: Seen) {
        let changed = changed(stat);
        self.latest = self.latest.max(changed);
        self.files.insert(stat.st_ino, (changed, seen));
    }

    /// What the file with `stat` holds, if that is known.
    pub fn get(&self, stat: &Stat) -> Option<&Seen> {
        let (then, seen) = self.files.get(&stat.st_ino)?;
        let same = *then == changed(stat) && u64::try_from(stat.st_size) == Ok(seen.content.size);
        same.then_some(seen)
    }

    /// Forgets the files of the tree `entries` that were opened for writing since the last call; the root's inode is `top`.
    /// Hears of those of all directories of it from now on.
    pub fn look(&mut self, top: u64, entries: &BTreeMap<TreePath, Stat>) {
        self.watch.hear();
        let mut state = self.watch.state.borrow_mut();
        let opened = std::mem::take(&mut state.opened);
        if state.inotify.is_none() {
            self.files.clear();
            return;
        }
        for (path, stat) in entries {
            let Some(directories) = opened.get(path.name()) else { continue };
            let directory = path.parent().map_or(Some(top), |parent| Some(entries.get(&parent)?.st_ino));
            if directory.is_none_or(|inode| directories.contains(&inode)) {
                self.files.remove(&stat.st_ino);
            }
        }
        drop(state);
        let is_directory = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let directories = entries.iter().filter(|(_, stat)| is_directory(stat));
        self.hear_of(top, directories.map(|(path, stat)| (path, stat.st_ino)));
    }

    /// Hears of the files of `directories`, paths and inodes, from now on; the root's inode is `top`.
    pub fn hear_of<'a>(&self, top: u64, directories: impl Iterator<Item = (&'a TreePath, u64)>) {
        let mut state = self.watch.state.borrow_mut();
        state.add(&self.watch.top, None, top);
        directories.for_each(|(path, inode)| state.add(&self.watch.top, Some(path), inode));
    }

    /// Waits until whatever is changed from now on gets a later time than all files that are known: the clock of files moves
    /// in steps.
    pub fn wait(&mut self) {
        for _ in 0..LONGEST_TICK {
            let now = clock_gettime(ClockId::RealtimeCoarse);
            if self.files.is_empty() || (now.tv_sec, now.tv_nsec) > self.latest {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // The clock was set back.
        self.files.clear();
    }
}

#[expect(clippy::useless_conversion, reason = "the types of times depend on the architecture")]
fn changed(stat: &Stat) -> Changed {
    (i64::try_from(stat.st_ctime).unwrap_or(i64::MAX), i64::try_from(stat.st_ctime_nsec).unwrap_or(i64::MAX))
}

impl State {
    fn add(&mut self, top: &Path, path: Option<&TreePath>, inode: u64) {
        let Some(inotify) = &self.inotify else { return };
        if self.watched.contains(&inode) {
            return;
        }
        let path = path.map_or_else(|| top.to_owned(), |path| top.join(path.as_path()));
        let flags = WatchFlags::CLOSE_WRITE | WatchFlags::DONT_FOLLOW | WatchFlags::ONLYDIR;
        match inotify::add_watch(inotify, &path, flags) {
            Ok(watch) => {
                self.directories.insert(watch, inode);
                self.watched.insert(inode);
            }
            // The host allows no more of them.
            Err(_) => self.inotify = None,
        }
    }
}

impl Watch {
    /// Takes what the kernel has to tell; it keeps only so much.
    pub fn hear(&self) {
        self.take(true);
    }

    /// Takes it and pays no heed to openings: since the last call, only this process can have written.
    pub fn skip(&self) {
        self.take(false);
    }

    fn take(&self, heed: bool) {
        let mut state = self.state.borrow_mut();
        let State { inotify, directories, watched, opened } = &mut *state;
        let Some(descriptor) = inotify.as_ref() else { return };
        let mut buffer = [MaybeUninit::uninit(); 1 << 14];
        let mut reader = Reader::new(descriptor, &mut buffer);
        let complete = loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => break false,
                Ok(event) if event.events().contains(ReadFlags::IGNORED) => {
                    if let Some(inode) = directories.remove(&event.wd()) {
                        watched.remove(&inode);
                    }
                }
                Ok(_) if !heed => {}
                Ok(event) => {
                    let directory = directories.get(&event.wd());
                    if let Some((inode, name)) = directory.zip(event.file_name()) {
                        let places = opened.entry(name.to_bytes().into()).or_default();
                        if !places.contains(inode) {
                            places.push(*inode);
                        }
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => break error == Errno::AGAIN,
            }
        };
        if !complete {
            *inotify = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write as _;
    use std::os::unix::fs::FileExt as _;

    use super::*;

    struct Fixture {
        directory: tempfile::TempDir,
        known: Known,
    }

    impl Fixture {
        /// A directory in memory, where there is one, with a directory in it that has a file.
        fn new() -> Self {
            let memory = Path::new("/dev/shm");
            let directory = tempfile::tempdir_in(if memory.is_dir() { memory } else { Path::new("/tmp") });
            let directory = directory.unwrap();
            fs::create_dir(directory.path().join("in")).unwrap();
            fs::write(directory.path().join("in/file"), "old").unwrap();
            let known = Known::new(directory.path());
            let mut fixture = Self { directory, known };
            fixture.look();
            fixture.note();
            fixture
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("in/file")
        }

        fn stat(&self) -> Stat {
            rustix::fs::lstat(self.path()).unwrap()
        }

        fn note(&mut self) {
            let seen = Seen { content: Content::of(b"old"), xattrs: BTreeMap::new(), foreign: false };
            self.known.note(&self.stat(), seen);
            self.known.wait();
        }

        fn look(&mut self) {
            let entry = |path: &str| {
                let stat = rustix::fs::lstat(self.directory.path().join(path)).unwrap();
                (TreePath::new(path).unwrap(), stat)
            };
            let entries = BTreeMap::from(["in", "in/file"].map(entry));
            let top = rustix::fs::lstat(self.directory.path()).unwrap().st_ino;
            self.known.look(top, &entries);
        }

        fn is_known(&mut self) -> bool {
            self.look();
            self.known.get(&self.stat()).is_some()
        }
    }

    #[test]
    fn a_file_is_known_until_it_is_written_or_opened_for_that() {
        let mut fixture = Fixture::new();
        assert!(fixture.is_known());
        assert_eq!(fs::read(fixture.path()).unwrap(), b"old");
        assert!(fixture.is_known());

        // An opening alone moves no time.
        let before = changed(&fixture.stat());
        drop(File::options().write(true).open(fixture.path()).unwrap());
        assert_eq!(changed(&fixture.stat()), before);
        assert!(!fixture.is_known());

        fixture.note();
        assert!(fixture.is_known());
        File::options().write(true).open(fixture.path()).unwrap().write_all_at(b"new", 0).unwrap();
        assert!(!fixture.is_known());

        fixture.note();
        fs::remove_file(fixture.path()).unwrap();
        File::create(fixture.path()).unwrap().write_all(b"new").unwrap();
        assert!(!fixture.is_known());
    }

    #[test]
    fn what_this_process_writes_itself_is_not_heeded() {
        let mut fixture = Fixture::new();
        let open = || drop(File::options().write(true).open(fixture.path()).unwrap());
        open();
        fixture.known.watch.skip();
        assert!(fixture.is_known());

        let open = || drop(File::options().write(true).open(fixture.path()).unwrap());
        open();
        fixture.known.watch.hear();
        open();
        fixture.known.watch.skip();
        assert!(!fixture.is_known());
    }

    #[test]
    fn nothing_is_known_once_something_may_have_been_missed() {
        let mut fixture = Fixture::new();
        fixture.known.watch.state.borrow_mut().inotify = None;
        assert!(!fixture.is_known());

        // More openings than the kernel keeps.
        let mut fixture = Fixture::new();
        let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let most = most.trim().parse::<usize>().unwrap();
        // Two in turn: one and the same event is kept once. Some more than that, since a process that another test starts at the
        // same moment has a file open a little longer, and closings change their order.
        let others = ["in/other", "other"].map(|other| fixture.directory.path().join(other));
        for number in 0..most + most / 8 {
            drop(File::create(&others[number % 2]).unwrap());
        }
        assert!(!fixture.is_known());
        fixture.note();
        assert!(!fixture.is_known());
    }
}
