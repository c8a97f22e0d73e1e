//! Trees to archives: canonical tar members, compressed in frames, with the pct configuration first.
//!
//! In: a [`Tree`](crate::tree::Tree), the bytes behind it, and the members that go before it. Out: a `.tar.zst` that
//! `pct restore` and `pct create` take, and what is in it ([`Summary`]). Nothing here knows what the members mean,
//! beyond which package a file belongs to, which decides its place.
//!
//! ```text
//! tree ──member──▶ members, checked ──layout──▶ frames of whole members ──frame──▶ compressed, from the store or new
//!                                                                                       │ in order
//!                  tail: end of archive, frame table, seek table ◀──write── out ◀───────┘
//! ```
//!
//! # Format
//! A sequence of zstd frames that any zstd reads as one stream:
//! 1. frames of whole tar members, each with content size and checksum;
//! 2. one frame with the end of the tar archive, 1024 zero bytes;
//! 3. a skippable frame (magic `0x184D2A5D`) with the [`FrameTable`] as JSON;
//! 4. a skippable frame with the seek table of zstd's seekable format (magic `0x184D2A5E`, ending in `0x8F92EAB1`), in
//!    which the skippable frame before it stands as a frame of no content. Its last 9 bytes lead to everything else.

mod acl;
mod draft;
mod frame;
mod layout;
mod member;
mod queue;
mod read;
mod running;
mod stored;
mod table;
mod warm;
mod write;

use serde::{Deserialize, Serialize};

pub use draft::{Cut, Draft};
pub use member::{Head, MemberError, MemberFault};
pub use read::{Archive, ReadError, read};
pub(crate) use running::chain;
pub(crate) use stored::{check_stored, stored_name};
pub use table::{FrameInfo, FrameTable, TableError, read_table};
pub use warm::warm;
pub use write::{ArchiveError, Source, Summary, write, write_on};

/// How an archive is cut and compressed. Part of the plan: another value gives other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// zstd's level, 1 to 22.
    pub level: i32,
    /// Binary logarithm of the window in bytes, 10 to 27. Proxmox's `zstd -d` takes at most 27 (128 MiB).
    pub window_log: u32,
    /// A run of members longer than this is cut, if it can be; in bytes of tar. A single larger member stays whole.
    pub max_frame: u64,
    /// No cut leaves less than this on either side; in bytes of tar.
    pub min_frame: u64,
}

impl Default for Parameters {
    /// Chosen from the curve in docs/compression.md.
    fn default() -> Self {
        Self { level: 3, window_log: 25, max_frame: 2 << 20, min_frame: 3 << 18 }
    }
}
