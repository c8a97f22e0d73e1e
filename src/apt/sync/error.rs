//! Why an archive could not be brought up to date.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::apt::locking::ControlFileError;
use crate::apt::openpgp::{KeyringError, VerifyError};
use crate::apt::release::ReleaseError;
use crate::apt::universe::UniverseError;
use crate::digest::Sha256;
use crate::fetch::{FetchError, Origin};

/// An archive has no state that can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The recipe's keys cannot be used.
    #[error("the keys of archive `{archive}` cannot be used: {source}")]
    Keys {
        /// The archive.
        archive: String,
        /// Why.
        source: KeyringError,
    },
    /// No place gives the suite whole and right.
    #[error("cannot get suite `{suite}` of archive `{archive}`{}", list(.attempts))]
    Suite {
        /// The archive.
        archive: String,
        /// The suite.
        suite: String,
        /// Every place asked, in order, and what was wrong.
        attempts: Vec<SuiteAttempt>,
    },
    /// The recipe asks for a suite that the lock does not have.
    #[error(
        "suite `{suite}` of archive `{archive}` is not in the lock: `build-images update {archive}` adds it"
    )]
    NotLocked {
        /// The archive.
        archive: String,
        /// The suite.
        suite: String,
    },
    /// The archive no longer lists a locked package, and nobody has its .deb to read what it needs.
    #[error("archive `{archive}` no longer lists what is locked from it: {source}")]
    Control {
        /// The archive.
        archive: String,
        /// Why the .deb cannot be read.
        source: Box<ControlFileError>,
    },
    /// A package index is signed, but not as Debian's policy has it.
    #[error("its package index cannot be used")]
    Index {
        /// The archive.
        archive: String,
        /// What is wrong.
        source: Box<UniverseError>,
    },
    /// The store failed, or the user stopped the run.
    #[error(transparent)]
    Fetch(FetchError),
}

/// A place that did not give a suite.
#[derive(Debug)]
pub struct SuiteAttempt {
    /// Who names the place.
    pub origin: Origin,
    /// Its base URI.
    pub uri: String,
    /// What was wrong.
    pub error: SuiteError,
}

/// What is wrong with a suite as one place gives it.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// A file could not be fetched.
    #[error("{0}")]
    Fetch(#[from] FetchError),
    /// InRelease is not signed as it has to be.
    #[error("InRelease is refused: {0}")]
    Signature(#[from] VerifyError),
    /// InRelease is signed but cannot be read.
    #[error("{0}")]
    Release(#[from] ReleaseError),
    /// It is the Release file of another suite.
    #[error("it is another suite: expected `{expected}`, found suite `{suite}` with code name `{codename}`")]
    OtherSuite {
        /// The suite asked for.
        expected: String,
        /// `Suite` found.
        suite: String,
        /// `Codename` found.
        codename: String,
    },
    /// Nothing that is signed says which suite it is: another one of the same maker could stand in its place.
    #[error(
        "its signed Release file has neither `Suite` nor `Codename`, so nothing says that it is `{expected}`; \
         whoever runs the archive has to add one"
    )]
    Nameless {
        /// The suite asked for.
        expected: String,
    },
    /// It is made for another release than the image's base.
    #[error(
        "it is for another release: its signed Release file has `{field}: {found}`, the base is `{expected}`"
    )]
    OtherBase {
        /// The base's release.
        expected: String,
        /// The field that says so.
        field: &'static str,
        /// What it says.
        found: String,
    },
    /// It has no packages for the architecture.
    #[error("it has no architecture `{expected}`, only {}", .found.join(", "))]
    NoArchitecture {
        /// The architecture asked for.
        expected: String,
        /// What there is.
        found: Vec<String>,
    },
    /// It does not have a component that the recipe names.
    #[error("it has no component `{expected}`, only {}", .found.join(", "))]
    NoComponent {
        /// The component asked for.
        expected: String,
        /// What there is.
        found: Vec<String>,
    },
    /// It is past its `Valid-Until`: somebody may hold back updates.
    #[error("it was valid until {valid_until}, now is {now}: the mirror is behind, or holds updates back")]
    Stale {
        /// Its end.
        valid_until: Timestamp,
        /// The time of verification.
        now: Timestamp,
    },
    /// It is dated in the future.
    #[error("it is dated {date}, after now ({now}): is the clock right?")]
    FutureDate {
        /// Its date.
        date: Timestamp,
        /// The time of verification.
        now: Timestamp,
    },
    /// It is older than what is locked: somebody may play an old state back.
    #[error(
        "it is dated {found}, older than the locked one of {locked}: the mirror is behind, or plays back an old state"
    )]
    Rollback {
        /// The date of the locked one.
        locked: Timestamp,
        /// Its date.
        found: Timestamp,
    },
    /// The lock's own date is no date.
    #[error(
        "the lock dates it `{found}`, expected a date like `2026-09-12T07:55:41Z`: was it edited by hand?"
    )]
    LockedDate {
        /// What the lock says.
        found: String,
    },
    /// It is not the InRelease that the lock pins.
    #[error("it has moved on: expected InRelease with SHA-256 {expected}, found {found}")]
    OtherRelease {
        /// The locked hash.
        expected: Sha256,
        /// The hash found.
        found: Sha256,
    },
    /// The Release file does not describe an index that is needed.
    #[error("the Release file does not list `{path}`")]
    NotListed {
        /// The index, below the suite's directory.
        path: String,
    },
    /// An index is larger than any real one.
    #[error("the Release file gives `{path}` {found} bytes, the limit is {limit}")]
    IndexSize {
        /// The index.
        path: String,
        /// The most that is read.
        limit: u64,
        /// Its size, as listed.
        found: u64,
    },
    /// An index unpacks to more than the Release file says: a bomb.
    #[error("`{path}` unpacks to more than the {expected} bytes that the Release file names")]
    Bomb {
        /// The index.
        path: String,
        /// The size listed.
        expected: u64,
    },
    /// An index of which only the compressed form is listed unpacks to more than any real one.
    #[error(
        "`{path}` unpacks to more than {limit} bytes, and the Release file does not list it uncompressed"
    )]
    Unlisted {
        /// The index.
        path: String,
        /// The most that it may unpack to.
        limit: u64,
    },
    /// An index cannot be decompressed.
    #[error("`{path}` cannot be decompressed: {reason}")]
    Compression {
        /// The index.
        path: String,
        /// What the decompressor says.
        reason: String,
    },
    /// An index does not unpack to what the Release file describes.
    #[error(
        "`{path}` unpacks to other contents: expected {expected_size} bytes with SHA-256 {expected}, found {found_size} \
         bytes with {found}"
    )]
    Unpacked {
        /// The index, uncompressed.
        path: String,
        /// The hash listed.
        expected: Sha256,
        /// The size listed.
        expected_size: u64,
        /// The hash found.
        found: Sha256,
        /// The size found.
        found_size: u64,
    },
    /// An index is not UTF-8.
    #[error("`{path}` is not UTF-8 at byte {offset}")]
    NotText {
        /// The index.
        path: String,
        /// Where.
        offset: usize,
    },
    /// An index describes packages of another architecture.
    #[error("`{path}` has a package for `{found}`, expected `{expected}` or `all`")]
    OtherArchitecture {
        /// The index.
        path: String,
        /// The architecture asked for.
        expected: String,
        /// The architecture found.
        found: String,
    },
}

impl SuiteError {
    /// Whether a user should hear of it even though another place helped: contents that should not be there.
    pub(super) fn is_suspicious(&self) -> bool {
        use crate::fetch::Failure;
        match self {
            Self::Fetch(error) => {
                let wrong = |failure: &Failure| {
                    matches!(
                        failure,
                        Failure::Mismatch { .. } | Failure::TooLong { .. } | Failure::Size { .. }
                    )
                };
                error.attempts().iter().any(|attempt| wrong(&attempt.failure))
            }
            Self::OtherRelease { .. } | Self::Rollback { .. } => false,
            _ => true,
        }
    }
}

fn list(attempts: &[SuiteAttempt]) -> String {
    if attempts.is_empty() {
        return ": there is no place to ask".to_owned();
    }
    attempts.iter().fold(":".to_owned(), |mut text, SuiteAttempt { origin, uri, error }| {
        // Writing to a string cannot fail.
        let error = error.to_string().replace('\n', "\n  ");
        _ = write!(text, "\n  {uri} ({origin}): {error}");
        text
    })
}
