//! Frames before there is an archive: of layers that are still in the making, or the lower ones of several.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Parameters;
use super::draft::{Cut, Draft};
use super::frame;
use super::layout::Stability;
use super::queue::{Queue, Stop};
use super::write::{ArchiveError, Source, Work, arrange, check};
use crate::digest::Sha256;
use crate::priority::give_way;
use crate::store::{Kind, Store};

/// Makes those frames of `source` that `store` has not and that will hardly change any more, until `stop` is set, and keeps
/// them there for a later [`write_on`](super::write_on), with the states of the tar's hash. The first of them go to `draft`. As
/// far as nothing else comes of the files until then, all are those of the archive. Gives the names of what was compressed.
///
/// # Errors
/// See [`ArchiveError`].
pub fn warm(
    source: &Source<'_>,
    store: &Store,
    parameters: &Parameters,
    threads: usize,
    stop: &AtomicBool,
    draft: &mut Draft<impl Cut>,
) -> Result<BTreeSet<Sha256>, ArchiveError> {
    check(parameters)?;
    let (members, parts) = arrange(source, parameters)?;
    let in_place = parts.iter().take_while(|part| part.stability == Stability::InPlace).count();
    let lasting = parts.into_iter().filter(|part| part.stability != Stability::Changes);
    let ranges: Vec<_> = lasting.map(|part| part.range).collect();
    let count = ranges.len();
    let (work, chain, mut hash) = Work::new(source, (store, parameters), members, ranges, in_place);
    // What cannot be cut stays as it is: nothing is appended.
    let _ = draft.agree(&work.keys[..in_place]);
    let queue = Queue::from(0);
    let made = Mutex::new(BTreeSet::new());
    let hashed: Result<(), ArchiveError> = std::thread::scope(|scope| {
        let (work, queue, made) = (&work, &queue, &made);
        // One processor is left to the scripts: they start hundreds of short programs, one after the other. No thread is there
        // for when it is idle only: on a busy machine a frame that it has begun would be waited for, and that takes as long as
        // that machine is busy.
        for _ in 0..threads.saturating_sub(1).clamp(1, count.max(1)) {
            scope.spawn(move || {
                give_way();
                work.run(queue, |index| {
                    let key = work.keys[index];
                    let wanted = work.hashed.contains(&index) || !store.contains(Kind::Frame, key);
                    let done = wanted.then(|| work.make(index)).transpose()?;
                    if done.as_ref().is_some_and(|done| done.is_new) {
                        made.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
                    }
                    // Here too: whoever takes what is made may be waiting for this very frame.
                    if stop.load(Ordering::Relaxed) {
                        queue.close();
                    }
                    Ok(done)
                });
            });
        }
        // Whatever ends this, the threads must not wait for it.
        let _stop = Stop(queue);
        let mut last = None;
        for (index, key) in work.keys.iter().enumerate() {
            if stop.load(Ordering::Relaxed) {
                queue.close();
            }
            // What is made is hashed too: the next would have to decompress it for that.
            let Some(done) = queue.take(index)? else { break };
            if index < in_place && index == draft.len() {
                let loaded = if done.is_none() { frame::load(store, *key) } else { None };
                if let Some(frame) = done.as_ref().map(|done| &done.frame).or(loaded.as_ref()) {
                    draft.append(*key, frame);
                }
            }
            if let Some(bytes) = done.and_then(|done| done.bytes) {
                hash.update(&bytes);
                work.buffers.put(bytes);
            }
            if let Some(chain) = chain.get(index).filter(|_| work.keeps_state(index)) {
                hash.keep(store, *chain)?;
            }
            queue.written(work.size(index));
            last = Some(index);
        }
        // Whoever goes on goes on from here.
        let stopped = last.filter(|index| work.hashed.contains(index) && !work.keeps_state(*index));
        if let Some(chain) = stopped.and_then(|index| chain.get(index)) {
            hash.keep(store, *chain)?;
        }
        Ok(())
    });
    hashed?;
    Ok(made.into_inner().unwrap_or_else(PoisonError::into_inner))
}
