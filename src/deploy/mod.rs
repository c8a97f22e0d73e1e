//! Deployment: an artifact on a Proxmox node, restored, started and probed, with a way back from every step.
//!
//! ```text
//! project + artifact ──target──▶ Target ─┐
//! node ──ssh, facts.sh──▶ Facts ─────────┼─ preflight ──▶ findings, all at once
//!                                        └─ plan ──▶ Planned ─┬─ printed (--dry-run)
//!                                                             └─ run ──▶ upload, transaction
//! ```
//!
//! Nothing that must not stay half-done is done from here. The steps are sent to the node as a whole and run there,
//! detached from the connection, by a runner that notes each on disk (`node/run.sh`). When a step fails it goes back by
//! itself; when the node or the runner dies, the next one to come (`deploy`, `deploy --recover`, or the command that is
//! printed) reads the notes and goes back then.
//!
//! A container is ours when its description names an archive that our record on the node has. Anything else is never
//! overwritten.

pub mod facts;
pub mod plan;
pub mod preflight;
pub mod run;
pub mod scripts;
pub mod secrets;
mod shell;
pub mod ssh;
pub mod steps;
pub mod target;
pub mod transaction;
pub mod upload;

pub use facts::Facts;
pub use plan::{Planned, StatePolicy, Wanted, What, Work};
pub use preflight::Finding;
pub use run::{Ending, RunError, Runner};
pub use ssh::{Ssh, SshError};
pub use target::Target;
