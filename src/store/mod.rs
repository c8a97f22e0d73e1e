//! The content-addressed cache: .debs, layers, frames, indices.
//!
//! What has its final name is complete: it is written under `tmp/`, checked, and renamed. Readers check hashes
//! again, since a disk may lie. Several processes may use one store at once.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The lock that those who use objects share.
const IN_USE: &str = "in-use";

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
        for name in names.into_iter().chain(["tmp", "locks"]) {
            let directory = root.join(name);
            fs::create_dir_all(&directory).context("make the directory", &directory)?;
        }
        Ok(Self { root })
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
        let file = tempfile::NamedTempFile::new_in(&directory).context("make a file in", &directory)?;
        Ok(Pending { file })
    }

    /// A new directory under `tmp/`, gone again unless it is committed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create_directory(&self) -> Result<PendingDirectory, StoreError> {
        let parent = self.root.join("tmp");
        let directory = tempfile::TempDir::new_in(&parent).context("make a directory in", &parent)?;
        Ok(PendingDirectory { directory })
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
    /// # Errors
    /// When it cannot be renamed.
    pub fn commit_directory(
        &self,
        pending: PendingDirectory,
        kind: Kind,
        name: impl std::fmt::Display,
    ) -> Result<PathBuf, StoreError> {
        let path = self.path(kind, name);
        for entry in fs::read_dir(pending.path()).context("read", pending.path())? {
            let file = entry.and_then(|entry| File::open(entry.path()));
            file.and_then(|file| file.sync_data()).context("write", pending.path())?;
        }
        match fs::rename(pending.path(), &path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            result => result.context("make", &path)?,
        }
        Ok(path)
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

    /// Takes the lock `name`, waiting while another process or thread holds it.
    ///
    /// # Errors
    /// When the lock file cannot be opened.
    pub fn lock(&self, name: impl std::fmt::Display) -> Result<Guard, StoreError> {
        let (file, path) = self.lock_file(&name.to_string())?;
        file.lock().context("lock", &path)?;
        Ok(Guard { _file: file })
    }

    /// As [`Store::lock`], but nothing when the lock is held.
    ///
    /// # Errors
    /// When the lock file cannot be opened.
    pub fn try_lock(&self, name: impl std::fmt::Display) -> Result<Option<Guard>, StoreError> {
        let (file, path) = self.lock_file(&name.to_string())?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Guard { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).context("lock", &path),
        }
    }

    /// Says that objects of this store are in use until the guard is dropped: [`Store::lock_unused`] gives nothing until then.
    ///
    /// # Errors
    /// When the lock file cannot be opened.
    pub fn use_objects(&self) -> Result<Guard, StoreError> {
        let (file, path) = self.lock_file(IN_USE)?;
        file.lock_shared().context("lock", &path)?;
        Ok(Guard { _file: file })
    }

    /// The right to remove objects; nothing while somebody uses any.
    ///
    /// # Errors
    /// When the lock file cannot be opened.
    pub fn lock_unused(&self) -> Result<Option<Guard>, StoreError> {
        self.try_lock(IN_USE)
    }

    fn lock_file(&self, name: &str) -> Result<(File, PathBuf), StoreError> {
        let path = self.root.join("locks").join(name);
        let file = File::options().create(true).append(true).open(&path).context("open", &path)?;
        Ok((file, path))
    }
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

/// A directory that is being filled.
#[derive(Debug)]
pub struct PendingDirectory {
    directory: tempfile::TempDir,
}

impl PendingDirectory {
    /// Where it is for now.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Holds a lock until dropped, or until the process ends.
#[derive(Debug)]
pub struct Guard {
    _file: File,
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
    fn objects_in_use_hold_off_whoever_wants_to_remove_them() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let (one, two) = (store.use_objects().unwrap(), store.use_objects().unwrap());
        assert!(store.lock_unused().unwrap().is_none());
        drop(one);
        assert!(store.lock_unused().unwrap().is_none());
        drop(two);
        let alone = store.lock_unused().unwrap();
        assert!(alone.is_some() && store.lock_unused().unwrap().is_none());
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
