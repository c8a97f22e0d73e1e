//! The state of each archive that is resolved from, and what becomes of lists whose archive cannot be had.

use std::collections::{BTreeMap, BTreeSet};

use super::missing::{Lacking, Missing};
use super::texts::Texts;
use super::{ArchiveSource, ControlFileError, Locking, LockingError};
use crate::apt::lockfile::{Lock, LockedArchive, LockedPackage};
use crate::apt::sync::{SyncError, SyncedArchive};
use crate::apt::universe::UniverseError;
use crate::fetch::FetchError;
use crate::model::recipe::Archive;
use crate::plan::Requests;

/// States of archives as they are gathered.
#[derive(Default)]
pub(super) struct States {
    /// What there is to resolve from.
    pub synced: BTreeMap<String, SyncedArchive>,
    /// What the lock says of each archive.
    rows: Vec<LockedArchive>,
    /// What the lock said of archives that are to move, or to be new.
    before: BTreeMap<String, Option<LockedArchive>>,
    /// Archives that cannot be had at all.
    failed: BTreeMap<String, SyncError>,
    /// Archives of which only the locked packages are known, by their .debs.
    partial: BTreeMap<String, SyncError>,
    /// Archives that should have moved and stay as they are.
    stayed: BTreeMap<String, SyncError>,
    /// Sets that wait for an archive.
    lost: BTreeMap<usize, String>,
    /// Sets that nothing fits, and why.
    unsatisfiable: BTreeMap<usize, LockingError>,
}

impl States {
    /// Leaves an archive that nothing is resolved from as it is.
    pub(super) fn keep(&mut self, locked: Option<&LockedArchive>) {
        self.rows.extend(locked.cloned());
    }

    /// Reads the state that `locked` pins; where nobody has it any more, the .debs of what is locked from it.
    pub(super) fn pinned(
        &mut self,
        archive: &Archive,
        locked: &LockedArchive,
        old: &Lock,
        source: &dyn ArchiveSource,
    ) -> Result<(), LockingError> {
        // Reading it again must not change what the lock says of it.
        self.rows.push(locked.clone());
        let error = match source.pinned(archive, locked) {
            Ok(state) => {
                self.synced.insert(archive.name.clone(), state);
                return Ok(());
            }
            Err(error) => tolerable(error)?,
        };
        let rows: Vec<_> = old.package.iter().filter(|row| row.archive == archive.name).collect();
        let mut texts = Texts::default();
        for package in &rows {
            match control(source, package, locked)? {
                Ok(text) => texts.add(package, &text),
                Err(_) => {
                    self.failed.insert(archive.name.clone(), error);
                    return Ok(());
                }
            }
        }
        let indices = texts.take(&archive.name);
        self.synced.insert(
            archive.name.clone(),
            SyncedArchive { locked: locked.clone(), indices, files: Vec::new() },
        );
        self.partial.insert(archive.name.clone(), error);
        Ok(())
    }

    /// Reads the newest state, or the locked one when there is no newer one to be had.
    pub(super) fn newest(
        &mut self,
        archive: &Archive,
        locked: Option<&LockedArchive>,
        old: &Lock,
        source: &dyn ArchiveSource,
    ) -> Result<(), LockingError> {
        let error = match source.newest(archive, locked) {
            Ok(state) => {
                self.before.insert(archive.name.clone(), old.archive(&archive.name).cloned());
                self.rows.push(state.locked.clone());
                self.synced.insert(archive.name.clone(), state);
                return Ok(());
            }
            Err(error) => tolerable(error)?,
        };
        match locked {
            Some(locked) => {
                self.pinned(archive, locked, old, source)?;
                self.stayed.insert(archive.name.clone(), error);
            }
            None => {
                // Packages that are locked from it by an older definition keep their archive's row.
                self.rows.extend(old.archive(&archive.name).cloned());
                self.failed.insert(archive.name.clone(), error);
            }
        }
        Ok(())
    }

    /// Adds what indices no longer list and the lock has.
    pub(super) fn complete(
        &mut self,
        texts: &mut Texts,
        old: &Lock,
        source: &dyn ArchiveSource,
    ) -> Result<(), LockingError> {
        for package in texts.unlisted(old) {
            let Some(locked) = old.archive(&package.archive) else { continue };
            match control(source, package, locked)? {
                Ok(text) => texts.add(package, &text),
                // Without it a pin would move; lists that need the archive have to wait.
                Err(error) => {
                    self.failed.insert(package.archive.clone(), error);
                }
            }
        }
        Ok(())
    }

    /// Whether it is known that the archive cannot be had.
    pub(super) fn has_failed(&self, name: &str) -> bool {
        self.failed.contains_key(name)
    }

    /// Whether the archive is at its newest state.
    pub(super) fn moved(&self, name: &str) -> bool {
        self.synced.contains_key(name) && !self.stayed.contains_key(name)
    }

    /// Whether the archive is in another state than `locked`.
    pub(super) fn is_other(&self, name: &str, locked: &LockedArchive) -> bool {
        self.synced.get(name).is_some_and(|state| state.locked != *locked)
    }

    /// The lock that `resolve` makes without the sets whose archive cannot be had; when `tolerant`, also without those
    /// that nothing fits.
    pub(super) fn resolve(
        &mut self,
        requests: &Requests,
        (redo, tolerant): (&BTreeSet<usize>, bool),
        mut resolve: impl FnMut(&BTreeMap<usize, String>, Vec<LockedArchive>) -> Result<Lock, LockingError>,
    ) -> Result<Lock, LockingError> {
        for (index, request) in requests.sets.iter().enumerate().filter(|(index, _)| redo.contains(index)) {
            let below = request.base.and_then(|base| self.lost.get(&base)).cloned();
            let own = request.archives.keys().find(|name| self.failed.contains_key(*name)).cloned();
            if let Some(archive) = own.or(below) {
                self.lost.insert(index, archive);
            }
        }
        loop {
            let error = match resolve(&self.lost, self.rows.clone()) {
                Err(error @ LockingError::Unsatisfiable { .. }) => error,
                Err(LockingError::Universe(error)) => match self.unusable(requests, redo, error) {
                    Some(error) => return Err(error.into()),
                    None => continue,
                },
                other => return other,
            };
            let LockingError::Unsatisfiable { recipes, .. } = &error else { return Err(error) };
            let place = requests.sets.iter().position(|set| set.recipes == *recipes);
            let Some(place) = place.filter(|place| !self.lost.contains_key(place)) else { return Err(error) };
            // Of an archive of which only the locked packages are known, others may be what is needed.
            let known = requests.sets[place].archives.keys().find(|name| self.partial.contains_key(*name));
            match known {
                Some(archive) => self.lose(requests, place, archive),
                None if tolerant => {
                    let what = recipes.join(" + ");
                    self.unsatisfiable.insert(place, error);
                    self.lose(requests, place, &what);
                }
                None => return Err(error),
            }
        }
    }

    /// Gives up an archive whose index cannot be used, and every set that needs it. The error comes back when there is no
    /// such set left.
    fn unusable(
        &mut self,
        requests: &Requests,
        redo: &BTreeSet<usize>,
        error: UniverseError,
    ) -> Option<UniverseError> {
        let Some(archive) = error.archive().map(str::to_owned) else { return Some(error) };
        let before = self.lost.len();
        for index in redo {
            if requests.sets[*index].archives.contains_key(&archive) {
                self.lost.entry(*index).or_insert_with(|| archive.clone());
            }
        }
        if self.lost.len() == before {
            return Some(error);
        }
        if let Some(before) = self.before.remove(&archive) {
            self.rows.retain(|row| row.name != archive);
            self.rows.extend(before);
        }
        self.failed.insert(archive.clone(), SyncError::Index { archive, source: Box::new(error) });
        None
    }

    /// Gives up a set and all above it.
    fn lose(&mut self, requests: &Requests, place: usize, archive: &str) {
        self.lost.insert(place, archive.to_owned());
        for (index, request) in requests.sets.iter().enumerate() {
            if request.base.is_some_and(|base| self.lost.contains_key(&base)) {
                self.lost.entry(index).or_insert_with(|| archive.to_owned());
            }
        }
    }

    /// `lock`, with what is missing from it.
    pub(super) fn finish(self, requests: &Requests, lock: Lock) -> Locking {
        let Self { failed, partial, stayed, lost, unsatisfiable, .. } = self;
        let waiting = |archive: &str, whole: bool| -> BTreeSet<String> {
            // A set may wait for several archives, of which one is noted.
            let waits = |(set, name): &(&usize, &String)| {
                *name == archive || whole && requests.sets[**set].archives.contains_key(archive)
            };
            let sets = lost.iter().filter(waits).map(|(set, _)| &requests.sets[*set]);
            // A set that is as it was, on packages that are as they were, is still good.
            let stuck = sets.filter(|request| {
                let set = lock.set(&request.recipes);
                set.is_none_or(|set| set.unresolved || set.request != request.digest())
            });
            stuck.flat_map(|request| request.images.iter().cloned()).collect()
        };
        let mut missing = Vec::new();
        let failed = failed.into_iter().map(|(name, error)| (name, error, true));
        let partial = partial.into_iter().map(|(name, error)| (name, error, false));
        for (name, error, whole) in failed.chain(partial) {
            let images = waiting(&name, whole);
            if !images.is_empty() {
                let lacking = Lacking::Archive(error);
                missing.push(Missing { locked: lock.archive(&name).is_some(), name, images, lacking });
            }
        }
        for (name, error) in stayed {
            if !missing.iter().any(|one| one.name == name) {
                let lacking = Lacking::Newer(error);
                missing.push(Missing { name, locked: true, images: BTreeSet::new(), lacking });
            }
        }
        for (place, error) in unsatisfiable {
            let request = &requests.sets[place];
            missing.push(Missing {
                name: request.recipes.join(" + "),
                locked: false,
                images: request.images.clone(),
                lacking: Lacking::Fit(Box::new(error)),
            });
        }
        Locking { lock, missing }
    }
}

/// The control file of a locked package; the inner error is one that others are no worse for.
fn control(
    source: &dyn ArchiveSource,
    package: &LockedPackage,
    locked: &LockedArchive,
) -> Result<Result<String, SyncError>, LockingError> {
    match source.control(package, locked) {
        Ok(text) => Ok(Ok(text)),
        Err(ControlFileError::Fetch(error @ (FetchError::Store(_) | FetchError::Cancelled))) => {
            Err(SyncError::Fetch(error).into())
        }
        Err(source) => Ok(Err(SyncError::Control { archive: locked.name.clone(), source: Box::new(source) })),
    }
}

/// The error, unless nothing at all can go on after it.
fn tolerable(error: SyncError) -> Result<SyncError, LockingError> {
    match error {
        SyncError::Fetch(_) => Err(error.into()),
        error => Ok(error),
    }
}
