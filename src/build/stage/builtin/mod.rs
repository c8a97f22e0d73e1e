//! Programs that maintainer scripts call and that are done here instead, with the same effect and without a process.
//!
//! Scripts spend most of their time in a few helpers: a shell script that forks for each of 150 certificates, a Perl
//! program that is started thirty times to make one link. In a job, their names are found first in a directory of its
//! own on `PATH`, where each is the small program `relay`. That hands the call to this process and does what it answers.
//!
//! A builtin does only what it understands whole. Anything else it declines, before any effect, and the relay becomes
//! the image's own program. What a builtin does is compared with that program's effect in `tests/builtin`, byte by byte.
//!
//! Calls come from maintainer scripts, so nothing in them is trusted: paths are resolved by the kernel inside the
//! root, where the script itself could write as well; sizes are bounded.

mod answer;
mod debconf;

pub(super) use answer::{Answer, Call, Output, Peer};

use super::root::Root;

/// Does what a program would have done, or declines.
pub(super) type Builtin = fn(&Call, &Root, &mut dyn Peer) -> Answer;

/// The builtins that are found by name on `PATH`.
pub(super) const BY_NAME: &[(&str, Builtin)] = &[];

/// The builtins that take the place of one absolute path, where the image has a regular file.
pub(super) const BY_PATH: &[(&str, Builtin)] = &[("/usr/share/debconf/frontend", debconf::frontend)];
