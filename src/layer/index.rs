//! The index of a layer as a file: a line that names the format, the hash of what follows, then that, in postcard's encoding.
//! What layers above need, where contents lie, comes first, so that the tree of a layer below need not be read.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::store::Unusable;
use crate::tree::{Content, Kind, Node, Tree, TreePath, TreeText};

/// Version of the layer format; part of every layer's key.
pub const FORMAT: u32 = 2;

/// First bytes of an index.
const MAGIC: &[u8; 16] = b"build-images l2\n";
/// Bytes before the body: magic and seal.
const PREFIX: usize = 16 + 32;
/// Longest index that is read, in bytes: some hundred times that of a full desktop.
const MAX_INDEX: u64 = 1 << 30;

/// What the index says of the layer's place among others and of its pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerHead {
    /// The layer below, whose pack holds contents too.
    pub parent: Option<Sha256>,
    /// Where each content begins in this layer's pack, in bytes.
    pub offsets: BTreeMap<Sha256, u64>,
    /// The sizes of those that no file of the tree has any more, in bytes: what scripts changed after it was read first.
    pub former: BTreeMap<Sha256, u64>,
}

/// What the index of a layer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerIndex {
    /// All but the tree.
    pub head: LayerHead,
    /// The whole tree, not only what this layer adds.
    pub tree: Tree,
}

type Hash = [u8; 32];

#[derive(Serialize, Deserialize)]
struct HeadForm {
    parent: Option<Hash>,
    offsets: Vec<(Hash, u64)>,
    former: Vec<(Hash, u64)>,
}

#[derive(Serialize, Deserialize)]
struct NodeForm<'a> {
    path: &'a [u8],
    #[serde(borrow)]
    kind: KindForm<'a>,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: i64,
    #[serde(borrow)]
    xattrs: Vec<(&'a str, &'a [u8])>,
}

#[derive(Serialize, Deserialize)]
enum KindForm<'a> {
    Directory,
    File(Hash, u64),
    Symlink(&'a [u8]),
    Hardlink(&'a [u8]),
    Fifo,
}

impl LayerIndex {
    /// The index of a layer over `parent` with `tree`, whose own pack has contents at the offsets `packed`.
    pub fn new(parent: Option<Sha256>, tree: Tree, packed: BTreeMap<Content, u64>) -> Self {
        let used: HashSet<&Sha256> = tree.values().filter_map(Node::content).map(|c| &c.sha256).collect();
        let former = packed.keys().filter(|content| !used.contains(&content.sha256));
        let former = former.map(|content| (content.sha256, content.size)).collect();
        let offsets = packed.into_iter().map(|(content, offset)| (content.sha256, offset)).collect();
        Self { head: LayerHead { parent, offsets, former }, tree }
    }

    /// Writes the index.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        let LayerHead { parent, offsets, former } = &self.head;
        let pairs =
            |map: &BTreeMap<Sha256, u64>| map.iter().map(|(key, at)| (*key.as_bytes(), *at)).collect();
        let head = HeadForm {
            parent: parent.map(|parent| *parent.as_bytes()),
            offsets: pairs(offsets),
            former: pairs(former),
        };
        let nodes: Vec<_> = self.tree.iter().map(|(path, node)| NodeForm::of(path, node)).collect();
        let body = postcard::to_allocvec(&(head, nodes)).map_err(io::Error::other)?;
        out.write_all(&[MAGIC, Sha256::of(&body).as_bytes().as_slice(), &body].concat())?;
        out.flush()
    }

    /// Reads the index in `file`, every byte of it checked.
    pub(crate) fn read(file: &File) -> Result<Self, Unusable> {
        let body = body(file)?;
        let (head, rest) = head(&body)?;
        let nodes: Vec<NodeForm<'_>> = whole(postcard::take_from_bytes(rest))?;
        let entries = nodes.into_iter().map(NodeForm::entry);
        let tree = entries.collect::<Option<Tree>>().ok_or_else(|| damaged("it names an impossible path"))?;
        Ok(Self { head, tree })
    }
}

impl LayerHead {
    /// Reads the index in `file` but for its tree.
    pub(crate) fn read(file: &File) -> Result<Self, Unusable> {
        Ok(head(&body(file)?)?.0)
    }
}

impl<'a> NodeForm<'a> {
    fn of(path: &'a TreePath, node: &'a Node) -> Self {
        let kind = match &node.kind {
            Kind::Directory => KindForm::Directory,
            Kind::File { content } => KindForm::File(*content.sha256.as_bytes(), content.size),
            Kind::Symlink { target } => KindForm::Symlink(&target.0),
            Kind::Hardlink { target } => KindForm::Hardlink(target.as_bytes()),
            Kind::Fifo => KindForm::Fifo,
        };
        let xattrs = node.xattrs.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let Node { mode, uid, gid, mtime, .. } = *node;
        Self { path: path.as_bytes(), kind, mode, uid, gid, mtime, xattrs }
    }

    fn entry(self) -> Option<(TreePath, Node)> {
        let Self { path, kind, mode, uid, gid, mtime, xattrs } = self;
        let kind = match kind {
            KindForm::Directory => Kind::Directory,
            KindForm::File(sha256, size) => {
                Kind::File { content: Content { sha256: Sha256::from_bytes(sha256), size } }
            }
            KindForm::Symlink(target) => Kind::Symlink { target: TreeText(target.to_vec()) },
            KindForm::Hardlink(target) => Kind::Hardlink { target: TreePath::new(target).ok()? },
            KindForm::Fifo => Kind::Fifo,
        };
        let xattrs = xattrs.into_iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
        Some((TreePath::new(path).ok()?, Node { kind, mode, uid, gid, mtime, xattrs }))
    }
}

fn damaged(reason: &str) -> Unusable {
    Unusable::Damaged(reason.to_owned())
}

/// What stands behind the seal, when that fits. Whoever else reads the same open file is not disturbed.
fn body(file: &File) -> Result<Vec<u8>, Unusable> {
    let unreadable = |error: io::Error| Unusable::Damaged(error.to_string());
    let length = file.metadata().map_err(unreadable)?.len();
    if length > MAX_INDEX {
        return Err(Unusable::Damaged(format!("it has more than {MAX_INDEX} bytes")));
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0).map_err(unreadable)?;
    if bytes.len() < PREFIX || bytes[..16] != *MAGIC {
        return Err(damaged("it is cut off or has another format"));
    }
    if bytes[16..PREFIX] != *Sha256::of(&bytes[PREFIX..]).as_bytes() {
        return Err(damaged("it does not match its own hash"));
    }
    bytes.drain(..PREFIX);
    Ok(bytes)
}

fn head(body: &[u8]) -> Result<(LayerHead, &[u8]), Unusable> {
    let (form, rest): (HeadForm, _) =
        postcard::take_from_bytes(body).map_err(|error| Unusable::Damaged(error.to_string()))?;
    let map =
        |pairs: Vec<(Hash, u64)>| pairs.into_iter().map(|(key, at)| (Sha256::from_bytes(key), at)).collect();
    let head = LayerHead {
        parent: form.parent.map(Sha256::from_bytes),
        offsets: map(form.offsets),
        former: map(form.former),
    };
    Ok((head, rest))
}

fn whole<T>(taken: postcard::Result<(T, &[u8])>) -> Result<T, Unusable> {
    match taken {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(damaged("something follows its end")),
        Err(error) => Err(Unusable::Damaged(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn sample() -> LayerIndex {
        let path = |text: &str| TreePath::new(text).unwrap();
        let content = Content::of(b"one");
        let mut file = Node::file(content, 0o4755, -7).owned_by(65535, 4);
        file.xattrs.insert("user.x".into(), vec![0, 255]);
        let link = Node { kind: Kind::Hardlink { target: path("a") }, ..file.clone() };
        let tree = Tree::from([
            (path("a"), file),
            (TreePath::new(b"b\xff\n").unwrap(), Node::symlink(b"\xfe%".to_vec(), i64::MAX)),
            (path("c"), link),
            (path("d"), Node { kind: Kind::Fifo, ..Node::directory(0o600, 0) }),
            (path("e"), Node::directory(0o1777, 1)),
        ]);
        let packed = BTreeMap::from([(content, 3), (Content::of(b"gone"), 6)]);
        LayerIndex::new(Some(Sha256::of("below")), tree, packed)
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn an_index_comes_back_and_every_bit_of_it_counts() {
        let index = sample();
        assert_eq!(index.head.former, BTreeMap::from([(Sha256::of("gone"), 4)]));
        let mut bytes = Vec::new();
        index.write(&mut bytes).unwrap();
        assert_eq!(LayerIndex::read(&file(&bytes)).unwrap(), index);
        assert_eq!(LayerHead::read(&file(&bytes)).unwrap(), index.head);
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(LayerIndex::read(&file(&other)).is_err(), "{bit}");
            assert!(LayerHead::read(&file(&other)).is_err(), "{bit}");
        }
        for other in [&bytes[..bytes.len() - 1], &bytes[..20], &[], &[&bytes[..], b"x"].concat()] {
            assert!(LayerIndex::read(&file(other)).is_err());
        }
    }

    #[test]
    fn what_is_sealed_but_makes_no_sense_is_damaged() {
        let sealed = |body: &[u8]| {
            LayerIndex::read(&file(&[MAGIC, Sha256::of(body).as_bytes().as_slice(), body].concat()))
        };
        let head = HeadForm { parent: None, offsets: Vec::new(), former: Vec::new() };
        let node = |path| NodeForm {
            path,
            kind: KindForm::Fifo,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: Vec::new(),
        };
        let good = postcard::to_allocvec(&(&head, [node(b"a")].as_slice())).unwrap();
        assert_eq!(sealed(&good).unwrap().tree.len(), 1);
        for path in [&b".."[..], b"", b"a//b"] {
            assert!(sealed(&postcard::to_allocvec(&(&head, [node(path)].as_slice())).unwrap()).is_err());
        }
        assert!(sealed(&[&good[..], b"\0"].concat()).is_err());
        // A length that no memory holds.
        assert!(sealed(&[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err());
    }
}
