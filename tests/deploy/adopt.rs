//! Containers that were made by other means are refused, and what is printed takes their state over. Everything else that
//! stands in the way is said at once.

use std::fs;

use crate::prepared;
use crate::project::{Project, STATE, USER, VMID, Version, node, running};

/// The commands for the node that a refusal prints.
fn printed(err: &str) -> Vec<String> {
    let lines = err.lines().filter_map(|line| line.strip_prefix("  "));
    lines.filter(|line| !line.starts_with(['#', '=', ' '])).map(str::to_owned).collect()
}

#[test]
fn a_container_of_other_means_is_refused_and_its_state_can_be_taken_over() {
    if !prepared() {
        return;
    }
    for inside in [true, false] {
        let (node, first) = (node(), Project::new(&Version { number: 1, ..Version::default() }));
        // By hand, as before there was this command.
        let archive = fs::read_dir(first.root().join("result/app"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|extension| extension == "zst"))
            .unwrap();
        fs::copy(archive, node.path("/var/lib/vz/by-hand.tar.zst")).unwrap();
        node.run(&format!("pct restore {VMID} /var/lib/vz/by-hand.tar.zst --storage local-lvm"));
        let root = format!("/mnt/storage/images/{VMID}/vm-{VMID}-disk-0");
        if inside {
            // Its state in its root file system, by ids of its own.
            node.run(&format!("sed -i /^mp0/d /etc/pve/lxc/{VMID}.conf"));
            node.directory(&format!("{root}/var/lib/app"), (100_101, 100_101), 0o755);
            node.write(&format!("{root}/var/lib/app/journal"), "mine\n");
        } else {
            node.run(&format!("sed -i s,/srv/appdata/app,/srv/old/app, /etc/pve/lxc/{VMID}.conf"));
            node.directory("/srv/old/app", (100_101, 100_101), 0o755);
            node.write("/srv/old/app/journal", "mine\n");
            node.run(&format!("pct start {VMID}"));
        }
        let config = node.read(&format!("/etc/pve/lxc/{VMID}.conf"));
        let calls = node.calls().len();
        let run = first.deploy(&node).code(1);
        assert!(run.err.contains("container 159 was not made by `build-images deploy`"), "{}", run.err);
        assert_eq!(node.calls().len(), calls, "nothing is touched");
        assert_eq!(node.read(&format!("/etc/pve/lxc/{VMID}.conf")), config);

        for command in printed(&run.err) {
            node.run(&command);
        }
        first.deploy(&node).code(0);
        assert_eq!(running(&node), Some(1));
        assert!(node.read(&format!("{STATE}/journal")).starts_with("mine\n"));
        let (user, group, _) = node.owner(&format!("{STATE}/journal"));
        assert_eq!((user, group), (USER, USER));
        assert!(node.run("ls /var/lib/vz/dump").contains("vzdump-lxc-159-"));
    }
}

#[test]
fn everything_that_stands_in_the_way_is_said_at_once() {
    if !prepared() {
        return;
    }
    let (node, first) = (node(), Project::new(&Version { number: 1, ..Version::default() }));
    node.run("rmdir /srv/appdata/app");
    node.run("ip link set vmbr3 name vmbr9");
    node.write(
        "/etc/pve/nodes/node/lxc/200.conf",
        "net0: name=eth0,bridge=vmbr9,ip=172.16.10.59/24,type=veth\nrootfs: x:vm-200-disk-0,size=1G\n",
    );
    node.write("/etc/pve/version.test", "pve-manager: 8.4.1 (running)\npve-container: 5.2.6\n");
    node.run("sed -i 's/^local-lvm dir rootdir/local-lvm dir iso/' /etc/pve/storage.test");
    let run = first.deploy(&node).code(1);
    // How long it took is chance.
    let said: Vec<_> = run.err.lines().filter(|line| !line.contains(": took ")).collect();
    insta::assert_snapshot!(said.join("\n"));
    assert!(node.calls().is_empty() && !node.exists(&format!("/var/lib/build-images/{VMID}")));

    // The directory by the command that was printed.
    let line = run.err.lines().find_map(|line| line.strip_prefix("  = help: on the node: ")).unwrap();
    node.run(line);
    assert_eq!(node.owner(STATE), (USER, USER, 0o750));
}

#[test]
fn what_a_restore_would_destroy_and_what_an_older_image_cannot_read_is_refused() {
    if !prepared() {
        return;
    }
    let one_way = |number| Project::new(&Version { number, behaviour: "one-way" });
    let (node, first, second) = (node(), one_way(1), one_way(2));
    second.deploy(&node).code(0);
    let run = first.deploy(&node).code(1);
    assert!(run.err.contains("the state was last written by version 2, this image brings 1"), "{}", run.err);
    node.run(&format!("echo 'mp7: local-lvm:vm-{VMID}-disk-9,mp=/data,size=1G' >> /etc/pve/lxc/{VMID}.conf"));
    let third = one_way(3);
    let run = third.deploy(&node).code(1);
    assert!(run.err.contains("has the volume local-lvm:vm-159-disk-9 as mp7"), "{}", run.err);
    assert_eq!(running(&node), Some(2));
}
