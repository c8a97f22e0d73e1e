//! What can be wrong with a configuration.

use std::fmt;

use super::check::Release;

/// One thing wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line of the text, counted from 1; nothing when the configuration did not come from a text.
    pub line: Option<usize>,
    /// The key, such as `net0` or `lxc.idmap`; empty when the line has none.
    pub key: String,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        fmt::Display::fmt(&self.fault, f)
    }
}

impl std::error::Error for Problem {}

/// What is wrong with a key, a value or a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The text has no value of the right type or format.
    #[error("expected {expected}, found `{found}`")]
    Value {
        /// What Proxmox takes here.
        expected: String,
        /// What stands there, cut to 80 characters.
        found: String,
    },
    /// The key is not in Proxmox's schema.
    #[error("Proxmox has no such key")]
    UnknownKey,
    /// A key or sub-key stands there twice.
    #[error("it is given twice; keep one")]
    Duplicate,
    /// A required key or sub-key is absent.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// Something is wrong inside a value made of `key=value` parts.
    #[error("in `{sub_key}`: {fault}")]
    Within {
        /// The part.
        sub_key: String,
        /// What is wrong with it.
        fault: Box<Fault>,
    },
    /// The line is neither a comment nor `key: value`.
    #[error("expected `key: value`, found `{0}`")]
    NotALine(String),
    /// Snapshots and pending changes have no place in an image.
    #[error("an image's configuration has no section; remove `{0}` and what follows")]
    Section(String),
    /// Proxmox would take the key, but it must not be in an image.
    #[error("an image must not carry it: {0}")]
    Forbidden(&'static str),
    /// The node's release does not know the key or value.
    #[error("{what} needs Proxmox VE {needs}, the site says {site}")]
    TooNew {
        /// The key, sub-key or value.
        what: String,
        /// The first release that knows it.
        needs: Release,
        /// The release that the site runs.
        site: Release,
    },
    /// Two settings do not go together.
    #[error("{0}")]
    Conflict(String),
}

impl Fault {
    /// A value fault.
    pub(super) fn value(expected: impl Into<String>, found: impl fmt::Display) -> Self {
        let found = found.to_string().chars().take(80).collect();
        Self::Value { expected: expected.into(), found }
    }

    /// The same fault inside `sub_key`.
    pub(super) fn within(self, sub_key: impl Into<String>) -> Self {
        Self::Within { sub_key: sub_key.into(), fault: Box::new(self) }
    }
}
