//! Installs packages into a root file system and keeps the result as a layer.
//!
//! ```text
//! build()        the build's process: opens .debs and the layer below, starts the worker, commits the layer
//!   worker_main()  the sandbox's worker: an empty root on tmpfs
//!     restore        the layer below, when the store has it
//!     package        .debs checked against the lock, control files read
//!     install        rounds of: place (data archives), database, preinst, configure (the image's own dpkg)
//!       loose          contents go to files without a name, on many threads, before it is their turn to be placed
//!       gather         and to the pack when they are placed
//!     read_back      the root becomes a tree and a pack: once before the last scripts run, so that the build can begin with
//!                    what they will hardly change, and once after them
//!     settle         for the next layer on the same root, if there is one: as if restored
//! ```
//!
//! The .debs are unpacked here, not by dpkg, so that all cores decompress while one thread places files in a fixed
//! order. dpkg's database is written as dpkg writes it; the scripts are run by dpkg itself, in the sandbox.

mod builtin;
mod configure;
mod database;
mod decompress;
mod descriptors;
mod failure;
mod gather;
mod install;
mod job;
mod known;
mod loose;
mod outer;
mod owners;
mod package;
mod packing;
mod pins;
mod place;
mod preinst;
mod read_back;
mod restore;
mod root;
mod rounds;
mod rules;
mod scripts;
mod settle;
mod shared;
mod worker;

#[doc(hidden)]
pub use builtin::door;
pub use failure::Failure;
pub use job::{Limits, StageJob, StagePackage};
pub use outer::{Foreseen, Leaving, News, Stage, StageError, build, build_all};
pub use worker::worker_main;
