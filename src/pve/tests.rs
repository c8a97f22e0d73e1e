//! The schema as a whole: canonical text, round trips, and a test for each limit.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::model::image::{Address, Container, Gpu, Mount};
use crate::model::site::{Directories, Network, Node};
use crate::model::{Image, Site};
use crate::tree::TreePath;

const RELEASE: Release = Release(9, 2);

/// A file that uses every key and sub-key.
const EVERYTHING: &str = "\
#Every key, 100 %25%3A
#
#caf%C3%A9
arch: amd64
cmode: shell
console: 1
cores: 2
cpulimit: 1.50
cpuunits: 1024
debug: 0
dev0: /dev/dri/renderD128,deny-write=1,gid=44,mode=0660,uid=0
entrypoint: /sbin/init --quiet
features: force_rw_sys=0,fuse=1,keyctl=1,mknod=0,mount=nfs;cifs,nesting=1
hookscript: local:snippets/hook.pl
hostname: demo.viljo.se
memory: 1024
mp0: local-lvm:vm-100-disk-1,mp=/srv/a,acl=1,backup=1,idmap=passthrough,keepattrs=0,mountoptions=noatime;discard,quota=0,replicate=0,ro=1,shared=1,size=512M
mp10: /srv/media,mp=/srv/media,ro=1
mp2: /dev/sdb1,mp=/srv/b
nameserver: 172.16.10.1 fe80::1%eth0
net0: name=eth0,bridge=vmbr0,firewall=1,gw=172.16.10.1,gw6=fd00::1,host-managed=0,hwaddr=BC:24:11:00:00:01,ip=172.16.10.9/24,ip6=fd00::9/64,link_down=0,mtu=1500,rate=12.5,tag=7,trunks=1;2,type=veth
net10: name=eth1,ip=dhcp,ip6=auto
onboot: 1
ostype: debian
protection: 0
rootfs: local-lvm:vm-100-disk-0,acl=0,idmap=u:0:100000:65536;g:0:100000:65536,mountoptions=nosuid,quota=1,replicate=1,ro=0,shared=0,size=1536M
searchdomain: viljo.se example.org
startup: order=3,up=10,down=60
swap: 0
tags: media;web
template: 0
timezone: Europe/Stockholm
tty: 2
unprivileged: 1
lxc.environment.runtime: A=1
lxc.environment.runtime: B=two words
lxc.idmap: u 0 100000 65536
lxc.cgroup2.devices.allow: c 226:0 rwm
lxc.cap.drop: 
";

#[test]
fn a_file_with_every_key_is_written_back_byte_for_byte() {
    let config = Config::parse_and_check(EVERYTHING, RELEASE).unwrap();
    assert_eq!(config.to_text(), EVERYTHING);
    assert_eq!(config.description, "Every key, 100 %:\n\ncafé");
}

#[test]
fn other_spellings_are_read_and_written_in_canonical_form() {
    let text = "\
unprivileged: yes
description: on one line
rootfs: size=2048M,volume=local-lvm:vm-1-disk-0
# and a comment
net0: type=veth,hwaddr=bc:24:11:00:00:0a,name=eth0,ip6=FD00:0:0::9/64
lxc.cap.drop = sys_time

startup: 3,down=5
memory:   01024  
mp1: mp=/x,volume=a1:b,size=1.5G
";
    insta::assert_snapshot!(Config::parse(text).unwrap().to_text(), @r"
    #on one line
    # and a comment
    memory: 1024
    mp1: a1:b,mp=/x,size=1536M
    net0: name=eth0,hwaddr=BC:24:11:00:00:0A,ip6=fd00::9/64,type=veth
    rootfs: local-lvm:vm-1-disk-0,size=2G
    startup: order=3,down=5
    unprivileged: 1
    lxc.cap.drop: sys_time
    ");
}

fn said(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

#[test]
fn a_text_says_everything_that_is_wrong_at_once() {
    let text = "\
memory: much
cores: 2
cores: 3
colour: red
net0: bridge=vmbr0
net1: name=eth1,speed=10
net2: name=eth2,ip=10.0.0.1/33
net32: name=eth32
net01: name=eth32
rootfs: a1:b,size=8GB
mp0: /srv
features: nesting
hwaddr
arch: sparc
onboot: maybe
swap:
digest: 00
dev0: mode=0666
lxc.utsname: x
lxc.rootfs.path: /
lxc.environment.runtime: A
cpulimit: 1.
net3: name=eth3,hwaddr=01:00:00:00:00:00
startup: up=1,up=2
mp1: /a,mp=/b,mountoptions=ro
#%ff
[pve:pending]
memory: 9
";
    insta::assert_snapshot!(said(&Config::parse(text).unwrap_err()), @r"
    line 1: `memory`: expected a whole number, found `much`
    line 3: `cores`: it is given twice; keep one
    line 4: `colour`: Proxmox has no such key
    line 5: `net0`: `name` is missing
    line 6: `net1`: in `speed`: Proxmox has no such key
    line 7: `net2`: in `ip`: expected `dhcp`, `manual` or an IPv4 address with a prefix of 8 to 32, found `10.0.0.1/33`
    line 8: `net32`: Proxmox has no such key
    line 9: `net01`: Proxmox has no such key
    line 10: `rootfs`: in `size`: expected a size such as `8G` or `512M`, found `8GB`
    line 11: `mp0`: `mp` is missing
    line 12: `features`: expected `key=value` parts joined by commas, found `nesting`
    line 13: expected `key: value`, found `hwaddr`
    line 14: `arch`: expected one of `amd64`, `i386`, `arm64`, `armhf`, `riscv32`, `riscv64`, found `sparc`
    line 15: `onboot`: expected `1` or `0`, found `maybe`
    line 16: expected `key: value`, found `swap:`
    line 17: `digest`: an image must not carry it: Proxmox makes it itself
    line 18: `dev0`: `path` is missing
    line 19: `lxc.utsname`: Proxmox has no such key
    line 20: `lxc.rootfs.path`: an image must not carry it: Proxmox makes it from `rootfs`
    line 21: `lxc.environment.runtime`: expected `NAME=value`, found `A`
    line 22: `cpulimit`: expected a decimal number such as `1.5`, found `1.`
    line 23: `net3`: in `hwaddr`: expected a unicast hardware address such as `BC:24:11:00:00:01`, found `01:00:00:00:00:00`
    line 24: `startup`: in `up`: it is given twice; keep one
    line 25: `mp1`: in `mountoptions`: expected one of `discard`, `lazytime`, `noatime`, `nodev`, `noexec`, `nosuid`, found `ro`
    line 26: `description`: expected UTF-8 with other bytes as `%XX`, found `%ff`
    line 27: an image's configuration has no section; remove `[pve:pending]` and what follows
    ");
}

/// A good configuration with one line changed or added.
fn with(line: &str) -> String {
    let key = line.split(':').next().unwrap();
    let good = [
        "hostname: demo",
        "net0: name=eth0,bridge=vmbr0",
        "rootfs: local-lvm:vm-100-disk-0,size=8G",
        "unprivileged: 1",
    ];
    let kept = good.iter().filter(|other| other.split(':').next() != Some(key));
    kept.map(|line| format!("{line}\n")).collect::<String>() + line + "\n"
}

#[test]
fn limits_that_a_file_may_break_unnoticed_are_checked() {
    let long_tag = format!("description: {}", "x".repeat(8193));
    let breaking = [
        long_tag.as_str(),
        "cores: 0",
        "cores: 8193",
        "cpulimit: 8192.1",
        "cpuunits: 500001",
        "memory: 15",
        "tty: 7",
        "hookscript: /root/hook",
        "hostname: my_host",
        "hostname: -a",
        "nameserver: 1.1.1",
        "nameserver: 1.1.1.1%eth0",
        "searchdomain: a..b",
        "tags: a;;b",
        "tags: -a",
        "timezone: Etc/UTC",
        "timezone: GMT",
        "features: mount=nfs:cifs",
        "rootfs: local-lvm:vm-100-disk-0",
        "rootfs: /srv/root,size=8G",
        "mp0: local-lvm:8,mp=/srv/a",
        "mp0: /srv/../etc,mp=/srv/a",
        "mp0: /srv/a,mp=srv/a",
        "mp0: /srv/a,mp=/srv/./a",
        "mp0: /srv/a,mp=/",
        "mp0: /srv/a,mp=/lib/x",
        "mp0: /srv/a,mp=/var/run/x",
        "mp0: /srv/a,mp=/x,size=1G",
        "mp0: a1:b,mp=/x,size=1G,idmap=u:0:1:0",
        "net0: name=eth 0",
        "net0: name=sixteen-letters-",
        "net0: name=eth0,bridge=a/b",
        "net0: name=eth0,mtu=63",
        "net0: name=eth0,tag=4095",
        "net0: name=eth0,trunks=1;x",
        "dev0: /etc/passwd",
        "dev0: /dev/../etc/passwd",
        "dev0: /dev/x,mode=1777",
        "lock: backup",
        "parent: before",
        "snaptime: 1",
        "unused0: local-lvm:vm-1-disk-1",
        "lxc.environment.runtime: a-b=c",
    ];
    let mut text = String::new();
    for line in breaking {
        let problems = Config::parse_and_check(&with(line), RELEASE).expect_err(line);
        assert_eq!(problems.len(), 1, "{line}: {problems:?}");
        let place = with(line).lines().position(|other| other == line).map(|index| index + 1);
        assert_eq!(problems[0].line, place, "{line}");
        text.push_str(&said(&problems));
    }
    insta::assert_snapshot!(text, @r"
    line 5: `description`: expected at most 8192 characters, found `8193 characters`
    line 5: `cores`: expected 1 to 8192, found `0`
    line 5: `cores`: expected 1 to 8192, found `8193`
    line 5: `cpulimit`: expected 0 to 8192, found `8192.1`
    line 5: `cpuunits`: expected 0 to 500000, found `500001`
    line 5: `memory`: expected at least 16 (MiB), found `15`
    line 5: `tty`: expected 0 to 6, found `7`
    line 5: `hookscript`: expected `STORAGE:snippets/FILE`, found `/root/hook`
    line 4: `hostname`: expected letters, digits and inner hyphens in labels joined by dots, at most 64 in all, found `my_host`
    line 4: `hostname`: expected letters, digits and inner hyphens in labels joined by dots, at most 64 in all, found `-a`
    line 5: `nameserver`: expected IP addresses separated by spaces, found `1.1.1`
    line 5: `nameserver`: expected IP addresses separated by spaces, found `1.1.1.1%eth0`
    line 5: `searchdomain`: expected domain names separated by spaces, found `a..b`
    line 5: `tags`: expected tags of `a-z`, `0-9`, `_`, `-`, `+`, `.` joined by `;`, found `a;;b`
    line 5: `tags`: expected tags of `a-z`, `0-9`, `_`, `-`, `+`, `.` joined by `;`, found `-a`
    line 5: `timezone`: expected `host`, `UTC` or a zone of zone.tab such as `Europe/Stockholm`, found `Etc/UTC`
    line 5: `timezone`: expected `host`, `UTC` or a zone of zone.tab such as `Europe/Stockholm`, found `GMT`
    line 5: `features`: in `mount`: expected file system types joined by `;`, found `nfs:cifs`
    line 4: `rootfs`: `size` is missing
    line 4: `rootfs`: in `volume`: expected `STORAGE:VOLUME`, found `/srv/root`
    line 5: `mp0`: `size` is missing
    line 5: `mp0`: in `volume`: expected `STORAGE:VOLUME` or an absolute path, found `/srv/../etc`
    line 5: `mp0`: in `mp`: expected an absolute path without `.` and `..`, found `srv/a`
    line 5: `mp0`: in `mp`: expected an absolute path without `.` and `..`, found `/srv/./a`
    line 5: `mp0`: in `mp`: expected an absolute path without `.` and `..`, found `/`
    line 5: `mp0`: `/lib` is a symbolic link in the image; write the directory it leads to
    line 5: `mp0`: `/var/run` is a symbolic link in the image; write the directory it leads to
    line 5: `mp0`: a path of the node has no `size`
    line 5: `mp0`: in `idmap`: expected `passthrough` or `u:0:100000:65536;…`, found `u:0:1:0`
    line 4: `net0`: in `name`: expected at most 15 letters, digits, `-`, `_`, `.`, found `eth 0`
    line 4: `net0`: in `name`: expected at most 15 letters, digits, `-`, `_`, `.`, found `sixteen-letters-`
    line 4: `net0`: in `bridge`: expected letters, digits, `-`, `_`, `.`, found `a/b`
    line 4: `net0`: in `mtu`: expected 64 to 65535, found `63`
    line 4: `net0`: in `tag`: expected 1 to 4094, found `4095`
    line 4: `net0`: in `trunks`: expected VLANs of 1 to 4094 joined by `;`, found `1;x`
    line 5: `dev0`: in `path`: expected a path below `/dev/`, found `/etc/passwd`
    line 5: `dev0`: in `path`: expected a path below `/dev/`, found `/dev/../etc/passwd`
    line 5: `dev0`: in `mode`: expected four octal digits, the first 0, found `1777`
    line 5: `lock`: an image must not carry it: the restored container stays locked and cannot start
    line 5: `parent`: an image must not carry it: it belongs to a snapshot
    line 5: `snaptime`: an image must not carry it: it belongs to a snapshot
    line 5: `unused0`: an image must not carry it: it names a volume that only the node it comes from has
    line 5: `env`: expected `NAME=value` without control characters and spaces at its end, found `a-b=c`
    ");
    assert!(Config::parse_and_check(&with("cores: 1"), RELEASE).is_ok());
}

#[test]
fn two_mounts_on_one_target_and_a_missing_root_are_problems() {
    let text = "mp0: /a,mp=/x\nmp1: /b,mp=/x/\n";
    insta::assert_snapshot!(said(&Config::parse_and_check(text, RELEASE).unwrap_err()), @r"
    line 2: `mp1`: another mount point has the target `/x/` too
    `rootfs`: `rootfs` is missing
    ");
}

#[test]
fn what_only_newer_nodes_know_is_refused_for_older_ones() {
    let mut text = String::new();
    for (line, needs) in [
        ("dev0: /dev/fuse", Release(8, 1)),
        ("dev0: /dev/fuse,deny-write=1", Release(8, 3)),
        ("mp0: a1:b,mp=/x,size=1G,mountoptions=discard", Release(8, 3)),
        ("lxc.init.cwd: /", Release(9, 0)),
        ("entrypoint: /sbin/init", Release(9, 1)),
        ("lxc.environment.runtime: A=B", Release(9, 1)),
        ("net0: name=eth0,host-managed=1", Release(9, 1)),
        ("lxc.init.uid: 1", Release(9, 1)),
        ("mp0: /a,mp=/x,keepattrs=1", Release(9, 2)),
        ("rootfs: a1:b,size=1G,idmap=passthrough", Release(9, 2)),
    ] {
        assert!(Config::parse_and_check(&with(line), needs).is_ok(), "{line}");
        let older = if needs.1 > 0 { Release(needs.0, needs.1 - 1) } else { Release(needs.0 - 1, 9) };
        text.push_str(&said(&Config::parse_and_check(&with(line), older).unwrap_err()));
    }
    insta::assert_snapshot!(text, @r"
    line 5: `dev0`: `dev` needs Proxmox VE 8.1, the site says 8.0
    line 5: `dev0`: `deny-write` needs Proxmox VE 8.3, the site says 8.2
    line 5: `mp0`: `mountoptions=discard` needs Proxmox VE 8.3, the site says 8.2
    line 5: `lxc.init.cwd`: `lxc.init.cwd` needs Proxmox VE 9.0, the site says 8.9
    line 5: `entrypoint`: `entrypoint` needs Proxmox VE 9.1, the site says 9.0
    line 5: `env`: `env` needs Proxmox VE 9.1, the site says 9.0
    line 4: `net0`: `host-managed` needs Proxmox VE 9.1, the site says 9.0
    line 5: `lxc.init.uid`: `lxc.init.uid` needs Proxmox VE 9.1, the site says 9.0
    line 5: `mp0`: `keepattrs` needs Proxmox VE 9.2, the site says 9.1
    line 4: `rootfs`: `idmap` needs Proxmox VE 9.2, the site says 9.1
    ");
}

fn site() -> Site {
    Site {
        domain: "viljo.se".into(),
        timezone: "Etc/UTC".into(),
        network: Network {
            bridge: "vmbr3".into(),
            subnet: Ipv4Addr::new(172, 16, 10, 0),
            prefix: 24,
            gateway: Ipv4Addr::new(172, 16, 10, 1),
            nameservers: vec![IpAddr::V4(Ipv4Addr::new(172, 16, 10, 1))],
            proxy: Ipv4Addr::new(172, 16, 10, 102),
            admin: vec![(Ipv4Addr::new(172, 16, 10, 0), 24)],
            public: None,
        },
        node: Node { host: "root@192.168.1.3".into(), storage: "local-lvm".into(), release: (8, 0) },
        directories: Directories { media: "/srv/media".into(), state: "/srv/appdata".into() },
        mirrors: BTreeMap::new(),
        archives: Default::default(),
        proxy: Default::default(),
    }
}

fn image() -> Image {
    let path = |text: &str| TreePath::new(text).unwrap();
    Image {
        name: "qbittorrent".into(),
        description: "qBittorrent without a desktop".into(),
        recipes: vec!["debian-13".into(), "qbittorrent".into()],
        container: Container {
            vmid: 159,
            hostname: "qbittorrent".into(),
            domain: "qbittorrent.viljo.se".into(),
            address: Address::Static {
                address: Ipv4Addr::new(172, 16, 10, 59),
                prefix: 24,
                gateway: Ipv4Addr::new(172, 16, 10, 1),
            },
            cores: 2,
            memory: 2048,
            swap: 512,
            disk: 32,
            onboot: true,
            startup: Some(3),
            tags: vec!["media".into(), "web".into()],
            firewall: true,
            vlan: Some(7),
            mac: "BC:24:11:0A:0B:0C".into(),
            gpu: None,
        },
        space: vec![],
        forward_auth: false,
        mounts: vec![
            Mount {
                source: "/srv/media/downloads".into(),
                target: path("srv/downloads"),
                read_only: false,
                state: None,
                owner: None,
            },
            Mount {
                source: "/srv/appdata/qbittorrent".into(),
                target: path("var/lib/qbittorrent"),
                read_only: false,
                state: Some(path("var/lib/qbittorrent")),
                owner: None,
            },
            Mount {
                source: "/srv/media/movies".into(),
                target: path("srv/movies"),
                read_only: true,
                state: None,
                owner: None,
            },
        ],
    }
}

#[test]
fn an_image_becomes_a_configuration_that_the_oldest_release_takes() {
    let config = config_for(&image(), &site());
    assert_eq!(config.check(Release(8, 0)), []);
    assert_eq!(Config::parse(&config.to_text()).unwrap(), config);
    insta::assert_snapshot!(config.to_text(), @r"
    #qBittorrent without a desktop
    #
    #Reached as qbittorrent.viljo.se.
    #
    #Image `qbittorrent` made by build-images.
    arch: amd64
    cores: 2
    features: nesting=1
    hostname: qbittorrent
    memory: 2048
    mp0: /srv/appdata/qbittorrent,mp=/var/lib/qbittorrent
    mp1: /srv/media/downloads,mp=/srv/downloads
    mp2: /srv/media/movies,mp=/srv/movies,ro=1
    nameserver: 172.16.10.1
    net0: name=eth0,bridge=vmbr3,firewall=1,gw=172.16.10.1,hwaddr=BC:24:11:0A:0B:0C,ip=172.16.10.59/24,tag=7,type=veth
    onboot: 1
    ostype: debian
    rootfs: local-lvm:vm-159-disk-0,size=32G
    searchdomain: viljo.se
    startup: order=3
    swap: 512
    tags: media;web
    unprivileged: 1
    ");
}

#[test]
fn a_graphics_card_is_a_device_that_older_releases_do_not_know() {
    let mut image = image();
    image.container.gpu = Some(Gpu { device: "/dev/dri/renderD128".into(), gid: 944 });
    let config = config_for(&image, &site());
    let text = config.to_text();
    assert!(text.contains("\ndev0: /dev/dri/renderD128,gid=944,mode=0660\nfeatures"), "{text}");
    assert_eq!(Config::parse(&text).unwrap(), config);
    assert_eq!(config.check(Release(8, 1)), []);
    let problems = config.check(Release(8, 0));
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].to_string(), "`dev0`: `dev` needs Proxmox VE 8.1, the site says 8.0");
}

#[test]
fn dhcp_and_little_else_give_a_short_configuration() {
    let mut image = image();
    image.container.address = Address::Dhcp;
    image.container.tags.clear();
    image.container.onboot = false;
    image.container.startup = None;
    image.container.firewall = false;
    image.container.vlan = None;
    image.mounts.clear();
    insta::assert_snapshot!(config_for(&image, &site()).to_text(), @r"
    #qBittorrent without a desktop
    #
    #Reached as qbittorrent.viljo.se.
    #
    #Image `qbittorrent` made by build-images.
    arch: amd64
    cores: 2
    features: nesting=1
    hostname: qbittorrent
    memory: 2048
    nameserver: 172.16.10.1
    net0: name=eth0,bridge=vmbr3,hwaddr=BC:24:11:0A:0B:0C,ip=dhcp,type=veth
    ostype: debian
    rootfs: local-lvm:vm-159-disk-0,size=32G
    searchdomain: viljo.se
    swap: 512
    unprivileged: 1
    ");
}

// Strategies: values that keep all limits, so that the same generators serve text and typed round trips.

fn word() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,8}"
}

fn volume() -> impl Strategy<Value = String> {
    // A part `.` or `..` is refused.
    "[a-z][a-z0-9-]{0,5}[a-z0-9]:[a-z0-9/._-]{0,10}[a-z0-9]"
        .prop_filter("a part of dots", |volume| !volume.split('/').any(|part| part == "." || part == ".."))
}

fn flag(key: &'static str) -> impl Strategy<Value = Option<String>> {
    proptest::option::of(any::<bool>().prop_map(move |on| format!("{key}={}", u8::from(on))))
}

fn part(key: &'static str, pattern: &'static str) -> impl Strategy<Value = Option<String>> {
    proptest::option::of(pattern.prop_map(move |text| format!("{key}={text}")))
}

/// Joins a first part and the optional ones, which stand in canonical order.
fn joined(first: String, parts: Vec<Option<String>>) -> String {
    let parts = std::iter::once(first).filter(|first| !first.is_empty()).chain(parts.into_iter().flatten());
    parts.collect::<Vec<_>>().join(",")
}

const SIZE: &str = "[1-9][0-9]{0,2}[KMGT]";
const OPTIONS: &str = "(noatime|nodev|discard)(;(noexec|nosuid|lazytime)){0,2}";
const IDMAP: &str = "passthrough|u:[0-9]{1,5}:[0-9]{1,6}:[1-9][0-9]{0,4}(;g:0:100000:65536)?";
const MAC: &str = "[0-9A-F][02468ACE](:[0-9A-F]{2}){5}";

fn root_text() -> impl Strategy<Value = String> {
    let parts = (
        flag("acl"),
        part("idmap", IDMAP),
        part("mountoptions", OPTIONS),
        flag("quota"),
        flag("replicate"),
        flag("ro"),
        flag("shared"),
        SIZE.prop_map(|size| Some(format!("size={size}"))),
    );
    (volume(), parts).prop_map(|(first, p)| joined(first, vec![p.0, p.1, p.2, p.3, p.4, p.5, p.6, p.7]))
}

fn mount_text() -> impl Strategy<Value = String> {
    let parts = (
        flag("acl"),
        flag("backup"),
        part("idmap", IDMAP),
        flag("keepattrs"),
        part("mountoptions", OPTIONS),
        flag("quota"),
        flag("replicate"),
        flag("ro"),
        flag("shared"),
        SIZE.prop_map(|size| Some(format!("size={size}"))),
    );
    (volume(), "/srv/[a-z0-9]{1,8}", parts).prop_map(|(volume, target, p)| {
        let parts = vec![p.0, p.1, p.2, p.3, p.4, p.5, p.6, p.7, p.8, p.9];
        joined(format!("{volume},mp={target}"), parts)
    })
}

fn net_text() -> impl Strategy<Value = String> {
    let addresses = (
        part("gw", "10\\.[0-9]\\.1[0-9]\\.1"),
        part("gw6", "fd00::[1-9a-f]"),
        flag("host-managed"),
        part("hwaddr", MAC),
        part("ip", "dhcp|manual|10\\.0\\.[0-9]\\.[1-9]/(8|24|32)"),
        part("ip6", "auto|dhcp|manual|fd00::[1-9a-f]/(8|64|128)"),
        flag("link_down"),
    );
    let rest = (
        part("mtu", "[1-9][0-9]{3}"),
        part("rate", "[0-9]{1,3}(\\.[0-9]{1,3})?"),
        part("tag", "[1-3][0-9]{0,3}"),
        part("trunks", "[1-9][0-9]{0,2}(;[1-9][0-9]{0,2}){0,3}"),
        part("type", "veth"),
    );
    (word(), part("bridge", "vmbr[0-9]{1,3}"), flag("firewall"), addresses, rest).prop_map(
        |(name, bridge, firewall, a, r)| {
            let parts = vec![bridge, firewall, a.0, a.1, a.2, a.3, a.4, a.5, a.6, r.0, r.1, r.2, r.3, r.4];
            joined(format!("name={name}"), parts)
        },
    )
}

fn device_text() -> impl Strategy<Value = String> {
    let parts =
        (flag("deny-write"), part("gid", "[1-9][0-9]{0,4}"), part("mode", "0[0-7]{3}"), part("uid", "0"));
    ("/dev/[a-z0-9]{1,6}(/[a-z0-9]{1,4})?", parts)
        .prop_map(|(path, p)| joined(path, vec![p.0, p.1, p.2, p.3]))
}

fn features_text() -> impl Strategy<Value = String> {
    let parts =
        (flag("force_rw_sys"), flag("fuse"), flag("keyctl"), flag("mknod"), part("mount", "nfs(;cifs)?"));
    parts.prop_map(|p| joined(String::new(), vec![p.0, p.1, p.2, p.3, p.4, Some("nesting=1".into())]))
}

/// Canonical lines of every top-level key, each there or not.
fn key_lines() -> impl Strategy<Value = BTreeMap<String, String>> {
    let patterns: Vec<(&'static str, &'static str)> = vec![
        ("arch", "amd64|i386|arm64|armhf|riscv32|riscv64"),
        ("cmode", "shell|console|tty"),
        ("console", "[01]"),
        ("cores", "[1-7][0-9]{0,3}"),
        ("cpulimit", "[0-9]{1,3}(\\.[0-9]{1,4})?"),
        ("cpuunits", "[1-4][0-9]{0,5}"),
        ("debug", "[01]"),
        ("entrypoint", "/[!-~]{1,10}( [!-~åß]{1,10}){0,2}"),
        ("hookscript", "local:snippets/[a-z]{1,8}"),
        ("hostname", "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\\.[a-z]{1,5}){0,2}"),
        ("memory", "[1-9][0-9]{2,9}"),
        ("nameserver", "10\\.0\\.0\\.[1-9]( fd00::[1-9]| fe80::1%eth[0-9]){0,3}"),
        ("onboot", "[01]"),
        ("ostype", "debian|devuan|ubuntu|centos|fedora|opensuse|archlinux|alpine|gentoo|nixos|unmanaged"),
        ("protection", "[01]"),
        ("searchdomain", "[a-z]{1,8}\\.[a-z]{2}( [a-z]{1,8}){0,2}"),
        ("startup", "order=[0-9]|up=[1-9]|down=[1-9]|order=[1-9][0-9],up=[0-9],down=[0-9]|up=7,down=9"),
        ("swap", "0|[1-9][0-9]{0,6}"),
        ("tags", "[a-z0-9_][a-z0-9_+.-]{0,8}(;[a-z0-9_]{1,8}){0,3}"),
        ("template", "[01]"),
        ("timezone", "host|UTC|Europe/[A-Z][a-z]{1,9}"),
        ("tty", "[0-6]"),
        ("unprivileged", "[01]"),
    ];
    let plain: Vec<_> = patterns
        .into_iter()
        .map(|(key, pattern)| proptest::option::of(pattern.prop_map(move |value| (key.to_owned(), value))))
        .collect();
    fn many(
        prefix: &'static str,
        count: u16,
        text: impl Strategy<Value = String>,
    ) -> impl Strategy<Value = Vec<(String, String)>> {
        proptest::collection::btree_map(0..count, text, 0..4).prop_map(move |map| {
            map.into_iter().map(|(number, text)| (format!("{prefix}{number}"), text)).collect()
        })
    }
    (
        plain,
        proptest::option::of(features_text()),
        root_text(),
        many("net", 32, net_text()),
        many("dev", 256, device_text()),
        many("mp", 256, mount_text()),
    )
        .prop_map(|(plain, features, root, nets, devices, mounts)| {
            let mut lines: BTreeMap<_, _> = plain.into_iter().flatten().collect();
            lines.insert("rootfs".into(), root);
            lines.extend(features.map(|features| ("features".into(), features)));
            lines.extend(nets.into_iter().chain(devices).chain(mounts));
            lines
        })
}

/// Any text as canonical description lines.
fn description() -> impl Strategy<Value = (String, String)> {
    let line = proptest::collection::vec(any::<char>().prop_filter("one line", |c| *c != '\n'), 0..12);
    let line = line.prop_map(|line| line.into_iter().collect::<String>());
    proptest::collection::vec(line, 0..4).prop_map(|mut lines| {
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        let mut text = String::new();
        for line in &lines {
            text.push('#');
            for byte in line.bytes() {
                match byte {
                    b'%' | b':' | ..=0x1f | 0x7f.. => text.push_str(&format!("%{byte:02X}")),
                    _ => text.push(char::from(byte)),
                }
            }
            text.push('\n');
        }
        (lines.join("\n"), text)
    })
}

type Pairs = Vec<(String, String)>;

fn environment() -> impl Strategy<Value = Pairs> {
    proptest::collection::vec(("[A-Z_][A-Z0-9_]{0,6}", "([!-~å]{1,4}( [!-~]{1,4}){0,2})?"), 0..3)
}

fn raw() -> impl Strategy<Value = Pairs> {
    let key = "lxc\\.(idmap|cap\\.drop|mount\\.entry|cgroup2\\.[a-z.]{1,6}[a-z]|prlimit\\.[a-z]{2,5}|net\\.0\\.type)";
    proptest::collection::vec((key, "([!-~]{1,6}( [!-~å]{1,6}){0,2})?"), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Over texts: any canonical file keeps every byte and breaks no limit.
    #[test]
    fn canonical_texts_round_trip(
        (_, description) in description(),
        lines in key_lines(),
        environment in environment(),
        raw in raw(),
    ) {
        let mut text = description;
        text.extend(lines.iter().map(|(key, value)| format!("{key}: {value}\n")));
        text.extend(environment.iter().map(|(key, value)| format!("lxc.environment.runtime: {key}={value}\n")));
        text.extend(raw.iter().map(|(key, value)| format!("{key}: {value}\n")));
        let config = Config::parse(&text).map_err(|problems| TestCaseError::fail(said(&problems)))?;
        prop_assert_eq!(config.to_text(), text);
        let others: Vec<_> =
            config.check(RELEASE).into_iter().filter(|p| !matches!(p.fault, Fault::Conflict(_))).collect();
        prop_assert_eq!(others, vec![]);
    }

    /// Over configurations: what was written is read back as the same value, and in any order of lines.
    #[test]
    fn configurations_round_trip(
        (description, _) in description(),
        lines in key_lines(),
        environment in environment(),
        lxc in raw(),
        size in 0_u64..1 << 50,
        number in any::<u8>(),
        rotate in any::<usize>(),
    ) {
        let mut config = Config { description, environment, lxc, ..Config::default() };
        for (key, value) in &lines {
            prop_assert_eq!(config.set(key, value), Some(Ok(false)));
        }
        config.rootfs = Some(RootFs::new("a1:b", DiskSize(size)));
        config.unused.insert(number, Unused { volume: "a1:c".into() });
        config.lock = Some(Lock::ALL[usize::from(number) % Lock::ALL.len()]);
        let text = config.to_text();
        prop_assert_eq!(&Config::parse(&text).map_err(|p| TestCaseError::fail(said(&p)))?, &config);
        let mut keys: Vec<_> = text.lines().filter(|l| !l.starts_with(['#']) && !l.starts_with("lxc.")).collect();
        let others: Vec<_> = text.lines().filter(|l| l.starts_with(['#']) || l.starts_with("lxc.")).collect();
        let middle = rotate % keys.len();
        keys.rotate_left(middle);
        let shuffled = [others, keys].concat().join("\n");
        prop_assert_eq!(Config::parse(&shuffled).map_err(|p| TestCaseError::fail(said(&p)))?.to_text(), text);
    }

    /// Nothing that is read can panic, and what parses is a fixed point.
    #[test]
    fn any_text_is_read_without_panic(text in "(#|[a-z]{2,8}[0-9]?|net0|mp0|rootfs|lxc\\.[a-z]{1,5})[:=]?[ -~\\n%åé]{0,60}") {
        if let Ok(config) = Config::parse(&text) {
            let canonical = config.to_text();
            prop_assert_eq!(Config::parse(&canonical).map(|c| c.to_text()), Ok(canonical));
            config.check(Release(8, 0));
        }
    }
}
