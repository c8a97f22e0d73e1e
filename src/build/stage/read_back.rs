//! Turns the finished root into a tree and a pack.
//!
//! Times: what was placed and still has its time keeps it (clamped to the epoch); everything else, directories
//! included, gets the epoch.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};

use rayon::prelude::*;
use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::failure::Failure;
use super::known::{Known, Seen};
use super::place::Placed;
use super::root::{RESOLVE, Root};
use crate::layer::PackWriter;
use crate::tree::{Content, Kind, Node, Tree, TreePath, TreeText};

/// Most entries of an image.
const MAX_ENTRIES: usize = 4_000_000;
/// Bytes of contents that are in memory at once: few, so that they are still in the processor's cache when they go to the pack.
const BATCH: u64 = 8 << 20;
/// Longest list of attribute names, and longest value: Linux's own limits.
const MAX_XATTR: usize = 65_536;
/// Extended attributes that an image keeps; Proxmox restores no others.
const KEPT_XATTRS: [&str; 2] = ["user.", "security.capability"];

/// A regular file that is still to be read.
struct Pending {
    path: TreePath,
    stat: Stat,
}

/// What the root holds.
pub(super) struct ReadBack {
    pub tree: Tree,
    /// All that was there, also what is in no image.
    pub entries: BTreeMap<TreePath, Stat>,
    /// Files and directories with extended attributes that an image does not keep.
    pub foreign: Vec<TreePath>,
}

/// Reads everything below the root, but of regular files only those that are not `known`; they are from then on. No script
/// may run meanwhile.
pub(super) fn read_back(
    root: &Root,
    placed: &Placed,
    known: &mut Known,
    epoch: i64,
    pack: &mut PackWriter<File>,
) -> Result<ReadBack, Failure> {
    let (entries, mut foreign) = walk(root)?;
    known.look(root.inode(), &entries);
    let mut tree = Tree::new();
    let mut first_names: HashMap<u64, TreePath> = HashMap::new();
    let mut pending: Vec<Pending> = Vec::new();
    for (path, stat) in &entries {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::Fifo => Kind::Fifo,
            FileType::Symlink => Kind::Symlink { target: link_target(root, path)? },
            FileType::RegularFile => {
                if stat.st_nlink > 1
                    && let Some(target) = first_names.get(&stat.st_ino)
                {
                    Kind::Hardlink { target: target.clone() }
                } else {
                    if stat.st_nlink > 1 {
                        first_names.insert(stat.st_ino, path.clone());
                    }
                    let Some(Seen { content, xattrs, foreign: others }) = known.get(stat).cloned() else {
                        pending.push(Pending { path: path.clone(), stat: *stat });
                        continue;
                    };
                    foreign.extend(others.then(|| path.clone()));
                    let node = node(Kind::File { content }, stat.st_mode & 0o7777, stat, placed, epoch);
                    tree.insert(path.clone(), Node { xattrs, ..node });
                    continue;
                }
            }
            // A service's socket is made anew when the service starts.
            FileType::Socket => continue,
            _ => {
                let reason = "a device node; an unprivileged container cannot have one".to_owned();
                return Err(Failure::Tree { path: path.to_string(), reason });
            }
        };
        let mode = if matches!(kind, Kind::Symlink { .. }) { 0o777 } else { stat.st_mode & 0o7777 };
        let node = node(kind, mode, stat, placed, epoch);
        tree.insert(path.clone(), node);
    }
    let top = root.fd();
    for batch in batches(pending) {
        let read: Vec<_> = batch.into_par_iter().map(|file| read_file(top, file)).collect();
        for file in read {
            let (file, (xattrs, others), bytes, content) = file?;
            let fail = |error| Failure::Worker { reason: format!("cannot write the layer's pack: {error}") };
            pack.add_hashed(content, &bytes).map_err(fail)?;
            let node = node(Kind::File { content }, file.stat.st_mode & 0o7777, &file.stat, placed, epoch);
            foreign.extend(others.then(|| file.path.clone()));
            known.note(&file.stat, Seen { content, xattrs: xattrs.clone(), foreign: others });
            tree.insert(file.path, Node { xattrs, ..node });
        }
    }
    Ok(ReadBack { tree, entries, foreign })
}

fn node(kind: Kind, mode: u32, stat: &Stat, placed: &Placed, epoch: i64) -> Node {
    #[expect(clippy::useless_conversion, reason = "the type of times depends on the architecture")]
    let mtime = i64::try_from(stat.st_mtime).unwrap_or(i64::MAX);
    let untouched = stat.st_mtime_nsec == 0 && placed.get(&stat.st_ino) == Some(&mtime);
    let mtime = if untouched { mtime.min(epoch) } else { epoch };
    Node { kind, mode, uid: stat.st_uid, gid: stat.st_gid, mtime, xattrs: BTreeMap::new() }
}

/// Finds every entry below the root, without following links, and the directories that have extended attributes.
pub(super) fn walk(root: &Root) -> Result<(BTreeMap<TreePath, Stat>, Vec<TreePath>), Failure> {
    let mut entries = BTreeMap::new();
    let mut foreign = Vec::new();
    let mut waiting: Vec<Option<TreePath>> = vec![None];
    while let Some(path) = waiting.pop() {
        let bytes = path.as_ref().map(|path| path.as_bytes().to_vec()).unwrap_or_default();
        let fail = |error: Errno| Failure::file("read", &bytes, error);
        let directory = if bytes.is_empty() { b"." } else { bytes.as_slice() };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat2(root.fd(), directory, flags, Mode::empty(), RESOLVE).map_err(fail)?;
        match rustix::fs::flistxattr_query(&fd) {
            Ok(0) | Err(Errno::NOTSUP) => {}
            found => {
                found.map_err(fail)?;
                foreign.extend(path.clone());
            }
        }
        let stream = Dir::read_from(&fd).map_err(fail)?;
        for entry in stream {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let joined = match &path {
                Some(path) => path.join(name),
                None => TreePath::new(name),
            };
            let joined = joined.map_err(|error| Failure::file("read", &bytes, error))?;
            let stat = rustix::fs::statat(&fd, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
            if stat.st_uid > 65_535 || stat.st_gid > 65_535 {
                let reason = format!("owner {}:{} is above 65535", stat.st_uid, stat.st_gid);
                return Err(Failure::Tree { path: joined.to_string(), reason });
            }
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                waiting.push(Some(joined.clone()));
            }
            entries.insert(joined, stat);
            if entries.len() > MAX_ENTRIES {
                let reason = format!("the image has more than {MAX_ENTRIES} entries");
                return Err(Failure::Tree { path: "/".into(), reason });
            }
        }
    }
    Ok((entries, foreign))
}

fn link_target(root: &Root, path: &TreePath) -> Result<TreeText, Failure> {
    let target = root
        .parent(path.as_bytes())
        .and_then(|(directory, name)| rustix::fs::readlinkat(&directory.fd, name, Vec::new()));
    let target = target.map_err(|error| Failure::file("read the link", path.as_bytes(), error))?;
    Ok(TreeText(target.into_bytes()))
}

/// Groups files so that each group fits in memory; a file larger than that is a group of its own.
fn batches(pending: Vec<Pending>) -> Vec<Vec<Pending>> {
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    let mut size = 0;
    for file in pending {
        let length = u64::try_from(file.stat.st_size).unwrap_or(0);
        if size + length > BATCH && !batch.is_empty() {
            batches.push(std::mem::take(&mut batch));
            size = 0;
        }
        size += length;
        batch.push(file);
    }
    batches.push(batch);
    batches
}

type Read = (Pending, (BTreeMap<String, Vec<u8>>, bool), Vec<u8>, Content);

fn read_file(top: &OwnedFd, file: Pending) -> Result<Read, Failure> {
    let fail = |error: &dyn std::fmt::Display| Failure::file("read", file.path.as_bytes(), error);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat2(top, file.path.as_path(), flags, Mode::empty(), RESOLVE);
    let fd = fd.map_err(|error| fail(&error))?;
    let xattrs = xattrs(&fd).map_err(|error| fail(&error))?;
    let size = usize::try_from(file.stat.st_size).map_err(|error| fail(&error))?;
    let mut bytes = Vec::with_capacity(size);
    File::from(fd).read_to_end(&mut bytes).map_err(|error| fail(&error))?;
    let content = Content::of(&bytes);
    Ok((file, xattrs, bytes, content))
}

/// The attributes that an image keeps, and whether there are others. Read inside the user namespace, capabilities come as
/// version 2.
pub(super) fn xattrs(fd: impl AsFd + Copy) -> Result<(BTreeMap<String, Vec<u8>>, bool), Errno> {
    let mut found = BTreeMap::new();
    let mut others = false;
    for name in xattr_names(fd)? {
        let Some(name) = kept(&name) else {
            others = true;
            continue;
        };
        let mut value = vec![0; MAX_XATTR];
        let length = rustix::fs::fgetxattr(fd, name, &mut value[..])?;
        value.truncate(length);
        found.insert(name.to_owned(), value);
    }
    Ok((found, others))
}

/// The names of all extended attributes of an open file.
pub(super) fn xattr_names(fd: impl AsFd + Copy) -> Result<Vec<Vec<u8>>, Errno> {
    let length = match rustix::fs::flistxattr_query(fd) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        length => length?,
    };
    let mut names = vec![0; length.min(MAX_XATTR)];
    let length = rustix::fs::flistxattr(fd, &mut names[..])?;
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(<[u8]>::to_vec).collect())
}

/// The name, when it is one of an attribute that images keep of regular files.
pub(super) fn kept(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name).ok()?;
    KEPT_XATTRS.iter().any(|kept| name.starts_with(kept)).then_some(name)
}
