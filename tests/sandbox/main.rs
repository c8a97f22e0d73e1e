//! What a job in the sandbox can and cannot do, as root and as an ordinary user with subordinate ids.
//!
//! The worker has to begin with one thread, so this binary is its own harness and starts itself: as the worker
//! (`__worker`), as the hostile program inside (`__inside`), as an outer process to be killed (`__outer`), and as an
//! ordinary user (`__user`).
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test and its own harness"
)]

mod hostile;
mod inside;
mod lifecycle;
#[path = "../support/mod.rs"]
mod support;
mod user;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// A test's name and what it does.
type Test = (&'static str, fn());

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    match args.first().map(String::as_str) {
        Some("__worker") => world::worker(),
        Some("__inside") => inside::main(&rest),
        Some("__outer") => lifecycle::outer(&rest),
        Some("__user") => return run(&rest[1..], rest[0]),
        _ => {}
    }
    let filters: Vec<&str> = args.iter().map(String::as_str).filter(|arg| !arg.starts_with('-')).collect();
    // No test is ignored, which is what test runners ask with this.
    if args.iter().any(|arg| arg == "--ignored") {
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == "--list") {
        for (name, _) in tests() {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    // Mounts that others make meanwhile would look like ours.
    if rustix::process::geteuid().is_root() {
        private_mounts();
    }
    let whole = if rustix::process::geteuid().is_root() { "as root: " } else { "as a user: " };
    let result = run(&filters, whole);
    if rustix::process::geteuid().is_root() {
        let others = [user::run_as_user(&filters), user::run_in_container(&filters)];
        if others.contains(&false) {
            return ExitCode::from(101);
        }
    }
    result
}

fn private_mounts() {
    use rustix::mount::{MountPropagationFlags, mount_change};
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    #[allow(unsafe_code, reason = "a namespace for the tests")]
    // SAFETY: there is one thread, and neither memory nor descriptors are unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
}

fn tests() -> impl Iterator<Item = Test> {
    hostile::TESTS.iter().chain(lifecycle::TESTS).copied()
}

fn run(filters: &[&str], whole: &str) -> ExitCode {
    let mut failed = 0;
    let mut passed = 0;
    for (name, test) in tests() {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter)) {
            continue;
        }
        match catch_unwind(AssertUnwindSafe(test)) {
            Ok(()) => {
                println!("{whole}{name} ... ok");
                passed += 1;
            }
            Err(_) => {
                println!("{whole}{name} ... FAILED");
                failed += 1;
            }
        }
    }
    println!("{whole}{passed} passed; {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(101) }
}
