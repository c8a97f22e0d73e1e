//! Attacks on packages between lock and image: in the store, in the lock, inside the .deb.

use std::fs;

use build_images::apt::lockfile::Lock;
use build_images::digest::Sha256;

use crate::support::deb::{Compression, Deb, ar, xz};
use crate::world::World;

fn victim() -> Vec<Deb> {
    vec![Deb::new("victim", "1.0").file("/usr/share/victim/data", "the data of the victim")]
}

/// The stored .deb is changed, and the layer made of the good one is gone.
fn tampered(world: &World) -> (Sha256, Sha256) {
    let base = world.layers();
    world.build().built();
    let expected = world.served.locked_packages()[0].sha256;
    let path = world.store().join("debs").join(expected.to_string());
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, &bytes).unwrap();
    for layer in world.layers().difference(&base) {
        fs::remove_dir_all(world.store().join("layers").join(layer)).unwrap();
    }
    fs::remove_dir_all(world.project().join("result")).unwrap();
    (expected, Sha256::of(&bytes))
}

#[test]
fn a_package_changed_in_the_store_is_noticed_and_fetched_again() {
    let Some(world) = World::new(victim(), "") else { return };
    let (expected, found) = tampered(&world);
    let path = world.served.deb("victim");
    assert_eq!(world.served.server.count(&path), 1);
    let run = world.build();
    assert_eq!(world.tar(&run).text("./usr/share/victim/data"), "the data of the victim");
    assert_eq!(world.served.server.count(&path), 2);
    for part in
        ["is damaged: expected SHA-256 ", "; it is fetched again", &expected.to_string(), &found.to_string()]
    {
        assert!(run.stderr.contains(part), "{part} is missing in\n{}", run.stderr);
    }
}

#[test]
fn a_package_changed_in_the_store_that_nobody_has_fails_the_build() {
    let Some(world) = World::new(victim(), "") else { return };
    let (expected, found) = tampered(&world);
    world.served.server.remove(&world.served.deb("victim"));
    let layers = world.layers();
    let run = world.build();
    let error = run.error();
    for part in ["victim", "1.0", "does not have it (status 404)"] {
        assert!(error.contains(part), "{part} is missing in\n{error}");
    }
    for part in [expected, found] {
        assert!(run.stderr.contains(&part.to_string()), "{part} is missing in\n{}", run.stderr);
    }
    world.expect_nothing_left(&layers);
}

#[test]
fn a_lock_edited_by_hand_is_refused() {
    let Some(world) = World::new(victim(), "") else { return };
    let layers = world.layers();
    let text = fs::read_to_string(world.lock_path()).unwrap();
    fs::write(world.lock_path(), text.replace("victim_1.0", "victim_1.1")).unwrap();
    let run = world.build();
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("images.lock"), "{}", run.stderr);
    assert!(run.stderr.contains("changed by hand"), "{}", run.stderr);
    assert_eq!(world.served.server.requests(), []);
    world.expect_nothing_left(&layers);
}

/// Writes a lock with a good seal in which the victim's row is changed.
fn forged(world: &World, change: impl Fn(&mut build_images::apt::lockfile::LockedPackage)) {
    let mut lock: Lock = world.lock.clone();
    change(lock.package.iter_mut().find(|package| package.name == "victim").unwrap());
    world.write_lock(&lock);
}

#[test]
fn another_hash_in_a_resealed_lock_is_refused() {
    let Some(world) = World::new(victim(), "") else { return };
    let layers = world.layers();
    let (expected, found) = (Sha256::of("another"), world.served.locked_packages()[0].sha256);
    forged(&world, |package| package.sha256 = expected);
    let error = world.build().error().to_owned();
    for part in ["victim", "1.0", &format!("expected SHA-256 {expected}, found {found}")] {
        assert!(error.contains(part), "{part} is missing in\n{error}");
    }
    world.expect_nothing_left(&layers);
}

#[test]
fn another_package_under_a_locked_hash_is_refused() {
    let Some(world) = World::new(victim(), "") else { return };
    let layers = world.layers();
    let other = Deb::new("other", "2.0").build().bytes;
    world.served.server.put(&world.served.deb("victim"), other.clone());
    forged(&world, |package| (package.sha256, package.size) = (Sha256::of(&other), other.len() as u64));
    let error = world.build().error().to_owned();
    assert!(error.contains("package `victim`: expected Package `victim`, found `other`"), "{error}");
    world.expect_nothing_left(&layers);
}

#[test]
fn a_path_out_of_the_archive_in_a_resealed_lock_is_refused() {
    let Some(world) = World::new(victim(), "") else { return };
    let layers = world.layers();
    for path in ["../../../etc/passwd", "/etc/passwd", "pool/%2e%2e/%2e%2e/x.deb", "http://example.org/x.deb"]
    {
        forged(&world, |package| path.clone_into(&mut package.path));
        let run = world.build();
        assert!(matches!(run.code, Some(1 | 2)), "{}", run.stderr);
        assert!(run.stderr.contains("victim"), "{path}: {}", run.stderr);
        world.expect_nothing_left(&layers);
    }
    assert_eq!(world.served.server.requests().iter().filter(|r| r.path.contains("passwd")).count(), 0);
}

/// A frame of zstd that is `length` zero bytes, in blocks that repeat one byte.
fn zeros(length: u64) -> Vec<u8> {
    let block = 1 << 17;
    // Magic, a frame without a size, a window of 128 KiB.
    let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3];
    let blocks = length / block;
    for index in 0..blocks {
        let header = (block as u32) << 3 | 1 << 1 | u32::from(index + 1 == blocks);
        bytes.extend(&header.to_le_bytes()[..3]);
        bytes.push(0);
    }
    bytes
}

/// A .deb of `victim` with this data archive.
fn with_data(name: &str, data: Vec<u8>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let control = Deb::new("victim", "1.0").build().control;
    let mut header = tar::Header::new_gnu();
    header.set_size(control.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "./control", control.as_bytes()).unwrap();
    let control = xz(&builder.into_inner().unwrap());
    ar(&[
        ("debian-binary".to_owned(), b"2.0\n".to_vec()),
        ("control.tar.xz".to_owned(), control),
        (name.to_owned(), data),
    ])
}

/// The header of a file in a tar.
fn tar_header(size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path("bomb").unwrap();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn bombs_are_refused_by_the_package_that_has_them() {
    let mut archive = zstd::encode_all(tar_header(40 << 30).as_slice(), 3).unwrap();
    archive.extend(zeros(40 << 30));
    // Zeros in front of a file end a tar; what follows is not read by everybody, and has no end here.
    let mut trailing = zstd::encode_all([0; 1024].as_slice(), 3).unwrap();
    trailing.extend(zeros(40 << 30));
    let mut endless_control = ar(&[("debian-binary".to_owned(), b"2.0\n".to_vec())]);
    endless_control.extend(&ar(&[("control.tar.zst".to_owned(), archive.clone())])[8..]);
    endless_control.extend(&ar(&[("data.tar.xz".to_owned(), xz(&[0; 1024]))])[8..]);
    let mut announced = ar(&[("debian-binary".to_owned(), b"2.0\n".to_vec())]);
    announced.extend(
        format!("{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", "control.tar", 0, 0, 0, 100644, 9_999_999_999_u64)
            .bytes(),
    );
    let declared = [tar_header(60 << 30), vec![b'x'; 4096]].concat();
    let bombs = [
        ("a file that expands", with_data("data.tar.zst", archive)),
        ("zeros behind the end", with_data("data.tar.zst", trailing)),
        ("a control archive that expands", endless_control),
        ("a file said to be larger than it is", with_data("data.tar", declared)),
        ("a member said to be larger than it is", announced),
        ("no member at all", b"!<arch>\n".to_vec()),
    ];
    let Some(world) = World::new(victim(), "") else { return };
    let layers = world.layers();
    for (what, bomb) in bombs {
        world.served.server.put(&world.served.deb("victim"), bomb.clone());
        forged(&world, |package| (package.sha256, package.size) = (Sha256::of(&bomb), bomb.len() as u64));
        let begun = std::time::Instant::now();
        let error = world.build().error().to_owned();
        assert!(error.contains("package `victim`: "), "{what}: {error}");
        assert!(begun.elapsed().as_secs() < 60, "{what} took {:?}", begun.elapsed());
        world.expect_nothing_left(&layers);
    }
}

#[test]
fn members_of_a_package_cannot_lead_out_of_the_image() {
    let node = |kind, link: &str, path: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        if !link.is_empty() {
            header.set_link_name_literal(link).unwrap();
        }
        header
    };
    use tar::EntryType::{Block, Char, Link, Regular};
    let hostile = [
        ("a path with `..`", node(Regular, "", b"./usr/../../../../etc/escaped")),
        ("a hard link out", node(Link, "../../../../etc/passwd", b"./etc/stolen")),
        ("a hard link to the host", node(Link, "/proc/1/root/etc/passwd", b"./etc/stolen")),
        ("a character device", node(Char, "", b"./usr/share/null")),
        ("a block device", node(Block, "", b"./usr/share/disk")),
    ];
    for (what, header) in hostile {
        let deb = Deb::new("victim", "1.0").compression(Compression::Gzip).raw(header, "");
        let Some(world) = World::new(vec![deb], "") else { return };
        let layers = world.layers();
        let error = world.build().error().to_owned();
        assert!(error.contains("package `victim`"), "{what}: {error}");
        world.expect_nothing_left(&layers);
    }
}
