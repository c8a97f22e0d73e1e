//! Every way in which somebody between Debian and an image could slip something in.
//!
//! Each test plays one attack against the real code over a real connection and asserts the error of its own.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that cannot be set up has to fail")]

#[path = "../support/mod.rs"]
mod support;

mod fetch;
mod index;
mod lock;
mod release;
mod signature;

use std::sync::atomic::AtomicBool;

use build_images::fetch::{Fetcher, Mirrors, Options};
use build_images::progress::{Event, Reporter};
use build_images::store::Store;
use std::sync::Mutex;
use std::time::Duration;

/// A store and everything a fetcher borrows.
pub struct Bench {
    pub directory: tempfile::TempDir,
    pub store: Store,
    pub cancel: AtomicBool,
    pub events: Events,
    pub mirrors: Mirrors,
    /// How long a silent server is waited for.
    pub patience: Duration,
}

/// Keeps what is reported.
#[derive(Default)]
pub struct Events(Mutex<Vec<Event>>);

impl Reporter for Events {
    fn report(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

impl Bench {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (cancel, events, mirrors) = (AtomicBool::new(false), Events::default(), Mirrors::default());
        // Long enough for a machine that does much else.
        let patience = Duration::from_secs(20);
        Self { directory, store, cancel, events, mirrors, patience }
    }

    /// One that loses patience quickly.
    pub fn impatient() -> Self {
        Self { patience: Duration::from_millis(300), ..Self::new() }
    }

    pub fn fetcher(&self) -> Fetcher<'_> {
        let options = Options {
            connect_timeout: Duration::from_secs(2),
            read_timeout: self.patience,
            ..Options::default()
        };
        Fetcher::new(&self.store, self.mirrors.clone(), &options, &self.events, &self.cancel).unwrap()
    }

    pub fn warnings(&self) -> Vec<String> {
        let events = self.events.0.lock().unwrap();
        let warnings = events.iter().filter_map(|event| match event {
            Event::Warning(text) => Some(text.clone()),
            _ => None,
        });
        warnings.collect()
    }
}
