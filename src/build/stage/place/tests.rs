//! Every row of dpkg's rules for placing files, with the host's dpkg as the oracle where it can be.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::apt::deb::maker::Deb;
use crate::build::stage::database;
use crate::build::stage::install::unpack;
use crate::build::stage::job::StagePackage;
use crate::build::stage::known::Seen;
use crate::build::stage::loose::Unpacking;
use crate::build::stage::package::load_all;
use crate::digest::Sha256;
use crate::tree::Content;

/// Files are given to other owners here.
#[expect(clippy::print_stderr, reason = "the harness shows it with the test's result")]
fn can_run() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("BUILD_IMAGES_TEST_REQUIRE_ALL").is_none(), "root is missing");
        eprintln!("skipped, because root is missing");
    }
    root
}

/// A root of a bygone stage: usr-merged, with an empty dpkg database.
fn new_root() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    for path in ["usr/lib", "etc", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    symlink("usr/lib", root.join("lib")).unwrap();
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    directory
}

/// The members in pieces; the contents of every other one wait in memory.
fn each(mut unpacking: Unpacking<'_>) -> impl Iterator<Item = Result<Ready, Failure>> {
    let (mut buffer, mut opens, mut ended) = ([0; 7], false, false);
    std::iter::from_fn(move || {
        while !ended {
            match unpacking.step(&mut buffer, opens) {
                Ok(step) => {
                    ended = step.ends;
                    if let Some(ready) = step.ready {
                        opens = !opens;
                        return Some(Ok(ready));
                    }
                }
                Err(failure) => {
                    ended = true;
                    return Some(Err(failure));
                }
            }
        }
        None
    })
}

/// Gathers nothing.
struct Nobody;

impl Gather for Nobody {
    fn begin(&mut self) {}

    fn file(&mut self, file: fs::File, stat: &rustix::fs::Stat, seen: Seen) -> Result<(), Failure> {
        assert_eq!(u64::try_from(stat.st_size).unwrap(), seen.content.size);
        let mut bytes = vec![0; seen.content.size.try_into().unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(Content::of(&bytes), seen.content);
        Ok(())
    }

    fn package(&mut self) {}

    fn round(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn unpacked(&mut self, _: &Placed) -> Result<(), Failure> {
        Ok(())
    }
}

/// Unpacks packages in one round, in the given order.
fn place(root: &Path, packages: &[Deb]) -> Result<(), Failure> {
    let directory = rustix::fs::open(root, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
    let root = Root::new(directory).unwrap();
    let built = tempfile::tempdir().unwrap();
    let (mut wanted, mut files) = (Vec::new(), Vec::new());
    for package in packages {
        let bytes = package.build().bytes;
        let path = built.path().join(package.file_name());
        fs::write(&path, &bytes).unwrap();
        files.push(fs::File::open(path).unwrap());
        let (name, version) = (package.name.clone(), package.version.clone());
        let (architecture, sha256) = (package.architecture.clone(), Sha256::of(&bytes));
        wanted.push(StagePackage { name, version, architecture, sha256, size: bytes.len() as u64 });
    }
    let packages = load_all(&wanted, files)?;
    let packages: Vec<_> = packages.iter().collect();
    let mut owners = Owners::new(database::installed(&root)?);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let top = root.fd().try_clone().unwrap();
    unpack(&root, (&mut owners, &mut Placed::new(), &mut Nobody), "amd64", &packages, |package| {
        Ok(each(Unpacking::new(package, top.as_fd())))
    })
}

fn dpkg(root: &Path, arguments: &[&std::ffi::OsStr]) {
    let option = format!("--root={}", root.display());
    let output = Command::new("dpkg")
        .args([&option, "--force-unsafe-io", "--force-not-root", "--force-script-chrootless"])
        .args(arguments)
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What is at each path: type, mode, owner, time, content.
fn seen(root: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(root).unwrap().display().to_string();
        let metadata = entry.metadata().unwrap();
        let database = path.starts_with("var/lib/dpkg/");
        // dpkg's own files beside the database proper, and what only the newer dpkg of an image keeps.
        let ignored = ["status-old", "lock", "triggers/", "available", "arch", "parts", "alternatives"];
        let below = path.strip_prefix("var/lib/dpkg/").unwrap_or_default();
        if database && ignored.iter().any(|name| below.starts_with(name)) || path == "var/log" {
            continue;
        }
        let content = if metadata.is_file() {
            String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned()
        } else if metadata.is_symlink() {
            String::from_utf8_lossy(fs::read_link(entry.path()).unwrap().as_os_str().as_bytes()).into_owned()
        } else {
            String::new()
        };
        // What this test made itself is as old as the test; both roots need not be made in the same second.
        let now = std::time::SystemTime::now();
        let made_here = metadata.modified().is_ok_and(|time| time + Duration::from_secs(3600) > now);
        let mtime = if metadata.is_dir() || database || made_here { 0 } else { metadata.mtime() };
        let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
        let links = if metadata.is_dir() { 0 } else { metadata.nlink() };
        all.insert(path, format!("{mode:o} {uid}:{gid} {mtime} {links} {content}"));
    }
    all
}

/// Unpacks with this module and with dpkg, lets dpkg configure both, and compares everything.
fn as_dpkg(packages: &[Deb], prepare: impl Fn(&Path)) -> tempfile::TempDir {
    let (ours, theirs) = (new_root(), new_root());
    let built = tempfile::tempdir().unwrap();
    prepare(ours.path());
    prepare(theirs.path());
    place(ours.path(), packages).unwrap_or_else(|error| panic!("{error}"));
    for package in packages {
        let path = built.path().join(package.file_name());
        fs::write(&path, package.build().bytes).unwrap();
        dpkg(theirs.path(), &["--unpack".as_ref(), path.as_os_str()]);
    }
    for root in [&ours, &theirs] {
        dpkg(root.path(), &["--configure".as_ref(), "-a".as_ref()]);
    }
    let (found, expected) = (seen(ours.path()), seen(theirs.path()));
    for path in found.keys().chain(expected.keys()) {
        assert_eq!(found.get(path), expected.get(path), "{path}");
    }
    ours
}

fn list(root: &Path, package: &str) -> String {
    fs::read_to_string(root.join(format!("var/lib/dpkg/info/{package}.list"))).unwrap()
}

#[test]
fn the_first_creator_of_a_directory_wins() {
    if !can_run() {
        return;
    }
    let a = Deb::new("a", "1").directory("/srv/d", 0o750, (33, 33)).file("/srv/d/a", "a");
    let b = Deb::new("b", "1").directory("/srv/d", 0o755, (0, 0)).file("/srv/d/b", "b");
    let root = as_dpkg(&[a, b], |_| {});
    let metadata = fs::metadata(root.path().join("srv/d")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o750, 33));
    assert_eq!(list(root.path(), "b"), "/.\n/srv\n/srv/d\n/srv/d/b\n");
}

#[test]
fn a_directory_goes_through_a_link_that_is_there() {
    if !can_run() {
        return;
    }
    let package = Deb::new("a", "1").file("/lib/x/file", "x").file("/usr/lib/y", "y");
    let root = as_dpkg(&[package], |_| {});
    assert_eq!(fs::read(root.path().join("usr/lib/x/file")).unwrap(), b"x");
    assert!(root.path().join("lib").is_symlink());
    assert!(list(root.path(), "a").contains("/lib/x/file\n"));
}

#[test]
fn absolute_links_and_dots_stay_inside_the_root() {
    if !can_run() {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    let root = new_root();
    symlink(outside.path(), root.path().join("abs")).unwrap();
    symlink("../../../../../../../../../..", root.path().join("up")).unwrap();
    let error = place(root.path(), &[Deb::new("a", "1").file("/abs/file", "x")]).unwrap_err();
    assert!(matches!(error, Failure::Placing { .. }), "{error}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    // The top's parent is the top itself.
    let root = new_root();
    symlink("../../../../../../../../../..", root.path().join("up")).unwrap();
    place(root.path(), &[Deb::new("a", "1").file("/up/etc/file", "x")]).unwrap();
    assert_eq!(fs::read(root.path().join("etc/file")).unwrap(), b"x");
}

#[test]
fn a_link_does_not_take_the_place_of_a_directory() {
    if !can_run() {
        return;
    }
    let a = Deb::new("a", "1").directory("/srv/d", 0o755, (0, 0)).file("/srv/a", "");
    let b = Deb::new("b", "1").link("/srv/d", "elsewhere").link("/srv/l", "d");
    let root = as_dpkg(&[a, b], |_| {});
    assert!(!root.path().join("srv/d").is_symlink());
    assert!(list(root.path(), "b").contains("/srv/d\n"));
}

#[test]
fn replaced_paths_move_to_the_package_that_replaces_in_both_orders() {
    if !can_run() {
        return;
    }
    let a = Deb::new("a", "1.0").file("/srv/f", "a").file("/srv/only-a", "a");
    let b = Deb::new("b", "1").field("Replaces", "a (<< 2)").file("/srv/f", "b").file("/srv/only-b", "b");
    for order in [[a.clone(), b.clone()], [b.clone(), a.clone()]] {
        let root = as_dpkg(&order, |_| {});
        assert_eq!(fs::read(root.path().join("srv/f")).unwrap(), b"b");
        assert!(!list(root.path(), "a").contains("/srv/f\n"));
        assert!(list(root.path(), "b").contains("/srv/f\n"));
    }
    let mutual = a.clone().field("Replaces", "b");
    let root = as_dpkg(&[b.clone(), mutual], |_| {});
    assert_eq!(fs::read(root.path().join("srv/f")).unwrap(), b"a");
    // A later stage takes a path from a package that the layer below has.
    let root = new_root();
    place(root.path(), &[a]).unwrap();
    let status = root.path().join("var/lib/dpkg/status");
    fs::write(&status, fs::read_to_string(&status).unwrap().replace("ok unpacked", "ok installed")).unwrap();
    place(root.path(), &[b]).unwrap();
    assert_eq!(list(root.path(), "a"), "/.\n/srv\n/srv/only-a\n");
}

#[test]
fn a_path_of_two_packages_is_an_error_that_names_both() {
    if !can_run() {
        return;
    }
    let a = Deb::new("a", "3").file("/usr/lib/f", "a").file("/srv/x", "");
    let conflict = |path: &str, b: Deb| {
        let root = new_root();
        match place(root.path(), &[a.clone(), b]).unwrap_err() {
            Failure::FileConflict { path: found, package, other } => {
                assert_eq!((found.as_str(), package.as_str(), other.as_str()), (path, "b", "a"));
            }
            error => panic!("{error}"),
        }
    };
    conflict("/usr/lib/f", Deb::new("b", "1").file("/usr/lib/f", "b"));
    conflict("/usr/lib/f", Deb::new("b", "1").field("Replaces", "a (<< 3)").file("/usr/lib/f", "b"));
    conflict("/usr/lib/f", Deb::new("b", "1").link("/usr/lib/f", "x"));
    // dpkg does not notice this one and lets the later package win.
    conflict("/lib/f", Deb::new("b", "1").file("/lib/f", "b"));
}

#[test]
fn a_package_that_others_replace_wholly_is_refused() {
    if !can_run() {
        return;
    }
    let a = Deb::new("a", "1").file("/srv/f", "a");
    let b = Deb::new("b", "1").field("Replaces", "a").file("/srv/f", "b");
    let error = place(new_root().path(), &[a, b]).unwrap_err();
    assert_eq!(error, Failure::Disappeared { package: "a".into() });
}

#[test]
fn what_is_no_directory_and_what_is_one_do_not_mix() {
    if !can_run() {
        return;
    }
    let file = Deb::new("a", "1").file("/srv/f", "a");
    let root = new_root();
    fs::create_dir_all(root.path().join("srv/f")).unwrap();
    let error = place(root.path(), &[file]).unwrap_err();
    insta::assert_snapshot!(error, @"package `a` cannot write `/srv/f`: a directory is in its place");
    let directory = Deb::new("a", "1").directory("/etc/x", 0o755, (0, 0));
    let root = new_root();
    fs::write(root.path().join("etc/x"), "").unwrap();
    let error = place(root.path(), &[directory]).unwrap_err();
    insta::assert_snapshot!(error, @"package `a` cannot write `/etc/x`: something that is no directory is in its place");
}

#[test]
fn diverted_paths_go_elsewhere_but_keep_their_name_in_lists() {
    if !can_run() {
        return;
    }
    let divert = |root: &Path| {
        let text = "/srv/f\n/srv/f.real\nb\n/srv/l\n/srv/l.real\n:\n";
        fs::write(root.join("var/lib/dpkg/diversions"), text).unwrap();
    };
    let a = Deb::new("a", "1").file("/srv/f", "a").hard_link("/srv/g", "/srv/f").file("/srv/l", "l");
    let b = Deb::new("b", "1").file("/srv/f", "b");
    let root = as_dpkg(&[a, b], divert);
    let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
    assert_eq!((read("srv/f"), read("srv/f.real"), read("srv/g")), ("b".into(), "a".into(), "a".into()));
    assert_eq!(read("srv/l.real"), "l");
    assert!(list(root.path(), "a").contains("/srv/f\n"));
}

#[test]
fn overrides_win_over_what_packages_ship() {
    if !can_run() {
        return;
    }
    let set = |root: &Path| {
        let text = "#33 #44 4750 /srv/f\n#1 #2 2770 /srv/d\n";
        fs::write(root.join("var/lib/dpkg/statoverride"), text).unwrap();
    };
    let package = Deb::new("a", "1").file("/srv/f", "x").directory("/srv/d", 0o755, (0, 0));
    let root = as_dpkg(&[package], set);
    let metadata = fs::metadata(root.path().join("srv/f")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o4750, 33, 44));
}

#[test]
fn hard_links_set_id_bits_and_pipes() {
    if !can_run() {
        return;
    }
    let package = Deb::new("a", "1")
        .file_with("/srv/a", "x", 0o6755, (0, 42))
        .hard_link("/srv/b", "/srv/a")
        .file_with("/srv/set-id", "x", 0o6755, (0, 42))
        .directory("/srv/sticky", 0o1777, (0, 0));
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Fifo);
    header.set_path("./srv/pipe").unwrap();
    header.set_mode(0o620);
    header.set_mtime(5);
    header.set_uid(0);
    header.set_gid(7);
    let package = package.raw(header, []);
    let root = as_dpkg(&[package], |_| {});
    // The later name's header counts, as in dpkg.
    let metadata = fs::metadata(root.path().join("srv/a")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.gid(), metadata.nlink()), (0o644, 0, 2));
    let metadata = fs::metadata(root.path().join("srv/set-id")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.gid()), (0o6755, 42));
}

#[test]
fn conffiles_are_hashed_and_known() {
    if !can_run() {
        return;
    }
    let package = Deb::new("a", "1")
        .conffile("/etc/a.conf", "text\n")
        .conffile("/etc/b.conf", "")
        .file("/etc/other", "x");
    let root = as_dpkg(std::slice::from_ref(&package), |_| {});
    let status = fs::read_to_string(root.path().join("var/lib/dpkg/status")).unwrap();
    assert!(status.contains(" /etc/a.conf e1cbb0c3879af8347246f12c559a86b5\n"), "{status}");
    // One that somebody made before: dpkg decides, and does not ask when the contents are equal.
    let root = as_dpkg(&[package], |root| fs::write(root.join("etc/a.conf"), "text\n").unwrap());
    assert!(!root.path().join("etc/a.conf.dpkg-new").exists());
}

#[test]
fn conffiles_to_be_removed_on_upgrade_are_known_too() {
    if !can_run() {
        return;
    }
    let package =
        Deb::new("a", "1").file("/srv/x", "").control_file("conffiles", "remove-on-upgrade /etc/gone\n");
    let root = as_dpkg(&[package], |_| {});
    let status = fs::read_to_string(root.path().join("var/lib/dpkg/status")).unwrap();
    assert!(status.contains(" /etc/gone newconffile remove-on-upgrade\n"), "{status}");
}

#[test]
fn names_of_owners_count_before_numbers() {
    if !can_run() {
        return;
    }
    let root = new_root();
    fs::write(root.path().join("etc/passwd"), "root:x:0:0::/:/bin/sh\nweb:x:333:444::/:/bin/sh\n").unwrap();
    fs::write(root.path().join("etc/group"), "root:x:0:\nweb:x:444:\n").unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_path("./etc/owned").unwrap();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o640);
    header.set_mtime(5);
    header.set_uid(33);
    header.set_gid(33);
    header.set_username("web").unwrap();
    header.set_groupname("unknown").unwrap();
    place(root.path(), &[Deb::new("a", "1").raw(header, b"x")]).unwrap();
    let metadata = fs::metadata(root.path().join("etc/owned")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mtime()), (333, 33, 5));
}

#[test]
fn capabilities_come_from_pax_records() {
    if !can_run() {
        return;
    }
    // cap_net_raw+ep, version 2.
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut record = b"SCHILY.xattr.security.capability=".to_vec();
    record.extend(capability);
    record.push(b'\n');
    let mut records = format!("{} ", record.len() + 3).into_bytes();
    records.extend(record);
    let header = |path: &str, kind| {
        let mut header = tar::Header::new_ustar();
        header.set_path(path).unwrap();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_mtime(5);
        header.set_uid(0);
        header.set_gid(0);
        header
    };
    let package = Deb::new("a", "1")
        .directory("/srv", 0o755, (0, 0))
        .raw(header("./pax", tar::EntryType::XHeader), &records)
        .raw(header("./srv/ping", tar::EntryType::Regular), b"x");
    let root = new_root();
    place(root.path(), &[package]).unwrap();
    let mut value = [0; 64];
    let path = root.path().join("srv/ping");
    let length = rustix::fs::getxattr(&path, "security.capability", &mut value[..]).unwrap();
    assert_eq!(value[..length], capability);
}
