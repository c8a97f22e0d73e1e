//! `update-rc.d`: links of init scripts, where no init system uses them.
//!
//! Declined: a script that is not the known one, insserv, OpenRC, a running systemd, `enable` and `disable`, init
//! scripts that are missing, odd names and run levels.

use super::answer::{Answer, Call, Peer};
use super::known;
use crate::build::stage::failure::Failure;
use crate::build::stage::root::Root;

const PROGRAM: &str = "/usr/sbin/update-rc.d";
/// The script of init-system-helpers 1.69.
const KNOWN: [&str; 1] = ["9a85792c1ee2714d34ad2f0dac9becd987cbaedbfe25519dede7378e6c9ebbf1"];
/// Other init systems, for which the script does more.
const OTHERS: [&str; 4] = ["/usr/lib/insserv", "/sbin/insserv", "/sbin/openrc", "/run/systemd/system"];

/// What is to be done.
enum Plan {
    Nothing,
    Remove(Vec<String>),
    /// Directories and links in them.
    Link(Vec<(String, String)>),
}

/// See the module.
pub(super) fn update_rc_d(call: &Call, root: &Root, _: &mut dyn Peer) -> Answer {
    root.forget();
    let words = call.words();
    let (Some(plan), Some(name)) = (plan(call, root), words.iter().find(|word| **word != "-f")) else {
        return Answer::Decline;
    };
    match apply(root, name, &plan) {
        Ok(()) => Answer::success(),
        Err(failure) => Answer::failed(call, &failure),
    }
}

fn apply(root: &Root, name: &str, plan: &Plan) -> Result<(), Failure> {
    match plan {
        Plan::Nothing => Ok(()),
        Plan::Remove(links) => links.iter().try_for_each(|link| root.remove(link)),
        Plan::Link(links) => links.iter().try_for_each(|(directory, link)| {
            root.make_directory(directory, 0o755)?;
            let path = format!("{directory}/{link}");
            match root.kind(&path)? {
                None => root.symlink(format!("../init.d/{name}").as_bytes(), &path),
                Some(_) => Ok(()),
            }
        }),
    }
}

fn plan(call: &Call, root: &Root) -> Option<Plan> {
    let odd = ["DPKG_ROOT", "_SKIP_SYSTEMD_NATIVE"];
    if odd.iter().any(|name| !call.variable(name).is_empty())
        // debconf sets `PERL_DL_NONLAZY`, which says when symbols are bound.
        || call.environment.keys().any(|name| name.starts_with("PERL") && name != "PERL_DL_NONLAZY")
        || !known::is(root, PROGRAM, &KNOWN).ok()?
    {
        return None;
    }
    for other in OTHERS {
        if root.follow(other).ok()?.is_some() {
            return None;
        }
    }
    let words = call.words();
    let (name, action) = match words.as_slice() {
        ["-f", name, action, ..] | [name, action, ..] => (*name, *action),
        _ => return None,
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    if name.is_empty() || name.starts_with(['-', '.']) || !name.bytes().all(plain) {
        return None;
    }
    let there = links(root, name)?;
    match action {
        "remove" => Some(Plan::Remove(there)),
        "defaults" | "defaults-disabled" if !there.is_empty() => Some(Plan::Nothing),
        "defaults" | "defaults-disabled" => {
            let (start, stop) = levels(root, name)?;
            let letter = if action == "defaults" { 'S' } else { 'K' };
            let start = start.iter().map(|level| (level, letter));
            let links = start.chain(stop.iter().map(|level| (level, 'K')));
            let links =
                links.map(|(level, letter)| (format!("/etc/rc{level}.d"), format!("{letter}01{name}")));
            Some(Plan::Link(links.collect()))
        }
        _ => None,
    }
}

/// The links that there are: `/etc/rc?.d/[SK][0-9][0-9]NAME`.
fn links(root: &Root, name: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    for directory in root.list("/etc").ok()?? {
        let Ok(directory) = String::from_utf8(directory) else { continue };
        let level = directory.strip_prefix("rc").and_then(|rest| rest.strip_suffix(".d"));
        if level.is_none_or(|level| level.chars().count() != 1) {
            continue;
        }
        for link in root.list(&format!("/etc/{directory}")).ok()?.unwrap_or_default() {
            let Ok(link) = String::from_utf8(link) else { continue };
            let number = link.strip_suffix(name).map(str::as_bytes);
            if matches!(number, Some([b'S' | b'K', b'0'..=b'9', b'0'..=b'9'])) {
                found.push(format!("/etc/{directory}/{link}"));
            }
        }
    }
    Some(found)
}

/// The run levels in which an init script says that it is started and stopped.
fn levels(root: &Root, name: &str) -> Option<(Vec<char>, Vec<char>)> {
    let path = format!("/etc/init.d/{name}");
    let text = root.read(&path).ok()??;
    let text = String::from_utf8_lossy(&text);
    let (mut start, mut stop) = (Vec::new(), Vec::new());
    let mut inside = false;
    for line in text.split('\n') {
        match line.trim_end() {
            "### BEGIN INIT INFO" => inside = true,
            "### END INIT INFO" => break,
            _ if !inside => {}
            _ => {
                for (field, levels) in [("# Default-Start:", &mut start), ("# Default-Stop:", &mut stop)] {
                    if let Some(value) = line.strip_prefix(field) {
                        levels.clear();
                        for level in value.split_whitespace() {
                            let mut characters = level.chars();
                            let level = characters.next().filter(|level| "0123456789S".contains(*level))?;
                            if characters.next().is_some() || levels.contains(&level) {
                                return None;
                            }
                            levels.push(level);
                        }
                    }
                }
            }
        }
    }
    Some((start, stop))
}
