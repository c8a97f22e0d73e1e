//! Small records that carry the hash of their own text as last line.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use super::{Context as _, Store, StoreError};
use crate::digest::Sha256;

/// Why a record cannot be used.
#[derive(Debug)]
pub enum Unusable {
    /// There is none.
    Missing,
    /// It is not as it was written.
    Damaged(String),
}

/// The text of the record at `path`, when that is still what was written.
///
/// # Errors
/// See [`Unusable`].
pub(crate) fn read(path: &Path, limit: u64) -> Result<String, Unusable> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unusable::Missing),
        file => file.map_err(|error| Unusable::Damaged(error.to_string()))?,
    };
    let mut text = String::new();
    let read = file.take(limit.saturating_add(1)).read_to_string(&mut text);
    read.map_err(|error| Unusable::Damaged(error.to_string()))?;
    if text.len() as u64 > limit {
        return Err(Unusable::Damaged(format!("it has more than {limit} bytes")));
    }
    // Exactly one line feed ends it: every byte counts.
    let body = text.strip_suffix('\n').and_then(|text| text.rsplit_once('\n'));
    let (body, seal) = body.ok_or_else(|| Unusable::Damaged("it is cut off".into()))?;
    if seal != Sha256::of(body).to_string() {
        return Err(Unusable::Damaged("it does not match its own hash".into()));
    }
    text.truncate(body.len());
    Ok(text)
}

impl Store {
    /// Puts a record at `path`, whole or not at all, and makes the directory around it. Does not wait for the disk: what
    /// a power cut leaves of it does not match its hash.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write_sealed(&self, path: &Path, body: &str) -> Result<(), StoreError> {
        let directory = path.parent().unwrap_or(path);
        std::fs::create_dir_all(directory).context("make the directory", directory)?;
        let mut pending = self.create()?;
        writeln!(pending, "{body}\n{}", Sha256::of(body)).context("write", path)?;
        pending.place(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_a_record_counts() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let path = root.path().join("notes/a");
        assert!(matches!(read(&path, 100), Err(Unusable::Missing)));
        store.write_sealed(&path, "one\ntwo").unwrap();
        assert_eq!(read(&path, 100).unwrap(), "one\ntwo");
        assert!(matches!(read(&path, 10), Err(Unusable::Damaged(_))));
        let good = std::fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bytes).unwrap();
            assert!(matches!(read(&path, 100), Err(Unusable::Damaged(_))), "{bit}");
        }
    }
}
