//! Who uses the store just now, so that `gc` leaves alone what they need.
//!
//! Each run has a file in `running/`, locked as long as it lives: when it began, then the objects that it is going to
//! need. Whatever it uses beside these it touches, so that it is younger than its beginning. A sweep takes the lock
//! [`SWEEP`] for itself, runs share it for the moments in which they say what they need: what they have said before they
//! look for it does not vanish under them.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Context as _, Guard, Held, Kind, Store, StoreError, temporary};

/// The store's directory of running runs.
pub(super) const RUNNING: &str = "running";
/// The lock of whoever removes objects.
const SWEEP: &str = "sweep";

/// Says that a run uses the store, until dropped or until the process ends.
#[derive(Debug)]
pub struct Running {
    store: Store,
    file: Mutex<tempfile::NamedTempFile>,
}

/// A run as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// When it began.
    pub since: SystemTime,
    /// Objects that it said it needs, each as kind and name.
    pub objects: BTreeSet<(Kind, String)>,
}

impl Running {
    /// Says that this run needs these objects, whether they are there or not.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn needs(&self, objects: impl IntoIterator<Item = (Kind, String)>) -> Result<(), StoreError> {
        let lines: Vec<_> =
            objects.into_iter().map(|(kind, name)| format!("{} {name}\n", kind.directory())).collect();
        let _shared = self.store.share_sweep()?;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let path = file.path().to_owned();
        file.as_file_mut().write_all(lines.concat().as_bytes()).context("write", &path)
    }
}

impl Store {
    /// Says that a run begins to use objects. Removes first what killed runs left under `tmp/`.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn use_objects(&self) -> Result<Running, StoreError> {
        let directory = self.root.join(RUNNING);
        temporary::clear(&self.root.join("tmp"), |_| true);
        temporary::clear(&directory, |_| true);
        let _shared = self.share_sweep()?;
        let mut file = temporary::file(&directory, "").context("make a file in", &directory)?;
        let since = file.as_file().metadata().and_then(|metadata| metadata.modified());
        let since = since.unwrap_or_else(|_| SystemTime::now());
        let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = format!("{} {}\n", since.as_secs(), since.subsec_nanos());
        let path = file.path().to_owned();
        file.as_file_mut().write_all(line.as_bytes()).context("write", &path)?;
        Ok(Running { store: self.clone(), file: Mutex::new(file) })
    }

    /// The runs that use the store.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn in_use(&self) -> Result<Vec<InUse>, StoreError> {
        let directory = self.root.join(RUNNING);
        let mut all = Vec::new();
        for entry in fs::read_dir(&directory).context("read", &directory)? {
            let path = entry.context("read", &directory)?.path();
            all.extend(living(&path).context("read", &path)?);
        }
        Ok(all)
    }

    /// The right to remove objects; nothing while somebody else has it, or says just now what a run needs.
    ///
    /// # Errors
    /// When the lock file cannot be opened.
    pub fn try_sweep(&self) -> Result<Option<Guard>, StoreError> {
        self.try_lock(SWEEP)
    }

    fn share_sweep(&self) -> Result<Guard, StoreError> {
        self.lock_with(SWEEP, |file| file.lock_shared().map(|()| true)).map(|guard| guard.expect("it waits"))
    }

    /// Leftovers of killed runs.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub(crate) fn leftovers(&self) -> Result<Vec<std::path::PathBuf>, StoreError> {
        let mut all = Vec::new();
        for name in ["tmp", RUNNING] {
            let directory = self.root.join(name);
            all.extend(temporary::leftovers(&directory).context("read", &directory)?);
        }
        Ok(all)
    }
}

/// The run behind a file; nothing when it has ended.
fn living(path: &Path) -> io::Result<Option<InUse>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    match file.try_lock_shared() {
        Ok(()) => {
            drop(Held::new(file));
            return Ok(None);
        }
        Err(TryLockError::WouldBlock) => {}
        // Without locks nobody can tell: better keep too much.
        Err(TryLockError::Error(_)) => {}
    }
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let mut lines = text.lines();
    let since = lines.next().and_then(|line| {
        let (seconds, nanoseconds) = line.split_once(' ')?;
        Some(UNIX_EPOCH + Duration::new(seconds.parse().ok()?, nanoseconds.parse().ok()?))
    });
    let object = |line: &str| {
        let (directory, name) = line.split_once(' ')?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.directory() == directory)?;
        Some((kind, name.to_owned()))
    };
    // A line that cannot be read says nothing; a beginning that cannot be, that everything may be needed.
    Ok(Some(InUse { since: since.unwrap_or(UNIX_EPOCH), objects: lines.filter_map(object).collect() }))
}

/// Says that the file or directory at `path` was used now. Best effort: on a store of somebody else's it cannot be said.
pub(crate) fn touch(path: &Path) {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    let _ = rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_seen_with_what_it_needs_until_it_ends() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        assert!(store.in_use().unwrap().is_empty());
        let (one, two) = (store.use_objects().unwrap(), store.use_objects().unwrap());
        one.needs([(Kind::Layer, "a".to_owned())]).unwrap();
        one.needs([(Kind::Deb, "b".to_owned()), (Kind::Partial, "b".to_owned())]).unwrap();
        let mut seen = store.in_use().unwrap();
        seen.sort_by_key(|run| run.objects.len());
        assert_eq!(seen.len(), 2);
        assert!(seen[0].objects.is_empty());
        let expected = [(Kind::Deb, "b"), (Kind::Layer, "a"), (Kind::Partial, "b")];
        assert_eq!(seen[1].objects, expected.map(|(kind, name)| (kind, name.to_owned())).into());
        // What is made or touched from now on is not older than the run.
        let file = store.path(Kind::Frame, "f");
        fs::write(&file, "x").unwrap();
        let long_ago = UNIX_EPOCH + Duration::from_secs(1);
        File::open(&file).unwrap().set_modified(long_ago).unwrap();
        touch(&file);
        assert!(fs::metadata(&file).unwrap().modified().unwrap() >= seen[1].since);
        drop(two);
        assert_eq!(store.in_use().unwrap().len(), 1);
        drop(one);
        assert!(store.in_use().unwrap().is_empty());
        assert_eq!(fs::read_dir(root.path().join(RUNNING)).unwrap().count(), 0);
    }

    #[test]
    fn a_file_of_a_killed_run_means_nothing_and_goes() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        fs::write(root.path().join(RUNNING).join("killed"), "1 1\nlayers a\n").unwrap();
        fs::create_dir(root.path().join("tmp/killed")).unwrap();
        assert!(store.in_use().unwrap().is_empty());
        assert_eq!(store.leftovers().unwrap().len(), 2);
        let _run = store.use_objects().unwrap();
        assert!(store.leftovers().unwrap().is_empty());
        assert_eq!(store.in_use().unwrap().len(), 1);
    }

    #[test]
    fn a_sweep_and_what_a_run_says_exclude_each_other() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let run = store.use_objects().unwrap();
        let sweep = store.try_sweep().unwrap();
        assert!(sweep.is_some() && store.try_sweep().unwrap().is_none());
        std::thread::scope(|scope| {
            let said = scope.spawn(|| run.needs([(Kind::Layer, "a".to_owned())]));
            std::thread::sleep(Duration::from_millis(50));
            assert!(store.in_use().unwrap()[0].objects.is_empty());
            drop(sweep);
            said.join().unwrap().unwrap();
        });
        assert_eq!(store.in_use().unwrap()[0].objects.len(), 1);
    }
}
