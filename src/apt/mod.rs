//! Debian archives: from a pinned key to an exact list of packages.

pub mod control;
pub mod deb;
mod debs;
pub mod lockfile;
pub mod locking;
pub mod openpgp;
pub mod package;
pub mod relation;
pub mod release;
pub mod resolve;
pub mod sources;
pub mod sync;
pub mod universe;
pub mod version;

pub use debs::Present;
