//! The frame table at the end of an archive, and the seek table behind it.

use std::io::{self, Read, Seek, SeekFrom};

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;

/// Magic of the skippable frame with our table.
const TABLE_MAGIC: u32 = 0x184D_2A5D;
/// Magic of the skippable frame with the seek table, as zstd's seekable format has it.
const SEEK_MAGIC: u32 = 0x184D_2A5E;
/// Last four bytes of a seekable file.
const SEEKABLE: u32 = 0x8F92_EAB1;
/// Longest table that is read, in bytes: some 300,000 frames.
const MAX_TABLE: u64 = 64 << 20;
/// Most frames that a table may name; the seek table then has 12 MiB.
const MAX_FRAMES: u32 = 1 << 20;

/// What an archive's frames are. Also part of manifest.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameTable {
    /// Version of this table.
    pub format: u32,
    /// Hash of the uncompressed tar: the archive's primary identity.
    pub tar_sha256: Sha256,
    /// Bytes of the uncompressed tar.
    pub tar_size: u64,
    /// The frames in order, the one with the end of the tar archive last.
    pub frames: Vec<FrameInfo>,
}

/// One frame of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameInfo {
    /// Bytes in the archive.
    pub size: u64,
    /// Hash of those.
    pub sha256: Sha256,
    /// Bytes of tar.
    pub tar_size: u64,
}

/// Version of the frame table.
pub(super) const FORMAT: u32 = 2;

/// The frame table of a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file does not end in a seek table.
    #[error("it has no frame table at its end; either it is cut off or build-images did not write it")]
    Absent,
    /// The table contradicts itself or the file.
    #[error("its frame table is damaged: {0}")]
    Damaged(String),
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl FrameTable {
    /// Both skippable frames that end an archive.
    pub(super) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let json = serde_json::to_vec(self)?;
        let mut out = skippable(TABLE_MAGIC, &json);
        let table_size = out.len() as u64;
        let mut seek = Vec::with_capacity(self.frames.len() * 8 + 17);
        let frames = self.frames.iter().map(|frame| (frame.size, frame.tar_size));
        for (size, tar_size) in frames.chain([(table_size, 0)]) {
            // The format has 32 bits; a frame is one file of at most 8 GiB, usually some megabytes. What does not
            // fit is marked as unknown, readers then use our own table.
            for number in [size, tar_size] {
                seek.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
            }
        }
        let count = u32::try_from(self.frames.len() + 1).unwrap_or(u32::MAX);
        seek.extend_from_slice(&count.to_le_bytes());
        seek.push(0); // No checksums: the frames have their own.
        seek.extend_from_slice(&SEEKABLE.to_le_bytes());
        out.extend_from_slice(&skippable(SEEK_MAGIC, &seek));
        Ok(out)
    }
}

fn skippable(magic: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    [&magic.to_le_bytes(), &length.to_le_bytes(), content].concat()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads the frame table from the end of an archive; says where it begins, too: there the frames end.
///
/// # Errors
/// See [`TableError`].
pub fn read_table(file: &mut (impl Read + Seek)) -> Result<(FrameTable, u64), TableError> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut read = |offset: u64, length: u64| -> Result<Vec<u8>, TableError> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    if end < 9 {
        return Err(TableError::Absent);
    }
    let footer = read(end - 9, 9)?;
    if number(&footer, 5) != Some(SEEKABLE) {
        return Err(TableError::Absent);
    }
    let damaged = |what: &str| TableError::Damaged(what.to_owned());
    let count = number(&footer, 0).unwrap_or(0);
    if footer[4] != 0 || count == 0 || count > MAX_FRAMES {
        return Err(damaged("the seek table is not one that build-images writes"));
    }
    let seek_length = u64::from(count) * 8 + 9 + 8;
    let seek_start = end.checked_sub(seek_length).ok_or_else(|| damaged("it is longer than the file"))?;
    let seek = read(seek_start, seek_length)?;
    if number(&seek, 0) != Some(SEEK_MAGIC) || number(&seek, 4).map(u64::from) != Some(seek_length - 8) {
        return Err(damaged("the seek table does not begin where its length says"));
    }

    let table_length = number(&seek, seek.len() - 9 - 8).map_or(0, u64::from);
    let table_start = seek_start.checked_sub(table_length).filter(|_| (9..MAX_TABLE).contains(&table_length));
    let table_start = table_start.ok_or_else(|| damaged("the frame table has an impossible length"))?;
    let bytes = read(table_start, table_length)?;
    if number(&bytes, 0) != Some(TABLE_MAGIC) || number(&bytes, 4).map(u64::from) != Some(table_length - 8) {
        return Err(damaged("the frame table does not begin where the seek table says"));
    }
    let table: FrameTable =
        serde_json::from_slice(&bytes[8..]).map_err(|error| TableError::Damaged(error.to_string()))?;
    check(&table, table_start)?;
    // What other tools go by must say the same.
    let encoded = table.encode().map_err(|error| TableError::Damaged(error.to_string()))?;
    if encoded.len() as u64 != end - table_start || encoded != [bytes, seek].concat() {
        return Err(damaged("the seek table contradicts it"));
    }
    Ok((table, table_start))
}

fn check(table: &FrameTable, frames_end: u64) -> Result<(), TableError> {
    if table.format != FORMAT {
        let text = format!("expected version {FORMAT}, found {}", table.format);
        return Err(TableError::Damaged(text));
    }
    let sum = |length: fn(&FrameInfo) -> u64| {
        table.frames.iter().map(length).try_fold(0_u64, |total, length| total.checked_add(length))
    };
    if sum(|frame| frame.size) != Some(frames_end) {
        return Err(TableError::Damaged("its frames do not add up to what stands before it".into()));
    }
    if sum(|frame| frame.tar_size) != Some(table.tar_size) {
        return Err(TableError::Damaged("its frames do not add up to the tar's size".into()));
    }
    Ok(())
}
