//! `dpkg-maintscript-helper` in a fresh installation, where it checks its arguments and does nothing.
//!
//! Declined: a script that is not the known one, upgrades, removals, leftovers of an upgrade, colours, debugging, and
//! every argument that the script would complain of.

use super::answer::{Answer, Call, Peer};
use super::{dpkg, known};
use crate::build::stage::root::Root;

const PROGRAM: &str = "/usr/bin/dpkg-maintscript-helper";
/// The script of dpkg 1.22, without its line `version=`.
const KNOWN: [&str; 1] = ["38332eeb93429116ca41265b6df8b173d5e3f79016d13d8ec4e613f2bdbef581"];
const COMMANDS: [&str; 4] = ["rm_conffile", "mv_conffile", "symlink_to_dir", "dir_to_symlink"];

/// See the module.
pub(super) fn dpkg_maintscript_helper(call: &Call, root: &Root, _: &mut dyn Peer) -> Answer {
    root.forget();
    answer(call, root).unwrap_or(Answer::Decline)
}

fn answer(call: &Call, root: &Root) -> Option<Answer> {
    let odd = ["DPKG_ROOT", "DPKG_DEBUG", "DPKG_DATADIR", "DPKG_COLORS", "PROGNAME", "POSIXLY_CORRECT"];
    if odd.iter().any(|name| !call.variable(name).is_empty())
        || call.variable("DPKG_MAINTSCRIPT_PACKAGE").is_empty()
        || !known::is_but_version(root, PROGRAM, &KNOWN).ok()?
    {
        return None;
    }
    let script = call.variable("DPKG_MAINTSCRIPT_NAME");
    let words = call.words();
    let (command, words) = words.split_first()?;
    if *command == "supports" {
        let supported = words.first().is_some_and(|command| COMMANDS.contains(command));
        return (!script.is_empty()).then(|| Answer::status(u8::from(!supported)));
    }
    let dashes = words.iter().position(|word| *word == "--")?;
    let (given, script_words) = (&words[..dashes], &words[dashes + 1..]);
    let fresh = matches!(
        (script, script_words),
        ("preinst", ["install"] | ["install", ""]) | ("postinst", ["configure"] | ["configure", ""])
    );
    // What the command is about, and how many of its words come before the version.
    let (paths, first): (&[&str], usize) = match (*command, given) {
        ("rm_conffile", [conffile, ..]) => (&[*conffile], 1),
        ("mv_conffile", [old, new, ..]) => (&[*old, *new], 2),
        ("symlink_to_dir", [link, target, ..]) if !link.ends_with('/') && !target.is_empty() => (&[*link], 2),
        ("dir_to_symlink", [directory, target, ..]) if !target.is_empty() => (&[*directory], 2),
        _ => return None,
    };
    let absolute = paths.iter().all(|path| path.starts_with('/') && path.len() > 1);
    let version = given.get(first).copied().unwrap_or_default();
    if !fresh || !absolute || given.len() > first + 2 || !version.is_empty() && !dpkg::is_valid(version) {
        return None;
    }
    // What an upgrade left is cleaned up in any postinst.
    if script == "postinst" && *command != "rm_conffile" && *command != "mv_conffile" {
        let backup = format!("{}.dpkg-backup", paths[0].strip_suffix('/').unwrap_or(paths[0]));
        if root.kind(&backup).ok()?.is_some() {
            return None;
        }
    }
    Some(Answer::success())
}
