//! Every byte of a layer compared with what its index says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;

use rayon::prelude::*;

use super::pack::{MAX_BELOW, lost, open_one};
use super::{LayerError, LayerFiles, LayerIndex};
use crate::digest::{HashingWriter, Sha256};
use crate::store::Store;
use crate::tree::Content;

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;

/// Checks the layer `key` whole: its index, every content of its pack, and that each content of its tree is there or in a
/// layer below. Those below are not checked themselves. Gives the bytes of its pack.
///
/// # Errors
/// See [`LayerError`]. Nothing is noted in the store.
pub fn check(store: &Store, key: Sha256) -> Result<u64, LayerError> {
    let (LayerIndex { head, tree }, LayerFiles { pack, .. }) = open_one(store, key)?;
    let damaged = |reason: String| LayerError::Damaged { key, reason };
    let used = tree.values().filter_map(|node| node.content()).map(|c| (c.sha256, c.size));
    let contents: BTreeMap<Sha256, u64> =
        used.chain(head.former.iter().map(|(sha256, size)| (*sha256, *size))).collect();
    let mut held = Vec::with_capacity(head.offsets.len());
    for (sha256, offset) in &head.offsets {
        let size = contents.get(sha256);
        let size = *size.ok_or_else(|| damaged(format!("its pack has a content {sha256} of no file")))?;
        held.push((Content { sha256: *sha256, size }, *offset));
    }
    // Contents lie side by side, each once: together they are the whole file.
    let length = pack.metadata().map_err(|source| LayerError::Unreadable { key, source })?.len();
    let expected: u64 = held.iter().map(|(content, _)| content.size).sum();
    if length != expected {
        return Err(damaged(format!("its pack has {length} bytes instead of {expected}")));
    }
    let bad = held.par_iter().find_map_first(|(content, offset)| compare(&pack, *content, *offset).err());
    if let Some(reason) = bad {
        return Err(damaged(reason.to_string()));
    }
    match contents_below(store, head.parent) {
        Some(below) => {
            let held = |content: &Sha256| head.offsets.contains_key(content) || below.contains(content);
            lost(&tree, held).map_or(Ok(length), |reason| Err(damaged(reason)))
        }
        None => Ok(length),
    }
}

fn compare(pack: &File, content: Content, offset: u64) -> io::Result<()> {
    let mut hasher = HashingWriter::new(io::sink());
    let mut buffer = vec![0; CHUNK.min(usize::try_from(content.size).unwrap_or(CHUNK))];
    while hasher.length() < content.size {
        let left = usize::try_from(content.size - hasher.length()).unwrap_or(CHUNK);
        let part = &mut buffer[..left.min(CHUNK)];
        pack.read_exact_at(part, offset + hasher.length())?;
        hasher.write_all(part)?;
    }
    let (found, ..) = hasher.finish();
    if found != content.sha256 {
        let message = format!("its content {} now hashes to {found}", content.sha256);
        return Err(io::Error::other(message));
    }
    Ok(())
}

/// What the layers below hold. Nothing can be said where one cannot be opened: that one is damaged or missing, and made
/// again before the layer above is used.
fn contents_below(store: &Store, parent: Option<Sha256>) -> Option<BTreeSet<Sha256>> {
    let mut held = BTreeSet::new();
    let mut parent = parent;
    for _ in 0..MAX_BELOW {
        let Some(key) = parent else { break };
        let (below, _) = open_one(store, key).ok()?;
        held.extend(below.head.offsets.into_keys());
        parent = below.head.parent;
    }
    Some(held)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::super::pack::store_layer;
    use super::super::{INDEX, Layer, PACK, PackWriter};
    use super::*;
    use crate::store::Kind;
    use crate::tree::{Node, Tree, TreePath};

    fn file(name: &str, bytes: &[u8]) -> (TreePath, Node) {
        (TreePath::new(name).unwrap(), Node::file(Content::of(bytes), 0o644, 7))
    }

    #[test]
    fn every_bit_of_a_layer_counts() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let key = Sha256::of("key");
        let contents: [&[u8]; 3] = [b"one", b"", b"three"];
        let tree = Tree::from([file("a", contents[0]), file("b", contents[1]), file("c", contents[2])]);
        store_layer(&store, key, tree, &contents);
        assert_eq!(check(&store, key).unwrap(), 8);
        for name in [PACK, INDEX] {
            let path = store.path(Kind::Layer, key).join(name);
            let good = fs::read(&path).unwrap();
            for bit in 0..good.len() * 8 {
                let mut bytes = good.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                fs::write(&path, bytes).unwrap();
                assert!(matches!(check(&store, key), Err(LayerError::Damaged { .. })), "{name} {bit}");
            }
            for other in [&good[..good.len() - 1], &[&good[..], b"x"].concat()] {
                fs::write(&path, other).unwrap();
                assert!(matches!(check(&store, key), Err(LayerError::Damaged { .. })), "{name}");
            }
            fs::remove_file(&path).unwrap();
            assert!(matches!(check(&store, key), Err(LayerError::Damaged { .. })), "{name}");
            fs::write(&path, good).unwrap();
        }
        assert!(store.take_damaged().is_empty());
        assert!(matches!(check(&store, Sha256::of("none")), Err(LayerError::Missing(_))));
    }

    #[test]
    fn what_the_layer_below_lost_is_missed() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let (below, above) = (Sha256::of("below"), Sha256::of("above"));
        store_layer(&store, below, Tree::from([file("a", b"random")]), &[b"random"]);
        let pending = store.create_directory().unwrap();
        let pack = PackWriter::new(File::create(pending.path().join(PACK)).unwrap(), Arc::default());
        let tree = Tree::from([file("a", b"random")]);
        let index = LayerIndex::new(Some(below), tree, pack.finish().unwrap());
        index.write(File::create(pending.path().join(INDEX)).unwrap()).unwrap();
        store.commit_directory(pending, Kind::Layer, above).unwrap();
        assert_eq!(check(&store, above).unwrap(), 0);
        store.remove(Kind::Layer, below).unwrap();
        assert_eq!(check(&store, above).unwrap(), 0);
        assert!(matches!(Layer::open(&store, above), Err(LayerError::Missing(key)) if key == below));
        store_layer(&store, below, Tree::from([file("a", b"other")]), &[b"other"]);
        let error = check(&store, above).unwrap_err().to_string();
        assert!(error.ends_with("the content of `/a` is neither in its pack nor in one below"), "{error}");
        assert!(matches!(Layer::open(&store, above), Err(LayerError::Damaged { key, .. }) if key == above));
    }
}
