//! What deploying does when nothing goes wrong: the first time, again, upgrades, and back.

use crate::node::Node;
use crate::prepared;
use crate::project::{Project, STATE, USER, VMID, Version, node, running};

fn version(number: u32) -> Version {
    Version { number, ..Version::default() }
}

fn journal(node: &Node) -> String {
    node.read(&format!("{STATE}/journal"))
}

#[test]
fn a_deployment_again_an_upgrade_and_back() {
    if !prepared() {
        return;
    }
    let node = node();
    let (first, second) = (Project::new(&version(1)), Project::new(&version(2)));
    let dry = first.run(&node, &["deploy", "--dry-run"]).code(0);
    assert!(
        node.calls().is_empty() && !node.exists(&format!("/var/lib/build-images/{VMID}")),
        "{:?}",
        node.calls()
    );

    let run = first.deploy(&node).code(0);
    assert_eq!(running(&node), Some(1));
    printed_what_ran(&dry.out, &node.calls());
    assert!(run.out.contains("deployed"), "{}", run.out);

    let before = node.calls().len();
    let run = first.deploy(&node).code(0);
    assert!(run.out.contains("nothing changed"), "{}", run.out);
    assert_eq!(node.calls().len(), before, "doing it again does nothing");

    let dry = second.run(&node, &["deploy", "--dry-run"]).code(0);
    assert_eq!(node.calls().len(), before);
    let run = second.deploy(&node).code(0);
    assert!(
        run.out.contains("upgraded") && run.out.contains("to go back: build-images deploy --rollback app"),
        "{}",
        run.out
    );
    assert_eq!(running(&node), Some(2));
    printed_what_ran(&dry.out, &node.calls()[before..]);
    assert_eq!(journal(&node), "start 1\nstop 1\nstart 2\n");

    let run = second.run(&node, &["deploy", "--rollback"]).code(0);
    assert!(run.out.contains("went back"), "{}", run.out);
    assert_eq!(running(&node), Some(1));
    assert_eq!(journal(&node), "start 1\nstop 1\nstart 2\nstop 2\nstart 1\n");
    let run = second.run(&node, &["deploy", "--rollback"]).code(1);
    assert!(run.err.contains("there is nothing to go back to"), "{}", run.err);
    assert_eq!(node.owner(STATE), (USER, USER, 0o750));
}

/// Every call that changed something was printed, in the same order, and nothing else of the first part was.
#[track_caller]
fn printed_what_ran(printed: &str, calls: &[String]) {
    // What goes back is printed too, after a heading.
    let forward = printed.split("# 3.").next().unwrap();
    let words = |text: &str| {
        text.split_whitespace().map(|word| word.trim_matches('\'').to_owned()).collect::<Vec<_>>()
    };
    let mut expected: Vec<Vec<String>> = Vec::new();
    let mut lines = forward.lines().map(str::trim).filter(|line| !line.starts_with('#')).peekable();
    while let Some(line) = lines.next() {
        for part in line.split(';') {
            let part = part.trim().trim_start_matches("then ").trim();
            if let Some(call) = part.strip_prefix("pct ").filter(|call| !call.starts_with("status")) {
                let mut call = call.to_owned();
                while call.matches('\'').count() % 2 == 1 {
                    call += "\\n";
                    call += lines.next().unwrap();
                }
                expected.push(words(&call.replace('\'', "")));
            }
        }
    }
    let ran: Vec<_> = calls.iter().map(|call| words(call)).collect();
    assert_eq!(expected, ran, "{printed}");
}
