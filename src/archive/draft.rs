//! The beginning of an archive, written before it is known what the archive will be.
//!
//! Most of an archive's frames can be told early: those of layers while their last scripts run, those of the last result when
//! only a file was edited. They are written then, so that the disk is at work while there is nothing else for it. Whoever writes
//! the archive keeps what agrees with it and cuts off the rest.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use super::frame::{self, Frame};
use super::table::FrameInfo;
use crate::digest::{HashMark, HashingWriter, Sha256};
use crate::store::Store;

/// An output of which the end can be taken back.
pub trait Cut: Write {
    /// Leaves the first `length` bytes; what is written next follows them.
    ///
    /// # Errors
    /// When the output cannot be changed.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

/// Frames that may be the first of an archive.
pub struct Draft<W> {
    out: HashingWriter<W>,
    frames: Vec<Drafted>,
    /// Nothing can be appended before it was cut.
    failed: bool,
}

struct Drafted {
    key: Sha256,
    info: FrameInfo,
    /// The output behind it.
    behind: HashMark,
}

impl<W: Cut> Draft<W> {
    /// Nothing yet; `out` has to be empty.
    pub fn new(out: W) -> Self {
        Self { out: HashingWriter::new(out), frames: Vec::new(), failed: false }
    }

    /// Writes the frames `keys` of `store` until one is not there or `stop` is set.
    pub fn follow(&mut self, store: &Store, keys: &[Sha256], stop: &AtomicBool) {
        if self.agree(keys).is_err() {
            return;
        }
        let mut memory = Vec::new();
        for key in &keys[self.len()..] {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let Some(frame) = frame::load_into(store, *key, memory) else { return };
            self.append(*key, &frame);
            memory = frame.compressed;
        }
    }

    /// Number of frames.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Cuts off what are not the frames `keys`, in that order.
    pub(super) fn agree(&mut self, keys: &[Sha256]) -> io::Result<()> {
        let same = self.frames.iter().zip(keys).take_while(|(frame, key)| frame.key == **key).count();
        self.frames.truncate(same);
        let behind = self.frames.last().map(|frame| frame.behind.clone()).unwrap_or_default();
        // Also when nothing is too many: writing may have failed half-way.
        self.failed = true;
        self.out.back_to(behind, W::cut)?;
        self.failed = false;
        Ok(())
    }

    /// Writes a further frame. What cannot be written is cut off later, and written then or not at all.
    pub(super) fn append(&mut self, key: Sha256, frame: &Frame) {
        if self.failed {
            return;
        }
        self.failed = self.out.write_all(&frame.compressed).is_err();
        if !self.failed {
            self.frames.push(Drafted { key, info: frame.info(), behind: self.out.mark() });
        }
    }

    /// The output and its frames, as far as they agree with `keys`.
    pub(super) fn settle(mut self, keys: &[Sha256]) -> io::Result<(HashingWriter<W>, Vec<FrameInfo>)> {
        self.agree(keys)?;
        Ok((self.out, self.frames.into_iter().map(|frame| frame.info).collect()))
    }
}
