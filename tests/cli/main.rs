//! The program as people run it: arguments in, output, exit code and files out.
//!
//! The first modules need neither root nor network: they lock against a repository on the loopback interface. The
//! others build the image of this project from the Debian mirror that this host's apt uses, and are skipped without.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

mod archives;
mod artifact;
mod built;
mod failure;
mod flipped;
mod full;
mod gc;
mod interrupt;
mod killed;
mod leaky;
mod lock;
mod output;
mod project;
mod quick;
mod reproduce;
mod shared;
mod show;
mod stability;
mod step;
#[path = "../support/mod.rs"]
mod support;
mod tarball;
mod update;
mod vendor;
