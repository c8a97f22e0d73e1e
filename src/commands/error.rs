//! Why a command failed, and which exit code says so.

use crate::apt::lockfile::LockFileError;
use crate::deploy::{Finding, RunError};
use crate::model::diagnostics::Diagnostics;
use crate::plan::PlanError;
use crate::store::StoreError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The project is wrong; every problem with its place.
    #[error("the project has errors")]
    Project(Diagnostics),
    /// An image was named that there is not.
    #[error("no image is named {}; there are: {}", quoted(.unknown), known.join(", "))]
    UnknownImage {
        /// What was named.
        unknown: Vec<String>,
        /// What there is.
        known: Vec<String>,
    },
    /// The lock cannot be used.
    #[error("`{path}`: {source}")]
    LockFile {
        /// The lock's path.
        path: String,
        /// What is wrong with it.
        source: LockFileError,
    },
    /// There is no lock and the command does not make one.
    #[error("there is no lock yet; run `build-images lock`")]
    NoLock,
    /// The lock does not match the recipes.
    #[error("{0}; run `build-images lock`")]
    Plan(#[from] PlanError),
    /// An archive or a tarball cannot be had, and what can be done; the rest is as it should be.
    #[error("{0}")]
    Missing(String),
    /// A file of the store or a result.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A result.
    #[error(transparent)]
    Result(#[from] crate::artifact::ResultError),
    /// An artifact's manifest.
    #[error(transparent)]
    Manifest(#[from] crate::artifact::ManifestError),
    /// What stands in the way of a deployment; nothing was changed.
    #[error("{} in the way of the deployment; nothing was changed", counted(.0.len()))]
    Preflight(Vec<Finding>),
    /// A deployment.
    #[error(transparent)]
    Deploy(#[from] RunError),
    /// The user interrupted.
    #[error("interrupted; the next run goes on from here")]
    Interrupted,
    /// Words on the command line that do not fit.
    #[error("{0}")]
    Usage(String),
    /// Any other failure, with the chain of what was being done.
    #[error("{0}")]
    Failed(String),
}

impl CommandError {
    /// A failure of what `doing` names ("while locking"), with the causes that `error` has.
    pub fn failed(doing: &str, error: &dyn std::error::Error) -> Self {
        let mut text = format!("{doing}: {error}");
        let mut cause = error.source();
        while let Some(next) = cause {
            let part = next.to_string();
            // Messages of wrapped errors often repeat their cause already.
            if !text.contains(&part) {
                text.push_str(": ");
                text.push_str(&part);
            }
            cause = next.source();
        }
        Self::Failed(text)
    }

    /// 2 for bad usage or configuration, 130 for an interrupt, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Project(_) | Self::UnknownImage { .. } | Self::LockFile { .. } | Self::NoLock => 2,
            Self::Plan(_) | Self::Usage(_) => 2,
            Self::Interrupted => 130,
            Self::Store(_) | Self::Result(_) | Self::Manifest(_) | Self::Failed(_) | Self::Missing(_) => 1,
            Self::Preflight(_) | Self::Deploy(_) => 1,
        }
    }
}

impl From<Diagnostics> for CommandError {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::Project(diagnostics)
    }
}

fn counted(findings: usize) -> String {
    if findings == 1 { "1 thing stands".to_owned() } else { format!("{findings} things stand") }
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}
