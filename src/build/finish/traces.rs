//! What a build leaves behind: identities, random seeds, logs, caches, backups of files that tools rewrote.

use std::collections::BTreeSet;
use std::io;

use crate::build::contents::NewContents;
use crate::build::packaged;
use crate::build::place;
use crate::tree::{Kind, Node, Tree, TreePath};

/// Directories that are empty in an image, with the mode they have.
pub(super) const EMPTY: [(&str, u32); 6] =
    [("dev", 0o755), ("proc", 0o555), ("run", 0o755), ("sys", 0o555), ("tmp", 0o1777), ("var/tmp", 0o1777)];

/// Directories from which every file goes that no package ships. Directories in them stay: programs rely on them.
const CLEARED: [&str; 6] = [
    "var/backups",
    "var/cache/apt",
    "var/cache/ldconfig",
    "var/lib/apt/lists",
    "var/lib/systemd/coredump",
    "var/log",
];

/// Logs that programs append to but do not make: emptied, not removed.
const KEPT_LOGS: [&str; 4] = ["var/log/btmp", "var/log/faillog", "var/log/lastlog", "var/log/wtmp"];

/// Files that say which machine this is, or should differ on each.
const IDENTITIES: [&str; 6] = [
    "var/lib/dbus/machine-id",
    "var/lib/systemd/credential.secret",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/timesync/clock",
    "var/lib/urandom/random-seed",
    "root/.bash_history",
];

/// Backups that tools make before they write. Nothing reads them, and what they hold depends on the order of the
/// scripts; `/etc/shadow-` and its kin besides may hold what has been removed from the file.
const BACKUPS: [&str; 13] = [
    "etc/group-",
    "etc/gshadow-",
    "etc/passwd-",
    "etc/shadow-",
    "etc/subgid-",
    "etc/subuid-",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/passwords.dat-old",
    "var/cache/debconf/templates.dat-old",
    "var/lib/dpkg/available-old",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/statoverride-old",
];

/// Removes them all.
///
/// # Errors
/// When the dpkg database cannot be read.
pub fn remove(tree: &mut Tree, contents: &mut NewContents<'_>) -> io::Result<()> {
    let directories: Vec<&str> = EMPTY.iter().map(|(directory, _)| *directory).chain(CLEARED).collect();
    let shipped = packaged::shipped_in(tree, contents, &directories)?;
    let mut gone = BTreeSet::new();
    for (directory, mode) in EMPTY {
        let directory = match TreePath::new(directory).map(|path| place::resolve_parent(tree, &path)) {
            Ok(Ok(directory)) => directory,
            _ => continue,
        };
        if !tree.contains_key(&directory) {
            place::put(tree, directory.clone(), Node::directory(mode, 0), 0);
        }
        let entries = place::below(tree, &directory).filter(|(path, _)| !shipped.contains(*path));
        gone.extend(entries.map(|(path, _)| path.clone()));
    }
    for directory in CLEARED.iter().filter_map(|directory| TreePath::new(directory).ok()) {
        let files = place::below(tree, &directory).filter(|(_, node)| node.content().is_some());
        gone.extend(files.map(|(path, _)| path.clone()).filter(|path| !shipped.contains(path)));
    }
    gone.extend(IDENTITIES.into_iter().chain(BACKUPS).filter_map(|path| TreePath::new(path).ok()));
    if let Ok(ssh) = TreePath::new("etc/ssh") {
        let keys = place::below(tree, &ssh).filter(|(path, _)| path.name().starts_with(b"ssh_host_"));
        gone.extend(keys.filter(|(_, node)| !node.is_directory()).map(|(path, _)| path.clone()));
    }
    let nothing = contents.add(Vec::new());
    for path in gone.iter().rev() {
        let kept = KEPT_LOGS.iter().any(|kept| path.as_bytes() == kept.as_bytes());
        match tree.get_mut(path) {
            Some(node) if kept => node.kind = Kind::File { content: nothing },
            Some(_) => drop(place::remove(tree, path)),
            None => {}
        }
    }
    Ok(())
}
