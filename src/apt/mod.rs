//! Debian archives: from a pinned key to an exact list of packages.

pub mod control;
pub mod lockfile;
