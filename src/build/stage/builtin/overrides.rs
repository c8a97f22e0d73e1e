//! `dpkg-statoverride --list PATH`, when there is no override for the path.
//!
//! Declined: everything else.

use super::answer::{Answer, Call, Peer};
use super::text::is_plain_locale;
use crate::build::stage::root::Root;

const DATABASE: &str = "/var/lib/dpkg/statoverride";

/// See the module.
pub(super) fn dpkg_statoverride(call: &Call, root: &Root, _: &mut dyn Peer) -> Answer {
    root.forget();
    match has_override(call, root) {
        Some(false) => Answer::status(1),
        _ => Answer::Decline,
    }
}

/// Whether there is one; nothing when that is not certain.
fn has_override(call: &Call, root: &Root) -> Option<bool> {
    let words = call.words();
    let (["--list", path] | ["--quiet", "--list", path]) = words.as_slice() else { return None };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._+-".contains(&byte);
    // `DPKG_FORCE`, which dpkg sets for every script, says nothing to who only lists.
    if ["DPKG_ROOT", "DPKG_DEBUG"].iter().any(|name| !call.variable(name).is_empty())
        || !matches!(call.variable("DPKG_ADMINDIR"), "" | "/var/lib/dpkg")
        || !is_plain_locale(call)
        || !path.starts_with('/')
        || path.ends_with(['/', '.'])
        || !path.bytes().all(plain)
    {
        return None;
    }
    let text = root.read_text(DATABASE).ok()?.unwrap_or_default();
    for line in text.lines() {
        let [_, _, _, overridden] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
        if !overridden.starts_with('/') || overridden.starts_with("//") || overridden == *path {
            return None;
        }
    }
    (text.is_empty() || text.ends_with('\n')).then_some(false)
}
