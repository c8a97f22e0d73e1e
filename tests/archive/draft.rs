//! Archives that were begun before it was known what they would be.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use build_images::archive::{Cut, Draft, Source, Summary, warm, write_on};
use build_images::digest::Sha256;
use build_images::progress::Silent;
use build_images::store::{Kind, Store};
use build_images::tree::{Content, Contents};

use crate::support::{EPOCH, SMALL, Sample, noise, store};

/// An output that stays at hand, with so much room.
#[derive(Clone)]
pub struct Out {
    bytes: Rc<RefCell<Vec<u8>>>,
    room: Rc<RefCell<usize>>,
}

impl Out {
    pub fn new() -> Self {
        Self { bytes: Rc::default(), room: Rc::new(RefCell::new(usize::MAX)) }
    }

    pub fn written(&self) -> usize {
        self.bytes.borrow().len()
    }

    pub fn take(&self) -> Vec<u8> {
        self.bytes.take()
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.room.borrow().saturating_sub(self.bytes.borrow().len());
        if left == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = left.min(bytes.len());
        self.bytes.borrow_mut().extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Cut for Out {
    fn cut(&mut self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).unwrap();
        assert!(length <= self.bytes.borrow().len());
        self.bytes.borrow_mut().truncate(length);
        Ok(())
    }
}

pub fn finish(sample: &Sample, store: &Store, draft: Draft<Out>) -> io::Result<Summary> {
    let (tree, contents, head, layers) = (&sample.tree, &sample.contents, &sample.head, &sample.layers);
    let source = Source { tree, contents, head, mtime: EPOCH, layers };
    write_on(&source, store, &SMALL, 2, ("test", &Silent), || Some(draft)).map_err(io::Error::other)
}

fn sample(edited: Option<&str>) -> Sample {
    let mut sample = Sample::new();
    let mut owned = Vec::new();
    for number in 0..60 {
        let name = format!("usr/share/{number:02}");
        let seed = if edited == Some(&name) { 1000 } else { number };
        sample.file(&name, noise(seed, 7000));
        owned.push(name);
    }
    sample.own("package", &owned.iter().map(String::as_str).collect::<Vec<_>>());
    sample.file("etc/a", noise(if edited == Some("etc/a") { 1001 } else { 100 }, 3000));
    if edited == Some("head") {
        sample.head[0].bytes.push(b'#');
    }
    sample
}

#[test]
fn what_a_draft_has_right_is_kept_and_the_rest_is_cut_off() {
    let never = AtomicBool::new(false);
    for edited in [None, Some("head"), Some("usr/share/00"), Some("usr/share/59"), Some("etc/a")] {
        let (_keep, other) = store();
        let (expected, bytes) = sample(edited).write(&other, &SMALL, 1).unwrap();
        // How much of the last archive there is by then, and on how full a disk.
        for (part, room) in [(0, usize::MAX), (3, usize::MAX), (99, usize::MAX), (99, 100_000), (99, 0)] {
            let (_keep, store) = store();
            let (last, _) = sample(None).write(&store, &SMALL, 1).unwrap();
            let out = Out::new();
            let mut draft = Draft::new(out.clone());
            *out.room.borrow_mut() = room;
            draft.follow(&store, &last.keys[..part.min(last.keys.len())], &never);
            let drafted = out.written();
            assert!(drafted <= room && (part == 0 || room == 0 || drafted > 0));
            *out.room.borrow_mut() = usize::MAX;
            let summary = finish(&sample(edited), &store, draft).unwrap();
            assert_eq!(out.take(), bytes, "{edited:?} {part} {room}");
            let new = summary.keys.iter().filter(|key| !last.keys.contains(key)).count();
            assert_eq!(summary, Summary { compressed: new, ..expected.clone() });
            assert_eq!(summary.sha256, Sha256::of(&bytes));
        }
    }
}

/// Whoever is at the draft may have to finish a large frame first.
#[test]
fn frames_are_made_while_the_draft_is_waited_for() {
    let (_keep, store) = store();
    let (sample, out) = (sample(None), Out::new());
    let Sample { tree, contents, head, layers } = &sample;
    let source = Source { tree, contents, head, mtime: EPOCH, layers };
    let mut made = false;
    let draft = || {
        for _ in 0..1000 {
            made = fs::read_dir(store.root().join("frames")).is_ok_and(|mut frames| frames.next().is_some());
            if made {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(Draft::new(out.clone()))
    };
    let summary = write_on(&source, &store, &SMALL, 1, ("test", &Silent), draft).unwrap();
    assert!(made);
    assert_eq!(summary.sha256, Sha256::of(out.take()));
}

#[test]
fn a_draft_follows_another_lead_and_stops_when_told() {
    let (_keep, store) = store();
    let (first, _) = sample(None).write(&store, &SMALL, 1).unwrap();
    let (second, bytes) = sample(Some("usr/share/30")).write(&store, &SMALL, 1).unwrap();
    let out = Out::new();
    let mut draft = Draft::new(out.clone());
    draft.follow(&store, &first.keys, &AtomicBool::new(true));
    assert_eq!(out.written(), 0);
    let never = AtomicBool::new(false);
    draft.follow(&store, &first.keys, &never);
    let all = out.written();
    draft.follow(&store, &second.keys, &never);
    assert_eq!(*out.bytes.borrow(), bytes[..out.written()]);
    // A frame that is not there ends it.
    draft.follow(&store, &[first.keys[0], Sha256::of("no frame"), first.keys[1]], &never);
    assert!(out.written() < all / 10);
    let summary = finish(&sample(None), &store, draft).unwrap();
    assert_eq!((summary.sha256, summary.compressed), (first.sha256, 0));
    assert_eq!(Sha256::of(out.take()), first.sha256);
}

#[test]
fn a_damaged_frame_is_not_drafted() {
    let (_keep, store) = store();
    let (last, bytes) = sample(None).write(&store, &SMALL, 1).unwrap();
    let path = store.path(Kind::Frame, last.keys[2]);
    let mut frame = fs::read(&path).unwrap();
    *frame.last_mut().unwrap() ^= 1;
    fs::write(&path, frame).unwrap();
    let out = Out::new();
    let mut draft = Draft::new(out.clone());
    draft.follow(&store, &last.keys, &AtomicBool::new(false));
    let before: u64 = last.table.frames[..2].iter().map(|frame| frame.size).sum();
    assert_eq!(out.written() as u64, before);
    assert_eq!(store.take_damaged().len(), 1);
    assert_eq!(finish(&sample(None), &store, draft).unwrap().compressed, 1);
    assert_eq!(out.take(), bytes);
}

/// The file of each frame and state in `store`, with what is in it.
fn kept(store: &Store) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(store.root().join("frames")).unwrap();
    entries.map(|entry| entry.unwrap().path()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Also where the archive then has no such frame, or keeps no state there.
#[test]
fn damage_that_was_met_does_not_stay() {
    let mut sample = sample(None);
    sample.layers.insert("package".to_owned(), 0);
    let (_keep, store) = store();
    let stop = AtomicBool::new(false);
    // It keeps a state where it is stopped.
    let contents = Stopping { contents: &sample.contents, left: AtomicUsize::new(13), stop: &stop };
    let (tree, head, layers) = (&sample.tree, &sample.head, &sample.layers);
    let source = Source { tree, contents: &contents, head, mtime: EPOCH, layers };
    warm(&source, &store, &SMALL, 1, &stop, &mut Draft::new(Out::new())).unwrap();
    let is_state = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "state");
    let states = kept(&store).into_keys().filter(is_state).count();
    assert!(states > 0);
    // An archive that will not come.
    let (other, _) = self::sample(Some("usr/share/00")).write(&store, &SMALL, 1).unwrap();
    let (_keep, elsewhere) = self::store();
    let (expected, _) = sample.write(&elsewhere, &SMALL, 1).unwrap();
    let foreign = other.keys.iter().find(|key| !expected.keys.contains(key)).unwrap();
    let foreign = store.path(Kind::Frame, foreign);
    let mut damaged = kept(&store);
    damaged.retain(|path, _| is_state(path) || *path == foreign);
    for (path, bytes) in &mut damaged {
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    }
    let mut draft = Draft::new(Out::new());
    draft.follow(&store, &other.keys, &AtomicBool::new(false));
    finish(&sample, &store, draft).unwrap();
    let said = store.take_damaged().into_iter().map(|damage| damage.name).collect::<BTreeSet<_>>();
    let met = |path: &PathBuf| said.contains(path.file_stem().unwrap().to_str().unwrap());
    assert!(damaged.keys().filter(|path| is_state(path) && met(path)).count() >= states);
    assert!(met(&foreign));
    let now = kept(&store);
    for (path, bytes) in damaged.iter().filter(|(path, _)| met(path)) {
        assert_ne!(now.get(path), Some(bytes), "{}", path.display());
    }
}

/// Contents that set a flag when so many were read.
struct Stopping<'a> {
    contents: &'a dyn Contents,
    left: AtomicUsize,
    stop: &'a AtomicBool,
}

impl Contents for Stopping<'_> {
    fn read(&self, content: &Content) -> io::Result<Vec<u8>> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.contents.read(content)
    }
}

/// To take up the tar's hash again, frames that were made would have to be decompressed.
#[test]
fn who_works_ahead_hashes_what_it_has_made_before_it_stops() {
    let mut sample = sample(None);
    sample.layers.insert("package".to_owned(), 0);
    let (_keep, other) = store();
    let (expected, bytes) = sample.write(&other, &SMALL, 1).unwrap();
    let mut counts = BTreeSet::new();
    for (left, threads) in [(4, 1), (12, 1), (13, 2), (25, 3), (38, 3), (39, 4)] {
        let (_keep, store) = store();
        let stop = AtomicBool::new(false);
        let contents = Stopping { contents: &sample.contents, left: AtomicUsize::new(left), stop: &stop };
        let (tree, head, layers) = (&sample.tree, &sample.head, &sample.layers);
        let source = Source { tree, contents: &contents, head, mtime: EPOCH, layers };
        let out = Out::new();
        let mut draft = Draft::new(out.clone());
        let made = warm(&source, &store, &SMALL, threads, &stop, &mut draft).unwrap();
        assert!(made.len() < expected.keys.len() - 1, "{left}: it did not stop");
        counts.insert(made.len());
        for key in &made {
            store.remove(Kind::Frame, *key).unwrap();
        }
        let summary = finish(&sample, &store, draft).unwrap();
        assert_eq!(out.take(), bytes);
        assert_eq!(summary, Summary { compressed: expected.keys.len() - made.len(), ..expected.clone() });
        assert!(!made.iter().any(|key| store.contains(Kind::Frame, *key)), "{left}: one was made again");
    }
    assert!(counts.len() > 2, "{counts:?}");
}

/// Whoever wants to write the archive has no use for what comes then, and waits for it.
#[test]
fn who_works_ahead_begins_nothing_after_a_large_frame_during_which_it_is_stopped() {
    let mut sample = sample(None);
    sample.file("usr/share/99", noise(99, 9 << 20));
    sample.own("whole", &["usr/share/99"]);
    sample.layers.extend(["package", "whole"].map(|package| (package.to_owned(), 0)));
    let (_keep, store) = store();
    let stop = AtomicBool::new(false);
    // Two lists, then the large file: its frame is begun before its turn.
    let contents = Stopping { contents: &sample.contents, left: AtomicUsize::new(3), stop: &stop };
    let (tree, head, layers) = (&sample.tree, &sample.head, &sample.layers);
    let source = Source { tree, contents: &contents, head, mtime: EPOCH, layers };
    let out = Out::new();
    let mut draft = Draft::new(out.clone());
    let made = warm(&source, &store, &SMALL, 1, &stop, &mut draft).unwrap();
    assert_eq!((made.len(), out.written()), (1, 0));
    let (_keep, other) = self::store();
    let (expected, bytes) = sample.write(&other, &SMALL, 1).unwrap();
    let largest = expected.keys.iter().position(|key| made.contains(key)).unwrap();
    assert!(largest > 10 && expected.table.frames[largest].tar_size > 9 << 20);
    let summary = finish(&sample, &store, draft).unwrap();
    assert_eq!(summary, Summary { compressed: expected.keys.len() - 1, ..expected });
    assert_eq!(out.take(), bytes);
}
