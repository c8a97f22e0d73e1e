//! A torrent of a folder, without a tracker.

use std::fmt::Write as _;

use sha1::{Digest, Sha1};

const PIECE: usize = 64 * 1024;

/// A file below the torrent's folder.
pub struct File {
    /// Folders and name.
    pub path: &'static [&'static str],
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A `.torrent` file.
pub struct Torrent {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What names it: the hash of its `info` part, as lower-case hex.
    pub hash: String,
}

/// Describes a folder of this name.
pub fn describe(folder: &str, files: &[File]) -> Torrent {
    let all = files.iter().map(|file| file.bytes.as_slice()).collect::<Vec<_>>().concat();
    let pieces: Vec<u8> = all.chunks(PIECE).flat_map(Sha1::digest).collect();
    let mut info = "d5:filesl".to_owned();
    for file in files {
        let path: String = file.path.iter().map(|part| text(part)).collect();
        let _ = write!(info, "d6:lengthi{}e4:pathl{path}ee", file.bytes.len());
    }
    let _ = write!(info, "e4:name{}12:piece lengthi{PIECE}e6:pieces{}:", text(folder), pieces.len());
    let info = [info.as_bytes(), &pieces, b"e"].concat();
    let hash = Sha1::digest(&info).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    Torrent { bytes: [b"d4:info".as_slice(), &info, b"e"].concat(), hash }
}

fn text(text: &str) -> String {
    format!("{}:{text}", text.len())
}

/// Bytes that do not repeat, the same every time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(length)
    .collect()
}
