//! The site's files as the programs see them that they are for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::require;
use crate::world::{World, has_program};
use crate::{files, outcome, project, script_path, written};

/// Lines as qBittorrent 5.1 and Jellyfin 10.11 write them. In each, what follows the colon says which address is told,
/// or that none is.
const LINES: [(&str, &str, Option<&str>); 9] = [
    (
        "qbittorrent",
        "(W) 2026-11-26T08:00:01 - WebAPI login failure. Reason: invalid credentials, attempt count: 1, IP: ::ffff:203.0.113.7, username: admin",
        Some("203.0.113.7"),
    ),
    (
        "qbittorrent",
        "(W) 2026-11-26T08:00:02 - WebAPI login failure. Reason: invalid credentials, attempt count: 4, IP: 2001:db8::7, username: admin",
        Some("2001:db8::7"),
    ),
    (
        // A name that looks like the end of another line.
        "qbittorrent",
        "(W) 2026-11-26T08:00:03 - WebAPI login failure. Reason: invalid credentials, attempt count: 2, IP: ::ffff:203.0.113.7, username: x, IP: 198.51.100.1, username: y",
        Some("203.0.113.7"),
    ),
    ("qbittorrent", "(N) 2026-11-26T08:00:04 - WebAPI login success. IP: ::ffff:203.0.113.7", None),
    ("qbittorrent", "(N) 2026-11-26T08:00:05 - qBittorrent v5.1.0 started. Process ID: 312", None),
    (
        "jellyfin",
        r#"[2026-11-26 08:00:01.042 +00:00] [INF] Jellyfin.Server.Implementations.Users.UserManager: Authentication request for "bob" has been denied (IP: "203.0.113.7")."#,
        Some("203.0.113.7"),
    ),
    (
        "jellyfin",
        r#"[2026-11-26 08:00:02.042 +00:00] [INF] Jellyfin.Server.Implementations.Users.UserManager: Authentication request for "x has been denied (IP: \"198.51.100.1\")." has been denied (IP: "203.0.113.7")."#,
        Some("203.0.113.7"),
    ),
    (
        "jellyfin",
        r#"[2026-11-26 08:00:03.042 +00:00] [INF] Jellyfin.Server.Implementations.Users.UserManager: Authentication request for bob has been denied (IP: 2001:db8::7)."#,
        Some("2001:db8::7"),
    ),
    (
        "jellyfin",
        r#"[2026-11-26 08:00:04.042 +00:00] [INF] Jellyfin.Server.Implementations.Users.UserManager: Authentication request for "bob" has succeeded."#,
        None,
    ),
];

#[test]
fn shellcheck_warns_of_nothing() {
    if !require("shellcheck (package shellcheck)", has_program("shellcheck")) {
        return;
    }
    let site = written(&project());
    let scripts: Vec<_> =
        files(&project()).into_iter().filter(|file| file.executable).map(|file| file.path).collect();
    assert_eq!(scripts, ["backup.sh", "storage.sh", "verify.sh"]);
    for script in scripts {
        let output = Command::new("shellcheck").arg(script_path(&site, &script)).output().unwrap();
        assert_eq!(outcome(&output), (Some(0), String::new()), "{script}");
    }
}

#[test]
fn every_command_of_the_documents_and_scripts_is_one_that_proxmox_has() {
    // `PVE::CLI::pct`'s own.
    let known: BTreeSet<&str> = [
        "list", "config", "status", "start", "stop", "shutdown", "reboot", "restore", "create", "destroy",
        "exec", "enter", "mount", "unmount", "push", "pull", "set", "snapshot", "rollback", "unlock",
    ]
    .into();
    let mut seen = BTreeSet::new();
    for file in files(&project()) {
        for (_, rest) in
            file.contents.match_indices("pct ").map(|(at, word)| file.contents.split_at(at + word.len()))
        {
            let verb = rest
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
                .next()
                .unwrap_or_default()
                .to_owned();
            // As in `no pct here` and `pct > /dev/null`.
            if !verb.is_empty() && verb != "here" {
                assert!(known.contains(verb.as_str()), "{}: `pct {verb}`", file.path);
                seen.insert(verb);
            }
        }
    }
    assert!(seen.contains("restore") && seen.contains("start"), "{seen:?}");
}

#[test]
fn every_file_that_a_document_names_is_there() {
    let files = files(&project());
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        assert!(!file.contents.contains('@') || file.contents.contains("root@"), "{}", file.path);
        for word in file.contents.split(|c: char| c.is_whitespace() || "`()[],;:".contains(c)) {
            let word = word.strip_prefix("site/").unwrap_or(word).trim_end_matches('.');
            let looks = word.ends_with(".sh")
                || word.ends_with(".yml")
                || word.ends_with(".nft")
                || word.ends_with(".fw")
                || word.starts_with("dns/")
                || word.starts_with("fail2ban/") && word.len() > 9;
            let placeholder = word.contains("ID") || word.starts_with('/');
            if looks && !placeholder && word != "dns/" {
                assert!(files.iter().any(|other| other.path == word), "{} names `{word}`", file.path);
            }
        }
        for mark in ["@HOST@", "@TABLE@", "@"] {
            let left = file.contents.split("root@").any(|part| part.contains(mark));
            assert!(!left, "{} has `{mark}` left", file.path);
        }
    }
}

#[test]
fn the_zone_is_one() {
    if !require("named-checkzone (package bind9-utils)", has_program("named-checkzone")) {
        return;
    }
    let mut project = project();
    for public in [None, Some("203.0.113.9".parse().unwrap())] {
        project.site.network.public = public;
        let site = written(&project);
        let include = site.path().join("site/dns/zone.txt");
        let zone = site.path().join("zone");
        let text = format!(
            "$ORIGIN viljo.se.\n$TTL 3600\n@ IN SOA ns hostmaster 1 7200 3600 1209600 600\n@ IN NS ns\n@ IN A 203.0.113.1\nns IN A 203.0.113.2\n$INCLUDE {}\n",
            include.display()
        );
        fs::write(&zone, text).unwrap();
        let output = Command::new("named-checkzone")
            .args(["-D", "-i", "local", "viljo.se"])
            .arg(&zone)
            .output()
            .unwrap();
        let (code, text) = outcome(&output);
        assert_eq!(code, Some(0), "{text}");
        let expected = if public.is_some() { "A 203.0.113.9" } else { "CNAME viljo.se." };
        for name in ["jellyfin", "qbittorrent"] {
            let line = text.lines().find(|line| line.starts_with(&format!("{name}.viljo.se.")));
            let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
            let words: Vec<_> = line.split_whitespace().skip(1).collect();
            assert_eq!(words.join(" "), format!("600 IN {expected}"));
        }
    }
}

/// Checked, loaded twice, and asked: a connection to the router arrives at the container's address.
#[test]
fn the_router_forwards_what_is_public_and_nothing_else() {
    let ready = require("root", rustix::process::geteuid().is_root())
        && require("nft (package nftables)", has_program("nft") || Path::new("/usr/sbin/nft").exists())
        && require("ip (package iproute2)", has_program("ip"));
    if !ready {
        return;
    }
    let site = written(&project());
    let rules = site.path().join("site/firewall/port-forward.nft");
    // The world is the router; its "internet" and the container are namespaces behind it.
    let world = World::new("vmbr3", &["172.16.10.1/24".to_owned()]);
    fs::copy(&rules, world.path("/mnt/rules.nft")).unwrap();
    world.run("nft", &["-c", "-f", "/mnt/rules.nft"]);
    world.run("nft", &["-f", "/mnt/rules.nft"]);
    world.run("nft", &["-f", "/mnt/rules.nft"]);
    let loaded = world.run("nft", &["list", "table", "ip", "build_images"]);
    assert_eq!(loaded.matches("dnat to 172.16.10.59:6881").count(), 2, "{loaded}");
    let script = "set -e
        mount -t tmpfs tmpfs /run
        ip netns add outside; ip netns add inside
        ip link add wan type veth peer name eth0 netns outside
        ip link add lan type veth peer name eth0 netns inside
        ip link set lan master vmbr3; ip link set lan up; ip link set wan up
        ip address add 203.0.113.9/24 dev wan
        ip -n outside address add 203.0.113.1/24 dev eth0; ip -n outside link set eth0 up
        ip -n inside address add 172.16.10.59/24 dev eth0; ip -n inside link set eth0 up
        ip -n inside route add default via 172.16.10.1
        echo 1 > /proc/sys/net/ipv4/ip_forward
        ip netns exec inside timeout 20 perl -MIO::Socket::INET -e '
            my @sockets = map { IO::Socket::INET->new(LocalPort => $_, Listen => 9, ReuseAddr => 1) or die } 6881, 8080;
            open my $ready, q(>), q(/run/ready); close $ready;
            my $client = $sockets[0]->accept; print $client $client->peerhost, qq(\\n); close $client;' &
        for _ in $(seq 100); do [ -e /run/ready ] && break; sleep 0.1; done
        ip netns exec outside perl -MIO::Socket::INET -e '
            my $refused = IO::Socket::INET->new(PeerAddr => q(203.0.113.9), PeerPort => 8080, Timeout => 2);
            print defined $refused ? qq(8080 open\\n) : qq(8080 closed\\n);
            my $peer = IO::Socket::INET->new(PeerAddr => q(203.0.113.9), PeerPort => 6881, Timeout => 5) or die qq(6881: $@);
            print <$peer>;'
        wait";
    assert_eq!(world.run("sh", &["-c", script]), "8080 closed\n203.0.113.1\n");
}

#[test]
fn fail2ban_finds_the_addresses_of_failed_logins_and_nothing_else() {
    if !require("fail2ban-regex (package fail2ban)", has_program("fail2ban-regex")) {
        return;
    }
    let site = written(&project());
    for (recipe, line, address) in LINES {
        assert_eq!(found(site.path(), recipe, line), address.into_iter().collect::<Vec<_>>(), "{line}");
    }
}

/// The addresses that the filter of `recipe` finds in a line, or several.
fn found(site: &Path, recipe: &str, lines: &str) -> Vec<String> {
    let log = site.join("line.log");
    fs::write(&log, format!("{lines}\n")).unwrap();
    let filter: PathBuf = site.join(format!("site/fail2ban/filter.d/image-{recipe}.conf"));
    let output =
        Command::new("fail2ban-regex").args(["--out", "ip"]).arg(&log).arg(&filter).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", outcome(&output).1);
    assert!(output.stderr.is_empty(), "{}", outcome(&output).1);
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The whole of fail2ban's configuration with these files in it.
#[test]
fn fail2ban_takes_the_jails() {
    let installed = Path::new("/etc/fail2ban/fail2ban.conf");
    if !require("fail2ban (package fail2ban)", has_program("fail2ban-client") && installed.exists()) {
        return;
    }
    let site = written(&project());
    let place = site.path().join("etc");
    fs::create_dir(&place).unwrap();
    let copy = |from: &Path| {
        let output = Command::new("cp").arg("-r").arg(from.join(".")).arg(&place).output().unwrap();
        assert_eq!(outcome(&output), (Some(0), String::new()));
    };
    copy(Path::new("/etc/fail2ban"));
    copy(&site.path().join("site/fail2ban"));
    // Of the host's own jails nothing is asked, and logs are where a test can put them.
    fs::remove_file(place.join("jail.d/defaults-debian.conf")).unwrap();
    let jails = place.join("jail.d/build-images.conf");
    let text = fs::read_to_string(&jails).unwrap();
    let state = site.path().join("appdata");
    for log in ["jellyfin/log/log_20261126.log", "qbittorrent/qBittorrent/data/logs/qbittorrent.log"] {
        let path = state.join(log);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    fs::write(&jails, text.replace("/srv/appdata", state.to_str().unwrap())).unwrap();
    let output = Command::new("fail2ban-client").arg("-c").arg(&place).arg("-d").output().unwrap();
    let (code, text) = outcome(&output);
    assert_eq!(code, Some(0), "{text}");
    for part in [
        "'image-jellyfin', 'addlogpath'",
        "'image-qbittorrent', 'addlogpath'",
        "'logtimezone', 'UTC'",
        "log_20261126.log",
    ] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    // Some versions say this of their own configuration.
    let complaints = text.lines().filter(|line| line.contains("ERROR") || line.contains("WARNING"));
    assert_eq!(complaints.filter(|line| !line.contains("'allowipv6' not defined")).count(), 0, "{text}");
}
