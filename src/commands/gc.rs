//! `gc`: drops from the store what no result refers to.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::CommandError;
use super::session::Session;
use crate::artifact::ResultDirectory;
use crate::store::{Context as _, Kind};

/// What a sweep dropped, or would drop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Objects dropped.
    pub objects: u64,
    /// Bytes they took.
    pub bytes: u64,
    /// Objects kept.
    pub kept: u64,
}

/// Drops every object that neither the lock nor a result of this project refers to and that was not written or used
/// in the last `keep_days` days. With `dry_run`, only counts.
///
/// # Errors
/// When the store cannot be read, or an object cannot be removed.
pub fn gc(session: &Session, dry_run: bool, keep_days: u32, now: SystemTime) -> Result<Swept, CommandError> {
    let keep = referenced(session)?;
    let limit = now.checked_sub(Duration::from_secs(u64::from(keep_days) * 24 * 3600));
    let mut swept = Swept::default();
    // A running build holds the same lock shared; what it is about to use must stay.
    let _alone = session.store.lock("gc")?;
    for kind in Kind::ALL {
        let directory = session.store.root().join(kind.directory());
        for entry in fs::read_dir(&directory).context("read", &directory)? {
            let entry = entry.context("read", &directory)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let metadata = entry.metadata().context("look at", &entry.path())?;
            let recent = limit.is_some_and(|limit| metadata.modified().is_ok_and(|time| time > limit));
            let stem = name.split('.').next().unwrap_or(&name);
            if recent || keep.contains(&(kind, stem.to_owned())) {
                swept.kept += 1;
                continue;
            }
            swept.objects += 1;
            swept.bytes += size(&entry.path()).context("look at", &entry.path())?;
            if !dry_run {
                remove(&entry.path()).context("remove", &entry.path())?;
            }
        }
    }
    Ok(swept)
}

fn referenced(session: &Session) -> Result<BTreeSet<(Kind, String)>, CommandError> {
    let mut keep = BTreeSet::new();
    if let Some(lock) = session.read_lock()? {
        keep.extend(lock.package.iter().map(|package| (Kind::Deb, package.sha256.to_string())));
        let suites = lock.archive.iter().flat_map(|archive| &archive.suite);
        keep.extend(suites.map(|suite| (Kind::Index, suite.inrelease.to_string())));
        for image in session.project.images.keys() {
            if let Ok(plan) = session.plan(image, &lock) {
                keep.extend(plan.stages.iter().map(|stage| (Kind::Layer, stage.key.to_string())));
            }
        }
    }
    for image in session.project.images.keys() {
        let result = ResultDirectory::new(&session.options.results, image);
        let Some(manifest) = result.manifest()? else { continue };
        keep.extend(manifest.layers.iter().map(|key| (Kind::Layer, key.to_string())));
        let keys = manifest.frames.iter().filter_map(|frame| frame.key);
        keep.extend(keys.map(|key| (Kind::Frame, key.to_string())));
    }
    Ok(keep)
}

fn size(path: &Path) -> io::Result<u64> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    fs::read_dir(path)?.map(|entry| size(&entry?.path())).sum()
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}
