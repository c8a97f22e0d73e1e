//! `gc`: drops from the store what no result refers to.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::CommandError;
use super::layers::{NOTES, note_path};
use super::session::Session;
use crate::artifact::ResultDirectory;
use crate::digest::Sha256;
use crate::progress::{Event, Unit};
use crate::store::{Context as _, Guard, Kind};

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

/// Drops every object that neither the lock nor a result refers to, neither of this project nor of another that uses the
/// store, and that was not written in the last `keep_days` days. With `dry_run`, only counts.
///
/// Waits while a build uses the store.
///
/// # Errors
/// When the store cannot be read, or an object cannot be removed.
pub fn gc(session: &Session, dry_run: bool, keep_days: u32, now: SystemTime) -> Result<Swept, CommandError> {
    let _alone = wait(session)?;
    let (keep, gone) = referenced(session)?;
    let before = |days: u32| now.checked_sub(Duration::from_secs(u64::from(days) * 24 * 3600));
    let mut sweep = Sweep { dry_run, limit: before(keep_days), swept: Swept::default() };
    for kind in Kind::ALL {
        sweep.directory(&session.store.root().join(kind.directory()), |name| {
            let stem = name.split('.').next().unwrap_or(name);
            keep.contains(&(kind, stem.to_owned()))
        })?;
    }
    sweep.directory(&session.store.root().join("scans"), |name| {
        let layer = name.split('.').next().unwrap_or(name);
        keep.contains(&(Kind::Layer, layer.to_owned()))
    })?;
    let notes: BTreeSet<_> =
        session.requests.sets.iter().map(|request| note_path(session, &request.recipes)).collect();
    let directory = session.store.root().join(NOTES);
    sweep.directory(&directory, |name| notes.contains(&directory.join(name)))?;
    let directory = session.store.root().join("results");
    sweep.directory(&directory, |name| !gone.contains(&directory.join(name)))?;
    // What a killed run left. Nobody uses the store now, but another program may be looking.
    sweep.limit = before(keep_days.max(1));
    sweep.directory(&session.store.root().join("tmp"), |_| false)?;
    Ok(sweep.swept)
}

/// The right to remove objects. A wait for it can be interrupted, which one for the kernel's lock cannot.
fn wait(session: &Session) -> Result<Guard, CommandError> {
    let subject = "gc".to_owned();
    let mut told = false;
    loop {
        session.check_cancelled()?;
        if let Some(guard) = session.store.lock_unused()? {
            session.reporter.report(Event::Finished { subject });
            return Ok(guard);
        }
        if !std::mem::replace(&mut told, true) {
            let action = "waiting until no build uses the store".to_owned();
            let unit = Unit::Packages;
            session.reporter.report(Event::Stage { subject: subject.clone(), action, total: 0, unit });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

struct Sweep {
    dry_run: bool,
    limit: Option<SystemTime>,
    swept: Swept,
}

impl Sweep {
    /// Drops what is in `directory`, unless it is recent or to be kept. A directory that is not there is empty.
    fn directory(&mut self, directory: &Path, keep: impl Fn(&str) -> bool) -> Result<(), CommandError> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.context("read", directory)?,
        };
        for entry in entries {
            let entry = entry.context("read", directory)?;
            let path = entry.path();
            let metadata = entry.metadata().context("look at", &path)?;
            let recent = self.limit.is_some_and(|limit| metadata.modified().is_ok_and(|time| time > limit));
            if recent || keep(&entry.file_name().to_string_lossy()) {
                self.swept.kept += 1;
                continue;
            }
            self.swept.objects += 1;
            self.swept.bytes += size(&path).context("look at", &path)?;
            if !self.dry_run {
                remove(&path).context("remove", &path)?;
            }
        }
        Ok(())
    }
}

/// Objects by kind and name.
type Objects = BTreeSet<(Kind, String)>;

/// What must stay, and notes about results that are gone.
fn referenced(session: &Session) -> Result<(Objects, Vec<PathBuf>), CommandError> {
    let mut keep = BTreeSet::new();
    if let Some(lock) = session.read_lock()? {
        for kind in [Kind::Deb, Kind::Partial] {
            keep.extend(lock.package.iter().map(|package| (kind, package.sha256.to_string())));
        }
        for kind in [Kind::Tarball, Kind::Partial] {
            keep.extend(lock.tarball.iter().map(|tarball| (kind, tarball.sha256.to_string())));
        }
        for suite in lock.archive.iter().flat_map(|archive| &archive.suite) {
            let path = session.store.path(Kind::Index, suite.inrelease);
            keep.insert((Kind::Index, suite.inrelease.to_string()));
            // The indices that it names, so that locking one more package needs no network.
            let text = fs::read_to_string(path).unwrap_or_default();
            let words = text.split_whitespace().filter(|word| word.parse::<Sha256>().is_ok());
            keep.extend(words.map(|word| (Kind::Index, word.to_owned())));
        }
        for image in session.project.images.keys() {
            if let Ok(plan) = session.plan(image, &lock) {
                keep.extend(plan.stages.iter().map(|stage| (Kind::Layer, stage.key.to_string())));
                keep.extend(super::tarballs::keys(&plan).map(|key| (Kind::Layer, key.to_string())));
            }
        }
    }
    let (mut manifests, gone) = ResultDirectory::all(&session.store)?;
    for image in session.project.images.keys() {
        // One that cannot be read refers to nothing; the next build makes it anew.
        let result = ResultDirectory::new(&session.options.results, image);
        manifests.extend(result.manifest().ok().flatten());
    }
    for manifest in &manifests {
        keep.extend(manifest.layers.iter().map(|key| (Kind::Layer, key.to_string())));
        let keys: Vec<_> = manifest.frames.iter().filter_map(|frame| frame.key).collect();
        keep.extend(keys.iter().map(|key| (Kind::Frame, key.to_string())));
        // States of the tar's hash, without which the next build would hash all of it.
        keep.extend(crate::archive::chain(&keys).iter().map(|name| (Kind::Frame, name.to_string())));
        keep.extend(manifest.tarballs.iter().map(|tarball| (Kind::Tarball, tarball.sha256.to_string())));
        keep.extend(manifest.packages.iter().map(|package| (Kind::Deb, package.sha256.to_string())));
    }
    Ok((keep, gone))
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
