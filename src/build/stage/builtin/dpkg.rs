//! `dpkg --compare-versions` and `dpkg --validate-version`, which scripts ask all the time.
//!
//! Declined: everything else that `dpkg` does, options, versions that it would warn of or refuse.

use std::cmp::Ordering;

use super::answer::{Answer, Call, Peer};
use crate::apt::version::{self, compare};
use crate::build::stage::root::Root;

/// Longest version that is looked at, in bytes.
const MAX_VERSION: usize = 200;

/// See the module.
pub(super) fn dpkg(call: &Call, _: &Root, _: &mut dyn Peer) -> Answer {
    answer(call).unwrap_or(Answer::Decline)
}

fn answer(call: &Call) -> Option<Answer> {
    // `DPKG_FORCE`, which dpkg sets for every script, says nothing to these two.
    if ["DPKG_DEBUG", "POSIXLY_CORRECT"].iter().any(|name| !call.variable(name).is_empty()) {
        return None;
    }
    let words = call.words();
    match words.as_slice() {
        ["--validate-version", "--", version] | ["--validate-version", version] => {
            is_valid(version).then(Answer::success)
        }
        ["--compare-versions", "--", left, relation, right]
        | ["--compare-versions", left, relation, right] => {
            holds(left, relation, right).map(|holds| Answer::status(u8::from(!holds)))
        }
        _ => None,
    }
}

/// Whether dpkg takes it for a version without a word.
pub(super) fn is_valid(text: &str) -> bool {
    let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
    let small = epoch.len() < 10 && !epoch.starts_with(['+', '-']);
    version::is_valid(text)
        && text.len() <= MAX_VERSION
        && small
        && !text.starts_with('-')
        && rest.starts_with(|first: char| first.is_ascii_digit())
}

/// Whether a relation holds; nothing when dpkg would complain.
fn holds(left: &str, relation: &str, right: &str) -> Option<bool> {
    let usable = |version: &str| version.is_empty() || is_valid(version);
    // Old spellings, and those with a meaning of their own for no version at all.
    let (wanted, empty_is_last): (&[Ordering], bool) = match relation {
        "lt" | "<<" => (&[Ordering::Less], false),
        "le" | "<=" => (&[Ordering::Less, Ordering::Equal], false),
        "eq" | "=" => (&[Ordering::Equal], false),
        "ne" => (&[Ordering::Less, Ordering::Greater], false),
        "ge" | ">=" => (&[Ordering::Greater, Ordering::Equal], false),
        "gt" | ">>" => (&[Ordering::Greater], false),
        "lt-nl" => (&[Ordering::Less], true),
        "le-nl" => (&[Ordering::Less, Ordering::Equal], true),
        "ge-nl" => (&[Ordering::Greater, Ordering::Equal], true),
        "gt-nl" => (&[Ordering::Greater], true),
        _ => return None,
    };
    if !usable(left) || !usable(right) {
        return None;
    }
    let order = match (left.is_empty(), right.is_empty()) {
        (true, true) => Ordering::Equal,
        (true, false) => {
            if empty_is_last {
                Ordering::Greater
            } else {
                Ordering::Less
            }
        }
        (false, true) => {
            if empty_is_last {
                Ordering::Less
            } else {
                Ordering::Greater
            }
        }
        (false, false) => compare(left, right),
    };
    Some(wanted.contains(&order))
}
