//! Who makes what at the moment, in this process.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, PoisonError};

use super::{Kind, Store};
use crate::digest::Sha256;

/// What is in the making.
#[derive(Debug, Default)]
pub(super) struct Turns {
    taken: Mutex<HashSet<(Kind, Sha256)>>,
    given_back: Condvar,
}

/// One thread's turn at making an object; given back when dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    turns: &'a Turns,
    object: (Kind, Sha256),
}

impl Store {
    /// Waits while another thread of this process has the turn at the object `name`. Unlike [`lock`](Store::lock) this costs
    /// next to nothing, and other processes do not see it.
    pub fn take_turn(&self, kind: Kind, name: Sha256) -> Turn<'_> {
        let (turns, object) = (&*self.turns, (kind, name));
        let mut taken = turns.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while !taken.insert(object) {
            taken = turns.given_back.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        Turn { turns, object }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.object);
        self.turns.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_thread_at_a_time_makes_an_object() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _turn = store.take_turn(Kind::Frame, Sha256::of("one"));
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
        // Others are not in the way.
        let _one = store.take_turn(Kind::Frame, Sha256::of("one"));
        let _other = store.take_turn(Kind::Frame, Sha256::of("other"));
        let _layer = store.take_turn(Kind::Layer, Sha256::of("one"));
    }
}
