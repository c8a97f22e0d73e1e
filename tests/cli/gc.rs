//! `gc`: what nobody refers to goes, what somebody may want stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use build_images::store::{Kind, Store};
use rustix::process::Signal;

use crate::project::{Project, Run, later};
use crate::quick::{Corner, Watched, quick, slow};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn old(path: &Path, days: u32) {
    let file = File::open(path).unwrap();
    file.set_modified(SystemTime::now() - DAY * days).unwrap();
}

#[test]
fn what_nobody_refers_to_goes() {
    let (project, served) = Project::locked();
    let store = Store::open(project.store()).unwrap();
    let wanted = served.locked_packages()[1].sha256;
    let unwanted = "0".repeat(64);
    for name in [wanted.to_string(), unwanted.clone()] {
        fs::write(store.path(Kind::Deb, &name), "12345").unwrap();
    }
    fs::create_dir(store.path(Kind::Layer, &unwanted)).unwrap();
    fs::write(store.path(Kind::Layer, &unwanted).join("pack"), "123").unwrap();
    fs::write(store.path(Kind::Frame, &unwanted), "1").unwrap();
    for directory in ["scans", "notes", "results"] {
        fs::create_dir_all(store.root().join(directory)).unwrap();
        fs::write(store.root().join(directory).join(&unwanted), "1").unwrap();
    }
    // Of a run that was killed, and of one that lives.
    fs::create_dir(store.root().join("tmp/killed")).unwrap();
    fs::write(store.root().join("tmp/killed/pack"), "12").unwrap();
    fs::write(store.root().join("running/killed"), "1 1\n").unwrap();
    let held = store.create_directory().unwrap();

    let before = all_files(store.root());
    let dry = project.run(&served, &["gc", "--dry-run"]).code(0);
    insta::assert_snapshot!(dry.out, @"
    would drop                size  path in the store                                                         of
    package                    5 B  debs/0000000000000000000000000000000000000000000000000000000000000000
    frame                      1 B  frames/0000000000000000000000000000000000000000000000000000000000000000
    layer                      3 B  layers/0000000000000000000000000000000000000000000000000000000000000000
    note of a job              1 B  notes/0000000000000000000000000000000000000000000000000000000000000000
    note of a result           1 B  results/0000000000000000000000000000000000000000000000000000000000000000
    leftover of a killed run   4 B  running/killed
    searched contents          1 B  scans/0000000000000000000000000000000000000000000000000000000000000000
    leftover of a killed run   2 B  tmp/killed
    would drop 8 objects, 18 B; 3 are in use
    ");
    assert_eq!(all_files(store.root()), before);
    let promised = project.run(&served, &["gc", "--dry-run", "--json"]).code(0).json();
    // Everything is young but what nobody can want any more.
    let json = project.run(&served, &["gc", "--keep-days", "1", "--json"]).code(0).json();
    assert_eq!(json["objects"], 2);
    let run = project.run(&served, &["gc"]).code(0);
    assert!(run.out.starts_with("dropped 6 objects, "), "{}", run.out);
    // Nothing else went than what the dry run named.
    let after = all_files(store.root());
    let dropped: Vec<_> = promised["dropped"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| store.root().join(one["path"].as_str().unwrap()))
        .collect();
    for path in before.keys() {
        let named = dropped.iter().any(|dropped| path.starts_with(dropped));
        assert_eq!(after.contains_key(path), !named, "{}", path.display());
    }
    for kind in [Kind::Deb, Kind::Layer, Kind::Frame] {
        assert!(!store.contains(kind, &unwanted));
    }
    assert!(store.contains(Kind::Deb, wanted));
    assert!(held.path().exists());
    assert!(project.run(&served, &["gc"]).code(0).out.starts_with("dropped 0 objects, 0 B; "));
}

#[test]
fn what_the_lock_was_made_from_stays_so_that_more_can_be_locked_without_network() {
    let (project, served) = Project::locked();
    project.run(&served, &["gc"]).code(0);
    project.app(&["app", "more"]);
    drop(served);
    let nobody = project.serve(later(), 24);
    let asked = nobody.server.requests().len();
    project.run(&nobody, &["lock"]).code(0);
    assert!(project.pins().contains(&"more 1".to_owned()));
    assert_eq!(nobody.server.requests().len(), asked);
}

/// Every file of a store with its time, but for the files of locks.
fn all_files(directory: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        found.insert(path.clone(), fs::metadata(&path).unwrap().modified().unwrap());
        if path.is_dir() && path.file_name().unwrap() != "locks" {
            found.append(&mut all_files(&path));
        }
    }
    found
}

/// The names of an archive's frames in the store.
fn frames_of(result: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(result.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let frames = manifest["frames"].as_array().unwrap().iter();
    frames.filter_map(|frame| frame["key"].as_str()).map(str::to_owned).collect()
}

#[test]
fn what_was_used_lately_is_kept_for_some_days() {
    let Some(quick) = quick() else { return };
    let corner = Corner::new();
    corner.run(&quick, &["app"]).code(0);
    let kinds = ["debs", "layers", "frames", "scans"];
    let count = || kinds.map(|kind| fs::read_dir(corner.store().join(kind)).unwrap().count());
    let age = |days| {
        for kind in kinds {
            for entry in fs::read_dir(corner.store().join(kind)).unwrap() {
                old(&entry.unwrap().path(), days);
            }
        }
    };
    // Another project, for which all of it is of no use.
    let other = Project::new();
    let gc = |days: &str| {
        let mut command = other.command(&quick.1, &["gc", "--keep-days", days]);
        Run::of(command.env("BUILD_IMAGES_STORE", corner.store()).output().unwrap()).code(0)
    };
    let all = count();
    // A result keeps what it refers to, however old.
    age(100);
    gc("0");
    assert_eq!(count(), all);
    // Without it, what a build used is as new as that build.
    fs::remove_dir_all(corner.path("result")).unwrap();
    corner.run(&quick, &["app"]).code(0);
    let wanted = frames_of(&corner.path("result/app"));
    fs::remove_dir_all(corner.path("result")).unwrap();
    gc("30");
    // It used everything but the packages, which are in the layers, and frames that were compressed ahead and are none of the
    // archive's.
    let used = count();
    assert_eq!((used[0], used[1], used[3]), (0, all[1], all[3]));
    let left = fs::read_dir(corner.store().join("frames")).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.filter(|name| !name.ends_with(".state")).collect::<BTreeSet<_>>(), wanted);
    age(31);
    gc("32");
    assert_eq!(count(), used);
    gc("30");
    assert_eq!(count(), [0; 4]);
}

#[test]
fn what_a_running_build_needs_stays() {
    let (project, served) = Project::locked();
    let store = Store::open(project.store()).unwrap();
    for name in ["needed", "used", "unwanted"] {
        fs::write(store.path(Kind::Deb, name), "1").unwrap();
        old(&store.path(Kind::Deb, name), 100);
    }
    let run = store.use_objects().unwrap();
    run.needs([(Kind::Deb, "needed".to_owned()), (Kind::Layer, "to come".to_owned())]).unwrap();
    File::open(store.path(Kind::Deb, "used")).unwrap().set_modified(SystemTime::now()).unwrap();
    fs::create_dir(store.path(Kind::Layer, "to come")).unwrap();
    old(&store.path(Kind::Layer, "to come"), 100);
    project.run(&served, &["gc"]).code(0);
    let there = || ["needed", "used", "unwanted"].map(|name| store.contains(Kind::Deb, name));
    assert_eq!(there(), [true, true, false]);
    assert!(store.contains(Kind::Layer, "to come"));
    drop(run);
    project.run(&served, &["gc"]).code(0);
    assert_eq!(there(), [false; 3]);
    assert!(!store.contains(Kind::Layer, "to come"));
}

#[test]
fn it_neither_waits_for_a_running_build_nor_takes_anything_from_it() {
    let Some(quick) = slow() else { return };
    let corner = Corner::new();
    // So that there is something old to lose.
    corner.run(&quick, &["bare"]).code(0);
    for kind in ["debs", "layers", "frames"] {
        for entry in fs::read_dir(corner.store().join(kind)).unwrap() {
            old(&entry.unwrap().path(), 100);
        }
    }
    fs::remove_dir_all(corner.path("result")).unwrap();
    let mut build = Watched::start(&mut corner.command(&quick, &["app"]));
    build.reach("app: configuring (2 packages)");
    build.signal(Signal::STOP);
    let before = fs::read_dir(corner.store().join("debs")).unwrap().count();
    let other = Project::new();
    let mut gc = other.command(&quick.1, &["gc"]);
    let run = Run::of(gc.env("BUILD_IMAGES_STORE", corner.store()).output().unwrap()).code(0);
    assert_eq!(run.err, "");
    // The frames of the other image went.
    assert!(run.out.starts_with("dropped ") && !run.out.starts_with("dropped 0 "), "{}", run.out);
    assert_eq!(fs::read_dir(corner.store().join("frames")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(corner.store().join("debs")).unwrap().count(), before);
    assert_eq!(fs::read_dir(corner.store().join("layers")).unwrap().count(), 1);
    build.signal(Signal::CONT);
    let run = build.end().code(0);
    assert!(!run.err.contains("base: configuring"), "{}", run.err);
    assert_eq!(corner.damaged(), [""; 0]);
    assert_eq!(corner.temporary(), [""; 0]);
}

#[test]
fn a_wait_for_another_sweep_can_be_interrupted() {
    let (project, served) = Project::locked();
    let store = Store::open(project.store()).unwrap();
    let sweep = store.try_sweep().unwrap();
    let mut waiting = Watched::start(&mut project.command(&served, &["gc"]));
    waiting.reach("gc: waiting until no other run begins or sweeps");
    waiting.signal(Signal::INT);
    assert_eq!(waiting.end().code, 130);
    drop(sweep);
    project.run(&served, &["gc"]).code(0);
}
