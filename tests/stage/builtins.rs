//! The same layer with every program that scripts call run for real, and with builtins in their place.

use std::collections::BTreeSet;

use build_images::build::stage::Limits;
use build_images::layer::Layer;
use build_images::store::Store;
use build_images::tree::TreePath;

use crate::machine::{self, Watch, import, job, run};
use crate::packages::{self, Fetched};
use crate::support::require;

/// Packages beyond those of the images: services, timers, sockets, debconf, alternatives, diversions, accounts.
const BEYOND: [&str; 24] = [
    "apparmor",
    "avahi-daemon",
    "ca-certificates",
    "chrony",
    "console-setup",
    "cron",
    "dbus",
    "ifupdown",
    "keyboard-configuration",
    "locales",
    "logrotate",
    "man-db",
    "nfs-common",
    "nftables",
    "nginx-light",
    "openssh-server",
    "procps",
    "redis-server",
    "rsyslog",
    "smartmontools",
    "sudo",
    "systemd-sysv",
    "vim-tiny",
    "wireguard-tools",
];

/// Paths whose content is random or says when it was written, also in two runs of the real programs; a `*` at the end
/// stands for anything.
const RANDOM: [&str; 7] = [
    "etc/machine-id",
    "etc/ssh/ssh_host_*",
    "var/cache/ldconfig/aux-cache",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "var/log/alternatives.log",
    "var/log/dpkg.log",
];

fn is_random(path: &TreePath) -> bool {
    let path = String::from_utf8_lossy(path.as_bytes()).into_owned();
    RANDOM.iter().any(|random| match random.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => path == *random,
    })
}

/// The layer of `fetched`, in a store of its own.
fn layer(fetched: &Fetched, builtins: bool) -> (tempfile::TempDir, Layer) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let packages = fetched.debs.iter().map(|path| import(&store, path)).collect();
    let watch = Watch::new();
    let limits = Limits { builtins, ..Limits::default() };
    let layer = run(&store, &job(packages, &[]), &limits, &watch).unwrap_or_else(|error| panic!("{error}"));
    watch.print();
    (directory, layer)
}

fn compare(fetched: &Fetched) {
    let (_real, expected) = layer(fetched, false);
    let (_builtin, found) = layer(fetched, true);
    let paths: BTreeSet<&TreePath> = expected.tree.keys().chain(found.tree.keys()).collect();
    assert!(paths.len() > 5000, "{} paths", paths.len());
    let differs = |path: &&&TreePath| !is_random(path) && expected.tree.get(**path) != found.tree.get(**path);
    let different: Vec<_> = paths
        .iter()
        .filter(differs)
        .map(|path| format!("{path}: {:?} against {:?}", expected.tree.get(*path), found.tree.get(*path)))
        .collect();
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

#[test]
fn builtins_change_nothing_of_the_images_packages() {
    let fetched = if machine::ready() { packages::full() } else { None };
    if require("a Debian mirror in the host's apt configuration", fetched.is_some())
        && let Some(fetched) = fetched
    {
        compare(fetched);
    }
}

#[test]
fn builtins_change_nothing_of_packages_beyond_the_images() {
    let fetched = if machine::ready() { packages::fetch("beyond", &BEYOND) } else { None };
    if require("a Debian mirror in the host's apt configuration", fetched.is_some())
        && let Some(fetched) = fetched
    {
        compare(&fetched);
    }
}
