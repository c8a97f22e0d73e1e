//! An archive that a recipe brings beside the base's: locked on its own, exchanged by the site, gone.

use std::fs;

use jiff::{SignedDuration, Timestamp};

use crate::project::{Project, Run, first, later};
use crate::support::deb::Deb;
use crate::support::keys::Key;
use crate::support::repository::{Repository, Served};

/// The other archive's URI of record. Nothing listens there.
const RECORD: &str = "http://127.0.0.1:1/other/";

/// A project with the base's archive `test`, and `other`, which the recipe `media` brings for the image of that name.
pub struct Two {
    pub project: Project,
    pub test: Served,
    key: Key,
}

impl Two {
    pub fn new() -> Self {
        let project = Project::new();
        let key = Key::generate();
        fs::create_dir_all(project.path("recipes/media/keys")).unwrap();
        fs::write(project.path("recipes/media/keys/other.asc"), key.certificate()).unwrap();
        let two = Self { test: project.serve(first(), 48), project, key };
        two.recipe("");
        two.project.image("media", &["base", "media"], 161);
        two
    }

    /// Writes the recipe `media`, with `more` in its archive.
    pub fn recipe(&self, more: &str) {
        let fingerprint = self.key.fingerprint();
        let text = format!(
            r#"description = "From somebody else"

[archive.other]
uri = "{RECORD}"
suites = ["trixie"]
components = ["main"]
keys = ["other.asc"]
fingerprints = ["{fingerprint}"]
{more}
[packages]
install = ["player"]
"#
        );
        self.project.write("recipes/media/recipe.toml", &text);
    }

    /// The other archive with everything in one version, signed by `key` so many hours ago.
    pub fn other_by(key: &Key, version: u32, hours: i64) -> Served {
        let date = Timestamp::now() - SignedDuration::from_hours(hours);
        let date = Timestamp::from_second(date.as_second()).unwrap();
        let deb = |name: &str| Deb::new(name, &version.to_string()).field("Priority", "optional");
        // As smaller archives are made: no end of validity, no indices by hash, one compression.
        Repository::new()
            .name("other")
            .date(&date.to_string())
            .valid_until(None)
            .without("Acquire-By-Hash")
            .compressions(&[".gz"])
            .signer(key.clone())
            .package(deb("player").field("Depends", &format!("codec (= {version}), library")))
            .package(deb("codec"))
            .serve()
    }

    pub fn other(&self, version: u32, hours: i64) -> Served {
        Self::other_by(&self.key, version, hours)
    }

    /// Runs the program with `other` as that archive's mirror; without one it cannot be reached.
    pub fn run(&self, other: Option<&Served>, arguments: &[&str]) -> Run {
        self.run_with(&self.test, other, arguments)
    }

    pub fn run_with(&self, test: &Served, other: Option<&Served>, arguments: &[&str]) -> Run {
        let mut mirrors = format!("test={}test/", test.server.uri());
        if let Some(other) = other {
            mirrors += &format!(" other={}other/", other.server.uri());
        }
        let mut command = self.project.command(test, arguments);
        Run::of(command.env("BUILD_IMAGES_MIRROR", mirrors).output().unwrap())
    }

    /// The packages of one archive in the lock.
    fn pins(&self, archive: &str) -> Vec<String> {
        let text = self.project.read("images/images.lock");
        let lock = build_images::apt::lockfile::Lock::parse(&text).unwrap();
        let rows = lock.package.iter().filter(|row| row.archive == archive);
        rows.map(|row| format!("{} {}", row.name, row.version)).collect()
    }

    /// What the lock says of one archive.
    fn row(&self, archive: &str) -> Option<String> {
        let text = self.project.read("images/images.lock");
        let lock = build_images::apt::lockfile::Lock::parse(&text).unwrap();
        lock.archive(archive).map(|row| format!("{row:?}"))
    }
}

const TEST_1: [&str; 6] = ["app 1", "core 1", "engine 1", "extra 1", "library 1", "tool 1"];
const TEST_2: [&str; 6] = ["app 2", "core 2", "engine 2", "extra 2", "library 2", "tool 2"];

#[test]
fn one_that_cannot_be_reached_stops_only_the_images_that_need_it() {
    let two = Two::new();
    let run = two.run(None, &["lock"]).code(1);
    insta::assert_snapshot!("other_unreachable_lock", two.project.redact(&two.test, &run.err));
    assert!(run.out.contains("6 packages locked"), "{}", run.out);
    assert_eq!(two.pins("test"), TEST_1);
    assert_eq!(two.row("other"), None);
    let json = two.run(None, &["lock", "--json"]).code(1).json();
    assert_eq!(json["missing"][0]["archive"], "other");
    assert_eq!(json["missing"][0]["images"], serde_json::json!(["media"]));
    assert_eq!(json["missing"][0]["tried"][0]["uri"], RECORD);

    // Such a lock is good for everything else.
    let before = two.project.read("images/images.lock");
    let run = two.run(None, &["check"]).code(0);
    insta::assert_snapshot!("other_unreachable_check", run.out);
    let run = two.run(None, &["show"]).code(0);
    insta::assert_snapshot!("other_unreachable_show", run.out);
    let run = two.run(None, &["show", "media"]).code(0);
    assert!(run.out.contains("packages     4, not all locked: `build-images lock`\n"), "{}", run.out);
    assert!(two.run(None, &["config", "media"]).code(0).out.contains("hostname: media\n"));

    // A build says for this image in two lines what is missing, and builds the others. It does not fetch what would be
    // of no use alone.
    let asked = two.test.server.requests().len();
    let run = two.run(None, &["media"]).code(1);
    assert_eq!(two.test.server.requests().len(), asked);
    assert!(!run.err.contains("test: fetching indices"), "{}", run.err);
    insta::assert_snapshot!("other_unreachable_build_out", run.out);
    let error: Vec<_> = run.err.lines().skip_while(|line| !line.starts_with("error: ")).collect();
    assert_eq!(error.len(), 2, "{}", run.err);
    assert!(error[0].starts_with("error: media: archive `other` is not locked yet"), "{}", run.err);
    assert!(error[0].contains(RECORD), "{}", run.err);
    assert!(error[1].starts_with("help: ") && error[1].contains("`[archive.other]`"), "{}", run.err);
    assert!(error[1].contains("`build-images vendor DIR`"), "{}", run.err);
    two.test.server.remove(&two.test.deb("core"));
    let run = two.run(None, &["--json"]).code(1);
    let outcomes = run.json();
    let of = |image: &str| {
        let outcomes = outcomes.as_array().unwrap();
        outcomes.iter().find(|one| one["image"] == image).unwrap()["error"].as_str().unwrap().to_owned()
    };
    // The others get as far as their packages.
    assert!(of("bare").contains("`core` 1") || of("bare").contains("sandbox"), "{}", of("bare"));
    assert!(of("media").contains("archive `other`"), "{}", of("media"));
    // Whoever names an image does not wait for archives that it does not need.
    let run = two.run(None, &["bare"]).code(1);
    assert!(!run.err.contains("other"), "{}", run.err);
    assert_eq!(two.project.read("images/images.lock"), before);

    // It is locked when the archive answers; what is locked already stays.
    let moved_on = two.project.serve(later(), 24);
    let run = two.run_with(&moved_on, Some(&two.other(1, 5)), &["lock"]).code(0);
    insta::assert_snapshot!("other_reachable_again", two.project.redact(&moved_on, &run.out));
    assert_eq!(two.pins("test"), TEST_1);
    assert_eq!(two.pins("other"), ["codec 1", "player 1"]);
    let text = two.project.read("images/images.lock");
    assert!(text.contains(RECORD) && !text.contains(&format!(":{}", two.test.server.port())), "{text}");
}

#[test]
fn each_moves_on_its_own() {
    let two = Two::new();
    let other = two.other(1, 48);
    two.run(Some(&other), &["lock"]).code(0);
    let (test, moved) = (two.project.serve(later(), 24), two.other(2, 24));
    let row = two.row("other");
    two.run_with(&test, Some(&moved), &["update", "test"]).code(0);
    assert_eq!(
        (two.pins("test"), two.pins("other")),
        (TEST_2.map(String::from).into(), vec!["codec 1".into(), "player 1".into()])
    );
    assert_eq!(two.row("other"), row);
    assert_eq!(moved.server.requests().len(), 0, "{:?}", moved.server.requests());

    let row = two.row("test");
    let newer = two.project.serve(later(), 1);
    two.run_with(&newer, Some(&moved), &["update", "other"]).code(0);
    assert_eq!(
        (two.pins("test"), two.pins("other")),
        (TEST_2.map(String::from).into(), vec!["codec 2".into(), "player 2".into()])
    );
    assert_eq!(two.row("test"), row);
    assert_eq!(newer.server.requests().len(), 0, "{:?}", newer.server.requests());
}

#[test]
fn packages_that_were_left_behind_stay_when_the_other_archive_moves() {
    let two = Two::new();
    two.run(Some(&two.other(1, 48)), &["lock"]).code(0);
    // One package moved, and its archive with it; the others are listed nowhere now.
    let test = two.project.serve(later(), 24);
    let row = two.row("other");
    two.run_with(&test, None, &["update", "extra"]).code(0);
    assert_eq!(two.row("other"), row);
    two.project.serve_too(&test, first());
    two.run_with(&test, Some(&two.other(2, 24)), &["update", "other"]).code(0);
    assert_eq!(two.pins("test"), ["app 1", "core 1", "engine 1", "extra 2", "library 1", "tool 1"]);
    assert_eq!(two.pins("other"), ["codec 2", "player 2"]);
}

#[test]
fn one_moves_while_the_other_cannot_be_reached() {
    let two = Two::new();
    let other = two.other(1, 48);
    two.run(Some(&other), &["lock"]).code(0);
    let test = two.project.serve(later(), 24);
    // Everything is to move: what can, does; the other keeps its pins, from what the store has.
    let run = two.run_with(&test, None, &["update"]).code(1);
    insta::assert_snapshot!("other_unreachable_update", two.project.redact(&test, &run.err));
    assert_eq!(
        (two.pins("test"), two.pins("other")),
        (TEST_2.map(String::from).into(), vec!["codec 1".into(), "player 1".into()])
    );
    assert_eq!(
        two.run_with(&test, None, &["check"]).code(0).out.lines().last(),
        Some("the lock matches the recipes")
    );
    // Asked for by name there is nothing else to do.
    let before = two.project.read("images/images.lock");
    let run = two.run_with(&test, None, &["update", "other"]).code(1);
    assert!(run.err.contains("archive `other` stays as it is locked"), "{}", run.err);
    assert_eq!(two.project.read("images/images.lock"), before);
}

#[test]
fn pins_outlive_an_archive_of_which_nothing_is_left() {
    let two = Two::new();
    let other = two.other(1, 48);
    two.run(Some(&other), &["lock"]).code(0);
    // Another machine: its store is empty, and the archive is away.
    fs::remove_dir_all(two.project.store()).unwrap();
    let test = two.project.serve(later(), 24);
    let run = two.run_with(&test, None, &["update", "test"]).code(1);
    insta::assert_snapshot!("nothing_left_update", two.project.redact(&test, &run.err));
    assert_eq!(
        (two.pins("test"), two.pins("other")),
        (
            [&TEST_2[..], &["library 1"]]
                .concat()
                .iter()
                .map(|pin| (*pin).to_owned())
                .filter(|pin| pin != "library 1")
                .collect::<Vec<_>>(),
            vec!["codec 1".to_owned(), "player 1".to_owned()]
        )
    );
    let text = two.project.read("images/images.lock");
    assert!(text.contains("unresolved = true"), "{text}");
    let run = two.run_with(&test, None, &["check"]).code(0);
    insta::assert_snapshot!("nothing_left_check", run.out);
    // The images that need it wait; the others do not.
    let run = two.run_with(&test, None, &["media"]).code(1);
    assert!(run.err.contains("error: media: archive `other` has to be read again"), "{}", run.err);
    // It comes back in a newer state, and keeps the old packages: the pins hold.
    let moved = two.other(2, 24);
    for package in other.locked_packages() {
        let path = format!("other/{}", package.path);
        moved.server.put(&path, other.server.file(&path));
    }
    two.run_with(&test, Some(&moved), &["lock"]).code(0);
    assert_eq!(two.pins("other"), ["codec 1", "player 1"]);
    assert!(!two.project.read("images/images.lock").contains("unresolved"));
    assert_eq!(
        two.run_with(&test, None, &["check"]).code(0).out.lines().last(),
        Some("the lock matches the recipes")
    );
}

#[test]
fn an_archive_that_is_not_to_be_trusted_stops_only_the_images_that_need_it() {
    let two = Two::new();
    let run = two.run(Some(&Two::other_by(&Key::generate(), 1, 5)), &["lock"]).code(1);
    assert!(run.err.contains("archive `other` is not locked yet"), "{}", run.err);
    assert!(run.err.contains("InRelease is refused: no signature is good"), "{}", run.err);
    assert_eq!(two.pins("test"), TEST_1);
    assert_eq!(two.row("other"), None);
}

fn site(two: &Two, more: &str) {
    let text = two.project.read("images/site.toml");
    let text = text.split("\n[archive").next().unwrap().trim_end().to_owned();
    two.project.write("images/site.toml", &format!("{text}\n\n{more}"));
}

#[test]
fn a_site_has_a_mirror_or_a_copy_of_its_own() {
    let two = Two::new();
    let other = two.other(1, 48);
    site(&two, &format!("[archive.other]\nuri = \"{}other/\"\n", other.server.uri()));
    two.run(None, &["lock"]).code(0);
    let by_recipe = two.project.read("images/images.lock");
    assert!(!by_recipe.contains(&format!(":{}", other.server.port())), "{by_recipe}");
    assert!(by_recipe.contains(&two.key.fingerprint()));

    // The same packages, signed by the site: another key is refused, the right one is good.
    let own = Key::generate();
    let copy = Two::other_by(&own, 1, 24);
    let uri = format!("[archive.other]\nuri = \"{}other\"\n", copy.server.uri());
    site(&two, &uri);
    let run = two.run(None, &["update", "other"]).code(1);
    assert!(run.err.contains("not a pinned key"), "{}", run.err);
    fs::create_dir(two.project.path("images/keys")).unwrap();
    fs::write(two.project.path("images/keys/site.asc"), own.certificate()).unwrap();
    let keys = format!("keys = [\"site.asc\"]\nfingerprints = [\"{}\"]\n", own.fingerprint());
    site(&two, &format!("{uri}{keys}"));
    // What is locked stays good, also for locking more of it.
    assert_eq!(two.run(None, &["check"]).code(0).out.lines().last(), Some("the lock matches the recipes"));
    let asked = other.server.requests().len();
    two.run(None, &["update", "other"]).code(0);
    assert_eq!(other.server.requests().len(), asked);
    let by_site = two.project.read("images/images.lock");
    assert!(!by_site.contains(&copy.server.port().to_string()), "{by_site}");
    assert!(by_site.contains(&own.fingerprint()) && by_site.contains(RECORD));
    let rows = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.contains("archive = \"other\"")).map(str::to_owned).collect()
    };
    assert_eq!(rows(&by_site), rows(&by_recipe));
    assert_eq!(rows(&by_site).len(), 2);

    // The recipe's own signature does not count any more, wherever it is offered.
    let newer = two.other(2, 1);
    let run = two.run(Some(&newer), &["update", "other"]).code(0);
    assert!(run.err.contains("not a pinned key"), "{}", run.err);
    assert_eq!(two.pins("other"), ["codec 1", "player 1"]);
    // Nor is the archive of record asked for it.
    copy.server.remove(&copy.in_release());
    let run = two.run(None, &["update", "other"]).code(1);
    assert!(!run.err.contains(RECORD), "{}", run.err);
}

#[test]
fn places_of_single_packages_are_asked_last() {
    let two = Two::new();
    let tree = crate::support::server::Server::start(Default::default());
    two.recipe(&format!("places = [\"{}files/v{{upstream}}/{{architecture}}/{{file}}\"]\n", tree.uri()));
    let other = two.other(1, 48);
    two.run(Some(&other), &["lock"]).code(0);
    let digest = &other.locked_packages()[0];
    // The archive drops the version; another place keeps it.
    let bytes = other.server.file(&other.deb("player"));
    other.server.remove(&other.deb("player"));
    let target = two.project.path("copy");
    let run = two.run(Some(&other), &["vendor", target.to_str().unwrap()]).code(1);
    let said =
        run.err.replace(&tree.port().to_string(), "TREE").replace(&other.server.port().to_string(), "OTHER");
    insta::assert_snapshot!("places_all_asked", two.project.redact(&two.test, &said));
    tree.put("files/v1/amd64/player_1_amd64.deb", bytes.clone());
    two.run(Some(&other), &["vendor", target.to_str().unwrap()]).code(0);
    assert_eq!(fs::read(target.join("other").join(&digest.path)).unwrap(), bytes);
    assert_eq!(tree.count("files/v1/amd64/player_1_amd64.deb"), 2);
    // It is not in the lock: the recipe alone names it.
    assert!(!two.project.read("images/images.lock").contains(&tree.port().to_string()));
}

#[test]
fn a_suite_without_a_release_in_its_name_is_taken_for_what_its_signature_says() {
    let two = Two::new();
    let recipe = two.project.read("recipes/media/recipe.toml");
    two.project.write("recipes/media/recipe.toml", &recipe.replace("[\"trixie\"]", "[\"stable\"]"));
    let serve = |codename: &str| {
        let date = Timestamp::now() - SignedDuration::from_hours(2);
        let date = Timestamp::from_second(date.as_second()).unwrap();
        Repository::new()
            .name("other")
            .suite("stable")
            .release_field("Codename", codename)
            .date(&date.to_string())
            .valid_until(None)
            .signer(two.key.clone())
            .package(Deb::new("player", "1").field("Priority", "optional"))
            .serve()
    };
    let run = two.run(Some(&serve("bookworm")), &["lock"]).code(1);
    let expected =
        "it is for another release: its signed Release file has `Codename: bookworm`, the base is `trixie`";
    assert!(run.err.contains(expected), "{}", run.err);
    assert_eq!(two.row("other"), None);
    two.run(Some(&serve("trixie")), &["lock"]).code(0);
    assert_eq!(two.pins("other"), ["player 1"]);
    // A name that says nothing either is nobody's release.
    fs::remove_file(two.project.path("images/images.lock")).unwrap();
    two.run(Some(&serve("stable")), &["lock"]).code(0);
}

#[test]
fn packages_that_do_not_fit_stop_only_the_images_that_need_them() {
    let two = Two::new();
    two.project.app(&["app", "broken"]);
    let other = two.other(1, 5);
    let run = two.run(Some(&other), &["lock"]).code(1);
    assert!(
        run.err.contains("error: cannot lock: no packages fit for the recipes base + app\n"),
        "{}",
        run.err
    );
    assert_eq!(two.pins("other"), ["codec 1", "player 1"]);
    assert_eq!(two.pins("test"), ["core 1", "extra 1", "library 1", "tool 1"]);
    let run = two.run(Some(&other), &["app"]).code(1);
    assert!(run.err.contains("error: app: cannot lock: no packages fit"), "{}", run.err);
    let json = two.run(Some(&other), &["lock", "--json"]).code(1).json();
    assert_eq!(
        (&json["missing"][0]["recipes"], &json["missing"][0]["images"][0]),
        (&"base + app".into(), &"app".into())
    );
    two.project.app(&["app"]);
    two.run(Some(&other), &["lock"]).code(0);
    // An update that would leave an image without packages that fit writes nothing.
    two.project.app(&["app", "broken"]);
    let before = two.project.read("images/images.lock");
    two.run_with(&two.project.serve(later(), 1), Some(&other), &["update"]).code(1);
    assert_eq!(two.project.read("images/images.lock"), before);
}

#[test]
fn an_index_that_cannot_be_read_stops_only_the_images_that_need_it() {
    let two = Two::new();
    let date =
        Timestamp::from_second((Timestamp::now() - SignedDuration::from_hours(2)).as_second()).unwrap();
    let other = Repository::new()
        .name("other")
        .date(&date.to_string())
        .valid_until(None)
        .signer(two.key.clone())
        .index("Package: player\nVersion: 1\nArchitecture: all\nFilename: pool/p.deb\nSize: 1\nMD5sum: 0\n\n")
        .serve();
    let run = two.run(Some(&other), &["lock"]).code(1);
    insta::assert_snapshot!("other_unreadable", two.project.redact(&two.test, &run.err));
    assert_eq!(two.pins("test"), TEST_1);
    assert_eq!(two.row("other"), None);
}

#[test]
fn a_named_image_leaves_what_others_stand_on_to_be_resolved_again() {
    let two = Two::new();
    let other = two.other(1, 48);
    two.run(Some(&other), &["lock"]).code(0);
    two.project.base("");
    let base = two.project.read("recipes/base/recipe.toml");
    two.project.write("recipes/base/recipe.toml", &base.replace("\"extra\"]", "\"extra\", \"more\"]"));
    // The build itself cannot go on, but what it needs is locked, and the other image keeps its pins.
    two.run(None, &["bare"]).code(1);
    let text = two.project.read("images/images.lock");
    assert_eq!(text.matches("unresolved = true").count(), 2, "{text}");
    assert!(two.pins("test").contains(&"more 1".to_owned()));
    assert_eq!(two.pins("other"), ["codec 1", "player 1"]);
    two.run(None, &["lock"]).code(0);
    assert!(!two.project.read("images/images.lock").contains("unresolved"));
    assert_eq!(two.pins("other"), ["codec 1", "player 1"]);
}
