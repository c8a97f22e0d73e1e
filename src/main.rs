//! Parses arguments, runs the command, sets the exit code.

use std::process::{ExitCode, exit};

fn main() -> ExitCode {
    // The program starts itself as the sandbox's worker, which must begin with one thread and no terminal.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "__stage") {
        exit(build_images::build::stage::worker_main());
    }
    build_images::cli::main()
}
