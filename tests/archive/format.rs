//! Each rule of Proxmox's extraction, shown with the programs it uses.

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use build_images::archive::{ArchiveError, MemberFault, Parameters, Summary, read};
use build_images::tree::{Content, Kind, Node, TreeText};

use crate::common::require;
use crate::support::{EPOCH, Sample, path, store};

/// Capabilities of version 2: `cap_net_raw=ep`.
const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// An access control list in the kernel's form: version, then tag, permissions and id of each entry.
const ACCESS_LIST: [u8; 44] = [
    2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 5, 0, 255, 255, 255, 255, 8, 0, 5, 0, 4, 0, 0, 0, 16,
    0, 5, 0, 255, 255, 255, 255, 32, 0, 5, 0, 255, 255, 255, 255,
];

fn run(program: &str, arguments: &[&str], input: Option<&[u8]>) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").env("TZ", "UTC");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.unwrap_or_default().to_vec();
    let feeder = std::thread::spawn(move || {
        // A program that has seen enough closes its end.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

fn text(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{}: {errors}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn available(program: &str) -> bool {
    require(program, Command::new(program).arg("--version").output().is_ok())
}

/// Everything that an image may hold, in an order that is not the archive's.
fn everything() -> Sample {
    let mut sample = Sample::new();
    sample.file("usr/share/text", "hello\n");
    sample.file("usr/share/empty", "");
    sample.put("usr/bin/ping", capable());
    sample.contents.insert(Content::of(b"ping").sha256, b"ping".to_vec());
    sample.hardlink("usr/bin/a-ping", "usr/bin/ping");
    sample.hardlink("etc/ping", "usr/bin/ping");
    sample.put("usr/bin/link", Node::symlink("../../etc/hostname", EPOCH).owned_by(7, 8));
    sample.put("usr/share/pipe", Node { kind: Kind::Fifo, ..Node::directory(0o600, EPOCH) });
    sample.put("usr/share/high", Node::directory(0o2775, EPOCH).owned_by(65535, 950));
    sample.put("usr/share/sticky", Node::directory(0o1777, EPOCH));
    sample.file("usr/bin/su", "su");
    sample.tree.get_mut(&path("usr/bin/su")).unwrap().mode = 0o4755;
    let mut attributed = sample.tree[&path("usr/share/text")].clone();
    attributed.xattrs.insert("user.note".into(), b"a\0b\n=c".to_vec());
    sample.put("usr/share/attributed", attributed);
    // user::rwx,group::r-x,group:4:r-x,mask::r-x,other::r-x, as on /var/log/journal.
    let mut listed = Node::directory(0o755, EPOCH);
    listed.xattrs.insert("system.posix_acl_default".into(), ACCESS_LIST.to_vec());
    listed.xattrs.insert("system.posix_acl_access".into(), ACCESS_LIST.to_vec());
    sample.put("usr/share/listed", listed);
    let (deep, name) = ("d".repeat(120), "n".repeat(200));
    let directory = format!("usr/share/{deep}");
    sample.put(&directory, Node::directory(0o755, EPOCH));
    sample.file(&format!("{directory}/short"), "s");
    sample.file(&format!("{directory}/{name}"), "long");
    sample.put("usr/share/far", Node::symlink(format!("/{directory}/{name}"), EPOCH));
    sample.put("usr/share/old", Node { mtime: -1, ..sample.tree[&path("usr/share/text")].clone() });
    sample.file("usr/share/caf\u{e9}", "utf-8");
    sample.own("tools", &["usr/bin/su", "usr/share/text"]);
    sample.file("var/lib/dpkg/status", "Package: tools\n");
    sample
}

fn capable() -> Node {
    let mut node = Node::file(Content::of(b"ping"), 0o755, EPOCH);
    node.xattrs.insert("security.capability".into(), NET_RAW.to_vec());
    node
}

fn written(sample: &Sample) -> (Summary, Vec<u8>) {
    let (_directory, store) = store();
    sample.write(&store, &Parameters::default(), 2).unwrap()
}

#[test]
fn gnu_tar_lists_exactly_the_tree_with_the_configuration_first() {
    if !available("tar") || !available("zstd") {
        return;
    }
    let sample = everything();
    let (_, bytes) = written(&sample);
    let names = text(&run("tar", &["--quoting-style=literal", "--zstd", "-tf", "-"], Some(&bytes)));
    let names: Vec<_> = names.lines().collect();
    assert_eq!(&names[..2], ["./etc/vzdump/pct.conf", "./"]);
    assert!(names.iter().all(|name| name.starts_with("./")), "{names:?}");

    // No duplicates, nothing lost, nothing added.
    let mut found: Vec<_> = names[2..].iter().map(|name| path(name)).collect();
    found.sort();
    assert_eq!(found, sample.tree.keys().cloned().collect::<Vec<_>>());

    // Parents first, a file before its further names.
    let place = |name: &str| names.iter().position(|other| other.trim_end_matches('/') == name).unwrap();
    for name in &names[2..] {
        let name = name.trim_end_matches('/');
        let parent = &name[..name.rfind('/').unwrap()];
        assert!(parent == "." || place(parent) < place(name), "{name}");
    }
    assert!(place("./usr/bin/ping") < place("./usr/bin/a-ping"));
    assert!(place("./usr/bin/ping") < place("./etc/ping"));
}

#[test]
fn proxmox_finds_the_configuration_as_it_looks_for_it() {
    if !available("tar") || !available("zstd") {
        return;
    }
    let (_, bytes) = written(&everything());
    let file = tempfile::Builder::new().suffix(".tar.zst").tempfile().unwrap();
    std::fs::write(&file, bytes).unwrap();
    let name = file.path().to_str().unwrap();
    // Both commands without a compression option, as in facts about recover_config.
    let first = text(&run("tar", &["tf", name], None)).lines().next().unwrap().to_owned();
    assert_eq!(first, "./etc/vzdump/pct.conf");
    let config = run("tar", &["-xpOf", name, &first, "--occurrence"], None);
    assert_eq!(String::from_utf8(config.stdout).unwrap(), "arch: amd64\n");
}

#[test]
fn headers_say_what_the_tree_says_and_nothing_of_the_builder() {
    if !available("tar") || !available("zstd") {
        return;
    }
    let (_, bytes) = written(&everything());
    let arguments = ["--numeric-owner", "--full-time", "--zstd", "-tvf", "-"];
    let list = text(&run("tar", &arguments, Some(&bytes)));
    let line = |name: &str| {
        let line = list.lines().find(|line| line.split_whitespace().nth(5) == Some(name));
        line.unwrap_or_else(|| panic!("{name} in {list}")).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let time = "2023-11-14 22:13:20";
    assert_eq!(line("./etc/vzdump/pct.conf"), format!("-rw-r--r-- 0/0 12 {time} ./etc/vzdump/pct.conf"));
    assert_eq!(line("./"), format!("drwxr-xr-x 0/0 0 {time} ./"));
    assert_eq!(line("./usr/share/high/"), format!("drwxrwsr-x 65535/950 0 {time} ./usr/share/high/"));
    assert_eq!(line("./usr/share/sticky/"), format!("drwxrwxrwt 0/0 0 {time} ./usr/share/sticky/"));
    assert_eq!(line("./usr/bin/su"), format!("-rwsr-xr-x 0/0 2 {time} ./usr/bin/su"));
    assert_eq!(line("./usr/share/pipe"), format!("prw------- 0/0 0 {time} ./usr/share/pipe"));
    assert_eq!(
        line("./usr/bin/link"),
        format!("lrwxrwxrwx 7/8 0 {time} ./usr/bin/link -> ../../etc/hostname")
    );
    assert_eq!(line("./etc/ping"), format!("hrwxr-xr-x 0/0 0 {time} ./etc/ping link to ./usr/bin/ping"));
    assert_eq!(line("./usr/share/old"), "-rw-r--r-- 0/0 6 1969-12-31 23:59:59 ./usr/share/old");

    // Names of users are empty: with --numeric-owner off, GNU tar would show them.
    let named = text(&run("tar", &["--zstd", "-tvf", "-"], Some(&bytes)));
    assert!(named.lines().all(|line| {
        line.split_whitespace().nth(1).unwrap().bytes().all(|b| b == b'/' || b.is_ascii_digit())
    }));
}

#[test]
fn pax_headers_stand_only_where_a_plain_header_does_not_do() {
    if !available("zstd") {
        return;
    }
    let mut sample = everything();
    // The tar crate, which reads here, takes a newline for the end of a record.
    let attributed = sample.tree.get_mut(&path("usr/share/attributed")).unwrap();
    attributed.xattrs.insert("user.note".into(), b"plain".to_vec());
    let (_, bytes) = written(&sample);
    let tar = run("zstd", &["-dc"], Some(&bytes)).stdout;
    let mut archive = tar::Archive::new(&tar[..]);
    let mut with_records = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().username_bytes().unwrap(), b"");
        assert_eq!(entry.header().groupname_bytes().unwrap(), b"");
        let keys: Vec<_> = entry
            .pax_extensions()
            .unwrap()
            .into_iter()
            .flatten()
            .map(|r| r.unwrap().key().unwrap().to_owned())
            .collect();
        assert!(keys.is_sorted());
        if !keys.is_empty() {
            let name = String::from_utf8_lossy(&entry.path_bytes()).chars().take(20).collect::<String>();
            with_records.push(format!("{name} {}", keys.join(",")));
        }
    }
    with_records.sort();
    let expected = [
        "./usr/bin/ping SCHILY.xattr.security.capability",
        "./usr/share/attribut SCHILY.xattr.user.note",
        // A directory whose own name is too long, and a file with such a name in it.
        "./usr/share/dddddddd path",
        "./usr/share/dddddddd path",
        "./usr/share/far linkpath",
        "./usr/share/listed/ SCHILY.acl.access,SCHILY.acl.default",
        "./usr/share/old mtime",
    ];
    assert_eq!(with_records, expected);
}

#[test]
fn zstd_reads_it_as_one_stream_within_proxmox_limits() {
    if !available("zstd") {
        return;
    }
    let mut sample = everything();
    // Larger than the window, so that the frame header has to name one.
    sample.file(
        "usr/share/large",
        (0..40_u32 << 18)
            .flat_map(|n| n.wrapping_mul(2654435761).to_le_bytes()[3..].to_vec())
            .collect::<Vec<_>>(),
    );
    let (_directory, store) = store();
    let parameters = Parameters { window_log: 27, level: 1, ..Parameters::default() };
    let (summary, bytes) = sample.write(&store, &parameters, 2).unwrap();
    text(&run("zstd", &["-t", "-q"], Some(&bytes)));
    // The default limit of `zstd -d` is 128 MiB; say it outright.
    let tar = run("zstd", &["-dc", "--memory=128MB"], Some(&bytes));
    assert!(tar.status.success());
    assert_eq!(build_images::digest::Sha256::of(&tar.stdout), summary.table.tar_sha256);
    assert_eq!(tar.stdout.len() as u64, summary.table.tar_size);
    assert!(tar.stdout.ends_with(&[0; 1024]));
    let bad = sample.write(&store, &Parameters { window_log: 28, ..parameters }, 1);
    assert!(matches!(bad, Err(ArchiveError::Parameter { .. })));
}

#[test]
fn libarchive_reads_it_too() {
    if !available("bsdtar") {
        return;
    }
    let sample = everything();
    let (_, bytes) = written(&sample);
    let names = text(&run("bsdtar", &["-tf", "-"], Some(&bytes)));
    assert_eq!(names.lines().count(), sample.tree.len() + 2);
}

/// What Proxmox's own code prints for an unprivileged container.
fn extract(bytes: &[u8], root: &Path) -> Output {
    let arguments = "-m u:0:100000:65536 -m g:0:100000:65536 -- tar xpf - --zstd --totals --one-file-system -p --sparse \
        --numeric-owner --acls --xattrs --xattrs-include=user.* --xattrs-include=security.capability \
        --warning=no-file-ignored --warning=no-xattr-write -C";
    let mut arguments: Vec<_> = arguments.split_whitespace().collect();
    arguments.push(root.to_str().unwrap());
    arguments.extend(["--skip-old-files", "--anchored", "--exclude", "./dev/*"]);
    run("lxc-usernsexec", &arguments, Some(bytes))
}

/// Whether this user may map the ids that Proxmox maps, onto a new root.
fn extraction_root() -> Option<tempfile::TempDir> {
    let ids = std::fs::read_to_string("/etc/subuid").is_ok_and(|text| text.contains("root:100000:65536"));
    let is_root = rustix::process::geteuid().is_root();
    let program = Command::new("lxc-usernsexec").arg("--help").output().is_ok();
    if !require("lxc-usernsexec as root with subordinate ids 100000:65536", ids && is_root && program) {
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let root = directory.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::os::unix::fs::chown(&root, Some(100_000), Some(100_000)).unwrap();
    Some(directory)
}

#[test]
fn proxmox_command_line_restores_every_entry_as_it_was() {
    let Some(directory) = extraction_root() else { return };
    let root = directory.path().join("root");
    let sample = everything();
    let (_, bytes) = written(&sample);
    let output = extract(&bytes, &root);
    let errors = String::from_utf8_lossy(&output.stderr);
    // Of the one entry from before 1970 GNU tar warns; an image has none.
    let expected =
        |line: &str| line.starts_with("Total bytes read") || line.contains("implausibly old time stamp");
    assert!(output.status.success() && errors.lines().all(expected), "{errors}");

    let config = std::fs::read_to_string(root.join("etc/vzdump/pct.conf")).unwrap();
    assert_eq!(config, "arch: amd64\n");
    for (path, node) in &sample.tree {
        let real = root.join(path.as_path());
        let found = std::fs::symlink_metadata(&real).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!((found.uid(), found.gid()), (node.uid + 100_000, node.gid + 100_000), "{path}");
        if !matches!(node.kind, Kind::Symlink { .. }) {
            assert_eq!(found.mode() & 0o7777, node.mode, "{path}");
        }
        match &node.kind {
            Kind::Directory => assert!(found.is_dir()),
            Kind::Fifo => assert!(found.file_type().is_fifo()),
            Kind::Symlink { target: TreeText(target) } => {
                let link = std::fs::read_link(&real).unwrap();
                assert_eq!(link.as_os_str().as_encoded_bytes(), target);
            }
            Kind::File { content } => {
                assert_eq!(std::fs::read(&real).unwrap(), sample.contents[&content.sha256]);
                assert_eq!(found.mtime(), node.mtime, "{path}");
            }
            Kind::Hardlink { target } => {
                let first = std::fs::metadata(root.join(target.as_path())).unwrap();
                assert_eq!(first.ino(), found.ino());
            }
        }
    }
    let mut note = [0; 16];
    let length = rustix::fs::getxattr(root.join("usr/share/attributed"), "user.note", &mut note).unwrap();
    assert_eq!(&note[..length], b"a\0b\n=c");
    for name in ["system.posix_acl_access", "system.posix_acl_default"] {
        let mut list = [0; 64];
        let length = rustix::fs::getxattr(root.join("usr/share/listed"), name, &mut list).unwrap();
        // Seen from the host, the group is that of the container shifted.
        let mut expected = ACCESS_LIST;
        expected[24..28].copy_from_slice(&(100_000_u32 + 4).to_le_bytes());
        assert_eq!(list[..length], expected, "{name}");
    }
    // Version 3 now, with the id of the container's root.
    let mut capability = [0; 24];
    let length =
        rustix::fs::getxattr(root.join("usr/bin/ping"), "security.capability", &mut capability).unwrap();
    if length == 24 {
        assert_eq!(capability[3], 3);
        assert_eq!(u32::from_le_bytes(*capability[20..].first_chunk().unwrap()), 100_000);
    } else {
        panic!("capabilities were restored as {length} bytes");
    }
}

#[test]
fn what_proxmox_could_not_restore_is_refused_with_its_name() {
    let base = Sample::new;
    let file = |mode, uid| Node { mode, uid, ..Node::file(Content::of(b""), 0, EPOCH) };
    let mut cases: Vec<(Sample, &str, MemberFault)> = Vec::new();
    let mut case = |name: &'static str, node: Node, fault: MemberFault| {
        let mut sample = base();
        sample.contents.insert(Content::of(b"").sha256, Vec::new());
        sample.put(name, node);
        cases.push((sample, name, fault));
    };
    let with = |name: &str, value: &[u8]| {
        let mut node = file(0o644, 0);
        node.xattrs.insert(name.to_owned(), value.to_vec());
        node
    };
    case("etc/x", file(0o644, 65536), MemberFault::Id { what: "owner", id: 65536 });
    case("etc/x", file(0o644, 0).owned_by(0, 100_000), MemberFault::Id { what: "group", id: 100_000 });
    case("etc/x", file(0o10644, 0), MemberFault::Mode(0o10644));
    case("nowhere/x", file(0o644, 0), MemberFault::NoParent(path("nowhere")));
    case("dev/null", file(0o644, 0), MemberFault::BelowDev);
    case("etc/vzdump/pct.conf", file(0o644, 0), MemberFault::Twice);
    case("etc", Node::directory(0o750, EPOCH), MemberFault::HeadParent);
    case("etc", Node::directory(0o755, EPOCH).owned_by(1, 0), MemberFault::HeadParent);
    case("etc/vzdump", file(0o755, 0), MemberFault::HeadParent);
    case("etc/x", with("trusted.x", b""), MemberFault::Attribute("trusted.x".into()));
    let list = "system.posix_acl_access";
    case("etc/x", with(list, &ACCESS_LIST[..40]), MemberFault::AccessList(list.into()));
    case("etc/x", with("user.a=b", b""), MemberFault::Attribute("user.a=b".into()));
    case("etc/x", with("security.capability", b"short"), MemberFault::Capability);
    let mut shifted = [&NET_RAW[..], &100_000_u32.to_le_bytes()].concat();
    shifted[3] = 3;
    case("etc/x", with("security.capability", &shifted), MemberFault::Capability);
    let target = path("etc/none");
    let link = Node { kind: Kind::Hardlink { target: target.clone() }, ..file(0o644, 0) };
    case("etc/x", link, MemberFault::LinkTarget(target));
    case("etc/x", Node::symlink("", EPOCH), MemberFault::SymlinkTarget);
    let huge = Content { size: 1 << 33, ..Content::of(b"") };
    case("etc/x", Node::file(huge, 0o644, EPOCH), MemberFault::Size(1 << 33));

    let (_directory, store) = store();
    for (sample, name, fault) in cases {
        match sample.write(&store, &Parameters::default(), 1) {
            Err(ArchiveError::Member(error)) => assert_eq!((error.path, error.fault), (path(name), fault)),
            other => panic!("{name}, {fault}: {other:?}"),
        }
    }
}

#[test]
fn capabilities_of_the_namespace_root_become_version_2() {
    let mut sample = Sample::new();
    let mut node = capable();
    let mut version_3 = [&NET_RAW[..], &[0; 4]].concat();
    version_3[3] = 3;
    node.xattrs.insert("security.capability".into(), version_3);
    sample.contents.insert(Content::of(b"ping").sha256, b"ping".to_vec());
    sample.put("usr/bin/ping", node);
    let (_, bytes) = written(&sample);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, bytes).unwrap();
    let archive = read(file.path(), &[]).unwrap();
    assert_eq!(archive.tree[&path("usr/bin/ping")].xattrs["security.capability"], NET_RAW);
}

#[test]
fn the_reader_gives_back_the_tree() {
    let sample = everything();
    let (summary, bytes) = written(&sample);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, bytes).unwrap();
    let config = path("etc/vzdump/pct.conf");
    let mut archive = read(file.path(), std::slice::from_ref(&config)).unwrap();
    assert_eq!(archive.order[0], config);
    assert_eq!(archive.kept[&config], b"arch: amd64\n");
    assert_eq!(archive.table.as_ref(), Some(&summary.table));
    assert_eq!((archive.sha256, archive.size), (summary.sha256, summary.size));
    assert_eq!(archive.tar_sha256, summary.table.tar_sha256);
    archive.tree.remove(&config);
    let mut expected = sample.tree.clone();
    for node in expected.values_mut().filter(|node| matches!(node.kind, Kind::Hardlink { .. })) {
        node.xattrs.clear();
    }
    assert_eq!(archive.tree, expected);
}
