//! Compiles declarative recipes and one lock file into Debian LXC images for Proxmox VE.
//!
//! ```text
//! recipes + images + site ──model──▶ Project ──apt::lock──▶ Lock ──plan──▶ Plan ──┬─ fetch ──▶ .debs in the store
//!                                     (pure)   (network)          (pure)          │
//!        build::stage    packages of one recipe prefix, in the sandbox ──▶ Layer ◀┘
//!        build::compose  files, users, units of the recipes over that layer (no process)
//!        build::finish   normalise, scan for secrets
//!        archive         sorted tar members in frames ──▶ result/<image>/vzdump-lxc-….tar.zst
//! ```
//!
//! One direction only: `cli → commands → (model, apt, plan, build, pve, deploy) → (fetch, store, layer, sandbox, archive)
//! → (tree, digest, priority, progress)`. The library never prints, reads the environment or looks at the clock: the
//! command line passes those in.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod apt;
pub mod archive;
pub mod artifact;
pub mod build;
pub mod cli;
pub mod commands;
pub mod deploy;
pub mod descriptors;
pub mod digest;
pub mod fetch;
pub mod layer;
pub mod memory;
pub mod model;
pub mod plan;
pub mod priority;
pub mod progress;
pub mod pve;
pub mod sandbox;
pub mod site;
pub mod store;
pub mod tree;
