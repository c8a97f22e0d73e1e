//! Contents that pure stages make, over those of the layer below.

use std::collections::BTreeMap;
use std::io;

use crate::digest::Sha256;
use crate::tree::{Content, Contents, fill};

/// Bytes that were added to a tree, kept in memory, and behind them those it came with.
pub struct NewContents<'a> {
    below: &'a dyn Contents,
    added: BTreeMap<Sha256, Vec<u8>>,
}

impl<'a> NewContents<'a> {
    /// Starts with nothing added.
    pub fn over(below: &'a dyn Contents) -> Self {
        Self { below, added: BTreeMap::new() }
    }

    /// Adds bytes and names them.
    pub fn add(&mut self, bytes: impl Into<Vec<u8>>) -> Content {
        let bytes = bytes.into();
        let content = Content::of(&bytes);
        self.added.insert(content.sha256, bytes);
        content
    }

    /// What was added. Some of it may be in the layer below too.
    pub fn added(&self) -> &BTreeMap<Sha256, Vec<u8>> {
        &self.added
    }
}

impl Contents for NewContents<'_> {
    fn read(&self, content: &Content) -> io::Result<Vec<u8>> {
        match self.added.get(&content.sha256) {
            Some(bytes) => Ok(bytes.clone()),
            None => self.below.read(content),
        }
    }

    fn read_into(&self, content: &Content, buffer: &mut [u8]) -> io::Result<()> {
        match self.added.get(&content.sha256) {
            Some(bytes) => fill(buffer, bytes, content),
            None => self.below.read_into(content, buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_bytes_come_before_those_below() {
        let below = BTreeMap::from([(Sha256::of("old"), b"old".to_vec())]);
        let mut contents = NewContents::over(&below);
        let new = contents.add("new");
        assert_eq!(contents.read(&new).unwrap(), b"new");
        assert_eq!(contents.read(&Content::of(b"old")).unwrap(), b"old");
        assert!(contents.read(&Content::of(b"none")).is_err());
        assert_eq!(contents.added().len(), 1);
    }
}
