//! Reads one binary package: an `ar` file of `debian-binary`, `control.tar.*` and `data.tar.*`.
//!
//! Comes in: an open .deb. Goes out: the control files, and the members of the data archive one after the other.
//! Every length is checked and every decompression bounded, since a package is parsed before anything of it runs.

mod tar;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

pub use tar::{Member, MemberKind, TarReader};

/// Most members of the outer `ar` file that are looked at.
const MAX_AR_MEMBERS: usize = 16;
/// Most bytes that `control.tar` may unpack to.
const MAX_CONTROL: u64 = 64 << 20;
/// Most files in `control.tar`.
const MAX_CONTROL_FILES: usize = 256;
/// Most bytes that `data.tar` may unpack to.
const MAX_DATA: u64 = 64 << 30;
/// Most bytes that one compressed byte may stand for, above [`FREE_EXPANSION`]. dpkg's own packages reach about 30.
const MAX_EXPANSION: u64 = 500;
/// Bytes that any archive may unpack to, however short it is.
const FREE_EXPANSION: u64 = 16 << 20;
/// Memory that an xz decoder may take, in bytes; `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 256 << 20;
/// Largest zstd window, as a power of two: 128 MiB, what `zstd --ultra -22` writes.
const ZSTD_WINDOW: u32 = 27;

/// What is wrong with a package.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// It cannot be read or decompressed.
    #[error("`{part}` cannot be read: {source}")]
    Unreadable {
        /// Which part of it.
        part: String,
        /// Why.
        source: io::Error,
    },
    /// The outer file is no Debian package.
    #[error("not a Debian package: {0}")]
    NotADeb(String),
    /// A part is compressed in a way that is not known.
    #[error("`{0}` is not known; expected `.tar`, `.tar.gz`, `.tar.xz` or `.tar.zst`")]
    Compression(String),
    /// A part unpacks to more than it may.
    #[error("`{part}` unpacks to more than {limit} bytes")]
    Bomb {
        /// Which part.
        part: String,
        /// How much it may unpack to, in bytes.
        limit: u64,
    },
    /// A part is no valid tar archive, or has what a package cannot have.
    #[error("`{part}`, member `{member}`: {reason}")]
    Member {
        /// Which part.
        part: String,
        /// The member's name as stored.
        member: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The control file is missing or not text.
    #[error("`control.tar` has no usable `control` file: {0}")]
    Control(String),
}

/// An open package whose outer structure was checked.
#[derive(Debug)]
pub struct Deb {
    file: File,
    control: Part,
    data: Part,
}

/// A member of the outer file.
#[derive(Debug, Clone)]
struct Part {
    name: String,
    compression: Compression,
    offset: u64,
    length: u64,
}

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Not at all.
    None,
    /// gzip
    Gzip,
    /// xz
    Xz,
    /// Zstandard
    Zstd,
}

/// What `control.tar` holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// The stanza that describes the package.
    pub text: String,
    /// All other files, in the archive's order.
    pub files: Vec<ControlFile>,
}

/// A file of `control.tar`: a maintainer script, `md5sums`, `conffiles`, `triggers` …
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlFile {
    /// Its name, without a directory.
    pub name: String,
    /// Permission bits.
    pub mode: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl Control {
    /// The file `name`, if there is one.
    pub fn file(&self, name: &str) -> Option<&ControlFile> {
        self.files.iter().find(|file| file.name == name)
    }
}

impl Deb {
    /// Checks the outer file and finds its parts.
    ///
    /// # Errors
    /// When it is no Debian package of format 2.
    pub fn open(file: File) -> Result<Self, DebError> {
        let unreadable = |source| DebError::Unreadable { part: "ar".into(), source };
        let total = file.metadata().map_err(unreadable)?.len();
        let mut magic = [0; 8];
        read_at(&file, &mut magic, 0)?;
        if &magic != b"!<arch>\n" {
            return Err(DebError::NotADeb("it does not begin with `!<arch>`".into()));
        }
        let mut offset = 8;
        let mut control = None;
        let mut index = 0;
        loop {
            if index == MAX_AR_MEMBERS || offset >= total {
                let missing = if control.is_none() { "control.tar" } else { "data.tar" };
                return Err(DebError::NotADeb(format!("it has no `{missing}`")));
            }
            let (name, length) = ar_header(&file, offset)?;
            offset += 60;
            let end = offset.checked_add(length).filter(|end| *end <= total);
            let end = end.ok_or_else(|| {
                DebError::NotADeb(format!("`{name}` says it has {length} bytes, {} are left", total - offset))
            })?;
            let part = |compression| Part { name: name.clone(), compression, offset, length };
            if index == 0 {
                check_format(&file, &name, offset, length)?;
            } else if let Some(extension) = name.strip_prefix("control.tar") {
                if control.is_some() {
                    return Err(DebError::NotADeb("it has two `control.tar`".into()));
                }
                control = Some(part(compression(extension, &name)?));
            } else if let Some(extension) = name.strip_prefix("data.tar") {
                let data = part(compression(extension, &name)?);
                let control =
                    control.ok_or_else(|| DebError::NotADeb("`data.tar` before `control.tar`".into()))?;
                return Ok(Self { file, control, data });
            } else if !name.starts_with('_') {
                // deb(5): members whose name begins with an underscore may be skipped, others may not.
                return Err(DebError::NotADeb(format!("unexpected member `{name}`")));
            }
            offset = end + (end & 1);
            index += 1;
        }
    }

    /// Reads `control.tar` whole.
    ///
    /// # Errors
    /// When it is damaged, too large, or has no `control`.
    pub fn control(&self) -> Result<Control, DebError> {
        let mut reader = self.part(&self.control, MAX_CONTROL)?;
        let mut text = None;
        let mut files = Vec::new();
        while let Some(member) = reader.next_member()? {
            let Some(path) = &member.path else { continue };
            if member.kind == MemberKind::Directory {
                continue;
            }
            let fail = |reason: &str| DebError::Member {
                part: self.control.name.clone(),
                member: path.to_string(),
                reason: reason.to_owned(),
            };
            if member.kind != MemberKind::File || path.parent().is_some() {
                return Err(fail("only plain files may be here"));
            }
            let name = std::str::from_utf8(path.as_bytes()).map_err(|_| fail("its name is not UTF-8"))?;
            let name = name.to_owned();
            let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
            if !name.bytes().all(safe) || name.starts_with('.') {
                return Err(fail("its name has characters that dpkg does not use"));
            }
            if files.len() == MAX_CONTROL_FILES {
                return Err(fail("there are more than 256 files"));
            }
            let bytes = reader.read_content(&member)?;
            if name == "control" {
                let read =
                    String::from_utf8(bytes).map_err(|_| DebError::Control("it is not UTF-8".into()))?;
                text = Some(read);
            } else if files.iter().any(|file: &ControlFile| file.name == name) {
                return Err(fail("it is there twice"));
            } else {
                files.push(ControlFile { name, mode: member.mode, mtime: member.mtime, bytes });
            }
        }
        let text = text.ok_or_else(|| DebError::Control("it is not there".into()))?;
        Ok(Control { text, files })
    }

    /// `data.tar`, decompressed while it is read.
    ///
    /// # Errors
    /// When the decoder cannot be made.
    pub fn data(&self) -> Result<Box<dyn Read + Send + '_>, DebError> {
        self.decompress(&self.data, MAX_DATA)
    }

    /// Bytes of the data archive as it is in the package, compressed.
    pub fn data_length(&self) -> u64 {
        self.data.length
    }

    /// Reads the members of what [`Deb::data`] gave, wherever the bytes come from by now.
    pub fn members<R: Read>(reader: R) -> TarReader<R> {
        TarReader::new(reader, "data.tar".to_owned())
    }

    fn part(&self, part: &Part, limit: u64) -> Result<TarReader<Box<dyn Read + Send + '_>>, DebError> {
        Ok(TarReader::new(self.decompress(part, limit)?, part.name.clone()))
    }

    fn decompress(&self, part: &Part, limit: u64) -> Result<Box<dyn Read + Send + '_>, DebError> {
        let section = Section { file: &self.file, offset: part.offset, left: part.length };
        decompressor(section, part.compression, (&part.name, part.length), limit)
    }
}

/// Reads what `reader`, of `length` bytes, unpacks to: at most `limit` bytes, and no more than such an archive can have.
pub(crate) fn decompressor<'a>(
    reader: impl Read + Send + 'a,
    compression: Compression,
    (part, length): (&str, u64),
    limit: u64,
) -> Result<Box<dyn Read + Send + 'a>, DebError> {
    let unreadable = |source| DebError::Unreadable { part: part.to_owned(), source };
    let section = io::BufReader::with_capacity(1 << 16, reader);
    let limit = limit.min(length.saturating_mul(MAX_EXPANSION).max(FREE_EXPANSION));
    let reader: Box<dyn Read + Send> = match compression {
        Compression::None => Box::new(section),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(section)),
        Compression::Xz => {
            // The SHA-256 of the whole file is known and checked: CRC64 on top would cost a twelfth of the decoding.
            let flags = liblzma::stream::CONCATENATED | liblzma::stream::IGNORE_CHECK;
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, flags);
            let stream = stream.map_err(|error| unreadable(io::Error::other(error)))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(section, stream))
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(section).map_err(unreadable)?;
            decoder.window_log_max(ZSTD_WINDOW).map_err(unreadable)?;
            Box::new(decoder)
        }
    };
    Ok(Box::new(Bounded { reader, part: part.to_owned(), limit, left: limit }))
}

/// Checks the first member, which names the format's version.
fn check_format(file: &File, name: &str, offset: u64, length: u64) -> Result<(), DebError> {
    let mut text = [0; 4];
    if name != "debian-binary" || length < 4 {
        return Err(DebError::NotADeb("its first member is not `debian-binary`".into()));
    }
    read_at(file, &mut text, offset)?;
    if !text.starts_with(b"2.") {
        let found = String::from_utf8_lossy(&text).trim_end().to_owned();
        return Err(DebError::NotADeb(format!("expected format `2.x`, found `{found}`")));
    }
    Ok(())
}

fn compression(extension: &str, name: &str) -> Result<Compression, DebError> {
    Ok(match extension {
        "" => Compression::None,
        ".gz" => Compression::Gzip,
        ".xz" => Compression::Xz,
        ".zst" => Compression::Zstd,
        _ => return Err(DebError::Compression(name.to_owned())),
    })
}

/// Name and length from the `ar` header at `offset`.
fn ar_header(file: &File, offset: u64) -> Result<(String, u64), DebError> {
    let mut header = [0; 60];
    read_at(file, &mut header, offset)?;
    let text = |range: std::ops::Range<usize>| {
        let bytes = &header[range];
        bytes.is_ascii().then(|| String::from_utf8_lossy(bytes).trim_end().to_owned())
    };
    let bad = |what: &str| DebError::NotADeb(format!("the member header at byte {offset} {what}"));
    if &header[58..] != b"`\n" {
        return Err(bad("does not end in a backtick and a newline"));
    }
    let name = text(0..16).ok_or_else(|| bad("has a name that is not ASCII"))?;
    let name = name.strip_suffix('/').unwrap_or(&name).to_owned();
    let length = text(48..58).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let length = length.and_then(|digits| digits.parse().ok()).ok_or_else(|| bad("has no valid length"))?;
    Ok((name, length))
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> Result<(), DebError> {
    file.read_exact_at(buffer, offset).map_err(|source| match source.kind() {
        io::ErrorKind::UnexpectedEof => {
            DebError::NotADeb(format!("it ends before byte {offset} can be read"))
        }
        _ => DebError::Unreadable { part: "ar".into(), source },
    })
}

/// A range of a file, read without moving the file's position.
struct Section<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..wanted], self.offset)?;
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// Fails once more than `limit` bytes came out.
struct Bounded<R> {
    reader: R,
    part: String,
    limit: u64,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                let error = DebError::Bomb { part: self.part.clone(), limit: self.limit };
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, error));
            }
        }
        Ok(read)
    }
}

/// Makes packages for tests, here and in `build::stage`.
#[cfg(test)]
#[path = "../../tests/support/deb.rs"]
#[allow(dead_code, missing_docs, reason = "shared with the integration tests")]
pub(crate) mod maker;

#[cfg(test)]
mod tests;
