//! Why a stage fails. Everything here crosses from the worker process to the build as JSON.

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;

/// What went wrong inside the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// A .deb is damaged or has something no package may have.
    #[error("package `{package}`: {reason}")]
    BadPackage {
        /// Its name.
        package: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A .deb is not the one that the lock names.
    #[error(
        "package `{package}`: expected {field} `{expected}`, found `{found}`; the lock was edited by hand, or the \
         stored file was changed: remove that and build again"
    )]
    Mismatch {
        /// The package that was expected.
        package: String,
        /// What differs.
        field: String,
        /// What the lock says.
        expected: String,
        /// What the .deb says.
        found: String,
    },
    /// The layer below is not as it was written.
    #[error("the layer below is damaged: the content {content} of `{path}` is another one now")]
    DamagedLayer {
        /// A file with the content.
        path: String,
        /// The content.
        content: Sha256,
    },
    /// Two packages ship one path, and neither replaces the other.
    #[error(
        "package `{package}` cannot write `{path}`: it belongs to package `{other}`, and neither `Replaces` the other"
    )]
    FileConflict {
        /// The path, as the second package spells it.
        path: String,
        /// The package unpacked second.
        package: String,
        /// The package that has it.
        other: String,
    },
    /// A path cannot be placed because something of another type is there.
    #[error("package `{package}` cannot write `{path}`: {reason}")]
    Placing {
        /// The package.
        package: String,
        /// The path.
        path: String,
        /// Why not.
        reason: String,
    },
    /// Every path of a package was taken over by others.
    #[error("package `{package}` has no path left: others replace them all; leave it out")]
    Disappeared {
        /// The package.
        package: String,
    },
    /// The layer below has another version of the package.
    #[error(
        "package `{package}` {version} is already in the layer below, as {installed}; a stage only adds packages"
    )]
    AlreadyInstalled {
        /// The package.
        package: String,
        /// The version to install.
        version: String,
        /// The version that is there.
        installed: String,
    },
    /// A maintainer script failed or did not end.
    #[error("package `{package}`: its `{script}` script {outcome}{}", last_lines(.tail))]
    Script {
        /// The package.
        package: String,
        /// Which script.
        script: String,
        /// How it ended, as a verb phrase: `returned exit status 1`.
        outcome: String,
        /// Its last lines.
        tail: Vec<String>,
    },
    /// dpkg itself failed.
    #[error("`{command}` in the image {outcome}{}", last_lines(.tail))]
    Dpkg {
        /// The command.
        command: String,
        /// How it ended, as a verb phrase.
        outcome: String,
        /// Its last lines.
        tail: Vec<String>,
    },
    /// Pinned users or groups do not hold.
    #[error("pinned users and groups do not hold{}: {reason}", by_package(.package))]
    Pins {
        /// After whose scripts that was first seen, when it could be told. dpkg may have gone on by then.
        package: Option<String>,
        /// What was found.
        reason: String,
    },
    /// The dpkg database of the layer below cannot be used, or a control file is wrong.
    #[error("the dpkg database in the image: {reason}")]
    Database {
        /// What is wrong.
        reason: String,
    },
    /// The tree that the scripts left cannot be put into an image.
    #[error("`{path}` in the image: {reason}")]
    Tree {
        /// Where.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A file of the root cannot be handled.
    #[error("cannot {action} `{path}` in the image: {reason}")]
    File {
        /// What was tried, as a verb.
        action: String,
        /// Where.
        path: String,
        /// Why not.
        reason: String,
    },
    /// The sandbox cannot be set up.
    #[error("the sandbox: {reason}")]
    Sandbox {
        /// Why.
        reason: String,
    },
    /// The worker cannot talk to the build.
    #[error("the stage's worker: {reason}")]
    Worker {
        /// Why.
        reason: String,
    },
}

fn last_lines(tail: &[String]) -> String {
    match tail {
        [] => String::new(),
        lines => format!("; its last lines:\n  {}", lines.join("\n  ")),
    }
}

fn by_package(package: &Option<String>) -> String {
    let since = |name: &String| format!(" since package `{name}`, or one configured after it");
    package.as_ref().map(since).unwrap_or_default()
}

impl Failure {
    /// An I/O failure at `path` of the root; `action` is a verb that fits "cannot … `path`".
    pub(super) fn file(action: &str, path: &[u8], source: impl std::fmt::Display) -> Self {
        let path = String::from_utf8_lossy(path);
        let path = format!("/{}", path.trim_start_matches('/'));
        Self::File { action: action.to_owned(), path, reason: source.to_string() }
    }
}
