//! Whatever happens at whichever step: afterwards the image of before runs with its state, or the new one does, or one
//! command that was printed gets there.

use std::process::{Child, Stdio};

use crate::node::Node;
use crate::prepared;
use crate::project::{Project, Run, STATE, VMID, Version, node, running};

/// Every program at which an upgrade can be stopped, and how often it comes before: with state that is copied.
const POINTS: &[(&str, u32)] = &[
    ("sha256sum", 1),
    ("mv", 1),
    ("mv", 2),
    ("setsid", 1),
    ("sha256sum", 2),
    ("sha256sum", 3),
    ("stop", 1),
    ("stopped", 1),
    ("cp", 1),
    ("mv", 3),
    ("restore-early", 1),
    ("restore", 1),
    ("restored", 1),
    ("start", 1),
    ("started", 1),
    ("perl", 1),
    ("cp", 2),
    ("mv", 4),
    ("mv", 5),
];

fn one_way(number: u32) -> Version {
    Version { number, behaviour: "one-way" }
}

/// Those of them that differ in what is there already: for what takes longer to try.
const FEW: &[(&str, u32)] = &[
    ("sha256sum", 1),
    ("mv", 2),
    ("setsid", 1),
    ("stopped", 1),
    ("cp", 1),
    ("restore-early", 1),
    ("restore", 1),
    ("started", 1),
    ("mv", 5),
];

/// What must not be lost, and what it was.
pub struct State {
    pub journal: String,
    pub data: String,
}

impl State {
    /// Puts something new into the state.
    pub fn note(node: &Node, data: &str) -> State {
        node.write(&format!("{STATE}/data"), data);
        State { journal: node.read(&format!("{STATE}/journal")), data: data.to_owned() }
    }

    /// Whether everything of it is there.
    #[track_caller]
    pub fn check(&self, node: &Node, what: &str) {
        assert_eq!(node.read(&format!("{STATE}/data")), self.data, "{what}");
        let journal = node.read(&format!("{STATE}/journal"));
        assert!(journal.starts_with(&self.journal), "{what}: {journal} does not begin with {}", self.journal);
    }
}

/// One of the two runs, with its state and a version file of its own.
#[track_caller]
fn promise(node: &Node, state: &State, wanted: &[u32], what: &str) -> u32 {
    let found = running(node);
    let found = found.filter(|found| wanted.contains(found));
    let found = found.unwrap_or_else(|| {
        let log = node.try_run(&format!(
            "cat /var/lib/build-images/{VMID}/log /var/lib/build-images/{VMID}/*/journal /etc/pve/lxc/*.conf /run/ct/*.log; ls -R /var/lib/build-images /mnt/storage"
        ));
        panic!("{what}: {:?} runs, not one of {wanted:?}\n{}", running(node), log.1)
    });
    state.check(node, what);
    if node.exists(&format!("{STATE}/version")) {
        assert_eq!(node.read(&format!("{STATE}/version")).trim(), found.to_string(), "{what}");
    }
    assert!(!node.exists(&format!("/var/lib/build-images/{VMID}/transaction")), "{what}");
    assert!(!node.exists(&format!("/run/build-images/{VMID}")), "{what}: secrets are left");
    found
}

/// Begins a run.
pub fn begin(project: &Project, node: &Node, arguments: &[&str]) -> Child {
    project.command(node, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Begins version 1 again.
fn back_to_first(first: &Project, node: &Node) {
    if running(node) != Some(1) {
        first.run(node, &["deploy", "--rollback"]).code(0);
    }
    assert_eq!(running(node), Some(1));
    // What the node has of the second would spare it the upload.
    node.run(&format!(
        "cd /var/lib/build-images/{VMID}; for a in */frames; do a=${{a%/frames}}; grep -q \"^$a \" history || rm -rf \"$a\"; done"
    ));
}

fn deployed() -> (Node, Project, Project) {
    let (node, first, second) = (node(), Project::new(&one_way(1)), Project::new(&one_way(2)));
    first.deploy(&node).code(0);
    (node, first, second)
}

#[test]
fn a_step_that_fails_ends_in_the_image_of_before() {
    if !prepared() {
        return;
    }
    let (node, first, second) = deployed();
    for (point, count) in POINTS {
        let what = format!("error at {point} {count}");
        let state = State::note(&node, &what);
        node.fault(point, &format!("error {count}"));
        let run = second.deploy(&node);
        assert!(!node.exists(&format!("/mnt/fault/{point}")), "{what} is not reached:\n{}", run.err);
        end(&second, &node, &run, &what);
        let found = promise(&node, &state, &[1, 2], &what);
        if run.code == 0 || !run.err.contains("--recover") {
            assert_eq!(found == 2, run.code == 0, "{what}: {}", run.err);
        }
        back_to_first(&first, &node);
    }
}

/// Runs the command that was printed, if one was.
fn end(project: &Project, node: &Node, run: &Run, what: &str) {
    if run.err.contains("build-images deploy --recover app") {
        let recovered = project.run(node, &["deploy", "--recover", "app"]);
        assert_eq!(recovered.code, 0, "{what}:\n{}\nthen:\n{}{}", run.err, recovered.out, recovered.err);
    }
}

#[test]
fn a_lost_connection_changes_nothing_of_what_becomes_of_it() {
    if !prepared() {
        return;
    }
    let (node, first, second) = deployed();
    for (point, count) in FEW {
        let what = format!("cut at {point} {count}");
        let state = State::note(&node, &what);
        node.fault(point, &format!("cut {count}"));
        let run = second.deploy(&node);
        assert!(!node.exists(&format!("/mnt/fault/{point}")), "{what} is not reached:\n{}", run.err);
        end(&second, &node, &run, &what);
        let found = promise(&node, &state, &[1, 2], &what);
        assert_eq!(found == 2, run.code == 0, "{what}: {}", run.err);
        back_to_first(&first, &node);
    }
}

#[test]
fn a_node_that_goes_down_comes_back_with_one_of_the_two() {
    if !prepared() {
        return;
    }
    let (node, first, second) = deployed();
    for (number, (point, count)) in FEW.iter().enumerate() {
        let what = format!("reboot at {point} {count}");
        let state = State::note(&node, &what);
        node.fault(point, &format!("hang {count}"));
        let child = begin(&second, &node, &["deploy"]);
        node.wait_until_reached();
        // As the node dies so does, in half of the cases, whoever deploys.
        let mut child = child;
        if number % 2 == 0 {
            child.kill().unwrap();
        }
        node.reboot();
        let run = Run::of(child.wait_with_output().unwrap());
        if number % 2 == 1 {
            assert_ne!(run.code, 0, "{what}: {}", run.out);
        }
        let recovered = second.run(&node, &["deploy", "--recover", "app"]);
        assert_eq!(recovered.code, 0, "{what}: {}{}", run.err, recovered.err);
        promise(&node, &state, &[1, 2], &what);
        back_to_first(&first, &node);
    }
}

#[test]
fn a_deployment_whose_program_is_killed_goes_on_by_itself() {
    if !prepared() {
        return;
    }
    let (node, first, second) = deployed();
    for (point, count) in FEW {
        let what = format!("killed at {point} {count}");
        let state = State::note(&node, &what);
        node.fault(point, &format!("wait {count}"));
        let mut child = begin(&second, &node, &["deploy"]);
        node.wait_until_reached();
        child.kill().unwrap();
        child.wait().unwrap();
        node.write("/mnt/fault/go", "");
        // What was not begun yet never will be, unless somebody says so.
        let home = format!("/var/lib/build-images/{VMID}");
        node.run(&format!("for try in $(seq 25); do flock -w 30 {home} true; [ -e {home}/transaction ] || break; sleep 0.2; done"));
        node.clear_faults();
        if node.exists(&format!("{home}/transaction")) {
            second.run(&node, &["deploy", "--recover", "app"]).code(0);
        }
        promise(&node, &state, &[1, 2], &what);
        back_to_first(&first, &node);
    }
}

#[test]
fn a_full_disk_ends_in_the_image_of_before() {
    if !prepared() {
        return;
    }
    let (node, first, second) = deployed();
    for (point, count) in FEW {
        let what = format!("full at {point} {count}");
        let state = State::note(&node, &what);
        node.fault(point, &format!("full {count}"));
        let run = second.deploy(&node);
        assert!(!node.exists(&format!("/mnt/fault/{point}")), "{what} is not reached:\n{}", run.err);
        node.run("rm -f /mnt/storage/full /srv/full /var/lib/build-images/full");
        end(&second, &node, &run, &what);
        promise(&node, &state, &[1, 2], &what);
        back_to_first(&first, &node);
    }
}

#[test]
fn an_application_that_never_works_is_taken_back_with_its_state() {
    if !prepared() {
        return;
    }
    let (node, _, _) = deployed();
    for behaviour in ["one-way silent", "one-way broken"] {
        let bad = Project::new(&Version { number: 2, behaviour });
        let state = State::note(&node, behaviour);
        let run = bad.deploy(&node).code(1);
        assert!(run.err.contains("what was there before is there again"), "{}", run.err);
        promise(&node, &state, &[1], behaviour);
    }
}

#[test]
fn a_first_deployment_that_fails_leaves_no_container() {
    if !prepared() {
        return;
    }
    let (node, first) = (node(), Project::new(&one_way(1)));
    for point in ["restore-early", "restore", "restored", "start", "started", "perl"] {
        node.fault(point, "error");
        let run = first.deploy(&node).code(1);
        assert!(!node.exists(&format!("/etc/pve/lxc/{VMID}.conf")), "{point}: {}", run.err);
        node.fault(point, "hang");
        let child = begin(&first, &node, &["deploy"]);
        node.wait_until_reached();
        node.reboot();
        let run = Run::of(child.wait_with_output().unwrap());
        assert!(run.err.contains("build-images deploy --recover app"), "{point}: {}", run.err);
        first.run(&node, &["deploy", "--recover"]).code(0);
        assert!(!node.exists(&format!("/etc/pve/lxc/{VMID}.conf")), "{point}");
    }
    first.deploy(&node).code(0);
    assert_eq!(running(&node), Some(1));
}
