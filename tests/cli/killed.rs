//! Builds killed at a hundred seeded moments: nothing half-made has its final name, and the next run gives the same bytes
//! and gives back what the killed one took.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use build_images::digest::Sha256;
use rustix::process::Signal;

use crate::interrupt::{all_gone, descendants};
use crate::project::Project;
use crate::quick::{Corner, Hashes, Quick, Seeded, Watched, quick};

/// How many moments there are.
const MOMENTS: usize = 100;
/// Which ones.
const SEED: u64 = 20_261_126;

/// A stage of a build: the line that it begins with, and how long it took when nobody disturbed it.
struct Stage {
    line: String,
    lasts: Duration,
}

impl Stage {
    /// Stages of making the lock; the others begin with one.
    fn locks(&self) -> bool {
        self.line.starts_with("images.lock: ") || self.line.starts_with("test: ")
    }
}

/// Builds from nothing, not even a lock, and looks at the clock.
fn reference(quick: &Quick) -> (Vec<Stage>, Hashes) {
    let corner = Corner::new();
    let root = copy(&quick.0, &corner, false);
    let mut begun = Instant::now();
    let mut build = Watched::start(&mut command(&corner, quick, &root));
    let mut stages = Vec::new();
    let mut line = "(start)".to_owned();
    while let Some(next) = build.next() {
        stages.push(Stage { line: std::mem::replace(&mut line, next.to_owned()), lasts: begun.elapsed() });
        begun = Instant::now();
    }
    let run = build.end().code(0);
    assert!(run.out.contains("built, 2 layers"), "{}", run.out);
    stages.push(Stage { line, lasts: begun.elapsed() });
    (stages, corner.hashes("app"))
}

/// The project's files, with or without its lock, for runs that may write them.
fn copy(project: &Project, corner: &Corner, with_lock: bool) -> std::path::PathBuf {
    let root = corner.path("project");
    crate::support::shipped::copy(&project.path("images"), &root.join("images"));
    crate::support::shipped::copy(&project.path("recipes"), &root.join("recipes"));
    if !with_lock {
        fs::remove_file(root.join("images/images.lock")).unwrap();
    }
    root
}

fn command(corner: &Corner, quick: &Quick, root: &std::path::Path) -> std::process::Command {
    let mut command = corner.command(quick, &["app"]);
    command.arg("--root").arg(root);
    command
}

#[test]
fn nothing_half_made_is_trusted_whenever_a_build_is_killed() {
    let Some(quick) = quick() else { return };
    let (stages, good) = reference(&quick);
    let (next, landed) = (AtomicUsize::new(0), Mutex::new(BTreeMap::<String, usize>::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let moment = next.fetch_add(1, Ordering::Relaxed);
                    if moment >= MOMENTS {
                        break;
                    }
                    let stage = kill_at(&quick, moment, &stages, &good);
                    *landed.lock().unwrap().entry(stage).or_default() += 1;
                }
            });
        }
    });
    let landed = landed.into_inner().unwrap();
    // What lasts no longer than it takes to send a signal may be over each time.
    let lasting = stages.iter().filter(|stage| stage.lasts >= Duration::from_millis(10));
    let missed: Vec<_> = lasting.filter(|stage| !landed.contains_key(&stage.line)).collect();
    let missed: Vec<_> = missed.iter().map(|stage| &stage.line).collect();
    assert!(missed.is_empty(), "seed {SEED}: no kill in {missed:?}, but in {landed:#?}");
    assert_eq!(landed.values().sum::<usize>(), MOMENTS);
}

/// One killed build and the next one. Gives the stage that the kill hit.
fn kill_at(quick: &Quick, moment: usize, stages: &[Stage], good: &[(String, Sha256)]) -> String {
    let mut seeded = Seeded(SEED + moment as u64);
    // Every stage in turn. Its very beginning first: some are shorter than the noise of a busy machine.
    let (at, round) = (moment % stages.len(), moment / stages.len());
    let part = if round == 0 { 0 } else { seeded.below(1000) };
    let then = stages[at].lasts.mul_f64(part as f64 / 1000.0);
    let context = format!("seed {SEED}, moment {moment}: `{}` and {then:?}", stages[at].line);

    let corner = Corner::new();
    let root = copy(&quick.0, &corner, !stages[at].locks());
    let lines =
        at - if stages[at].locks() { 0 } else { stages.iter().filter(|stage| stage.locks()).count().min(at) };
    let with_scratch = seeded.below(4) == 0;
    let start = || {
        let mut command = command(&corner, quick, &root);
        if with_scratch {
            command.arg("--scratch").arg(corner.path("scratch"));
        }
        Watched::start(&mut command)
    };
    let mut build = start();
    for _ in 0..lines {
        build.next();
    }
    std::thread::sleep(then);
    // Looking for processes takes longer than some stages.
    let processes = if seeded.below(2) == 0 { descendants(build.id()) } else { BTreeSet::new() };
    build.signal(Signal::KILL);
    let killed = build.end();
    let lines: Vec<_> = killed.err.lines().collect();
    let hit = lines.last().map_or("(start)", |line| *line).to_owned();
    assert!(!lines.iter().any(|line| line.starts_with("error")), "{context}: {lines:#?}");
    all_gone(&processes);

    // What has its final name is whole.
    assert_eq!(corner.damaged(), [""; 0], "{context}, hit `{hit}`");
    let there = corner.path("result/app").exists();
    assert!(!there || corner.hashes("app") == good, "{context}, hit `{hit}`");
    let lock = fs::read(root.join("images/images.lock"));
    let wanted = fs::read(quick.0.path("images/images.lock")).unwrap();
    assert!(lock.is_err() || lock.unwrap() == wanted, "{context}, hit `{hit}`: another lock");

    let run = start().end();
    assert_eq!(run.code, 0, "{context}, hit `{hit}`: {}", run.err);
    assert!(!run.err.contains("warning"), "{context}, hit `{hit}`: {}", run.err);
    assert_eq!(corner.hashes("app"), good, "{context}, hit `{hit}`");
    assert_eq!(corner.damaged(), [""; 0], "{context}, hit `{hit}`");
    assert_eq!(corner.temporary(), [""; 0], "{context}, hit `{hit}`");
    assert_eq!(fs::read_dir(corner.store().join("partial")).unwrap().count(), 0, "{context}, hit `{hit}`");
    let beside: Vec<_> =
        fs::read_dir(root.join("images")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        !beside.iter().any(|name| name.to_str().unwrap().starts_with('.')),
        "{context}, hit `{hit}`: {beside:?}"
    );
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(corner.path("").to_str().unwrap()), "{context}, hit `{hit}`: {mounts}");
    hit
}
