//! Contents that a scan found clean, remembered beside the layers they come from.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::RULES;
use crate::digest::Sha256;
use crate::store::{Damage, Object, Store, StoreError, Unusable, read_sealed, touch};

/// Longest list that is read, in bytes: a million contents.
const MAX_LENGTH: u64 = 65 << 20;

/// It takes longer to write a list again than to scan so many contents, mostly those of recipes.
const FEW: usize = 32;

/// The list that belongs to one layer and this version of the rules.
pub struct CleanContents<'a> {
    store: &'a Store,
    path: PathBuf,
}

impl<'a> CleanContents<'a> {
    /// The list of the layer `key`, there or not.
    pub fn of(store: &'a Store, key: Sha256) -> Self {
        Self { store, path: store.root().join(SCANS).join(format!("{key}.{RULES}")) }
    }

    /// The contents on it, and says that it is used now. Of a list that is not there, or damaged, there are none: everything is
    /// scanned again. Damage is noted in the store.
    pub fn read(&self) -> Option<BTreeSet<Sha256>> {
        match read_sealed(&self.path, MAX_LENGTH) {
            Ok(text) => {
                touch(&self.path);
                Some(text.lines().filter_map(|line| line.parse().ok()).collect())
            }
            Err(Unusable::Missing) => None,
            Err(Unusable::Damaged(reason)) => {
                let name = self.path.file_name().unwrap_or_default().to_string_lossy();
                self.store.found_damaged(Damage::new(Object::Scan, name, reason));
                None
            }
        }
    }

    /// Remembers `contents`, unless all but a few of them are on the list already: in `known`, as it was read before.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn keep(
        &self,
        contents: &BTreeSet<Sha256>,
        known: Option<&BTreeSet<Sha256>>,
    ) -> Result<(), StoreError> {
        if known.is_some_and(|known| contents.difference(known).nth(FEW).is_none()) {
            return Ok(());
        }
        let lines: Vec<_> = contents.iter().map(Sha256::to_string).collect();
        self.store.write_sealed(&self.path, &lines.join("\n"))
    }
}

/// The store's directory of lists; each is named by its layer and the version of the rules.
pub(crate) const SCANS: &str = "scans";

/// Checks the list at `path`.
pub(crate) fn check_scan(path: &Path) -> Result<(), Unusable> {
    read_sealed(path, MAX_LENGTH).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_damaged_list_is_no_list() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let list = CleanContents::of(&store, Sha256::of("layer"));
        assert_eq!(list.read(), None);
        let contents = BTreeSet::from([Sha256::of("a"), Sha256::of("b")]);
        list.keep(&contents, None).unwrap();
        assert_eq!(list.read().unwrap(), contents);
        let text = fs::read_to_string(&list.path).unwrap();
        let other = Sha256::of("secret").to_string();
        fs::write(&list.path, text.replacen(&Sha256::of("a").to_string(), &other, 1)).unwrap();
        assert_eq!(list.read(), None);
        let noted = store.take_damaged();
        assert_eq!((noted.len(), noted[0].object), (1, Object::Scan));
        // Even an empty one takes the place of a damaged one.
        list.keep(&BTreeSet::new(), None).unwrap();
        assert_eq!((list.read(), store.take_damaged().len()), (Some(BTreeSet::new()), 0));
        // What is known to be on it is not written again.
        fs::remove_file(&list.path).unwrap();
        list.keep(&contents, Some(&contents)).unwrap();
        assert_eq!(list.read(), None);
    }
}
