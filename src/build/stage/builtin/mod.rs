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
mod certificates;
mod diversions;
#[doc(hidden)]
pub mod door;
mod dpkg;
mod host_keys;
mod known;
mod maintscript;
mod overrides;
mod run_levels;
mod text;
mod units;

pub(super) use answer::{Answer, Call, Output, Peer};

use super::root::Root;

/// Does what a program would have done, or declines.
pub(super) type Builtin = fn(&Call, &Root, &mut dyn Peer) -> Answer;

/// The builtins that are found by name on `PATH`.
pub(super) const BY_NAME: &[(&str, Builtin)] = &[
    ("deb-systemd-helper", units::deb_systemd_helper),
    ("dpkg", dpkg::dpkg),
    ("dpkg-divert", diversions::dpkg_divert),
    ("dpkg-maintscript-helper", maintscript::dpkg_maintscript_helper),
    ("dpkg-statoverride", overrides::dpkg_statoverride),
    ("ssh-keygen", host_keys::ssh_keygen),
    ("update-ca-certificates", certificates::update_ca_certificates),
    ("update-rc.d", run_levels::update_rc_d),
];

/// The builtins that take the place of one absolute path, where the image has a regular file.
pub(super) const BY_PATH: &[(&str, Builtin)] = &[];
