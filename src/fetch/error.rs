//! Why a file could not be fetched.

use std::fmt::Write as _;

use super::candidates::Origin;
use crate::digest::Sha256;
use crate::store::StoreError;

/// Why one place did not give a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection.
    #[error("cannot be reached: {reason}")]
    Unreachable {
        /// What the system says.
        reason: String,
    },
    /// A connection, but no answer.
    #[error("does not answer: {reason}")]
    NoAnswer {
        /// What the system says.
        reason: String,
    },
    /// The place does not have the file.
    #[error("does not have it (status {status})")]
    Absent {
        /// HTTP status, 404 or 410; 404 for a local file.
        status: u16,
    },
    /// Any other answer that is no file.
    #[error("answered with status {status}")]
    Status {
        /// HTTP status.
        status: u16,
    },
    /// The answer broke off.
    #[error("broke off after {found} of {expected} bytes: {reason}")]
    CutOff {
        /// Bytes expected in all.
        expected: u64,
        /// Bytes that came.
        found: u64,
        /// What the system says.
        reason: String,
    },
    /// More bytes came than the file has, perhaps without end.
    #[error("sent more than the {expected} bytes that are expected")]
    TooLong {
        /// Bytes expected.
        expected: u64,
    },
    /// The place announces another size.
    #[error("announces {found} bytes, expected {expected}")]
    Size {
        /// Bytes expected.
        expected: u64,
        /// Bytes announced.
        found: u64,
    },
    /// The contents are not the ones wanted.
    #[error("gave other contents: expected SHA-256 {expected}, found {found}")]
    Mismatch {
        /// The hash that the lock or the Release file names.
        expected: Sha256,
        /// The hash of what came.
        found: Sha256,
    },
    /// It answered a request for the rest of a file with another part.
    #[error("answered a request for bytes from {expected} on with bytes from {found} on")]
    Range {
        /// The first byte asked for.
        expected: u64,
        /// The first byte given.
        found: u64,
    },
    /// A URI of a kind that is not supported.
    #[error("is neither http, https nor file")]
    Scheme,
}

impl Failure {
    /// Whether the same place may do better in a moment.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::CutOff { .. } | Self::Status { status: 500..=599 | 429 })
    }
}

/// A place that was asked in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Who names the place.
    pub origin: Origin,
    /// What was asked for.
    pub uri: String,
    /// What went wrong.
    pub failure: Failure,
}

/// A file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No place gave it.
    #[error("cannot fetch {what}{}", list(.attempts))]
    Exhausted {
        /// What was wanted: a package with its version, or an index.
        what: String,
        /// Every place asked, in order, and why it did not help.
        attempts: Vec<Attempt>,
    },
    /// Every place that can be reached answers that it does not have this version.
    #[error(
        "no place has {what} any more{}\n  `build-images update` moves on to versions that are there", list(.attempts)
    )]
    Gone {
        /// The package with its version.
        what: String,
        /// Every place asked, in order.
        attempts: Vec<Attempt>,
    },
    /// A locked path leads out of its archive.
    #[error("{what} has the path `{path}`, expected one inside its archive: was the lock edited by hand?")]
    Path {
        /// The package with its version.
        what: String,
        /// The path.
        path: String,
    },
    /// A package names an archive that the lock does not have.
    #[error(
        "{what} comes from the archive `{archive}`, which the lock does not have: was it edited by hand?"
    )]
    Archive {
        /// The package with its version.
        what: String,
        /// The archive it names.
        archive: String,
    },
    /// The proxy is no URI that can be used.
    #[error("the proxy `{proxy}` is no proxy URI, expected one like `http://proxy.example:3128`")]
    Proxy {
        /// As given.
        proxy: String,
    },
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The user stopped the run.
    #[error("stopped; what was fetched so far is kept")]
    Cancelled,
}

impl FetchError {
    /// Names what was wanted, in errors that say so.
    pub(super) fn named(self, name: &str) -> Self {
        match self {
            Self::Exhausted { attempts, .. } => Self::Exhausted { what: name.to_owned(), attempts },
            other => other,
        }
    }

    /// For a file that is a version of something: that no place has it any more is an error of its own.
    pub(crate) fn of_version(self) -> Self {
        match self {
            Self::Exhausted { what, attempts } => {
                let absent = |attempt: &Attempt| matches!(attempt.failure, Failure::Absent { .. });
                let silent = |attempt: &Attempt| {
                    matches!(attempt.failure, Failure::Unreachable { .. } | Failure::NoAnswer { .. })
                };
                if attempts.iter().any(absent) && attempts.iter().all(|one| absent(one) || silent(one)) {
                    Self::Gone { what, attempts }
                } else {
                    Self::Exhausted { what, attempts }
                }
            }
            other => other,
        }
    }

    /// Why each place did not help, when that is what went wrong.
    pub fn attempts(&self) -> &[Attempt] {
        match self {
            Self::Exhausted { attempts, .. } | Self::Gone { attempts, .. } => attempts,
            _ => &[],
        }
    }
}

/// One line for each place.
fn list(attempts: &[Attempt]) -> String {
    if attempts.is_empty() {
        return ": there is no place to ask".to_owned();
    }
    attempts.iter().fold(":".to_owned(), |mut text, Attempt { origin, uri, failure }| {
        // Writing to a string cannot fail.
        _ = write!(text, "\n  {uri} ({origin}) {failure}");
        text
    })
}

/// Several packages could not be fetched; sorted as they were asked for.
#[derive(Debug)]
pub struct FetchErrors(pub Vec<FetchError>);

impl std::error::Error for FetchErrors {}

impl std::fmt::Display for FetchErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        /// More than a screen of addresses helps nobody.
        const SHOWN: usize = 3;
        for (position, error) in self.0.iter().take(SHOWN).enumerate() {
            let separator = if position == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more packages cannot be fetched"),
        }
    }
}
