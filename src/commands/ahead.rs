//! Work on layers in the making: frames of what scripts will hardly change any more are compressed, files are searched for
//! secrets. The archive is begun with what it will most likely begin with. All else is kept by content in the store, where
//! the build finds what is right; what is not done in time, or turns out different, the build does itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

use super::build::head;
use super::session::Session;
use super::tarballs;
use crate::archive::{self, Draft, Source};
use crate::artifact::{EarlyFile, Manifest, ResultDirectory};
use crate::build::finish;
use crate::build::secrets::{self, Clean, CleanContents, Searched};
use crate::build::stage::Foreseen;
use crate::digest::Sha256;
use crate::layer::Layer;
use crate::plan::Plan;
use crate::priority::give_way;

type Done = BTreeSet<Sha256>;

/// The threads that work ahead; they stop when this is dropped.
pub(super) struct Ahead<'scope> {
    session: &'scope Session<'scope>,
    plan: &'scope Plan,
    /// The archive, as far as it can be told.
    draft: Arc<Mutex<Option<Draft<EarlyFile>>>>,
    /// Ends the thread that follows the last result.
    arrived: Arc<AtomicBool>,
    /// What was searched for secrets on the way.
    clean: Arc<Clean>,
    /// Each with what stops it.
    threads: Mutex<Vec<(Arc<AtomicBool>, ScopedJoinHandle<'scope, Done>)>>,
}

impl<'scope> Ahead<'scope> {
    /// Nothing yet; the archive goes to the empty `file`.
    pub fn new(session: &'scope Session<'scope>, plan: &'scope Plan, file: File) -> Self {
        let draft = Arc::new(Mutex::new(Some(Draft::new(EarlyFile::new(file)))));
        let (arrived, clean, threads) = Default::default();
        Self { session, plan, draft, arrived, clean, threads }
    }

    /// Begins with the archive that `result` has, when the plan is another one only in what recipes bring: its first frames will
    /// be the same.
    pub fn follow(&self, scope: &'scope Scope<'scope, '_>, result: &'scope ResultDirectory) {
        let (session, plan) = (self.session, self.plan);
        let (draft, arrived) = (Arc::clone(&self.draft), Arc::clone(&self.arrived));
        let thread = std::thread::Builder::new().name("draft".to_owned());
        // Where no thread can be had, the build does it later.
        let _ = thread.spawn_scoped(scope, move || {
            let Some(last) = result.manifest().ok().flatten().filter(|last| is_alike(last, plan)) else {
                return;
            };
            let keys: Vec<_> = last.frames.iter().map_while(|frame| frame.key).collect();
            if let Some(draft) = draft.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                draft.follow(&session.store, &keys, &arrived);
            }
        });
    }

    /// What is written of the archive; nothing the second time. Nobody writes to it any more then.
    pub fn draft(&self) -> Option<Draft<EarlyFile>> {
        self.arrived.store(true, Ordering::Relaxed);
        self.end();
        self.draft.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Begins with a foreseen layer. What was begun before ends: each of them stands on the ones before.
    pub fn start(&self, scope: &'scope Scope<'scope, '_>, foreseen: Foreseen) {
        self.end();
        let (session, plan, stop) = (self.session, self.plan, Arc::<AtomicBool>::default());
        let (draft, clean) = (Arc::clone(&self.draft), Arc::clone(&self.clean));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("ahead".to_owned());
        let thread = thread.spawn_scoped(scope, move || {
            give_way();
            foreseen
                .open()
                .map_or_else(|_| Done::new(), |layer| work(session, plan, &layer, (&draft, &clean), &stop))
        });
        // Where no thread can be had, the build does it later.
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.extend(thread.map(|thread| (stopped, thread)));
    }

    /// Contents without secrets, as far as it is known; those who work ahead add to it.
    pub fn clean(&self) -> &Clean {
        &self.clean
    }

    /// Waits for what is under way to end. Gives the names of the frames that were compressed.
    pub fn wait(self) -> Done {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        threads.into_iter().filter_map(|(_, thread)| thread.join().ok()).flatten().collect()
    }

    /// Lets nothing more begin. What is under way ends by itself, and soon.
    pub fn end(&self) {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.iter().for_each(|(stop, _)| stop.store(true, Ordering::Relaxed));
    }
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether an archive of `plan` will begin like the one that `last` names.
fn is_alike(last: &Manifest, plan: &Plan) -> bool {
    let layers = plan.stages.iter().map(|stage| stage.key).chain(tarballs::keys(plan));
    last.layers.iter().copied().eq(layers)
        && last.locked_at == plan.lock_time.to_string()
        && last.config.sha256 == Sha256::of(&plan.config)
}

/// Errors are left to the build, which meets them again if they matter.
fn work(
    session: &Session<'_>,
    plan: &Plan,
    layer: &Layer,
    (draft, clean): (&Mutex<Option<Draft<EarlyFile>>>, &Clean),
    stop: &AtomicBool,
) -> Done {
    let tree = finish::foresee(&layer.tree, plan.epoch);
    let layers: BTreeMap<String, usize> = plan.layer_of_packages();
    let Ok(head) = head(plan) else { return Done::new() };
    let (store, threads) = (&session.store, session.options.jobs);
    let list = CleanContents::of(store, layer.key);
    let listed = list.read();
    clean.extend(listed.iter().flatten().copied());
    let searched = Searched::new(layer, clean);
    let source = Source { tree: &tree, contents: &searched, head: &head, mtime: plan.epoch, layers: &layers };
    let mut draft = draft.lock().unwrap_or_else(PoisonError::into_inner);
    // The archive itself is being written.
    let Some(drafted) = draft.as_mut() else { return Done::new() };
    let done = archive::warm(&source, store, &plan.parameters, threads, stop, drafted).unwrap_or_default();
    drop(draft);
    // What is in no lasting frame.
    if !stop.load(Ordering::Relaxed)
        && let Ok(report) = secrets::scan(&layer.tree, layer, &clean.known())
    {
        clean.extend(report.clean);
    }
    // Another image on this layer need not search it again.
    let _ = list.keep(&clean.known_of(&layer.tree), listed.as_ref());
    done
}
