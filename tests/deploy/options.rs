//! What the options change, and what a node that is not as it should be in one thing makes of a deployment.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::node::Node;
use crate::prepared;
use crate::project::{Project, Run, STATE, VMID, Version, node, running};

fn version(number: u32) -> Project {
    Project::new(&Version { number, ..Version::default() })
}

/// What the node keeps of archives.
fn kept(node: &Node) -> usize {
    node.run(&format!("ls -d /var/lib/build-images/{VMID}/*/frames")).lines().count()
}

#[test]
fn a_clock_that_is_off_is_said() {
    if !prepared() {
        return;
    }
    let (node, first) = (node(), version(1));
    let off = |seconds: &str| {
        let script = format!(
            "#!/bin/sh\ncase ${{1-}} in +%s) echo $(($(/bin/date +%s) + {seconds})) ;; *) exec /bin/date \"$@\" ;; esac\n"
        );
        node.write("/mnt/bin/date", &script);
        node.run("chmod 0755 /mnt/bin/date");
    };
    off("7200");
    let run = first.deploy(&node).code(1);
    assert!(run.err.contains("error: the node's clock is off by 7"), "{}", run.err);
    assert!(node.calls().is_empty(), "{:?}", node.calls());
    off("-600");
    let run = first.deploy(&node).code(0);
    assert!(run.err.contains("warning: the node's clock is off by -"), "{}", run.err);
    assert_eq!(running(&node), Some(1));
}

#[test]
fn no_room_for_the_archive_is_said_before_it_is_sent() {
    if !prepared() {
        return;
    }
    let (node, first) = (node(), version(1));
    node.run("head -c 40M /dev/zero > /var/lib/build-images/other");
    let run = first.deploy(&node).code(1);
    assert!(run.err.contains("error: /var/lib/build-images has 56 MiB free, 6"), "{}", run.err);
    assert!(node.calls().is_empty() && !node.exists(&format!("/var/lib/build-images/{VMID}")));
    node.run("rm /var/lib/build-images/other");
    first.deploy(&node).code(0);
}

#[test]
fn an_address_at_which_somebody_answers_is_not_taken() {
    if !prepared() {
        return;
    }
    let (node, first) = (node(), version(1));
    // A machine that no guest of the cluster is.
    node.run(
        "ip netns add other; ip link add there type veth peer name eth0 netns other; ip link set there master vmbr3 up; \
         ip -n other address add 172.16.10.59/24 dev eth0; ip -n other link set eth0 up; ping -c 1 -w 10 172.16.10.59",
    );
    let run = first.deploy(&node).code(1);
    assert!(run.err.contains("somebody answers at 172.16.10.59"), "{}", run.err);
    assert!(run.err.contains("ip neigh show 172.16.10.59"), "{}", run.err);
    assert!(node.calls().is_empty(), "{:?}", node.calls());
    node.run("ip netns delete other");
    first.deploy(&node).code(0);
}

#[test]
fn an_address_from_a_server_is_asked_for() {
    if !prepared() {
        return;
    }
    let node = node();
    let dynamic = |number| {
        let project = version(number);
        project.change("images/app.toml", "address = 59", "address = \"dhcp\"");
        project.build(&Version { number, ..Version::default() });
        project
    };
    let run = dynamic(1).deploy(&node).code(0);
    assert!(node.read(&format!("/etc/pve/lxc/{VMID}.conf")).contains("ip=dhcp"));
    assert!(run.out.contains("https://app.example.org/") && !run.out.contains("172.16.10."), "{}", run.out);
    dynamic(2).deploy(&node).code(0);
    let asked = node.calls().iter().filter(|call| call.contains("hostname -I")).count();
    assert!(asked >= 2, "{:?}", node.calls());
    assert_eq!(node.read(&format!("{STATE}/journal")), "start 1\nstop 1\nstart 2\n");
}

#[test]
fn as_many_earlier_archives_are_kept_as_are_wanted() {
    if !prepared() {
        return;
    }
    let node = node();
    let projects: Vec<_> = (1..=4).map(version).collect();
    for (project, expected) in projects.iter().zip([1, 2, 3, 3]) {
        project.deploy(&node).code(0);
        assert_eq!(kept(&node), expected);
    }
    let last = &projects[3];
    for expected in [3, 2] {
        last.run(&node, &["deploy", "--rollback"]).code(0);
        assert_eq!(running(&node), Some(expected));
    }
    // The first is not kept any more.
    let run = last.run(&node, &["deploy", "--rollback"]).code(1);
    assert!(run.err.contains("there is nothing to go back to"), "{}", run.err);

    last.run(&node, &["deploy", "--keep", "1"]).code(0);
    assert_eq!(kept(&node), 2);
    last.run(&node, &["deploy", "--rollback"]).code(0);
    assert_eq!(running(&node), Some(2));
    last.run(&node, &["deploy", "--rollback"]).code(1);
    for wrong in ["0", "51", "two"] {
        last.run(&node, &["deploy", "--keep", wrong]).code(2);
    }
}

#[test]
fn state_is_copied_or_left_as_is_said() {
    if !prepared() {
        return;
    }
    let data = format!("{STATE}/data");
    let copies = |node: &Node| node.run("ls -A /srv/appdata").lines().count() - 1;
    // Copied although nothing migrates, and put back with the image that it belongs to.
    let (node, first, second) = (node(), version(1), version(2));
    first.deploy(&node).code(0);
    node.write(&data, "of the first");
    second.deploy(&node).code(0);
    assert_eq!(copies(&node), 0, "nothing is copied unasked");
    second.run(&node, &["deploy", "--rollback"]).code(0);
    second.run(&node, &["deploy", "--state", "copy"]).code(0);
    assert_eq!(copies(&node), 1);
    node.write(&data, "of the second");
    let run = second.run(&node, &["deploy", "--rollback", "--state", "copy"]).code(0);
    assert!(run.out.contains("its state is that of before the upgrade"), "{}", run.out);
    assert_eq!((running(&node), node.read(&data).as_str()), (Some(1), "of the first"));
    let newer = node.run("cat /srv/appdata/.app.*/data");
    assert!(newer.contains("of the second"), "the newer state is kept: {newer}");

    // Not copied although it migrates: then there is no way back, and that is said before anything is done.
    let one_way = |number| Project::new(&Version { number, behaviour: "one-way" });
    let (node, first, second) = (crate::project::node(), one_way(1), one_way(2));
    first.deploy(&node).code(0);
    second.run(&node, &["deploy", "--state", "keep"]).code(0);
    assert_eq!(copies(&node), 0);
    let calls = node.calls().len();
    let run = second.run(&node, &["deploy", "--rollback"]).code(1);
    assert!(run.err.contains("there is no copy of the state from before"), "{}", run.err);
    assert_eq!((running(&node), node.calls().len()), (Some(2), calls));
}

#[test]
fn an_upload_that_was_cut_off_goes_on_with_what_arrived() {
    if !prepared() {
        return;
    }
    let (node, first) = (node(), version(1));
    let manifest: Value =
        serde_json::from_slice(&fs::read(first.root().join("result/app/manifest.json")).unwrap()).unwrap();
    let size = manifest["archive"]["size"].as_u64().unwrap();
    // A connection that ends near the end of the archive: lists go before it.
    let cut = node.directory.path().join("cut");
    fs::write(&cut, format!("#!/bin/sh\nhead -c {size} | {} \"$@\"\n", node.ssh().display())).unwrap();
    fs::set_permissions(&cut, fs::Permissions::from_mode(0o755)).unwrap();
    first.command(&node, &["deploy"]).env("BUILD_IMAGES_SSH", &cut).output().map(Run::of).unwrap().code(1);
    let part = format!("/var/lib/build-images/{VMID}/*/*.part");
    let left: u64 = node.run(&format!("stat -c %s {part}")).trim().parse().unwrap();
    assert!(left < size && left > size / 2, "{left} of {size}");
    let run = first.run(&node, &["deploy", "--json"]).code(0);
    let outcome: Value = serde_json::from_str(&run.out).unwrap();
    let sent = outcome[0]["sent"].as_u64().unwrap();
    assert!(sent > 0 && sent < size / 4, "{sent} of {size}");
    assert_eq!(running(&node), Some(1));
    assert!(!node.run(&format!("ls /var/lib/build-images/{VMID}/*")).contains(".part"));
}
