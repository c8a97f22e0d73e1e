//! One flipped bit in each kind of object, at its beginning, middle and end: `verify --store` names the object and whose it
//! is, the next build that meets it says so and makes it again, with the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::project::Run;
use crate::quick::{Corner, Hashes, Quick, Seeded, damaged, quick};

const SEED: u64 = 20_261_128;

/// A kind of object.
struct Kind {
    /// As `verify --store --json` calls it.
    object: &'static str,
    /// Where its files are.
    directory: &'static str,
    /// Which of them: how the path ends.
    end: &'static str,
    /// What its owner contains.
    owner: &'static str,
    /// What has to be gone so that the next build reads it; paths below the corner.
    gone: &'static [&'static str],
    /// What the build says of it.
    says: &'static str,
}

const KINDS: [Kind; 9] = [
    Kind {
        object: "deb",
        directory: "store/debs",
        end: "",
        owner: "` 1",
        gone: &["result", "store/layers"],
        says: "is damaged: expected SHA-256 ",
    },
    Kind {
        object: "index",
        directory: "store/indices",
        end: "",
        owner: "of `trixie` of archive `test`",
        gone: &["project/images/images.lock"],
        says: "changed after it was stored",
    },
    Kind {
        object: "layer",
        directory: "store/layers",
        end: "/index",
        owner: "packages of base",
        gone: &["result"],
        says: "is damaged",
    },
    Kind {
        object: "layer",
        directory: "store/layers",
        end: "/pack",
        owner: "packages of base",
        gone: &["result", "store/frames", "store/scans"],
        says: "is damaged",
    },
    Kind {
        object: "frame",
        directory: "store/frames",
        end: "",
        owner: "image `",
        gone: &["result"],
        says: "is damaged",
    },
    Kind {
        object: "hash-state",
        directory: "store/frames",
        end: ".state",
        owner: "image `",
        gone: &["result"],
        says: "is damaged",
    },
    Kind {
        object: "scan",
        directory: "store/scans",
        end: "",
        owner: "packages of base",
        gone: &["result"],
        says: "is damaged",
    },
    // What it belongs to stands in the note itself.
    Kind {
        object: "note",
        directory: "store/notes",
        end: "",
        owner: "",
        gone: &["result"],
        says: "is damaged",
    },
    Kind {
        object: "result-note",
        directory: "store/results",
        end: "",
        owner: "",
        gone: &[],
        says: "is damaged",
    },
];

/// A project whose two images are built.
struct Built {
    quick: Quick,
    corner: Corner,
    good: Vec<Hashes>,
}

impl Built {
    fn new() -> Option<Self> {
        let quick = quick()?;
        let corner = Corner::new();
        for part in ["images", "recipes"] {
            crate::support::shipped::copy(&quick.0.path(part), &corner.path("project").join(part));
        }
        // Made here too, so that the store has the indices.
        fs::remove_file(corner.path("project/images/images.lock")).unwrap();
        let mut built = Self { quick, corner, good: Vec::new() };
        built.run(&[]).code(0);
        built.good = built.hashes();
        assert_eq!(built.corner.damaged(), [""; 0]);
        Some(built)
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let mut command = self.corner.command(&self.quick, arguments);
        Run::of(command.arg("--root").arg(self.corner.path("project")).output().unwrap())
    }

    fn hashes(&self) -> Vec<Hashes> {
        ["app", "bare"].map(|image| self.corner.hashes(image)).into()
    }

    fn verify(&self, code: i32, more: &[&str]) -> Value {
        let store = self.corner.store();
        let arguments = [&["verify", "--json", "--store", store.to_str().unwrap()], more].concat();
        let mut command = self.quick.0.command(&self.quick.1, &arguments);
        // In the project, whose lock names what no layer has.
        Run::of(command.current_dir(self.corner.path("project")).output().unwrap()).code(code).json()
    }

    fn remove(&self, paths: &[&str]) {
        for path in paths {
            let path = self.corner.path(path);
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
    }
}

fn files(directory: &Path, kind: &Kind) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, kind));
        } else {
            let text = path.to_str().unwrap();
            let is_state = text.ends_with(".state");
            if text.ends_with(kind.end) && is_state == (kind.object == "hash-state") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Flips a bit of `path` in its `third` third: 0, 1, or 2.
fn flip(path: &Path, third: u64, seeded: &mut Seeded) -> u64 {
    let mut bytes = fs::read(path).unwrap();
    let length = bytes.len() as u64;
    // The first 16 and last 8 bytes are worth a look of their own.
    let (start, width) = match third {
        0 => (0, length.min(16)),
        1 => (length / 3, length / 3),
        _ => (length - length.min(8), length.min(8)),
    };
    let at = start + seeded.below(width);
    bytes[usize::try_from(at).unwrap()] ^= 1 << seeded.below(8);
    fs::write(path, bytes).unwrap();
    at
}

#[test]
fn a_flipped_bit_is_found_named_and_made_again() {
    let Some(built) = Built::new() else { return };
    let mut seeded = Seeded(SEED);
    for (number, kind) in KINDS.iter().enumerate() {
        for third in 0..3 {
            // What was made ahead and is of no image after all belongs to nobody, and no build need meet it.
            built.run(&["gc"]).code(0);
            let files = files(&built.corner.path(kind.directory), kind);
            let path = files[seeded.below(files.len() as u64) as usize].clone();
            if kind.object == "hash-state" {
                // A build reads the last one of each image only.
                let others = files.iter().filter(|file| **file != path);
                others.for_each(|file| fs::remove_file(file).unwrap());
            }
            let at = flip(&path, third, &mut seeded);
            let context =
                format!("seed {SEED}, kind {number}, third {third}: byte {at} of `{}`", path.display());
            named(&built, kind, &path, &context);

            built.remove(kind.gone);
            let run = built.run(&[]);
            assert_eq!(run.code, 0, "{context}: {}", run.err);
            let said = run.err.lines().any(|line| line.starts_with("warning: ") && line.contains(kind.says));
            assert!(said, "{context}: {}", run.err);
            assert_eq!(built.hashes(), built.good, "{context}");
            assert_eq!(built.corner.damaged(), [""; 0], "{context}");
            // And that was all.
            let quiet = built.run(&[]).code(0);
            assert_eq!(
                (quiet.err.as_str(), quiet.out.matches("nothing changed").count()),
                ("", 2),
                "{context}"
            );
        }
    }
}

fn named(built: &Built, kind: &Kind, path: &Path, context: &str) {
    let found = built.verify(1, &[]);
    let all = found["damaged"].as_array().unwrap();
    assert_eq!(all.len(), 1, "{context}: {found}");
    let damaged = &all[0];
    assert_eq!(damaged["object"], kind.object, "{context}: {found}");
    assert!(path.starts_with(damaged["path"].as_str().unwrap()), "{context}: {found}");
    assert!(path.to_str().unwrap().contains(damaged["name"].as_str().unwrap()), "{context}: {found}");
    let owners = damaged["belongs_to"].to_string();
    assert!(owners.contains(kind.owner), "{context}: {found}");
}

#[test]
fn a_layer_whose_parent_is_damaged_is_built_on_a_new_parent() {
    let Some(built) = Built::new() else { return };
    let kind = &KINDS[3];
    let layers = || files(&built.corner.path("store/layers"), kind);
    // The worker reads the parent's pack to build upon it.
    let parent_of = |pack: &Path| {
        // Behind the line that names the format and the hash stands first whether there is a parent.
        fs::read(pack.with_file_name("index")).unwrap()[48] == 0
    };
    let (parent, child): (Vec<_>, Vec<_>) = layers().into_iter().partition(|pack| parent_of(pack));
    for third in 0..3 {
        let at = flip(&parent[0], third, &mut Seeded(SEED + third));
        fs::remove_dir_all(child[0].parent().unwrap()).unwrap();
        built.remove(&["result"]);
        let run = built.run(&["app"]).code(0);
        let key = parent[0].parent().unwrap().file_name().unwrap().to_str().unwrap();
        let line = format!("warning: app, packages of base: layer {key} is damaged: its content ");
        assert!(run.err.contains(&line), "byte {at}: {}", run.err);
        // The parent was built once more, and the child after a first try.
        assert_eq!(run.err.matches("app, base: reading the tree back").count(), 1, "{}", run.err);
        assert_eq!(run.err.matches("app: reading the tree back").count(), 1, "{}", run.err);
        assert_eq!(built.corner.hashes("app"), built.good[0]);
        assert_eq!(built.corner.damaged(), [""; 0]);
    }
}

#[test]
fn a_damaged_result_is_said_and_made_again() {
    let Some(built) = Built::new() else { return };
    let mut seeded = Seeded(SEED);
    for (name, _) in built.good[0].clone() {
        let path = built.corner.path("result/app").join(&name);
        flip(&path, 1, &mut seeded);
        let run = built.run(&[]).code(0);
        let line = format!("warning: app: result {} is damaged: ", built.corner.path("result/app").display());
        assert!(run.err.contains(&line), "{name}: {}", run.err);
        assert_eq!(built.hashes(), built.good, "{name}");
    }
}

#[test]
fn damage_that_no_build_meets_can_be_dropped() {
    let Some(built) = Built::new() else { return };
    let mut seeded = Seeded(SEED);
    let mut flipped = Vec::new();
    for kind in &KINDS {
        let files = files(&built.corner.path(kind.directory), kind);
        flip(&files[0], 1, &mut seeded);
        flipped.push(files[0].clone());
    }
    // Index and pack of one layer are one object.
    let objects = KINDS.len() - 1;
    let found = built.verify(1, &[]);
    assert_eq!(found["damaged"].as_array().unwrap().len(), objects, "{found}");
    let repaired = built.verify(0, &["--repair"]);
    assert!(repaired["damaged"].as_array().unwrap().iter().all(|damaged| damaged["dropped"] == true));
    assert!(flipped.iter().all(|path| !path.exists()));
    assert_eq!(damaged(&built.corner.store()), [""; 0]);
    built.remove(&["result"]);
    let run = built.run(&[]).code(0);
    assert!(!run.err.contains("warning"), "{}", run.err);
    assert_eq!(built.hashes(), built.good);
    let text = built.run(&["verify", "--store", built.corner.store().to_str().unwrap()]).code(0).out;
    assert!(text.starts_with("checked ") && text.ends_with(": all are good\n"), "{text}");
}

#[test]
fn damage_that_its_reader_went_on_with_stops_the_build_too() {
    let Some(built) = Built::new() else { return };
    // Only the check of the finished tree reads this file, and it takes what cannot be read for absent.
    let packs = files(&built.corner.path("store/layers"), &KINDS[3]);
    let mut hit = 0;
    for pack in &packs {
        let mut bytes = fs::read(pack).unwrap();
        let Some(at) = bytes.windows(10).position(|window| window == b"ID=debian\n") else { continue };
        bytes[at] ^= 1;
        fs::write(pack, bytes).unwrap();
        hit += 1;
    }
    assert_eq!(hit, 1);
    built.remove(&["result"]);
    let run = built.run(&["app"]).code(0);
    assert!(run.err.contains("warning: app, packages of base: layer "), "{}", run.err);
    assert!(run.err.contains("app, base: reading the tree back"), "{}", run.err);
    assert_eq!(built.corner.hashes("app"), built.good[0]);
    assert_eq!(built.corner.damaged(), [""; 0]);
}

#[test]
fn a_rebuild_takes_the_store_that_is_named() {
    let Some(built) = Built::new() else { return };
    let (result, store) = (built.corner.path("result/app"), built.corner.path("another store"));
    let (result, store) = (result.to_str().unwrap(), store.to_str().unwrap());
    let run = built.run(&["verify", result, "--rebuild", "--store", store]).code(0);
    assert!(run.out.ends_with("good  building it again gives the same bytes\n"), "{}", run.out);
    assert!(built.corner.path("another store/locks").exists());
    assert_eq!(fs::read_dir(built.corner.path("another store/tmp")).unwrap().count(), 0);
}
