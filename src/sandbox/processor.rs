//! The processor that a job runs on.
//!
//! Maintainer scripts start hundreds of short programs, one after the other, and each waits for the next. Spread over several
//! processors every step wakes one that has gone to sleep, which on a virtual machine takes longer than many of the programs,
//! and finds its caches empty. So a job stays on one; everything else can move away from it. A program that asks how many
//! there are then gets the same answer on every machine.

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

/// Keeps the calling thread, and whatever it starts, on the processor where it runs: the kernel chose one that was not busy.
/// Takes no lock.
pub(super) fn stay_here() {
    let here = sched_getcpu();
    if here < CpuSet::MAX_CPU {
        let mut only = CpuSet::new();
        only.set(here);
        // Where it is refused, or the processor has gone, any will do.
        let _ = sched_setaffinity(None, &only);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_and_so_does_what_it_starts() {
        let allowed = || rustix::thread::sched_getaffinity(None).unwrap();
        let before = allowed();
        let [own, started] = std::thread::spawn(move || {
            stay_here();
            [allowed(), std::thread::spawn(allowed).join().unwrap()]
        })
        .join()
        .unwrap();
        assert_eq!((own.count(), own), (1, started));
        assert!((0..CpuSet::MAX_CPU).any(|processor| own.is_set(processor) && before.is_set(processor)));
    }
}
