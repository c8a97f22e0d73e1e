//! Upgrades, rollbacks and faults in any order: no byte of state is lost.

use std::process::Stdio;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::node::Node;
use crate::prepared;
use crate::project::{Project, Run, STATE, VMID, Version, node, running};

/// How many sequences there are, in two halves that run at once, unless the environment says otherwise. All 200 take seven
/// minutes: `BUILD_IMAGES_TEST_SEQUENCES=200 cargo test --test deploy -- sequences`.
const SEQUENCES: u64 = 20;

fn sequences() -> u64 {
    let said = std::env::var("BUILD_IMAGES_TEST_SEQUENCES").ok();
    said.map_or(SEQUENCES, |number| number.parse().expect("BUILD_IMAGES_TEST_SEQUENCES is a number"))
}

const POINTS: &[(&str, u32)] = &[
    ("sha256sum", 2),
    ("mv", 4),
    ("setsid", 1),
    ("find", 1),
    ("stop", 1),
    ("stopped", 1),
    ("cp", 3),
    ("restore-early", 1),
    ("restore", 1),
    ("restored", 1),
    ("start", 1),
    ("started", 1),
    ("perl", 1),
];

#[test]
fn random_sequences_lose_no_byte_of_state_that_is_kept() {
    if prepared() {
        run("", 0..sequences() / 2);
    }
}

#[test]
fn random_sequences_lose_no_byte_of_state_that_is_copied() {
    if prepared() {
        run("one-way", sequences() / 2..sequences());
    }
}

/// What the node is known to have.
#[derive(Debug, Clone)]
struct Known {
    /// Versions that were deployed one after the other, the one that runs last.
    history: Vec<u32>,
    /// What was written to the state, by the version that it was written for; of what is put back, too.
    data: Vec<String>,
    /// Of each in the history: the data when the next one took its place.
    left: Vec<Vec<String>>,
}

fn run(behaviour: &'static str, seeds: std::ops::Range<u64>) {
    let projects: Vec<_> = (1..=4).map(|number| Project::new(&Version { number, behaviour })).collect();
    let node = node();
    let first = ssh(&projects[0], &node, &["deploy"]);
    assert_eq!(first.code, 0, "{}", first.err);
    let mut known = Known { history: vec![1], data: Vec::new(), left: Vec::new() };
    for seed in seeds {
        let mut random = StdRng::seed_from_u64(seed);
        for step in 0..random.random_range(1..=2) {
            let what = format!("sequence {seed}, step {step}");
            one(&node, &projects, &mut known, &mut random, behaviour == "one-way", &what);
        }
    }
}

fn ssh(project: &Project, node: &Node, arguments: &[&str]) -> Run {
    Run::of(project.command(node, arguments).env("BUILD_IMAGES_SSH", node.near()).output().unwrap())
}

/// One step, with or without something that happens in it.
fn one(node: &Node, projects: &[Project], known: &mut Known, random: &mut StdRng, one_way: bool, what: &str) {
    let note = format!("{what}: {}", random.random::<u64>());
    node.run(&format!("echo '{note}' >> {STATE}/data"));
    known.data.push(note);

    let now = *known.history.last().unwrap();
    let rollback = known.history.len() > 1 && random.random_bool(0.4);
    let to = if rollback {
        known.history[known.history.len() - 2]
    } else {
        // What a newer one has written, an older one is not given.
        let least = if one_way { now } else { 1 };
        random.random_range(least..=4)
    };
    let arguments: &[&str] = if rollback { &["deploy", "--rollback"] } else { &["deploy"] };
    let kind = random.random_range(0..6);
    let (point, count) = POINTS[random.random_range(0..POINTS.len())];
    let count = random.random_range(1..=count);
    let project = &projects[usize::try_from(to).unwrap() - 1];
    let doing = format!("{what}: {now} to {to}, rollback {rollback}, kind {kind} at {point} {count}");
    let result = match kind {
        0 | 1 => ssh(project, node, arguments),
        2 | 3 => {
            node.fault(point, &format!("{} {count}", if kind == 2 { "error" } else { "full" }));
            let run = ssh(project, node, arguments);
            node.run("rm -f /mnt/storage/full /srv/full /var/lib/build-images/full");
            run
        }
        _ => {
            node.fault(point, &format!("hang {count}"));
            let mut child = project
                .command(node, arguments)
                .env("BUILD_IMAGES_SSH", node.near())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let ended = loop {
                if node.exists("/mnt/fault/reached") {
                    break false;
                }
                if child.try_wait().unwrap().is_some() {
                    break true;
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            };
            if !ended {
                child.kill().unwrap();
                node.reboot_without_sshd();
            }
            Run::of(child.wait_with_output().unwrap())
        }
    };
    node.clear_faults();
    let mut said = result.err.clone();
    if result.code != 0 {
        // What was printed, or what whoever was killed would have been told.
        let recovered = ssh(project, node, &["deploy", "--recover", "app"]);
        said = format!("{said}\n{}", recovered.err);
        assert_eq!(recovered.code, 0, "{doing}\n{said}");
    }

    let found = running(node);
    let log = || {
        node.try_run(&format!(
            "cat /var/lib/build-images/{VMID}/log /var/lib/build-images/{VMID}/last/journal /run/ct/*.log"
        ))
        .1
    };
    assert!(found == Some(now) || found == Some(to), "{doing}: {found:?} runs\n{said}\n{}", log());
    let changed = node.read(&format!("/var/lib/build-images/{VMID}/history")).lines().count();
    if found == Some(to) && to != now {
        if rollback {
            known.history.pop();
            let left = known.left.pop().unwrap();
            if one_way {
                // The newer state is not lost: it lies beside.
                let beside = node.run("cat /srv/appdata/.app.*/data");
                assert!(known.data.iter().all(|note| beside.contains(note.as_str())), "{doing}");
                known.data = left;
            }
        } else {
            known.history.push(to);
            known.left.push(known.data.clone());
        }
        // Two earlier ones are kept.
        if known.history.len() > 3 {
            known.history.remove(0);
            known.left.remove(0);
        }
    }
    assert_eq!(changed, known.history.len(), "{doing}");
    let data = if known.data.is_empty() { String::new() } else { node.read(&format!("{STATE}/data")) };
    assert_eq!(data.lines().collect::<Vec<_>>(), known.data, "{doing}\n{said}\n{}", log());
    assert!(!node.exists(&format!("/var/lib/build-images/{VMID}/transaction")), "{doing}");
}
