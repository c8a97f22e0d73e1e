//! What each command does, without knowing how it is shown.

mod artifact_diff;
mod build;
mod diff;
mod error;
mod gc;
mod layers;
mod lock;
mod missing;
mod session;
mod tarballs;
mod vendor;
mod verify;
mod why;

pub use artifact_diff::{ArtifactDiff, FileChange};
pub use build::{Built, Done, Outcome, build};
pub use diff::{Diff, LockDiff, PackageChange, SuiteChange, TarballChange, diff, diff_locks};
pub use error::CommandError;
pub use gc::{Swept, gc};
pub use layers::{LayerState, Presence, layers};
pub use lock::{Locked, lock, update};
pub use session::{Options, Session};
pub use vendor::{Vendored, vendor};
pub use verify::{Rebuilt, Verified, VerifiedFile, compare_artifacts, rebuild, verify};
pub use why::{Link, NotInImage, why};
