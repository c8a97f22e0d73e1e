//! A download that is not complete: bytes on disk, and the hash of what is there so far.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use super::Wanted;
use crate::digest::{HashingWriter, Sha256};
use crate::store::{Context as _, Held, Kind, Store, StoreError, is_at, touch};

/// How often another process that fetches the same file is looked after.
const PAUSE: Duration = Duration::from_millis(50);

/// A file below `partial/`, held by this process alone.
pub(super) struct Partial {
    path: PathBuf,
    file: Held,
    hasher: HashingWriter<io::Sink>,
}

impl Partial {
    /// Opens the partial file of `wanted`, with what an earlier run left in it. Nothing, when `stop` says so while
    /// another process holds it.
    pub(super) fn open(
        store: &Store,
        wanted: &Wanted,
        stop: impl Fn() -> bool,
    ) -> Result<Option<Self>, StoreError> {
        let path = store.path(Kind::Partial, wanted.sha256);
        loop {
            let open = File::options().create(true).truncate(false).read(true).write(true).open(&path);
            let file = open.context("open", &path)?;
            while let Err(error) = file.try_lock() {
                match error {
                    fs::TryLockError::WouldBlock if stop() => return Ok(None),
                    fs::TryLockError::WouldBlock => std::thread::sleep(PAUSE),
                    fs::TryLockError::Error(error) => return Err(error).context("lock", &path),
                }
            }
            // Whoever held it may have renamed or removed it by now.
            let mut file = Held::new(file);
            if is_at(&file, &path) {
                touch(&path);
                let mut hasher = HashingWriter::new(io::sink());
                let there = (&mut *file).take(wanted.size.saturating_add(1));
                io::copy(&mut { there }, &mut hasher).context("read", &path)?;
                let mut partial = Self { path, file, hasher };
                if partial.length() > wanted.size {
                    partial.restart()?;
                }
                return Ok(Some(partial));
            }
        }
    }

    /// Bytes there so far.
    pub(super) fn length(&self) -> u64 {
        self.hasher.length()
    }

    /// Adds bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).context("write", &self.path)?;
        self.hasher.write_all(bytes).context("write", &self.path)
    }

    /// Throws everything away.
    pub(super) fn restart(&mut self) -> Result<(), StoreError> {
        self.file.set_len(0).context("empty", &self.path)?;
        self.file.rewind().context("empty", &self.path)?;
        self.hasher = HashingWriter::new(io::sink());
        Ok(())
    }

    /// The hash of all bytes there. Only `restart` or `commit` may follow.
    pub(super) fn digest(&mut self) -> Sha256 {
        std::mem::replace(&mut self.hasher, HashingWriter::new(io::sink())).finish().0
    }

    /// Makes it an object of the store.
    pub(super) fn commit(self, store: &Store, wanted: &Wanted) -> Result<PathBuf, StoreError> {
        let path = store.path(wanted.kind, wanted.sha256);
        self.file.sync_data().context("write", &self.path)?;
        fs::rename(&self.path, &path).context("make", &path)?;
        Ok(path)
    }

    /// Removes it, if nothing is in it.
    pub(super) fn discard_if_empty(self) {
        if self.length() == 0 {
            // A file that stays is emptied and used again by the next run.
            _ = fs::remove_file(&self.path);
        }
    }
}
