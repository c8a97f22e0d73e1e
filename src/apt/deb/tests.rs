//! Good packages of every compression, and what must not get through.

use std::fs::File;
use std::io::{Read, Seek, Write};

use super::maker::{Compression as Packed, Deb as Maker};
use super::*;

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

/// The paths of all members, their contents read.
fn paths(bytes: &[u8]) -> Result<Vec<String>, DebError> {
    let deb = Deb::open(file(bytes))?;
    deb.control()?;
    let mut members = Deb::members(deb.data()?);
    let mut paths = Vec::new();
    while let Some(member) = members.next_member()? {
        members.read_content(&member)?;
        paths.extend(member.path.map(|path| path.to_string()));
    }
    Ok(paths)
}

fn message(bytes: &[u8]) -> String {
    paths(bytes).unwrap_err().to_string()
}

fn header(path: &str, kind: ::tar::EntryType) -> ::tar::Header {
    let mut header = ::tar::Header::new_gnu();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_mtime(5);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[test]
fn every_compression_is_read() {
    for packed in [Packed::None, Packed::Gzip, Packed::Xz, Packed::Zstd] {
        let maker = Maker::new("a", "1").script("postinst", "#!/bin/sh\n").file("/srv/f", "content");
        let built = maker.compression(packed).build();
        let deb = Deb::open(file(&built.bytes)).unwrap();
        let control = deb.control().unwrap();
        assert_eq!(control.text, built.control);
        assert_eq!(control.file("postinst").unwrap().mode, 0o755);
        assert_eq!(paths(&built.bytes).unwrap(), ["/srv", "/srv/f"], "{packed:?}");
    }
}

#[test]
fn long_names_and_pax_records_are_read() {
    let long = format!("./srv/{}/{}", "d".repeat(90), "f".repeat(200));
    let pax = format!("path=./srv/{}\n", "p".repeat(150));
    let pax = format!("{} {pax}", pax.len() + 4);
    let package = Maker::new("a", "1")
        .raw(header("././@LongLink", ::tar::EntryType::GNULongName), format!("{long}\0"))
        .raw(header("cut", ::tar::EntryType::Regular), "x")
        .raw(header("./pax", ::tar::EntryType::XHeader), pax)
        .raw(header("cut", ::tar::EntryType::Regular), "x");
    let paths = paths(&package.build().bytes).unwrap();
    assert_eq!(paths, [long[1..].to_owned(), format!("/srv/{}", "p".repeat(150))]);
}

#[test]
fn outer_files_that_are_no_packages_are_refused() {
    let good = Maker::new("a", "1").file("/srv/f", "x").build().bytes;
    let with = |at: usize, text: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + text.len()].copy_from_slice(text);
        bytes
    };
    insta::assert_snapshot!(message(b"#!/bin/sh\nsomething"), @"not a Debian package: it does not begin with `!<arch>`");
    insta::assert_snapshot!(message(b"!<arch>\n"), @"not a Debian package: it has no `control.tar`");
    insta::assert_snapshot!(message(&good[..40]), @"not a Debian package: it ends before byte 8 can be read");
    insta::assert_snapshot!(message(&with(8, b"something-els")), @"not a Debian package: its first member is not `debian-binary`");
    insta::assert_snapshot!(message(&with(68, b"3")), @"not a Debian package: expected format `2.x`, found `3.0`");
    insta::assert_snapshot!(message(&with(56, b"-1")), @"not a Debian package: the member header at byte 8 has no valid length");
    insta::assert_snapshot!(message(&with(56, b"9999999999")), @"not a Debian package: `debian-binary` says it has 9999999999 bytes, 540 are left");
    insta::assert_snapshot!(message(&with(72, b"control.tar.bz2")), @"`control.tar.bz2` is not known; expected `.tar`, `.tar.gz`, `.tar.xz` or `.tar.zst`");
    insta::assert_snapshot!(message(&with(72, b"data.tar.xz    ")), @"not a Debian package: `data.tar` before `control.tar`");
    assert!(paths(&good[..good.len() - 30]).is_err());
    // Damage in the middle of the compressed data.
    assert!(paths(&with(good.len() - 60, &[0; 8])).is_err());
}

#[test]
fn members_that_no_package_may_have_are_refused() {
    let raw = |header, bytes: &[u8]| message(&Maker::new("a", "1").raw(header, bytes).build().bytes);
    let regular = ::tar::EntryType::Regular;
    insta::assert_snapshot!(raw(header("./../../etc/passwd", regular), b"x"), @"`data.tar`, member `./../../etc/passwd`: `./../../etc/passwd` is not a path below the root: it has a `.` or `..` component");
    insta::assert_snapshot!(raw(header("./dev/sda", ::tar::EntryType::Block), b""), @"`data.tar`, member `./dev/sda`: a device node; an unprivileged container cannot have one");
    insta::assert_snapshot!(raw(header("./x", ::tar::EntryType::new(b'S')), b""), @"`data.tar`, member `./x`: unknown member type `S`");
    insta::assert_snapshot!(raw(header("./x", ::tar::EntryType::XHeader), b"9 size=1\n"), @"`data.tar`, member `./x`: its size stands in a pax record");
    insta::assert_snapshot!(raw(header("./x", ::tar::EntryType::XHeader), b"99999 path=x\n"), @"`data.tar`, member `./x`: a pax record is damaged");
    let mut high = header("./x", regular);
    high.set_uid(100_000);
    insta::assert_snapshot!(raw(high, b""), @"`data.tar`, member `./x`: id 100000 is above 65535");
    let name = vec![b'n'; 2 << 20];
    insta::assert_snapshot!(raw(header("././@LongLink", ::tar::EntryType::GNULongName), &name), @"`data.tar`, member `././@LongLink`: an extended header is longer than 1 MiB");
    let mut link = header("./x", ::tar::EntryType::Symlink);
    link.set_size(0);
    insta::assert_snapshot!(raw(link, b""), @"`data.tar`, member `./x`: its link target is empty, too long, or has a NUL byte");
}

#[test]
fn control_files_with_other_names_are_refused() {
    let built = Maker::new("a", "1").control_file("../x", "").build();
    assert!(matches!(paths(&built.bytes), Err(DebError::Member { .. })));
    let built = Maker::new("a", "1").control_file("sub/x", "").build();
    insta::assert_snapshot!(message(&built.bytes), @"`control.tar.xz`, member `/sub/x`: only plain files may be here");
}

#[test]
fn bombs_end_at_a_limit() {
    // 40 MB of zeros take some 6 kB in xz, and less in zstd.
    for packed in [Packed::Xz, Packed::Zstd] {
        let bytes = vec![0; 40 << 20];
        let built = Maker::new("a", "1").file("/srv/zeros", bytes).compression(packed).build();
        let deb = Deb::open(file(&built.bytes)).unwrap();
        let mut read = 0;
        let mut data = deb.data().unwrap();
        let mut buffer = vec![0; 1 << 20];
        let error = loop {
            match data.read(&mut buffer) {
                Ok(0) => panic!("all of it came out"),
                Ok(length) => read += length,
                Err(error) => break error,
            }
        };
        assert!(read <= (16 << 20) + (1 << 20), "{read}");
        assert!(error.to_string().contains("unpacks to more than 16777216 bytes"), "{error}");
    }
}
