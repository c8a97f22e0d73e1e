//! Files and directories that a run makes, and that go when it ends, however it ends.
//!
//! Each is held by a lock of the kernel's as long as its run lives. What nobody holds is of a run that was killed;
//! [`clear`] removes it. Between making one and holding it, the directory around is locked, so that nothing new is taken
//! for a leftover. On a file system without such locks, what is older than a day is one.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Held;

/// From this age on, what cannot be locked is a leftover.
const OLD: Duration = Duration::from_secs(24 * 3600);

/// A directory that is removed when this is dropped.
#[derive(Debug)]
pub struct TemporaryDirectory {
    directory: tempfile::TempDir,
    _held: Option<Held>,
}

impl TemporaryDirectory {
    /// Makes one in `parent`. Its name begins with `prefix`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(parent: &Path, prefix: &str) -> io::Result<Self> {
        let _gate = shared(parent);
        let directory = tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?;
        let held = File::open(directory.path()).ok().filter(|file| file.try_lock().is_ok()).map(Held::new);
        Ok(Self { directory, _held: held })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Leaves it where it is, for its maker to rename.
    pub fn keep(self) -> PathBuf {
        self.directory.keep()
    }
}

/// Makes a file in `parent`, removed when it is dropped. Its name begins with `prefix`.
pub(crate) fn file(parent: &Path, prefix: &str) -> io::Result<tempfile::NamedTempFile> {
    let _gate = shared(parent);
    let file = tempfile::Builder::new().prefix(prefix).tempfile_in(parent)?;
    // Without it the file only lives shorter than a day.
    let _ = file.as_file().try_lock();
    Ok(file)
}

/// Whatever in `parent` is of nobody who lives.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn leftovers(parent: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = named(parent, |_| true)?;
    if !found.is_empty() {
        let gate = exclusive(parent)?;
        found.retain(|path| is_left(path, gate.is_some()));
    }
    Ok(found)
}

/// Removes what in `parent` has a name that `is_ours` and is of nobody who lives. What cannot be removed stays: it is in
/// nobody's way.
pub(crate) fn clear(parent: &Path, is_ours: impl Fn(&str) -> bool) {
    if named(parent, &is_ours).is_ok_and(|found| found.is_empty()) {
        return;
    }
    let Ok(gate) = exclusive(parent) else { return };
    for path in named(parent, &is_ours).unwrap_or_default() {
        if is_left(&path, gate.is_some()) {
            let _ = remove(&path);
        }
    }
}

/// Removes a file, or a directory with all in it.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// While this lives, nobody looks for leftovers in `parent`. Best effort, as all of this.
fn shared(parent: &Path) -> Option<Held> {
    let gate = File::open(parent).ok()?;
    gate.lock_shared().ok()?;
    Some(Held::new(gate))
}

/// While this lives, nothing new is made in `parent`. Nothing, on a file system without locks.
fn exclusive(parent: &Path) -> io::Result<Option<Held>> {
    let gate = File::open(parent)?;
    Ok(gate.lock().is_ok().then(|| Held::new(gate)))
}

fn named(parent: &Path, is_ours: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&is_ours) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn is_left(path: &Path, gate_is_locked: bool) -> bool {
    let is_old = || fs::symlink_metadata(path).ok()?.modified().ok()?.elapsed().ok().map(|age| age > OLD);
    let Ok(file) = File::open(path) else { return is_old().unwrap_or(false) };
    match file.try_lock() {
        Ok(()) => {
            let _ours = Held::new(file);
            gate_is_locked || is_old().unwrap_or(false)
        }
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => is_old().unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_cleared() {
        let parent = tempfile::tempdir().unwrap();
        let held = TemporaryDirectory::new(parent.path(), ".a-").unwrap();
        fs::write(held.path().join("file"), "x").unwrap();
        let open = file(parent.path(), ".a-").unwrap();
        let killed = parent.path().join(".a-killed");
        fs::create_dir(&killed).unwrap();
        fs::write(killed.join("file"), "x").unwrap();
        fs::write(parent.path().join(".a-file"), "x").unwrap();
        fs::write(parent.path().join("other"), "x").unwrap();
        let other = parent.path().join("other");
        let left = leftovers(parent.path()).unwrap();
        assert_eq!(left, [parent.path().join(".a-file"), killed.clone(), other.clone()]);
        clear(parent.path(), |name| name.starts_with(".a-"));
        assert!(!killed.exists() && !parent.path().join(".a-file").exists());
        assert!(held.path().join("file").exists() && open.path().exists());
        assert!(other.exists());
        let path = held.path().to_owned();
        drop((held, open));
        assert!(!path.exists());
    }
}
