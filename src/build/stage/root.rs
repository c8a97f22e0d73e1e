//! The root that is being filled, reached only through directory descriptors.
//!
//! Every path is resolved by the kernel with the root as its ceiling, so no link of a package leads out of it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::failure::Failure;

/// Directories that are kept open.
const MAX_OPEN: usize = 256;
/// Largest file of the dpkg database or of /etc that is read whole, in bytes.
const MAX_READ: u64 = 256 << 20;

/// How paths are resolved: never out of the root, never through /proc's links.
pub(super) const RESOLVE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// The root directory of the image.
pub(super) struct Root {
    top: Rc<Directory>,
    open: RefCell<HashMap<Box<[u8]>, Rc<Directory>>>,
}

/// An open directory of the root.
pub(super) struct Directory {
    pub fd: OwnedFd,
    /// Identifies it however it was reached.
    pub inode: u64,
}

/// What a new entry gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attributes {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Attributes {
    /// Owned by root.
    pub fn of_root(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0 }
    }
}

impl Root {
    pub fn new(fd: OwnedFd) -> Result<Self, Failure> {
        let stat = rustix::fs::fstat(&fd).map_err(|error| Failure::file("read", b"/", error))?;
        Ok(Self { top: Rc::new(Directory { fd, inode: stat.st_ino }), open: RefCell::default() })
    }

    /// The inode of the root itself.
    pub fn inode(&self) -> u64 {
        self.top.inode
    }

    /// The descriptor of the root itself.
    pub fn fd(&self) -> &OwnedFd {
        &self.top.fd
    }

    /// Opens the directory `path`, following links inside the root. Empty is the root.
    pub fn directory(&self, path: &[u8]) -> Result<Rc<Directory>, Errno> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.top));
        }
        if let Some(found) = self.open.borrow().get(path) {
            return Ok(Rc::clone(found));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat2(&self.top.fd, path, flags, Mode::empty(), RESOLVE)?;
        let inode = rustix::fs::fstat(&fd)?.st_ino;
        let directory = Rc::new(Directory { fd, inode });
        let mut open = self.open.borrow_mut();
        if open.len() == MAX_OPEN {
            open.clear();
        }
        open.insert(path.into(), Rc::clone(&directory));
        Ok(directory)
    }

    /// Forgets which directories are open. Needed whenever scripts have run.
    pub fn forget(&self) {
        self.open.borrow_mut().clear();
    }

    /// The directory that holds `path`, and the last component.
    pub fn parent<'a>(&self, path: &'a [u8]) -> Result<(Rc<Directory>, &'a [u8]), Errno> {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => Ok((self.directory(&path[..slash])?, &path[slash + 1..])),
            None => Ok((Rc::clone(&self.top), path)),
        }
    }

    /// What is at `path`, links in its last component not followed.
    pub fn stat(&self, path: &[u8]) -> Result<Option<Stat>, Failure> {
        match self.parent(path).and_then(|(directory, name)| directory.stat(name)) {
            Ok(found) => Ok(found),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(Failure::file("look at", path, error)),
        }
    }

    /// The whole content of a regular file, or nothing when there is none.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Failure> {
        let fail = |reason: String| Failure::file("read", path.as_bytes(), reason);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let path = path.trim_start_matches('/');
        let fd = match rustix::fs::openat2(&self.top.fd, path, flags, Mode::empty(), RESOLVE) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(fail(error.to_string())),
        };
        let file = File::from(fd);
        let metadata = file.metadata().map_err(|error| fail(error.to_string()))?;
        if !metadata.is_file() {
            return Err(fail("it is no regular file".into()));
        }
        if metadata.len() > MAX_READ {
            return Err(fail(format!("it has {} bytes, more than {MAX_READ}", metadata.len())));
        }
        let mut bytes = Vec::new();
        file.take(MAX_READ).read_to_end(&mut bytes).map_err(|error| fail(error.to_string()))?;
        Ok(Some(bytes))
    }

    /// The text of a regular file, or nothing when there is none.
    pub fn read_text(&self, path: &str) -> Result<Option<String>, Failure> {
        let Some(bytes) = self.read(path)? else { return Ok(None) };
        String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| Failure::file("read", path.as_bytes(), "it is not UTF-8"))
    }

    /// Writes a file, in place of whatever file or link is there.
    pub fn write(&self, path: &str, bytes: &[u8], attributes: Attributes) -> Result<(), Failure> {
        let fail = |error: &dyn std::fmt::Display| Failure::file("write", path.as_bytes(), error);
        let (directory, name) = self.parent(path.as_bytes()).map_err(|error| fail(&error))?;
        directory.remove(name).map_err(|error| fail(&error))?;
        let mut file = directory.create(name).map_err(|error| fail(&error))?;
        file.write_all(bytes).map_err(|error| fail(&error))?;
        set_attributes(&file, attributes).map_err(|error| fail(&error))
    }

    /// Removes a file or link; it may be missing.
    pub fn remove(&self, path: &str) -> Result<(), Failure> {
        let removed = self.parent(path.as_bytes()).and_then(|(directory, name)| directory.remove(name));
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(Failure::file("remove", path.as_bytes(), error)),
        }
    }

    /// Makes a directory and those above it, all owned by root, unless they are there.
    pub fn make_directory(&self, path: &str, mode: u32) -> Result<(), Failure> {
        let path = path.trim_matches('/');
        let ends = path.match_indices('/').map(|(index, _)| index).chain([path.len()]);
        for end in ends {
            let part = &path[..end];
            let mode = if end == path.len() { mode } else { 0o755 };
            let made = self.parent(part.as_bytes()).and_then(|(directory, name)| {
                match rustix::fs::mkdirat(&directory.fd, name, Mode::from_raw_mode(mode)) {
                    Err(Errno::EXIST) => Ok(()),
                    result => result,
                }
            });
            made.map_err(|error| Failure::file("make the directory", part.as_bytes(), error))?;
        }
        Ok(())
    }

    /// What is at `path`, links followed inside the root; nothing for a link that leads nowhere.
    pub fn follow(&self, path: &str) -> Result<Option<Stat>, Failure> {
        let path = path.trim_matches('/');
        if path.is_empty() {
            return Ok(rustix::fs::fstat(&self.top.fd).ok());
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let found = rustix::fs::openat2(&self.top.fd, path, flags, Mode::empty(), RESOLVE);
        match found.and_then(|fd| rustix::fs::fstat(&fd)) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(Failure::file("look at", path.as_bytes(), error)),
        }
    }

    /// Whether there is a regular file or a link to one.
    pub fn is_file(&self, path: &str) -> Result<bool, Failure> {
        Ok(self.follow(path)?.is_some_and(|stat| kind(&stat) == FileType::RegularFile))
    }

    /// Whether there is a directory or a link to one.
    pub fn is_directory(&self, path: &str) -> Result<bool, Failure> {
        Ok(self.follow(path)?.is_some_and(|stat| kind(&stat) == FileType::Directory))
    }

    /// The type of what is at `path`, links in its last component not followed.
    pub fn kind(&self, path: &str) -> Result<Option<FileType>, Failure> {
        Ok(self.stat(path.as_bytes())?.map(|stat| kind(&stat)))
    }

    /// Where the link at `path` leads; nothing when there is no link.
    pub fn read_link(&self, path: &str) -> Result<Option<Vec<u8>>, Failure> {
        let (directory, name) = match self.parent(path.as_bytes()) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(Failure::file("read the link", path.as_bytes(), error)),
        };
        match rustix::fs::readlinkat(&directory.fd, name, Vec::new()) {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::INVAL) => Ok(None),
            Err(error) => Err(Failure::file("read the link", path.as_bytes(), error)),
        }
    }

    /// The names in a directory, sorted by bytes; nothing when it is none.
    pub fn list(&self, path: &str) -> Result<Option<Vec<Vec<u8>>>, Failure> {
        let fail = |error: Errno| Failure::file("list", path.as_bytes(), error);
        let directory = match self.directory(path.trim_matches('/').as_bytes()) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(fail(error)),
        };
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory.fd).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(Some(names))
    }

    /// Makes a link, in place of whatever file or link is there.
    pub fn symlink(&self, target: &[u8], path: &str) -> Result<(), Failure> {
        let made = self.parent(path.as_bytes()).and_then(|(directory, name)| {
            directory.remove(name)?;
            rustix::fs::symlinkat(target, &directory.fd, name)
        });
        made.map_err(|error| Failure::file("make the link", path.as_bytes(), error))
    }

    /// Gives a file a second name, in place of whatever file or link has that.
    pub fn hard_link(&self, from: &str, to: &str) -> Result<(), Failure> {
        let linked = self.parent(from.as_bytes()).and_then(|(old, old_name)| {
            let (new, new_name) = self.parent(to.as_bytes())?;
            new.remove(new_name)?;
            rustix::fs::linkat(&old.fd, old_name, &new.fd, new_name, AtFlags::empty())
        });
        linked.map_err(|error| Failure::file("link", from.as_bytes(), error))
    }

    /// Removes a directory if it is empty; says whether it did.
    pub fn remove_empty_directory(&self, path: &str) -> Result<bool, Failure> {
        let removed = self
            .parent(path.as_bytes())
            .and_then(|(directory, name)| rustix::fs::unlinkat(&directory.fd, name, AtFlags::REMOVEDIR));
        if removed.is_ok() {
            self.forget();
        }
        match removed {
            Ok(()) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(error) => Err(Failure::file("remove the directory", path.as_bytes(), error)),
        }
    }
}

/// What kind of entry was found.
fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

impl Directory {
    /// What `name` is, links not followed.
    pub fn stat(&self, name: &[u8]) -> Result<Option<Stat>, Errno> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a new, empty file.
    pub fn create(&self, name: &[u8]) -> Result<File, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o600)).map(File::from)
    }

    /// Removes a file or link; it may be missing.
    pub fn remove(&self, name: &[u8]) -> Result<(), Errno> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            result => result,
        }
    }

    /// Sets owner and group of a link, pipe or directory, and for the latter two the mode.
    pub fn set_attributes(&self, name: &[u8], attributes: Attributes, is_link: bool) -> Result<(), Errno> {
        let Attributes { mode, uid, gid } = attributes;
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        rustix::fs::chownat(&self.fd, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if !is_link {
            rustix::fs::chmodat(&self.fd, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        }
        Ok(())
    }

    /// Dates an entry, links not followed.
    pub fn set_mtime(&self, name: &[u8], mtime: i64) -> Result<(), Errno> {
        rustix::fs::utimensat(&self.fd, name, &timestamps(mtime), AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// Sets owner, group and mode of an open file, in the order that keeps set-id bits.
pub(super) fn set_attributes(file: impl AsFd, attributes: Attributes) -> Result<(), Errno> {
    let Attributes { mode, uid, gid } = attributes;
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    rustix::fs::fchown(&file, Some(uid), Some(gid))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode))
}

/// Both times of an entry, `mtime` in seconds since 1970.
pub(super) fn timestamps(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
