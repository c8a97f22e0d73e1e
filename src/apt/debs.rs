//! The .debs of a lock, many at once.
//!
//! In: locked packages and archives. Out: paths in the store, each checked against the lock. What is specific to one
//! download is in [`fetch`](crate::fetch).

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use jiff::{SignedDuration, Timestamp};

use super::lockfile::{LockedArchive, LockedPackage};
use crate::fetch::{Candidate, FetchError, FetchErrors, Fetcher, Filling, Source, Wanted};
use crate::progress::{Event, Unit};
use crate::store::Kind;

/// How long after a Release was signed its packages are certain to be in an archive that keeps the past: it takes a copy
/// several times a day, and asked for a moment it gives the copy before that.
const LATER: SignedDuration = SignedDuration::from_hours(12);

/// What becomes of a .deb that the store has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// It is compared with the lock.
    Compared,
    /// It is taken when its size is right: whoever reads it next compares it, and notes damage in the store.
    Taken,
}

/// The moments at which an archive that keeps the past has what `archive` was locked at, best first.
pub(super) fn times(archive: &LockedArchive) -> Vec<Timestamp> {
    let dates = archive.suite.iter().filter_map(|suite| suite.date.parse::<Timestamp>().ok());
    let newest = dates.max();
    newest.into_iter().flat_map(|date| [Some(date), date.checked_add(LATER).ok()]).flatten().collect()
}

impl Fetcher<'_> {
    /// The .deb of one locked package, checked against the lock.
    ///
    /// # Errors
    /// When no place gives it; see [`FetchError`].
    pub fn fetch_deb(&self, package: &LockedPackage, archive: &LockedArchive) -> Result<PathBuf, FetchError> {
        let candidates = self.candidates(&archive.name, &archive.uri, &times(archive));
        self.deb(package, Present::Compared, &candidates, &|_| ())
    }

    /// The .debs of `packages`, in their order, each checked against the lock; those that are there already, as `present` says.
    /// `subject` names the stage in events.
    ///
    /// # Errors
    /// Every package that could not be fetched. The others are in the store then.
    pub fn fetch_debs(
        &self,
        subject: &str,
        packages: &[&LockedPackage],
        present: Present,
        archives: &[LockedArchive],
    ) -> Result<Vec<PathBuf>, FetchErrors> {
        let total = packages.iter().map(|package| package.size).sum();
        let action = "fetching packages".to_owned();
        self.report(Event::Stage { subject: subject.to_owned(), action, total, unit: Unit::Bytes });
        let places: Vec<(&LockedArchive, Vec<Candidate>)> = archives
            .iter()
            .map(|archive| (archive, self.candidates(&archive.name, &archive.uri, &times(archive))))
            .collect();
        let next = AtomicUsize::new(0);
        let done = AtomicU64::new(0);
        let results = Mutex::new(Vec::with_capacity(packages.len()));
        std::thread::scope(|scope| {
            for _ in 0..self.workers().min(packages.len()) {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(package) = packages.get(index) else { break };
                        let result = self.counted(subject, (package, present), &places, &done);
                        let fatal = matches!(result, Err(FetchError::Store(_) | FetchError::Cancelled));
                        results
                            .lock()
                            .unwrap_or_else(std::sync::PoisonError::into_inner)
                            .push((index, result));
                        if fatal {
                            // Nothing that is left could succeed.
                            next.store(packages.len(), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        self.report(Event::Finished { subject: subject.to_owned() });
        let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        results.sort_by_key(|(index, _)| *index);
        let mut paths = Vec::new();
        let mut errors = Vec::new();
        for (_, result) in results {
            match result {
                Ok(path) => paths.push(path),
                // Each worker notices a stop; it is one event for the user.
                Err(FetchError::Cancelled) if matches!(errors.last(), Some(FetchError::Cancelled)) => {}
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(paths) } else { Err(FetchErrors(errors)) }
    }

    /// Fetches one package of many and reports how far all of them are.
    fn counted(
        &self,
        subject: &str,
        (package, present): (&LockedPackage, Present),
        places: &[(&LockedArchive, Vec<Candidate>)],
        done: &AtomicU64,
    ) -> Result<PathBuf, FetchError> {
        let place = places.iter().find(|(archive, _)| archive.name == package.archive);
        let (_, candidates) = place.ok_or_else(|| FetchError::Archive {
            what: describe(package),
            archive: package.archive.clone(),
        })?;
        let counted = AtomicU64::new(0);
        let progress = |bytes: u64| {
            // What a second place sends again must not count twice.
            let before = counted.fetch_add(bytes, Ordering::Relaxed);
            let news = (before + bytes).min(package.size).saturating_sub(before);
            let done = done.fetch_add(news, Ordering::Relaxed) + news;
            let item = package.name.clone();
            self.report(Event::Progress { subject: subject.to_owned(), done, item });
        };
        let path = self.deb(package, present, candidates, &progress)?;
        progress(package.size.saturating_sub(counted.load(Ordering::Relaxed)));
        Ok(path)
    }

    fn deb(
        &self,
        package: &LockedPackage,
        present: Present,
        candidates: &[Candidate],
        on_bytes: &dyn Fn(u64),
    ) -> Result<PathBuf, FetchError> {
        if self.cancelled() {
            return Err(FetchError::Cancelled);
        }
        let path = package.path.as_str();
        let inside = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !inside || path.contains(|c: char| c.is_control() || c == '\\') {
            let path = path.escape_debug().to_string();
            return Err(FetchError::Path { what: describe(package), path });
        }
        let wanted = Wanted { kind: Kind::Deb, sha256: package.sha256, size: package.size };
        if present == Present::Taken
            && let Some(path) = self.present(&wanted)
        {
            return Ok(path);
        }
        let mut sources: Vec<Source> = candidates
            .iter()
            .map(|candidate| Source { candidate: candidate.clone(), path: package.path.clone() })
            .collect();
        let LockedPackage { name, version, architecture, .. } = package;
        let file = path.rsplit('/').next().unwrap_or(path);
        sources.extend(self.places(&package.archive, Filling { name, version, architecture, file }));
        self.fetch(&describe(package), &wanted, &sources, on_bytes).map_err(FetchError::of_version)
    }
}

/// A package and its version, for messages.
fn describe(package: &LockedPackage) -> String {
    format!("`{}` {} ({})", package.name, package.version, package.architecture)
}
