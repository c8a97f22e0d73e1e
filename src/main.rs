//! Parses arguments, runs the command, sets the exit code.

use std::process::{ExitCode, exit};

use build_images::descriptors::make_room;
use build_images::memory::keep_freed;

/// Files that are open at once: a package each, and in the worker all that wait for their names.
const FILES: u64 = 1 << 12;
const WORKER_FILES: u64 = 1 << 16;

fn main() -> ExitCode {
    keep_freed();
    // The program starts itself as the sandbox's worker, which must begin with one thread and no terminal.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "__stage") {
        make_room(WORKER_FILES);
        exit(build_images::build::stage::worker_main());
    }
    make_room(FILES);
    build_images::cli::main()
}
