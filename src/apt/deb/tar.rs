//! Reads tar members with the extensions that packages use: GNU long names and pax records.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::DebError;
use crate::tree::TreePath;

/// Most members of one archive.
const MAX_MEMBERS: u64 = 4_000_000;
/// Longest long name, link target or pax header, in bytes: all xattrs of one file fit.
const MAX_EXTENSION: u64 = 1 << 20;
/// Most bytes that [`TarReader::read_content`] takes into memory.
const MAX_IN_MEMORY: u64 = 64 << 20;
/// Highest id that an image may have.
const MAX_ID: u64 = 65_535;

/// One member of a tar archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where it goes; nothing for the root itself.
    pub path: Option<TreePath>,
    /// Whether its name begins at the root.
    pub absolute: bool,
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits (07777).
    pub mode: u32,
    /// Owner by number.
    pub uid: u32,
    /// Group by number.
    pub gid: u32,
    /// Owner by name, empty when only the number is known.
    pub user: String,
    /// Group by name, empty when only the number is known.
    pub group: String,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Bytes of content that follow.
    pub size: u64,
    /// Extended attributes, from pax records.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// The type of a [`Member`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link with this target.
    Symlink(Vec<u8>),
    /// A further name of an earlier member.
    Hardlink(TreePath),
    /// A named pipe.
    Fifo,
}

/// Reads members in order; the content of each is read through [`TarReader::content`] before the next one.
#[derive(Debug)]
pub struct TarReader<R> {
    reader: R,
    part: String,
    /// Content of the current member that was not read yet, and its padding.
    left: u64,
    padding: u64,
    count: u64,
    any_owner: bool,
}

/// What extension headers said about the member that follows.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    user: Option<String>,
    group: Option<String>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<i64>,
    xattrs: BTreeMap<String, Vec<u8>>,
}

impl<R: Read> TarReader<R> {
    /// Starts before the first member. `part` names the archive in errors.
    pub fn new(reader: R, part: String) -> Self {
        Self { reader, part, left: 0, padding: 0, count: 0, any_owner: false }
    }

    /// Takes members whatever ids they have, as 0: whoever made the archive had users of their own.
    #[must_use]
    pub fn any_owner(self) -> Self {
        Self { any_owner: true, ..self }
    }

    /// The next member, or nothing at the end of the archive.
    ///
    /// # Errors
    /// When the archive is damaged, or the member is of a kind that no package has (device nodes, sparse files).
    pub fn next_member(&mut self) -> Result<Option<Member>, DebError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let name = header.path_bytes().into_owned();
            self.count += 1;
            if self.count > MAX_MEMBERS {
                return Err(self.fail(&name, "the archive has more than 4000000 members"));
            }
            let bad_number = |_| self.fail(&name, "a number in its header cannot be read");
            let size = header.entry_size().map_err(bad_number)?;
            self.left = size;
            self.padding = (512 - size % 512) % 512;
            match header.entry_type().as_byte() {
                b'L' => extensions.path = Some(self.extension(&name)?),
                b'K' => extensions.link = Some(self.extension(&name)?),
                b'x' => {
                    let records = self.extension(&name)?;
                    self.pax(&records, &name, &mut extensions)?;
                }
                b'g' => {
                    self.extension(&name)?;
                }
                _ => return self.member(&header, extensions, size).map(Some),
            }
        }
    }

    /// The rest of the current member's content.
    pub fn content(&mut self) -> Content<'_, R> {
        Content { archive: self }
    }

    /// The whole content of `member`, which [`TarReader::next_member`] gave last.
    ///
    /// # Errors
    /// When it is cut off, or longer than 64 MiB.
    pub fn read_content(&mut self, member: &Member) -> Result<Vec<u8>, DebError> {
        if member.size > MAX_IN_MEMORY {
            let name = member.path.as_ref().map(|path| path.as_bytes().to_vec()).unwrap_or_default();
            return Err(self.fail(&name, "longer than 64 MiB"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(member.size).unwrap_or(0));
        self.content().read_to_end(&mut bytes).map_err(|source| self.unreadable(source))?;
        Ok(bytes)
    }

    fn member(&self, header: &tar::Header, extensions: Extensions, size: u64) -> Result<Member, DebError> {
        let raw = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let fail = |reason: &str| self.fail(&raw, reason);
        let path = match raw.as_slice() {
            b"." | b"./" | b"/" => None,
            other => Some(TreePath::new(other).map_err(|error| fail(&error.to_string()))?),
        };
        let link = || {
            let target = extensions.link.clone();
            let target = target.or_else(|| header.link_name_bytes().map(|bytes| bytes.into_owned()));
            let valid = |target: &Vec<u8>| !target.is_empty() && target.len() < 4096 && !target.contains(&0);
            target.filter(valid).ok_or_else(|| fail("its link target is empty, too long, or has a NUL byte"))
        };
        let kind = match header.entry_type().as_byte() {
            b'0' | 0 | b'7' if raw.ends_with(b"/") => MemberKind::Directory,
            b'0' | 0 | b'7' => MemberKind::File,
            b'1' => {
                let target = TreePath::new(link()?).map_err(|error| fail(&error.to_string()))?;
                MemberKind::Hardlink(target)
            }
            b'2' => MemberKind::Symlink(link()?),
            b'5' => MemberKind::Directory,
            b'6' => MemberKind::Fifo,
            b'3' | b'4' => return Err(fail("a device node; an unprivileged container cannot have one")),
            other => return Err(fail(&format!("unknown member type `{}`", other.escape_ascii()))),
        };
        if kind != MemberKind::File && size != 0 {
            return Err(fail("it has content although it is no regular file"));
        }
        let number =
            |value: io::Result<u64>| value.map_err(|_| fail("a number in its header cannot be read"));
        let id = |value: io::Result<u64>| {
            if self.any_owner {
                return Ok(0);
            }
            let value = number(value)?;
            let id = u32::try_from(value).ok().filter(|_| value <= MAX_ID);
            id.ok_or_else(|| fail(&format!("id {value} is above {MAX_ID}")))
        };
        let name = |bytes: Option<&[u8]>| {
            bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default().to_owned()
        };
        let mtime = number(header.mtime())?;
        let mode = header.mode().map_err(|_| fail("its mode cannot be read"))?;
        Ok(Member {
            path,
            kind,
            mode: mode & 0o7777,
            absolute: raw.starts_with(b"/"),
            uid: id(extensions.uid.map_or_else(|| header.uid(), Ok))?,
            gid: id(extensions.gid.map_or_else(|| header.gid(), Ok))?,
            user: extensions.user.unwrap_or_else(|| name(header.username_bytes())),
            group: extensions.group.unwrap_or_else(|| name(header.groupname_bytes())),
            mtime: extensions.mtime.unwrap_or_else(|| i64::try_from(mtime).unwrap_or(i64::MAX)),
            size,
            xattrs: extensions.xattrs,
        })
    }

    /// Reads a header block and checks its sum; nothing at the end of the archive.
    fn header(&mut self) -> Result<Option<tar::Header>, DebError> {
        let mut block = [0; 512];
        let read = read_full(&mut self.reader, &mut block).map_err(|source| self.unreadable(source))?;
        if read == 0 || block.iter().all(|byte| *byte == 0) {
            // Reads the padding too, so that a bomb behind the end and a cut-off compressed stream are noticed.
            io::copy(&mut self.reader, &mut io::sink()).map_err(|source| self.unreadable(source))?;
            return Ok(None);
        }
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        let sum = sum - block[148..156].iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        if read < block.len() || header.cksum().ok() != Some(sum) {
            let name = header.path_bytes().into_owned();
            return Err(self.fail(&name, "its header is damaged"));
        }
        Ok(Some(header))
    }

    fn extension(&mut self, name: &[u8]) -> Result<Vec<u8>, DebError> {
        if self.left > MAX_EXTENSION {
            return Err(self.fail(name, "an extended header is longer than 1 MiB"));
        }
        let mut bytes = Vec::new();
        self.content().read_to_end(&mut bytes).map_err(|source| self.unreadable(source))?;
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(bytes)
    }

    fn pax(&self, records: &[u8], name: &[u8], into: &mut Extensions) -> Result<(), DebError> {
        let bad = || self.fail(name, "a pax record is damaged");
        let mut rest = records;
        while !rest.is_empty() {
            let blank = rest.iter().position(|byte| *byte == b' ').ok_or_else(bad)?;
            let length = std::str::from_utf8(&rest[..blank]).ok().and_then(|text| text.parse::<usize>().ok());
            let length =
                length.filter(|length| *length > blank + 1 && *length <= rest.len()).ok_or_else(bad)?;
            let record = rest[blank + 1..length].strip_suffix(b"\n").ok_or_else(bad)?;
            rest = &rest[length..];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
            let key = std::str::from_utf8(&record[..equals]).map_err(|_| bad())?;
            let value = &record[equals + 1..];
            let text = || std::str::from_utf8(value).map_err(|_| bad());
            match key {
                "path" => into.path = Some(value.to_vec()),
                "linkpath" => into.link = Some(value.to_vec()),
                "uname" => into.user = Some(text()?.to_owned()),
                "gname" => into.group = Some(text()?.to_owned()),
                "uid" => into.uid = Some(text()?.parse().map_err(|_| bad())?),
                "gid" => into.gid = Some(text()?.parse().map_err(|_| bad())?),
                "mtime" => {
                    let seconds = text()?.split('.').next().unwrap_or_default();
                    into.mtime = Some(seconds.parse().map_err(|_| bad())?);
                }
                // The header's own size would then mean something else to other readers.
                "size" => return Err(self.fail(name, "its size stands in a pax record")),
                _ if key.starts_with("GNU.sparse.") => return Err(self.fail(name, "a sparse file")),
                _ => {
                    if let Some(attribute) = key.strip_prefix("SCHILY.xattr.") {
                        into.xattrs.insert(attribute.to_owned(), value.to_vec());
                    }
                }
            }
        }
        Ok(())
    }

    fn skip_rest(&mut self) -> Result<(), DebError> {
        let wanted = self.left + self.padding;
        let skipped = io::copy(&mut (&mut self.reader).take(wanted), &mut io::sink());
        let skipped = skipped.map_err(|source| self.unreadable(source))?;
        if skipped < wanted {
            return Err(self.unreadable(io::ErrorKind::UnexpectedEof.into()));
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    fn fail(&self, member: &[u8], reason: &str) -> DebError {
        let member = String::from_utf8_lossy(&member[..member.len().min(200)]).into_owned();
        DebError::Member { part: self.part.clone(), member, reason: reason.to_owned() }
    }

    fn unreadable(&self, source: io::Error) -> DebError {
        // A bound that was passed travels inside the I/O error; give it back as it was.
        match source.downcast::<DebError>() {
            Ok(error) => error,
            Err(source) => DebError::Unreadable { part: self.part.clone(), source },
        }
    }
}

/// The content of the current member of a [`TarReader`].
#[derive(Debug)]
pub struct Content<'a, R> {
    archive: &'a mut TarReader<R>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.archive.left).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.archive.reader.read(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.archive.left -= read as u64;
        Ok(read)
    }
}

impl<R> Content<'_, R> {
    /// Bytes that were not read yet.
    pub fn left(&self) -> u64 {
        self.archive.left
    }
}

/// Reads until `buffer` is full or the end is reached; gives the number of bytes.
fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
