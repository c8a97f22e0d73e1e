//! What a stage is asked to do, and what its worker says while doing it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use crate::digest::Sha256;
use crate::model::recipe::{Group, User};
use crate::progress::{Event, Unit};

/// The inputs of a stage that decide its result; their hash is the layer's key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageJob {
    /// The packages to add, sorted by name and architecture.
    pub packages: Vec<StagePackage>,
    /// The layer to add them to; nothing for an empty root.
    pub parent: Option<Sha256>,
    /// Users with a pinned id, made before any script that could make users.
    pub users: Vec<User>,
    /// Groups with a pinned id, made before any script that could make groups.
    pub groups: Vec<Group>,
    /// Names of packages that the recipes ask for; all others are marked as automatically installed.
    pub requested: BTreeSet<String>,
    /// Seconds since 1970 that scripts get as `SOURCE_DATE_EPOCH` and that everything they write is dated.
    pub epoch: i64,
}

/// One package of a [`StageJob`], as the lock names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagePackage {
    /// Its name.
    pub name: String,
    /// Its full version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// The hash of the .deb.
    pub sha256: Sha256,
    /// The size of the .deb in bytes.
    pub size: u64,
}

/// Version of what a stage does with its inputs; to be raised with every change that can change a layer.
const FORMAT: u32 = 1;

impl StageJob {
    /// The key of the layer that the job makes.
    pub fn key(&self) -> Sha256 {
        let text = serde_json::to_vec(&("stage", FORMAT, crate::layer::FORMAT, self));
        Sha256::of(text.expect("a job has only string keys and no failing serialiser"))
    }
}

/// What the scripts of a stage may use. Not part of the key: a build that passes gives the same layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Longest time that one script, or one run of dpkg without news, may take, in seconds.
    pub script_seconds: u64,
    /// Largest size of the root's tmpfs, in bytes.
    pub root_bytes: u64,
    /// Bytes of unpacked packages that may wait in memory.
    pub buffer_bytes: u64,
    /// Whether some programs that scripts call are done without a process, with the same effect.
    pub builtins: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { script_seconds: 600, root_bytes: 16 << 30, buffer_bytes: 384 << 20, builtins: true }
    }
}

/// What the worker reads first. With it come descriptors: the .debs of all tasks; for each task the files of its result,
/// pack, index and foreseen index; index and pack of each layer below, the topmost first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Orders {
    /// The layers to make, one on the other.
    pub tasks: Vec<Task>,
    /// How many layers there are below the first; none for an empty root.
    pub below: usize,
    pub limits: Limits,
    /// Each script stays on one processor.
    pub one_processor: bool,
    /// The root goes into the scratch directory instead of memory.
    pub scratch: bool,
}

/// One layer to make.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    pub job: StageJob,
    /// Names the stage in events.
    pub subject: String,
}

impl Task {
    /// Says that something begins.
    pub fn stage(&self, action: &str) -> Message {
        let (subject, action) = (self.subject.clone(), action.to_owned());
        Message::Event(Event::Stage { subject, action, total: 0, unit: Unit::Packages })
    }
}

/// One line from the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// To be shown.
    Event(Event),
    /// The index of what the layer of the task with this number will be if no script changes anything any more is written;
    /// the pack holds what it names.
    Foreseen(usize),
    /// Pack and index of the task with this number are complete.
    Layer(usize),
    /// The end: what came after the last layer failed.
    Failed(Failure),
    /// The end: all layers are complete.
    Done,
}
