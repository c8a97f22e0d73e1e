//! Layers that this run has written itself.
//!
//! To hash a layer's contents once more a moment after they were hashed and written takes a twentieth of a build's time and
//! finds nothing, as long as the file is the same and nobody has written to it since. All else is compared with its hash when
//! it is read.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::sync::PoisonError;

use super::Store;
use crate::digest::Sha256;

/// A file at a moment: any change moves its time of change, which nobody can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    file: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &File) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        Some(Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

impl Store {
    /// Notes that this run has written the layer `key`, whose pack is `pack` and complete.
    pub fn wrote_layer(&self, key: Sha256, pack: &File) {
        if let Some(stamp) = Stamp::of(pack) {
            self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(key, stamp);
        }
    }

    /// Whether `pack` is the one that this run has written for the layer `key`, unchanged since.
    pub fn has_written_layer(&self, key: Sha256, pack: &File) -> bool {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        written.is_some() && written == Stamp::of(pack)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_the_same_file_as_it_was_counts() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let [pack, other] = ["pack", "other"].map(|name| directory.path().join(name));
        for path in [&pack, &other] {
            fs::write(path, "text").unwrap();
        }
        let open = || File::open(&pack).unwrap();
        let (key, another) = (Sha256::of("key"), Sha256::of("another"));
        assert!(!store.has_written_layer(key, &open()));
        store.wrote_layer(key, &open());
        // A clone is the same run's, as another thread has it.
        assert!(store.clone().has_written_layer(key, &open()));
        assert!(!store.has_written_layer(another, &open()));
        assert!(!store.has_written_layer(key, &File::open(&other).unwrap()));
        // Where times of change are coarse, a change in the same tick as the note would not move them.
        std::thread::sleep(std::time::Duration::from_millis(20));
        let modified = open().metadata().unwrap().modified().unwrap();
        fs::write(&pack, "TEXT").unwrap();
        File::options().write(true).open(&pack).unwrap().set_modified(modified).unwrap();
        assert!(!store.has_written_layer(key, &open()));
        store.wrote_layer(key, &open());
        fs::rename(&other, &pack).unwrap();
        assert!(!store.has_written_layer(key, &open()));
    }
}
