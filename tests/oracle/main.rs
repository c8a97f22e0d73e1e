//! The package sets are apt's: compares the solver with Debian 13's own apt on the same indices.
//!
//! A sample of 16 packages is compared on every run. `BUILD_IMAGES_ORACLE_PACKAGES=300` asks for more,
//! `BUILD_IMAGES_ORACLE_SEED` for others, and `BUILD_IMAGES_ORACLE_LIST` names a file of names, one a line.
//! `docs/resolution.md` has the record.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

mod debian;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use build_images::apt::resolve::{Chosen, Request, resolve};
use build_images::apt::universe::{Index, Universe};
use debian::{Answer, Debian, Question};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rayon::prelude::*;

/// Draws the packages that are compared when nothing else is asked for.
const SEED: u64 = 20_260_912;
/// The record, which lists every difference known.
const RECORD: &str = include_str!("../../docs/resolution.md");

fn available() -> bool {
    let program = |name: &str| {
        ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].iter().any(|place| Path::new(place).join(name).exists())
    };
    support::require("root, to enter a Debian 13 root", rustix::process::geteuid().is_root())
        && support::require("mmdebstrap, to make a Debian 13 root", program("mmdebstrap"))
        && support::require("apt-get, to find a mirror", program("apt-get"))
}

fn universe(debian: &Debian) -> Universe<'_> {
    let indices: Vec<_> = debian
        .indices
        .iter()
        .map(|(suite, text)| Index { archive: "debian", suite, not_automatic: false, text })
        .collect();
    Universe::new("amd64", &indices).unwrap()
}

fn solve(universe: &Universe<'_>, question: &Question, base: &[Chosen<'_>]) -> Result<Answer, String> {
    let request =
        Request { install: &question.names, recommends: question.recommends, essential: false, base };
    match resolve(universe, &request) {
        Ok(solution) => {
            let pair = |id| {
                let package = universe.package(id);
                (package.name.to_owned(), package.version.to_owned())
            };
            Ok(Some(solution.members.iter().map(|member| pair(member.package)).collect()))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// What differs, as `+only ours -only apt's`; nothing when the sets and all versions are the same.
fn difference(apt: &Answer, ours: &Result<Answer, String>) -> Option<String> {
    match (apt, ours) {
        (None, Err(_)) => None,
        (None, Ok(_)) => Some("apt refuses".to_owned()),
        (Some(_), Err(error)) => Some(format!("we refuse: {error}")),
        (Some(apt), Ok(ours)) => {
            let empty = BTreeMap::new();
            let ours = ours.as_ref().unwrap_or(&empty);
            let only = |left: &BTreeMap<String, String>, right: &BTreeMap<String, String>, sign: char| {
                let missing = left.iter().filter(|(name, version)| right.get(*name) != Some(*version));
                missing.map(|(name, version)| format!("{sign}{name}={version}")).collect::<Vec<_>>()
            };
            let all = [only(ours, apt, '+'), only(apt, ours, '-')].concat();
            (!all.is_empty()).then(|| all.join(" "))
        }
    }
}

/// The packages that the record lists as different, with the mode.
fn recorded() -> BTreeSet<(String, bool)> {
    let row = |line: &str| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (name, mode) = (cells.next()?.trim_matches('`').to_owned(), cells.next()?);
        match mode {
            "without" => Some((name, false)),
            "with" => Some((name, true)),
            _ => None,
        }
    };
    RECORD.lines().filter_map(row).collect()
}

#[test]
fn sets_and_versions_are_those_of_apt() {
    if !available() {
        return;
    }
    let number = |name: &str, default| {
        std::env::var(name)
            .map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
    };
    let count = number("BUILD_IMAGES_ORACLE_PACKAGES", 16);
    let seed = number("BUILD_IMAGES_ORACLE_SEED", SEED);
    let debian = Debian::open();
    let universe = universe(&debian);
    let main = debian.indices[0].1.lines().filter_map(|line| line.strip_prefix("Package: "));
    let names: Vec<_> = main.collect::<BTreeSet<_>>().into_iter().collect();
    let mut random = StdRng::seed_from_u64(seed);
    let mut drawn: Vec<_> = names.choose_multiple(&mut random, count as usize).copied().collect();
    drawn.sort_unstable();
    let list =
        std::env::var_os("BUILD_IMAGES_ORACLE_LIST").map(|list| std::fs::read_to_string(list).unwrap());
    if let Some(list) = &list {
        drawn = list.lines().collect();
    }
    let recorded = recorded();
    let mut failures = Vec::new();
    for (recommends, goal) in [(false, 99), (true, 97)] {
        let questions: Vec<_> =
            drawn.iter().map(|name| Question { names: vec![(*name).to_owned()], recommends }).collect();
        let answers = debian.ask(&questions);
        let started = std::time::Instant::now();
        let mut differences: Vec<String> = Vec::new();
        let mut refused = 0;
        let solved: Vec<_> = questions.par_iter().map(|question| solve(&universe, question, &[])).collect();
        for ((question, answer), ours) in questions.iter().zip(&answers).zip(solved) {
            refused += usize::from(answer.is_none() && ours.is_err());
            if let Some(text) = difference(answer, &ours) {
                println!(
                    "difference: {} {}: {text}",
                    question.names[0],
                    if recommends { "with" } else { "without" }
                );
                differences.push(question.names[0].clone());
            }
        }
        let same = drawn.len() - differences.len();
        println!(
            "seed {seed}, recommends {recommends}: {same} of {} the same, {refused} of them refused by both, solved in {:?}",
            drawn.len(),
            started.elapsed()
        );
        let unknown = differences.iter().filter(|name| !recorded.contains(&((*name).clone(), recommends)));
        failures.extend(unknown.map(|name| format!("`{name}` differs and is not in the record")));
        // Of a small sample one difference is more than the goal allows; those have to be on record.
        let allowed = drawn.len() * (100 - goal) / 100;
        if drawn.len() >= 100 && differences.len() > allowed {
            failures.push(format!("{same} of {} are the same, expected {goal} %", drawn.len()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What a container gets besides Essential and Priority: required.
const SYSTEM: [&str; 12] = [
    "systemd-sysv",
    "dbus",
    "ifupdown",
    "iproute2",
    "openssh-server",
    "ca-certificates",
    "apt",
    "tzdata",
    "procps",
    "netbase",
    "iputils-ping",
    "dhcpcd-base",
];

#[test]
fn the_sets_of_the_images_are_those_of_apt() {
    if !available() {
        return;
    }
    let debian = Debian::open();
    let universe = universe(&debian);
    let mut system: BTreeSet<String> = SYSTEM.map(str::to_owned).into();
    for id in universe.candidates() {
        let package = universe.package(id);
        if package.essential || package.priority == build_images::apt::package::Priority::Required {
            system.insert(package.name.to_owned());
        }
    }
    let mut whole = system.clone();
    whole.insert("qbittorrent-nox".to_owned());
    let question = |names: &BTreeSet<String>, recommends| Question {
        names: names.iter().cloned().collect(),
        recommends,
    };
    let questions =
        [question(&system, false), question(&whole, false), question(&system, true), question(&whole, true)];
    let answers = debian.ask(&questions);
    for (question, answer) in questions.iter().zip(&answers) {
        assert_eq!(difference(answer, &solve(&universe, question, &[])), None, "{question:?}");
    }
    for (base, at_once) in [(0, 1), (2, 3)] {
        let chosen = answers[base].as_ref().unwrap();
        let chosen: Vec<_> = chosen.iter().map(|(name, version)| Chosen { name, version }).collect();
        let added =
            Question { names: vec!["qbittorrent-nox".to_owned()], recommends: questions[base].recommends };
        let mut added = solve(&universe, &added, &chosen).unwrap().unwrap();
        added.extend(answers[base].clone().unwrap());
        assert_eq!(difference(&answers[at_once], &Ok(Some(added))), None, "in two steps");
    }
}

#[test]
fn versions_order_as_dpkg_orders_them() {
    if !support::require("dpkg", Path::new("/usr/bin/dpkg").exists()) {
        return;
    }
    let mut random = StdRng::seed_from_u64(SEED);
    let part = ["0", "1", "10", "9", "a", "b", "~", "~~", "+", ".", "00", "rc", "A", "z"];
    let mut text = |length| -> String { (0..length).map(|_| *part.choose(&mut random).unwrap()).collect() };
    for round in 0..150 {
        let stem = format!("{}{}", round % 10, text(2));
        let make = |tail: String| match round % 4 {
            0 => format!("{stem}{tail}"),
            1 => format!("{stem}-{tail}1"),
            2 => format!("{}:{stem}{tail}", round % 3),
            _ => format!("{stem}{tail}-1"),
        };
        let (left, right) = (make(text(2)), make(text(3)));
        let order = build_images::apt::version::compare(&left, &right);
        for (operator, expected) in [("lt", order.is_lt()), ("eq", order.is_eq())] {
            let arguments = ["--compare-versions", left.as_str(), operator, right.as_str()];
            let said = std::process::Command::new("dpkg").args(arguments).output().unwrap();
            assert!(said.stderr.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&said.stderr));
            assert_eq!(said.status.success(), expected, "{left} {operator} {right}");
        }
    }
}
