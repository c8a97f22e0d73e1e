//! Trees for the tests: made by hand, drawn at random, or read from a real tar.

use std::collections::BTreeMap;
use std::io::Read;

use build_images::archive::{ArchiveError, Head, Parameters, Source, Summary, write};
use build_images::digest::Sha256;
use build_images::progress::Silent;
use build_images::store::Store;
use build_images::tree::{Content, Kind, Node, Tree, TreePath, TreeText};

/// The time stamp of everything that has no other.
pub const EPOCH: i64 = 1_700_000_000;

/// Small frames, so that small trees have many.
pub const SMALL: Parameters =
    Parameters { level: 3, window_log: 20, max_frame: 64 << 10, min_frame: 8 << 10 };

/// Bytes that compress a little, different for each `seed`.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state & 0x3f) as u8
        })
        .collect()
}

/// A tree and its contents.
#[derive(Clone, Default)]
pub struct Sample {
    pub tree: Tree,
    pub contents: BTreeMap<Sha256, Vec<u8>>,
    pub head: Vec<Head>,
    pub layers: BTreeMap<String, usize>,
}

pub fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

impl Sample {
    /// The pct configuration and the directories that every image has.
    pub fn new() -> Self {
        let mut sample = Self::default();
        sample.head.push(Head { path: path("etc/vzdump/pct.conf"), bytes: b"arch: amd64\n".to_vec() });
        for name in ["dev", "etc", "usr", "usr/bin", "usr/share", "var", "var/lib", "var/lib/dpkg"] {
            sample.put(name, Node::directory(0o755, EPOCH));
        }
        sample
    }

    pub fn put(&mut self, name: &str, node: Node) {
        self.tree.insert(path(name), node);
    }

    pub fn file(&mut self, name: &str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        let content = Content::of(&bytes);
        self.contents.insert(content.sha256, bytes);
        self.put(name, Node::file(content, 0o644, EPOCH));
    }

    pub fn hardlink(&mut self, name: &str, target: &str) {
        let node = self.tree[&path(target)].clone();
        self.put(name, Node { kind: Kind::Hardlink { target: path(target) }, ..node });
    }

    /// Makes `files` belong to `package`, as dpkg's list says.
    pub fn own(&mut self, package: &str, files: &[&str]) {
        self.put("var/lib/dpkg/info", Node::directory(0o755, EPOCH));
        let list: String = files.iter().map(|file| format!("/{file}\n")).collect();
        self.file(&format!("var/lib/dpkg/info/{package}.list"), format!("/.\n{list}"));
    }

    pub fn write(
        &self,
        store: &Store,
        parameters: &Parameters,
        threads: usize,
    ) -> Result<(Summary, Vec<u8>), ArchiveError> {
        let source = Source {
            tree: &self.tree,
            contents: &self.contents,
            head: &self.head,
            mtime: EPOCH,
            layers: &self.layers,
        };
        let mut out = Vec::new();
        let summary = write(&source, store, parameters, threads, ("test", &Silent), &mut out)?;
        Ok((summary, out))
    }

    /// What a tar holds, but for device nodes and what is below /dev.
    pub fn from_tar(tar: impl Read) -> Self {
        let mut sample = Self::new();
        sample.tree.clear();
        let mut archive = tar::Archive::new(tar);
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path_bytes().into_owned();
            let Ok(path) = TreePath::new(&name) else { continue };
            if path.as_bytes().starts_with(b"dev/") {
                continue;
            }
            let mut xattrs = BTreeMap::new();
            for record in entry.pax_extensions().unwrap().into_iter().flatten() {
                let record = record.unwrap();
                let key = record.key_bytes().strip_prefix(b"SCHILY.xattr.");
                if let Some(key) = key.filter(|key| *key == b"security.capability") {
                    xattrs.insert(String::from_utf8(key.to_vec()).unwrap(), record.value_bytes().to_vec());
                }
            }
            let header = entry.header().clone();
            let link = entry.link_name_bytes().map(|link| link.into_owned()).unwrap_or_default();
            let kind = match header.entry_type() {
                tar::EntryType::Directory => Kind::Directory,
                tar::EntryType::Symlink => Kind::Symlink { target: TreeText(link) },
                tar::EntryType::Link => Kind::Hardlink { target: TreePath::new(&link).unwrap() },
                tar::EntryType::Regular => {
                    let mut bytes = Vec::new();
                    entry.read_to_end(&mut bytes).unwrap();
                    let content = Content::of(&bytes);
                    sample.contents.insert(content.sha256, bytes);
                    Kind::File { content }
                }
                _ => continue,
            };
            let mode = header.mode().unwrap() & 0o7777;
            let (uid, gid) = (header.uid().unwrap() as u32, header.gid().unwrap() as u32);
            let mtime = header.mtime().unwrap() as i64;
            sample.tree.insert(path, Node { kind, mode, uid, gid, mtime, xattrs });
        }
        sample
    }
}

/// A store in a directory of its own.
pub fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    (directory, store)
}
