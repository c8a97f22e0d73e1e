//! Puts the layer below back onto an empty root.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use rayon::prelude::*;
use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::failure::Failure;
use super::known::{Known, Seen};
use super::place::Placed;
use super::root::{Attributes, RESOLVE, Root, set_attributes, timestamps};
use crate::digest::Sha256;
use crate::tree::{Content, Kind, Node, Tree, TreePath};

/// The contents behind a tree: packs and where each content lies in them.
pub(super) struct Packs {
    pub packs: Vec<(BTreeMap<Sha256, u64>, File)>,
}

impl Packs {
    /// The bytes of `content`, checked against its hash.
    fn read(&self, content: &Content) -> io::Result<Vec<u8>> {
        let place =
            self.packs.iter().find_map(|(offsets, file)| Some((*offsets.get(&content.sha256)?, file)));
        let (offset, file) = place.ok_or_else(|| io::Error::other("its content is in no layer"))?;
        let size = usize::try_from(content.size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut bytes = vec![0; size];
        file.read_exact_at(&mut bytes, offset)?;
        if Sha256::of(&bytes) != content.sha256 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(bytes)
    }
}

/// Makes all of `tree`; files in parallel. They are known then.
pub(super) fn restore(root: &Root, known: &mut Known, tree: &Tree, packs: &Packs) -> Result<Placed, Failure> {
    let fail =
        |path: &TreePath, error: &dyn std::fmt::Display| Failure::file("restore", path.as_bytes(), error);
    // Parents sort before what they hold, so directories can be made in order. They are writable for now anyway:
    // the worker is root of the image's ids.
    for (path, node) in tree.iter().filter(|(_, node)| node.is_directory()) {
        let made = root.parent(path.as_bytes()).and_then(|(directory, name)| {
            rustix::fs::mkdirat(&directory.fd, name, Mode::from_raw_mode(0o700))?;
            directory.set_attributes(name, attributes(node), false)
        });
        made.map_err(|error| fail(path, &error))?;
    }
    let files: Vec<_> = tree.iter().filter_map(|(path, node)| Some((path, node, node.content()?))).collect();
    let top = root.fd();
    let files: Vec<(Stat, &Node, &Content)> = files
        .into_par_iter()
        .map(|(path, node, content)| {
            let bytes = packs.read(content).map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                    Failure::DamagedLayer { path: path.to_string(), content: content.sha256 }
                }
                _ => fail(path, &error),
            })?;
            let stat = file(top, path, node, &bytes).map_err(|error| fail(path, &error))?;
            Ok((stat, node, content))
        })
        .collect::<Result<_, Failure>>()?;
    let mut placed = Placed::new();
    // Files that get further names are changed by that, and so not known.
    for (stat, node, content) in &files {
        placed.insert(stat.st_ino, node.mtime);
        known.note(stat, Seen { content: **content, xattrs: node.xattrs.clone(), foreign: false });
    }
    for (path, node) in tree {
        let made = root.parent(path.as_bytes()).and_then(|(directory, name)| {
            match &node.kind {
                Kind::Directory | Kind::File { .. } => return Ok(None),
                Kind::Hardlink { target } => {
                    let (from, first) = root.parent(target.as_bytes())?;
                    rustix::fs::linkat(&from.fd, first, &directory.fd, name, AtFlags::empty())?;
                    return Ok(None);
                }
                Kind::Symlink { target } => {
                    rustix::fs::symlinkat(target.0.as_slice(), &directory.fd, name)?;
                    directory.set_attributes(name, attributes(node), true)?;
                }
                Kind::Fifo => {
                    rustix::fs::mkfifoat(&directory.fd, name, Mode::from_raw_mode(0o600))?;
                    directory.set_attributes(name, attributes(node), false)?;
                }
            }
            directory.set_mtime(name, node.mtime)?;
            directory.stat(name)
        });
        let stat = made.map_err(|error| fail(path, &error))?;
        placed.extend(stat.map(|stat| (stat.st_ino, node.mtime)));
    }
    // Not before the files were written, so that this is not heard of.
    let inode = |path: &TreePath| {
        let stat = root.parent(path.as_bytes()).and_then(|(directory, name)| directory.stat(name));
        let stat = stat.and_then(|stat| stat.ok_or(Errno::NOENT)).map_err(|error| fail(path, &error))?;
        Ok((path.clone(), stat.st_ino))
    };
    let directories = tree.iter().filter(|(_, node)| node.is_directory()).map(|(path, _)| inode(path));
    let directories = directories.collect::<Result<Vec<_>, Failure>>()?;
    known.hear_of(root.inode(), directories.iter().map(|(path, inode)| (path, *inode)));
    Ok(placed)
}

fn attributes(node: &Node) -> Attributes {
    Attributes { mode: node.mode, uid: node.uid, gid: node.gid }
}

fn file(top: &OwnedFd, path: &TreePath, node: &Node, bytes: &[u8]) -> Result<Stat, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat2(top, path.as_path(), flags, Mode::from_raw_mode(0o600), RESOLVE)?;
    let mut file = File::from(fd);
    file.write_all(bytes).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    set_attributes(&file, attributes(node))?;
    for (name, value) in &node.xattrs {
        rustix::fs::fsetxattr(&file, name.as_str(), value, rustix::fs::XattrFlags::empty())?;
    }
    rustix::fs::futimens(&file, &timestamps(node.mtime))?;
    rustix::fs::fstat(&file)
}
