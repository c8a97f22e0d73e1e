//! One database file: `Debconf::DbDriver::File`, with its lock.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use memchr::memmem;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::format::{self, Bytes, Item};
use crate::build::stage::root::{Attributes, Directory, RESOLVE, Root, set_attributes};

/// Where debconf keeps its files.
const DIRECTORY: &[u8] = b"var/cache/debconf";
/// Largest database, in bytes.
const MAX_SIZE: u64 = 64 << 20;
/// What sets permissions aside in maintainer scripts, which have the usual mask.
const MASK: u32 = 0o022;

/// Which file, as /etc/debconf.conf describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub file: &'static str,
    pub mode: u32,
    pub backup: bool,
}

/// The content of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    text: Arc<Bytes>,
    /// Where its stanzas are, in the order of their names.
    index: Arc<Vec<Stanza>>,
}

/// Where the name of a stanza is, and the stanza without the empty line after it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stanza {
    name: Range<usize>,
    all: Range<usize>,
}

/// A content and the file that has it. While the file is open, no other can have its inode.
#[derive(Debug)]
pub(super) struct Cached {
    _file: File,
    stamp: [i128; 5],
    content: Content,
}

/// A database that is open and locked.
pub(super) struct Database {
    place: Place,
    directory: Rc<Directory>,
    /// None until [`Database::begin`] when there is no file.
    file: Option<File>,
    existed: bool,
    content: Content,
    /// What was looked at or changed; none when it was removed.
    touched: BTreeMap<Bytes, Option<Item>>,
    dirty: bool,
}

impl Database {
    /// Opens and locks the file. Nothing when it is not as debconf leaves it, or in use.
    pub fn open(root: &Root, place: Place, cached: Option<Cached>) -> Option<Self> {
        let directory = root.directory(DIRECTORY).ok()?;
        if directory.stat(format!("{}-new", place.file).as_bytes()).ok()?.is_some() {
            return None;
        }
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut found = Self {
            place,
            directory: Rc::clone(&directory),
            file: None,
            existed: false,
            content: Content::default(),
            touched: BTreeMap::new(),
            dirty: false,
        };
        let file = match rustix::fs::openat2(&directory.fd, place.file, flags, Mode::empty(), RESOLVE) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Some(found),
            Err(_) => return None,
        };
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || metadata.len() > MAX_SIZE {
            return None;
        }
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        found.content = match cached {
            Some(cached) if Some(cached.stamp) == stamp(&file) => cached.content,
            _ => {
                let mut text = Vec::with_capacity(usize::try_from(metadata.len()).ok()?);
                (&file).take(MAX_SIZE).read_to_end(&mut text).ok()?;
                Content::parse(text)?
            }
        };
        (found.file, found.existed) = (Some(file), true);
        Some(found)
    }

    /// Makes the file when there is none. The first effect of a call.
    pub fn begin(&mut self) -> Result<(), Errno> {
        if self.file.is_none() {
            let file = self.create(self.place.file)?;
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            self.file = Some(file);
        }
        Ok(())
    }

    fn create(&self, name: &str) -> Result<File, Errno> {
        let file = self.directory.create(name.as_bytes())?;
        set_attributes(&file, Attributes::of_root(self.place.mode & !MASK))?;
        Ok(file)
    }

    /// Writes the file when anything changed. What can be kept for the next call.
    pub fn save(mut self) -> Result<Option<Cached>, Errno> {
        let mut file = self.file.take().ok_or(Errno::BADF)?;
        if self.dirty {
            let (name, new) = (self.place.file, format!("{}-new", self.place.file));
            let content = self.content.merged(&self.touched);
            let directory = &self.directory;
            let written = self.create(&new).and_then(|mut file| {
                let wrong = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
                file.write_all(&content.text).map_err(wrong)?;
                if self.existed && self.place.backup {
                    let old = format!("{name}-old");
                    rustix::fs::renameat(&directory.fd, name, &directory.fd, old)?;
                }
                rustix::fs::renameat(&directory.fd, &new, &directory.fd, name)?;
                Ok(file)
            });
            file = match written {
                Ok(file) => file,
                Err(error) => {
                    let _ = directory.remove(new.as_bytes());
                    return Err(error);
                }
            };
            // A name or value that would be read back as another: the next call has to look at the file.
            let same = |(name, item): (&Bytes, &Option<Item>)| {
                item.is_none() || content.find(name).and_then(format::read).as_ref() == item.as_ref()
            };
            if !self.touched.iter().all(same) {
                return Ok(None);
            }
            self.content = content;
        }
        let Some(stamp) = stamp(&file) else { return Ok(None) };
        rustix::fs::flock(&file, FlockOperation::Unlock)?;
        Ok(Some(Cached { _file: file, stamp, content: self.content }))
    }

    /// The names of all items.
    pub fn names(&self) -> Vec<Bytes> {
        let text = &self.content.text;
        let untouched = self.content.index.iter().map(|stanza| &text[stanza.name.clone()]);
        let untouched = untouched.filter(|name| !self.touched.contains_key(*name)).map(<[u8]>::to_vec);
        let touched = self.touched.iter().filter(|(_, item)| item.is_some()).map(|(name, _)| name.clone());
        untouched.chain(touched).collect()
    }

    /// Whether there is such an item.
    pub fn exists(&self, name: &[u8]) -> bool {
        match self.touched.get(name) {
            Some(item) => item.is_some(),
            None => self.content.find(name).is_some(),
        }
    }

    /// An item, to look at.
    pub fn item(&mut self, name: &[u8]) -> Option<&Item> {
        self.touch(name).map(|item| &*item)
    }

    /// An item, to change.
    pub fn change(&mut self, name: &[u8]) -> Option<&mut Item> {
        if self.exists(name) {
            self.dirty = true;
        }
        self.touch(name)
    }

    fn touch(&mut self, name: &[u8]) -> Option<&mut Item> {
        if !self.touched.contains_key(name) {
            let item = format::read(self.content.find(name)?)?;
            self.touched.insert(name.to_vec(), Some(item));
        }
        self.touched.get_mut(name)?.as_mut()
    }

    /// The value of a field.
    pub fn field(&mut self, name: &[u8], field: &[u8]) -> Option<Bytes> {
        self.item(name)?.fields.get(field).cloned()
    }

    /// Adds an owner, and the item when there is none.
    pub fn add_owner(&mut self, name: &[u8], owner: &[u8]) {
        if !self.exists(name) {
            self.touched.insert(name.to_vec(), Some(Item::default()));
        }
        if let Some(item) = self.touch(name)
            && item.owners.insert(owner.to_vec())
        {
            self.dirty = true;
        }
    }

    /// Removes an owner, and the item when it has none left. Whether there was such an item.
    pub fn remove_owner(&mut self, name: &[u8], owner: &[u8]) -> bool {
        let Some(item) = self.touch(name) else { return false };
        let removed = item.owners.remove(owner);
        let none_left = item.owners.is_empty();
        if none_left {
            self.touched.insert(name.to_vec(), None);
        }
        self.dirty |= removed || none_left;
        true
    }
}

impl Content {
    /// Nothing when debconf would not have written it so.
    fn parse(text: Bytes) -> Option<Self> {
        let mut index: Vec<Stanza> = Vec::new();
        let mut start = 0;
        while start < text.len() {
            let end = start + memmem::find(&text[start..], b"\n\n")? + 1;
            let name = format::name(&text[start..end])?;
            let stanza = Stanza::new(start, name.len(), end);
            if index.last().is_some_and(|before| &text[before.name.clone()] >= name) {
                return None;
            }
            index.push(stanza);
            start = end + 1;
        }
        Some(Self { text: Arc::new(text), index: Arc::new(index) })
    }

    fn find(&self, name: &[u8]) -> Option<&[u8]> {
        let found = self.index.binary_search_by(|stanza| self.text[stanza.name.clone()].cmp(name)).ok()?;
        Some(&self.text[self.index[found].all.clone()])
    }

    /// The content with some items in place of what it has of them.
    fn merged(&self, touched: &BTreeMap<Bytes, Option<Item>>) -> Self {
        let mut text = Vec::with_capacity(self.text.len() + (64 << 10));
        let mut index = Vec::with_capacity(self.index.len() + touched.len());
        let mut touched = touched.iter().peekable();
        let add = |name: &[u8], item: &Item, text: &mut Bytes, index: &mut Vec<Stanza>| {
            let start = text.len();
            format::write(name, item, text);
            index.push(Stanza::new(start, name.len(), text.len() - 1));
        };
        for stanza in self.index.iter() {
            let name = &self.text[stanza.name.clone()];
            while let Some((other, item)) = touched.next_if(|(other, _)| other.as_slice() < name) {
                item.iter().for_each(|item| add(other, item, &mut text, &mut index));
            }
            if let Some((_, item)) = touched.next_if(|(other, _)| other.as_slice() == name) {
                item.iter().for_each(|item| add(name, item, &mut text, &mut index));
            } else {
                let start = text.len();
                text.extend_from_slice(&self.text[stanza.all.clone()]);
                text.push(b'\n');
                index.push(Stanza::new(start, name.len(), text.len() - 1));
            }
        }
        for (name, item) in touched {
            item.iter().for_each(|item| add(name, item, &mut text, &mut index));
        }
        Self { text: Arc::new(text), index: Arc::new(index) }
    }
}

impl Stanza {
    fn new(start: usize, name: usize, end: usize) -> Self {
        let after = start + b"Name: ".len();
        Self { name: after..after + name, all: start..end }
    }
}

/// What changes when another file takes its place or it is written to.
fn stamp(file: &File) -> Option<[i128; 5]> {
    let stat = rustix::fs::fstat(file).ok()?;
    let nanoseconds = |seconds: i64, rest: i128| i128::from(seconds) * 1_000_000_000 + rest;
    Some([
        stat.st_dev.into(),
        stat.st_ino.into(),
        stat.st_size.into(),
        nanoseconds(stat.st_mtime, stat.st_mtime_nsec.into()),
        nanoseconds(stat.st_ctime, stat.st_ctime_nsec.into()),
    ])
}
