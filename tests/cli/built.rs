//! The image of this project, as committed, from the Debian mirror of this host's apt configuration.
//!
//! One test, since every step goes on from what the one before built. It is the longest here: the module's name lets it
//! begin early.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use build_images::digest::Sha256;
use build_images::sandbox::IdRange;

use crate::project::{Run, program};
use crate::support::require;
use crate::support::shipped::{self, copy};
use crate::{interrupt, reproduce, stability};

/// Copies of this project's declarations and a store, in a directory of this run.
pub struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let place = Self { directory };
        place.project("project");
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A copy of the project in the directory `name`.
    pub fn project(&self, name: &str) -> PathBuf {
        let project = self.path(name);
        shipped::project(&project);
        // Its packages come from somewhere else than Debian's mirror; see `tests/boot`.
        fs::remove_file(project.join("images/jellyfin.toml")).unwrap();
        project
    }

    /// A new store that has the packages of the first one.
    pub fn store(&self, name: &str) -> PathBuf {
        let store = self.path(name);
        fs::create_dir_all(&store).unwrap();
        copy(&self.path("store/debs"), &store.join("debs"));
        store
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command
            .arg("--root")
            .arg(self.path("project"))
            .arg("--store")
            .arg(self.path("store"))
            .args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments).output().unwrap())
    }
}

/// Names and hashes of a directory's files.
pub fn hashes(directory: &Path) -> Vec<(String, Sha256)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let hash = Sha256::of(fs::read(entry.path()).unwrap());
            (entry.file_name().into_string().unwrap(), hash)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn the_image_of_this_project() {
    if !require("a range of subordinate ids", IdRange::discover().is_ok())
        || !require("a Debian mirror in this host's apt configuration", shipped::mirrors())
    {
        return;
    }
    let place = Place::new();
    let result = place.path("project/result/qbittorrent");
    build(&place);
    let good = hashes(&result);
    nothing_changed(&place, &result);
    damage_is_noticed(&place, &result, &good);
    a_change_is_explained(&place);
    stability::of_edits(&place, &result);
    a_failing_image_does_not_stop_this_one(&place);
    built_again_from_nothing(&place, &result);
    stability::of_an_update(&place);
    reproduce::as_another_user(&place, &good);
    interrupt::at_any_time(&place, &good);
    what_is_not_referred_to_goes(&place);
}

fn build(place: &Place) {
    let before = fs::read(place.path("project/images/images.lock")).unwrap();
    let run = place.run(&[]).code(0);
    let (heading, row) = run.out.split_once('\n').unwrap();
    let words: Vec<_> = heading.split_whitespace().collect();
    assert_eq!(words, ["image", "done", "size", "packages", "seconds", "archive"]);
    assert!(row.starts_with("qbittorrent  built, 2 layers  "), "{row}");
    assert!(row.contains("/vzdump-lxc-159-"), "{row}");
    assert_eq!(fs::read(place.path("project/images/images.lock")).unwrap(), before);
    for line in ["fetching packages", "unpacking", "configuring", "compressing frames"] {
        assert!(run.err.contains(line), "{}", run.err);
    }
    let verified = place.run(&["verify", place.path("project/result/qbittorrent").to_str().unwrap()]).code(0);
    assert_eq!(verified.out.lines().filter(|line| line.starts_with("good  ")).count(), 3);
}

fn nothing_changed(place: &Place, result: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let inode = fs::metadata(result).unwrap().ino();
    let run = place.run(&[]).code(0);
    assert!(run.out.contains("qbittorrent  nothing changed  "), "{}", run.out);
    assert_eq!(run.err, "");
    assert_eq!(fs::metadata(result).unwrap().ino(), inode);
    let json = place.run(&["--json"]).code(0).json();
    assert_eq!(json[0]["done"], "unchanged");
    assert!(json[0]["packages"].as_u64().unwrap() > 100);
    // A touched archive is looked at, and is good.
    let archive = fs::File::open(result.join(archive_name(result))).unwrap();
    archive.set_modified(std::time::SystemTime::now()).unwrap();
    assert_eq!(place.run(&["--json"]).code(0).json()[0]["done"], "unchanged");
}

fn archive_name(result: &Path) -> String {
    let names = hashes(result).into_iter().map(|(name, _)| name);
    names.into_iter().find(|name| name.ends_with(".tar.zst")).unwrap()
}

fn damage_is_noticed(place: &Place, result: &Path, good: &[(String, Sha256)]) {
    use std::os::unix::fs::FileExt as _;
    let archive = result.join(archive_name(result));
    let file = fs::File::options().write(true).open(&archive).unwrap();
    file.write_all_at(b"damage", 5_000_000).unwrap();
    drop(file);
    place.run(&["verify", archive.to_str().unwrap()]).code(1);
    let built = place.run(&["--json"]).code(0).json();
    assert_eq!(built[0]["done"], "built", "{built}");
    assert_eq!((&built[0]["layers_built"], &built[0]["frames_compressed"]), (&0.into(), &0.into()));
    assert_eq!(hashes(result), good);
    for name in ["159.conf", "sbom.spdx.json", "manifest.json"] {
        let path = result.join(name);
        let mut text = fs::read_to_string(&path).unwrap();
        let at = text.find("159").or(text.find("qbittorrent")).unwrap();
        text.replace_range(at..=at, "7");
        fs::write(&path, text).unwrap();
        assert_eq!(place.run(&["--json"]).code(0).json()[0]["done"], "built", "{name}");
        assert_eq!(hashes(result), good, "{name}");
    }
}

fn a_change_is_explained(place: &Place) {
    let recipe = place.path("project/recipes/qbittorrent/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, text.replace("959", "958")).unwrap();
    let run = place.run(&["show", "qbittorrent", "--plan"]).code(0);
    let said: Vec<_> =
        run.out.lines().skip(2).map(|line| line.split(char::is_whitespace).collect()).collect();
    let said: Vec<String> = said.iter().map(|words: &Vec<&str>| words.join(" ")).collect();
    assert!(said[0].contains(" there "), "{}", run.out);
    assert!(said[1].contains(" to build "), "{}", run.out);
    let reasons = "debian-13 + qbittorrent: since it was last there\n  \
                   the users are others: qbittorrent\n  the groups are others: qbittorrent\n";
    assert!(run.out.ends_with(reasons), "{}", run.out);
    let json = place.run(&["show", "qbittorrent", "--plan", "--json"]).code(0).json();
    assert_eq!(json["layers"][0]["state"], "there");
    assert_eq!(json["layers"][1]["changes"][0], serde_json::json!({ "users": ["qbittorrent"] }));
    fs::write(&recipe, text).unwrap();
    let run = place.run(&["show", "qbittorrent", "--plan"]).code(0);
    assert_eq!(run.out.matches("  there  ").count(), 2, "{}", run.out);
    // A template is no input of a layer.
    let seed = place.path("project/recipes/qbittorrent/files/prepare.tera");
    let text = fs::read_to_string(&seed).unwrap();
    fs::write(&seed, format!("{text}\n# changed\n")).unwrap();
    let run = place.run(&["show", "qbittorrent", "--plan"]).code(0);
    assert_eq!(run.out.matches("  there  ").count(), 2, "{}", run.out);
    fs::write(&seed, text).unwrap();
}

fn a_failing_image_does_not_stop_this_one(place: &Place) {
    let project = place.path("project");
    // Put together here, so that nothing in the repository looks like a secret.
    let (label, bytes) = (["PRIVATE", "KEY"].join(" "), "MC4CAQAwBQYDK2Vw".repeat(4));
    let secret = format!(
        "[[file]]\npath = \"/etc/deploy.env\"\nowner = \"root\"\ncontent = \"\"\"\n\
         -----BEGIN {label}-----\n{bytes}\n-----END {label}-----\n\"\"\"\n"
    );
    fs::create_dir_all(project.join("recipes/leaky")).unwrap();
    fs::write(project.join("recipes/leaky/recipe.toml"), format!("description = \"x\"\n\n{secret}")).unwrap();
    let image = "recipes = [\"debian-13\", \"leaky\"]\n\n[container]\nvmid = 190\naddress = 90\ncores = 1\n\
                 memory = \"1 GiB\"\ndisk = \"8 GiB\"\n";
    fs::write(project.join("images/leaky.toml"), image).unwrap();
    let run = place.run(&[]).code(1);
    assert!(run.out.contains("leaky        failed"), "{}", run.out);
    assert!(run.out.contains("qbittorrent  nothing changed"), "{}", run.out);
    assert!(run.err.contains("error: leaky: it would hold secrets"), "{}", run.err);
    assert!(run.err.contains("etc/deploy.env"), "{}", run.err);
    assert!(!project.join("result/leaky").exists());
    fs::remove_dir_all(project.join("recipes/leaky")).unwrap();
    fs::remove_file(project.join("images/leaky.toml")).unwrap();
}

fn built_again_from_nothing(place: &Place, result: &Path) {
    let run = place.run(&["verify", "--rebuild", result.to_str().unwrap()]).code(0);
    assert!(run.out.ends_with("good  building it again gives the same bytes\n"), "{}", run.out);
    // It really was built again.
    assert!(run.err.contains("configuring"), "{}", run.err);
    assert_eq!(fs::read_dir(place.path("store/tmp")).unwrap().count(), 0);
    // An artifact of another plan cannot be.
    let site = place.path("project/images/site.toml");
    let text = fs::read_to_string(&site).unwrap();
    fs::write(&site, text.replace("viljo.se", "example.org")).unwrap();
    let run = place.run(&["verify", "--rebuild", result.to_str().unwrap()]).code(2);
    assert!(run.err.contains("rebuild it from the project's state of then"), "{}", run.err);
    fs::write(&site, text).unwrap();
}

fn what_is_not_referred_to_goes(place: &Place) {
    let count = |kind: &str| fs::read_dir(place.path("store").join(kind)).unwrap().count();
    let before = ["debs", "layers", "frames"].map(count);
    // Results of any project count; here, that project's lock and recipes do not.
    let other = place.project("other");
    fs::remove_file(other.join("images/images.lock")).unwrap();
    let mut command = program();
    command.arg("gc").arg("--root").arg(&other).arg("--store").arg(place.path("store"));
    Run::of(command.output().unwrap()).code(0);
    assert_eq!(["debs", "layers", "frames"].map(count), before);
    assert_eq!(place.run(&["--json"]).code(0).json()[0]["done"], "unchanged");
    // Without its result only what the lock needs is kept.
    fs::remove_dir_all(place.path("project/result")).unwrap();
    place.run(&["gc"]).code(0);
    assert_eq!(["debs", "layers", "frames"].map(count), [before[0], before[1], 0]);
    fs::remove_file(place.path("project/images/images.lock")).unwrap();
    place.run(&["gc"]).code(0);
    assert_eq!(["debs", "layers", "scans"].map(count), [0, 0, 0]);
}
