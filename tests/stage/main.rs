//! Stages as a whole: real packages of Debian's mirror and small ones made here, in the real sandbox.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot be set up has to fail, and its timings are worth a look"
)]

mod builtins;
mod compare;
mod layered;
mod machine;
mod mirror;
mod packages;
#[path = "../support/mod.rs"]
mod support;
mod user;
