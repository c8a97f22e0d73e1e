//! `gc`: drops from the store what no result and no running build refers to.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::CommandError;
use super::layers::{NOTES, note_path};
use super::session::Session;
use super::stored::{Owners, size};
use crate::archive;
use crate::artifact::{self, ResultDirectory};
use crate::build::secrets::SCANS;
use crate::digest::Sha256;
use crate::store::{Context as _, Kind, Object, TemporaryDirectory, remove};

/// What a sweep dropped, or would drop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Objects dropped.
    pub objects: u64,
    /// Bytes they took.
    pub bytes: u64,
    /// Objects kept.
    pub kept: u64,
    /// Each object dropped.
    pub dropped: Vec<Dropped>,
}

/// One object that was dropped, or would be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Dropped {
    /// Its path below the store's directory.
    pub path: PathBuf,
    /// What it is.
    pub what: &'static str,
    /// Bytes it took.
    pub bytes: u64,
    /// Whose it was, as far as that is known: packages, recipes, images.
    pub belongs_to: Vec<String>,
}

/// Drops every object that neither the lock nor a result refers to, neither of this project nor of another that uses the
/// store, that no running build needs, and that was not used in the last `keep_days` days. With `dry_run`, touches
/// nothing and tells what would be dropped.
///
/// Objects are touched when they are used, so their modification time is that of their last use.
///
/// Holds off builds only for the moments in which they begin, and while it looks at the store. What goes is first moved
/// aside, then removed.
///
/// # Errors
/// When the store cannot be read, or an object cannot be removed.
pub fn gc(session: &Session, dry_run: bool, keep_days: u32, now: SystemTime) -> Result<Swept, CommandError> {
    let store = &session.store;
    let alone = session.wait("gc", "waiting until no other run begins or sweeps", |wait| {
        loop {
            if let Some(guard) = store.try_sweep()? {
                return Ok(Some(guard));
            }
            if !wait() {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    })?;
    // First who runs, then what results there are: a run that ends in between has its result by then.
    let running = store.in_use()?;
    let (mut keep, gone) = referenced(session)?;
    keep.extend(running.iter().flat_map(|run| run.objects.iter().cloned()));
    // Whatever a run uses beside these is younger than the run.
    let begun = running.iter().map(|run| run.since);
    let days = now.checked_sub(Duration::from_secs(u64::from(keep_days) * 24 * 3600));
    let limit = begun.chain(days).min().filter(|_| days.is_some());
    let owners = if dry_run { Owners::of(store, session.read_lock()?.as_ref())? } else { Owners::default() };
    let mut sweep = Sweep { root: store.root(), limit, owners, swept: Swept::default(), gone: Vec::new() };

    for kind in Kind::ALL {
        sweep.directory(&store.root().join(kind.directory()), |path, name| {
            let (what, object) = match kind {
                Kind::Deb => ("package", Some(Object::Deb)),
                Kind::Tarball => ("tarball", Some(Object::Tarball)),
                Kind::Index => ("index", Some(Object::Index)),
                Kind::Layer => ("layer", Some(Object::Layer)),
                Kind::Partial => ("partial download", Some(Object::Deb)),
                Kind::Frame => match archive::stored_name(path) {
                    (Object::HashState, _) => ("hash state", Some(Object::HashState)),
                    _ => ("frame", Some(Object::Frame)),
                },
            };
            let stem = name.split('.').next().unwrap_or(name);
            (keep.contains(&(kind, stem.to_owned())), what, object)
        })?;
    }
    sweep.directory(&store.root().join(SCANS), |_, name| {
        let layer = name.split('.').next().unwrap_or(name);
        (keep.contains(&(Kind::Layer, layer.to_owned())), "searched contents", Some(Object::Scan))
    })?;
    let notes: BTreeSet<_> =
        session.requests.sets.iter().map(|request| note_path(session, &request.recipes)).collect();
    sweep.directory(&store.root().join(NOTES), |path, _| {
        (notes.contains(path), "note of a job", Some(Object::Note))
    })?;
    sweep.directory(&store.root().join(artifact::NOTES), |path, _| {
        (!gone.iter().any(|gone| gone == path), "note of a result", Some(Object::ResultNote))
    })?;
    for path in store.leftovers()? {
        sweep.drop(path, "leftover of a killed run", None)?;
    }
    let Sweep { mut swept, gone, .. } = sweep;
    swept.dropped.sort();
    if !dry_run {
        let trash = store.create_directory().ok();
        for (number, path) in gone.iter().enumerate() {
            put_aside(path, trash.as_ref(), number).context("remove", path)?;
        }
        store.clear_locks();
        drop(alone);
        // With nobody waiting, however long it takes.
        drop(trash);
    }
    Ok(swept)
}

/// Moves what is at `path` into `trash`. Where there is none, since the disk is full, or where it is on another file
/// system, removes it.
fn put_aside(path: &Path, trash: Option<&TemporaryDirectory>, number: usize) -> io::Result<()> {
    let moved = trash.is_some_and(|trash| fs::rename(path, trash.path().join(number.to_string())).is_ok());
    match if moved { Ok(()) } else { remove(path) } {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

struct Sweep<'a> {
    root: &'a Path,
    /// What is younger stays.
    limit: Option<SystemTime>,
    owners: Owners,
    swept: Swept,
    gone: Vec<PathBuf>,
}

impl Sweep<'_> {
    /// Takes what is in `directory`, unless it is recent or to be kept. A directory that is not there is empty. `look`
    /// gives for a path and a name whether it is to be kept, and what it is.
    fn directory(
        &mut self,
        directory: &Path,
        look: impl Fn(&Path, &str) -> (bool, &'static str, Option<Object>),
    ) -> Result<(), CommandError> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.context("read", directory)?,
        };
        for entry in entries {
            let path = entry.context("read", directory)?.path();
            let metadata = match fs::symlink_metadata(&path) {
                // A partial download that is complete now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata.context("look at", &path)?,
            };
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let (keep, what, object) = look(&path, &name);
            let recent = match self.limit {
                Some(limit) => metadata.modified().is_ok_and(|time| time >= limit),
                // So many days that all of time is recent.
                None => true,
            };
            if keep || recent {
                self.swept.kept += 1;
            } else {
                self.drop(path, what, object)?;
            }
        }
        Ok(())
    }

    fn drop(
        &mut self,
        path: PathBuf,
        what: &'static str,
        object: Option<Object>,
    ) -> Result<(), CommandError> {
        let bytes = match size(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            bytes => bytes.context("look at", &path)?,
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.strip_suffix(".state").unwrap_or(&name);
        let belongs_to = object.map(|object| self.owners.of_object(object, name)).unwrap_or_default();
        self.swept.objects += 1;
        self.swept.bytes += bytes;
        let short = path.strip_prefix(self.root).unwrap_or(&path).to_owned();
        self.swept.dropped.push(Dropped { path: short, what, bytes, belongs_to });
        self.gone.push(path);
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
