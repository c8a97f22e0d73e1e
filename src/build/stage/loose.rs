//! Reads the members of data archives. The content of each regular file goes into a file of the root's file system that has no
//! name yet, so that many threads can unpack, hash and date at once while one gives the names, in a fixed order.
//!
//! Where there are no such files, or too many are open, contents wait in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use md5::Digest as _;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;
use sha2::Digest as _;

use super::failure::Failure;
use super::known::Seen;
use super::package::Package;
use super::read_back::xattrs;
use super::root::{Attributes, Directory, set_attributes, timestamps};
use crate::apt::deb::{Deb, Member, MemberKind, TarReader};
use crate::digest::Sha256;
use crate::tree::Content;

/// Bytes that are unpacked before members are read from them.
const AHEAD: usize = 32 << 10;

/// A member of a data archive that can be placed.
pub(super) struct Ready {
    pub member: Member,
    /// The content of a regular file.
    pub file: Option<Loose>,
}

/// The content of a regular file that has no name yet.
pub(super) struct Loose {
    body: Body,
    pub content: Content,
    /// In hexadecimal, where dpkg's database wants it.
    pub md5: Option<String>,
}

enum Body {
    /// A file that already has these attributes, its own extended ones and its time.
    Unnamed(File, Attributes, Dress),
    Memory(Vec<u8>),
}

/// Extended attributes that an image keeps, and whether there are others.
type Dress = (BTreeMap<String, Vec<u8>>, bool);

impl Loose {
    /// Gives it the name `name` in `directory`, where nothing may be. Also gives the open file and what it is then.
    pub fn place(
        self,
        member: &Member,
        attributes: Attributes,
        (directory, name): (&Directory, &[u8]),
    ) -> Result<(File, Stat, Seen), io::Error> {
        let (file, (xattrs, foreign)) = match self.body {
            Body::Unnamed(file, has, mut dressed) => {
                if has != attributes {
                    dressed = dress(&file, member, attributes)?;
                }
                // Kernels before 6.10 take the first from root only; the second takes twice as long.
                match rustix::fs::linkat(&file, c"", &directory.fd, name, AtFlags::EMPTY_PATH) {
                    Err(Errno::NOENT) => link_over_proc(&file, directory, name)?,
                    linked => linked?,
                }
                (file, dressed)
            }
            Body::Memory(bytes) => {
                let mut file = directory.create(name)?;
                file.write_all(&bytes)?;
                let dressed = dress(&file, member, attributes)?;
                (file, dressed)
            }
        };
        let stat = rustix::fs::fstat(&file)?;
        Ok((file, stat, Seen { content: self.content, xattrs, foreign }))
    }
}

/// Gives `file` a name by what /proc shows of it.
fn link_over_proc(file: &File, directory: &Directory, name: &[u8]) -> Result<(), Errno> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, path, &directory.fd, name, AtFlags::SYMLINK_FOLLOW)
}

/// Gives an open file what `member` says, the owner and mode of `attributes`.
fn dress(file: &File, member: &Member, attributes: Attributes) -> io::Result<Dress> {
    // Changing the owner drops capabilities, so they come later.
    set_attributes(file, attributes)?;
    for (attribute, value) in &member.xattrs {
        rustix::fs::fsetxattr(file, attribute.as_str(), value, XattrFlags::empty())
            .map_err(|error| io::Error::other(format!("attribute `{attribute}`: {error}")))?;
    }
    rustix::fs::futimens(file, &timestamps(member.mtime))?;
    Ok(xattrs(file)?)
}

/// One data archive on its way.
pub(super) struct Unpacking<'a> {
    package: &'a Package,
    conffiles: BTreeSet<&'a [u8]>,
    members: TarReader<BufReader<Box<dyn Read + Send + 'a>>>,
    /// A directory of the root's file system.
    place: BorrowedFd<'a>,
    current: Option<Current>,
}

/// A regular file of which a part is still to come.
struct Current {
    member: Member,
    body: Result<File, Vec<u8>>,
    sha256: sha2::Sha256,
    md5: Option<md5::Md5>,
}

/// What a step gave.
pub(super) struct Step {
    /// Bytes of content that were unpacked.
    pub length: u64,
    /// A member that is whole now.
    pub ready: Option<Ready>,
    /// There is no further member.
    pub ends: bool,
}

impl<'a> Unpacking<'a> {
    /// Begins with the data archive of `package`; `place` is a directory of the root's file system.
    pub fn new(package: &'a Package, place: BorrowedFd<'a>) -> Self {
        let shipped = package.conffiles.iter().filter(|conffile| !conffile.remove_on_upgrade);
        let conffiles = shipped.map(|conffile| conffile.path.trim_start_matches('/').as_bytes()).collect();
        let reader: Box<dyn Read + Send + 'a> = match package.deb.data() {
            Ok(reader) => reader,
            Err(error) => Box::new(Failing(Some(io::Error::other(error)))),
        };
        let members = Deb::members(BufReader::with_capacity(AHEAD, reader));
        Self { package, conffiles, members, place, current: None }
    }

    /// Goes on by one member or by what `buffer` holds of one. A content that begins here waits in memory unless `opens`.
    ///
    /// # Errors
    /// When the archive is damaged, or the content cannot be kept.
    pub fn step(&mut self, buffer: &mut [u8], opens: bool) -> Result<Step, Failure> {
        let mut current = match self.current.take() {
            Some(current) => current,
            None => {
                let member = self.members.next_member().map_err(|error| self.bad(error.to_string()))?;
                let Some(member) = member else { return Ok(Step { length: 0, ready: None, ends: true }) };
                if member.kind != MemberKind::File || member.path.is_none() {
                    let ready = Some(Ready { member, file: None });
                    return Ok(Step { length: 0, ready, ends: false });
                }
                self.begin(member, opens)
            }
        };
        let mut length = 0;
        let mut content = self.members.content();
        while length < buffer.len() {
            match content.read(&mut buffer[length..]) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let reason = format!("`data.tar`, member `{}`: {error}", path(&current.member));
                    return Err(self.bad(reason));
                }
            }
        }
        let ends = content.left() == 0;
        let bytes = &buffer[..length];
        current.sha256.update(bytes);
        if let Some(md5) = &mut current.md5 {
            md5.update(bytes);
        }
        match &mut current.body {
            Ok(file) => file.write_all(bytes).map_err(|error| self.failed(&current.member, &error))?,
            Err(memory) => memory.extend_from_slice(bytes),
        }
        let length = bytes.len() as u64;
        if !ends {
            self.current = Some(current);
            return Ok(Step { length, ready: None, ends: false });
        }
        Ok(Step { length, ready: Some(self.finish(current)?), ends: false })
    }

    fn begin(&self, member: Member, opens: bool) -> Current {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        // Whatever is the reason why it cannot be made, memory will do.
        let open = || rustix::fs::openat(self.place, c".", flags, Mode::from_raw_mode(0o600)).ok();
        let wanted = self.package.control.file("md5sums").is_none()
            || member.path.as_ref().is_some_and(|path| self.conffiles.contains(path.as_bytes()));
        Current {
            member,
            body: opens.then(open).flatten().map(File::from).ok_or_else(Vec::new),
            sha256: sha2::Sha256::new(),
            md5: wanted.then(md5::Md5::new),
        }
    }

    fn finish(&self, current: Current) -> Result<Ready, Failure> {
        let Current { member, body, sha256, md5 } = current;
        let body = match body {
            Ok(file) => {
                let attributes = Attributes { mode: member.mode, uid: member.uid, gid: member.gid };
                let dressed = dress(&file, &member, attributes);
                Body::Unnamed(file, attributes, dressed.map_err(|error| self.failed(&member, &error))?)
            }
            Err(memory) => Body::Memory(memory),
        };
        let md5 = md5.map(|md5| md5.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        let sha256 = Sha256::from_bytes(sha256.finalize().into());
        let content = Content { sha256, size: member.size };
        Ok(Ready { member, file: Some(Loose { body, content, md5 }) })
    }

    fn bad(&self, reason: String) -> Failure {
        Failure::BadPackage { package: self.package.name.clone(), reason }
    }

    fn failed(&self, member: &Member, error: &io::Error) -> Failure {
        let (package, path) = (self.package.name.clone(), format!("/{}", path(member)));
        Failure::Placing { package, path, reason: error.to_string() }
    }
}

fn path(member: &Member) -> String {
    let path = member.path.as_ref().map(|path| path.as_bytes()).unwrap_or_default();
    String::from_utf8_lossy(path).into_owned()
}

/// Gives an error, then nothing.
struct Failing(Option<io::Error>);

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::open;

    use super::super::root::Root;
    use super::*;

    /// As where the kernel does not take a file without a path.
    #[test]
    fn a_file_without_a_name_gets_one_over_proc() {
        let directory = tempfile::tempdir().unwrap();
        let opened = |flags| open(directory.path(), flags, Mode::from_raw_mode(0o600));
        let root = Root::new(opened(OFlags::DIRECTORY).unwrap()).unwrap();
        let (place, name) = root.parent(b"name").unwrap();
        let mut file = File::from(opened(OFlags::TMPFILE | OFlags::RDWR).unwrap());
        file.write_all(b"text").unwrap();
        link_over_proc(&file, &place, name).unwrap();
        assert_eq!(std::fs::read(directory.path().join("name")).unwrap(), b"text");
        assert_eq!(link_over_proc(&file, &place, name), Err(Errno::EXIST));
    }
}
