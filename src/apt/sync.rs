//! Brings an archive's signed indices: from a pinned key to Packages files whose every byte is vouched for.
//!
//! For each suite: InRelease, its signature, whether it is the suite asked for and not a stale one, then the index of
//! each component, by its hash. A place that fails any of these is passed over for the next one.

mod error;
mod index;

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::debs::times;
use super::lockfile::{LockedArchive, LockedSuite};
use super::openpgp::{Keyring, MESSAGE_LIMIT, Verified};
use super::release::Release;
use crate::digest::Sha256;
use crate::fetch::{Candidate, FetchError, Fetcher, Origin, Wanted};
use crate::model::recipe::{Archive, Keys};
use crate::model::words::release_of;
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
    /// The files that this was read from, by their paths below the archive; each is in the store under its hash.
    pub files: Vec<(String, Sha256)>,
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
    /// The file, as the signed Release describes it: tens of megabytes, shared by all who hold it.
    pub text: Arc<String>,
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
    let mut candidates = fetcher.candidates(&archive.name, &archive.uri, &[now]);
    if archive.resigned.is_some() {
        // Elsewhere it is signed with keys that the site has put out of use.
        candidates.retain(|candidate| matches!(candidate.origin, Origin::Given | Origin::Site));
    }
    let keyring = keyring(archive, archive.resigned.as_ref().map_or(Trust::Recipe, Trust::Site))?;
    let before = |suite: &String| previous?.suite.iter().find(|locked| locked.name == *suite);
    let wishes = archive.suites.iter().map(|suite| (suite.as_str(), Wish::Newest(before(suite))));
    all_suites(archive, &keyring, wishes, &candidates, fetcher, now)
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
    // The lock's hash says which state it is; it may have been locked before the site had keys of its own, or with them.
    let keyring = keyring(archive, archive.resigned.as_ref().map_or(Trust::Recipe, Trust::Either))?;
    all_suites(archive, &keyring, wishes.into_iter(), &candidates, fetcher, now)
}

/// Whose keys may have signed an archive.
enum Trust<'a> {
    /// The recipe's.
    Recipe,
    /// The site's alone.
    Site(&'a Keys),
    /// The recipe's and the site's.
    Either(&'a Keys),
}

fn keyring(archive: &Archive, trust: Trust<'_>) -> Result<Keyring, SyncError> {
    let all = |recipe: &[_], site: &[_]| [recipe, site].concat();
    let made = match trust {
        Trust::Recipe => Keyring::new(&archive.keys, &archive.fingerprints),
        Trust::Site(keys) => Keyring::new(&keys.certificates, &keys.fingerprints),
        Trust::Either(keys) => {
            // One key may stand on both sides.
            let mut fingerprints = archive.fingerprints.clone();
            fingerprints
                .extend(keys.fingerprints.iter().filter(|f| !archive.fingerprints.contains(f)).cloned());
            let more = keys.certificates.iter().filter(|key| !archive.keys.contains(key)).cloned();
            Keyring::new(&all(&archive.keys, &more.collect::<Vec<_>>()), &fingerprints)
        }
    };
    made.map_err(|source| SyncError::Keys { archive: archive.name.clone(), source })
}

fn all_suites<'a>(
    archive: &Archive,
    keyring: &Keyring,
    wishes: impl Iterator<Item = (&'a str, Wish<'a>)>,
    candidates: &[Candidate],
    fetcher: &Fetcher<'_>,
    now: Timestamp,
) -> Result<SyncedArchive, SyncError> {
    let mut suites = Vec::new();
    let mut indices = Vec::new();
    let (subject, action) = (archive.name.clone(), "fetching indices".to_owned());
    fetcher.report(Event::Stage { subject: subject.clone(), action, total: 0, unit: Unit::Bytes });
    let _over = Over { reporter: fetcher.reporter(), subject: &subject };
    let bytes = Cell::new(0);
    let files = RefCell::new(Vec::new());
    for (suite, wish) in wishes {
        let work = Work { archive, keyring, fetcher, suite, wish, now, bytes: &bytes, files: &files };
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
    Ok(SyncedArchive { locked, indices, files: files.into_inner() })
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
    /// Files that are in use so far, for all suites of the archive.
    files: &'a RefCell<Vec<(String, Sha256)>>,
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
        let before = self.files.borrow().len();
        self.files.borrow_mut().push((format!("dists/{}/InRelease", self.suite), sha256));
        let indices =
            self.indices(&release, places).inspect_err(|_| self.files.borrow_mut().truncate(before))?;
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
        let (suite, codename) = (release.suite.clone(), release.codename.clone());
        if suite.is_none() && codename.is_none() {
            return Err(SuiteError::Nameless { expected: self.suite.to_owned() });
        }
        if !release.is_suite(self.suite) {
            return Err(SuiteError::OtherSuite {
                expected: self.suite.to_owned(),
                suite: suite.unwrap_or_default(),
                codename: codename.unwrap_or_default(),
            });
        }
        let named = [("Codename", &codename), ("Suite", &suite)].into_iter();
        let named = named.filter_map(|(field, value)| Some((field, value.as_deref()?)));
        for (field, value) in named {
            let Some(found) = release_of(value) else { continue };
            if let Some(expected) = self.archive.releases.iter().find(|release| *release != found) {
                return Err(SuiteError::OtherBase {
                    expected: expected.clone(),
                    field,
                    found: value.to_owned(),
                });
            }
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
