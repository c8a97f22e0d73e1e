//! `update-ca-certificates`: links to trusted certificates, their hash links, and one bundle of them all.
//!
//! Declined: every option but `--fresh` and `--hooksdir` with nothing, a script that is not the known one, hooks, a
//! configuration that is missing or odd, a directory with anything but certificates and links, certificates that are
//! not strict PEM and DER.

mod directory;
mod rehash;
mod x509;

use directory::{Directory, Entry};

use super::answer::{Answer, Call, Output, Peer};
use super::known;
use super::text::is_plain_locale;
use crate::build::stage::root::Root;

const PROGRAM: &str = "/usr/sbin/update-ca-certificates";
/// The script of ca-certificates 20250419.
const KNOWN: [&str; 1] = ["2cb06c85b5f01c4f6b72c3983d9f66d44aac0a7ac997ee55e7e429aedbc3934d"];
const CONFIGURATION: &str = "/etc/ca-certificates.conf";
const PACKAGED: &str = "/usr/share/ca-certificates";
const LOCAL: &str = "/usr/local/share/ca-certificates";
const CERTIFICATES: &str = "/etc/ssl/certs";
const HOOKS: &str = "/etc/ca-certificates/update.d";
const BUNDLE: &str = "ca-certificates.crt";
/// Where the bundle is gathered.
const NEW_BUNDLE: &str = "ca-certificates.crt.new";
/// Directories below `LOCAL` that are searched.
const MAX_DEPTH: usize = 16;

/// See the module.
pub(super) fn update_ca_certificates(call: &Call, root: &Root, _: &mut dyn Peer) -> Answer {
    root.forget();
    let Some(plan) = plan(call, root) else { return Answer::Decline };
    match plan.directory.commit() {
        Ok(()) => Answer::Done(plan.output),
        Err(failure) => Answer::failed(call, &failure),
    }
}

struct Plan<'a> {
    directory: Directory<'a>,
    output: Output,
}

fn plan<'a>(call: &Call, root: &'a Root) -> Option<Plan<'a>> {
    let (mut fresh, mut hooks) = (false, true);
    let mut words = call.arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--fresh" | "-f" => fresh = true,
            "--hooksdir" if words.next()?.is_empty() => hooks = false,
            _ => return None,
        }
    }
    let odd = ["TMPDIR", "OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES", "POSIXLY_CORRECT"];
    let openssl = root.is_file("/usr/bin/openssl").ok()?;
    if odd.iter().any(|name| call.environment.contains_key(*name))
        || !openssl
        || !known::is(root, PROGRAM, &KNOWN).ok()?
        || !root.is_directory("/tmp").ok()?
        || root.follow("/sbin/restorecon").ok()?.is_some()
    {
        return None;
    }
    let hooks = hooks && root.is_directory(HOOKS).ok()?;
    if hooks && !root.list(HOOKS).ok()??.is_empty() {
        return None;
    }
    let configuration = root.read_text(CONFIGURATION).ok()??;
    if !configuration.is_empty() && !configuration.ends_with('\n') {
        return None;
    }
    fresh |= configuration.is_empty();
    let mut directory = Directory::read(root)?;
    // The script would add to what an interrupted run left.
    if directory.entries.contains_key(NEW_BUNDLE) {
        return None;
    }
    let mut output = Output::default();
    let mut say = |text: String| output.stdout.extend(text.into_bytes());
    if fresh {
        clear(&mut directory)?;
        say(format!("Clearing symlinks in {CERTIFICATES}...\ndone.\n"));
    }
    say(format!("Updating certificates in {CERTIFICATES}...\n"));
    let mut removed = 0;
    for line in configuration.lines().filter_map(|line| line.strip_prefix('!')) {
        let name = format!("{}.pem", stem(entry(line)?));
        if matches!(directory.entries.get(&name), Some(Entry::Link(_))) {
            directory.entries.remove(&name);
            removed += 1;
        }
    }
    let mut missing = String::new();
    let mut adding = Adding { root, directory, added: 0, bundle: Vec::new() };
    for line in configuration.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '!'])) {
        let path = format!("{PACKAGED}/{}", entry(line)?);
        if root.is_file(&path).ok()? {
            adding.add(&path)?;
        } else {
            missing += &format!("W: {path} not found, but listed in {CONFIGURATION}.\n");
        }
    }
    let mut local = Vec::new();
    if root.is_directory(LOCAL).ok()? {
        local_certificates(root, LOCAL, 0, &mut local)?;
    }
    // `sort` goes by the locale.
    if local.len() > 1 && !is_plain_locale(call) {
        return None;
    }
    local.sort();
    for path in local {
        adding.add(&path)?;
    }
    let Adding { mut directory, added, bundle, .. } = adding;
    let mut said = String::new();
    if added > 0 || removed > 0 {
        remove_orphans(&mut directory)?;
        said = rehash::rehash(&mut directory)?;
    }
    if !bundle.is_empty() {
        if matches!(directory.entries.get(BUNDLE), Some(Entry::Link(_))) {
            return None;
        }
        directory.entries.insert(BUNDLE.into(), Entry::New(bundle));
    }
    say(format!("{added} added, {removed} removed; done.\n"));
    if hooks {
        say(format!("Running hooks in {HOOKS}...\ndone.\n"));
    }
    output.stderr = (missing + &said).into_bytes();
    Some(Plan { directory, output })
}

/// Takes away the links to certificates, then those that lead nowhere.
fn clear(directory: &mut Directory<'_>) -> Option<()> {
    directory.entries.retain(|_, entry| {
        !matches!(entry, Entry::Link(target) if target.starts_with(PACKAGED) || target.starts_with(LOCAL))
    });
    remove_orphans(directory)
}

fn remove_orphans(directory: &mut Directory<'_>) -> Option<()> {
    let links = directory.entries.iter().filter(|(_, entry)| matches!(entry, Entry::Link(_)));
    for name in links.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
        if !directory.has_file(&name)? {
            directory.entries.remove(&name);
        }
    }
    Some(())
}

/// A line of the configuration that means what it says: `read` and `sed` leave it as it is.
fn entry(line: &str) -> Option<&str> {
    let odd = |c: char| c.is_control() || "\\'\"`$*?[]{}<>|;&!#~^".contains(c);
    let whole = !line.is_empty() && line.trim() == line && !line.starts_with('-') && !line.contains(odd);
    let parts = line.split('/').all(|part| !matches!(part, "" | "." | ".."));
    (whole && parts && line.ends_with(".crt") && !line.ends_with("/.crt")).then_some(line)
}

/// The name of a certificate's file without its ending.
fn stem(path: &str) -> &str {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    name.strip_suffix(".crt").unwrap_or(name)
}

/// What is added.
struct Adding<'a> {
    root: &'a Root,
    directory: Directory<'a>,
    added: u32,
    bundle: Vec<u8>,
}

impl Adding<'_> {
    fn add(&mut self, path: &str) -> Option<()> {
        let name = stem(path).replace([' ', ','], "_").replace(['(', ')'], "=") + ".pem";
        let bytes = self.root.read(path).ok()??;
        let there = matches!(self.directory.entries.get(&name), Some(Entry::Link(target)) if target == path);
        if !there || !self.directory.has_file(&name)? {
            self.directory.entries.insert(name, Entry::Link(path.to_owned()));
            self.added += 1;
        }
        self.bundle.extend(&bytes);
        if bytes.last().is_some_and(|last| *last != b'\n') {
            self.bundle.push(b'\n');
        }
        Some(())
    }
}

/// The certificates that an administrator put there; nothing when there is a link or an odd name.
fn local_certificates(root: &Root, directory: &str, depth: usize, found: &mut Vec<String>) -> Option<()> {
    use rustix::fs::FileType;
    for name in root.list(directory).ok()?? {
        let name = String::from_utf8(name).ok()?;
        let path = format!("{directory}/{name}");
        match root.kind(&path).ok()?? {
            FileType::Directory if depth < MAX_DEPTH => local_certificates(root, &path, depth + 1, found)?,
            FileType::RegularFile if name.ends_with(".crt") => {
                entry(&name)?;
                found.push(path);
            }
            FileType::RegularFile => {}
            _ => return None,
        }
    }
    Some(())
}
