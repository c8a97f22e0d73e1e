//! Programs that maintainer scripts call and that are done here instead, with the same effect and without a process.
//!
//! Scripts spend most of their time in a few helpers: a shell script that forks for each of 150 certificates, a Perl
//! program that is started thirty times to make one link. In a job, their names are found first in a directory of its
//! own on `PATH`, where each is the relay of the sandbox. That hands the call to this process and does what it answers.
//!
//! A builtin does only what it understands whole. Anything else it declines, before any effect, and the relay becomes
//! the image's own program. It is offered only where that program is one of those it was compared with, by hash: an
//! update of the program turns the builtin off until it has been compared again. The comparison, byte by byte, is
//! `tests/builtin`.
//!
//! Calls come from maintainer scripts, so nothing in them is trusted: paths are resolved by the kernel inside the
//! root, where the script itself could write as well; sizes are bounded.

mod answer;
mod offer;

pub(super) use answer::{Answer, Call, Output, Peer};
pub(super) use offer::Offer;

use super::root::Root;

/// Does what a program would have done, or declines.
pub(super) type Run = fn(&Call, &Root, &mut dyn Peer) -> Answer;

/// A program that is done here.
pub(super) struct Builtin {
    /// Where it is found.
    pub found: Found,
    /// What it does.
    pub run: Run,
    /// The SHA-256 of each version of the image's program that it was compared with.
    pub compared: &'static [&'static str],
}

/// Where scripts find a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// By this name on `PATH`.
    Name(&'static str),
    /// At this absolute path, which the relay covers.
    Path(&'static str),
}

/// All builtins. At most four are found by their path.
const BUILTINS: &[Builtin] = &[];
