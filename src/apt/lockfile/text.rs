//! The lock as text: one package a line, sorted, sealed by its own hash.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Lock, LockedPackage, LockedTarball, SetMember, VERSION};
use crate::digest::Sha256;

const HEADING: &str = "\
# What every archive and every list of recipes resolved to. Written by `build-images lock` and
# `build-images update`; a change by hand breaks the seal in the last line.
";
const SEAL: &str = "# seal: ";
/// Longest lock that is read, in bytes.
const MAX_LENGTH: usize = 64 << 20;

/// The lock cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockFileError {
    /// It is longer than any lock should be.
    #[error("it has {0} bytes; at most {MAX_LENGTH} are read")]
    TooLong(usize),
    /// It is no TOML of this form.
    #[error("line {line}: {message}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// Another program version wrote it.
    #[error("it has format {0}, this program reads format {VERSION}")]
    Version(u32),
    /// Somebody edited it, or two versions were merged.
    #[error(
        "it was changed by hand: its contents hash to {found}, its last line says {expected}; \
         undo the change, or delete the file and run `build-images lock`"
    )]
    BrokenSeal {
        /// What the last line says, or `nothing`.
        expected: String,
        /// The hash of all lines before it.
        found: Sha256,
    },
    /// Its parts do not belong together.
    #[error("{0}")]
    Inconsistent(String),
}

impl Lock {
    /// Reads a lock.
    ///
    /// # Errors
    /// See [`LockFileError`].
    pub fn parse(text: &str) -> Result<Self, LockFileError> {
        if text.len() > MAX_LENGTH {
            return Err(LockFileError::TooLong(text.len()));
        }
        let (body, seal) = match text.rfind(SEAL) {
            Some(place) => (&text[..place], text[place + SEAL.len()..].trim_end()),
            None => (text, "nothing"),
        };
        let found = Sha256::of(body);
        let lock: Self = toml::from_str(body).map_err(|error| {
            let before = error.span().map_or("", |span| body.get(..span.start).unwrap_or_default());
            LockFileError::Syntax {
                line: before.matches('\n').count() + 1,
                message: error.message().to_owned(),
            }
        })?;
        if lock.version != VERSION {
            return Err(LockFileError::Version(lock.version));
        }
        if seal != found.to_string() {
            return Err(LockFileError::BrokenSeal { expected: seal.chars().take(64).collect(), found });
        }
        lock.check()?;
        Ok(lock)
    }

    fn check(&self) -> Result<(), LockFileError> {
        let fail = |message: String| Err(LockFileError::Inconsistent(message));
        let archives: BTreeSet<_> = self.archive.iter().map(|archive| archive.name.as_str()).collect();
        for package in &self.package {
            let LockedPackage { name, path, archive, .. } = package;
            if !archives.contains(archive.as_str()) {
                return fail(format!("package `{name}` comes from archive `{archive}`, which is not locked"));
            }
            let bad = |part: &str| part.is_empty() || part == "." || part == "..";
            if path.contains("://") || path.contains(['\\', '\0', '?', '#']) || path.split('/').any(bad) {
                return fail(format!("package `{name}` has `{path}`, which is no path inside an archive"));
            }
        }
        let names: BTreeSet<_> = self.tarball.iter().map(|tarball| tarball.name.as_str()).collect();
        if names.len() != self.tarball.len() || archives.len() != self.archive.len() {
            return fail("an archive or a tarball has two rows".to_owned());
        }
        let rows: BTreeSet<_> =
            self.package.iter().map(|row| (&row.name, &row.version, &row.architecture)).collect();
        if rows.len() != self.package.len() {
            return fail("a package has two rows".to_owned());
        }
        for member in self.set.iter().flat_map(|set| &set.packages) {
            let SetMember { name, version, architecture, .. } = member;
            if !rows.contains(&(name, version, architecture)) {
                return fail(format!("a set has `{name}` {version} for {architecture}, which has no row"));
            }
        }
        Ok(())
    }

    /// Brings every list into its order and drops rows that no set names.
    #[must_use]
    pub fn tidy(mut self) -> Self {
        self.version = VERSION;
        self.set.sort_by(|a, b| a.recipes.cmp(&b.recipes));
        for set in &mut self.set {
            set.packages.sort_by(|a, b| (&a.name, &a.architecture).cmp(&(&b.name, &b.architecture)));
        }
        let members = self.set.iter().flat_map(|set| &set.packages);
        let named: BTreeSet<_> = members.map(|m| (&m.name, &m.version, &m.architecture)).collect();
        self.package.retain(|row| named.contains(&(&row.name, &row.version, &row.architecture)));
        self.package.sort();
        self.package.dedup();
        self.tarball.sort();
        self.archive.sort_by(|a, b| a.name.cmp(&b.name));
        self
    }

    /// The text to write. The lock should be [`Lock::tidy`].
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADING}version = {}\n\npackage = [\n", self.version);
        // Writing to a String cannot fail, so the results of `write!` carry nothing.
        for package in &self.package {
            let LockedPackage { name, version, architecture, archive, suite, path, size, sha256 } = package;
            let _ = writeln!(
                text,
                "  {{ name = {}, version = {}, architecture = {}, archive = {}, suite = {}, path = {}, \
                 size = {size}, sha256 = \"{sha256}\" }},",
                quote(name),
                quote(version),
                quote(architecture),
                quote(archive),
                quote(suite),
                quote(path)
            );
        }
        text.push_str("]\n");
        if !self.tarball.is_empty() {
            text.push_str("\ntarball = [\n");
            for LockedTarball { name, url, size, sha256 } in &self.tarball {
                let (name, url) = (quote(name), quote(url));
                let _ = writeln!(
                    text,
                    "  {{ name = {name}, url = {url}, size = {size}, sha256 = \"{sha256}\" }},"
                );
            }
            text.push_str("]\n");
        }
        for archive in &self.archive {
            let _ = write!(
                text,
                "\n[[archive]]\nname = {}\nuri = {}\ndefinition = \"{}\"\n",
                quote(&archive.name),
                quote(&archive.uri),
                archive.definition
            );
            for suite in &archive.suite {
                let _ = write!(
                    text,
                    "\n[[archive.suite]]\nname = {}\ndate = {}\n",
                    quote(&suite.name),
                    quote(&suite.date)
                );
                if let Some(until) = &suite.valid_until {
                    let _ = writeln!(text, "valid_until = {}", quote(until));
                }
                let _ = writeln!(text, "inrelease = \"{}\"", suite.inrelease);
                let _ = writeln!(text, "signed_by = {}", quote_list(&suite.signed_by));
            }
        }
        for set in &self.set {
            let _ = write!(text, "\n[[set]]\nrecipes = {}\n", quote_list(&set.recipes));
            if set.alone {
                text.push_str("alone = true\n");
            }
            if set.unresolved {
                text.push_str("unresolved = true\n");
            }
            let _ = write!(text, "request = \"{}\"\npackages = [\n", set.request);
            for SetMember { name, version, architecture, reason, by } in &set.packages {
                let _ = write!(
                    text,
                    "  {{ name = {}, version = {}, architecture = {}, reason = \"{reason}\"",
                    quote(name),
                    quote(version),
                    quote(architecture)
                );
                if let Some(by) = by {
                    let _ = write!(text, ", by = {}", quote(by));
                }
                text.push_str(" },\n");
            }
            text.push_str("]\n");
        }
        text.push('\n');
        let seal = Sha256::of(&text);
        let _ = writeln!(text, "{SEAL}{seal}");
        text
    }
}

fn quote(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn quote_list(items: &[String]) -> String {
    let quoted: Vec<_> = items.iter().map(|item| quote(item)).collect();
    format!("[{}]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apt::lockfile::{LockedArchive, LockedSuite, PackageSet, Reason};

    fn example() -> Lock {
        let digest = Sha256::of("x");
        let package = |name: &str, version: &str| LockedPackage {
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            archive: "debian".into(),
            suite: "trixie".into(),
            path: format!("pool/main/{name}/{name}_1%3a2_amd64.deb"),
            size: 12,
            sha256: digest,
        };
        let member = |name: &str, version: &str, by: Option<&str>| SetMember {
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            reason: if by.is_some() { Reason::Depends } else { Reason::Requested },
            by: by.map(str::to_owned),
        };
        let suite = LockedSuite {
            name: "trixie".into(),
            date: "2026-09-12T08:30:00Z".into(),
            valid_until: Some("2026-09-19T08:30:00Z".into()),
            inrelease: digest,
            signed_by: vec!["AB".into()],
        };
        let archive = LockedArchive {
            name: "debian".into(),
            uri: "https://snapshot.debian.org/archive/debian/{timestamp}/".into(),
            definition: digest,
            suite: vec![suite],
        };
        let set = PackageSet {
            recipes: vec!["base".into(), "app".into()],
            alone: false,
            unresolved: true,
            request: digest,
            packages: vec![member("b", "2:1~\"", Some("a")), member("a", "1", None)],
        };
        let tarball = |name: &str| LockedTarball {
            name: name.into(),
            url: format!("https://example.org/{name}-1.0.tar.gz?raw=\"1\""),
            size: 7,
            sha256: digest,
        };
        Lock {
            version: 0,
            package: vec![package("b", "2:1~\""), package("unused", "1"), package("a", "1")],
            tarball: vec![tarball("tool"), tarball("extra")],
            archive: vec![archive],
            set: vec![set],
        }
        .tidy()
    }

    #[test]
    fn text_round_trips_and_is_readable() {
        let lock = example();
        let text = lock.to_text();
        assert_eq!(Lock::parse(&text).unwrap(), lock);
        assert!(!text.contains("unused"));
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_change_by_hand_breaks_the_seal() {
        let text = example().to_text();
        let edited = text.replacen("size = 12", "size = 13", 1);
        assert!(matches!(Lock::parse(&edited), Err(LockFileError::BrokenSeal { .. })));
        let unsealed = text.replace(SEAL, "# ");
        assert!(matches!(Lock::parse(&unsealed), Err(LockFileError::BrokenSeal { .. })));
    }

    #[test]
    fn parts_that_do_not_belong_together_are_named_even_under_a_new_seal() {
        let errors: Vec<_> = [
            |lock: &mut Lock| lock.package[0].path = "../../etc/passwd".into(),
            |lock: &mut Lock| lock.package[0].path = "https://example.org/a.deb".into(),
            |lock: &mut Lock| lock.package[0].archive = "other".into(),
            |lock: &mut Lock| lock.set[0].packages[0].version = "9".into(),
            |lock: &mut Lock| lock.tarball[1].name = "extra".into(),
            |lock: &mut Lock| lock.version = 2,
        ]
        .into_iter()
        .map(|spoil: fn(&mut Lock)| {
            let mut lock = example();
            spoil(&mut lock);
            Lock::parse(&lock.to_text()).unwrap_err().to_string()
        })
        .collect();
        insta::assert_snapshot!(errors.join("\n"));
    }

    #[test]
    fn broken_toml_is_named_by_line() {
        let error = Lock::parse("version = 1\npackage = [ {} ]\n").unwrap_err();
        assert!(matches!(error, LockFileError::Syntax { line: 2, .. }), "{error}");
    }
}
