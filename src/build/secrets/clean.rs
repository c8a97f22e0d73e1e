//! Contents that a scan found clean, remembered beside the layers they come from.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use super::RULES;
use crate::digest::Sha256;
use crate::store::{Context as _, Store, StoreError};

/// Longest list that is read, in bytes: a million contents.
const MAX_LENGTH: u64 = 65 << 20;

/// The list that belongs to one layer and this version of the rules.
pub struct CleanContents<'a> {
    store: &'a Store,
    path: PathBuf,
}

impl<'a> CleanContents<'a> {
    /// The list of the layer `key`, there or not.
    pub fn of(store: &'a Store, key: Sha256) -> Self {
        Self { store, path: store.root().join("scans").join(format!("{key}.{RULES}")) }
    }

    /// The contents on it. A list that is not there, or damaged, is as good as empty: everything is scanned again.
    pub fn read(&self) -> BTreeSet<Sha256> {
        let short = fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() <= MAX_LENGTH);
        let text = short.then(|| fs::read_to_string(&self.path).ok()).flatten().unwrap_or_default();
        let Some((body, seal)) = text.trim_end().rsplit_once('\n') else { return BTreeSet::new() };
        if seal != Sha256::of(body).to_string() {
            return BTreeSet::new();
        }
        body.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Remembers `contents`, unless they are on the list already.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn keep(&self, contents: &BTreeSet<Sha256>) -> Result<(), StoreError> {
        if self.read().is_superset(contents) {
            return Ok(());
        }
        let directory = self.path.parent().unwrap_or(&self.path);
        fs::create_dir_all(directory).context("make the directory", directory)?;
        let lines: Vec<_> = contents.iter().map(Sha256::to_string).collect();
        let body = lines.join("\n");
        let mut pending = self.store.create()?;
        writeln!(pending, "{body}\n{}", Sha256::of(&body)).context("write", &self.path)?;
        pending.place(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_list_is_no_list() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let list = CleanContents::of(&store, Sha256::of("layer"));
        assert!(list.read().is_empty());
        let contents = BTreeSet::from([Sha256::of("a"), Sha256::of("b")]);
        list.keep(&contents).unwrap();
        assert_eq!(list.read(), contents);
        let text = fs::read_to_string(&list.path).unwrap();
        let other = Sha256::of("secret").to_string();
        fs::write(&list.path, text.replacen(&Sha256::of("a").to_string(), &other, 1)).unwrap();
        assert!(list.read().is_empty());
    }
}
