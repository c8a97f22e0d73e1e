//! Copies contents into a layer's pack while further files are placed: for a processor the one is about as much work as the other.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::layer::PackWriter;
use crate::tree::Content;

/// Most files that wait, open, to be copied.
const WAITING: usize = 128;

/// A pack, and the thread that writes it while files are placed.
pub(super) struct Packing {
    writer: Arc<Mutex<PackWriter<File>>>,
    thread: Option<Thread>,
}

struct Thread {
    files: SyncSender<(Content, File)>,
    handle: JoinHandle<io::Result<()>>,
}

impl Packing {
    pub fn new(writer: PackWriter<File>) -> Self {
        Self { writer: Arc::new(Mutex::new(writer)), thread: None }
    }

    /// Lets a thread write what is [added](Self::add) from now on, until the [writer](Self::writer) is asked for.
    pub fn begin(&mut self) {
        let (files, received) = sync_channel(WAITING);
        let writer = Arc::clone(&self.writer);
        let thread = std::thread::Builder::new().name("pack".to_owned());
        // Where no thread can be had, it is done here.
        let handle = thread.spawn(move || copy(&writer, &received)).ok();
        self.thread = handle.map(|handle| Thread { files, handle });
    }

    /// Adds what `file` holds, wherever that is read next, unless it is there.
    ///
    /// # Errors
    /// When this file, or one before, cannot be read, or the pack cannot be written.
    pub fn add(&mut self, content: Content, file: File) -> io::Result<()> {
        let Some(thread) = &self.thread else { return lock(&self.writer).add_file(content, &file) };
        match thread.files.send((content, file)) {
            Ok(()) => Ok(()),
            Err(_) => self.wait(),
        }
    }

    /// The pack, with all that was added.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn writer(&mut self) -> io::Result<MutexGuard<'_, PackWriter<File>>> {
        self.wait()?;
        Ok(lock(&self.writer))
    }

    /// Makes all of it readable and gives the place of each content.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn places(&mut self) -> io::Result<BTreeMap<Content, u64>> {
        self.writer()?.flush().cloned()
    }

    fn wait(&mut self) -> io::Result<()> {
        let Some(Thread { files, handle }) = self.thread.take() else { return Ok(()) };
        drop(files);
        handle.join().unwrap_or_else(|_| Err(io::Error::other("the thread that writes the pack ended early")))
    }
}

impl Drop for Packing {
    fn drop(&mut self) {
        // Whoever needs the pack has asked for its places.
        drop(self.wait());
    }
}

fn lock(writer: &Mutex<PackWriter<File>>) -> MutexGuard<'_, PackWriter<File>> {
    writer.lock().unwrap_or_else(PoisonError::into_inner)
}

fn copy(writer: &Mutex<PackWriter<File>>, files: &Receiver<(Content, File)>) -> io::Result<()> {
    let mut writer = lock(writer);
    while let Ok((content, file)) = files.recv() {
        writer.add_file(content, &file)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::FileExt as _;

    use super::*;

    fn file(bytes: &[u8]) -> (Content, File) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        (Content::of(bytes), file)
    }

    #[test]
    fn what_is_added_with_a_thread_or_without_is_in_the_pack_once() {
        let pack = tempfile::tempfile().unwrap();
        let mut packing = Packing::new(PackWriter::new(pack.try_clone().unwrap(), Arc::default()));
        let texts: Vec<_> = (0..500).map(|number| format!("text {}", number / 2).into_bytes()).collect();
        for (round, texts) in texts.chunks(125).enumerate() {
            if round % 2 == 1 {
                packing.begin();
            }
            for text in texts {
                let (content, file) = file(text);
                packing.add(content, file).unwrap();
            }
            let more = packing.writer().unwrap().add(format!("more {round}").as_bytes()).unwrap();
            assert_eq!(more.size, 6);
        }
        let places = packing.places().unwrap();
        assert_eq!(places.len(), 254);
        for (content, place) in places {
            let mut bytes = vec![0; usize::try_from(content.size).unwrap()];
            pack.read_exact_at(&mut bytes, place).unwrap();
            assert_eq!(Content::of(&bytes), content);
        }
    }

    #[test]
    fn an_error_of_the_thread_is_told() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut packing = Packing::new(PackWriter::new(full, Arc::default()));
        packing.begin();
        // So many that adding meets it, and not only the end.
        let met = (0_u32..10_000).find_map(|number| {
            let (content, file) = file(&[number.to_le_bytes(); 1000].concat());
            packing.add(content, file).err()
        });
        assert_eq!(met.unwrap().kind(), io::ErrorKind::StorageFull);

        let mut packing = Packing::new(PackWriter::new(tempfile::tempfile().unwrap(), Arc::default()));
        packing.begin();
        let (mut content, file) = file(b"short");
        content.size += 1;
        packing.add(content, file).unwrap();
        assert_eq!(packing.places().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
