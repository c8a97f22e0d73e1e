//! Contents that are searched when somebody reads them anyway: to read and check all of an image takes longer than to search it.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::content_hits;
use crate::digest::Sha256;
use crate::tree::{Content, Contents, Tree};

/// Contents in which the content rules found nothing. Many threads may add to it.
#[derive(Debug, Default)]
pub struct Clean(Mutex<BTreeSet<Sha256>>);

impl Clean {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<Sha256>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what is known elsewhere.
    pub fn extend(&self, contents: impl IntoIterator<Item = Sha256>) {
        self.lock().extend(contents);
    }

    /// What is known so far.
    pub fn known(&self) -> BTreeSet<Sha256> {
        self.lock().clone()
    }

    /// The same, but only what `tree` has.
    pub fn known_of(&self, tree: &Tree) -> BTreeSet<Sha256> {
        let known = self.lock();
        let contents = tree.values().filter_map(|node| node.content());
        contents.map(|content| content.sha256).filter(|sha256| known.contains(sha256)).collect()
    }

    /// Searches `bytes`, those of `content`, unless that is known to be clean.
    fn search(&self, content: &Content, bytes: &[u8]) {
        let known = self.lock().contains(&content.sha256);
        if !known && content_hits(bytes).is_empty() {
            self.lock().insert(content.sha256);
        }
    }
}

/// Passes on contents and notes which of them are clean.
pub struct Searched<'a> {
    contents: &'a dyn Contents,
    clean: &'a Clean,
}

impl<'a> Searched<'a> {
    /// Those of `contents`, which has to check them against their hashes.
    pub fn new(contents: &'a dyn Contents, clean: &'a Clean) -> Self {
        Self { contents, clean }
    }
}

impl Contents for Searched<'_> {
    fn read(&self, content: &Content) -> io::Result<Vec<u8>> {
        let bytes = self.contents.read(content)?;
        self.clean.search(content, &bytes);
        Ok(bytes)
    }

    fn read_into(&self, content: &Content, buffer: &mut [u8]) -> io::Result<()> {
        self.contents.read_into(content, buffer)?;
        self.clean.search(content, buffer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::tree::{Node, TreePath};

    #[test]
    fn only_what_was_read_and_holds_no_secret_is_clean() {
        // Put together here, so that nothing in the repository looks like a secret.
        let (label, text) = (["PRIVATE", "KEY"].join(" "), "MC4CAQAwBQYDK2Vw".repeat(4));
        let secret = format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n").into_bytes();
        let named = Content::of(&secret);
        let files = [b"one".to_vec(), b"two".to_vec(), b"three".to_vec(), secret];
        let contents: BTreeMap<_, _> = files.into_iter().map(|bytes| (Sha256::of(&bytes), bytes)).collect();
        let [one, two, three] = [&b"one"[..], b"two", b"three"].map(Content::of);
        let clean = Clean::default();
        let searched = Searched::new(&contents, &clean);
        assert_eq!(searched.read(&one).unwrap(), b"one");
        let mut buffer = [0; 3];
        searched.read_into(&two, &mut buffer).unwrap();
        assert_eq!(&buffer, b"two");
        searched.read(&named).unwrap();
        assert!(searched.read(&Content::of(b"four")).is_err());
        assert!(searched.read_into(&Content::of(b"four"), &mut buffer).is_err());
        assert_eq!(clean.known(), BTreeSet::from([one.sha256, two.sha256]));
        clean.extend([three.sha256]);
        let tree = [("a", three), ("b", two), ("c", named)];
        let tree = tree.map(|(path, content)| (TreePath::new(path).unwrap(), Node::file(content, 0o644, 0)));
        assert_eq!(clean.known_of(&Tree::from(tree)), BTreeSet::from([two.sha256, three.sha256]));
    }
}
