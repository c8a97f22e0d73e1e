//! Deployment to a stand-in of a Proxmox node: an sshd in namespaces of its own, with a `pct` and a `pvesm` that keep to
//! what Proxmox's own do, and containers that run.
//!
//! Most tests deploy a tiny image whose application is one process; what boots for real is in `both`, the longest, whose
//! name lets it begin early.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

mod adopt;
mod basic;
mod both;
mod faults;
mod node;
mod options;
mod probe;
mod project;
mod secrets;
mod sequences;
#[path = "../support/mod.rs"]
mod support;

use node::has_program;

/// Whether this machine has what a node needs.
fn prepared() -> bool {
    let root = rustix::process::geteuid().is_root();
    support::require("root", root)
        && support::require("sshd (package openssh-server)", std::path::Path::new("/usr/sbin/sshd").exists())
        && support::require("newuidmap (package uidmap)", has_program("newuidmap"))
        && support::require("lxc-usernsexec (package lxc)", has_program("lxc-usernsexec"))
        && support::require("ip (package iproute2)", has_program("ip"))
        && support::require("ping (package iputils-ping)", has_program("ping"))
        && support::require("zstd (package zstd)", has_program("zstd"))
}
