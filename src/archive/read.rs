//! Reading an archive back, for `verify` and `diff`: as a tree whose contents are named, not kept.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use tar::{EntryType, Header};

use super::acl;
use super::table::{FrameTable, TableError, read_table};
use crate::digest::{HashingWriter, Sha256};
use crate::tree::{Content, Kind, Node, Tree, TreePath, TreePathError, TreeText};

/// Largest tar that is read, in bytes.
const MAX_TAR: u64 = 1 << 38;
/// Largest pax header that is read, in bytes.
const MAX_PAX: u64 = 1 << 20;
/// Most members that are read.
const MAX_MEMBERS: usize = 1 << 24;
/// Contents up to this size are kept when they are asked for, in bytes.
const MAX_KEPT: u64 = 16 << 20;
/// Binary logarithm of the largest window, as Proxmox's `zstd -d` has it.
const MAX_WINDOW_LOG: u32 = 27;

/// What an archive holds.
#[derive(Debug)]
pub struct Archive {
    /// Its members by path, but for the root directory.
    pub tree: Tree,
    /// The paths in the order in which they stand.
    pub order: Vec<TreePath>,
    /// The bytes of the members that were asked for.
    pub kept: BTreeMap<TreePath, Vec<u8>>,
    /// Hash of the file.
    pub sha256: Sha256,
    /// Bytes of the file.
    pub size: u64,
    /// Hash of the uncompressed tar.
    pub tar_sha256: Sha256,
    /// Its frame table, checked; nothing when another program wrote it.
    pub table: Option<FrameTable>,
}

/// An archive cannot be read, or is not what it says.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read or decompressed.
    #[error("cannot read the archive: {0}")]
    Io(#[from] io::Error),
    /// The frame table is there, but damaged.
    #[error(transparent)]
    Table(TableError),
    /// A frame does not have the hash that the table says.
    #[error("frame {index} of {count} hashes to {found}, its table says {expected}")]
    Frame {
        /// Which, counted from 1.
        index: usize,
        /// How many there are.
        count: usize,
        /// The table's hash.
        expected: Sha256,
        /// The hash found.
        found: Sha256,
    },
    /// The uncompressed tar does not have the hash or size that the table says.
    #[error("the uncompressed tar hashes to {found}, its table says {expected}")]
    Tar {
        /// The table's hash.
        expected: Sha256,
        /// The hash found.
        found: Sha256,
    },
    /// A header is none, or says what this reader does not take.
    #[error("member {number}: {reason}")]
    Member {
        /// Which, counted from 1.
        number: usize,
        /// What is wrong.
        reason: String,
    },
    /// A member's name is no path below the root.
    #[error(transparent)]
    Path(#[from] TreePathError),
    /// A path stands there twice; the first one would win.
    #[error("`{0}` is there twice")]
    Twice(TreePath),
}

/// Reads the archive at `path`, keeping the contents of `keep` (those of at most 16 MiB).
///
/// An archive with a frame table is checked against it: every frame, and the whole tar.
///
/// # Errors
/// See [`ReadError`].
pub fn read(path: &Path, keep: &[TreePath]) -> Result<Archive, ReadError> {
    let mut file = File::open(path)?;
    let table = match read_table(&mut file) {
        Ok((table, _)) => Some(table),
        Err(TableError::Absent) => None,
        Err(error) => return Err(ReadError::Table(error)),
    };
    io::Seek::rewind(&mut file)?;
    let (sha256, size) = match &table {
        Some(table) => check_frames(&mut file, table)?,
        None => Sha256::of_reader(BufReader::new(&mut file))?,
    };
    io::Seek::rewind(&mut file)?;

    let mut decoder = zstd::stream::read::Decoder::new(file)?;
    decoder.window_log_max(MAX_WINDOW_LOG)?;
    let limit = table.as_ref().map_or(MAX_TAR, |table| table.tar_size.saturating_add(1).min(MAX_TAR));
    let mut tar = Members {
        inner: Tee { inner: decoder.take(limit), hash: HashingWriter::new(io::sink()) },
        number: 0,
    };
    let (mut tree, mut order, mut kept) = (Tree::new(), Vec::new(), BTreeMap::new());
    while let Some((path, node, bytes)) = tar.next(keep)? {
        let Some(path) = path else { continue };
        if let Some(bytes) = bytes {
            kept.insert(path.clone(), bytes);
        }
        if tree.insert(path.clone(), node).is_some() {
            return Err(ReadError::Twice(path));
        }
        order.push(path);
    }
    io::copy(&mut tar.inner, &mut io::sink())?;
    let (tar_sha256, tar_size, _) = tar.inner.hash.finish();
    if let Some(table) = &table
        && (table.tar_sha256, table.tar_size) != (tar_sha256, tar_size)
    {
        return Err(ReadError::Tar { expected: table.tar_sha256, found: tar_sha256 });
    }
    Ok(Archive { tree, order, kept, sha256, size, tar_sha256, table })
}

/// Hashes the file, and each frame against the table.
fn check_frames(file: &mut File, table: &FrameTable) -> Result<(Sha256, u64), ReadError> {
    let mut whole =
        Tee { inner: BufReader::with_capacity(1 << 20, file), hash: HashingWriter::new(io::sink()) };
    for (index, frame) in table.frames.iter().enumerate() {
        let (found, _) = Sha256::of_reader((&mut whole).take(frame.size))?;
        if found != frame.sha256 {
            let (index, count) = (index + 1, table.frames.len());
            return Err(ReadError::Frame { index, count, expected: frame.sha256, found });
        }
    }
    io::copy(&mut whole, &mut io::sink())?;
    let (sha256, size, _) = whole.hash.finish();
    Ok((sha256, size))
}

/// Hashes what is read.
struct Tee<R> {
    inner: R,
    hash: HashingWriter<io::Sink>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        io::Write::write_all(&mut self.hash, &buffer[..length])?;
        Ok(length)
    }
}

/// Walks the members of a tar.
struct Members<R> {
    inner: R,
    number: usize,
}

/// One member: its path (nothing for the root), what it is, and its bytes if they were asked for.
type Found = (Option<TreePath>, Node, Option<Vec<u8>>);
type Records = BTreeMap<Vec<u8>, Vec<u8>>;

impl<R: Read> Members<R> {
    fn fail<T>(&self, reason: impl Into<String>) -> Result<T, ReadError> {
        Err(ReadError::Member { number: self.number, reason: reason.into() })
    }

    /// The next member; nothing at the end of the archive.
    fn next(&mut self, keep: &[TreePath]) -> Result<Option<Found>, ReadError> {
        let mut records = Records::new();
        loop {
            let mut block = [0; 512];
            self.inner.read_exact(&mut block)?;
            if block == [0; 512] {
                return Ok(None);
            }
            self.number += 1;
            if self.number > MAX_MEMBERS {
                return self.fail(format!("more than {MAX_MEMBERS} members"));
            }
            let header = Header::from_byte_slice(&block);
            let sum: u32 = block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum();
            if header.cksum()? != sum + 8 * 32 {
                return self.fail("its header's checksum is wrong");
            }
            match header.entry_type() {
                EntryType::XHeader => records.extend(self.pax(header.entry_size()?)?),
                EntryType::GNULongName => {
                    let name = self.long(header.entry_size()?)?;
                    records.insert(b"path".to_vec(), name);
                }
                EntryType::GNULongLink => {
                    let name = self.long(header.entry_size()?)?;
                    records.insert(b"linkpath".to_vec(), name);
                }
                _ => return self.member(header, &records, keep).map(Some),
            }
        }
    }

    /// `size` bytes, and the padding after them.
    fn bytes(&mut self, size: u64, limit: u64) -> Result<Vec<u8>, ReadError> {
        if size > limit {
            return self.fail(format!("{size} bytes where at most {limit} are read"));
        }
        let mut bytes = Vec::new();
        let padded = size.next_multiple_of(512);
        if (&mut self.inner).take(padded).read_to_end(&mut bytes)? as u64 != padded {
            return self.fail("it is cut off");
        }
        bytes.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(bytes)
    }

    /// A GNU header's name, without the NUL that ends it.
    fn long(&mut self, size: u64) -> Result<Vec<u8>, ReadError> {
        let mut name = self.bytes(size, MAX_PAX)?;
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
        Ok(name)
    }

    /// The records of a pax header.
    fn pax(&mut self, size: u64) -> Result<Records, ReadError> {
        let bytes = self.bytes(size, MAX_PAX)?;
        let mut records = Records::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let record = split_record(rest);
            let Some((key, value, after)) = record else { return self.fail("its pax header is malformed") };
            records.insert(key.to_vec(), value.to_vec());
            rest = after;
        }
        Ok(records)
    }

    fn member(&mut self, header: &Header, records: &Records, keep: &[TreePath]) -> Result<Found, ReadError> {
        let text = |key: &str| records.get(key.as_bytes());
        let number = |key: &str, plain: io::Result<u64>| match text(key) {
            Some(value) => std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
            None => plain.ok(),
        };
        let name = text("path").cloned().unwrap_or_else(|| header.path_bytes().into_owned());
        let link = text("linkpath").cloned();
        let link =
            link.or_else(|| header.link_name_bytes().map(|link| link.into_owned())).unwrap_or_default();
        let ids = (number("uid", header.uid()), number("gid", header.gid()));
        let ids = (ids.0.and_then(|id| u32::try_from(id).ok()), ids.1.and_then(|id| u32::try_from(id).ok()));
        let (Some(size), (Some(uid), Some(gid))) = (number("size", header.entry_size()), ids) else {
            return self.fail("its size, owner or group is no number");
        };
        let mtime = match text("mtime").map(|value| String::from_utf8_lossy(value).into_owned()) {
            // Whole seconds are enough to compare; fractions are cut off.
            Some(value) => value.split('.').next().and_then(|whole| whole.parse().ok()),
            None => header.mtime().ok().and_then(|mtime| i64::try_from(mtime).ok()),
        };
        let Some(mtime) = mtime else { return self.fail("its time is no number") };

        let path = match name.as_slice() {
            b"./" | b"." => None,
            name => Some(TreePath::new(name)?),
        };
        let mut bytes = None;
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let wanted = size <= MAX_KEPT && path.as_ref().is_some_and(|path| keep.contains(path));
                let content = if wanted {
                    let read = self.bytes(size, MAX_KEPT)?;
                    Content::of(bytes.insert(read))
                } else {
                    self.content(size)?
                };
                Kind::File { content }
            }
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink { target: TreeText(link) },
            EntryType::Link => Kind::Hardlink { target: TreePath::new(&link)? },
            EntryType::Fifo => Kind::Fifo,
            other => return self.fail(format!("`{}` has type {other:?}", String::from_utf8_lossy(&name))),
        };
        let mut xattrs = BTreeMap::new();
        for (key, value) in records {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                xattrs.insert(String::from_utf8_lossy(name).into_owned(), value.clone());
            } else if let Some(name) = acl::attribute(key) {
                let Some(value) = acl::from_text(value) else {
                    return self.fail("its access control list is malformed");
                };
                xattrs.insert(name.to_owned(), value);
            }
        }
        let mode = header.mode()? & 0o7777;
        Ok((path, Node { kind, mode, uid, gid, mtime, xattrs }, bytes))
    }

    /// Hashes `size` bytes and skips the padding after them.
    fn content(&mut self, size: u64) -> Result<Content, ReadError> {
        let (sha256, read) = Sha256::of_reader((&mut self.inner).take(size))?;
        let padding = size.next_multiple_of(512) - size;
        if read != size || io::copy(&mut (&mut self.inner).take(padding), &mut io::sink())? != padding {
            return self.fail("it is cut off");
        }
        Ok(Content { sha256, size })
    }
}

/// Splits `LENGTH KEY=VALUE\n` off the front.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &bytes[length..]))
}
