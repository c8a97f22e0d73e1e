//! Frames before there is an archive: of layers that are still in the making, or the lower ones of several.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Parameters;
use super::layout::Stability;
use super::queue::{Queue, Stop};
use super::running::{self, RunningHash};
use super::write::{ArchiveError, Buffers, STATE_EVERY, Source, Work, arrange, check, keys};
use crate::digest::Sha256;
use crate::priority::give_way;
use crate::store::{Kind, Store};

/// Makes those frames of `source` that `store` has not and that will hardly change any more, until `stop` is set, and keeps them there for a
/// later [`write`](super::write), with the states of the tar's hash: as far as nothing else comes of the files until then, all
/// are those of the archive. Gives the names of what was compressed.
///
/// # Errors
/// See [`ArchiveError`].
pub fn warm(
    source: &Source<'_>,
    store: &Store,
    parameters: &Parameters,
    threads: usize,
    stop: &AtomicBool,
) -> Result<BTreeSet<Sha256>, ArchiveError> {
    check(parameters)?;
    let (members, parts) = arrange(source, parameters)?;
    let in_place = parts.iter().take_while(|part| part.stability == Stability::InPlace).count();
    let lasting = parts.into_iter().filter(|part| part.stability != Stability::Changes);
    let ranges: Vec<_> = lasting.map(|part| part.range).collect();
    let keys = keys(&members, &ranges, parameters);
    let chain = running::chain(&keys[..in_place]);
    let (hash_from, mut hash) = RunningHash::last(store, &chain);
    let buffers = Buffers::default();
    let work = Work {
        members: &members,
        ranges: &ranges,
        keys: &keys,
        source,
        store,
        parameters,
        hash_from,
        buffers,
    };
    let queue = Queue::default();
    let mut made = BTreeSet::new();
    std::thread::scope(|scope| {
        // One processor is left to the scripts: they start hundreds of short programs, one after the other.
        for _ in 0..threads.saturating_sub(1).clamp(1, ranges.len().max(1)) {
            scope.spawn(|| {
                give_way();
                work.run(&queue, |index| {
                    let hashed = (hash_from..in_place).contains(&index);
                    let wanted = hashed || !store.contains(Kind::Frame, keys[index]);
                    wanted.then(|| work.make(index)).transpose()
                });
            });
        }
        // Whatever ends this, the threads must not wait for it.
        let _stop = Stop(&queue);
        for index in 0..ranges.len() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if let Some(done) = queue.take(index)? {
                if done.is_new {
                    made.insert(keys[index]);
                }
                if let Some(bytes) = done.bytes {
                    if index < in_place {
                        hash.update(&bytes);
                    }
                    work.buffers.put(bytes);
                }
            }
            let is_last = index + 1 == in_place;
            if (hash_from..in_place).contains(&index) && (is_last || (index + 1) % STATE_EVERY == 0) {
                hash.keep(store, chain[index])?;
            }
            queue.written(work.size(index));
        }
        Ok(made)
    })
}
