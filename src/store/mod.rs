//! The content-addressed cache: .debs, layers, frames, indices.
//!
//! What has its final name is complete: it is written under `tmp/`, checked, and renamed. Readers check hashes
//! again, since a disk may lie, and note what does not match ([`Damage`]). Several processes may use one store at once;
//! what each needs is in `running/`.

mod damage;
mod held;
mod running;
mod sealed;
mod temporary;
mod turns;
mod written;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::digest::Sha256;

pub use damage::{Damage, Object};
pub(crate) use held::Held;
pub(crate) use running::touch;
pub use running::{InUse, Running};
pub use sealed::Unusable;
pub(crate) use sealed::read as read_sealed;
pub use temporary::TemporaryDirectory;
pub(crate) use temporary::{clear, file as temporary_file, remove};
pub use turns::Turn;
use turns::Turns;

/// How often it is tried to take a lock that another process holds.
const PAUSE: Duration = Duration::from_millis(20);

/// What is kept, each in a directory of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Binary packages, named by the hash of the .deb.
    Deb,
    /// Tarballs of recipes, named by their hash.
    Tarball,
    /// Signed Release files and package indices, named by their hash.
    Index,
    /// Layers, each a directory named by its key.
    Layer,
    /// Compressed frames, named by their key.
    Frame,
    /// Downloads that are not complete, named by the hash they should have.
    Partial,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Deb, Self::Tarball, Self::Index, Self::Layer, Self::Frame, Self::Partial];

    /// The directory's name.
    pub fn directory(self) -> &'static str {
        match self {
            Self::Deb => "debs",
            Self::Tarball => "tarballs",
            Self::Index => "indices",
            Self::Layer => "layers",
            Self::Frame => "frames",
            Self::Partial => "partial",
        }
    }
}

/// A store in a directory.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    damaged: Arc<Mutex<Vec<Damage>>>,
    turns: Arc<Turns>,
    written: Arc<Mutex<BTreeMap<Sha256, written::Stamp>>>,
}

/// Something went wrong with a file of the store.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{path}`: {source}")]
pub struct StoreError {
    action: &'static str,
    path: String,
    source: io::Error,
}

impl StoreError {
    /// Whether the file system is full or a quota is used up.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl StoreError {
    /// Whether a text was to be read that is not UTF-8.
    pub(crate) fn is_no_text(&self) -> bool {
        self.source.kind() == io::ErrorKind::InvalidData
    }
}

/// Gives an I/O error what was tried and where.
pub(crate) trait Context<T> {
    /// `action` is a verb that fits "cannot … `path`".
    fn context(self, action: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError { action, path: path.display().to_string(), source })
    }
}

impl Store {
    /// Opens the store in `root`, making what is missing of it.
    ///
    /// # Errors
    /// When a directory cannot be made.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        let names = Kind::ALL.map(Kind::directory);
        for name in names.into_iter().chain(["tmp", "locks", running::RUNNING]) {
            let directory = root.join(name);
            fs::create_dir_all(&directory).context("make the directory", &directory)?;
        }
        Ok(Self { root, damaged: Arc::default(), turns: Arc::default(), written: Arc::default() })
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the object `name` of `kind` is, or would be.
    pub fn path(&self, kind: Kind, name: impl std::fmt::Display) -> PathBuf {
        self.root.join(kind.directory()).join(name.to_string())
    }

    /// Whether the object is here. Says nothing of its contents.
    pub fn contains(&self, kind: Kind, name: impl std::fmt::Display) -> bool {
        self.path(kind, name).exists()
    }

    /// A new file under `tmp/`, gone again unless it is committed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(&self) -> Result<Pending, StoreError> {
        let directory = self.root.join("tmp");
        let file = temporary::file(&directory, "").context("make a file in", &directory)?;
        Ok(Pending { file })
    }

    /// A new directory under `tmp/`, gone again unless it is committed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create_directory(&self) -> Result<TemporaryDirectory, StoreError> {
        let parent = self.root.join("tmp");
        TemporaryDirectory::new(&parent, "").context("make a directory in", &parent)
    }

    /// Puts `pending` in its place. An object that is already there stays.
    ///
    /// # Errors
    /// When it cannot be flushed to disk or renamed.
    pub fn commit(
        &self,
        pending: Pending,
        kind: Kind,
        name: impl std::fmt::Display,
    ) -> Result<PathBuf, StoreError> {
        pending.file.as_file().sync_data().context("write", pending.file.path())?;
        self.commit_unsynced(pending, kind, name)
    }

    /// As [`Store::commit`], but does not wait for the disk: for objects that carry a checksum which their readers
    /// look at, so that what a power cut leaves is noticed and made anew.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn commit_unsynced(
        &self,
        pending: Pending,
        kind: Kind,
        name: impl std::fmt::Display,
    ) -> Result<PathBuf, StoreError> {
        let path = self.path(kind, name);
        let persisted = pending.file.persist(&path).map_err(|error| error.error);
        persisted.context("make", &path)?;
        Ok(path)
    }

    /// Puts a directory in its place. When one is already there, it stays and the new one is dropped.
    ///
    /// Does not wait for the disk. What is put in place so, layers, is checked at each use, byte by byte against hashes
    /// that its readers know; what a power cut leaves half-written is noticed there and made again. Waiting would cost
    /// every build for what hardly ever happens.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn commit_directory(
        &self,
        pending: TemporaryDirectory,
        kind: Kind,
        name: impl std::fmt::Display,
    ) -> Result<PathBuf, StoreError> {
        let path = self.path(kind, name);
        match fs::rename(pending.path(), &path) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) => {}
            result => result.context("make", &path)?,
        }
        Ok(path)
    }

    /// Removes an object; it may be missing. It is gone at once for others, however long removing it takes.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, kind: Kind, name: impl std::fmt::Display) -> Result<(), StoreError> {
        let path = self.path(kind, name);
        let removed = match self.create_directory() {
            Ok(trash) => fs::rename(&path, trash.path().join("removed")),
            // The disk may be full.
            Err(_) => temporary::remove(&path),
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.context("remove", &path),
        }
    }

    /// An error of this store: `action` is a verb that fits "cannot … `path`".
    pub(crate) fn failed(
        &self,
        action: &'static str,
        kind: Kind,
        name: impl std::fmt::Display,
        source: io::Error,
    ) -> StoreError {
        StoreError { action, path: self.path(kind, name).display().to_string(), source }
    }

    /// Takes the lock `name`, waiting while another process or thread holds it, as long as `wait` says so each time
    /// it is asked; nothing when it does not any more.
    ///
    /// # Errors
    /// When the lock file cannot be opened.
    pub fn lock(
        &self,
        name: impl std::fmt::Display,
        mut wait: impl FnMut() -> bool,
    ) -> Result<Option<Guard>, StoreError> {
        loop {
            if let Some(guard) = self.try_lock(&name)? {
                return Ok(Some(guard));
            }
            if !wait() {
                return Ok(None);
            }
            // Not the kernel's own waiting: that cannot be interrupted by a signal that only sets a flag.
            std::thread::sleep(PAUSE);
        }
    }

    /// As [`Store::lock`], but nothing when the lock is held.
    ///
    /// # Errors
    /// When the lock file cannot be opened.
    pub fn try_lock(&self, name: impl std::fmt::Display) -> Result<Option<Guard>, StoreError> {
        self.lock_with(&name.to_string(), |file| match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        })
    }

    /// Removes the files of locks that nobody holds. They are empty, but each layer and plan has one.
    pub(crate) fn clear_locks(&self) {
        for entry in fs::read_dir(self.root.join("locks")).into_iter().flatten().flatten() {
            // Who waits for it notices that the file has gone, and makes another.
            if let Some(_guard) = entry.file_name().to_str().and_then(|name| self.try_lock(name).ok()?) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn lock_with(
        &self,
        name: &str,
        take: impl Fn(&File) -> io::Result<bool>,
    ) -> Result<Option<Guard>, StoreError> {
        let path = self.root.join("locks").join(name);
        loop {
            let file = File::options().create(true).append(true).open(&path).context("open", &path)?;
            if !take(&file).context("lock", &path)? {
                return Ok(None);
            }
            // Whoever held it before may have removed the file.
            let held = Held::new(file);
            if is_at(&held, &path) {
                return Ok(Some(Guard { _held: held }));
            }
        }
    }
}

/// Whether `file` is still what `path` names.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let (Ok(open), Ok(named)) = (file.metadata(), fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

/// A file that is being written.
#[derive(Debug)]
pub struct Pending {
    file: tempfile::NamedTempFile,
}

impl Pending {
    /// The open file.
    pub fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }
}

impl Pending {
    /// Puts the file at `path` of the same file system, without waiting for the disk.
    pub(crate) fn place(self, path: &Path) -> Result<(), StoreError> {
        let persisted = self.file.persist(path).map_err(|error| error.error);
        persisted.context("make", path).map(drop)
    }
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Holds a lock until dropped, or until the process ends.
#[derive(Debug)]
pub struct Guard {
    _held: Held,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_there_before_it_is_committed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut pending = store.create().unwrap();
        pending.write_all(b"x").unwrap();
        assert!(!store.contains(Kind::Deb, "a"));
        let path = store.commit(pending, Kind::Deb, "a").unwrap();
        assert_eq!(fs::read(path).unwrap(), b"x");
        drop(store.create().unwrap());
        assert_eq!(fs::read_dir(directory.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_lock_is_held_by_one_and_survives_the_removal_of_its_file() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let held = store.try_lock("a").unwrap();
        assert!(held.is_some() && store.try_lock("a").unwrap().is_none());
        let mut asked = 0;
        let waited = store.lock("a", || {
            asked += 1;
            asked < 3
        });
        assert!(waited.unwrap().is_none() && asked == 3);
        drop(store.try_lock("b").unwrap());
        store.clear_locks();
        let names = || fs::read_dir(root.path().join("locks")).unwrap().count();
        assert_eq!(names(), 1);
        drop(held);
        store.clear_locks();
        assert_eq!(names(), 0);
        assert!(store.try_lock("a").unwrap().is_some());
    }

    #[test]
    fn removing_gives_back_all_of_an_object() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let pending = store.create_directory().unwrap();
        fs::write(pending.path().join("pack"), "x").unwrap();
        store.commit_directory(pending, Kind::Layer, "key").unwrap();
        fs::write(store.path(Kind::Deb, "deb"), "x").unwrap();
        for (kind, name) in [(Kind::Layer, "key"), (Kind::Deb, "deb"), (Kind::Deb, "none")] {
            store.remove(kind, name).unwrap();
            assert!(!store.contains(kind, name));
        }
        assert_eq!(fs::read_dir(root.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn the_first_of_two_directories_stays() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        for text in ["first", "second"] {
            let pending = store.create_directory().unwrap();
            fs::write(pending.path().join("file"), text).unwrap();
            store.commit_directory(pending, Kind::Layer, "key").unwrap();
        }
        assert_eq!(fs::read(store.path(Kind::Layer, "key").join("file")).unwrap(), b"first");
        assert_eq!(fs::read_dir(root.path().join("tmp")).unwrap().count(), 0);
    }
}
