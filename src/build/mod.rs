//! From .debs to a finished tree: the sandboxed stages, then pure functions over their result.

pub mod accounts;
pub mod compose;
pub mod contents;
pub mod finish;
pub mod packaged;
pub mod place;
pub mod secrets;
pub mod stage;
pub mod tarball;
pub mod units;
