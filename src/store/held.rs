//! A file that is locked until this lets go of it.

use std::fs::File;
use std::ops::{Deref, DerefMut};

/// An open file with a lock of the kernel's on it, which is given back when this is dropped.
///
/// Closing the file would not do: a process that another thread forks just then has it open as well, until it runs a
/// program of its own, and the lock would live on as long.
#[derive(Debug)]
pub(crate) struct Held(File);

impl Held {
    /// Takes the file, which is locked.
    pub(crate) fn new(locked: File) -> Self {
        Self(locked)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // What cannot be given back is given back when the last process has closed the file.
        let _ = self.0.unlock();
    }
}

impl Deref for Held {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut File {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_forked_meanwhile_does_not_keep_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let open = || File::options().create(true).append(true).open(&path).unwrap();
        let file = open();
        file.try_lock().unwrap();
        // The same open file, as a forked process has it.
        let forked = file.try_clone().unwrap();
        let held = Held::new(file);
        assert!(open().try_lock().is_err());
        drop(held);
        open().try_lock().unwrap();
        drop(forked);
    }
}
