//! The archive as others read it: GNU tar, zstd, Proxmox's own command line; and how it changes from build to build.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod common;
mod curve;
mod draft;
mod format;
mod stability;
mod support;
