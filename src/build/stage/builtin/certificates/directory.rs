//! What is in `/etc/ssl/certs`, before and after, before any of it is done.

use std::collections::BTreeMap;

use rustix::fs::FileType;

use super::CERTIFICATES;
use crate::build::stage::failure::Failure;
use crate::build::stage::root::{Attributes, Root};

/// Longest chain of links that is followed.
const MAX_LINKS: usize = 8;

/// An entry that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A link to an absolute path, or to a name in the same directory.
    Link(String),
    /// A regular file.
    File,
    /// A new file with these bytes.
    New(Vec<u8>),
}

/// The directory as it will be.
pub(super) struct Directory<'a> {
    root: &'a Root,
    before: BTreeMap<String, Entry>,
    pub entries: BTreeMap<String, Entry>,
}

impl<'a> Directory<'a> {
    /// Reads the directory; nothing when it has anything but files and links of the known kinds.
    pub fn read(root: &'a Root) -> Option<Self> {
        let mut entries = BTreeMap::new();
        for name in root.list(CERTIFICATES).ok()?? {
            let name = String::from_utf8(name).ok().filter(|name| plain(name))?;
            let path = format!("{CERTIFICATES}/{name}");
            let entry = match root.kind(&path).ok()?? {
                FileType::RegularFile => Entry::File,
                FileType::Symlink => {
                    let target = String::from_utf8(root.read_link(&path).ok()??).ok()?;
                    let absolute = target.starts_with('/') && target.bytes().all(|byte| byte >= b' ');
                    Entry::Link(Some(target).filter(|target| absolute || plain(target))?)
                }
                _ => return None,
            };
            entries.insert(name, entry);
        }
        Some(Self { root, before: entries.clone(), entries })
    }

    /// Where a name leads: to a name of this directory that is no link, or an absolute path outside.
    fn resolve<'b>(&'b self, name: &'b str) -> Option<&'b str> {
        let mut at = name;
        for _ in 0..MAX_LINKS {
            match self.entries.get(at)? {
                Entry::Link(target) if target.starts_with('/') => return Some(target),
                Entry::Link(target) => at = target,
                _ => return Some(at),
            }
        }
        None
    }

    /// Whether there is a regular file behind a name; nothing inside when there is something else.
    pub fn has_file(&self, name: &str) -> Option<bool> {
        match self.resolve(name) {
            // A chain that comes back here is not followed: what it finds may change.
            Some(path) if path.starts_with("/etc/ssl") => None,
            Some(path) if path.starts_with('/') => match self.root.follow(path).ok()? {
                None => Some(false),
                Some(stat) => {
                    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then_some(true)
                }
            },
            Some(_) => Some(true),
            None => Some(false),
        }
    }

    /// The bytes behind a name.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        match self.resolve(name)? {
            path if path.starts_with('/') => self.root.read(path).ok()?,
            name => match &self.entries[name] {
                Entry::New(bytes) => Some(bytes.clone()),
                _ => self.root.read(&format!("{CERTIFICATES}/{name}")).ok()?,
            },
        }
    }

    /// Makes the directory so.
    pub fn commit(&self) -> Result<(), Failure> {
        for name in self.before.keys().filter(|name| !self.entries.contains_key(*name)) {
            self.root.remove(&format!("{CERTIFICATES}/{name}"))?;
        }
        for (name, entry) in &self.entries {
            let path = format!("{CERTIFICATES}/{name}");
            match entry {
                Entry::New(bytes) => self.root.write(&path, bytes, Attributes::of_root(0o644))?,
                Entry::Link(target) if self.before.get(name) != Some(entry) => {
                    self.root.symlink(target.as_bytes(), &path)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a name holds nothing that the shell's tools would take apart.
fn plain(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_control() || c.is_whitespace() || "/\\".contains(c))
}
