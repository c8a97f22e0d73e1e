//! Threads that stand back: they work ahead, with what the others leave of the processor.

/// How much less important they are, as `nice` counts.
const LESS: i32 = 12;

/// Lets other threads go first, from now on until this thread's end: an ordinary user cannot take it back.
pub fn give_way() {
    // On Linux priorities belong to threads. Where it is refused, this one is just as important.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), LESS);
}
