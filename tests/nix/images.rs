//! The images of this project under Nix: the same bytes, and no more work than what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use build_images::apt::lockfile::Lock;
use build_images::apt::sources::host_sources;
use build_images::artifact::Manifest;
use build_images::digest::Sha256;
use build_images::model;
use build_images::plan::Requests;

use crate::machine::Machine;
use crate::project::{Run, program};
use crate::root::{BUILDER, copy, install_flake, root};
use crate::support::jellyfin::OLD;
use crate::support::keys::Key;
use crate::support::repository::Served;
use crate::support::server::Server;
use crate::support::{require, shipped};

fn nix_build(machine: &Machine, what: &[&str]) -> crate::machine::Ran {
    let mut arguments = vec!["build", "--no-link", "--print-out-paths", "--print-build-logs"];
    arguments.extend(what);
    machine.nix(&arguments)
}

/// The images that the lock holds all of, and the others.
fn images(root: &Path) -> (Vec<String>, Vec<String>) {
    let project = model::load(root).unwrap();
    let requests = Requests::of(&project);
    let lock = Lock::parse(&fs::read_to_string(root.join("images/images.lock")).unwrap()).unwrap();
    let stale = requests.stale(&lock);
    let locked =
        |name: &String| requests.concerning(&stale, Some(&BTreeSet::from([name.clone()]))).is_empty();
    project.images.keys().cloned().partition(locked)
}

/// What the program itself makes of all images, and the .debs in its store.
struct Reference {
    directory: tempfile::TempDir,
}

impl Reference {
    fn of(root: &Path, served: &Served) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let run = |arguments: &[&str]| {
            let mut command = program();
            command.arg("--root").arg(root).arg("--store").arg(directory.path().join("store"));
            command.arg("--result").arg(directory.path().join("result"));
            command.args(["--mirror", &format!("jellyfin={}jellyfin/", served.server.uri())]);
            Run::of(command.args(arguments).output().unwrap())
        };
        // Where the mirror has moved on from the lock's state of Debian, everything is locked anew.
        if run(&["lock"]).code != 0 {
            run(&["update"]).code(0);
        }
        run(&[]).code(0);
        Self { directory }
    }

    fn manifest(&self, image: &str) -> Manifest {
        manifest(&self.directory.path().join("result").join(image))
    }

    /// Every .deb by hash, as `hashed-mirrors` asks for it.
    fn debs(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.directory.path().join("store/debs")).unwrap();
        let file = |path: PathBuf| {
            (format!("sha256/{}", path.file_name().unwrap().to_string_lossy()), fs::read(path).unwrap())
        };
        entries.map(|entry| file(entry.unwrap().path())).collect()
    }
}

fn manifest(directory: &Path) -> Manifest {
    Manifest::parse(&fs::read_to_string(directory.join("manifest.json")).unwrap()).unwrap()
}

fn mirrors() -> bool {
    ["/debian/", "/debian-security/"]
        .iter()
        .all(|end| host_sources(Path::new("/")).iter().any(|uri| uri.ends_with(end)))
}

/// One test, since every step goes on from what the one before built.
#[test]
fn every_image_has_the_same_bytes_and_only_what_changed_is_built() {
    let Some(root) = root() else { return };
    if !require("a Debian mirror in the host's apt configuration", mirrors()) {
        return;
    }
    let project = tempfile::tempdir().unwrap();
    shipped::project(project.path());
    // Jellyfin from what stands in for its archive, added to the lock that is shipped.
    let key = Key::generate();
    shipped::jellyfin_signed_by(project.path(), &key);
    let served = OLD.serve(&key, 48);
    let reference = Reference::of(project.path(), &served);
    let (locked, unlocked) = images(project.path());
    assert_eq!((locked.as_slice(), unlocked.len()), (&["jellyfin", "qbittorrent"].map(str::to_owned)[..], 0));
    let machine = Machine::new(root, "one");
    let server = machine.in_network(|| Server::start(reference.debs()));
    install_flake(root, &machine, &format!("{BUILDER}hashed-mirrors = {}\n", server.uri()));
    for part in ["images", "recipes"] {
        fs::remove_dir_all(machine.path("/src").join(part)).unwrap();
        copy(&project.path().join(part), &machine.path("/src").join(part));
    }

    // Every image that the lock holds has the bytes that the program gives it.
    let wanted: Vec<_> = locked.iter().map(|image| format!("path:/src#image-{image}")).collect();
    let wanted: Vec<_> = ["--max-jobs", "16"].into_iter().chain(wanted.iter().map(String::as_str)).collect();
    let built = nix_build(&machine, &wanted).good();
    assert_eq!(built.lines().len(), locked.len(), "{}", built.out);
    for (image, output) in locked.iter().zip(built.lines()) {
        let ours = manifest(&machine.path(format!("{output}/{image}")));
        let expected = reference.manifest(image);
        assert_eq!(ours, expected, "{image}");
        let archive = fs::read(machine.path(format!("{output}/{image}/{}", ours.archive.file))).unwrap();
        assert_eq!(Sha256::of(archive), expected.archive.sha256, "{image}");
    }
    // All .debs of the lock came from the test's own server, each once.
    let lock = fs::read_to_string(project.path().join("images/images.lock")).unwrap();
    let expected = Lock::parse(&lock).unwrap().package.len();
    let asked: BTreeSet<_> = server.requests().into_iter().map(|request| request.path).collect();
    assert_eq!((server.requests().len(), asked.len()), (expected, expected));

    nix_build(&machine, &["path:/src#images"]).good();
    // As it is shipped the lock has nothing of Jellyfin's: its image fails alone, with what is missing and what to do.
    let (lock, whole) = ("/src/images/images.lock", machine.read("/src/images/images.lock"));
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("images/images.lock"), &machine.path(lock));
    let failed = nix_build(&machine, &["path:/src#image-jellyfin"]).bad();
    assert!(
        failed.err.contains("the lock does not match the recipes of image `jellyfin`: ")
            && failed.err.contains("run `build-images lock`"),
        "{}",
        failed.err
    );
    nix_build(&machine, &["--dry-run", "path:/src#image-qbittorrent"]).good();
    machine.write(lock, whole);

    // The project and the artifacts pass their checks, built of what is there.
    let check = |image: &String| format!("path:/src#checks.x86_64-linux.image-{image}");
    let mut checks: Vec<_> = locked.iter().map(check).collect();
    checks.push("path:/src#checks.x86_64-linux.project".to_owned());
    nix_build(&machine, &checks.iter().map(String::as_str).collect::<Vec<_>>()).good();

    // Another template: the image, and nothing below it.
    let template = machine.path("/src/recipes/qbittorrent/files/qBittorrent.conf.tera");
    let text = fs::read_to_string(&template).unwrap();
    let edited = text.replace("GlobalMaxRatio=", "GlobalMaxRatio=1");
    assert_ne!(text, edited);
    let dry = |image: &str| nix_build(&machine, &["--dry-run", &format!("path:/src#image-{image}")]).good();
    assert_eq!(dry("qbittorrent").to_build(), BTreeSet::new());
    fs::write(&template, edited).unwrap();
    assert_eq!(dry("qbittorrent").to_build(), BTreeSet::from(["image-qbittorrent".to_owned()]));
    fs::write(&template, text).unwrap();

    // A new image on the same base: itself, on the layer that is there. The others are what they were.
    let image = fs::read_to_string(machine.path("/src/images/qbittorrent.toml")).unwrap();
    let second = image
        .replace("recipes = [\"debian-13\", \"qbittorrent\"]", "recipes = [\"debian-13\"]")
        .replace("qbittorrent", "second")
        .replace("vmid = 159", "vmid = 160")
        .replace("address = 59", "address = 60");
    machine.write("/src/images/second.toml", second);
    assert_eq!(dry("second").to_build(), BTreeSet::from(["image-second".to_owned()]));
    assert_eq!(dry("qbittorrent").to_build(), BTreeSet::new());
    let before = server.requests().len();
    nix_build(&machine, &["path:/src#image-second"]).good();
    assert_eq!(server.requests().len(), before);

    // A layer that is made again is the same, so it does not matter which machine's a layer above was made on.
    let image = machine.nix(&["path-info", "--derivation", "path:/src#image-qbittorrent"]).good();
    let query = format!("nix-store --query --requisites {} | grep -e -layer-debian-13.drv", image.out.trim());
    let layer = machine.run("sh", &["-c", &query]).good();
    let layer = format!("{}^out", layer.out.trim());
    machine.nix(&["build", "--rebuild", "--no-link", &layer]).good();

    // Where Nix's filter is in the way, the builder says so and what to do.
    let filter = ["--rebuild", "--no-link", "-L", "--option", "filter-syscalls", "true", &layer];
    let refused = machine.nix(&[&["build"], &filter[..]].concat()).bad();
    assert!(refused.err.contains("write `filter-syscalls = false` into nix.conf"), "{}", refused.err);
}
