//! What could not be had while locking, in few words.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{ControlFileError, LockingError};
use crate::apt::sync::{SuiteAttempt, SuiteError, SyncError};
use crate::fetch::FetchError;

/// An archive or a tarball that could not be had, or packages that do not fit.
#[derive(Debug)]
pub struct Missing {
    /// Its name; the recipes, when no packages fit for them.
    pub name: String,
    /// Whether the lock has it, in an older state.
    pub locked: bool,
    /// Images that cannot be built without it; none when only newer versions are missing.
    pub images: BTreeSet<String>,
    /// What it is, and why it could not be had.
    pub lacking: Lacking,
}

/// What could not be had, and why.
#[derive(Debug)]
pub enum Lacking {
    /// An archive.
    Archive(SyncError),
    /// The newest state of an archive, whose pins stay as they are.
    Newer(SyncError),
    /// A tarball.
    Tarball(FetchError),
    /// Packages that fit together, for a list of recipes.
    Fit(Box<LockingError>),
}

/// One place that was asked in vain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// What was asked.
    pub uri: String,
    /// Who names it.
    pub origin: String,
    /// Why that did not help, in one line.
    pub reason: String,
}

impl Missing {
    /// Every place that was asked, in order.
    pub fn tried(&self) -> Vec<Tried> {
        match &self.lacking {
            Lacking::Archive(SyncError::Suite { attempts, .. })
            | Lacking::Newer(SyncError::Suite { attempts, .. }) => attempts.iter().map(suite).collect(),
            Lacking::Archive(SyncError::Control { source, .. })
            | Lacking::Newer(SyncError::Control { source, .. }) => match source.as_ref() {
                ControlFileError::Fetch(error) => fetched(error),
                ControlFileError::Deb { .. } => Vec::new(),
            },
            Lacking::Archive(_) | Lacking::Newer(_) | Lacking::Fit(_) => Vec::new(),
            Lacking::Tarball(error) => fetched(error),
        }
    }

    /// The whole error, with every detail.
    pub fn error(&self) -> &(dyn std::error::Error + 'static) {
        match &self.lacking {
            Lacking::Archive(error) | Lacking::Newer(error) => error,
            Lacking::Tarball(error) => error,
            Lacking::Fit(error) => error.as_ref(),
        }
    }
}

fn suite(attempt: &SuiteAttempt) -> Tried {
    let SuiteAttempt { origin, uri, error } = attempt;
    let reason = match error {
        SuiteError::Fetch(error) => {
            // All attempts were made at this place; the last one says why it was given up.
            let last = error.attempts().last().map(|attempt| attempt.failure.to_string());
            last.unwrap_or_else(|| error.to_string())
        }
        error => error.to_string(),
    };
    Tried { uri: uri.clone(), origin: origin.to_string(), reason: one_line(&reason) }
}

fn fetched(error: &FetchError) -> Vec<Tried> {
    let attempts = error.attempts().iter();
    attempts
        .map(|attempt| Tried {
            uri: attempt.uri.clone(),
            origin: attempt.origin.to_string(),
            reason: one_line(&attempt.failure.to_string()),
        })
        .collect()
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
