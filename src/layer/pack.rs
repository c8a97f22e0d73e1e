//! Reading and writing a layer's files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustix::io::Errno;

use super::{INDEX, LayerHead, LayerIndex, PACK};
use crate::digest::Sha256;
use crate::store::{Damage, Kind, Object, Store, Unusable, touch};
use crate::tree::{Content, Contents, Node, Tree};

/// Size of the buffer before a pack, in bytes: larger contents are written as they are.
const BUFFER: usize = 256 << 10;
/// Bytes that are copied at a time: so few that they stay in the processor's cache.
const CHUNK: usize = 256 << 10;
/// From so many bytes on the kernel copies a file by itself, which saves one of two copies.
const SENT: u64 = 128 << 10;
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
    files: LayerFiles,
    /// This run has written it, and nobody has changed it since.
    own: bool,
}

/// The files of a layer, open.
#[derive(Debug)]
pub struct LayerFiles {
    /// Where contents lie, and the tree.
    pub index: File,
    /// The contents.
    pub pack: File,
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
        let (index, files) = open_one(store, key)?;
        let own = store.has_written_layer(key, &files.pack);
        let layer = Self::over_parents(store, key, index, (files, own))?;
        for pack in &layer.packs {
            touch(&store.path(Kind::Layer, pack.key));
        }
        Ok(layer)
    }

    /// What the layer `key` will be if nothing changes any more: its index so far and its pack, which this run is writing.
    /// Those below have to be in the store.
    ///
    /// # Errors
    /// See [`LayerError`].
    pub fn foreseen(store: &Store, key: Sha256, files: LayerFiles) -> Result<Self, LayerError> {
        let index = LayerIndex::read(&files.index).map_err(|error| unusable(key, error))?;
        Self::over_parents(store, key, index, (files, true))
    }

    fn over_parents(
        store: &Store,
        key: Sha256,
        index: LayerIndex,
        (files, own): (LayerFiles, bool),
    ) -> Result<Self, LayerError> {
        let LayerIndex { head, tree } = index;
        let mut parent = head.parent;
        let mut packs = vec![Pack { key, offsets: head.offsets, files, own }];
        while let Some(below) = parent {
            let files = open_files(store, below)?;
            let head = LayerHead::read(&files.index).map_err(|error| unusable(below, error))?;
            parent = head.parent;
            let own = store.has_written_layer(below, &files.pack);
            packs.push(Pack { key: below, offsets: head.offsets, files, own });
            if packs.len() > MAX_BELOW {
                let reason = format!("more than {MAX_BELOW} layers below");
                return Err(LayerError::Damaged { key, reason });
            }
        }
        let held = |content: &Sha256| packs.iter().any(|pack| pack.offsets.contains_key(content));
        if let Some(reason) = lost(&tree, held) {
            return Err(LayerError::Damaged { key, reason });
        }
        Ok(Self { key, tree, packs, store: store.clone() })
    }

    /// All contents that this layer and those below it hold.
    pub fn contents(&self) -> BTreeSet<Sha256> {
        self.packs.iter().flat_map(|pack| pack.offsets.keys().copied()).collect()
    }

    /// The files of this layer, then those of the layers below.
    pub fn files(&self) -> impl Iterator<Item = &LayerFiles> {
        self.packs.iter().map(|pack| &pack.files)
    }

    /// Where each content lies in the packs, this layer's first.
    pub fn offsets(&self) -> impl Iterator<Item = &BTreeMap<Sha256, u64>> {
        self.packs.iter().map(|pack| &pack.offsets)
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

/// Opens one layer.
pub(super) fn open_one(store: &Store, key: Sha256) -> Result<(LayerIndex, LayerFiles), LayerError> {
    let files = open_files(store, key)?;
    let index = LayerIndex::read(&files.index).map_err(|error| unusable(key, error))?;
    Ok((index, files))
}

fn open_files(store: &Store, key: Sha256) -> Result<LayerFiles, LayerError> {
    let directory = store.path(Kind::Layer, key);
    let open = |name: &str| {
        File::open(directory.join(name)).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound if !directory.exists() => LayerError::Missing(key),
            io::ErrorKind::NotFound => LayerError::Damaged { key, reason: format!("it has no `{name}`") },
            _ => LayerError::Unreadable { key, source },
        })
    };
    Ok(LayerFiles { index: open(INDEX)?, pack: open(PACK)? })
}

fn unusable(key: Sha256, error: Unusable) -> LayerError {
    match error {
        Unusable::Missing => LayerError::Missing(key),
        Unusable::Damaged(reason) => LayerError::Damaged { key, reason: format!("its index: {reason}") },
    }
}

impl Contents for Layer {
    fn read(&self, content: &Content) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(content.size).map_err(|_| io::ErrorKind::OutOfMemory)?];
        self.read_into(content, &mut bytes)?;
        Ok(bytes)
    }

    fn read_into(&self, content: &Content, buffer: &mut [u8]) -> io::Result<()> {
        let place = self.packs.iter().find_map(|pack| Some((*pack.offsets.get(&content.sha256)?, pack)));
        let (offset, pack) = place.ok_or_else(|| {
            let message = format!("content {} is not in layer {}", content.sha256, self.key);
            io::Error::new(io::ErrorKind::NotFound, message)
        })?;
        match pack.files.pack.read_exact_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(self.damaged(pack.key, "its pack is cut off".into()));
            }
            read => read?,
        }
        if pack.own {
            return Ok(());
        }
        let found = Sha256::of(buffer);
        if found != content.sha256 {
            let reason = format!("its content {} now hashes to {found}", content.sha256);
            return Err(self.damaged(pack.key, reason));
        }
        Ok(())
    }
}

/// Writes the pack of a new layer.
pub struct PackWriter<W: Write> {
    pack: BufWriter<W>,
    length: u64,
    packed: BTreeMap<Content, u64>,
    below: Arc<BTreeSet<Sha256>>,
    /// What is copied at a time.
    chunk: Vec<u8>,
}

impl<W: Write> PackWriter<W> {
    /// Starts an empty pack; contents in `below` are not written again.
    pub fn new(pack: W, below: Arc<BTreeSet<Sha256>>) -> Self {
        Self {
            pack: BufWriter::with_capacity(BUFFER, pack),
            length: 0,
            packed: BTreeMap::new(),
            below,
            chunk: Vec::new(),
        }
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
        if !self.below.contains(&content.sha256) && !self.packed.contains_key(&content) {
            self.pack.write_all(bytes)?;
            self.packed.insert(content, self.length);
            self.length += content.size;
        }
        Ok(())
    }

    /// Flushes the pack, so that others can read what it has, and gives the place of each content.
    ///
    /// # Errors
    /// When the pack cannot be written.
    pub fn flush(&mut self) -> io::Result<&BTreeMap<Content, u64>> {
        self.pack.flush()?;
        Ok(&self.packed)
    }

    /// Flushes the pack and gives the place of each content.
    ///
    /// # Errors
    /// When the pack cannot be written.
    pub fn finish(mut self) -> io::Result<BTreeMap<Content, u64>> {
        self.pack.flush()?;
        Ok(self.packed)
    }
}

impl PackWriter<File> {
    /// As [`add_hashed`](Self::add_hashed), with the bytes of `file`, wherever that is read next.
    ///
    /// # Errors
    /// When the file cannot be read or the pack cannot be written.
    pub fn add_file(&mut self, content: Content, file: &File) -> io::Result<()> {
        if !self.below.contains(&content.sha256) && !self.packed.contains_key(&content) {
            let sent = if content.size >= SENT { self.send(content.size, file)? } else { 0 };
            self.copy(sent..content.size, file)?;
            self.packed.insert(content, self.length);
            self.length += content.size;
        }
        Ok(())
    }

    /// Lets the kernel copy `size` bytes of `file`; gives how many it did before it found that it cannot.
    fn send(&mut self, size: u64, file: &File) -> io::Result<u64> {
        self.pack.flush()?;
        let mut done = 0;
        while done < size {
            let left = usize::try_from(size - done).unwrap_or(usize::MAX);
            match rustix::fs::sendfile(self.pack.get_ref(), file, Some(&mut done), left) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::INVAL | Errno::NOSYS) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    fn copy(&mut self, range: Range<u64>, file: &File) -> io::Result<()> {
        self.chunk.resize(CHUNK, 0);
        let mut done = range.start;
        while done < range.end {
            let left = usize::try_from(range.end - done).unwrap_or(CHUNK);
            let chunk = &mut self.chunk[..left.min(CHUNK)];
            file.read_exact_at(chunk, done)?;
            self.pack.write_all(chunk)?;
            done += chunk.len() as u64;
        }
        Ok(())
    }
}

/// Only for tests: makes a layer of `tree` and `bytes` in `store`.
#[cfg(test)]
pub(crate) fn store_layer(store: &Store, key: Sha256, tree: Tree, bytes: &[&[u8]]) -> Layer {
    let pending = store.create_directory().unwrap();
    let mut pack = PackWriter::new(File::create(pending.path().join(PACK)).unwrap(), Arc::default());
    for bytes in bytes {
        pack.add(bytes).unwrap();
    }
    let index = LayerIndex::new(None, tree, pack.finish().unwrap());
    index.write(File::create(pending.path().join(INDEX)).unwrap()).unwrap();
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

        let index = store.path(Kind::Layer, key).join(INDEX);
        let mut bytes = fs::read(&index).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&index, bytes).unwrap();
        assert!(matches!(Layer::open(&store, key), Err(LayerError::Damaged { .. })));
        assert_eq!(store.take_damaged().len(), 1);
        assert!(matches!(Layer::open(&store, Sha256::of("no")), Err(LayerError::Missing(_))));
    }

    #[test]
    fn what_this_run_wrote_is_hashed_again_once_somebody_changed_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (key, content) = (Sha256::of("key"), Content::of(b"hello"));
        let tree = Tree::from([(TreePath::new("a").unwrap(), Node::file(content, 0o644, 7))]);
        store_layer(&store, key, tree, &[b"hello"]);
        let pack = store.path(Kind::Layer, key).join(PACK);
        store.wrote_layer(key, &File::open(&pack).unwrap());
        let layer = Layer::open(&store, key).unwrap();
        assert!(layer.packs[0].own);
        assert_eq!(layer.read(&content).unwrap(), b"hello");
        // Where times of change are coarse, a change in the same tick would not move them.
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&pack, b"hallo").unwrap();
        assert!(Layer::open(&store, key).unwrap().read(&content).is_err());
        assert_eq!(store.take_damaged().len(), 1);
        // Another run knows nothing of it.
        fs::write(&pack, b"hello").unwrap();
        let other = Store::open(directory.path()).unwrap();
        assert!(!Layer::open(&other, key).unwrap().packs[0].own);
    }

    #[test]
    fn a_large_file_is_copied_by_the_kernel_or_else_here() {
        let directory = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..SENT as u32).flat_map(u32::to_le_bytes).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let content = Content::of(&bytes);
        // The kernel does not send to a file that is appended to.
        for append in [false, true] {
            let path = directory.path().join(append.to_string());
            let pack = File::options().write(!append).append(append).create(true).open(&path).unwrap();
            let mut writer = PackWriter::new(pack, Arc::default());
            writer.add(b"before").unwrap();
            writer.add_file(content, &file).unwrap();
            writer.add_file(content, &file).unwrap();
            writer.add(b"behind").unwrap();
            let places = writer.finish().unwrap();
            assert_eq!(places[&content], 6);
            assert_eq!(fs::read(&path).unwrap(), [b"before", bytes.as_slice(), b"behind"].concat());
        }
        let mut writer = PackWriter::new(tempfile::tempfile().unwrap(), Arc::default());
        let longer = Content { size: content.size + 1, ..content };
        assert_eq!(writer.add_file(longer, &file).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
