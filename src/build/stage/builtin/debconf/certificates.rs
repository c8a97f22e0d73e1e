//! What ca-certificates' `.config` script does on a new system, without its two processes for each certificate.

use std::collections::BTreeSet;

use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::circumstances::exists;
use super::frontend::Frontend;
use super::protocol::{Module, Reply};
use super::store::Died;
use crate::build::stage::builtin::Call;
use crate::build::stage::root::{RESOLVE, Root};
use crate::digest::Sha256;

/// SHA-256 of the script of version 20250419 with an empty `CERTS_LIST`.
const SCRIPT_SHA256: &str = "e33b2a175d0f29e2d5c0bff198ef43f7a349995c989a1e02dc6422aca2735ebd";
/// Where certificates are.
const DIRECTORY: &str = "usr/share/ca-certificates";
/// Deepest directory below it, and most entries in all.
const MAX_DEPTH: usize = 8;
const MAX_ENTRIES: usize = 10_000;

/// Does what the script would do: its exit status. Nothing, and no effect, when this is not that script on a new
/// system.
pub(super) fn configure(
    frontend: &mut Frontend<'_>,
    call: &Call,
    script: &str,
    owner: &[u8],
) -> Result<Option<u8>, Died> {
    if !script.ends_with("/ca-certificates.config")
        || exists(frontend.root, "etc/ca-certificates.conf")
        || call.variable("DEBCONF_RECONFIGURE") == "1"
        || call.environment.contains_key("IFS")
    {
        return Ok(None);
    }
    frontend.root.forget();
    let Some(names) = names(frontend.root, script) else { return Ok(None) };
    let questions = ["title", "trust_new_crts", "enable_crts", "new_crts"];
    let there = questions.map(|name| frontend.store.exists(format!("ca-certificates/{name}").as_bytes()));
    // The question is answered with its default by the script itself; it has to be one of the choices, too.
    let trust = b"ca-certificates/trust_new_crts";
    if there.contains(&false)
        || frontend.store.value(trust) != b"yes"
        || frontend.store.any_field(trust, b"type") != b"select"
        || !frontend.store.choices(trust)?.contains(&b"yes".to_vec())
    {
        return Ok(None);
    }
    let mut module = Module::new(frontend, owner);
    let mut say = |line: &str| module.line(frontend, line.as_bytes());
    say("VERSION 2.0")?;
    say("CAPB multiselect")?;
    say("SETTITLE ca-certificates/title")?;
    say("INPUT medium ca-certificates/trust_new_crts")?;
    say("GO")?;
    let seen = say("FGET ca-certificates/enable_crts seen")? == Reply::Line(b"0 true".to_vec());
    let list = names.into_iter().collect::<Vec<_>>().join(", ");
    say("SUBST ca-certificates/new_crts new_crts ")?;
    say("FSET ca-certificates/new_crts seen true")?;
    say(&format!("SET ca-certificates/enable_crts {list}"))?;
    say(&format!("SUBST ca-certificates/enable_crts enable_crts {list}"))?;
    if !seen {
        say("FSET ca-certificates/enable_crts seen false")?;
    }
    say("INPUT low ca-certificates/enable_crts")?;
    say("GO")?;
    module.finish(frontend);
    Ok(Some(0))
}

/// The certificates that the script would find, in its order. Nothing when it is another script, or a name has what
/// the shell or `grep` would not take as it is.
fn names(root: &Root, script: &str) -> Option<BTreeSet<String>> {
    let text = root.read_text(script).ok()??;
    let (start, rest) = text.split_once("\nCERTS_LIST=\"")?;
    let (list, end) = rest.split_once("\"\n")?;
    if Sha256::of(format!("{start}\nCERTS_LIST=\"\"\n{end}")).to_string() != SCRIPT_SHA256 {
        return None;
    }
    let space = |character: char| character.is_ascii_whitespace() || character == '\x0b';
    let mut names: BTreeSet<String> =
        list.split(',').map(|name| name.trim_start_matches(space).to_owned()).collect();
    names.remove("");
    let mut left = MAX_ENTRIES;
    find(root, "", MAX_DEPTH, &mut left, &mut names)?;
    let plain = |name: &String| {
        let odd = |character: char| {
            character.is_control() || character.is_whitespace() || "*?[]\\\"'`$!<>|&;(),".contains(character)
        };
        !name.starts_with(['-', '#']) && !name.contains(odd)
    };
    (!names.is_empty() && names.iter().all(plain)).then_some(names)
}

/// Adds the regular files below a directory of certificates whose name ends in `.crt`.
fn find(
    root: &Root,
    below: &str,
    depth: usize,
    left: &mut usize,
    names: &mut BTreeSet<String>,
) -> Option<()> {
    let path = format!("{DIRECTORY}/{below}");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd =
        rustix::fs::openat2(root.fd(), path.trim_end_matches('/'), flags, Mode::empty(), RESOLVE).ok()?;
    for entry in Dir::read_from(&fd).ok()? {
        let entry = entry.ok()?;
        let name = entry.file_name().to_str().ok()?;
        if matches!(name, "." | "..") {
            continue;
        }
        *left = left.checked_sub(1)?;
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let stat = rustix::fs::statat(&fd, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
                FileType::from_raw_mode(stat.map_err(|_: Errno| ()).ok()?.st_mode)
            }
            kind => kind,
        };
        let inside = format!("{below}{name}");
        match kind {
            FileType::Directory => find(root, &format!("{inside}/"), depth.checked_sub(1)?, left, names)?,
            FileType::RegularFile if name.ends_with(".crt") => drop(names.insert(inside)),
            _ => {}
        }
    }
    Some(())
}
