//! A build that is stopped or killed, at several moments: nothing of it runs on, and the next one goes on from there.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use build_images::digest::Sha256;
use rustix::process::{Pid, Signal, kill_process};

use crate::built::{Place, hashes};
use crate::project::{Run, program};

/// Stages of a build, in order; the second image layer has the same once more.
const MOMENTS: [(&str, u64); 4] = [
    ("debian-13: unpacking", 300),
    ("debian-13: configuring", 1000),
    ("qbittorrent: unpacking", 100),
    ("qbittorrent: compressing frames", 100),
];

fn start(place: &Place) -> Child {
    let mut command: Command = program();
    command.arg("--root").arg(place.path("stopped")).arg("--store").arg(place.path("stopped store"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for the line that ends in `text`, and a little longer.
fn reach(child: &mut Child, text: &str, then: u64) {
    let err = BufReader::new(child.stderr.take().unwrap());
    let mut lines = err.lines();
    let found = lines.by_ref().map(Result::unwrap).find(|line| line.contains(text));
    assert!(found.is_some(), "the build ended without `{text}`");
    // Whoever writes into a closed pipe would end by that.
    std::thread::spawn(move || lines.count());
    std::thread::sleep(Duration::from_millis(then));
}

/// Processes that descend from `root`, each with the time at which it started.
pub fn descendants(root: u32) -> BTreeSet<(u32, String)> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<_> = rest.split(' ').collect();
        all.push((id, fields[1].parse::<u32>().unwrap(), fields[19].to_owned()));
    }
    let mut found = BTreeSet::new();
    let mut parents = BTreeSet::from([root]);
    loop {
        let before = found.len();
        for (id, parent, started) in &all {
            if parents.contains(parent) {
                parents.insert(*id);
                found.insert((*id, started.clone()));
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// Waits until none of `processes` is there any more.
pub fn all_gone(processes: &BTreeSet<(u32, String)>) {
    let there = |(id, started): &&(u32, String)| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| {
            let fields: Vec<_> = rest.split(' ').collect();
            fields[19] == started && fields[0] != "Z"
        })
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while processes.iter().any(|process| there(&process)) {
        let left: Vec<_> = processes.iter().filter(there).collect();
        assert!(Instant::now() < deadline, "processes are left: {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

pub fn at_any_time(place: &Place, good: &[(String, Sha256)]) {
    let project = place.project("stopped");
    let store = place.store("stopped store");

    // Stopped by the user.
    let mut child = start(place);
    reach(&mut child, "debian-13: configuring", 500);
    let processes = descendants(child.id());
    assert!(!processes.is_empty());
    let begun = Instant::now();
    signal(&child, Signal::INT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("qbittorrent  interrupted"), "{out}");
    all_gone(&processes);
    // Nothing half-made is left.
    assert_eq!(fs::read_dir(store.join("tmp")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(store.join("layers")).unwrap().count(), 0);
    let left = fs::read_dir(project.join("result")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["site"], "what needs no build is there already");

    for (line, mut then) in MOMENTS {
        loop {
            let mut child = start(place);
            reach(&mut child, line, then);
            let processes = descendants(child.id());
            signal(&child, Signal::KILL);
            child.wait().unwrap();
            all_gone(&processes);
            let result = project.join("result/qbittorrent");
            if !result.exists() {
                break;
            }
            // It was done by then, so it has to be whole. Once more, and sooner.
            assert_eq!(hashes(&result), good);
            assert!(then > 0, "the build ends before it can be killed after `{line}`");
            then /= 2;
            fs::remove_dir_all(&result).unwrap();
            fs::remove_dir_all(store.join("frames")).unwrap();
            if !line.ends_with("frames") {
                fs::remove_dir_all(store.join("layers")).unwrap();
            }
        }
    }
    let output = start(place).wait_with_output().unwrap();
    let run = Run::of(output).code(0);
    // Both layers were complete when the last one was killed.
    assert!(!run.err.contains("configuring"), "{}", run.err);
    assert_eq!(hashes(&project.join("result/qbittorrent")), good);
}
