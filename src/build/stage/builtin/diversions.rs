//! `dpkg-divert`: asking for diversions, and adding and removing them without touching the files.
//!
//! Declined: moving files, `--test`, `--help`, other directories, another locale, what dpkg would refuse or warn of
//! (clashes, mismatches, directories), removing what the package itself ships, odd paths and names.

use super::answer::{Answer, Call, Output, Peer};
use super::text::{is_plain_locale, is_simple_pattern, matches};
use crate::build::stage::root::{Attributes, Root};

const DATABASE: &str = "/var/lib/dpkg/diversions";
const BACKUP: &str = "/var/lib/dpkg/diversions-old";
/// dpkg writes its names in the order of a table with so many places.
const PLACES: u32 = 262_139;

/// A diversion: the path, where other packages' copies go, and the package that is spared, `:` for none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Diversion {
    from: String,
    to: String,
    package: String,
}

impl Diversion {
    fn describe(&self) -> String {
        let Self { from, to, package } = self;
        match package.as_str() {
            ":" => format!("local diversion of {from} to {to}"),
            _ => format!("diversion of {from} to {to} by {package}"),
        }
    }
}

/// See the module.
pub(super) fn dpkg_divert(call: &Call, root: &Root, _: &mut dyn Peer) -> Answer {
    root.forget();
    let Some(plan) = plan(call, root) else { return Answer::Decline };
    if let Some(diversions) = plan.write {
        let text: Vec<_> = diversions
            .iter()
            .map(|Diversion { from, to, package }| format!("{from}\n{to}\n{package}\n"))
            .collect();
        let written = match root.kind(DATABASE) {
            Ok(None) => root.remove(BACKUP),
            Ok(Some(_)) => root.hard_link(DATABASE, BACKUP),
            Err(failure) => Err(failure),
        };
        let written =
            written.and_then(|()| root.write(DATABASE, text.concat().as_bytes(), Attributes::of_root(0o644)));
        if let Err(failure) = written {
            return Answer::failed(call, &failure);
        }
    }
    Answer::Done(Output { stdout: plan.said.into_bytes(), ..Output::default() })
}

#[derive(Default)]
struct Plan {
    said: String,
    write: Option<Vec<Diversion>>,
}

/// The options and what is behind them.
#[derive(Default)]
struct Request<'a> {
    action: Option<&'a str>,
    to: Option<&'a str>,
    /// The package: not said, none (`:`), or one.
    package: Option<&'a str>,
    quiet: bool,
    no_rename: bool,
    rest: &'a [&'a str],
}

impl<'a> Request<'a> {
    fn parse(words: &'a [&'a str], call: &'a Call) -> Option<Self> {
        let mut request = Self::default();
        let mut words = words;
        while let Some((word, rest)) = words.split_first().filter(|(word, _)| word.starts_with('-')) {
            words = rest;
            let (name, mut value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (*word, None),
            };
            if matches!(name, "--divert" | "--package") && value.is_none() {
                let (next, rest) = words.split_first()?;
                (value, words) = (Some(*next), rest);
            }
            match (name, value) {
                ("--add" | "--remove" | "--list" | "--listpackage" | "--truename", None)
                    if request.action.is_none() =>
                {
                    request.action = Some(name);
                }
                ("--divert", Some(to)) if is_path(to) => request.to = Some(to),
                ("--package", Some(package)) if is_package(package) => request.package = Some(package),
                ("--local", None) => request.package = Some(":"),
                ("--quiet", None) => request.quiet = true,
                ("--no-rename", None) => request.no_rename = true,
                _ => return None,
            }
        }
        if request.package.is_none() {
            let package = call.environment.get("DPKG_MAINTSCRIPT_PACKAGE").map(String::as_str);
            if package.is_some_and(|package| !is_package(package)) {
                return None;
            }
            request.package = package;
        }
        request.rest = words;
        Some(request)
    }
}

fn is_package(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+.-".contains(&byte))
}

/// Whether dpkg takes a path for what it says, and hashes it as an unsigned text.
fn is_path(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let plain = path.len() < 900 && path.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    plain && !rest.is_empty() && !rest.starts_with('/') && !rest.starts_with("./")
}

fn plan(call: &Call, root: &Root) -> Option<Plan> {
    let directory = call.variable("DPKG_ADMINDIR");
    if !call.variable("DPKG_ROOT").is_empty()
        || !call.variable("DPKG_DEBUG").is_empty()
        || !matches!(directory, "" | "/var/lib/dpkg")
        || !is_plain_locale(call)
        || !root.is_file("/var/lib/dpkg/status").ok()?
    {
        return None;
    }
    let words = call.words();
    let request = Request::parse(&words, call)?;
    let diversions = read(root)?;
    let mut plan = Plan::default();
    if request.action == Some("--list") {
        if !request.rest.iter().all(|pattern| is_simple_pattern(pattern)) {
            return None;
        }
        let patterns = if request.rest.is_empty() { &["*"][..] } else { request.rest };
        for diversion in &diversions {
            let Diversion { from, to, package } = diversion;
            let names = [package, to, from];
            if patterns.iter().any(|pattern| names.iter().any(|name| matches(pattern, name))) {
                plan.said += &format!("{}\n", diversion.describe());
            }
        }
        return Some(plan);
    }
    let [path] = request.rest else { return None };
    if !is_path(path) {
        return None;
    }
    match request.action {
        Some("--truename") => {
            let found = diversions.iter().find(|diversion| diversion.from == *path);
            plan.said = format!("{}\n", found.map_or(*path, |diversion| &diversion.to));
        }
        Some("--listpackage") => {
            if let Some(found) = diversions.iter().find(|found| found.from == *path || found.to == *path) {
                let package = if found.package == ":" { "LOCAL" } else { &found.package };
                plan.said = format!("{package}\n");
            }
        }
        Some("--remove") if request.no_rename => {
            remove(&request, path, diversions, root, &mut plan)?;
        }
        Some("--add") | None if request.no_rename => add(&request, path, diversions, root, &mut plan)?,
        _ => return None,
    }
    Some(plan)
}

/// The diversions in the order in which dpkg goes through them.
fn read(root: &Root) -> Option<Vec<Diversion>> {
    let text = root.read_text(DATABASE).ok()?.unwrap_or_default();
    if !text.is_empty() && !text.ends_with('\n') {
        return None;
    }
    let lines: Vec<_> = text.lines().collect();
    let (groups, rest) = lines.as_chunks::<3>();
    let mut found = Vec::new();
    for [from, to, package] in groups {
        if !is_path(from) || !is_path(to) || *package != ":" && !is_package(package) {
            return None;
        }
        found.push(Diversion { from: (*from).into(), to: (*to).into(), package: (*package).into() });
    }
    let mut names: Vec<_> = found.iter().flat_map(|found| [&found.from, &found.to]).collect();
    names.sort();
    let unique = names.windows(2).all(|pair| pair[0] != pair[1]);
    (rest.is_empty() && unique).then(|| sorted(found)).flatten()
}

fn sorted(mut diversions: Vec<Diversion>) -> Option<Vec<Diversion>> {
    diversions.sort_by_key(|diversion| place(&diversion.from));
    // Two in one place stand in the order in which dpkg first heard of them.
    let alone = diversions.windows(2).all(|pair| place(&pair[0].from) != place(&pair[1].from));
    alone.then_some(diversions)
}

/// Where dpkg's table has a path: FNV-1a of 32 bits without the first slash.
fn place(path: &str) -> u32 {
    let bytes = path.bytes().skip(1);
    bytes.fold(2_166_136_261_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619)) % PLACES
}

fn add(
    request: &Request<'_>,
    path: &str,
    mut diversions: Vec<Diversion>,
    root: &Root,
    plan: &mut Plan,
) -> Option<()> {
    use rustix::fs::FileType;
    let to = request.to.map_or_else(|| format!("{path}.distrib"), str::to_owned);
    let (parent, _) = path.rsplit_once('/')?;
    let odd_parent = root.follow(parent).ok()?.is_some() && !root.is_directory(parent).ok()?;
    if to == path || odd_parent || root.kind(path).ok()? == Some(FileType::Directory) {
        return None;
    }
    let new = Diversion { from: path.to_owned(), to, package: request.package.unwrap_or(":").to_owned() };
    let said = if diversions.contains(&new) {
        format!("Leaving '{}'\n", new.describe())
    } else {
        let names = [&new.from, &new.to];
        if diversions.iter().any(|old| names.contains(&&old.from) || names.contains(&&old.to)) {
            return None;
        }
        let said = format!("Adding '{}'\n", new.describe());
        diversions.push(new);
        plan.write = Some(sorted(diversions)?);
        said
    };
    if !request.quiet {
        plan.said = said;
    }
    Some(())
}

fn remove(
    request: &Request<'_>,
    path: &str,
    mut diversions: Vec<Diversion>,
    root: &Root,
    plan: &mut Plan,
) -> Option<()> {
    let said = match diversions.iter().position(|diversion| diversion.from == path) {
        None => {
            let to = request.to.map(|to| format!(" to {to}")).unwrap_or_default();
            let what = match request.package {
                None => format!("any diversion of {path}{to}"),
                Some(":") => format!("local diversion of {path}{to}"),
                Some(package) => format!("diversion of {path}{to} by {package}"),
            };
            format!("No diversion '{what}', none removed.\n")
        }
        Some(at) => {
            let found = diversions.remove(at);
            let mismatch = request.to.is_some_and(|to| to != found.to)
                || request.package.is_some_and(|package| package != found.package);
            if mismatch || ships(root, request.package, path)? {
                return None;
            }
            plan.write = Some(diversions);
            format!("Removing '{}'\n", found.describe())
        }
    };
    if !request.quiet {
        plan.said = said;
    }
    Some(())
}

/// Whether a package, of any architecture, has the path in its list.
fn ships(root: &Root, package: Option<&str>, path: &str) -> Option<bool> {
    let Some(package) = package else { return Some(false) };
    for name in root.list("/var/lib/dpkg/info").ok()?? {
        let Ok(name) = String::from_utf8(name) else { continue };
        let Some(rest) = name.strip_prefix(package).and_then(|rest| rest.strip_suffix(".list")) else {
            continue;
        };
        if rest.is_empty() || rest.starts_with(':') {
            let list = root.read(&format!("/var/lib/dpkg/info/{name}")).ok()??;
            if list.split(|byte| *byte == b'\n').any(|line| line == path.as_bytes()) {
                return Some(true);
            }
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_the_hash() {
        // The published value of FNV-1a for `a`.
        assert_eq!(place("/a"), 0xe40c_292c % PLACES);
        assert!(is_path("/.lib32.usr-is-merged") && !is_path("//a") && !is_path("/./a") && !is_path("a"));
    }
}
