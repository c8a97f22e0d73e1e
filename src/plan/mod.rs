//! Lock + recipes + site, evaluated: one value per image whose hash keys all that is built from it.
//!
//! Pure. What is in a plan decides every byte of the image; what is not in it cannot change one.

mod change;
mod request;
mod stage;

pub use change::{Change, changes};
pub(crate) use request::digest_json;
pub use request::{Requests, SetRequest, Stale, TarballRequest};
pub use stage::{Plan, PlanError, Stage, plan};
