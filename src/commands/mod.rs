//! What each command does, without knowing how it is shown.

mod build;
mod diff;
mod error;
mod gc;
mod lock;
mod session;
mod verify;
mod why;

pub use build::{Built, Done, Outcome, build};
pub use diff::{Diff, LockDiff, PackageChange, SuiteChange, diff, diff_locks};
pub use error::CommandError;
pub use gc::{Swept, gc};
pub use lock::{Locked, lock, update};
pub use session::{Options, Session};
pub use verify::{Verified, verify};
pub use why::{Link, NotInImage, why};
