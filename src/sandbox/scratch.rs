//! A directory on disk for a root that does not fit into memory.
//!
//! ```text
//! parent/scratch.lock      held while scratch directories are made or leftovers removed
//! parent/scratch-XXXXXX/   mode 0700, so that nobody else gets at what is inside
//!   lock                   held by the outer process and its worker as long as one of them lives
//!   files/                 mode 0777: the namespace's root is another user here
//!     root/                the root directory, its files owned by subordinate ids
//! ```
//!
//! An ordinary user cannot remove files of subordinate ids, so removing is done by a worker in the namespace. What a
//! killed build left is found by its free lock and removed by the next one.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat};
use rustix::io::Errno;

use super::{IdRange, Worker, WorkerError};

/// What scratch directories are called; the rest of the name is random.
const PREFIX: &str = "scratch-";

/// A scratch directory could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// A file or directory around it.
    #[error("cannot {action} `{path}`: {source}")]
    Path {
        /// What was tried, as a verb.
        action: &'static str,
        /// With which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The worker that removes the files inside failed.
    #[error("cannot remove the files in the scratch directory `{path}`: {source}")]
    Remove {
        /// The scratch directory.
        path: PathBuf,
        /// Why it failed.
        source: Box<WorkerError>,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ScratchError {
    move |source| ScratchError::Path { action, path: path.to_owned(), source }
}

/// How to start a worker that removes files: the program and arguments that also start a build's worker.
#[derive(Debug, Clone, Copy)]
pub struct Cleaner<'a> {
    /// The program.
    pub exe: &'a Path,
    /// Its arguments; it has to call [`enter`](super::enter), which does the rest.
    pub args: &'a [&'a str],
    /// The ids that own the files.
    pub range: &'a IdRange,
}

/// A directory for one worker's root, removed with everything in it by [`Scratch::remove`].
///
/// When this is dropped without that, the next [`Scratch::create`] in the same place removes it.
pub struct Scratch {
    guard: PathBuf,
    lock: File,
}

impl Scratch {
    /// Makes one below `parent`, which must exist, after removing what dead builds left there.
    ///
    /// # Errors
    /// When it cannot be made. A leftover that cannot be removed is given to `on_leftover` and stays.
    pub fn create(
        parent: &Path,
        cleaner: &Cleaner<'_>,
        on_leftover: &mut dyn FnMut(ScratchError),
    ) -> Result<Self, ScratchError> {
        // Without it a directory could be taken for a leftover before its lock is held.
        let all = parent.join("scratch.lock");
        let all_lock = open_lock(&all)?;
        all_lock.lock().map_err(failed("lock", &all))?;
        sweep(parent, cleaner, on_leftover)?;
        // The builder makes the guard with mode 0700.
        let guard = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent);
        let guard = guard.map_err(failed("make a directory in", parent))?.keep();
        let path = guard.join("lock");
        let lock = open_lock(&path)?;
        lock.lock().map_err(failed("lock", &path))?;
        let files = guard.join("files");
        fs::create_dir(&files).map_err(failed("make the directory", &files))?;
        // After the umask, which is the user's.
        let mode = fs::Permissions::from_mode(0o777);
        fs::set_permissions(&files, mode).map_err(failed("open to its ids the directory", &files))?;
        Ok(Self { guard, lock })
    }

    /// Removes the directory, and what dead builds left beside it: the worker of one that was killed just before this one
    /// began may have been on its way out then. No worker of this one may be alive.
    ///
    /// # Errors
    /// When this one cannot be removed; the next [`Scratch::create`] tries again. A leftover that cannot be removed is
    /// given to `on_leftover`.
    pub fn end(
        self,
        cleaner: &Cleaner<'_>,
        on_leftover: &mut dyn FnMut(ScratchError),
    ) -> Result<(), ScratchError> {
        let parent = self.guard.parent().map(Path::to_owned);
        self.remove(cleaner)?;
        let Some(parent) = parent else { return Ok(()) };
        let all = parent.join("scratch.lock");
        let all_lock = open_lock(&all)?;
        match all_lock.try_lock() {
            Ok(()) => sweep(&parent, cleaner, on_leftover),
            // Whoever has it removes leftovers.
            Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(error)) => Err(failed("lock", &all)(error)),
        }
    }

    /// Removes the directory and all in it. No worker that uses it may be alive.
    ///
    /// # Errors
    /// When something cannot be removed; the next [`Scratch::create`] tries again.
    pub fn remove(self, cleaner: &Cleaner<'_>) -> Result<(), ScratchError> {
        let files = self.files();
        if files.exists() {
            Worker::clean(cleaner, &self).map_err(|source| ScratchError::Remove {
                path: self.guard.clone(),
                source: Box::new(source),
            })?;
            fs::remove_dir(&files).map_err(failed("remove", &files))?;
        }
        // The lock last: without it nobody would know that this is a leftover of ours.
        fs::remove_dir_all(&self.guard).map_err(failed("remove", &self.guard))
    }

    /// Where the worker works.
    pub(super) fn files(&self) -> PathBuf {
        self.guard.join("files")
    }

    /// The lock, to be held by the worker too.
    pub(super) fn lock(&self) -> io::Result<OwnedFd> {
        self.lock.try_clone().map(OwnedFd::from)
    }
}

/// Removes what dead builds left in `parent`, whose lock is held.
fn sweep(
    parent: &Path,
    cleaner: &Cleaner<'_>,
    on_leftover: &mut dyn FnMut(ScratchError),
) -> Result<(), ScratchError> {
    for guard in guards(parent)? {
        let lock = match open_lock(&guard.join("lock")) {
            Ok(lock) => lock,
            Err(error) => {
                on_leftover(error);
                continue;
            }
        };
        match lock.try_lock() {
            Ok(()) => {
                if let Err(error) = (Scratch { guard, lock }).remove(cleaner) {
                    on_leftover(error);
                }
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => on_leftover(failed("lock", &guard)(error)),
        }
    }
    Ok(())
}

fn open_lock(path: &Path) -> Result<File, ScratchError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = File::options();
    options.create(true).truncate(false).write(true).mode(0o600);
    options.custom_flags(OFlags::NOFOLLOW.bits() as i32).open(path).map_err(failed("open", path))
}

fn guards(parent: &Path) -> Result<Vec<PathBuf>, ScratchError> {
    let mut guards = Vec::new();
    for entry in fs::read_dir(parent).map_err(failed("read the directory", parent))? {
        let entry = entry.map_err(failed("read the directory", parent))?;
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory && entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            guards.push(entry.path());
        }
    }
    guards.sort();
    Ok(guards)
}

/// Removes everything below the open directory `top`, which a hostile program may have filled.
///
/// Directories inside are moved up to `top` and emptied there one by one: neither stack nor open files grow with the
/// depth of the tree, and no path is ever followed.
pub(super) fn clear(top: impl AsFd) -> Result<(), Errno> {
    let top = top.as_fd();
    let mut next = 0u64;
    loop {
        let names = names(top)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            match unlinkat(top, &*name, AtFlags::empty()) {
                Ok(()) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(errno) => return Err(errno),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = openat(top, &*name, flags, Mode::empty())?;
            for inner in self::names(directory.as_fd())? {
                match unlinkat(&directory, &*inner, AtFlags::empty()) {
                    Ok(()) => continue,
                    Err(Errno::ISDIR | Errno::PERM) => {}
                    Err(errno) => return Err(errno),
                }
                loop {
                    next += 1;
                    let place = format!("moved-{next}");
                    match renameat_with(&directory, &*inner, top, &place, RenameFlags::NOREPLACE) {
                        Err(Errno::EXIST) => {}
                        other => break other?,
                    }
                }
            }
            unlinkat(top, &*name, AtFlags::REMOVEDIR)?;
        }
    }
}

/// The names in a directory. Their number is bounded by what fits on the disk that held them.
fn names(directory: impl AsFd) -> Result<Vec<std::ffi::CString>, Errno> {
    let mut names = Vec::new();
    // What is given may be open as a path only.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for entry in Dir::new(openat(directory, c".", flags, Mode::empty())?)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_and_closed_trees_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "stays").unwrap();
        let top = directory.path().join("top");
        fs::create_dir(&top).unwrap();
        let mut at = File::open(&top).unwrap();
        // Deeper than there may be open files, and longer than any path.
        for depth in 0..1200 {
            let name = format!("a-directory-with-a-name-{depth}");
            rustix::fs::mkdirat(&at, &name, Mode::from_raw_mode(0o755)).unwrap();
            rustix::fs::symlinkat(&outside, &at, "link").unwrap();
            at = openat(&at, &name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap().into();
        }
        fs::create_dir(top.join("moved-1")).unwrap();
        fs::write(top.join("moved-1").join("file"), "").unwrap();
        clear(File::open(&top).unwrap()).unwrap();
        assert_eq!(fs::read_dir(&top).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "stays");
    }
}
