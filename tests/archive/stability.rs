//! What an edit costs: which frames change, what is compressed again, and that nothing else decides the bytes.

use std::collections::BTreeSet;
use std::fs;

use build_images::archive::{Draft, Parameters, ReadError, Summary, TableError, read};
use build_images::digest::Sha256;
use build_images::store::{Kind, Store};
use build_images::tree::Node;
use proptest::prelude::*;

use crate::draft::{Out, finish};
use crate::support::{EPOCH, SMALL, Sample, noise, path, store};

/// 60 packages of some files each, 300 loose files, one large file of no package.
fn sample() -> Sample {
    let mut sample = Sample::new();
    for package in 0..60_u64 {
        let name = format!("package-{package:02}");
        sample.put(&format!("usr/share/{name}"), Node::directory(0o755, EPOCH));
        let files: Vec<_> =
            (0..package % 7 + 1).map(|file| format!("usr/share/{name}/file-{file}")).collect();
        for (index, file) in files.iter().enumerate() {
            let seed = package * 100 + index as u64;
            sample.file(file, noise(seed, 500 + (seed as usize * 7919) % 9000));
        }
        sample.own(&name, &files.iter().map(String::as_str).collect::<Vec<_>>());
    }
    for file in 0..300_u64 {
        sample.file(&format!("etc/file-{file:03}"), noise(file + 77_777, (file as usize * 131) % 1500));
    }
    sample.file("var/lib/large", noise(9, 300 << 10));
    sample
}

fn changed(before: &Summary, after: &Summary) -> usize {
    let known: BTreeSet<_> = before.table.frames.iter().map(|frame| frame.sha256).collect();
    after.table.frames.iter().filter(|frame| !known.contains(&frame.sha256)).count()
}

#[test]
fn threads_and_the_store_do_not_change_a_byte() {
    let sample = sample();
    let (_keep, first) = store();
    let (summary, bytes) = sample.write(&first, &SMALL, 1).unwrap();
    assert!(summary.table.frames.len() > 10, "{}", summary.table.frames.len());
    assert_eq!(summary.compressed, summary.table.frames.len() - 1);
    for threads in [2, 3, 8] {
        let (_keep, other) = store();
        assert!(sample.write(&other, &SMALL, threads).unwrap().1 == bytes, "{threads} threads");
    }
    let (again, same) = sample.write(&first, &SMALL, 2).unwrap();
    assert_eq!(again.compressed, 0);
    assert_eq!(again.table, summary.table);
    assert!(same == bytes);
    assert_eq!(Sha256::of(&bytes), summary.sha256);
}

#[test]
fn an_edited_file_changes_one_frame() {
    let before = sample();
    let (_keep, store) = store();
    let (first, _) = before.write(&store, &SMALL, 2).unwrap();
    for (name, length) in
        [("etc/file-100", 20), ("etc/file-200", 1400), ("usr/share/package-05/file-1", 4000)]
    {
        let mut edited = before.clone();
        edited.file(name, noise(1, length));
        let (second, bytes) = edited.write(&store, &SMALL, 2).unwrap();
        assert!(second.compressed <= 2, "{name}: {}", second.compressed);
        assert!(changed(&first, &second) <= 2, "{name}");
        // The hash of the tar comes from kept states here; it is that of the bytes all the same.
        let tar = zstd::stream::decode_all(&bytes[..]).unwrap();
        assert_eq!(Sha256::of(&tar), second.table.tar_sha256);
    }
}

#[test]
fn an_updated_package_changes_its_own_frames_and_the_lists() {
    let before = sample();
    let (_keep, store) = store();
    let (first, _) = before.write(&store, &SMALL, 2).unwrap();
    let mut updated = before.clone();
    for (path, node) in &mut updated.tree {
        if path.as_path().starts_with("usr/share/package-41") {
            node.mtime += 1000;
        }
    }
    let (second, _) = updated.write(&store, &SMALL, 2).unwrap();
    // Directories, and the package, which may lie across a cut.
    assert!(changed(&first, &second) <= 3, "{}", changed(&first, &second));
}

#[test]
fn a_damaged_frame_or_state_is_made_anew() {
    let sample = sample();
    let (directory, store) = store();
    let (_, bytes) = sample.write(&store, &SMALL, 2).unwrap();
    let frames = directory.path().join(Kind::Frame.directory());
    let names: Vec<_> = fs::read_dir(&frames).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(names.len() > 10);
    for (index, name) in names.iter().enumerate() {
        let mut stored = fs::read(name).unwrap();
        match index % 4 {
            0 => stored.truncate(stored.len() / 2),
            1 => stored.clear(),
            _ => {
                let at = (index * 7919) % stored.len();
                stored[at] ^= 1 << (index % 8);
            }
        }
        fs::write(name, stored).unwrap();
    }
    let (summary, same) = sample.write(&store, &SMALL, 2).unwrap();
    assert!(same == bytes);
    assert_eq!(summary.compressed, summary.table.frames.len() - 1);
    assert_eq!(sample.write(&store, &SMALL, 2).unwrap().0.compressed, 0);
}

#[test]
fn contents_that_fail_end_the_build_with_an_error() {
    let mut sample = sample();
    let (_keep, store) = store();
    let gone = *sample.contents.keys().next().unwrap();
    sample.contents.remove(&gone);
    let error = sample.write(&store, &SMALL, 2).unwrap_err();
    assert!(error.to_string().contains(&gone.to_string()), "{error}");
}

#[test]
fn a_full_disk_ends_the_build_with_an_error() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let sample = sample();
    let (_keep, store) = store();
    let source = build_images::archive::Source {
        tree: &sample.tree,
        contents: &sample.contents,
        head: &sample.head,
        mtime: EPOCH,
        layers: &sample.layers,
    };
    let quiet = ("test", &build_images::progress::Silent as &dyn build_images::progress::Reporter);
    for room in [0, 10_000, 200_000] {
        let error = build_images::archive::write(&source, &store, &SMALL, 2, quiet, Full(room)).unwrap_err();
        assert!(error.to_string().starts_with("cannot write the archive"), "{error}");
    }
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let mut small = Sample::new();
    small.file("etc/a", noise(1, 3000));
    small.file("etc/b", noise(2, 3000));
    let (_keep, store) = store();
    let (_, bytes) = small.write(&store, &SMALL, 1).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, &bytes).unwrap();
    read(file.path(), &[]).unwrap();
    let mut undetected = Vec::<usize>::new();
    for at in (0..bytes.len()).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(&file, &damaged).unwrap();
        if read(file.path(), &[]).is_ok_and(|archive| archive.table.is_some()) {
            undetected.push(at);
        }
    }
    assert!(undetected.is_empty(), "{undetected:?}");
    for length in [0, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&file, &bytes[..length]).unwrap();
        assert!(!read(file.path(), &[]).is_ok_and(|archive| archive.table.is_some()), "{length}");
    }
}

#[test]
fn a_frame_that_another_content_replaced_is_named() {
    let (_keep, store) = store();
    let (summary, mut bytes) = sample().write(&store, &SMALL, 2).unwrap();
    let at: u64 = summary.table.frames[..5].iter().map(|frame| frame.size).sum();
    bytes[at as usize + 20] ^= 1;
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, &bytes).unwrap();
    match read(file.path(), &[]) {
        Err(ReadError::Frame { index: 6, .. }) => {}
        other => panic!("{other:?}"),
    }
    let end = bytes.len() - 1;
    fs::write(&file, &bytes[..end]).unwrap();
    let table = build_images::archive::read_table(&mut fs::File::open(&file).unwrap());
    assert!(matches!(table, Err(TableError::Absent)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the tree, one inserted, removed or edited file leaves nearly all frames as they are, and the archive
    /// holds exactly the tree.
    #[test]
    fn one_change_in_a_random_tree_touches_few_frames(
        sizes in proptest::collection::vec(0_usize..6000, 200..400),
        at in any::<prop::sample::Index>(),
        kind in 0..3,
        length in 0_usize..6000,
    ) {
        let mut before = Sample::new();
        for (index, size) in sizes.iter().enumerate() {
            before.file(&format!("etc/{:x}", Sha256::of(index.to_le_bytes()).as_bytes()[0] as usize * 1000 + index), noise(index as u64, *size));
        }
        let mut after = before.clone();
        let names: Vec<_> = before.tree.keys().filter(|p| p.as_bytes().starts_with(b"etc/")).cloned().collect();
        let name = at.get(&names);
        match kind {
            0 => drop(after.tree.remove(name)),
            1 => after.file(&format!("{name}-new"), noise(1 << 40, length)),
            _ => after.file(&name.to_string(), noise(1 << 41, length)),
        }
        let (_keep, store) = store();
        // Loose files are cut eight times finer.
        let parameters = Parameters { max_frame: 512 << 10, min_frame: 64 << 10, ..SMALL };
        let (first, _) = before.write(&store, &parameters, 2).unwrap();
        let (second, bytes) = after.write(&store, &parameters, 2).unwrap();
        prop_assert!(first.table.frames.len() > 6);
        prop_assert!(changed(&first, &second) <= 4, "{} of {}", changed(&first, &second), second.table.frames.len());
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, &bytes).unwrap();
        let mut archive = read(file.path(), &[]).unwrap();
        archive.tree.remove(&path("etc/vzdump/pct.conf"));
        prop_assert_eq!(archive.tree, after.tree);
    }
}

/// Two images on one layer: what belongs to its packages is in the same frames, whatever else each has.
#[test]
fn images_on_one_layer_have_its_frames_in_common() {
    let base = |sample: &mut Sample| {
        for number in 0..40 {
            let name = format!("base-{number}");
            let file = format!("usr/share/{name}");
            sample.file(&file, noise(number, 3000));
            sample.own(&name, &[&file]);
            sample.layers.insert(name, 0);
        }
    };
    let image = |prefix: &str, count: u64| {
        let mut sample = Sample::new();
        base(&mut sample);
        for number in 0..count {
            // Names that would stand between those of the base.
            let name = format!("base-{number}-{prefix}");
            let file = format!("usr/bin/{name}");
            sample.file(&file, noise(1000 + number, 2000));
            sample.own(&name, &[&file]);
            sample.layers.insert(name, 1);
        }
        sample
    };
    let (_keep, store) = store();
    let (one, _) = image("one", 30).write(&store, &SMALL, 2).unwrap();
    let (other, _) = image("other", 7).write(&store, &SMALL, 2).unwrap();
    let common = one.keys.iter().filter(|key| other.keys.contains(key)).count();
    let bytes: u64 = 40 * 3000;
    assert!(
        common as u64 >= bytes / SMALL.max_frame,
        "{common} of {} and {}",
        one.keys.len(),
        other.keys.len()
    );

    // Warmed ahead, the lower layer's frames are those of the archive.
    let (_keep, store) = crate::support::store();
    let mut lower = Sample::new();
    base(&mut lower);
    let source = build_images::archive::Source {
        tree: &lower.tree,
        contents: &lower.contents,
        head: &lower.head,
        mtime: EPOCH,
        layers: &lower.layers,
    };
    let stop = std::sync::atomic::AtomicBool::new(false);
    let out = Out::new();
    let mut draft = Draft::new(out.clone());
    let warmed = build_images::archive::warm(&source, &store, &SMALL, 2, &stop, &mut draft).unwrap();
    let states = |store: &Store| {
        let names = fs::read_dir(store.root().join(Kind::Frame.directory())).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".state")).collect::<BTreeSet<_>>()
    };
    let early = states(&store);
    assert!(out.written() > 0);
    let again = finish(&image("one", 30), &store, draft).unwrap();
    let bytes = out.take();
    // So are the states of the tar's hash, but for the one at the end of what was warmed.
    assert!(early.len() > 2);
    let used = again.keys.iter().filter(|key| warmed.contains(key)).count();
    assert_eq!((used, again.compressed), (warmed.len(), again.keys.len() - used));
    assert!(!warmed.is_empty());
    let (_keep, store) = crate::support::store();
    assert_eq!(bytes, image("one", 30).write(&store, &SMALL, 1).unwrap().1);
    assert_eq!(early.difference(&states(&store)).count(), 1);
}

/// Which layer a directory stands with must not put it behind what it holds.
/// What a tar has below /usr, in its order.
fn below_usr(tar: &[u8]) -> String {
    let mut archive = tar::Archive::new(tar);
    let names = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
    names.filter(|name| name.starts_with("./usr/")).collect::<Vec<_>>().join("\n")
}

#[test]
fn directories_stand_before_what_they_hold() {
    let mut sample = Sample::new();
    for (package, layer) in [("lower", 0), ("upper", 1)] {
        sample.layers.insert(package.to_owned(), layer);
    }
    for directory in ["usr/a", "usr/a/b", "usr/a/b/c", "usr/d", "usr/e", "usr/e/f", "usr/g"] {
        sample.put(directory, Node::directory(0o755, EPOCH));
    }
    for file in ["usr/a/b/c/lower", "usr/d/upper", "usr/e/f/none", "usr/e/f/lower"] {
        sample.file(file, noise(file.len() as u64, 100));
    }
    sample.hardlink("usr/g/link", "usr/e/f/lower");
    // No package has the directories above; the upper one has one of those below which the lower one has a file.
    sample.own("lower", &["usr/a/b/c/lower", "usr/e/f/lower"]);
    sample.own("upper", &["usr/d", "usr/d/upper", "usr/a/b"]);
    let (_keep, store) = store();
    let (_, bytes) = sample.write(&store, &SMALL, 2).unwrap();
    let tar = zstd::decode_all(bytes.as_slice()).unwrap();
    insta::assert_snapshot!(below_usr(&tar), @r"
    ./usr/
    ./usr/a/
    ./usr/a/b/
    ./usr/a/b/c/
    ./usr/e/
    ./usr/e/f/
    ./usr/g/
    ./usr/a/b/c/lower
    ./usr/e/f/lower
    ./usr/g/link
    ./usr/d/
    ./usr/d/upper
    ./usr/bin/
    ./usr/share/
    ./usr/e/f/none
    ");
}

/// So what was made and hashed before the scripts ran is right as far as possible.
#[test]
fn what_scripts_change_most_often_stands_late_in_its_layer() {
    let made = |configured: bool, adjusted: bool, recipe: bool| {
        let mut sample = Sample::new();
        for (package, layer) in [("adjusted", 0), ("configured", 0), ("plain", 0), ("upper", 1)] {
            sample.layers.insert(package.to_owned(), layer);
        }
        let own = if configured { 0o700 } else { 0o755 };
        let empty = Node::directory(own, EPOCH);
        sample.put("usr/empty", empty);
        for directory in ["usr/for-recipe", "usr/for-upper"] {
            sample.put(directory, Node::directory(0o755, EPOCH));
        }
        sample.file("usr/bin/configured", noise(if configured { 1 } else { 2 }, 60_000));
        sample.file("usr/bin/plain", noise(3, 60_000));
        sample.file("usr/for-upper/upper", noise(4, 100));
        sample.own("configured", &["usr/bin/configured"]);
        sample.file("var/lib/dpkg/info/configured.postinst", "#!/bin/sh\n");
        sample.file("usr/bin/adjusted", noise(6, 60_000));
        let node = sample.tree[&path("usr/bin/adjusted")].clone();
        sample.put("usr/bin/adjusted", Node { mode: if adjusted { 0o2755 } else { 0o755 }, ..node });
        sample.own("adjusted", &["usr/bin/adjusted"]);
        sample.file("var/lib/dpkg/info/adjusted.postinst", "#!/bin/sh\nchmod 2755 /usr/bin/adjusted\n");
        sample.own("plain", &["usr/bin", "usr/bin/plain", "usr/empty", "usr/for-recipe", "usr/for-upper"]);
        sample.own("upper", &["usr/for-upper", "usr/for-upper/upper"]);
        if recipe {
            sample.file("usr/for-recipe/file", noise(5, 100));
        }
        let (_keep, store) = store();
        let (summary, bytes) = sample.write(&store, &SMALL, 1).unwrap();
        (summary, zstd::decode_all(bytes.as_slice()).unwrap())
    };
    let (after, tar) = made(true, true, true);
    let same_as_after = |before: Summary| {
        let same = before.keys.iter().zip(&after.keys).take_while(|(key, other)| key == other).count();
        let size: u64 = after.table.frames[..same].iter().map(|frame| frame.tar_size).sum();
        (after.keys.len() - same, size)
    };
    insta::assert_snapshot!(below_usr(&tar), @r"
    ./usr/
    ./usr/bin/
    ./usr/bin/plain
    ./usr/bin/configured
    ./usr/bin/adjusted
    ./usr/empty/
    ./usr/for-recipe/
    ./usr/for-upper/
    ./usr/for-upper/upper
    ./usr/share/
    ./usr/for-recipe/file
    ");
    // The plain package's frames are the same before the scripts ran.
    let (left, size) = same_as_after(made(false, false, true).0);
    assert!(left > 0 && size > 60_000, "{size} bytes, {left} frames left");
    // And nearly all, where they only give a program another mode.
    let (left, size) = same_as_after(made(true, false, true).0);
    assert!(left > 0 && size > 120_000, "{size} bytes, {left} frames left");
    // A recipe's file moves no directory of a layer, though it was empty before.
    let (left, size) = same_as_after(made(true, true, false).0);
    assert!(left > 0 && size > 180_000, "{size} bytes, {left} frames left");
}
