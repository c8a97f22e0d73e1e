//! Builtins and the programs whose place they take, called alike in two copies of one Debian root: what they say and
//! what they leave behind has to be the same, path by path.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot be set up has to fail, and what was declined is worth a look"
)]

mod adduser;
mod certificates;
mod diversions;
mod maintscript;
mod mime;
#[path = "../stage/packages.rs"]
#[allow(dead_code, reason = "only the mirror and the place of what is kept are of use here")]
mod packages;
mod scripts;
#[path = "../support/mod.rs"]
mod support;
mod units;
mod versions;
mod world;
