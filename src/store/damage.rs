//! What was found damaged while the store was used.
//!
//! Every object carries a hash that its readers compare. One that does not match is noted here, by whoever reads it, and
//! then treated as if it were not there; the commands tell the user and see to it that it is made again.

use std::fmt;
use std::sync::PoisonError;

use serde::Serialize;

use super::Store;

/// What sort of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Object {
    /// A binary package.
    Deb,
    /// A tarball that a recipe names.
    Tarball,
    /// A Release file or an index of packages.
    Index,
    /// A layer: its index or its pack.
    Layer,
    /// A compressed frame.
    Frame,
    /// A state of an archive's hash.
    HashState,
    /// The list of contents in which no secret was found.
    Scan,
    /// The note of the last job of some recipes.
    Note,
    /// The note about a result that was written.
    ResultNote,
    /// A result: what the user gets.
    Result,
}

impl Object {
    /// As a noun for people.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Deb => "package file",
            Self::Tarball => "tarball",
            Self::Index => "index",
            Self::Layer => "layer",
            Self::Frame => "frame",
            Self::HashState => "hash state",
            Self::Scan => "list of searched contents",
            Self::Note => "note of a job",
            Self::ResultNote => "note of a result",
            Self::Result => "result",
        }
    }
}

/// An object that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Damage {
    /// What sort of object.
    pub object: Object,
    /// Its name in the store; the path of a result.
    pub name: String,
    /// How that was noticed.
    pub reason: String,
}

impl Damage {
    /// A damage of the object `name`.
    pub fn new(object: Object, name: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self { object, name: name.to_string(), reason: reason.to_string() }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} is damaged: {}", self.object.noun(), self.name, self.reason)
    }
}

impl Store {
    /// Notes that an object is damaged. Of one object the first note is kept.
    pub fn found_damaged(&self, damage: Damage) {
        let mut noted = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if !noted.iter().any(|other| (other.object, &other.name) == (damage.object, &damage.name)) {
            noted.push(damage);
        }
    }

    /// Whether a layer was noted since that was last asked.
    pub fn has_damaged_layer(&self) -> bool {
        let noted = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        noted.iter().any(|damage| damage.object == Object::Layer)
    }

    /// What was noted since this was last asked.
    pub fn take_damaged(&self) -> Vec<Damage> {
        std::mem::take(&mut *self.damaged.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
