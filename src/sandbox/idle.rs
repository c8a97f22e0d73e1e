//! Threads that run only where nobody else wants the processor.
#![allow(unsafe_code, reason = "the scheduling policy of a thread has no safe interface")]

/// Lets the calling thread run only when a processor is idle, from now on until its end: an ordinary user cannot take it
/// back. Any other thread that becomes ready goes first at once, which the many short programs of maintainer scripts
/// feel: behind a thread of lower priority each of them would wait for some milliseconds.
///
/// On a busy machine such a thread may stand still for seconds, so nothing may wait for it for long.
pub fn only_when_idle() {
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter is initialised and outlives the call; 0 is the calling thread.
    // Where it is refused, this thread is just as important as others.
    let _ = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &parameter) };
}
