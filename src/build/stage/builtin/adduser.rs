//! `adduser` and `addgroup` for system users and groups: names and ids are chosen here, and the image's `groupadd`, `useradd`
//! and `usermod` make them.
//!
//! Declined: programs that are not the known ones, a configuration that sets anything, names from elsewhere than passwd and
//! group, given ids, users who are no system users, homes that would have to be made, and whatever the program would
//! complain of.

use std::io::{self, Read as _};
use std::net::Shutdown;

use rustix::fs::FileType;

use super::answer::{Answer, Call, Output, Peer};
use super::known;
use super::text::is_plain_locale;
use crate::build::stage::root::{Attributes, Root};

/// The program and its modules, as in adduser 3.152.
const KNOWN: [(&str, &str); 4] = [
    ("/usr/sbin/adduser", "16c0383967a1f56fc023a02d98064a2778576d9c27152c85b64ed1f9a7a1a127"),
    (
        "/usr/share/perl5/Debian/AdduserCommon.pm",
        "cebffd7d51af1b07bcef4e79b21a6078e030f103886e11ddf3858db4d037ae71",
    ),
    (
        "/usr/share/perl5/Debian/AdduserLogging.pm",
        "61f70264cc9bc1ca895df9eb56f37c1ff8f8b598f8560b963ae9e4afa68bf930",
    ),
    (
        "/usr/share/perl5/Debian/AdduserRetvalues.pm",
        "c702a5ca3c6770b3b5db79c14fb60953503948b830dd368614db6d9da3447c0d",
    ),
];
const CONFIGURATION: &str = "/etc/adduser.conf";
const LOCK: &str = "/run/adduser";
/// Ids of system users and groups, where the configuration says nothing.
const SYSTEM: std::ops::RangeInclusive<u32> = 100..=999;
/// Where the program searches for others.
const PATH: &str = "/bin:/usr/bin:/sbin:/usr/sbin";
const NOBODY_HOME: &str = "/nonexistent";
const MAX_NAME: usize = 32;
/// Most that a program is listened to, in bytes.
const MAX_SAID: u64 = 1 << 20;
/// How the program ends when one that it started failed, took the name for an invalid one, or was ended by a signal.
const FAILED: u8 = 82;
const INVALID_NAME: u8 = 32;
const SIGNAL: u8 = 83;

/// Programs to start, one after the other, each with its arguments.
type Plan = Vec<(String, Vec<String>)>;

/// See the module.
pub(super) fn adduser(call: &Call, root: &Root, peer: &mut dyn Peer) -> Answer {
    root.forget();
    let Some(plan) = plan(call, root) else { return Answer::Decline };
    let there = root.kind(LOCK).is_ok_and(|kind| kind.is_some());
    if !there && let Err(failure) = root.write(LOCK, b"", Attributes::of_root(0o644)) {
        return Answer::failed(call, &failure);
    }
    for (program, arguments) in &plan {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let status = match start(call, peer, program, &arguments) {
            Ok(status) => status,
            Err(error) => {
                let stderr = format!("{}: cannot run {program}: {error}\n", call.program).into_bytes();
                return Answer::Done(Output { status: 1, stdout: Vec::new(), stderr });
            }
        };
        if status != 0 {
            return Answer::Done(complaint(program, &arguments, status));
        }
    }
    Answer::success()
}

/// What adduser says of a `program` that failed. Of `usermod` it expects no complaint about a name.
fn complaint(program: &str, arguments: &[&str], status: u8) -> Output {
    let command = [&[program], arguments].concat().join(" ");
    let (status, text) = match status {
        19 if !program.ends_with("/usermod") => {
            let text = "refused the given user name. This is a bug in adduser. Please file a bug report.";
            (INVALID_NAME, format!("err: `{command}' {text}\n"))
        }
        // As whoever waits for a program counts signals.
        129.. => (SIGNAL, format!("fatal: `{command}' exited from signal {}. Exiting.\n", status - 128)),
        _ => (FAILED, format!("fatal: `{command}' returned error code {status}. Exiting.\n")),
    };
    Output { status, stdout: Vec::new(), stderr: text.into_bytes() }
}

/// Runs a program in the caller's place, without input.
fn start(call: &Call, peer: &mut dyn Peer, program: &str, arguments: &[&str]) -> io::Result<u8> {
    let quiet = if call.arguments.iter().any(|word| word == "--quiet") { "0" } else { "" };
    let environment = [
        ("PATH", PATH),
        ("IFS", " \t\n"),
        ("ENV", ""),
        ("BASH_ENV", ""),
        ("CDPATH", ""),
        ("VERBOSE", quiet),
        ("DEBUG", quiet),
    ];
    let stream = peer.start(program, arguments, &environment)?;
    stream.shutdown(Shutdown::Write)?;
    let mut said = Vec::new();
    stream.take(MAX_SAID).read_to_end(&mut said)?;
    if !said.is_empty() {
        peer.write(1, &said)?;
    }
    peer.wait()
}

/// What is asked for.
#[derive(Default)]
struct Wanted<'a> {
    name: Option<&'a str>,
    system: bool,
    /// A group of the user's own.
    group: bool,
    in_group: Option<&'a str>,
    home: Option<&'a str>,
    no_home: bool,
    shell: Option<&'a str>,
    comment: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn read(call: &'a Call) -> Option<Self> {
        let mut wanted = Self::default();
        let mut words = call.arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let (option, mut value) = match word.split_once('=') {
                Some((option, value)) => (option, Some(value)),
                None => (word, None),
            };
            let takes = |value: Option<&'a str>, words: &mut dyn Iterator<Item = &'a str>| {
                value.or_else(|| words.next()).filter(|value| !value.is_empty() && !value.starts_with('-'))
            };
            let slot = match option {
                "--home" => &mut wanted.home,
                "--shell" => &mut wanted.shell,
                "--ingroup" => &mut wanted.in_group,
                "--comment" | "--gecos" => &mut wanted.comment,
                _ => {
                    match option {
                        "--system" => wanted.system = true,
                        "--group" => wanted.group = true,
                        "--no-create-home" => wanted.no_home = true,
                        // Names that need to be allowed are declined.
                        "--quiet"
                        | "--disabled-login"
                        | "--disabled-password"
                        | "--force-badname"
                        | "--allow-badname"
                        | "--allow-bad-names" => {}
                        _ if !option.starts_with('-') && wanted.name.is_none() => wanted.name = Some(option),
                        _ => return None,
                    }
                    if value.take().is_some() {
                        return None;
                    }
                    continue;
                }
            };
            *slot = Some(takes(value, &mut words)?);
        }
        Some(wanted)
    }
}

fn plan(call: &Call, root: &Root) -> Option<Plan> {
    let odd = ["ADDUSER_LOGTRACE", "POSIXLY_CORRECT"];
    if odd.iter().any(|name| call.environment.contains_key(*name))
        // debconf sets `PERL_DL_NONLAZY`, which says when symbols are bound.
        || call.environment.keys().any(|name| name.starts_with("PERL") && name != "PERL_DL_NONLAZY")
        || !is_plain_locale(call)
        || !is_as_known(root)?
    {
        return None;
    }
    let wanted = Wanted::read(call)?;
    let name = wanted.name.filter(|name| is_name(name))?;
    if !wanted.system {
        return None;
    }
    let users = Accounts::read(root, "/etc/passwd", 7)?;
    let groups = Accounts::read(root, "/etc/group", 4)?;
    if call.program == "addgroup" {
        let of_user = wanted.in_group.or(wanted.home).or(wanted.shell).or(wanted.comment);
        if of_user.is_some() || wanted.no_home {
            return None;
        }
        return match groups.id(name) {
            Some(id) => SYSTEM.contains(&id).then(Plan::new),
            None => Some(vec![groupadd(root, name, groups.free()?)?]),
        };
    }
    match users.id(name) {
        Some(id) => SYSTEM.contains(&id).then(Plan::new),
        None => add(root, &wanted, name, &users, &groups),
    }
}

/// Makes a user.
fn add(root: &Root, wanted: &Wanted<'_>, name: &str, users: &Accounts, groups: &Accounts) -> Option<Plan> {
    let mut plan = Plan::new();
    let id = users.free()?;
    let group = match (wanted.group, wanted.in_group) {
        (true, Some(_)) => return None,
        (true, None) => {
            // It is chosen before it is looked whether the group is there.
            let free = groups.free()?;
            if groups.id(name).is_none() {
                plan.push(groupadd(root, name, free)?);
            }
            name
        }
        (false, Some(group)) => {
            groups.id(group).filter(|_| is_name(group))?;
            group
        }
        (false, None) => groups.name(groups.id("nogroup").filter(|id| *id != 0).unwrap_or(65534))?,
    };
    let home = wanted.home.unwrap_or(NOBODY_HOME);
    let shell = wanted.shell.unwrap_or("/usr/sbin/nologin");
    if !is_path(home) || !is_path(shell) {
        return None;
    }
    let nowhere = home.strip_prefix(NOBODY_HOME).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if !nowhere && !wanted.no_home && root.follow(home).ok()?.is_none() {
        return None;
    }
    let least = format!("SYS_UID_MIN={}", SYSTEM.start());
    let most = format!("SYS_UID_MAX={}", SYSTEM.end());
    let id = id.to_string();
    let arguments = ["-r", "-K", &least, "-K", &most, "-d", home, "-g", group, "-s", shell, "-u", &id, name];
    plan.push((program(root, "useradd")?, arguments.map(str::to_owned).into()));
    if let Some(comment) = wanted.comment {
        if !comment.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b':') {
            return None;
        }
        plan.push((program(root, "usermod")?, ["-c", comment, name].map(str::to_owned).into()));
    }
    Some(plan)
}

fn groupadd(root: &Root, name: &str, id: u32) -> Option<(String, Vec<String>)> {
    Some((program(root, "groupadd")?, vec!["-g".to_owned(), id.to_string(), name.to_owned()]))
}

/// Where a program is found.
fn program(root: &Root, name: &str) -> Option<String> {
    let paths = PATH.split(':').map(|directory| format!("{directory}/{name}"));
    for path in paths {
        if let Some(found) = root.follow(&path).ok()?
            && FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
            && found.st_mode & 0o111 != 0
        {
            return Some(path);
        }
    }
    None
}

/// Whether program and circumstances are those that were compared.
fn is_as_known(root: &Root) -> Option<bool> {
    for (path, hash) in KNOWN {
        if !known::is(root, path, &[hash]).ok()? {
            return Some(false);
        }
    }
    if root.read_link("/usr/sbin/addgroup").ok()?? != b"adduser" {
        return Some(false);
    }
    let configuration = root.read_text(CONFIGURATION).ok()??;
    let says = |line: &str| !line.starts_with('#') && !line.trim().is_empty();
    let services = root.read_text("/etc/nsswitch.conf").ok()??;
    let from_files = |database: &str| {
        let mut lines = services.lines().filter_map(|line| line.trim().strip_prefix(database));
        lines.next().is_some_and(|rest| rest.trim() == "files") && lines.next().is_none()
    };
    let lock = root.kind(LOCK).ok()?;
    Some(
        !configuration.lines().any(says)
            && from_files("passwd:")
            && from_files("group:")
            && root.is_directory("/run").ok()?
            && lock.is_none_or(|kind| kind == FileType::RegularFile)
            // Where there is a log, the program writes to it.
            && root.follow("/dev/log").ok()?.is_none(),
    )
}

/// Names that need no option to be allowed.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    let first = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    name.as_bytes().first().is_some_and(first) && name.len() <= MAX_NAME && name.bytes().all(plain)
}

fn is_path(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte);
    path.starts_with('/') && path.bytes().all(plain)
}

/// The names and ids of passwd or group.
struct Accounts(Vec<(String, u32)>);

impl Accounts {
    /// Nothing when a line is not as the C library takes it whole.
    fn read(root: &Root, path: &str, fields: usize) -> Option<Self> {
        let text = root.read_text(path).ok()??;
        let account = |line: &str| {
            let parts: Vec<_> = line.split(':').collect();
            // Other lines begin with a blank, and names for other sources with a sign.
            let named = parts[0].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
            let whole = parts.len() == fields && named && !parts[2].is_empty();
            let number = parts.get(2).filter(|id| whole && id.bytes().all(|byte| byte.is_ascii_digit()));
            Some((parts[0].to_owned(), number?.parse().ok()?))
        };
        let whole = text.is_empty() || text.ends_with('\n');
        text.lines().map(account).collect::<Option<_>>().filter(|_| whole).map(Self)
    }

    fn id(&self, name: &str) -> Option<u32> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, id)| *id)
    }

    fn name(&self, id: u32) -> Option<&str> {
        self.0.iter().find(|(_, other)| *other == id).map(|(name, _)| name.as_str())
    }

    /// The first id of the system's that nobody has.
    fn free(&self) -> Option<u32> {
        SYSTEM.clone().find(|id| self.name(*id).is_none())
    }
}
