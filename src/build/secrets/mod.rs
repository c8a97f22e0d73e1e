//! Looks for secrets in an image: private keys, password hashes, tokens, passwords in known files.
//!
//! Two kinds of rules. Those of [`content`](self) look at bytes alone and find forms that nothing else has, each with
//! its whole shape: the name of a form (`$6$`, `AKIA`) stands in many programs, a hash or key does not. Those of
//! files look at configuration only, line by line, and know what a line of such a file means.
//! Content rules depend on nothing but the bytes, so a content that was found clean once stays clean.

mod assignment;
mod clean;
mod der;
mod files;
mod forms;
mod keys;
mod searched;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

use rayon::prelude::*;

use crate::digest::Sha256;
use crate::tree::{Content, Contents, Tree, TreePath};

pub use clean::CleanContents;
pub(crate) use clean::{SCANS, check_scan};
pub use searched::{Clean, Searched};

/// Version of the content rules. What was clean under other rules says nothing.
pub const RULES: u32 = 1;

/// Most findings that are told of one file.
const MAX_FINDINGS: usize = 20;

/// Places whose files hold sample keys and passwords by nature, and that no program reads.
const DOCUMENTATION: [&str; 3] = ["usr/share/doc/", "usr/share/info/", "usr/share/man/"];
/// Directories of packages below /usr/lib and /usr/share with the same: tests, and the descriptions of Python's
/// packages.
const SAMPLES: [&str; 7] =
    ["/test/", "/tests/", "/testdata/", "/test_data/", "/examples/", ".dist-info/", ".egg-info/"];
/// Lines that look like secrets and are none, by file.
const KNOWN_LINES: [(&str, &str); 1] = [
    // OpenSSL's sample of a client of a public test server.
    ("etc/ssl/openssl.cnf", "secret = pass:insta"),
];

/// What sort of secret was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretKind {
    /// A private key, be it encrypted or not.
    PrivateKey,
    /// A hash of a password.
    PasswordHash,
    /// An account that anybody can log in to.
    EmptyPassword,
    /// A private or preshared key of WireGuard.
    WireguardKey,
    /// A password of a wireless network.
    WifiPassword,
    /// A token or key that gives access to a service.
    Token,
    /// A password as such.
    Password,
}

impl fmt::Display for SecretKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PrivateKey => "private key",
            Self::PasswordHash => "password hash",
            Self::EmptyPassword => "account without password",
            Self::WireguardKey => "WireGuard key",
            Self::WifiPassword => "Wi-Fi password",
            Self::Token => "token",
            Self::Password => "password",
        })
    }
}

/// A secret in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What sort of secret.
    pub kind: SecretKind,
    /// Line, from 1.
    pub line: u64,
    /// By what it was recognised, without the secret itself.
    pub why: String,
}

/// A secret in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The file.
    pub path: TreePath,
    /// What it holds.
    pub finding: Finding,
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { kind, line, why } = &self.finding;
        write!(f, "{}:{line}: {kind}: {why}", self.path)
    }
}

/// What a scan of an image found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// All secrets, in order of paths and lines.
    pub findings: Vec<Located>,
    /// Contents in which the content rules found nothing, those known before included.
    pub clean: BTreeSet<Sha256>,
}

/// An image has secrets in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there are secrets in the image; make them at the first boot or hand them over when deploying:{}",
    .0.iter().map(|found| format!("\n  {found}")).collect::<String>()
)]
pub struct SecretsFound(pub Vec<Located>);

impl Report {
    /// The clean contents, if nothing was found.
    ///
    /// # Errors
    /// All secrets that were found.
    pub fn into_clean(self) -> Result<BTreeSet<Sha256>, SecretsFound> {
        if self.findings.is_empty() { Ok(self.clean) } else { Err(SecretsFound(self.findings)) }
    }
}

/// A place in a file's bytes that looks like a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hit {
    offset: usize,
    kind: SecretKind,
    why: String,
}

impl Hit {
    fn new(offset: usize, kind: SecretKind, why: impl Into<String>) -> Self {
        Self { offset, kind, why: why.into() }
    }
}

/// Scans all files of a tree. `already_clean` are contents that an earlier scan with the same [`RULES`] found clean.
///
/// # Errors
/// When a content cannot be read.
pub fn scan(tree: &Tree, contents: &dyn Contents, already_clean: &BTreeSet<Sha256>) -> io::Result<Report> {
    let mut by_content: BTreeMap<&Content, Vec<&TreePath>> = BTreeMap::new();
    for (path, node) in tree {
        if let Some(content) = node.content().filter(|content| content.size > 0) {
            by_content.entry(content).or_default().push(path);
        }
    }
    let by_content: Vec<_> = by_content.into_iter().collect();
    let scanned: Vec<_> = by_content
        .par_iter()
        .map(|(content, paths)| {
            let known = already_clean.contains(&content.sha256);
            if known && !paths.iter().any(|path| files::has_rules(path)) {
                return Ok((true, Vec::new()));
            }
            let bytes = contents.read(content)?;
            let hits = if known { Vec::new() } else { content_hits(&bytes) };
            let located = |path: &&TreePath| {
                let findings = findings(path, &bytes, &hits).into_iter();
                findings.map(|finding| Located { path: (*path).clone(), finding }).collect::<Vec<_>>()
            };
            Ok((hits.is_empty(), paths.iter().flat_map(located).collect()))
        })
        .collect::<io::Result<_>>()?;
    let mut report = Report::default();
    for ((content, _), (clean, findings)) in by_content.iter().zip(scanned) {
        if clean {
            report.clean.insert(content.sha256);
        }
        report.findings.extend(findings);
    }
    report.findings.sort_by(|a, b| (&a.path, a.finding.line).cmp(&(&b.path, b.finding.line)));
    Ok(report)
}

/// Scans one file.
pub fn scan_content(path: &TreePath, bytes: &[u8]) -> Vec<Finding> {
    findings(path, bytes, &content_hits(bytes))
}

/// What the rules that need no path find.
///
/// Programs and libraries are left out: they carry the keys of their self-tests (GnuTLS), a hash to compare with when
/// there is no such user (sshd), and the names of all forms; nobody keeps a secret there.
fn content_hits(bytes: &[u8]) -> Vec<Hit> {
    if bytes.starts_with(b"\x7fELF") || bytes.starts_with(b"!<arch>\n") {
        return Vec::new();
    }
    let mut hits = keys::whole_file(bytes);
    forms::search(bytes, &mut hits);
    hits
}

/// Whether what is found in a file is there for show.
fn is_sample(path: &TreePath) -> bool {
    let path = String::from_utf8_lossy(path.as_bytes());
    let of_package = path.starts_with("usr/lib/") || path.starts_with("usr/share/");
    DOCUMENTATION.iter().any(|place| path.starts_with(place))
        || of_package && SAMPLES.iter().any(|part| path.contains(part))
}

fn is_known_line(path: &TreePath, bytes: &[u8], offset: usize) -> bool {
    KNOWN_LINES.iter().any(|(file, line)| {
        path.as_bytes() == file.as_bytes() && bytes[offset..].starts_with(line.as_bytes())
    })
}

fn findings(path: &TreePath, bytes: &[u8], hits: &[Hit]) -> Vec<Finding> {
    if is_sample(path) {
        return Vec::new();
    }
    let mut hits = hits.to_vec();
    files::search(path, bytes, &mut hits);
    hits.retain(|hit| !is_known_line(path, bytes, hit.offset));
    hits.sort_by_key(|hit| hit.offset);
    let mut findings: Vec<Finding> = Vec::new();
    let (mut line, mut counted) = (1, 0);
    for hit in hits {
        line += bytes[counted..hit.offset].iter().filter(|byte| **byte == b'\n').count() as u64;
        counted = hit.offset;
        if !findings.iter().any(|finding| finding.line == line && finding.kind == hit.kind) {
            findings.push(Finding { kind: hit.kind, line, why: hit.why });
        }
        if findings.len() == MAX_FINDINGS {
            break;
        }
    }
    // `PrivateKey = …` is a token by its name too, but what it really is says more.
    let vague = |kind| matches!(kind, SecretKind::Token | SecretKind::Password);
    let named: BTreeSet<u64> =
        findings.iter().filter(|other| !vague(other.kind)).map(|other| other.line).collect();
    findings.retain(|finding| !(vague(finding.kind) && named.contains(&finding.line)));
    findings
}

#[cfg(test)]
mod tests;
