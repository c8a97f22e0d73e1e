//! What each command does, without knowing how it is shown.

mod ahead;
mod artifact_diff;
mod build;
mod deploy;
mod diff;
mod error;
mod gc;
mod handover;
mod layers;
mod lock;
mod mend;
mod missing;
mod search;
mod session;
mod site;
mod stages;
mod step;
mod stored;
mod tarballs;
mod vendor;
mod verify;
mod verify_store;
mod why;

pub use artifact_diff::{ArtifactDiff, FileChange};
pub use build::{Built, Done, Outcome, build};
pub use deploy::{Changed, DeployDone, DeployOptions, Deployment, ProxyAnswer, deploy};
pub use diff::{Diff, LockDiff, PackageChange, SuiteChange, TarballChange, diff, diff_locks};
pub use error::CommandError;
pub use gc::{Dropped, Swept, gc};
pub use layers::{LayerState, Presence, layers};
pub use lock::{Locked, lock, update};
pub use session::{Options, Session, read_lock};
pub use site::{SiteWritten, site};
pub use step::{
    Accounts, CheckOrder, CollectOrder, GivenPackage, ImageOrder, LayerOrder, Order, Stepped, VerifyOrder,
    step,
};
pub use vendor::{Vendored, vendor};
pub use verify::{Rebuilt, Verified, VerifiedFile, compare_artifacts, rebuild, verify};
pub use verify_store::{DamagedObject, StoreVerified, verify_store};
pub use why::{Link, NotInImage, why};
