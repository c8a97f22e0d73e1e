//! Leaves the root as [`restore`](super::restore::restore) would make it from the layer that was just read, so that the
//! next layer is made on it without making it anew, and comes out the same.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::failure::Failure;
use super::known::{Known, Seen};
use super::place::Placed;
use super::read_back::{ReadBack, kept, xattr_names};
use super::root::{Attributes, RESOLVE, Root, set_attributes};
use crate::tree::TreePath;

/// Takes from the root what the layer `read` does not have: sockets, attributes, later times. Gives the times of what it
/// leaves. Every file is known then. Nothing else may have changed the root since it was read.
pub(super) fn settle(root: &Root, known: &mut Known, read: &ReadBack) -> Result<Placed, Failure> {
    let fail = |path: &TreePath, error: Errno| Failure::file("settle", path.as_bytes(), error);
    root.forget();
    for path in &read.foreign {
        drop_attributes(root, path, read).map_err(|error| fail(path, error))?;
    }
    let foreign: BTreeSet<_> = read.foreign.iter().collect();
    for path in read.entries.keys().filter(|path| !read.tree.contains_key(*path)) {
        let removed = root.parent(path.as_bytes()).and_then(|(directory, name)| directory.remove(name));
        removed.map_err(|error| fail(path, error))?;
    }
    let mut placed = Placed::new();
    known.clear();
    for (path, node) in read.tree.iter().filter(|(_, node)| !node.is_directory()) {
        let stat = read.entries.get(path).ok_or_else(|| fail(path, Errno::NOENT))?;
        let mut now = None;
        let has_time = stat.st_mtime == node.mtime && stat.st_mtime_nsec == 0;
        if !has_time || foreign.contains(path) {
            let set = root.parent(path.as_bytes()).and_then(|(directory, name)| {
                if !has_time {
                    directory.set_mtime(name, node.mtime)?;
                }
                directory.stat(name)
            });
            now = set.map_err(|error| fail(path, error))?;
        }
        placed.insert(stat.st_ino, node.mtime);
        if let Some(content) = node.content() {
            let seen = Seen { content: *content, xattrs: node.xattrs.clone(), foreign: false };
            known.note(now.as_ref().unwrap_or(stat), seen);
        }
    }
    set_attributes(root.fd(), Attributes::of_root(0o755))
        .map_err(|error| Failure::file("settle", b".", error))?;
    Ok(placed)
}

fn drop_attributes(root: &Root, path: &TreePath, read: &ReadBack) -> Result<(), Errno> {
    let is_file = read.tree.get(path).is_some_and(|node| !node.is_directory());
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd: OwnedFd = rustix::fs::openat2(root.fd(), path.as_path(), flags, Mode::empty(), RESOLVE)?;
    for name in xattr_names(&fd)? {
        if !is_file || kept(&name).is_none() {
            match rustix::fs::fremovexattr(&fd, name.as_slice()) {
                // The host labels files by itself, those of a root that is made anew too.
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS | Errno::NODATA) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
