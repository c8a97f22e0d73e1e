//! A file that goes to the disk while it is still being written.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use crate::archive::Cut;

/// Bytes after which the disk is set to work.
const STEP: u64 = 8 << 20;

/// Writes a file whose end somebody will wait for with `fsync`: what has been written is on the disk by then, but for the last
/// of it. To begin writing back is not enough: a disk with a cache of its own takes as long again to empty that.
#[derive(Debug)]
pub struct EarlyFile {
    file: File,
    written: u64,
    /// Bytes that the disk has been set to work on.
    begun: u64,
    syncing: Option<Syncing>,
}

/// A thread that waits for the disk.
#[derive(Debug)]
struct Syncing {
    orders: Sender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl EarlyFile {
    /// Wraps an empty file.
    pub fn new(file: File) -> Self {
        Self { file, written: 0, begun: 0, syncing: None }
    }

    /// Sets the disk to work on what has been written. Where that cannot be, whoever waits for it waits longer.
    fn sync(&mut self) {
        if self.syncing.is_none() {
            self.syncing = self.file.try_clone().ok().and_then(Syncing::new);
        }
        if let Some(syncing) = &self.syncing {
            // A thread that is gone has met an error, which is told in the end.
            let _ = syncing.orders.send(());
        }
        self.begun = self.written;
    }

    /// Waits for what the disk has been set to work on.
    fn wait(&mut self) -> io::Result<()> {
        let Some(Syncing { orders, thread }) = self.syncing.take() else { return Ok(()) };
        drop(orders);
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that waits for the disk ended early")))
    }
}

impl Syncing {
    fn new(file: File) -> Option<Self> {
        let (orders, received) = channel();
        let work = move || {
            while received.recv().is_ok() {
                // One is enough for all that were given meanwhile.
                while received.try_recv().is_ok() {}
                // The kernel tells of an error only once.
                file.sync_data()?;
            }
            Ok(())
        };
        let thread = std::thread::Builder::new().name("sync".to_owned()).spawn(work).ok()?;
        Some(Self { orders, thread })
    }
}

impl Cut for EarlyFile {
    fn cut(&mut self, length: u64) -> io::Result<()> {
        if self.written != length {
            self.file.set_len(length)?;
            self.file.seek(SeekFrom::Start(length))?;
            self.written = length;
            self.begun = self.begun.min(length);
        }
        Ok(())
    }
}

impl Write for EarlyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        if self.written - self.begun >= STEP {
            self.sync();
        }
        Ok(written)
    }

    /// Also tells what went wrong on the way to the disk.
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.wait()
    }
}

impl Drop for EarlyFile {
    fn drop(&mut self) {
        // Whoever needs the file has flushed it.
        drop(self.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_and_cut_is_what_the_file_has() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut file = EarlyFile::new(File::create(&path).unwrap());
        let block = vec![7; 3 << 20];
        for _ in 0..7 {
            file.write_all(&block).unwrap();
        }
        file.cut(10 << 20).unwrap();
        file.cut(10 << 20).unwrap();
        file.write_all(b"end").unwrap();
        file.flush().unwrap();
        // It can be gone on with.
        file.write_all(&vec![8; 9 << 20]).unwrap();
        drop(file);
        let expected = [vec![7; 10 << 20], b"end".to_vec(), vec![8; 9 << 20]].concat();
        assert!(std::fs::read(&path).unwrap() == expected);
    }

    /// A file that takes bytes and cannot be synced: a pipe.
    #[test]
    fn an_error_on_the_way_to_the_disk_is_told_in_the_end() {
        let (reader, writer) = std::io::pipe().unwrap();
        let reading = std::thread::spawn(move || io::copy(&mut &reader, &mut io::sink()).unwrap());
        let mut file = EarlyFile::new(File::from(std::os::fd::OwnedFd::from(writer)));
        file.write_all(&vec![0; 20 << 20]).unwrap();
        assert_eq!(file.flush().unwrap_err().kind(), io::ErrorKind::InvalidInput);
        drop(file);
        assert_eq!(reading.join().unwrap(), 20 << 20);
    }
}
