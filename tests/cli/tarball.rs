//! Tarballs of recipes: locked, fetched, found to be others. What is made of them is tested where images are built.

use std::collections::BTreeMap;
use std::fs;

use build_images::digest::Sha256;
use build_images::store::{Kind, Store};

use crate::project::{Project, Run, first};
use crate::support::repository::Served;
use crate::support::server::{Fault, Server};

const BYTES: &[u8] = b"not unpacked here";

/// A project whose recipe `app` has a tarball, and the server that has it.
struct Place {
    project: Project,
    served: Served,
    files: Server,
}

impl Place {
    fn new() -> Self {
        let files = Server::start(BTreeMap::from([("files/tool-1.0.tar.gz".to_owned(), BYTES.to_vec())]));
        let project = Project::new();
        let place = Self { served: project.serve(first(), 48), project, files };
        place.recipe("files/tool-1.0.tar.gz", Sha256::of(BYTES));
        place
    }

    fn recipe(&self, path: &str, sha256: Sha256) {
        self.project.write(
            "recipes/app/recipe.toml",
            &format!(
                "description = \"An application\"\n\n[packages]\ninstall = [\"app\"]\n\n[[tarball]]\nname = \"tool\"\n\
                 url = \"{}{path}\"\nsha256 = \"{sha256}\"\npath = \"/opt/tool\"\n",
                self.files.uri()
            ),
        );
    }

    fn run(&self, arguments: &[&str]) -> Run {
        self.project.run(&self.served, arguments)
    }

    fn redact(&self, text: &str) -> String {
        self.project.redact(&self.served, &text.replace(&self.files.port().to_string(), "FILES"))
    }
}

fn locked(place: &Place) -> Option<(String, u64)> {
    let text = place.project.read("images/images.lock");
    let lock = build_images::apt::lockfile::Lock::parse(&text).unwrap();
    lock.tarball("tool").map(|row| (row.url.clone(), row.size))
}

#[test]
fn it_is_locked_with_its_size_and_moves_only_with_its_recipe() {
    let place = Place::new();
    let run = place.run(&["lock"]).code(0);
    insta::assert_snapshot!("tarball_locked", place.redact(&run.out));
    let url = format!("{}files/tool-1.0.tar.gz", place.files.uri());
    assert_eq!(locked(&place), Some((url, BYTES.len() as u64)));
    let store = Store::open(place.project.store()).unwrap();
    assert_eq!(fs::read(store.path(Kind::Tarball, Sha256::of(BYTES))).unwrap(), BYTES);
    let show = place.run(&["show", "app"]).code(0);
    assert!(show.out.contains("tarball      tool http"), "{}", show.out);

    // What the lock names stays in the store; a second lock asks nobody.
    let asked = place.files.requests().len();
    assert!(place.run(&["gc"]).code(0).out.starts_with("dropped 0 objects"));
    place.run(&["lock"]).code(0);
    // Another URL of the same file is no reason to fetch it.
    place.recipe("moved/tool-1.0.tgz", Sha256::of(BYTES));
    assert!(
        place
            .run(&["check"])
            .code(0)
            .out
            .ends_with("tarball `tool` has another URL or hash than was locked\n")
    );
    place.run(&["lock"]).code(0);
    assert_eq!(place.files.requests().len(), asked);
    assert!(locked(&place).unwrap().0.ends_with("moved/tool-1.0.tgz"));

    let before = place.project.read("images/images.lock");
    place.project.write("old.lock", &before);
    place.files.put("files/tool-1.1.tar.gz", &b"the next one"[..]);
    place.recipe("files/tool-1.1.tar.gz", Sha256::of("the next one"));
    place.run(&["lock"]).code(0);
    let diff = place.run(&["diff", "old.lock", "images/images.lock"]).code(0);
    insta::assert_snapshot!("tarball_diff", place.redact(&diff.out));
    let run = place.run(&["update", "tool"]).code(0);
    assert!(
        run.out.contains("no package changes") || run.out.contains("everything is up to date"),
        "{}",
        run.out
    );

    // Nobody asks for it any more.
    place.project.app(&["app"]);
    place.run(&["lock"]).code(0);
    assert_eq!(locked(&place), None);
    assert!(place.run(&["gc"]).code(0).out.starts_with("dropped 2 objects"));
}

#[test]
fn a_name_that_is_a_tarball_is_no_archive() {
    let place = Place::new();
    place.run(&["lock"]).code(0);
    let text = place.project.read("recipes/app/recipe.toml").replace("name = \"tool\"", "name = \"helper\"");
    place.project.write("recipes/app/recipe.toml", &text);
    place.run(&["lock"]).code(0);
    let run = place.run(&["update", "helper"]).code(2);
    insta::assert_snapshot!(run.err, @"
    images.lock: moving pins
    error: `helper` is a tarball, which its recipe pins: change its `url` and `sha256` there
    ");
}

#[test]
fn another_file_is_refused_and_one_that_is_away_stops_only_its_images() {
    let place = Place::new();
    place.files.put("files/tool-1.0.tar.gz", &b"something else..."[..]);
    let run = place.run(&["lock"]).code(1);
    insta::assert_snapshot!("tarball_other", place.redact(&run.err));
    assert_eq!(locked(&place), None);
    assert_eq!(place.project.pins().len(), 6);
    let store = Store::open(place.project.store()).unwrap();
    assert_eq!(fs::read_dir(store.root().join("tarballs")).unwrap().count(), 0);
    place.files.remove("files/tool-1.0.tar.gz");
    let run = place.run(&["app"]).code(1);
    let error: Vec<_> = run.err.lines().skip_while(|line| !line.starts_with("error: ")).collect();
    assert_eq!(error.len(), 2, "{}", run.err);
    assert!(error[0].starts_with("error: app: tarball `tool` is not locked yet"), "{}", run.err);
    assert!(error[1].contains("--mirror tool=URI"), "{}", run.err);
    let json = place.run(&["lock", "--json"]).code(1).json();
    assert_eq!(json["missing"][0]["tarball"], "tool");

    // A mirror has it under its name.
    let directory = place.project.path("mirror dir");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("tool-1.0.tar.gz"), BYTES).unwrap();
    place.run(&["lock", "--mirror", &format!("tool={}", directory.display())]).code(0);
    assert_eq!(locked(&place).unwrap().1, BYTES.len() as u64);
    assert!(!place.project.read("images/images.lock").contains("mirror"));
}

#[test]
fn a_server_may_break_off_or_say_nothing_of_the_size() {
    let place = Place::new();
    place.files.fault("files/tool-1.0.tar.gz", Fault::CutOff(5)).times(2);
    place.run(&["lock"]).code(0);
    let resumed = place.files.requests().into_iter().filter_map(|request| request.from).collect::<Vec<_>>();
    assert!(resumed.contains(&5), "{resumed:?}");
    fs::remove_dir_all(place.project.store()).unwrap();
    fs::remove_file(place.project.path("images/images.lock")).unwrap();
    place.files.fault("files/tool-1.0.tar.gz", Fault::Unmeasured);
    place.run(&["lock"]).code(0);
    assert_eq!(locked(&place).unwrap().1, BYTES.len() as u64);
    let store = Store::open(place.project.store()).unwrap();
    assert_eq!(fs::read(store.path(Kind::Tarball, Sha256::of(BYTES))).unwrap(), BYTES);
}
