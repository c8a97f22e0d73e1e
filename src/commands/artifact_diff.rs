//! `diff` of two artifacts: packages, files, configuration.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::diff::{PackageChange, compare_packages};
use super::{CommandError, LockDiff};
use crate::apt::control::stanzas;
use crate::archive;
use crate::artifact::{Manifest, ResultDirectory};
use crate::tree::{Kind, Node, Tree, TreePath};

/// Where an archive has its container's configuration.
const CONFIGURATION: &str = "etc/vzdump/pct.conf";
/// Where dpkg says what is installed.
const STATUS: &str = "var/lib/dpkg/status";

/// What is different between two artifacts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ArtifactDiff {
    /// Packages that only the new one has.
    pub added: Vec<PackageChange>,
    /// Packages that only the old one has.
    pub removed: Vec<PackageChange>,
    /// Packages with other versions.
    pub changed: Vec<PackageChange>,
    /// Paths that are not the same in both; times are not compared.
    pub files: Vec<FileChange>,
    /// Lines of the container's configuration that only the old one has.
    pub configuration_removed: Vec<String>,
    /// Lines of the container's configuration that only the new one has.
    pub configuration_added: Vec<String>,
}

/// One path of an [`ArtifactDiff`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// The path, from `/` on.
    pub path: String,
    /// What it was; nothing when it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// What it is; nothing when it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    /// Which of type, mode, owner, target, content and attributes differ; empty when one side is not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub what: Vec<&'static str>,
}

impl ArtifactDiff {
    /// Whether both give the same container.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The packages alone.
    pub fn packages(&self) -> LockDiff {
        let Self { added, removed, changed, .. } = self.clone();
        LockDiff { added, removed, changed, ..LockDiff::default() }
    }
}

/// What of an artifact is compared.
struct Opened {
    tree: Tree,
    packages: Vec<(String, String)>,
    configuration: Vec<String>,
}

/// The archive that `path` means: itself, or the one of an artifact's directory; and the manifest that names it.
///
/// # Errors
/// When a directory holds no artifact, or its manifest cannot be read.
pub(super) fn locate(path: &Path) -> Result<(PathBuf, Option<Manifest>), CommandError> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let directory = if absolute.is_dir() { &absolute } else { absolute.parent().unwrap_or(&absolute) };
    let manifest = ResultDirectory::at(directory).manifest()?;
    if absolute.is_dir() {
        let manifest = manifest.ok_or_else(|| {
            let directory = path.display();
            CommandError::Usage(format!("there is no artifact in `{directory}`: it has no manifest.json"))
        })?;
        return Ok((absolute.join(manifest.archive.file_name()?), Some(manifest)));
    }
    if !absolute.exists() {
        return Err(CommandError::Usage(format!("there is no `{}`", path.display())));
    }
    let named =
        |manifest: &Manifest| absolute.file_name().is_some_and(|n| n == manifest.archive.file.as_str());
    Ok((absolute.clone(), manifest.filter(named)))
}

/// Compares the artifacts or archives at `old` and `new`.
///
/// # Errors
/// When one cannot be read.
pub(super) fn diff(old: &Path, new: &Path) -> Result<ArtifactDiff, CommandError> {
    let (old, new) = (open(old)?, open(new)?);
    let packages = compare_packages(&old.packages, &new.packages);
    let only = |lines: &[String], others: &[String]| -> Vec<String> {
        lines.iter().filter(|line| !others.contains(line)).cloned().collect()
    };
    Ok(ArtifactDiff {
        added: packages.added,
        removed: packages.removed,
        changed: packages.changed,
        files: files(&old.tree, &new.tree),
        configuration_removed: only(&old.configuration, &new.configuration),
        configuration_added: only(&new.configuration, &old.configuration),
    })
}

fn open(path: &Path) -> Result<Opened, CommandError> {
    let (archive, manifest) = locate(path)?;
    let failed =
        |error: &dyn std::error::Error| CommandError::failed(&format!("`{}`", archive.display()), error);
    let keep: Vec<_> = [CONFIGURATION, STATUS].into_iter().flat_map(TreePath::new).collect();
    let mut read = archive::read(&archive, &keep).map_err(|error| failed(&error))?;
    let text = |name: &str| {
        let bytes = TreePath::new(name).ok().and_then(|path| read.kept.get(&path));
        bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
    };
    let packages = match manifest {
        Some(manifest) => {
            let rows = manifest.packages.into_iter();
            rows.map(|row| (qualified(&row.name, &row.architecture), row.version)).collect()
        }
        None => stanzas(&text(STATUS))
            .flatten()
            .filter_map(|stanza| {
                let name = qualified(stanza.get("Package")?, stanza.get("Architecture")?);
                Some((name, stanza.get("Version")?.to_owned()))
            })
            .collect(),
    };
    let configuration = text(CONFIGURATION).lines().map(str::to_owned).collect();
    // Its lines say more than that it is another file.
    read.tree.retain(|path, _| path.as_bytes() != CONFIGURATION.as_bytes());
    Ok(Opened { tree: read.tree, packages, configuration })
}

/// A package's name, with its architecture where that is neither the machine's own nor `all`.
pub(super) fn qualified(name: &str, architecture: &str) -> String {
    match architecture {
        "all" | "amd64" => name.to_owned(),
        other => format!("{name}:{other}"),
    }
}

/// Paths that differ between two trees, in their order.
pub(super) fn files(old: &Tree, new: &Tree) -> Vec<FileChange> {
    let paths: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let change = |path: &TreePath| {
        let (before, after) = (old.get(path), new.get(path));
        let what = match (before, after) {
            (Some(before), Some(after)) => differences(before, after),
            _ => Vec::new(),
        };
        (what.is_empty() == (before.is_none() || after.is_none())).then(|| FileChange {
            path: format!("/{}", String::from_utf8_lossy(path.as_bytes())),
            old: before.map(describe),
            new: after.map(describe),
            what,
        })
    };
    paths.into_iter().filter_map(change).collect()
}

fn differences(old: &Node, new: &Node) -> Vec<&'static str> {
    let mut what = Vec::new();
    if std::mem::discriminant(&old.kind) != std::mem::discriminant(&new.kind) {
        what.push("type");
    } else if old.kind != new.kind {
        what.push(if matches!(old.kind, Kind::File { .. }) { "content" } else { "target" });
    }
    for (name, differs) in [
        ("mode", old.mode != new.mode),
        ("owner", (old.uid, old.gid) != (new.uid, new.gid)),
        ("attributes", old.xattrs != new.xattrs),
    ] {
        if differs {
            what.push(name);
        }
    }
    what
}

/// As `ls -l` shows it, nearly: `file 0644 0:0 12 bytes`.
fn describe(node: &Node) -> String {
    let rest = match &node.kind {
        Kind::Directory => "directory".to_owned(),
        Kind::File { content } => format!("file of {} bytes", content.size),
        Kind::Symlink { target } => format!("link to {}", String::from_utf8_lossy(&target.0)),
        Kind::Hardlink { target } => format!("hard link to /{}", String::from_utf8_lossy(target.as_bytes())),
        Kind::Fifo => "pipe".to_owned(),
    };
    format!("{:04o} {}:{} {rest}", node.mode, node.uid, node.gid)
}
