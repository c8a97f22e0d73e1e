//! Reading and writing a layer's files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::LayerIndex;
use crate::digest::{HashingWriter, Sha256};
use crate::store::{Kind, Store};
use crate::tree::{Content, Contents, Tree};

/// Longest `layer.json` that is read, in bytes: some hundred times that of a full desktop.
const MAX_INDEX: u64 = 1 << 30;

/// A layer of the store, open for reading together with those below it.
#[derive(Debug)]
pub struct Layer {
    /// Its key.
    pub key: Sha256,
    /// Its tree.
    pub tree: Tree,
    packs: Vec<(BTreeMap<Sha256, u64>, File)>,
}

/// A layer of the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// It is not there.
    #[error("layer {0} is not in the store")]
    Missing(Sha256),
    /// Its index does not hash to what its last line says, or is no index.
    #[error("layer {key} is damaged: {reason}")]
    Damaged {
        /// Which layer.
        key: Sha256,
        /// What is wrong with it.
        reason: String,
    },
    /// It cannot be read.
    #[error("cannot read layer {key}: {source}")]
    Unreadable {
        /// Which layer.
        key: Sha256,
        /// Why.
        source: io::Error,
    },
}

impl Layer {
    /// Opens the layer `key` and all those below it.
    ///
    /// # Errors
    /// See [`LayerError`].
    pub fn open(store: &Store, key: Sha256) -> Result<Self, LayerError> {
        let (index, pack) = open_one(&store.path(Kind::Layer, key), key)?;
        let mut parent = index.parent;
        let mut packs = vec![(index.offsets, pack)];
        while let Some(key) = parent {
            let (below, pack) = open_one(&store.path(Kind::Layer, key), key)?;
            parent = below.parent;
            packs.push((below.offsets, pack));
            if packs.len() > 64 {
                return Err(LayerError::Damaged { key, reason: "more than 64 layers below".into() });
            }
        }
        Ok(Self { key, tree: index.tree, packs })
    }

    /// All contents that this layer and those below it hold.
    pub fn contents(&self) -> BTreeSet<Sha256> {
        self.packs.iter().flat_map(|(offsets, _)| offsets.keys().copied()).collect()
    }

    /// The pack files, this layer's first, each with the place of its contents.
    pub fn packs(&self) -> impl Iterator<Item = (&BTreeMap<Sha256, u64>, &File)> {
        self.packs.iter().map(|(offsets, file)| (offsets, file))
    }
}

fn open_one(directory: &Path, key: Sha256) -> Result<(LayerIndex, File), LayerError> {
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => LayerError::Missing(key),
        _ => LayerError::Unreadable { key, source },
    };
    let damaged = |reason: &str| LayerError::Damaged { key, reason: reason.to_owned() };
    let mut text = String::new();
    let file = File::open(directory.join("layer.json")).map_err(unreadable)?;
    file.take(MAX_INDEX).read_to_string(&mut text).map_err(unreadable)?;
    let (body, seal) = text.trim_end().rsplit_once('\n').ok_or_else(|| damaged("its index is cut off"))?;
    if seal != Sha256::of(body).to_string() {
        return Err(damaged("its index does not match its own hash"));
    }
    let index: LayerIndex = serde_json::from_str(body).map_err(|error| damaged(&error.to_string()))?;
    if index.format != super::FORMAT {
        return Err(damaged("it has another format"));
    }
    let pack = File::open(directory.join("pack")).map_err(unreadable)?;
    Ok((index, pack))
}

impl Contents for Layer {
    fn read(&self, content: &Content) -> io::Result<Vec<u8>> {
        let place =
            self.packs.iter().find_map(|(offsets, file)| Some((*offsets.get(&content.sha256)?, file)));
        let (offset, file) = place.ok_or_else(|| {
            let message = format!("content {} is not in layer {}", content.sha256, self.key);
            io::Error::new(io::ErrorKind::NotFound, message)
        })?;
        let size = usize::try_from(content.size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut bytes = vec![0; size];
        file.read_exact_at(&mut bytes, offset)?;
        let found = Sha256::of(&bytes);
        if found != content.sha256 {
            let message = format!(
                "the store is damaged: content {} of layer {} now hashes to {found}",
                content.sha256, self.key
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(bytes)
    }
}

/// Writes the pack of a new layer.
pub struct PackWriter<W: Write> {
    pack: BufWriter<W>,
    length: u64,
    offsets: BTreeMap<Sha256, u64>,
    below: BTreeSet<Sha256>,
}

impl<W: Write> PackWriter<W> {
    /// Starts an empty pack; contents in `below` are not written again.
    pub fn new(pack: W, below: BTreeSet<Sha256>) -> Self {
        Self { pack: BufWriter::with_capacity(1 << 20, pack), length: 0, offsets: BTreeMap::new(), below }
    }

    /// Adds `bytes` unless they are there already, and names them.
    ///
    /// # Errors
    /// When the pack cannot be written.
    pub fn add(&mut self, bytes: &[u8]) -> io::Result<Content> {
        let content = Content::of(bytes);
        self.add_hashed(content, bytes)?;
        Ok(content)
    }

    /// Adds `bytes`, whose name the caller has computed already, unless they are there.
    ///
    /// # Errors
    /// When the pack cannot be written.
    pub fn add_hashed(&mut self, content: Content, bytes: &[u8]) -> io::Result<()> {
        if !self.below.contains(&content.sha256) && !self.offsets.contains_key(&content.sha256) {
            self.pack.write_all(bytes)?;
            self.offsets.insert(content.sha256, self.length);
            self.length += content.size;
        }
        Ok(())
    }

    /// Flushes the pack and gives the place of each content.
    ///
    /// # Errors
    /// When the pack cannot be written.
    pub fn finish(mut self) -> io::Result<BTreeMap<Sha256, u64>> {
        self.pack.flush()?;
        Ok(self.offsets)
    }
}

impl LayerIndex {
    /// Writes the index with its hash as last line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let mut out = HashingWriter::new(BufWriter::new(out));
        serde_json::to_writer(&mut out, self).map_err(io::Error::other)?;
        let (seal, _, mut out) = out.finish();
        writeln!(out, "\n{seal}")?;
        out.flush()
    }
}

/// Only for tests: makes a layer of `tree` and `bytes` in `store`.
#[cfg(test)]
pub(crate) fn store_layer(store: &Store, key: Sha256, tree: Tree, bytes: &[&[u8]]) -> Layer {
    let pending = store.create_directory().unwrap();
    let mut pack = PackWriter::new(File::create(pending.path().join("pack")).unwrap(), BTreeSet::new());
    for bytes in bytes {
        pack.add(bytes).unwrap();
    }
    let index = LayerIndex { format: super::FORMAT, parent: None, tree, offsets: pack.finish().unwrap() };
    index.write(File::create(pending.path().join("layer.json")).unwrap()).unwrap();
    store.commit_directory(pending, Kind::Layer, key).unwrap();
    Layer::open(store, key).unwrap()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tree::{Node, TreePath};

    #[test]
    fn a_layer_gives_back_what_was_put_in_and_notices_damage() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let key = Sha256::of("key");
        let content = Content::of(b"hello");
        let tree = Tree::from([(TreePath::new("a").unwrap(), Node::file(content, 0o644, 7))]);
        let layer = store_layer(&store, key, tree.clone(), &[b"hello", b"hello", b"x"]);
        assert_eq!(layer.tree, tree);
        assert_eq!(layer.read(&content).unwrap(), b"hello");

        let pack = store.path(Kind::Layer, key).join("pack");
        assert_eq!(fs::read(&pack).unwrap(), b"hellox");
        fs::write(&pack, b"hallox").unwrap();
        assert_eq!(layer.read(&content).unwrap_err().kind(), io::ErrorKind::InvalidData);

        let index = store.path(Kind::Layer, key).join("layer.json");
        let text = fs::read_to_string(&index).unwrap().replace("\"mtime\":7", "\"mtime\":8");
        fs::write(&index, text).unwrap();
        assert!(matches!(Layer::open(&store, key), Err(LayerError::Damaged { .. })));
        assert!(matches!(Layer::open(&store, Sha256::of("no")), Err(LayerError::Missing(_))));
    }
}
