//! Brings an archive's signed indices: from a pinned key to Packages files whose every byte is vouched for.
//!
//! For each suite: InRelease, its signature, whether it is the suite asked for and not a stale one, then the index of
//! each component, by its hash. A place that fails any of these is passed over for the next one.

mod error;
mod index;

use std::cell::Cell;

use jiff::Timestamp;
use serde::Serialize;

use super::debs::times;
use super::lockfile::{LockedArchive, LockedSuite};
use super::openpgp::{Keyring, MESSAGE_LIMIT, Verified};
use super::release::Release;
use crate::digest::Sha256;
use crate::fetch::{Candidate, FetchError, Fetcher, Wanted};
use crate::model::recipe::Archive;
use crate::progress::{Event, Over, Unit};
use crate::store::{Context as _, Kind};

pub use error::{SuiteAttempt, SuiteError, SyncError};

/// The architecture of every image.
pub const ARCHITECTURE: &str = "amd64";

/// An archive, checked from key to index.
#[derive(Debug, Clone)]
pub struct SyncedArchive {
    /// What the lock says of it.
    pub locked: LockedArchive,
    /// Its indices, by suite and component in the recipe's order.
    pub indices: Vec<SyncedIndex>,
}

/// One Packages file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncedIndex {
    /// The suite, as the recipe names it.
    pub suite: String,
    /// The component.
    pub component: String,
    /// Whose index it is: `amd64`, or `all` in archives that keep those packages apart.
    pub architecture: String,
    /// The file, as the signed Release describes it.
    pub text: String,
}

/// How a suite's InRelease is chosen.
#[derive(Clone, Copy)]
enum Wish<'a> {
    /// The newest there is, but none older than this one.
    Newest(Option<&'a LockedSuite>),
    /// Exactly this one.
    Exactly(&'a LockedSuite),
}

/// The digest of what a recipe says of an archive: URI, suites, components, fingerprints. The lock holds it to notice
/// that a recipe changed.
pub fn definition(archive: &Archive) -> Sha256 {
    #[derive(Serialize)]
    struct Definition<'a> {
        uri: &'a str,
        suites: &'a [String],
        components: &'a [String],
        fingerprints: Vec<&'a String>,
    }
    let mut fingerprints: Vec<_> = archive.fingerprints.iter().collect();
    fingerprints.sort();
    let Archive { uri, suites, components, .. } = archive;
    let text = serde_json::json!(Definition { uri, suites, components, fingerprints });
    Sha256::of(text.to_string())
}

/// The newest state of `archive` that a mirror offers, not older than `previous`.
///
/// # Errors
/// When a suite has no place that gives it with a good signature at `now`, fresh, whole and as asked for.
pub fn sync_archive(
    archive: &Archive,
    previous: Option<&LockedArchive>,
    fetcher: &Fetcher<'_>,
    now: Timestamp,
) -> Result<SyncedArchive, SyncError> {
    let candidates = fetcher.candidates(&archive.name, &archive.uri, &[now]);
    let before = |suite: &String| previous?.suite.iter().find(|locked| locked.name == *suite);
    let wishes = archive.suites.iter().map(|suite| (suite.as_str(), Wish::Newest(before(suite))));
    all_suites(archive, wishes, &candidates, fetcher, now)
}

/// The state of `archive` that `locked` pins, for resolving more packages without moving any pin.
///
/// # Errors
/// As [`sync_archive`]; also when the recipe's suites are not those of the lock, or no place has that state any more.
pub fn load_archive(
    archive: &Archive,
    locked: &LockedArchive,
    fetcher: &Fetcher<'_>,
    now: Timestamp,
) -> Result<SyncedArchive, SyncError> {
    let candidates = fetcher.candidates(&archive.name, &archive.uri, &times(locked));
    let mut wishes = Vec::new();
    for suite in &archive.suites {
        let pinned = locked.suite.iter().find(|pinned| pinned.name == *suite);
        let pinned = pinned
            .ok_or_else(|| SyncError::NotLocked { archive: archive.name.clone(), suite: suite.clone() })?;
        wishes.push((suite.as_str(), Wish::Exactly(pinned)));
    }
    all_suites(archive, wishes.into_iter(), &candidates, fetcher, now)
}

fn all_suites<'a>(
    archive: &Archive,
    wishes: impl Iterator<Item = (&'a str, Wish<'a>)>,
    candidates: &[Candidate],
    fetcher: &Fetcher<'_>,
    now: Timestamp,
) -> Result<SyncedArchive, SyncError> {
    let keyring = Keyring::new(&archive.keys, &archive.fingerprints)
        .map_err(|source| SyncError::Keys { archive: archive.name.clone(), source })?;
    let mut suites = Vec::new();
    let mut indices = Vec::new();
    let (subject, action) = (archive.name.clone(), "fetching indices".to_owned());
    fetcher.report(Event::Stage { subject: subject.clone(), action, total: 0, unit: Unit::Bytes });
    let _over = Over { reporter: fetcher.reporter(), subject: &subject };
    let bytes = Cell::new(0);
    for (suite, wish) in wishes {
        let work = Work { archive, keyring: &keyring, fetcher, suite, wish, now, bytes: &bytes };
        let (locked, mut found) = work.suite_from_first(candidates)?;
        suites.push(locked);
        indices.append(&mut found);
    }
    let locked = LockedArchive {
        name: archive.name.clone(),
        uri: archive.uri.clone(),
        definition: definition(archive),
        suite: suites,
    };
    Ok(SyncedArchive { locked, indices })
}

/// One suite that is to be brought.
struct Work<'a> {
    archive: &'a Archive,
    keyring: &'a Keyring,
    fetcher: &'a Fetcher<'a>,
    suite: &'a str,
    wish: Wish<'a>,
    now: Timestamp,
    /// Bytes of indices that arrived so far, for all suites of the archive.
    bytes: &'a Cell<u64>,
}

impl Work<'_> {
    /// The suite from the first place that gives it whole and right.
    fn suite_from_first(
        &self,
        candidates: &[Candidate],
    ) -> Result<(LockedSuite, Vec<SyncedIndex>), SyncError> {
        let mut attempts: Vec<SuiteAttempt> = Vec::new();
        for (position, candidate) in candidates.iter().enumerate() {
            // What is known by its hash may come from anywhere; this place first.
            let mut places = vec![candidate.clone()];
            places.extend(
                candidates.iter().enumerate().filter(|(i, _)| *i != position).map(|(_, c)| c.clone()),
            );
            match self.suite_from(candidate, &places) {
                Ok(found) => {
                    for attempt in &attempts {
                        let SuiteAttempt { uri, origin, error } = attempt;
                        if error.is_suspicious() {
                            let Self { archive, suite, .. } = self;
                            self.fetcher.warn(format!(
                                "passed over {uri} ({origin}) for `{suite}` of `{}`: {error}",
                                archive.name
                            ));
                        }
                    }
                    return Ok(found);
                }
                Err(SuiteError::Fetch(error @ (FetchError::Cancelled | FetchError::Store(_)))) => {
                    return Err(SyncError::Fetch(error));
                }
                Err(error) => {
                    let Candidate { origin, uri } = candidate.clone();
                    attempts.push(SuiteAttempt { origin, uri, error });
                }
            }
        }
        let (archive, suite) = (self.archive.name.clone(), self.suite.to_owned());
        Err(SyncError::Suite { archive, suite, attempts })
    }

    fn suite_from(
        &self,
        candidate: &Candidate,
        places: &[Candidate],
    ) -> Result<(LockedSuite, Vec<SyncedIndex>), SuiteError> {
        let bytes = self.in_release(candidate)?;
        let Verified { text, signed_by } = self.keyring.verify(&bytes, self.now)?;
        let release = Release::parse(&text)?;
        self.check_identity(&release)?;
        self.check_freshness(&release)?;
        let sha256 = self.keep(&bytes)?;
        let indices = self.indices(&release, places)?;
        let locked = LockedSuite {
            name: self.suite.to_owned(),
            date: release.date.to_string(),
            valid_until: release.valid_until.map(|until| until.to_string()),
            inrelease: sha256,
            signed_by,
        };
        Ok((locked, indices))
    }

    /// InRelease from `candidate`, or from the store when its hash is known.
    fn in_release(&self, candidate: &Candidate) -> Result<Vec<u8>, SuiteError> {
        let path = format!("dists/{}/InRelease", self.suite);
        let Wish::Exactly(pinned) = self.wish else {
            return Ok(self.fetcher.fetch_unchecked(candidate, &path, MESSAGE_LIMIT as u64)?);
        };
        if let Some(bytes) = self.kept(pinned.inrelease)? {
            return Ok(bytes);
        }
        let bytes = self.fetcher.fetch_unchecked(candidate, &path, MESSAGE_LIMIT as u64)?;
        let found = Sha256::of(&bytes);
        if found != pinned.inrelease {
            return Err(SuiteError::OtherRelease { expected: pinned.inrelease, found });
        }
        Ok(bytes)
    }

    /// That the file is of the suite that was asked for and has what was asked for.
    fn check_identity(&self, release: &Release) -> Result<(), SuiteError> {
        if !release.is_suite(self.suite) {
            return Err(SuiteError::OtherSuite {
                expected: self.suite.to_owned(),
                suite: release.suite.clone().unwrap_or_default(),
                codename: release.codename.clone().unwrap_or_default(),
            });
        }
        if !release.has_architecture(ARCHITECTURE) {
            let found = release.architectures.clone();
            return Err(SuiteError::NoArchitecture { expected: ARCHITECTURE.to_owned(), found });
        }
        if let Some(missing) = self.archive.components.iter().find(|name| !release.has_component(name)) {
            let found = release.components.clone();
            return Err(SuiteError::NoComponent { expected: missing.clone(), found });
        }
        Ok(())
    }

    /// That nobody holds back newer packages: the file is neither past its end nor older than the one locked.
    fn check_freshness(&self, release: &Release) -> Result<(), SuiteError> {
        let now = self.now;
        // A pinned state is old on purpose, and its hash vouches for it.
        let Wish::Newest(previous) = self.wish else { return Ok(()) };
        if let Some(valid_until) = release.valid_until.filter(|until| *until <= now) {
            return Err(SuiteError::Stale { valid_until, now });
        }
        if release.date > now {
            return Err(SuiteError::FutureDate { date: release.date, now });
        }
        let Some(previous) = previous else { return Ok(()) };
        let locked: Timestamp =
            previous.date.parse().map_err(|_| SuiteError::LockedDate { found: previous.date.clone() })?;
        if release.date < locked {
            return Err(SuiteError::Rollback { locked, found: release.date });
        }
        Ok(())
    }

    /// Puts a verified InRelease into the store.
    fn keep(&self, bytes: &[u8]) -> Result<Sha256, SuiteError> {
        use std::io::Write as _;
        let store = self.fetcher.store();
        let sha256 = Sha256::of(bytes);
        if self.kept(sha256)?.is_none() {
            let mut pending = store.create().map_err(FetchError::from)?;
            pending.write_all(bytes).context("write", store.root()).map_err(FetchError::from)?;
            store.commit(pending, Kind::Index, sha256).map_err(FetchError::from)?;
        }
        Ok(sha256)
    }

    fn kept(&self, sha256: Sha256) -> Result<Option<Vec<u8>>, SuiteError> {
        let path = self.fetcher.store().path(Kind::Index, sha256);
        let Ok(size) = std::fs::metadata(&path).map(|metadata| metadata.len()) else { return Ok(None) };
        let wanted = Wanted { kind: Kind::Index, sha256, size };
        let path = self.fetcher.stored(&wanted).map_err(FetchError::from)?;
        let bytes = path.and_then(|path| std::fs::read(path).ok());
        Ok(bytes.filter(|bytes| Sha256::of(bytes) == sha256))
    }
}
