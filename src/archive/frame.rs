//! One frame: compressing it, keeping it in the store, taking it from there.
//!
//! A stored frame is one file: a line that names the format; the hash of the next two; the hash of the compressed
//! bytes and the length of the uncompressed ones; then the compressed bytes. What does not match its hash is
//! made anew.

use std::cell::RefCell;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use zstd::zstd_safe::CParameter;

use super::Parameters;
use super::layout::identity;
use super::member::{Member, MemberSource};
use super::table::FrameInfo;
use crate::digest::Sha256;
use crate::store::{Damage, Kind, Object, Store, StoreError, Unusable, touch};
use crate::tree::Contents;

/// First bytes of a stored frame.
const MAGIC: &[u8; 16] = b"build-images f2\n";
/// Bytes before the compressed ones: magic, seal, hash, length.
const PREFIX: usize = 16 + 32 + 32 + 8;

/// A compressed frame.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// The zstd frame.
    pub compressed: Vec<u8>,
    /// Hash of that.
    pub sha256: Sha256,
    /// Number of uncompressed bytes.
    pub tar_size: u64,
}

impl Frame {
    /// What the frame table says of it.
    pub fn info(&self) -> FrameInfo {
        FrameInfo { size: self.compressed.len() as u64, sha256: self.sha256, tar_size: self.tar_size }
    }
}

/// The name of a frame in the store: all that decides its bytes.
pub(super) fn key(members: &[Member], parameters: &Parameters) -> Sha256 {
    let Parameters { level, window_log, .. } = parameters;
    let version = zstd::zstd_safe::version_number();
    let text = format!("frame 2 zstd {version} level {level} window {window_log} {}", identity(members));
    Sha256::of(text)
}

/// Makes `bytes` the tar bytes of `members`, which have just that length.
///
/// # Errors
/// When contents cannot be read, or have another length than their name says.
pub(super) fn assemble(members: &[Member], contents: &dyn Contents, bytes: &mut [u8]) -> io::Result<()> {
    let mut rest = bytes;
    for member in members {
        let whole = usize::try_from(member.size()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let length = usize::try_from(member.content_size()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let (this, others) = rest.split_at_mut(whole);
        let (header, this) = this.split_at_mut(member.header.len());
        let (content, padding) = this.split_at_mut(length);
        header.copy_from_slice(&member.header);
        match &member.source {
            MemberSource::Nothing => {}
            MemberSource::Bytes(inline) => content.copy_from_slice(inline),
            MemberSource::Content(named) => contents.read_into(named, content)?,
        }
        padding.fill(0);
        rest = others;
    }
    Ok(())
}

/// Bytes into which a frame of the usual size fits however badly it can be compressed.
const USUAL_BOUND: usize = (4 << 20) + (32 << 10);

thread_local! {
    /// Where frames are compressed to, before it is known how long they are.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Compresses `bytes` into one frame, with its content size and a checksum.
///
/// # Errors
/// When zstd refuses the parameters.
pub(super) fn compress(bytes: &[u8], parameters: &Parameters) -> io::Result<Frame> {
    // A context of its own for each frame: a used one may choose other matches.
    let mut compressor = zstd::bulk::Compressor::new(parameters.level)?;
    compressor.set_parameter(CParameter::WindowLog(parameters.window_log))?;
    compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    let compressed = SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        let bound = zstd::zstd_safe::compress_bound(bytes.len());
        if scratch.capacity() < bound {
            // Not made larger: what was in it would be copied.
            *scratch = Vec::with_capacity(bound.max(USUAL_BOUND));
        }
        compressor.compress_to_buffer(bytes, scratch)?;
        Ok::<_, io::Error>(scratch.as_slice().to_vec())
    })?;
    let sha256 = Sha256::of(&compressed);
    Ok(Frame { compressed, sha256, tar_size: bytes.len() as u64 })
}

/// Makes `bytes` those behind a frame, checked; there have to be as many as it says.
///
/// # Errors
/// `InvalidData` when they are not what the frame says.
pub(super) fn decompress(frame: &Frame, bytes: &mut [u8]) -> io::Result<()> {
    if zstd::bulk::decompress_to_buffer(&frame.compressed, bytes)? != bytes.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a stored frame has another length"));
    }
    Ok(())
}

/// The frame `key` of the store, and says that it is used now; nothing when it is absent or damaged. Damage is noted, and the
/// file removed: the archive may turn out to have no such frame.
pub(super) fn load(store: &Store, key: Sha256) -> Option<Frame> {
    load_into(store, key, Vec::new())
}

/// As [`load`], with the memory of `compressed`: fresh memory costs as much as what is done with it.
pub(super) fn load_into(store: &Store, key: Sha256, compressed: Vec<u8>) -> Option<Frame> {
    let path = store.path(Kind::Frame, key);
    match read_into(&path, compressed) {
        Ok(frame) => {
            touch(&path);
            Some(frame)
        }
        Err(Unusable::Missing) => None,
        Err(Unusable::Damaged(reason)) => {
            drop_damaged(store, &path, Damage::new(Object::Frame, key, reason));
            None
        }
    }
}

/// Notes `damage` and removes its file, which may never be written again.
pub(super) fn drop_damaged(store: &Store, path: &Path, damage: Damage) {
    store.found_damaged(damage);
    // Where that fails, the next reader sees the same.
    let _ = fs::remove_file(path);
}

/// The frame in the file at `path`, every byte of it checked.
pub(super) fn read(path: &Path) -> Result<Frame, Unusable> {
    read_into(path, Vec::new())
}

fn read_into(path: &Path, mut compressed: Vec<u8>) -> Result<Frame, Unusable> {
    let damaged = |reason: &str| Unusable::Damaged(reason.to_owned());
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Unusable::Missing,
        io::ErrorKind::UnexpectedEof => damaged("it is cut off"),
        _ => damaged(&error.to_string()),
    };
    let mut file = fs::File::open(path).map_err(unreadable)?;
    let mut prefix = [0; PREFIX];
    file.read_exact(&mut prefix).map_err(unreadable)?;
    let sealed = &prefix[48..];
    if prefix[..16] != *MAGIC || Sha256::of(sealed).as_bytes() != &prefix[16..48] {
        return Err(damaged("its head does not match its own hash"));
    }
    let hash = sealed.first_chunk().map(|bytes| Sha256::from_bytes(*bytes));
    let size = sealed[32..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let (sha256, tar_size) = hash.zip(size).ok_or_else(|| damaged("it is cut off"))?;
    compressed.clear();
    file.read_to_end(&mut compressed).map_err(unreadable)?;
    let found = Sha256::of(&compressed);
    if found != sha256 {
        return Err(damaged(&format!("its bytes now hash to {found}")));
    }
    Ok(Frame { compressed, sha256, tar_size })
}

/// Keeps `frame` under `key`.
///
/// # Errors
/// When the store cannot be written.
pub(super) fn keep(store: &Store, key: Sha256, frame: &Frame) -> Result<(), StoreError> {
    let size = frame.tar_size.to_le_bytes();
    let sealed = [frame.sha256.as_bytes().as_slice(), &size].concat();
    let seal = Sha256::of(&sealed);
    keep_sealed(store, &key.to_string(), &[MAGIC, seal.as_bytes(), &sealed, &frame.compressed])
}

/// Keeps `parts` under `name` without waiting for the disk: readers check the seal, and what a power cut leaves
/// half-written is made anew.
pub(super) fn keep_sealed(store: &Store, name: &str, parts: &[&[u8]]) -> Result<(), StoreError> {
    let mut pending = store.create()?;
    for part in parts {
        pending.write_all(part).map_err(|error| store.failed("write", Kind::Frame, name, error))?;
    }
    store.commit_unsynced(pending, Kind::Frame, name)?;
    Ok(())
}
