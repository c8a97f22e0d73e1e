//! Threads that stand back: they work ahead, with what the others leave of the processor.

/// When a thread's work will be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By the next step.
    Soon,
    /// After that.
    Later,
}

/// Lets other threads go first, from now on until this thread's end: an ordinary user cannot take it back.
pub fn give_way(way: Way) {
    let nice = match way {
        Way::Soon => 5,
        Way::Later => 12,
    };
    // On Linux priorities belong to threads. Where it is refused, this one is just as important.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice);
}
