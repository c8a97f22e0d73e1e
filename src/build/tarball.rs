//! Tarballs of recipes: read into a layer of the store once, then chosen from. Starts no process.
//!
//! In: a file whose hash was checked, made by people who know nothing of this image. Out: its members as a layer, named
//! as in the tarball; [`select`] gives what a recipe takes of it. Whatever could reach beyond the directory that it is
//! unpacked into is refused.

mod select;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

pub use select::{SelectProblem, Selected, select};

use crate::apt::deb::{Compression, DebError, MemberKind, TarReader, decompressor};
use crate::digest::Sha256;
use crate::layer::{self, Layer, LayerError, LayerIndex, PackWriter};
use crate::store::{Context as _, Kind as Stored, Store, StoreError};
use crate::tree::{Content, Contents, Kind, Node, Tree, TreePath};

/// Version of what is made of a tarball; part of its layer's key.
const FORMAT: u32 = 1;
/// The most that a tarball may unpack to, in bytes.
const MAX_UNPACKED: u64 = 64 << 30;
/// The largest file in a tarball, in bytes; each is in memory once.
const MAX_FILE: u64 = 4 << 30;

/// A tarball cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TarballError {
    /// It is compressed in a way that is not known, or no tarball at all.
    #[error("it is {found}; expected a tar archive, plain or compressed with gzip, xz or zstd")]
    Form {
        /// What it looks like.
        found: &'static str,
    },
    /// It is damaged, unpacks to too much, or has members that no image can have.
    #[error("{0}")]
    Archive(#[from] DebError),
    /// A member would reach out of the directory that the tarball is unpacked into, or contradicts another.
    #[error("member `{member}`: {reason}")]
    Member {
        /// Its name.
        member: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Its layer.
    #[error("{0}")]
    Layer(#[from] LayerError),
    /// The store.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// The key of the layer that a tarball with this hash becomes.
pub fn key(sha256: Sha256) -> Sha256 {
    Sha256::of(format!("tarball {FORMAT} {} {sha256}", layer::FORMAT))
}

/// Makes the layer of the tarball in `path`, which hashes to `sha256`.
///
/// # Errors
/// See [`TarballError`].
pub fn unpack(store: &Store, path: &Path, sha256: Sha256) -> Result<Layer, TarballError> {
    let file = File::open(path).context("open", path)?;
    let length = file.metadata().context("look at", path)?.len();
    let pending = store.create_directory()?;
    let pack_path = pending.path().join(layer::PACK);
    let mut pack = PackWriter::new(File::create(&pack_path).context("make", &pack_path)?, Arc::default());
    let compression = compression(&file).context("read", path)?;
    let compression = compression.map_err(|found| TarballError::Form { found })?;
    let reader = decompressor(file, compression, ("the tarball", length), MAX_UNPACKED)?;
    let tree = members(TarReader::new(reader, "the tarball".to_owned()).any_owner(), &mut |bytes| {
        pack.add(bytes).context("write", &pack_path)
    })?;
    let index = LayerIndex::new(None, tree, pack.finish().context("write", &pack_path)?);
    let index_path = pending.path().join(layer::INDEX);
    let made = File::create(&index_path).context("make", &index_path)?;
    index.write(made).context("write", &index_path)?;
    store.commit_directory(pending, Stored::Layer, key(sha256))?;
    Ok(Layer::open(store, key(sha256))?)
}

/// How the file is compressed, or what it is instead.
fn compression(file: &File) -> io::Result<Result<Compression, &'static str>> {
    let mut start = [0; 512];
    let mut filled = 0;
    while filled < start.len() {
        match file.read_at(&mut start[filled..], filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    let start = &start[..filled];
    let is = |magic: &[u8]| start.starts_with(magic);
    Ok(match start {
        _ if is(b"\x1f\x8b") => Ok(Compression::Gzip),
        _ if is(b"\xfd7zXZ\0") => Ok(Compression::Xz),
        _ if is(b"\x28\xb5\x2f\xfd") => Ok(Compression::Zstd),
        _ if is(b"BZh") => Err("compressed with bzip2"),
        _ if is(b"\x04\x22\x4d\x18") => Err("compressed with lz4"),
        _ if is(b"PK\x03\x04") => Err("a zip archive"),
        _ if is(b"7z\xbc\xaf\x27\x1c") => Err("a 7z archive"),
        _ if is(b"!<arch>\n") => Err("a Debian package or a library"),
        _ if is(b"<") => Err("a web page"),
        [] => Err("empty"),
        _ if filled == 512 => Ok(Compression::None),
        _ => Err("something else"),
    })
}

/// The members of a tarball, as they are named there; `keep` stores a file's bytes.
fn members<R: io::Read>(
    mut reader: TarReader<R>,
    keep: &mut dyn FnMut(&[u8]) -> Result<Content, StoreError>,
) -> Result<Tree, TarballError> {
    let mut tree = Tree::new();
    while let Some(member) = reader.next_member()? {
        let Some(path) = member.path else { continue };
        let fail = |reason: String| TarballError::Member {
            member: String::from_utf8_lossy(path.as_bytes()).into_owned(),
            reason,
        };
        if member.absolute {
            return Err(fail("its name begins at the root of the file system".to_owned()));
        }
        for above in path.ancestors().skip(1) {
            if tree.get(&above).is_some_and(|node: &Node| !node.is_directory()) {
                return Err(fail(format!("it is below `{}`, which is no directory", shown(&above))));
            }
        }
        let kind = match member.kind {
            MemberKind::Directory => Kind::Directory,
            MemberKind::File if member.size > MAX_FILE => {
                return Err(fail(format!("it has {} bytes, more than {MAX_FILE}", member.size)));
            }
            MemberKind::File => {
                let mut bytes = Vec::new();
                reader.content().read_to_end(&mut bytes).map_err(damaged)?;
                Kind::File { content: keep(&bytes)? }
            }
            MemberKind::Symlink(target) => Node::symlink(target, 0).kind,
            MemberKind::Hardlink(target) => match tree.get(&target).map(|node| &node.kind) {
                Some(Kind::File { content }) => Kind::File { content: *content },
                _ => {
                    let target = shown(&target);
                    return Err(fail(format!("it is a link to `{target}`, which is no file before it")));
                }
            },
            MemberKind::Fifo => return Err(fail("a named pipe, which no application ships".to_owned())),
        };
        let xattrs: BTreeMap<_, _> =
            member.xattrs.into_iter().filter(|(name, _)| name == "security.capability").collect();
        let node = Node { kind, mode: member.mode, uid: 0, gid: 0, mtime: 0, xattrs };
        match tree.get(&path) {
            Some(known) if known.is_directory() && node.is_directory() => {}
            Some(_) => return Err(fail("it is there twice".to_owned())),
            None if node.kind != Kind::Directory && has_below(&tree, &path) => {
                return Err(fail("it is no directory, but others are below it".to_owned()));
            }
            None => {
                tree.insert(path, node);
            }
        }
    }
    Ok(tree)
}

fn has_below(tree: &Tree, path: &TreePath) -> bool {
    crate::build::place::below(tree, path).next().is_some()
}

fn shown(path: &TreePath) -> String {
    String::from_utf8_lossy(path.as_bytes()).into_owned()
}

fn damaged(source: io::Error) -> TarballError {
    let unreadable = |source| DebError::Unreadable { part: "the tarball".to_owned(), source };
    TarballError::Archive(source.downcast::<DebError>().unwrap_or_else(unreadable))
}

/// What recipes are applied to: the packages' layer, and tarballs beside it.
#[derive(Debug)]
pub struct Base {
    /// The packages.
    pub top: Layer,
    /// Members of tarballs, by the tarballs' names.
    pub tarballs: BTreeMap<String, Tree>,
    layers: Vec<Layer>,
}

impl Base {
    /// Begins with the packages alone.
    pub fn new(top: Layer) -> Self {
        Self { top, tarballs: BTreeMap::new(), layers: Vec::new() }
    }

    /// What the first layer gives that has it.
    fn first<T>(&self, mut read: impl FnMut(&Layer) -> io::Result<T>) -> io::Result<T> {
        let mut last = read(&self.top);
        for layer in &self.layers {
            match last {
                Err(error) if error.kind() == io::ErrorKind::NotFound => last = read(layer),
                done => return done,
            }
        }
        last
    }

    /// Adds the tarball `name`.
    pub fn add(&mut self, name: String, mut layer: Layer) {
        self.tarballs.insert(name, std::mem::take(&mut layer.tree));
        self.layers.push(layer);
    }
}

impl Contents for Base {
    fn read(&self, content: &Content) -> io::Result<Vec<u8>> {
        self.first(|layer| layer.read(content))
    }

    fn read_into(&self, content: &Content, buffer: &mut [u8]) -> io::Result<()> {
        self.first(|layer| layer.read_into(content, buffer))
    }
}

#[cfg(test)]
mod tests;
