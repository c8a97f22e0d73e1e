//! What Proxmox and an unprivileged container need of a tree.

use std::io;

use crate::build::place;
use crate::tree::{Contents, Kind, Node, Tree, TreePath};

/// Highest user and group id that an unprivileged container has.
const MAX_ID: u32 = 65535;
/// Units that fail in an unprivileged container: they would mount what it may not, or load modules.
const FAILING_UNITS: [&str; 2] = ["sys-kernel-debug.mount", "systemd-modules-load.service"];
/// Longest file that is read for a check, in bytes.
const MAX_READ: u64 = 1 << 16;

/// A tree cannot be finished.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// Everything that keeps it from being a container of Proxmox.
    #[error("the image would not work as a container of Proxmox:{}", list(.0))]
    Problems(Vec<FinishProblem>),
    /// The dpkg database of the image cannot be read.
    #[error("cannot read the image's dpkg database: {0}")]
    Unreadable(io::Error),
}

impl FinishError {
    pub(super) fn unreadable(source: io::Error) -> Self {
        Self::Unreadable(source)
    }
}

fn list(problems: &[FinishProblem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

/// One thing that Proxmox or an unprivileged container does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FinishProblem {
    /// An owner or group outside the container's ids.
    #[error("`{path}` belongs to {uid}:{gid}, but an unprivileged container has only ids 0 to {MAX_ID}")]
    Id {
        /// The entry.
        path: TreePath,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// Permission bits that no file system has.
    #[error("`{path}` has the mode {mode:o}, expected at most 7777")]
    Mode {
        /// The entry.
        path: TreePath,
        /// Its mode.
        mode: u32,
    },
    /// An extended attribute that restoring drops.
    #[error(
        "`{path}` has the extended attribute `{name}`, but Proxmox restores only `user.*` and `security.capability`"
    )]
    Attribute {
        /// The entry.
        path: TreePath,
        /// The attribute.
        name: String,
    },
    /// A capability that restoring would lose.
    #[error(
        "`{path}` has a `security.capability` of {length} bytes with revision {revision}, expected 20 bytes of \
             revision 2: Proxmox loses those of another user namespace"
    )]
    Capability {
        /// The entry.
        path: TreePath,
        /// How long the attribute is.
        length: usize,
        /// The revision in its first four bytes.
        revision: u32,
    },
    /// The directory of an entry is missing or is none.
    #[error("`{path}` lies in `{parent}`, which is not a directory of the image")]
    Parent {
        /// The entry.
        path: TreePath,
        /// Its parent.
        parent: TreePath,
    },
    /// A hard link to nothing, or to something that comes later.
    #[error("`{path}` is a hard link to `{target}`, which is not a regular file that comes before it")]
    HardLink {
        /// The entry.
        path: TreePath,
        /// Its target.
        target: TreePath,
    },
    /// Something that every image needs.
    #[error("`{path}` is not there{reason}")]
    Missing {
        /// What is needed.
        path: TreePath,
        /// What for, or who brings it, with a leading separator.
        reason: &'static str,
    },
    /// Proxmox cannot tell which Debian this is.
    #[error("`/etc/debian_version` says `{found}`: Proxmox wants a release such as `13.1` or `trixie/sid`")]
    DebianVersion {
        /// Its first line.
        found: String,
    },
    /// `os-release` names another system.
    #[error("`/etc/os-release` has no line `ID=debian`: Proxmox would not treat the container as Debian")]
    NotDebian,
    /// A unit that fails in an unprivileged container can be started.
    #[error(
        "unit `{0}` fails in an unprivileged container: add it to `mask` under `[units]` of the base recipe"
    )]
    FailingUnit(&'static str),
}

/// Checks a finished tree: everything that Proxmox refuses or drops, and what the first boot needs.
pub fn check(tree: &Tree, contents: &dyn Contents) -> Vec<FinishProblem> {
    let mut problems = Vec::new();
    for (path, node) in tree {
        check_entry(tree, path, node, &mut problems);
    }
    let needed = [
        ("sbin/init", ": the first recipe has to bring `systemd-sysv`"),
        ("bin/sh", ": Proxmox reads the container's architecture from it"),
        ("etc/localtime", ": the first boot would wait for a time zone; the package `tzdata` has them all"),
        ("etc/locale.conf", ": the first boot would wait for a locale"),
        ("etc/machine-id", ": without it the first boot is none"),
        ("etc/debian_version", ": Proxmox reads the release from it; `base-files` brings it"),
        ("etc/os-release", ": Proxmox tells the distribution by it; `base-files` brings it"),
    ];
    for (path, reason) in needed {
        let Ok(path) = TreePath::new(path) else { continue };
        if !place::resolve(tree, &path).is_ok_and(|real| tree.contains_key(&real)) {
            problems.push(FinishProblem::Missing { path, reason });
        }
    }
    check_release(tree, contents, &mut problems);
    for unit in FAILING_UNITS {
        let at = |directory: &str| TreePath::new(format!("{directory}/systemd/system/{unit}")).ok();
        let masked = at("etc").and_then(|path| tree.get(&path)).map(|node| &node.kind);
        let masked = matches!(masked, Some(Kind::Symlink { target }) if target.0 == b"/dev/null");
        if !masked && at("usr/lib").is_some_and(|path| tree.contains_key(&path)) {
            problems.push(FinishProblem::FailingUnit(unit));
        }
    }
    problems
}

fn check_entry(tree: &Tree, path: &TreePath, node: &Node, problems: &mut Vec<FinishProblem>) {
    let Node { mode, uid, gid, .. } = *node;
    if uid > MAX_ID || gid > MAX_ID {
        problems.push(FinishProblem::Id { path: path.clone(), uid, gid });
    }
    if mode > 0o7777 {
        problems.push(FinishProblem::Mode { path: path.clone(), mode });
    }
    for (name, value) in &node.xattrs {
        if name == "security.capability" {
            // struct vfs_cap_data: revision in the highest byte of a little-endian word.
            let revision = value.get(3).copied().unwrap_or_default().into();
            if value.len() != 20 || revision != 2 {
                problems.push(FinishProblem::Capability {
                    path: path.clone(),
                    length: value.len(),
                    revision,
                });
            }
        } else if !name.starts_with("user.") {
            problems.push(FinishProblem::Attribute { path: path.clone(), name: name.clone() });
        }
    }
    if let Some(parent) = path.parent()
        && !tree.get(&parent).is_some_and(Node::is_directory)
    {
        problems.push(FinishProblem::Parent { path: path.clone(), parent });
    }
    if let Kind::Hardlink { target } = &node.kind
        && (target >= path || tree.get(target).and_then(Node::content).is_none())
    {
        problems.push(FinishProblem::HardLink { path: path.clone(), target: target.clone() });
    }
}

fn check_release(tree: &Tree, contents: &dyn Contents, problems: &mut Vec<FinishProblem>) {
    let read = |path: &str| {
        let real = place::resolve(tree, &TreePath::new(path).ok()?).ok()?;
        let content = tree.get(&real)?.content().filter(|content| content.size <= MAX_READ)?;
        Some(String::from_utf8_lossy(&contents.read(content).ok()?).into_owned())
    };
    if let Some(text) = read("etc/debian_version") {
        let found = text.lines().next().unwrap_or_default().trim().to_owned();
        let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (major, minor) = found.split_once('.').unwrap_or((&found, "0"));
        if !(number(major) && number(minor) || found.ends_with("/sid")) {
            problems.push(FinishProblem::DebianVersion { found });
        }
    }
    if let Some(text) = read("etc/os-release")
        && !text.lines().any(|line| line.trim().replace('"', "") == "ID=debian")
    {
        problems.push(FinishProblem::NotDebian);
    }
}
