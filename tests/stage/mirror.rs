//! The package list of the qBittorrent image with what an admin expects beside it, installed here and by mmdebstrap.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use build_images::build::stage::Limits;
use build_images::digest::Sha256;
use build_images::layer::Layer;
use build_images::store::Store;
use build_images::tree::TreePath;

use crate::compare::{self, Seen};
use crate::machine::{self, EPOCH, Watch, import, job, run};
use crate::packages::{self, Fetched, REQUESTED};
use crate::support::require;

/// Paths that may differ, or all below when they end in `/`, with the reason. Anything else fails the test.
const EXCEPTIONS: [(&str, &str); 26] = [
    ("/dev/", "mmdebstrap makes devices; an unprivileged container gets them from its manager"),
    ("/etc/apt/sources.list", "written by mmdebstrap itself; images here get theirs from a recipe"),
    ("/etc/fstab", "written by mmdebstrap itself"),
    ("/etc/hostname", "written by mmdebstrap itself, with the host's name"),
    ("/etc/resolv.conf", "written by mmdebstrap itself, with the host's servers"),
    ("/etc/machine-id", "mmdebstrap empties it; here that is for the finishing step"),
    ("/var/lib/dbus/machine-id", "mmdebstrap removes it; here that is for the finishing step"),
    ("/var/cache/ldconfig/aux-cache", "mmdebstrap removes it; here that is for the finishing step"),
    ("/var/log/alternatives.log", "mmdebstrap removes it; here that is for the finishing step"),
    ("/var/log/dpkg.log", "mmdebstrap removes it; here that is for the finishing step"),
    ("/run/", "mmdebstrap removes most of it; here that is for the finishing step"),
    ("/etc/ssh/ssh_host_ecdsa_key", "random; removed by the finishing step"),
    ("/etc/ssh/ssh_host_ecdsa_key.pub", "random; removed by the finishing step"),
    ("/etc/ssh/ssh_host_ed25519_key", "random; removed by the finishing step"),
    ("/etc/ssh/ssh_host_ed25519_key.pub", "random; removed by the finishing step"),
    ("/etc/ssh/ssh_host_rsa_key", "random; removed by the finishing step"),
    ("/etc/ssh/ssh_host_rsa_key.pub", "random; removed by the finishing step"),
    ("/var/cache/apt/archives/lock", "apt ran as a program; here it did not"),
    ("/var/cache/apt/archives/partial", "apt ran as a program and gave it to _apt"),
    ("/var/lib/apt/lists/lock", "apt ran as a program; here it did not"),
    ("/var/lib/apt/lists/partial", "apt ran as a program and gave it to _apt"),
    ("/var/lib/apt/extended_states", "apt also counts what required packages depend on as asked for"),
    ("/var/cache/debconf/tmp.ci", "made by dpkg-preconfigure, which apt starts"),
    (
        "/var/cache/debconf/config.dat-old",
        "the state before debconf's last write, which depends on the order",
    ),
    (
        "/var/cache/debconf/templates.dat-old",
        "the state before debconf's last write, which depends on the order",
    ),
    ("/var/lib/dpkg/status-old", "the state before dpkg's last write, which depends on the order"),
];

/// Files whose lines are equal but in the order in which dpkg came to them.
const SAME_LINES: [&str; 5] =
    ["/etc/passwd", "/etc/passwd-", "/etc/shadow", "/etc/shadow-", "/var/lib/dpkg/triggers/File"];

fn ready() -> Option<&'static Fetched> {
    let fetched = if machine::ready() { packages::full() } else { None };
    require("a Debian mirror in the host's apt configuration", fetched.is_some()).then_some(fetched?)
}

/// The layer of the whole list, in a store of its own.
fn install(fetched: &Fetched) -> (tempfile::TempDir, Layer) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let packages = fetched.debs.iter().map(|path| import(&store, path)).collect();
    let watch = Watch::new();
    let layer = run(&store, &job(packages, &REQUESTED), &Limits::default(), &watch);
    watch.print();
    (directory, layer.unwrap_or_else(|error| panic!("{error}")))
}

#[test]
fn the_tree_equals_the_one_that_mmdebstrap_makes() {
    let Some(fetched) = ready() else { return };
    if !require("mmdebstrap", Command::new("mmdebstrap").arg("--version").output().is_ok()) {
        return;
    }
    let reference = reference(fetched);
    let (_directory, layer) = install(fetched);
    let ours = compare::of_tree(&layer.tree, &layer);
    let theirs = compare::of_directory(&reference);
    assert!(theirs.len() > 9000, "{}", theirs.len());
    let unexplained: Vec<_> = compare::differences(&ours, &theirs)
        .into_iter()
        .filter(|(path, _)| !explained(path) && !same_lines(path, &ours, &theirs))
        .map(|(path, what)| format!("{path}: {what}"))
        .collect();
    assert!(unexplained.is_empty(), "{} unexplained:\n{}", unexplained.len(), unexplained.join("\n"));
    times_are_those_of_the_packages(&layer, &reference);
}

fn explained(path: &str) -> bool {
    EXCEPTIONS.iter().any(|(exception, _)| match exception.strip_suffix('/') {
        Some(directory) => path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/')),
        None => path == *exception,
    })
}

fn same_lines(path: &str, ours: &BTreeMap<TreePath, Seen>, theirs: &BTreeMap<TreePath, Seen>) -> bool {
    let lines = |entries: &BTreeMap<TreePath, Seen>| {
        let mut seen = entries.get(&TreePath::new(path).ok()?)?.clone();
        let mut lines: Vec<_> = seen.content.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        lines.sort();
        seen.content = lines.concat();
        Some(seen)
    };
    SAME_LINES.contains(&path) && lines(ours) == lines(theirs)
}

/// What a package shipped and no script touched has its time; all else has the epoch.
fn times_are_those_of_the_packages(layer: &Layer, reference: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let mut shipped = BTreeSet::new();
    for entry in fs::read_dir(reference.join("var/lib/dpkg/info")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "list") {
            shipped.extend(fs::read_to_string(path).unwrap().lines().map(str::to_owned));
        }
    }
    let mut kept = 0;
    for (path, node) in &layer.tree {
        let Ok(metadata) = fs::symlink_metadata(reference.join(path.as_path())) else { continue };
        let by_script = node.is_directory() || !shipped.contains(&path.to_string());
        // dpkg's copies of control files keep their times too.
        if by_script && path.to_string().starts_with("/var/lib/dpkg/info/") {
            continue;
        }
        let expected = if by_script { EPOCH } else { metadata.mtime().min(EPOCH) };
        assert_eq!(node.mtime, expected, "{path}");
        kept += usize::from(expected != EPOCH);
    }
    // Fewer with each point release: what is younger than the epoch has its time.
    assert!(kept > 1000, "{kept}");
}

#[test]
fn dpkg_finds_nothing_wrong_and_the_listed_packages() {
    let Some(fetched) = ready() else { return };
    let (_directory, layer) = install(fetched);
    let root = tempfile::tempdir().unwrap();
    compare::extract(&layer.tree, &layer, root.path());
    let ask = |arguments: &[&str]| {
        let output = Command::new("chroot").arg(root.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(ask(&["dpkg", "--audit"]), "");
    assert_eq!(ask(&["dpkg", "--verify"]), "");
    let found = ask(&["dpkg-query", "-W", "-f", "${Package} ${Version} ${Architecture} ${Status}\\n"]);
    let mut expected: Vec<_> = fetched.debs.iter().map(|deb| line_of(deb)).collect();
    expected.sort();
    let mut found: Vec<_> = found.lines().map(str::to_owned).collect();
    found.sort();
    assert_eq!(found, expected);
}

fn line_of(deb: &Path) -> String {
    let deb = build_images::apt::deb::Deb::open(fs::File::open(deb).unwrap()).unwrap();
    let text = deb.control().unwrap().text;
    let stanza = build_images::apt::control::stanzas(&text).next().unwrap().unwrap();
    let field = |name| stanza.get(name).unwrap();
    format!("{} {} {} install ok installed", field("Package"), field("Version"), field("Architecture"))
}

/// A tree that mmdebstrap made of the same .debs; kept for the next run.
fn reference(fetched: &Fetched) -> PathBuf {
    let names: Vec<_> = fetched.debs.iter().map(|deb| deb.display().to_string()).collect();
    let key = Sha256::of(format!("{names:?} {EPOCH}")).to_string();
    let done = packages::cache().join(format!("reference-{}", &key[..16]));
    let lock = fs::File::create(packages::cache().join("reference.lock")).unwrap();
    lock.lock().unwrap();
    if done.exists() {
        return done;
    }
    let work = tempfile::tempdir_in(packages::cache()).unwrap();
    let (repository, root) = (work.path().join("repository"), work.path().join("root"));
    fs::create_dir(&repository).unwrap();
    let mut index = String::new();
    for deb in &fetched.debs {
        let bytes = fs::read(deb).unwrap();
        let name = deb.file_name().unwrap().to_str().unwrap().replace('%', "_");
        fs::write(repository.join(&name), &bytes).unwrap();
        let opened = build_images::apt::deb::Deb::open(fs::File::open(deb).unwrap()).unwrap();
        let (size, hash) = (bytes.len(), Sha256::of(&bytes));
        index += &format!(
            "{}\nFilename: ./{name}\nSize: {size}\nSHA256: {hash}\n\n",
            opened.control().unwrap().text.trim()
        );
    }
    fs::write(repository.join("Packages"), index).unwrap();
    let include: Vec<_> = fetched.required.iter().map(String::as_str).chain(REQUESTED).collect();
    let output = Command::new("mmdebstrap")
        .args(["--mode=root", "--variant=apt", &format!("--include={}", include.join(",")), "trixie"])
        .arg(&root)
        .arg(format!("deb [trusted=yes] copy://{} ./", repository.display()))
        .env("SOURCE_DATE_EPOCH", EPOCH.to_string())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&root, &done).unwrap();
    done
}
