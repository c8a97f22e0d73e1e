//! The flake, under a real Nix: Debian 13's, in machines that the test makes. nixpkgs is not asked; a stand-in gives the
//! program under test in its place. All traffic stays in the machines' own network.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot be set up has to fail, and says why; the table is printed"
)]

mod fleet;
mod images;
mod machine;
mod outputs;
#[path = "../cli/project.rs"]
#[allow(dead_code, reason = "shared with another test, which uses more of it")]
mod project;
mod root;
#[path = "../support/mod.rs"]
mod support;
