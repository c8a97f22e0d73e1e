use std::io::Write as _;

use super::*;
use crate::model::recipe::{Tarball, TarballEntry};

/// A tarball in memory.
struct Maker(tar::Builder<Vec<u8>>);

impl Maker {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Adds a member whose name is written as it is, however wrong.
    fn raw(mut self, name: &str, kind: u8, mode: u32, link: &str, bytes: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        let field = &mut header.as_mut_bytes()[..100];
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(mode);
        header.set_uid(2_000_000);
        header.set_gid(70_000);
        header.set_mtime(1_600_000_000);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        self.0.append(&header, bytes).unwrap();
        self
    }

    fn directory(self, name: &str) -> Self {
        self.raw(name, b'5', 0o775, "", b"")
    }

    fn file(self, name: &str, mode: u32, bytes: &[u8]) -> Self {
        self.raw(name, b'0', mode, "", bytes)
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(name, b'2', 0o777, target, b"")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn application() -> Maker {
    Maker::new()
        .directory("tool-1.0/")
        .directory("tool-1.0/bin/")
        .file("tool-1.0/bin/tool", 0o775, b"#!/bin/sh\n")
        .file("tool-1.0/README", 0o600, b"read me")
        .raw("tool-1.0/bin/alias", b'1', 0o775, "tool-1.0/bin/tool", b"")
        .symlink("tool-1.0/lib/current", "../bin/tool")
        .file("tool-1.0/lib/data/x", 0o644, b"x")
}

fn unpacked(bytes: &[u8]) -> Result<(Layer, tempfile::TempDir), TarballError> {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, bytes).unwrap();
    unpack(&store, &path, Sha256::of(bytes)).map(|layer| (layer, directory))
}

fn refusal(maker: Maker) -> String {
    unpacked(&maker.bytes()).unwrap_err().to_string()
}

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn recipe() -> Tarball {
    Tarball {
        name: "tool".to_owned(),
        url: "https://example.org/tool-1.0.tar.gz".to_owned(),
        sha256: Sha256::of(""),
        path: path("opt/tool"),
        strip: 1,
        only: Vec::new(),
        owner: "root".to_owned(),
        group: "root".to_owned(),
        set: Vec::new(),
    }
}

fn shown(selected: &[Selected]) -> String {
    let line = |one: &Selected| {
        let kind = match &one.node.kind {
            Kind::Directory => "directory".to_owned(),
            Kind::File { content } => format!("{} bytes", content.size),
            Kind::Symlink { target } => format!("-> {target:?}"),
            other => format!("{other:?}"),
        };
        format!("{} {:04o} {}:{} {kind}\n", one.path, one.node.mode, one.owner, one.group)
    };
    selected.iter().map(line).collect()
}

fn problems(result: Result<Vec<Selected>, Vec<SelectProblem>>) -> String {
    result.unwrap_err().iter().map(|problem| format!("{problem}\n")).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn every_compression_gives_the_same_members() {
    let plain = application().bytes();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    let forms =
        [gzip(&plain), xz.finish().unwrap(), zstd::encode_all(plain.as_slice(), 3).unwrap(), plain.clone()];
    for bytes in forms {
        let (layer, _directory) = unpacked(&bytes).unwrap();
        let tool = &layer.tree[&path("tool-1.0/bin/tool")];
        assert_eq!(layer.read(tool.content().unwrap()).unwrap(), b"#!/bin/sh\n");
        // Owners and times of whoever made it are gone; the second name of a file is one of its own.
        assert_eq!((tool.uid, tool.gid, tool.mtime), (0, 0, 0));
        assert_eq!(layer.tree[&path("tool-1.0/bin/alias")].content(), tool.content());
    }
}

#[test]
fn what_is_no_tarball_is_named() {
    let said = |bytes: &[u8]| unpacked(bytes).unwrap_err().to_string();
    insta::assert_snapshot!(said(b"BZh91AY"), @"it is compressed with bzip2; expected a tar archive, plain or compressed with gzip, xz or zstd");
    insta::assert_snapshot!(said(b"PK\x03\x04"), @"it is a zip archive; expected a tar archive, plain or compressed with gzip, xz or zstd");
    insta::assert_snapshot!(said(b"<!doctype html>"), @"it is a web page; expected a tar archive, plain or compressed with gzip, xz or zstd");
    insta::assert_snapshot!(said(b""), @"it is empty; expected a tar archive, plain or compressed with gzip, xz or zstd");
    insta::assert_snapshot!(said(&[b'x'; 2000]), @"`the tarball`, member `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx`: its header is damaged");
    let plain = application().bytes();
    let cut = gzip(&plain);
    insta::assert_snapshot!(said(&cut[..cut.len() / 2]), @"`the tarball` cannot be read: incomplete deflate stream");
    insta::assert_snapshot!(said(&plain[..2600]), @"`the tarball` cannot be read: unexpected end of file");
}

#[test]
fn members_that_would_reach_out_are_refused() {
    let one = |name: &str| refusal(Maker::new().file(name, 0o644, b"x"));
    insta::assert_snapshot!(one("/etc/passwd"), @"member `etc/passwd`: its name begins at the root of the file system");
    insta::assert_snapshot!(one("a/../../etc/passwd"), @"`the tarball`, member `a/../../etc/passwd`: `a/../../etc/passwd` is not a path below the root: it has a `.` or `..` component");
    insta::assert_snapshot!(refusal(Maker::new().symlink("a", "/etc").file("a/passwd", 0o644, b"x")), @"member `a/passwd`: it is below `a`, which is no directory");
    insta::assert_snapshot!(refusal(Maker::new().file("a/passwd", 0o644, b"x").symlink("a", "/etc")), @"member `a`: it is no directory, but others are below it");
    insta::assert_snapshot!(refusal(Maker::new().raw("a", b'1', 0o644, "etc/shadow", b"")), @"member `a`: it is a link to `etc/shadow`, which is no file before it");
    insta::assert_snapshot!(refusal(Maker::new().raw("a", b'1', 0o644, "../etc/shadow", b"")), @"`the tarball`, member `a`: `../etc/shadow` is not a path below the root: it has a `.` or `..` component");
    insta::assert_snapshot!(refusal(Maker::new().raw("a", b'3', 0o644, "", b"")), @"`the tarball`, member `a`: a device node; an unprivileged container cannot have one");
    insta::assert_snapshot!(refusal(Maker::new().raw("a", b'6', 0o644, "", b"")), @"member `a`: a named pipe, which no application ships");
    insta::assert_snapshot!(refusal(Maker::new().file("a", 0o644, b"x").file("a", 0o644, b"y")), @"member `a`: it is there twice");
    insta::assert_snapshot!(refusal(Maker::new().symlink("a", "b").directory("a")), @"member `a`: it is there twice");
}

#[test]
fn a_bomb_ends_early() {
    let zeros = vec![0; 64 << 20];
    let mut bytes = Maker::new().file("a", 0o644, &zeros).bytes();
    bytes = zstd::encode_all(bytes.as_slice(), 3).unwrap();
    assert!(bytes.len() < 50_000);
    insta::assert_snapshot!(unpacked(&bytes).unwrap_err(), @"`the tarball` unpacks to more than 16777216 bytes");
}

#[test]
fn a_recipe_takes_what_it_names() {
    let (layer, _directory) = unpacked(&application().bytes()).unwrap();
    insta::assert_snapshot!(shown(&select(&layer.tree, &recipe()).unwrap()), @"
    /README 0644 root:root 7 bytes
    /bin 0755 root:root directory
    /bin/alias 0755 root:root 10 bytes
    /bin/tool 0755 root:root 10 bytes
    /lib/current 0777 root:root -> ../bin/tool
    /lib/data/x 0644 root:root 1 bytes
    ");
    let own = TarballEntry {
        path: path("bin/tool"),
        owner: "tool".to_owned(),
        group: "video".to_owned(),
        mode: Some(0o2755),
    };
    let some = Tarball { only: vec![path("bin/tool"), path("lib/data")], set: vec![own], ..recipe() };
    insta::assert_snapshot!(shown(&select(&layer.tree, &some).unwrap()), @"
    /bin/tool 2755 tool:video 10 bytes
    /lib/data/x 0644 root:root 1 bytes
    ");
    let whole = Tarball { strip: 0, only: vec![path("tool-1.0/README")], ..recipe() };
    insta::assert_snapshot!(shown(&select(&layer.tree, &whole).unwrap()), @"/tool-1.0/README 0644 root:root 7 bytes");
}

#[test]
fn what_a_recipe_names_and_is_not_there_is_said_at_once() {
    let (layer, _directory) = unpacked(&application().bytes()).unwrap();
    let entry = |text: &str| TarballEntry {
        path: path(text),
        owner: "root".to_owned(),
        group: "root".to_owned(),
        mode: None,
    };
    let wrong = Tarball {
        only: vec![path("bin/tol"), path("tool"), path("share")],
        set: vec![entry("lib/data/y")],
        ..recipe()
    };
    insta::assert_snapshot!(problems(select(&layer.tree, &wrong)), @"
    `only` names `bin/tol`, which it does not have; is it `bin/tool`?
    `only` names `tool`, which it does not have; is it `bin/tool`?
    `only` names `share`, which it does not have
    `set` names `lib/data/y`, which it does not have; is it `lib/data/x`?
    ");
    let stripped = Tarball { strip: 9, ..recipe() };
    insta::assert_snapshot!(problems(select(&layer.tree, &stripped)), @"`strip = 9` leaves nothing of it; its names begin with `tool-1.0`");
    let (twice, _directory) =
        unpacked(&Maker::new().file("a/x", 0o644, b"1").file("b/x", 0o644, b"2").bytes()).unwrap();
    insta::assert_snapshot!(problems(select(&twice.tree, &recipe())), @"`strip = 1` gives two members the name `x`");
}

#[test]
fn links_that_lead_out_and_programs_with_rights_need_a_word() {
    let maker = Maker::new()
        .symlink("t/bin/absolute", "/usr/bin/env")
        .symlink("t/bin/good", "../lib/./x")
        .symlink("t/bin/out", "../../x")
        .symlink("t/bin/up", "lib/../../../x")
        .file("t/bin/root", 0o4755, b"x")
        .file("t/good", 0o755, b"x");
    let (layer, _directory) = unpacked(&maker.bytes()).unwrap();
    insta::assert_snapshot!(problems(select(&layer.tree, &recipe())), @r#"
    `bin/absolute` is a link to `/usr/bin/env`, which begins at the root: leave it out with `only`, and make the link with `[[link]]` if it is meant
    `bin/out` is a link to `../../x`, which leads out of the directory: leave it out with `only`, and make the link with `[[link]]` if it is meant
    `bin/root` has mode 4755: whoever runs it acts as its owner; leave it out with `only`, or say what mode it gets: `set = [{ path = "bin/root", mode = "4755" }]`
    `bin/up` is a link to `lib/../../../x`, which goes up again after going down: leave it out with `only`, and make the link with `[[link]]` if it is meant
    "#);
    // Whoever takes none of them need not care.
    let some = Tarball { only: vec![path("good"), path("bin/good")], ..recipe() };
    assert_eq!(select(&layer.tree, &some).unwrap().len(), 2);
    let asked = TarballEntry {
        path: path("bin/root"),
        owner: "root".to_owned(),
        group: "root".to_owned(),
        mode: Some(0o4755),
    };
    let some = Tarball { only: vec![path("bin/root")], set: vec![asked], ..recipe() };
    assert_eq!(select(&layer.tree, &some).unwrap()[0].node.mode, 0o4755);
}

#[test]
fn capabilities_need_a_word_too() {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions([("SCHILY.xattr.security.capability", &b"\x01\0\0\x02"[..])]).unwrap();
    let maker = Maker(builder).file("t/ping", 0o755, b"x");
    let (layer, _directory) = unpacked(&maker.bytes()).unwrap();
    assert!(problems(select(&layer.tree, &recipe())).starts_with("`ping` has capabilities: "));
}
