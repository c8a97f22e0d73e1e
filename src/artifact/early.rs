//! A file that goes to the disk while it is still being written.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU64;

/// Bytes after which the disk is set to work.
const STEP: u64 = 8 << 20;

/// Writes a file whose end somebody will wait for with `fsync`: what has been written is on its way by then.
#[derive(Debug)]
pub struct EarlyFile {
    file: File,
    written: u64,
    /// Bytes that the disk has been set to work on.
    begun: u64,
}

impl EarlyFile {
    /// Wraps an empty file.
    pub fn new(file: File) -> Self {
        Self { file, written: 0, begun: 0 }
    }
}

impl Write for EarlyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        if let Some(length) = NonZeroU64::new(self.written - self.begun).filter(|length| length.get() >= STEP)
        {
            // Linux begins to write what is said not to be needed any more, without waiting. A mere hint.
            let _ = rustix::fs::fadvise(&self.file, self.begun, Some(length), rustix::fs::Advice::DontNeed);
            self.begun = self.written;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
