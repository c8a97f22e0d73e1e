//! Places the members of data archives as dpkg does.
//!
//! The kernel resolves every parent inside the root, so content shipped below `/lib` lands in `/usr/lib` once
//! base-files has made the link. The order of packages is the caller's and fixed, so the first creator of a directory
//! and the winner of a replaced path are always the same.

use std::collections::{BTreeSet, HashMap};

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::failure::Failure;
use super::gather::Gather;
use super::loose::{Loose, Ready};
use super::owners::{Keeps, Owner, Owners, Place};
use super::package::Package;
use super::root::{Attributes, Directory, Root};
use super::rules::Rules;
use crate::apt::deb::{Member, MemberKind};

/// Times of placed files and links by inode: what still has its time at the end was not touched by a script.
pub(super) type Placed = HashMap<u64, i64>;

/// What became of a package's data archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unpacked {
    /// Lines of its `.list`, in the archive's order, without the leading slash; the root is empty.
    pub list: Vec<Box<[u8]>>,
    /// For each of the package's conffiles, the text after its path in the status file.
    pub conffiles: Vec<String>,
    /// The text of `md5sums`, for a package that ships none: dpkg then makes it.
    pub md5sums: Option<Vec<u8>>,
}

/// Places packages one after the other.
pub(super) struct Placer<'a> {
    pub root: &'a Root,
    pub rules: &'a Rules,
    pub owners: &'a mut Owners,
    pub placed: &'a mut Placed,
    pub gather: &'a mut dyn Gather,
    /// Paths that installed packages lose, by the number of the package.
    pub lost: Vec<(usize, Box<[u8]>)>,
}

/// One package on its way.
struct Current<'a> {
    package: &'a Package,
    number: usize,
    /// Where the names of regular files led, for hard links: conffiles may have another name for now.
    renamed: HashMap<Box<[u8]>, Vec<u8>>,
    /// The final hash of each conffile that was placed, by path without slash.
    hashes: HashMap<Box<[u8]>, String>,
    conffiles: BTreeSet<&'a [u8]>,
    /// The hash of every regular file by path without slash, when `md5sums` has to be made.
    all_hashes: Option<HashMap<Box<[u8]>, String>>,
}

impl<'a> Placer<'a> {
    pub fn new(
        root: &'a Root,
        rules: &'a Rules,
        owners: &'a mut Owners,
        (placed, gather): (&'a mut Placed, &'a mut dyn Gather),
    ) -> Self {
        Self { root, rules, owners, placed, gather, lost: Vec::new() }
    }

    /// Places one package with these members of its data archive.
    pub fn unpack(
        &mut self,
        package: &Package,
        members: impl Iterator<Item = Result<Ready, Failure>>,
    ) -> Result<Unpacked, Failure> {
        let number = self.owners.add(Owner::of(&package.stanza(), package.stem.clone()));
        let shipped = package.conffiles.iter().filter(|conffile| !conffile.remove_on_upgrade);
        let conffiles = shipped.map(|conffile| conffile.path.trim_start_matches('/').as_bytes()).collect();
        let all_hashes = package.control.file("md5sums").is_none().then(HashMap::new);
        let (renamed, hashes) = (HashMap::new(), HashMap::new());
        let mut current = Current { package, number, renamed, hashes, conffiles, all_hashes };
        let mut unpacked = Unpacked::default();
        for ready in members {
            let ready = ready?;
            let Some(path) = ready.member.path.clone() else {
                unpacked.list.push(Box::default());
                continue;
            };
            if self.member(&mut current, ready, path.as_bytes())? {
                unpacked.list.push(path.as_bytes().into());
            }
        }
        unpacked.md5sums = current.md5sums(&unpacked.list);
        unpacked.conffiles = package.conffiles.iter().map(|conffile| current.status_of(conffile)).collect();
        Ok(unpacked)
    }

    /// Places one member; false when another package keeps the path.
    fn member(&mut self, current: &mut Current<'_>, ready: Ready, path: &[u8]) -> Result<bool, Failure> {
        let (package, member) = (current.package, &ready.member);
        let target = self.rules.target(path, &package.name).to_vec();
        let fail = |error: Errno| placing(&package.name, path, &error.to_string());
        let (directory, name) = self.root.parent(&target).map_err(fail)?;
        let found = directory.stat(name).map_err(fail)?;
        let found_type = found.as_ref().map(|stat| FileType::from_raw_mode(stat.st_mode));
        let place: Place = (directory.inode, name.into());
        let is_directory = found_type == Some(FileType::Directory);
        match &member.kind {
            // A link that leads to a directory counts as one.
            MemberKind::Directory if is_directory || self.is_directory(&target) => return Ok(true),
            MemberKind::Symlink(_) if is_directory => return Ok(true),
            _ => {}
        }
        let mut conffile_exists = false;
        if found.is_some() {
            match self.owners.get(self.root, &place)? {
                Some((owner, _)) if owner == current.number => {
                    return Err(current.placing(path, "its archive has this path twice"));
                }
                Some((owner, name)) => match self.owners.keeps(current.number, owner) {
                    Keeps::Old => return Ok(false),
                    Keeps::Conflict => {
                        return Err(Failure::FileConflict {
                            path: format!("/{}", String::from_utf8_lossy(path)),
                            package: current.package.name.clone(),
                            other: self.owners.packages[owner].name.clone(),
                        });
                    }
                    Keeps::New => self.lost.push((owner, name)),
                },
                // A script or the layer below made it: of a conffile dpkg itself decides what is kept.
                None => conffile_exists = current.conffiles.contains(path),
            }
            if is_directory {
                return Err(current.placing(path, "a directory is in its place"));
            }
            if member.kind == MemberKind::Directory {
                return Err(current.placing(path, "something that is no directory is in its place"));
            }
        }
        let mut name = name.to_vec();
        if conffile_exists && member.kind == MemberKind::File {
            name.extend_from_slice(b".dpkg-new");
            current.hashes.insert(path.into(), "newconffile".into());
            let mut renamed = target.clone();
            renamed.extend_from_slice(b".dpkg-new");
            current.renamed.insert(path.into(), renamed);
        }
        if found.is_some() || conffile_exists {
            directory.remove(&name).map_err(fail)?;
        }
        self.create(current, ready, path, &directory, &name)?;
        self.owners.set(place, current.number, path);
        Ok(true)
    }

    fn create(
        &mut self,
        current: &mut Current<'_>,
        Ready { member, file }: Ready,
        path: &[u8],
        directory: &Directory,
        name: &[u8],
    ) -> Result<(), Failure> {
        let member = &member;
        let attributes = self.rules.attributes(path, member);
        let fail = |error: Errno| current.placing(path, &error.to_string());
        match &member.kind {
            MemberKind::Directory => {
                rustix::fs::mkdirat(&directory.fd, name, rustix::fs::Mode::from_raw_mode(0o700))
                    .map_err(fail)?;
                return directory.set_attributes(name, attributes, false).map_err(fail);
            }
            MemberKind::File => {
                let Some(loose) = file else { return Err(current.placing(path, "its content is missing")) };
                return self.file(current, (member, loose), path, (directory, name), attributes);
            }
            MemberKind::Symlink(target) => {
                rustix::fs::symlinkat(target.as_slice(), &directory.fd, name).map_err(fail)?;
                directory.set_attributes(name, attributes, true).map_err(fail)?;
            }
            MemberKind::Fifo => {
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                rustix::fs::mkfifoat(&directory.fd, name, mode).map_err(fail)?;
                directory.set_attributes(name, attributes, false).map_err(fail)?;
            }
            MemberKind::Hardlink(first) => {
                let fail = |error: Errno| placing(&current.package.name, path, &error.to_string());
                let first = match current.renamed.get(first.as_bytes()) {
                    Some(renamed) => renamed.clone(),
                    None => self.rules.target(first.as_bytes(), &current.package.name).to_vec(),
                };
                let (from, first) = self.root.parent(&first).map_err(fail)?;
                rustix::fs::linkat(&from.fd, first, &directory.fd, name, AtFlags::empty()).map_err(fail)?;
                current.link_hash(member, path);
                // As dpkg does. Not when nothing would change, since a change of owner drops capabilities.
                let stat = directory.stat(name).map_err(fail)?;
                let found = stat.map(|stat| Attributes {
                    mode: stat.st_mode & 0o7777,
                    uid: stat.st_uid,
                    gid: stat.st_gid,
                });
                if found != Some(attributes) {
                    directory.set_attributes(name, attributes, false).map_err(fail)?;
                }
                return Ok(());
            }
        }
        directory.set_mtime(name, member.mtime).map_err(fail)?;
        if let Some(stat) = directory.stat(name).map_err(fail)? {
            self.placed.insert(stat.st_ino, member.mtime);
        }
        Ok(())
    }

    fn file(
        &mut self,
        current: &mut Current<'_>,
        (member, loose): (&Member, Loose),
        path: &[u8],
        place: (&Directory, &[u8]),
        attributes: Attributes,
    ) -> Result<(), Failure> {
        if let Some(hash) = &loose.md5 {
            if let Some(all) = &mut current.all_hashes {
                all.insert(path.into(), hash.clone());
            }
            if current.conffiles.contains(path) {
                current.hashes.entry(path.into()).or_insert_with(|| hash.clone());
            }
        }
        let placed = loose.place(member, attributes, place);
        let (file, stat, seen) = placed.map_err(|error| current.placing(path, &error.to_string()))?;
        self.placed.insert(stat.st_ino, member.mtime);
        self.gather.file(file, &stat, seen)
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        self.root.directory(path).is_ok()
    }
}

fn placing(package: &str, path: &[u8], reason: &str) -> Failure {
    let path = format!("/{}", String::from_utf8_lossy(path));
    Failure::Placing { package: package.to_owned(), path, reason: reason.to_owned() }
}

impl Current<'_> {
    fn placing(&self, path: &[u8], reason: &str) -> Failure {
        placing(&self.package.name, path, reason)
    }

    /// Notes that `path` has the content of the member that it links to.
    fn link_hash(&mut self, member: &Member, path: &[u8]) {
        if let (MemberKind::Hardlink(first), Some(all)) = (&member.kind, &mut self.all_hashes)
            && let Some(hash) = all.get(first.as_bytes()).cloned()
        {
            all.insert(path.into(), hash);
        }
    }

    /// The text of `md5sums`, in the order of the list.
    fn md5sums(&self, list: &[Box<[u8]>]) -> Option<Vec<u8>> {
        let all = self.all_hashes.as_ref()?;
        let mut text = Vec::new();
        for (path, hash) in list.iter().filter_map(|path| Some((path, all.get(path)?))) {
            text.extend_from_slice(hash.as_bytes());
            text.extend_from_slice(b"  ");
            text.extend_from_slice(path);
            text.push(b'\n');
        }
        Some(text)
    }

    /// What the status file says after a conffile's path.
    fn status_of(&self, conffile: &super::package::Conffile) -> String {
        if conffile.remove_on_upgrade {
            return "newconffile remove-on-upgrade".into();
        }
        let path = conffile.path.trim_start_matches('/').as_bytes();
        self.hashes.get(path).cloned().unwrap_or_else(|| "newconffile".into())
    }
}

#[cfg(test)]
mod tests;
