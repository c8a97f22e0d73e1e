//! What a long operation says while it runs. The library emits events; the command line shows them.

/// One step of a build that a person can follow.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// A stage begins; `total` is in `unit`s, 0 when it is not known.
    Stage {
        /// What is being worked on: an image or an archive.
        subject: String,
        /// What is done to it, as a verb in the progressive: "fetching packages".
        action: String,
        /// How much there is to do, in `unit`s; 0 when that is not known.
        total: u64,
        /// What is counted.
        unit: Unit,
    },
    /// `done` units of the current stage are finished.
    Progress {
        /// Which stage: the subject that `Stage` named.
        subject: String,
        /// How much of it is done.
        done: u64,
        /// The item being worked on, if one stands out.
        item: String,
    },
    /// The stage that `Stage` named is over.
    Finished {
        /// Which stage.
        subject: String,
    },
    /// Something the user should know although the build goes on.
    Warning(String),
}

/// What a stage counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Unit {
    /// Bytes, shown in binary multiples.
    Bytes,
    /// Packages.
    Packages,
    /// Frames of an archive.
    Frames,
}

/// Receives events, from any thread.
pub trait Reporter: Sync {
    /// Takes one event; must not block for long.
    fn report(&self, event: Event);
}

/// Says that the stage of a subject is over when it is dropped, so also when the stage fails.
pub struct Over<'a> {
    /// Who is told.
    pub reporter: &'a dyn Reporter,
    /// The subject that `Stage` named.
    pub subject: &'a str,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.reporter.report(Event::Finished { subject: self.subject.to_owned() });
    }
}

/// Ignores every event.
pub struct Silent;

impl Reporter for Silent {
    fn report(&self, _: Event) {}
}
