use std::collections::BTreeMap;

use super::*;
use crate::build::units::tests::image;
use crate::digest::Sha256;
use crate::tree::Content;

fn settings() -> Settings {
    Settings {
        hostname: "app".into(),
        domain: "example.org".into(),
        nameservers: vec!["192.0.2.1".parse().unwrap()],
        timezone: "Europe/Stockholm".into(),
        epoch: 1_700_000_000,
    }
}

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

/// The least that is accepted, with the traces of a build.
fn built() -> (Tree, BTreeMap<Sha256, Vec<u8>>) {
    image(&[
        ("bin -> usr/bin", ""),
        ("sbin -> usr/sbin", ""),
        ("usr/bin/sh -> dash", ""),
        ("usr/bin/dash", "x"),
        ("usr/sbin/init", "x"),
        ("usr/share/zoneinfo/Europe/Stockholm", "x"),
        ("usr/lib/os-release", "ID=debian\n"),
        ("etc/os-release -> ../usr/lib/os-release", ""),
        ("etc/debian_version", "13.1\n"),
        ("etc/network/if-up.d/x", "x"),
        ("etc/machine-id", "0123"),
        ("etc/passwd-", "x"),
        ("etc/shadow-", "x"),
        ("etc/ssh/ssh_host_ed25519_key", "x"),
        ("etc/ssh/ssh_host_ed25519_key.pub", "x"),
        ("etc/ssh/sshd_config", "x"),
        ("etc/systemd/system/sys-kernel-debug.mount -> /dev/null", ""),
        ("usr/lib/systemd/system/sys-kernel-debug.mount", "x"),
        ("run/left/behind", "x"),
        ("run/shipped/left", "x"),
        ("tmp/x", "x"),
        ("dev/null", "x"),
        ("var/tmp/x", "x"),
        ("var/backups/x", "x"),
        ("var/cache/apt/pkgcache.bin", "x"),
        ("var/cache/apt/archives/a.deb", "x"),
        ("var/cache/debconf/config.dat-old", "x"),
        ("var/cache/debconf/config.dat", "x"),
        ("var/cache/ldconfig/aux-cache", "x"),
        ("var/lib/apt/lists/lock", "x"),
        ("var/lib/dbus/machine-id", "0123"),
        ("var/lib/dpkg/status-old", "x"),
        ("var/lib/dpkg/status", "x"),
        ("var/lib/dpkg/info/p.list", "/.\n/run\n/run/shipped\n/var/log\n/var/log/shipped\n"),
        ("var/lib/systemd/random-seed", "x"),
        ("var/log/README -> /usr/share/doc", ""),
        ("var/log/app/x.log", "x"),
        ("var/log/dpkg.log", "x"),
        ("var/log/shipped", "x"),
        ("var/log/wtmp", "x"),
    ])
}

#[test]
fn nothing_of_the_build_is_left_and_the_first_boot_is_prepared() {
    let (tree, below) = built();
    let mut contents = NewContents::over(&below);
    let tree = normalise(tree, &mut contents, &settings()).unwrap();
    let mut shown = String::new();
    for (path, node) in &tree {
        shown += &match &node.kind {
            Kind::Symlink { target } => format!("{path} -> {target:?}\n"),
            Kind::File { content } => {
                let text = String::from_utf8(contents.read(content).unwrap()).unwrap();
                let text = text
                    .lines()
                    .filter(|line| !line.is_empty())
                    .map(|line| format!("    {line}\n"))
                    .collect::<String>();
                format!("{path} {:o}\n{}", node.mode, if text == "    x\n" { "" } else { &text })
            }
            Kind::Directory if place::below(&tree, path).next().is_none() => {
                format!("{path}/ {:o}\n", node.mode)
            }
            _ => continue,
        };
    }
    insta::assert_snapshot!(shown, @"
    /bin -> usr/bin
    /dev/ 755
    /etc/debian_version 644
        13.1
    /etc/hostname 644
        app
    /etc/hosts 644
        127.0.0.1 localhost
        ::1 localhost ip6-localhost ip6-loopback
        ff02::1 ip6-allnodes
        ff02::2 ip6-allrouters
    /etc/locale.conf 644
        LANG=C.UTF-8
    /etc/localtime -> /usr/share/zoneinfo/Europe/Stockholm
    /etc/machine-id 444
        uninitialized
    /etc/network/if-up.d/x 644
    /etc/network/interfaces 644
        source /etc/network/interfaces.d/*
        auto lo
        iface lo inet loopback
    /etc/network/interfaces.d/ 755
    /etc/os-release -> ../usr/lib/os-release
    /etc/resolv.conf 644
        search example.org
        nameserver 192.0.2.1
    /etc/ssh/sshd_config 644
    /etc/systemd/system/getty.target.wants/ 755
    /etc/systemd/system/sys-kernel-debug.mount -> /dev/null
    /etc/systemd/system/systemd-firstboot.service -> /dev/null
    /etc/timezone 644
        Europe/Stockholm
    /proc/ 555
    /run/shipped/ 755
    /sbin -> usr/sbin
    /sys/ 555
    /tmp/ 755
    /usr/bin/dash 644
    /usr/bin/sh -> dash
    /usr/lib/os-release 644
        ID=debian
    /usr/lib/systemd/system-preset/10-build-images.preset 644
        # What is enabled in this image, so that the presets of the first boot change nothing.
        disable *
    /usr/lib/systemd/system/sys-kernel-debug.mount 644
    /usr/lib/tmpfiles.d/build-images.conf 644
        # `pct create` leaves the container's configuration in the container.
        r! /etc/vzdump/pct.conf
        r! /etc/vzdump/pct.fw
        r! /etc/vzdump
    /usr/sbin/init 644
    /usr/share/zoneinfo/Europe/Stockholm 644
    /var/backups/ 755
    /var/cache/apt/archives/ 755
    /var/cache/debconf/config.dat 644
    /var/cache/ldconfig/ 755
    /var/lib/apt/lists/ 755
    /var/lib/dbus/machine-id -> /etc/machine-id
    /var/lib/dpkg/info/p.list 644
        /.
        /run
        /run/shipped
        /var/log
        /var/log/shipped
    /var/lib/dpkg/status 644
    /var/lib/systemd/ 755
    /var/log/README -> /usr/share/doc
    /var/log/app/ 755
    /var/log/shipped 644
    /var/log/wtmp 644
    /var/tmp/ 755
    ");
    let again = normalise(tree.clone(), &mut contents, &settings()).unwrap();
    assert_eq!(again, tree, "finishing twice must change nothing");
}

#[test]
fn what_a_recipe_wrote_stays() {
    let (mut tree, below) = built();
    let mut contents = NewContents::over(&below);
    let own = contents.add("own");
    for name in ["etc/hosts", "etc/resolv.conf", "etc/locale.conf", "etc/network/interfaces"] {
        tree.insert(path(name), Node::file(own, 0o600, 5));
    }
    let tree = normalise(tree, &mut contents, &settings()).unwrap();
    assert_eq!(tree[&path("etc/hosts")], Node::file(own, 0o600, 5));
    assert_eq!(tree[&path("etc/network/interfaces")], Node::file(own, 0o600, 5));
}

#[test]
fn times_end_at_the_epoch() {
    let (mut tree, below) = built();
    tree.get_mut(&path("usr/bin/dash")).unwrap().mtime = i64::MAX;
    tree.get_mut(&path("usr/sbin/init")).unwrap().mtime = -1;
    let tree = normalise(tree, &mut NewContents::over(&below), &settings()).unwrap();
    assert_eq!((tree[&path("usr/bin/dash")].mtime, tree[&path("usr/sbin/init")].mtime), (1_700_000_000, 0));
}

#[test]
fn everything_that_proxmox_does_not_take_is_told() {
    let (mut tree, below) = image(&[
        ("usr/lib/systemd/system/sys-kernel-debug.mount", "x"),
        ("etc/os-release", "ID=ubuntu\n"),
        ("etc/debian_version", "sid\n"),
    ]);
    let file = || Node::file(Content::of(b"x"), 0o644, 0);
    let with = |name: &str, value: &[u8]| Node { xattrs: [(name.into(), value.to_vec())].into(), ..file() };
    let link = |target: &str| Node { kind: Kind::Hardlink { target: path(target) }, ..file() };
    tree.insert(path("a"), with("trusted.x", b""));
    tree.insert(path("b"), with("user.x", b""));
    tree.insert(path("c"), with("security.capability", &[1, 0, 0, 3, 0]));
    tree.insert(path("d"), with("security.capability", &[[1, 0, 0, 2].as_slice(), &[0; 16]].concat()));
    tree.insert(path("e"), file().owned_by(65535, 65536));
    tree.insert(path("e/x"), file());
    tree.insert(path("f"), link("g"));
    tree.insert(path("g"), Node { mode: 0o100644, ..link("nothing") });
    let error = normalise(tree, &mut NewContents::over(&below), &settings()).unwrap_err();
    insta::assert_snapshot!(error, @"
    the image would not work as a container of Proxmox:
      `/a` has the extended attribute `trusted.x`, but Proxmox restores only `user.*` and `security.capability`
      `/c` has a `security.capability` of 5 bytes with revision 3, expected 20 bytes of revision 2: Proxmox loses those of another user namespace
      `/e` belongs to 65535:65536, but an unprivileged container has only ids 0 to 65535
      `/e/x` lies in `/e`, which is not a directory of the image
      `/f` is a hard link to `/g`, which is not a regular file that comes before it
      `/g` has the mode 100644, expected at most 7777
      `/g` is a hard link to `/nothing`, which is not a regular file that comes before it
      `/sbin/init` is not there: the first recipe has to bring `systemd-sysv`
      `/bin/sh` is not there: Proxmox reads the container's architecture from it
      `/etc/localtime` is not there: the first boot would wait for a time zone; the package `tzdata` has them all
      `/etc/debian_version` says `sid`: Proxmox wants a release such as `13.1` or `trixie/sid`
      `/etc/os-release` has no line `ID=debian`: Proxmox would not treat the container as Debian
      unit `sys-kernel-debug.mount` fails in an unprivileged container: add it to `mask` under `[units]` of the base recipe
    ");
}

#[test]
fn a_settled_layer_has_every_file_and_nothing_of_its_own_build() {
    let (tree, below) = built();
    let mut contents = NewContents::over(&below);
    let settled = settle(&tree, &mut contents).unwrap();
    assert!(settled.keys().eq(tree.keys()));
    let changed: Vec<_> = tree.iter().filter(|(path, node)| settled[*path] != **node).collect();
    let mut shown = String::new();
    for (path, _) in &changed {
        let bytes = contents.read(settled[*path].content().unwrap()).unwrap();
        shown += &format!("{path}: {:?}\n", String::from_utf8(bytes).unwrap());
    }
    insta::assert_snapshot!(shown, @r#"
    /dev/null: ""
    /etc/machine-id: "94993451be7e34abf542db2f20c591ba\n"
    /etc/passwd-: ""
    /etc/shadow-: ""
    /etc/ssh/ssh_host_ed25519_key: ""
    /etc/ssh/ssh_host_ed25519_key.pub: ""
    /run/left/behind: ""
    /run/shipped/left: ""
    /tmp/x: ""
    /var/backups/x: ""
    /var/cache/apt/archives/a.deb: ""
    /var/cache/apt/pkgcache.bin: ""
    /var/cache/debconf/config.dat-old: ""
    /var/cache/ldconfig/aux-cache: ""
    /var/lib/apt/lists/lock: ""
    /var/lib/dbus/machine-id: "94993451be7e34abf542db2f20c591ba\n"
    /var/lib/dpkg/status-old: ""
    /var/lib/systemd/random-seed: ""
    /var/log/app/x.log: ""
    /var/log/dpkg.log: ""
    /var/log/wtmp: ""
    /var/tmp/x: ""
    "#);
    // Nothing is left to settle, and finishing makes the same of both.
    assert_eq!(settle(&settled, &mut contents).unwrap(), settled);
    let finished = normalise(tree, &mut contents, &settings()).unwrap();
    assert_eq!(normalise(settled, &mut contents, &settings()).unwrap(), finished);
}
