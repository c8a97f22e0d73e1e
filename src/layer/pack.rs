//! Reading and writing a layer's files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt as _;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::LayerIndex;
use crate::digest::{HashingWriter, Sha256};
use crate::store::{Damage, Kind, Object, Store, Unusable, read_sealed, touch};
use crate::tree::{Content, Contents, Node, Tree};

/// Longest `layer.json` that is read, in bytes: some hundred times that of a full desktop.
const MAX_INDEX: u64 = 1 << 30;
/// Most layers below another.
pub(super) const MAX_BELOW: usize = 64;

/// A layer of the store, open for reading together with those below it.
#[derive(Debug)]
pub struct Layer {
    /// Its key.
    pub key: Sha256,
    /// Its tree.
    pub tree: Tree,
    packs: Vec<Pack>,
    /// Where damage is noted.
    store: Store,
}

/// The pack of one layer.
#[derive(Debug)]
struct Pack {
    key: Sha256,
    offsets: BTreeMap<Sha256, u64>,
    file: File,
}

/// A layer of the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// It is not there.
    #[error("layer {0} is not in the store")]
    Missing(Sha256),
    /// It is not as it was written: its index, a content of its pack, or what it takes from the layers below.
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

impl LayerError {
    /// The same as a note for the store, when it is a damage.
    fn damage(&self) -> Option<Damage> {
        match self {
            Self::Damaged { key, reason } => Some(Damage::new(Object::Layer, key, reason)),
            Self::Missing(_) | Self::Unreadable { .. } => None,
        }
    }
}

impl Layer {
    /// Opens the layer `key` and all those below it, and says that they are used now. Damage is noted in the store, here
    /// and at each [read](Contents::read).
    ///
    /// # Errors
    /// See [`LayerError`]; the key in it is that of the layer concerned, this one or one below.
    pub fn open(store: &Store, key: Sha256) -> Result<Self, LayerError> {
        let opened = Self::try_open(store, key);
        if let Some(damage) = opened.as_ref().err().and_then(LayerError::damage) {
            store.found_damaged(damage);
        }
        opened
    }

    fn try_open(store: &Store, key: Sha256) -> Result<Self, LayerError> {
        let (index, file) = open_one(store, key)?;
        let mut parent = index.parent;
        let mut packs = vec![Pack { key, offsets: index.offsets, file }];
        while let Some(below) = parent {
            let (index, file) = open_as::<BelowIndex>(store, below)?;
            parent = index.parent;
            packs.push(Pack { key: below, offsets: index.offsets, file });
            if packs.len() > MAX_BELOW {
                let reason = format!("more than {MAX_BELOW} layers below");
                return Err(LayerError::Damaged { key, reason });
            }
        }
        let held = |content: &Sha256| packs.iter().any(|pack| pack.offsets.contains_key(content));
        if let Some(reason) = lost(&index.tree, held) {
            return Err(LayerError::Damaged { key, reason });
        }
        for pack in &packs {
            touch(&store.path(Kind::Layer, pack.key));
        }
        Ok(Self { key, tree: index.tree, packs, store: store.clone() })
    }

    /// All contents that this layer and those below it hold.
    pub fn contents(&self) -> BTreeSet<Sha256> {
        self.packs.iter().flat_map(|pack| pack.offsets.keys().copied()).collect()
    }

    /// The pack files, this layer's first, each with the place of its contents.
    pub fn packs(&self) -> impl Iterator<Item = (&BTreeMap<Sha256, u64>, &File)> {
        self.packs.iter().map(|pack| (&pack.offsets, &pack.file))
    }

    /// Notes that the pack that holds `content` is damaged: what [reading](Contents::read) does by itself, for whoever
    /// reads the [packs](Self::packs) elsewhere.
    pub fn found_damaged(&self, content: Sha256) {
        let holder = self.packs.iter().find(|pack| pack.offsets.contains_key(&content));
        let key = holder.map_or(self.key, |pack| pack.key);
        self.damaged(key, format!("its content {content} is another one now"));
    }

    /// Notes a damage and gives it as an error that carries the layer's key.
    fn damaged(&self, key: Sha256, reason: String) -> io::Error {
        self.store.found_damaged(Damage::new(Object::Layer, key, &reason));
        io::Error::new(io::ErrorKind::InvalidData, LayerError::Damaged { key, reason })
    }
}

/// Says which file's content is not `held`, if any. A layer below that was made anew may lack what its first build had:
/// logs, keys, caches.
pub(super) fn lost(tree: &Tree, held: impl Fn(&Sha256) -> bool) -> Option<String> {
    let lost = |node: &Node| node.content().is_some_and(|content| !held(&content.sha256));
    let (path, _) = tree.iter().find(|(_, node)| lost(node))?;
    Some(format!("the content of `{path}` is neither in its pack nor in one below"))
}

/// Opens the files of one layer.
pub(super) fn open_one(store: &Store, key: Sha256) -> Result<(LayerIndex, File), LayerError> {
    open_as(store, key)
}

/// What is needed of the index of a layer that lies below another: that one has the whole tree.
#[derive(Deserialize)]
struct BelowIndex {
    format: u32,
    parent: Option<Sha256>,
    offsets: BTreeMap<Sha256, u64>,
}

/// An index, or a part of one.
trait Index: DeserializeOwned {
    fn format(&self) -> u32;
}

impl Index for LayerIndex {
    fn format(&self) -> u32 {
        self.format
    }
}

impl Index for BelowIndex {
    fn format(&self) -> u32 {
        self.format
    }
}

fn open_as<T: Index>(store: &Store, key: Sha256) -> Result<(T, File), LayerError> {
    let directory = store.path(Kind::Layer, key);
    let damaged = |reason: String| LayerError::Damaged { key, reason };
    let unreadable = |name: &str, source: io::Error| match source.kind() {
        io::ErrorKind::NotFound if !directory.exists() => LayerError::Missing(key),
        io::ErrorKind::NotFound => damaged(format!("it has no `{name}`")),
        _ => LayerError::Unreadable { key, source },
    };
    let index = directory.join("layer.json");
    let text = read_sealed(&index, MAX_INDEX).map_err(|error| match error {
        Unusable::Missing => unreadable("layer.json", io::ErrorKind::NotFound.into()),
        Unusable::Damaged(reason) => damaged(format!("its index: {reason}")),
    })?;
    let index: T = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if index.format() != super::FORMAT {
        return Err(damaged("it has another format".into()));
    }
    let pack = File::open(directory.join("pack")).map_err(|error| unreadable("pack", error))?;
    Ok((index, pack))
}

impl Contents for Layer {
    fn read(&self, content: &Content) -> io::Result<Vec<u8>> {
        let place = self.packs.iter().find_map(|pack| Some((*pack.offsets.get(&content.sha256)?, pack)));
        let (offset, pack) = place.ok_or_else(|| {
            let message = format!("content {} is not in layer {}", content.sha256, self.key);
            io::Error::new(io::ErrorKind::NotFound, message)
        })?;
        let size = usize::try_from(content.size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut bytes = vec![0; size];
        match pack.file.read_exact_at(&mut bytes, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(self.damaged(pack.key, "its pack is cut off".into()));
            }
            read => read?,
        }
        let found = Sha256::of(&bytes);
        if found != content.sha256 {
            let reason = format!("its content {} now hashes to {found}", content.sha256);
            return Err(self.damaged(pack.key, reason));
        }
        Ok(bytes)
    }
}

/// Writes the pack of a new layer.
pub struct PackWriter<'a, W: Write> {
    pack: BufWriter<W>,
    length: u64,
    offsets: BTreeMap<Sha256, u64>,
    below: &'a BTreeSet<Sha256>,
}

impl<'a, W: Write> PackWriter<'a, W> {
    /// Starts an empty pack; contents in `below` are not written again.
    pub fn new(pack: W, below: &'a BTreeSet<Sha256>) -> Self {
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
    let below = &BTreeSet::new();
    let mut pack = PackWriter::new(File::create(pending.path().join("pack")).unwrap(), below);
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
    use crate::tree::TreePath;

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
        let noted = store.take_damaged();
        assert_eq!((noted.len(), noted[0].object), (1, Object::Layer));
        assert_eq!(noted[0].name, key.to_string());
        fs::write(&pack, b"hell").unwrap();
        assert_eq!(layer.read(&content).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(store.take_damaged()[0].reason, "its pack is cut off");

        let index = store.path(Kind::Layer, key).join("layer.json");
        let text = fs::read_to_string(&index).unwrap().replace("\"mtime\":7", "\"mtime\":8");
        fs::write(&index, text).unwrap();
        assert!(matches!(Layer::open(&store, key), Err(LayerError::Damaged { .. })));
        assert_eq!(store.take_damaged().len(), 1);
        assert!(matches!(Layer::open(&store, Sha256::of("no")), Err(LayerError::Missing(_))));
    }
}
