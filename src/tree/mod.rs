//! A root file system as a value: a sorted list of entries whose contents are named by their hash.
//!
//! Nothing here touches a file system. Stages take a [`Tree`] and give a [`Tree`]; the bytes behind a
//! [`Content`] come from a [`Contents`].

mod path;

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

pub use path::{TreePath, TreePathError};

use crate::digest::Sha256;

/// All entries of a root file system below its root, in byte order of their paths: parents come first.
pub type Tree = BTreeMap<TreePath, Node>;

/// One file-system entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// What it is.
    #[serde(flatten)]
    pub kind: Kind,
    /// Permission bits with set-id and sticky bits (07777); 0777 for symbolic links.
    pub mode: u32,
    /// Owner inside the container, 0 to 65535.
    pub uid: u32,
    /// Group inside the container, 0 to 65535.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Extended attributes that Proxmox restores: `user.*` and `security.capability`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// The type of an entry and what belongs to it alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its bytes.
        content: Content,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as stored in the link.
        target: TreeText,
    },
    /// A further name of a regular file.
    Hardlink {
        /// The first name, which sorts before this one and is a [`Kind::File`].
        target: TreePath,
    },
    /// A named pipe.
    Fifo,
}

/// The bytes of a regular file, by hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Content {
    /// What the bytes hash to.
    pub sha256: Sha256,
    /// How many there are.
    pub size: u64,
}

impl Content {
    /// The name of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self { sha256: Sha256::of(bytes), size: bytes.len() as u64 }
    }
}

/// Where the bytes behind a [`Content`] come from.
pub trait Contents: Sync {
    /// The bytes of `content`, checked against its hash.
    ///
    /// # Errors
    /// `NotFound` when they are not here, `InvalidData` when what is here hashes to something else.
    fn read(&self, content: &Content) -> io::Result<Vec<u8>>;

    /// As [`read`](Self::read), into `buffer`, which is as long as the content.
    ///
    /// # Errors
    /// As `read`; `InvalidData` also when the content has another length than `buffer`.
    fn read_into(&self, content: &Content, buffer: &mut [u8]) -> io::Result<()> {
        fill(buffer, &self.read(content)?, content)
    }
}

/// Copies `bytes`, which are those of `content`, into `buffer`.
///
/// # Errors
/// `InvalidData` when they have not the same length.
pub fn fill(buffer: &mut [u8], bytes: &[u8], content: &Content) -> io::Result<()> {
    if buffer.len() != bytes.len() {
        let message =
            format!("content {} has {} bytes instead of {}", content.sha256, bytes.len(), buffer.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    buffer.copy_from_slice(bytes);
    Ok(())
}

impl Contents for BTreeMap<Sha256, Vec<u8>> {
    fn read(&self, content: &Content) -> io::Result<Vec<u8>> {
        let bytes = self.get(&content.sha256);
        bytes.cloned().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, content.sha256.to_string()))
    }
}

/// Bytes that are nearly always UTF-8, such as link targets. Serialised as a string in which `%` and every byte
/// that is not part of valid UTF-8 stand as `%XX`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeText(pub Vec<u8>);

impl Node {
    /// A directory with `mode`, owned by root.
    pub fn directory(mode: u32, mtime: i64) -> Self {
        Self { kind: Kind::Directory, mode, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
    }

    /// A regular file with `mode`, owned by root.
    pub fn file(content: Content, mode: u32, mtime: i64) -> Self {
        Self { kind: Kind::File { content }, mode, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
    }

    /// A symbolic link owned by root.
    pub fn symlink(target: impl Into<Vec<u8>>, mtime: i64) -> Self {
        let kind = Kind::Symlink { target: TreeText(target.into()) };
        Self { kind, mode: 0o777, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
    }

    /// The same with another owner and group.
    #[must_use]
    pub fn owned_by(self, uid: u32, gid: u32) -> Self {
        Self { uid, gid, ..self }
    }

    /// Whether this is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// The bytes of a regular file.
    pub fn content(&self) -> Option<&Content> {
        match &self.kind {
            Kind::File { content } => Some(content),
            _ => None,
        }
    }
}
