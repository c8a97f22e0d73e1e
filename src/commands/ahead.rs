//! Work on a finished layer while the next one is in the making: its frames are compressed, its files are searched for
//! secrets. All of it is kept in the store, where the build finds it; what is not done in time the build does itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

use super::session::Session;
use crate::archive::{self, Source};
use crate::build::finish;
use crate::build::secrets::{self, CleanContents};
use crate::digest::Sha256;
use crate::layer::Layer;
use crate::plan::{Plan, Stage};
use crate::priority::give_way;

type Done = BTreeSet<Sha256>;

/// The threads that work ahead; they stop when this is dropped.
pub(super) struct Ahead<'scope> {
    session: &'scope Session<'scope>,
    plan: &'scope Plan,
    stop: std::sync::Arc<AtomicBool>,
    threads: Mutex<Vec<ScopedJoinHandle<'scope, Done>>>,
}

impl<'scope> Ahead<'scope> {
    pub fn new(session: &'scope Session<'scope>, plan: &'scope Plan) -> Self {
        Self { session, plan, stop: std::sync::Arc::default(), threads: Mutex::default() }
    }

    /// Begins with the layer that has this number, counted from the lowest.
    pub fn start(&self, scope: &'scope Scope<'scope, '_>, layer: usize) {
        let (session, plan, stop) = (self.session, self.plan, self.stop.clone());
        let Some(stage) = plan.stages.get(layer) else { return };
        let thread = std::thread::Builder::new().name("ahead".to_owned());
        let thread = thread.spawn_scoped(scope, move || {
            give_way();
            work(session, plan, stage, &stop)
        });
        // Where no thread can be had, the build does it later.
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).extend(thread);
    }

    /// Ends what is under way. Gives the names of the frames that were compressed.
    pub fn stop(self) -> Done {
        self.stop.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
    }
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Errors are left to the build, which meets them again if they matter.
fn work(session: &Session<'_>, plan: &Plan, stage: &Stage, stop: &AtomicBool) -> Done {
    let Ok(layer) = Layer::open(&session.store, stage.key) else { return Done::new() };
    let tree = finish::foresee(&layer.tree, plan.epoch);
    let layers: BTreeMap<String, usize> = plan.layer_of_packages();
    let source = Source { tree: &tree, contents: &layer, head: &[], mtime: plan.epoch, layers: &layers };
    let (store, threads) = (&session.store, session.options.jobs);
    let done = archive::warm(&source, store, &plan.parameters, threads, stop).unwrap_or_default();
    if !stop.load(Ordering::Relaxed) {
        let list = CleanContents::of(store, stage.key);
        if let Ok(report) = secrets::scan(&layer.tree, &layer, &list.read()) {
            let _ = list.keep(&report.clean);
        }
    }
    done
}
