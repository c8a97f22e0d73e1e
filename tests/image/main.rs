//! The whole program against hostile input, on real Debian: the shipped base recipe, and on top of it a recipe whose
//! archive a test makes, signs and serves on the loopback interface.
//!
//! All tests share the base layer: the shipped project is built once (`world::shipped`), and each test starts with
//! a store of its own that has the layers and frames of that build as hard links.

#![allow(clippy::unwrap_used)]

mod artifact;
mod attacks;
mod format;
mod host;
mod personal;
mod pins;
mod recipe;
mod scripts;
mod secrets;
#[path = "../support/mod.rs"]
mod support;
mod world;
