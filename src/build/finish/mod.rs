//! The last stage: what remains of the build is removed, what Proxmox and the first boot rely on is written, and the
//! tree is checked against what Proxmox restores.
//!
//! No file that a package ships is changed or removed: `dpkg --verify` says nothing afterwards.

mod check;
mod traces;

use std::io;

use super::contents::NewContents;
use super::place;
use super::units::{Units, preset};
use crate::digest::Sha256;
use crate::tree::{Contents, Kind, Node, Tree, TreePath};

pub use check::{FinishError, FinishProblem, check};

/// What an image's finish depends on, beside its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Host name without domain.
    pub hostname: String,
    /// DNS domain of the site.
    pub domain: String,
    /// Name servers of the site.
    pub nameservers: Vec<std::net::IpAddr>,
    /// Time zone (`Europe/Stockholm`).
    pub timezone: String,
    /// Time of everything that is made, and the latest time in the image; seconds since 1970.
    pub epoch: i64,
}

/// Removes what `pct create` leaves behind: unlike `pct restore` it keeps the archive's first members. A line of
/// tmpfiles.d is the simplest that holds: no process of its own, no order to get wrong, and nothing happens when the
/// files are not there. `!` keeps it to boot; systemd-tmpfiles-setup.service removes what is below a path first.
const CLEANUP: &str = "\
# `pct create` leaves the container's configuration in the container.
r! /etc/vzdump/pct.conf
r! /etc/vzdump/pct.fw
r! /etc/vzdump
";

/// Host names of the container itself. Proxmox adds the container's own name and address at each start.
const HOSTS: &str = "\
127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
";

/// Proxmox adds the network card's part at each start.
const INTERFACES: &str = "\
source /etc/network/interfaces.d/*

auto lo
iface lo inet loopback
";

/// Finishes a tree.
///
/// # Errors
/// Everything that keeps the tree from working as a container of Proxmox.
pub fn normalise(
    tree: Tree,
    contents: &mut NewContents<'_>,
    settings: &Settings,
) -> Result<Tree, FinishError> {
    let mut tree = tree;
    traces::remove(&mut tree, contents).map_err(FinishError::unreadable)?;
    let mut finisher = Finisher { tree, contents, epoch: settings.epoch };
    finisher.identity(settings);
    finisher.network(settings);
    finisher.locale(settings);
    finisher.first_boot();
    let Finisher { mut tree, contents, epoch } = finisher;
    for node in tree.values_mut() {
        node.mtime = node.mtime.clamp(0, epoch);
    }
    let problems = check(&tree, contents);
    if problems.is_empty() { Ok(tree) } else { Err(FinishError::Problems(problems)) }
}

/// What [`normalise`] will make of what packages ship, as long as no recipe changes it: for work ahead on a layer that is
/// not a whole image yet.
pub fn foresee(tree: &Tree, epoch: i64) -> Tree {
    let emptied: Vec<_> = traces::EMPTY.iter().filter_map(|(path, _)| TreePath::new(path).ok()).collect();
    let kept =
        |path: &TreePath| !emptied.iter().any(|directory| path.is_within(directory) && path != directory);
    let clamped = |node: &Node| Node { mtime: node.mtime.clamp(0, epoch), ..node.clone() };
    let entries = tree.iter().filter(|(path, _)| kept(path));
    entries.map(|(path, node)| (path.clone(), clamped(node))).collect()
}

/// Where scripts put the machine's id.
const MACHINE_IDS: [&str; 2] = ["etc/machine-id", "var/lib/dbus/machine-id"];

/// The tree of a layer without what differs from one build of it to the next: files that [`normalise`] removes are empty, the
/// machine's id is a fixed one. All of them are still there, as scripts of a layer above would find them.
///
/// # Errors
/// When the dpkg database cannot be read.
pub fn settle(tree: &Tree, contents: &mut NewContents<'_>) -> io::Result<Tree> {
    let mut kept = tree.clone();
    traces::remove(&mut kept, contents)?;
    let nothing = contents.add(Vec::new());
    let id = contents.add(format!("{}\n", &Sha256::of("build-images").to_string()[..32]));
    let mut settled = tree.clone();
    for (path, node) in &mut settled {
        let Some(content) = node.content().filter(|content| content.size > 0) else { continue };
        let is_id = MACHINE_IDS.iter().any(|id| path.as_bytes() == id.as_bytes());
        let stays = kept.get(path).and_then(Node::content) == Some(content);
        if is_id || !stays {
            node.kind = Kind::File { content: if is_id { id } else { nothing } };
        }
    }
    Ok(settled)
}

struct Finisher<'a, 'b> {
    tree: Tree,
    contents: &'a mut NewContents<'b>,
    epoch: i64,
}

impl Finisher<'_, '_> {
    /// Where a path really is; nothing when its parents lead nowhere, which [`check`] then tells.
    fn place(&self, path: &str) -> Option<TreePath> {
        place::resolve_parent(&self.tree, &TreePath::new(path).ok()?).ok()
    }

    fn write(&mut self, path: &str, mode: u32, text: &str) {
        let Some(path) = self.place(path) else { return };
        let content = self.contents.add(text);
        place::put(&mut self.tree, path, Node::file(content, mode, self.epoch), self.epoch);
    }

    /// Writes a file unless a recipe or package has put something there already.
    fn write_new(&mut self, path: &str, text: &str) {
        let there = self.place(path).and_then(|path| self.tree.get(&path));
        let empty = |node: &Node| node.content().is_some_and(|content| content.size == 0);
        if there.is_none_or(empty) {
            self.write(path, 0o644, text);
        }
    }

    fn link(&mut self, path: &str, target: &str) {
        let Some(path) = self.place(path) else { return };
        let there = self.tree.get(&path).map(|node| &node.kind);
        if !matches!(there, Some(Kind::Symlink { target: found }) if found.0 == target.as_bytes()) {
            place::put(&mut self.tree, path, Node::symlink(target, self.epoch), self.epoch);
        }
    }

    fn directory(&mut self, path: &str, mode: u32) {
        if let Some(path) = self.place(path)
            && !self.tree.contains_key(&path)
        {
            place::put(&mut self.tree, path, Node::directory(mode, self.epoch), self.epoch);
        }
    }

    fn has(&self, path: &str) -> bool {
        self.place(path).is_some_and(|path| self.tree.contains_key(&path))
    }

    /// The machine-id that makes the first boot a first boot: presets are applied, host keys are made. An empty one
    /// does not.
    fn identity(&mut self, settings: &Settings) {
        self.write("etc/machine-id", 0o444, "uninitialized\n");
        if self.has("var/lib/dbus") {
            self.link("var/lib/dbus/machine-id", "/etc/machine-id");
        }
        self.write("etc/hostname", 0o644, &format!("{}\n", settings.hostname));
    }

    fn network(&mut self, settings: &Settings) {
        self.write_new("etc/hosts", HOSTS);
        let servers = settings.nameservers.iter().map(|server| format!("nameserver {server}\n"));
        self.write_new(
            "etc/resolv.conf",
            &format!("search {}\n{}", settings.domain, servers.collect::<String>()),
        );
        if self.has("etc/network") {
            self.directory("etc/network/interfaces.d", 0o755);
            self.write_new("etc/network/interfaces", INTERFACES);
        }
    }

    /// systemd-firstboot would ask for these at the console and wait for ever.
    fn locale(&mut self, settings: &Settings) {
        self.link("etc/localtime", &format!("/usr/share/zoneinfo/{}", settings.timezone));
        self.write("etc/timezone", 0o644, &format!("{}\n", settings.timezone));
        self.write_new("etc/locale.conf", "LANG=C.UTF-8\n");
    }

    fn first_boot(&mut self) {
        self.link("etc/systemd/system/systemd-firstboot.service", "/dev/null");
        // Proxmox puts its consoles there, but only into a directory that exists.
        self.directory("etc/systemd/system/getty.target.wants", 0o755);
        self.write("usr/lib/tmpfiles.d/build-images.conf", 0o644, CLEANUP);
        let text = preset::text_of(Units { tree: &self.tree, contents: self.contents as &dyn Contents });
        self.write(preset::PATH, 0o644, &text);
    }
}

#[cfg(test)]
mod tests;
