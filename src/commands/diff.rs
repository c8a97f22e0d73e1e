//! `diff`: two locks, package by package, or two artifacts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde::Serialize;

use super::artifact_diff::{self, qualified};
use super::session::read_lock;
use super::{ArtifactDiff, CommandError};
use crate::apt::lockfile::{Lock, LockedTarball};
use crate::store::Context as _;

/// What is different between two locks or two artifacts.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Diff {
    /// Two locks.
    Locks(LockDiff),
    /// Two artifacts, or their archives.
    Artifacts(ArtifactDiff),
}

/// Compares two lock files, or two artifacts: directories or archives.
///
/// # Errors
/// When one cannot be read, or the two are not of one kind.
pub fn diff(old: &Path, new: &Path) -> Result<Diff, CommandError> {
    match (is_lock(old)?, is_lock(new)?) {
        (true, true) => {}
        (false, false) => return artifact_diff::diff(old, new).map(Diff::Artifacts),
        (first, _) => {
            let (lock, artifact) = if first { (old, new) } else { (new, old) };
            let (lock, artifact) = (lock.display(), artifact.display());
            let message = format!("`{lock}` is a lock and `{artifact}` an artifact; give two of one kind");
            return Err(CommandError::Usage(message));
        }
    }
    let missing = |path: &Path| CommandError::Usage(format!("there is no `{}`", path.display()));
    let read = |path: &Path| read_lock(path)?.ok_or_else(|| missing(path));
    Ok(Diff::Locks(diff_locks(&read(old)?, &read(new)?)))
}

/// Whether `path` is to be read as a lock: a file that does not begin as compressed by zstd.
fn is_lock(path: &Path) -> Result<bool, CommandError> {
    const ZSTD: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
    if path.is_dir() {
        return Ok(false);
    }
    let mut file = match File::open(path) {
        // Said where it is read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        file => file.context("open", path)?,
    };
    let mut start = [0; 4];
    let read = file.read(&mut start).context("read", path)?;
    Ok(start[..read] != ZSTD)
}

/// What is different between two locks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LockDiff {
    /// Packages that only the new lock has.
    pub added: Vec<PackageChange>,
    /// Packages that only the old lock has.
    pub removed: Vec<PackageChange>,
    /// Packages with other versions.
    pub changed: Vec<PackageChange>,
    /// Packages of the same version whose .deb is another one: never right for Debian's archives.
    pub replaced: Vec<PackageChange>,
    /// Suites whose signed state is another one.
    pub suites: Vec<SuiteChange>,
    /// Tarballs that came, went or are others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tarballs: Vec<TarballChange>,
}

/// One tarball of a [`LockDiff`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TarballChange {
    /// Its name.
    pub tarball: String,
    /// The old URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// The new URL; the same as the old one when only the contents are others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

/// One package of a [`LockDiff`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    /// Its name, with `:architecture` unless that is the machine's own or `all`.
    pub package: String,
    /// The old version or versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// The new version or versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

/// One suite of a [`LockDiff`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SuiteChange {
    /// Archive and suite.
    pub suite: String,
    /// The old date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// The new date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

impl LockDiff {
    /// Whether the two locks give the same images.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether both lock the same packages.
    pub fn same_packages(&self) -> bool {
        self.added.is_empty()
            && self.removed.is_empty()
            && self.changed.is_empty()
            && self.replaced.is_empty()
    }
}

/// What changed from `old` to `new`.
pub fn diff_locks(old: &Lock, new: &Lock) -> LockDiff {
    let mut diff = compare(&versions(old), &versions(new));
    let names: BTreeSet<_> = old.tarball.iter().chain(&new.tarball).map(|tarball| &tarball.name).collect();
    for name in names {
        let (old, new) = (old.tarball(name), new.tarball(name));
        if old != new {
            let url = |row: Option<&LockedTarball>| row.map(|row| row.url.clone());
            diff.tarballs.push(TarballChange { tarball: name.clone(), old: url(old), new: url(new) });
        }
    }
    let (before, after) = (dates(old), dates(new));
    let suites: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for suite in suites {
        let (old, new) = (before.get(suite), after.get(suite));
        if old != new {
            let date = |entry: Option<&(String, String)>| entry.map(|(date, _)| date.clone());
            diff.suites.push(SuiteChange { suite: suite.clone(), old: date(old), new: date(new) });
        }
    }
    diff
}

/// What changed between two lists of packages with their versions.
pub(super) fn compare_packages(old: &[(String, String)], new: &[(String, String)]) -> LockDiff {
    let versions = |rows: &[(String, String)]| -> Versions {
        rows.iter().map(|(name, version)| (name.clone(), (version.clone(), Vec::new()))).collect()
    };
    compare(&versions(old), &versions(new))
}

/// Versions and hashes by package.
type Versions = BTreeMap<String, (String, Vec<String>)>;

fn compare(before: &Versions, after: &Versions) -> LockDiff {
    let mut diff = LockDiff::default();
    for (name, (version, hashes)) in before {
        match after.get(name) {
            None => diff.removed.push(change(name, Some(version), None)),
            Some((other, _)) if other != version => {
                diff.changed.push(change(name, Some(version), Some(other)))
            }
            Some((_, other)) if other != hashes => {
                diff.replaced.push(change(name, Some(version), Some(version)))
            }
            Some(_) => {}
        }
    }
    let new_ones = after.iter().filter(|(name, _)| !before.contains_key(*name));
    diff.added = new_ones.map(|(name, (version, _))| change(name, None, Some(version))).collect();
    diff
}

fn change(name: &str, old: Option<&String>, new: Option<&String>) -> PackageChange {
    PackageChange { package: name.to_owned(), old: old.cloned(), new: new.cloned() }
}

/// Versions and hashes by package; several versions of one package are joined.
fn versions(lock: &Lock) -> Versions {
    let mut versions: BTreeMap<String, (Vec<&str>, Vec<String>)> = BTreeMap::new();
    for package in &lock.package {
        let name = qualified(&package.name, &package.architecture);
        let entry = versions.entry(name).or_default();
        entry.0.push(&package.version);
        entry.1.push(package.sha256.to_string());
    }
    versions.into_iter().map(|(name, (versions, hashes))| (name, (versions.join(", "), hashes))).collect()
}

fn dates(lock: &Lock) -> BTreeMap<String, (String, String)> {
    let suites =
        lock.archive.iter().flat_map(|archive| archive.suite.iter().map(move |suite| (archive, suite)));
    suites
        .map(|(archive, suite)| {
            (format!("{} {}", archive.name, suite.name), (suite.date.clone(), suite.inrelease.to_string()))
        })
        .collect()
}
