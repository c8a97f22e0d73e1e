//! Programs that maintainer scripts call and that are done here instead, with the same effect and without a process.
//!
//! Scripts spend most of their time in a few helpers: a shell script that forks for each of 150 certificates, a Perl
//! program that is started thirty times to make one link. In a job, their names are found first in a directory of its
//! own on `PATH`, where each is the relay of the sandbox. That hands the call to this process and does what it answers.
//!
//! A builtin does only what it understands whole. Anything else it declines, before any effect, and the relay becomes
//! the image's own program. It also declines where that program is none of those it was compared with, by hash: an
//! update of the program turns the builtin off until it has been compared again. The comparison, byte by byte, is
//! `tests/builtin`, for debconf `debconf/differential`.
//!
//! Calls come from maintainer scripts, so nothing in them is trusted: paths are resolved by the kernel inside the
//! root, where the script itself could write as well; sizes are bounded.

mod adduser;
mod answer;
mod certificates;
mod debconf;
mod diversions;
#[doc(hidden)]
pub mod door;
mod dpkg;
mod host_keys;
mod known;
mod maintscript;
mod mime;
mod offer;
mod overrides;
mod run_levels;
mod text;
mod units;

pub(super) use answer::{Answer, Call, Output, Peer};
pub(super) use offer::Offer;

use super::root::Root;

/// Does what a program would have done, or declines.
pub(super) type Builtin = fn(&Call, &Root, &mut dyn Peer) -> Answer;

/// The builtins that are found by name on `PATH`.
pub(super) const BY_NAME: &[(&str, Builtin)] = &[
    ("addgroup", adduser::adduser),
    ("adduser", adduser::adduser),
    ("deb-systemd-helper", units::deb_systemd_helper),
    ("dpkg", dpkg::dpkg),
    ("dpkg-divert", diversions::dpkg_divert),
    ("dpkg-maintscript-helper", maintscript::dpkg_maintscript_helper),
    ("dpkg-statoverride", overrides::dpkg_statoverride),
    ("ssh-keygen", host_keys::ssh_keygen),
    ("update-ca-certificates", certificates::update_ca_certificates),
    ("update-mime-database", mime::update_mime_database),
    ("update-rc.d", run_levels::update_rc_d),
];

/// debconf's program is found by its path, which the relay covers; scripts look whether that is a regular file.
pub(super) const DEBCONF: &str = "/usr/share/debconf/frontend";
