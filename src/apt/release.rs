//! The Release file of a suite: its identity, its dates, and the hashes of its indices.
//!
//! In: text whose signature was checked. Out: a [`Release`]. It never fetches anything.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::control::{ControlError, stanzas};
use crate::digest::Sha256;

/// The most files that one Release may list. Debian's lists about 1,400.
const ENTRY_LIMIT: usize = 50_000;

/// A parsed Release file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// `Origin` (`Debian`).
    pub origin: Option<String>,
    /// `Suite` (`stable`).
    pub suite: Option<String>,
    /// `Codename` (`trixie`).
    pub codename: Option<String>,
    /// `Date`: when it was signed.
    pub date: Timestamp,
    /// `Valid-Until`: from then on it must not be used.
    pub valid_until: Option<Timestamp>,
    /// `Components` (`main`; `updates/main` in Debian's security archive). Without the field, those of the indices.
    pub components: Vec<String>,
    /// `Architectures`. Without the field, those of the indices.
    pub architectures: Vec<String>,
    /// Whether indices can be fetched by their hash.
    pub acquire_by_hash: bool,
    /// Whether packages for all architectures are in each architecture's own index (`No-Support-for-Architecture-all`).
    pub all_in_each: bool,
    /// Size and hash of each index, by its path below the suite's directory.
    pub files: BTreeMap<String, Listed>,
}

/// What a Release file says of one index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its hash.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub size: u64,
}

/// The text is no Release file that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// It is no deb822 text.
    #[error("the Release file cannot be read: {0}")]
    Control(#[from] ControlError),
    /// It is not exactly one paragraph.
    #[error("the Release file has {found} paragraphs, expected 1")]
    Paragraphs {
        /// How many it has.
        found: usize,
    },
    /// A field that is needed is not there.
    #[error("the Release file has no field `{field}`")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A date cannot be read.
    #[error("the Release file has `{field}: {value}`, expected a date like `Sat, 12 Sep 2026 07:55:41 UTC`")]
    Date {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// A line below `SHA256` is not "hash size path".
    #[error("the Release file lists `{line}`, expected a SHA-256 hash, a size and a path inside the suite")]
    Entry {
        /// The line.
        line: String,
    },
    /// A path is listed twice with different contents.
    #[error("the Release file lists `{path}` twice with different hashes")]
    Twice {
        /// The path.
        path: String,
    },
    /// It lists more files than any Release does.
    #[error("the Release file lists more than {limit} files")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

impl Release {
    /// Reads a Release file from `text`, the signed part of an InRelease.
    ///
    /// # Errors
    /// When a field that is needed is missing or cannot be read.
    pub fn parse(text: &str) -> Result<Self, ReleaseError> {
        let paragraphs = stanzas(text).take(2).collect::<Result<Vec<_>, _>>()?;
        let [stanza] = paragraphs.as_slice() else {
            return Err(ReleaseError::Paragraphs { found: paragraphs.len() });
        };
        let words = |field: &str| -> Option<Vec<String>> {
            Some(stanza.get(field)?.split_whitespace().map(str::to_owned).collect())
        };
        let date = |field: &'static str| match stanza.get(field) {
            Some(value) => parse_date(value)
                .map(Some)
                .ok_or_else(|| ReleaseError::Date { field, value: value.chars().take(80).collect() }),
            None => Ok(None),
        };
        let mut files = BTreeMap::new();
        stanza.get("SHA256").ok_or(ReleaseError::Missing { field: "SHA256" })?;
        for line in stanza.lines("SHA256") {
            let (path, listed) = parse_entry(line)
                .ok_or_else(|| ReleaseError::Entry { line: line.chars().take(120).collect() })?;
            if files.insert(path.to_owned(), listed).is_some_and(|before| before != listed) {
                return Err(ReleaseError::Twice { path: path.to_owned() });
            }
            if files.len() > ENTRY_LIMIT {
                return Err(ReleaseError::TooMany { limit: ENTRY_LIMIT });
            }
        }
        let listed = indices(&files);
        let (listed_components, listed_architectures): (BTreeSet<_>, BTreeSet<_>) =
            listed.into_iter().unzip();
        let no_support = stanza.get("No-Support-for-Architecture-all").unwrap_or_default();
        Ok(Self {
            origin: stanza.get("Origin").map(str::to_owned),
            suite: stanza.get("Suite").map(str::to_owned),
            codename: stanza.get("Codename").map(str::to_owned),
            date: date("Date")?.ok_or(ReleaseError::Missing { field: "Date" })?,
            valid_until: date("Valid-Until")?,
            components: words("Components").unwrap_or_else(|| listed_components.into_iter().collect()),
            architectures: words("Architectures")
                .unwrap_or_else(|| listed_architectures.into_iter().collect()),
            acquire_by_hash: stanza.get("Acquire-By-Hash").is_some_and(|value| value == "yes"),
            all_in_each: no_support.split_whitespace().any(|word| word == "Packages"),
            files,
        })
    }

    /// Whether this is the suite that a recipe calls `wanted`: its `Suite` or its `Codename`.
    pub fn is_suite(&self, wanted: &str) -> bool {
        [&self.suite, &self.codename].into_iter().flatten().any(|name| name == wanted)
    }

    /// Whether it has the component `wanted`. Debian's security archive writes `updates/main` for `main`.
    pub fn has_component(&self, wanted: &str) -> bool {
        let short = |name: &String| name == wanted || name.rsplit('/').next() == Some(wanted);
        self.components.iter().any(short)
    }

    /// Whether it has packages for `architecture`.
    pub fn has_architecture(&self, architecture: &str) -> bool {
        self.architectures.iter().any(|name| name == architecture)
    }
}

/// Component and architecture of each package index that is listed.
fn indices(files: &BTreeMap<String, Listed>) -> BTreeSet<(String, String)> {
    let index = |path: &String| {
        let (directory, name) = path.rsplit_once('/')?;
        let (component, last) = directory.rsplit_once('/')?;
        let architecture = last.strip_prefix("binary-")?;
        let index = matches!(name, "Packages" | "Packages.xz" | "Packages.gz");
        index.then(|| (component.to_owned(), architecture.to_owned()))
    };
    files.keys().filter_map(index).collect()
}

/// A date as apt writes it: RFC 2822 with `UTC` or `GMT`.
fn parse_date(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let zoned = jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp());
    // Some tools write the zone as a bare `Z`.
    zoned.or_else(|| {
        jiff::fmt::rfc2822::parse(&format!("{} UTC", text.strip_suffix('Z')?.trim_end()))
            .ok()
            .map(|z| z.timestamp())
    })
}

/// "hash size path", where the path stays inside the suite's directory.
fn parse_entry(line: &str) -> Option<(&str, Listed)> {
    let mut words = line.split_whitespace();
    let (sha256, size, path) = (words.next()?, words.next()?, words.next()?);
    let path = path.strip_prefix("./").unwrap_or(path);
    let inside = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if words.next().is_some() || !inside {
        return None;
    }
    Some((path, Listed { sha256: sha256.parse().ok()?, size: size.parse().ok()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn release(extra: &str) -> Result<Release, ReleaseError> {
        Release::parse(&format!(
            "Origin: Debian\nSuite: stable-security\nCodename: trixie-security\n\
             Date: Sat, 21 Nov 2026 00:53:03 UTC\nAcquire-By-Hash: yes\nArchitectures: amd64 i386\n\
             Components: updates/main updates/contrib\nSHA256:\n {EMPTY} 0 main/binary-amd64/Packages\n{extra}"
        ))
    }

    #[test]
    fn reads_what_debian_writes() {
        let release = release("Valid-Until: Sat, 28 Nov 2026 00:53:03 UTC\n").unwrap();
        assert!(release.is_suite("trixie-security") && release.is_suite("stable-security"));
        assert!(!release.is_suite("trixie"));
        assert!(release.has_component("main") && !release.has_component("non-free"));
        assert!(release.has_architecture("amd64") && !release.has_architecture("all"));
        assert_eq!(release.date.to_string(), "2026-11-21T00:53:03Z");
        assert_eq!(release.valid_until.unwrap().to_string(), "2026-11-28T00:53:03Z");
        assert!(release.acquire_by_hash);
        assert_eq!(release.files["main/binary-amd64/Packages"].size, 0);
    }

    #[test]
    fn indices_say_what_fields_leave_out() {
        let text = format!(
            "Codename: trixie\nDate: Sat, 21 Nov 2026 00:53:03 +0000\nSHA256:\n {EMPTY} 0 ./main/binary-amd64/Packages.gz\n \
             {EMPTY} 0 extra/binary-arm64/Packages\n {EMPTY} 0 main/binary-amd64/Release\n"
        );
        let release = Release::parse(&text).unwrap();
        assert_eq!(release.components, ["extra", "main"]);
        assert_eq!(release.architectures, ["amd64", "arm64"]);
        assert!(release.is_suite("trixie") && !release.acquire_by_hash && release.valid_until.is_none());
    }

    #[test]
    fn refuses_what_cannot_be_used() {
        let message = |extra: &str| release(extra).unwrap_err().to_string();
        insta::assert_snapshot!(message(" x 0 a\n"), @"the Release file lists `x 0 a`, expected a SHA-256 hash, a size and a path inside the suite");
        insta::assert_snapshot!(message(&format!(" {EMPTY} 0 ../a\n")), @"the Release file lists `e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 ../a`, expected a SHA-256 hash, a size and a path inside the suite");
        insta::assert_snapshot!(message(&format!(" {EMPTY} 1 main/binary-amd64/Packages\n")), @"the Release file lists `main/binary-amd64/Packages` twice with different hashes");
        insta::assert_snapshot!(message("Valid-Until: tomorrow\n"), @"the Release file has `Valid-Until: tomorrow`, expected a date like `Sat, 12 Sep 2026 07:55:41 UTC`");
        insta::assert_snapshot!(message("\nOrigin: Debian\n"), @"the Release file has 2 paragraphs, expected 1");
        insta::assert_snapshot!(Release::parse("Origin: a\n").unwrap_err(), @"the Release file has no field `SHA256`");
    }
}
