//! Whether each layer of a plan is in the store and, when it is not, why.
//!
//! The store keeps a note of the last job of each list of recipes, so that the next one can be compared with it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::CommandError;
use super::session::Session;
use crate::build::stage::StageJob;
use crate::digest::Sha256;
use crate::plan::{Change, Plan, Stage, changes, digest_json};
use crate::store::{Context as _, Damage, Kind, Object, Store, Unusable, read_sealed};

/// Longest note that is read, in bytes.
const MAX_NOTE: u64 = 64 << 20;

/// One layer of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerState {
    /// The recipes whose packages it holds, the last one's being its own.
    pub recipes: Vec<String>,
    /// Its key.
    pub key: Sha256,
    /// Number of packages that it adds.
    pub packages: usize,
    /// Whether it is in the store, and if not, why.
    #[serde(flatten)]
    pub presence: Presence,
}

/// Whether a layer is in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Presence {
    /// It is.
    There,
    /// No layer of these recipes was ever in this store.
    NeverBuilt,
    /// It was, and has been removed.
    Removed,
    /// Other inputs than when a layer of these recipes was last there.
    Changed {
        /// What changed.
        changes: Vec<Change>,
    },
}

/// What the store notes of a layer when it is there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Note {
    /// The layer.
    pub key: Sha256,
    /// The recipes whose packages it holds.
    pub recipes: Vec<String>,
    /// What it was made from.
    pub job: StageJob,
}

/// The layers of `plan`, the lowest first.
pub fn layers(session: &Session, plan: &Plan) -> Vec<LayerState> {
    let state = |stage: &Stage| LayerState {
        recipes: stage.recipes.clone(),
        key: stage.key,
        packages: stage.packages.len(),
        presence: presence(session, stage),
    };
    plan.stages.iter().map(state).collect()
}

fn presence(session: &Session, stage: &Stage) -> Presence {
    if session.store.contains(Kind::Layer, stage.key) {
        return Presence::There;
    }
    match read(&session.store, &note_path(session, &stage.recipes)) {
        None => Presence::NeverBuilt,
        Some(note) if note.key == stage.key => Presence::Removed,
        Some(note) => Presence::Changed { changes: changes(&note.job, &stage.job) },
    }
}

/// A note that is not there or cannot be read is as good as none. Damage is noted in the store.
fn read(store: &Store, path: &Path) -> Option<Note> {
    match read_note(path) {
        Ok(note) => Some(note),
        Err(Unusable::Missing) => None,
        Err(Unusable::Damaged(reason)) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            store.found_damaged(Damage::new(Object::Note, name, reason));
            None
        }
    }
}

/// The note at `path`.
pub(super) fn read_note(path: &Path) -> Result<Note, Unusable> {
    let text = read_sealed(path, MAX_NOTE)?;
    serde_json::from_str(&text).map_err(|error| Unusable::Damaged(error.to_string()))
}

/// Notes that the layer of `stage` is there.
///
/// # Errors
/// When the note cannot be written.
pub(super) fn note(session: &Session, stage: &Stage) -> Result<(), CommandError> {
    let path = note_path(session, &stage.recipes);
    if read(&session.store, &path).is_some_and(|note| note.key == stage.key) {
        return Ok(());
    }
    let note = Note { key: stage.key, recipes: stage.recipes.clone(), job: stage.job.clone() };
    let text = serde_json::to_string(&note).map_err(io::Error::other).context("write", &path)?;
    Ok(session.store.write_sealed(&path, &text)?)
}

/// Where the note of `recipes` is. Two projects may give one name to different recipes.
pub(super) fn note_path(session: &Session, recipes: &[String]) -> PathBuf {
    let root = &session.options.root;
    let root = fs::canonicalize(root).unwrap_or_else(|_| root.clone());
    let name = digest_json(&(root.to_string_lossy(), recipes));
    session.store.root().join(NOTES).join(name.to_string())
}

/// The store's directory of notes.
pub(super) const NOTES: &str = "notes";
