//! The packages of a stage: opened, compared with the lock, their control files read.

use std::fs::File;
use std::path::Path;

use rayon::prelude::*;

use super::failure::Failure;
use super::job::StagePackage;
use crate::apt::control::{self, Stanza};
use crate::apt::deb::{Control, Deb};
use crate::apt::relation::groups;
use crate::digest::Sha256;

/// One package that is about to be installed.
pub(super) struct Package {
    pub name: String,
    pub version: String,
    pub architecture: String,
    pub essential: bool,
    /// What its files in `info/` begin with: the name, with the architecture when several may be installed.
    pub stem: String,
    pub control: Control,
    pub deb: Deb,
    pub conffiles: Vec<Conffile>,
    pub triggers: Vec<TriggerLine>,
}

/// A line of `conffiles`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conffile {
    /// Absolute.
    pub path: String,
    /// To be removed when upgrading: nothing is shipped.
    pub remove_on_upgrade: bool,
}

/// An interest of a package in a trigger. What it activates, dpkg reads itself when it configures the package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TriggerLine {
    /// Name or absolute path.
    pub trigger: String,
    /// Whoever activates it need not wait.
    pub noawait: bool,
}

impl Package {
    /// The stanza of the control file.
    pub fn stanza(&self) -> Stanza<'_> {
        parse(&self.control.text).unwrap_or_default()
    }

    /// The maintainer script `name`, if there is one.
    pub fn has_script(&self, name: &str) -> bool {
        self.control.file(name).is_some()
    }
}

/// Reads and checks all packages, in parallel.
pub(super) fn load_all(wanted: &[StagePackage], files: Vec<File>) -> Result<Vec<Package>, Failure> {
    if wanted.len() != files.len() {
        let reason = format!("expected {} packages, got {} descriptors", wanted.len(), files.len());
        return Err(Failure::Worker { reason });
    }
    wanted.par_iter().zip(files).map(|(wanted, file)| load(wanted, file)).collect()
}

fn load(wanted: &StagePackage, file: File) -> Result<Package, Failure> {
    let bad = |reason: String| Failure::BadPackage { package: wanted.name.clone(), reason };
    let mismatch = |field: &str, expected: &str, found: &str| Failure::Mismatch {
        package: wanted.name.clone(),
        field: field.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    };
    let (found, size) =
        Sha256::of_reader(ReadAt { file: &file, offset: 0, left: wanted.size.saturating_add(1) })
            .map_err(|error| bad(error.to_string()))?;
    if size != wanted.size {
        return Err(mismatch("size", &wanted.size.to_string(), &size.to_string()));
    }
    if found != wanted.sha256 {
        return Err(mismatch("SHA-256", &wanted.sha256.to_string(), &found.to_string()));
    }
    let deb = Deb::open(file).map_err(|error| bad(error.to_string()))?;
    let control = deb.control().map_err(|error| bad(error.to_string()))?;
    let stanza = parse(&control.text).map_err(|reason| bad(format!("its control file: {reason}")))?;
    let fields =
        [("Package", &wanted.name), ("Version", &wanted.version), ("Architecture", &wanted.architecture)];
    for (field, expected) in fields {
        let found = stanza.get(field).unwrap_or_default();
        if found != expected {
            return Err(mismatch(field, expected, found));
        }
    }
    for field in ["Depends", "Pre-Depends", "Replaces", "Provides"] {
        let relation = groups(stanza.get(field).unwrap_or_default());
        relation.map_err(|error| bad(format!("its field `{field}`: {error}")))?;
    }
    let same = stanza.get("Multi-Arch") == Some("same");
    let stem = if same { format!("{}:{}", wanted.name, wanted.architecture) } else { wanted.name.clone() };
    let essential = stanza.get("Essential") == Some("yes");
    let text = |name: &str| match control.file(name) {
        Some(file) => std::str::from_utf8(&file.bytes).map_err(|_| bad(format!("its `{name}` is not UTF-8"))),
        None => Ok(""),
    };
    let conffiles = text("conffiles")?.lines().filter(|line| !line.trim().is_empty());
    let conffiles = conffiles.map(|line| {
        parse_conffile(line).ok_or_else(|| bad(format!("its `conffiles` has the line `{line}`")))
    });
    let conffiles = conffiles.collect::<Result<_, _>>()?;
    let triggers = parse_triggers(text("triggers")?).map_err(&bad)?;
    Ok(Package {
        name: wanted.name.clone(),
        version: wanted.version.clone(),
        architecture: wanted.architecture.clone(),
        essential,
        stem,
        conffiles,
        triggers,
        control,
        deb,
    })
}

/// The only stanza of a control file.
fn parse(text: &str) -> Result<Stanza<'_>, String> {
    let mut stanzas = control::stanzas(text);
    let first = stanzas.next().ok_or("it is empty")?.map_err(|error| error.to_string())?;
    if stanzas.next().is_some() {
        return Err("it has more than one stanza".into());
    }
    Ok(first)
}

fn parse_conffile(line: &str) -> Option<Conffile> {
    let line = line.trim_end();
    let (path, remove_on_upgrade) = match line.strip_prefix("remove-on-upgrade ") {
        Some(path) => (path.trim(), true),
        None => (line, false),
    };
    let valid = Path::new(path).is_absolute() && !path.contains('\0');
    valid.then(|| Conffile { path: path.to_owned(), remove_on_upgrade })
}

/// The interests that a `triggers` file declares.
fn parse_triggers(text: &str) -> Result<Vec<TriggerLine>, String> {
    let mut interests = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let mut words = line.split_whitespace();
        let (Some(directive), trigger) = (words.next(), words.next()) else { continue };
        let bad = || format!("its `triggers` has the line `{line}`");
        let trigger = trigger.filter(|_| words.next().is_none()).ok_or_else(bad)?;
        let noawait = match directive {
            "interest" | "interest-await" => false,
            "interest-noawait" => true,
            "activate" | "activate-await" | "activate-noawait" => continue,
            _ => return Err(bad()),
        };
        // A name without a slash becomes a file name in the database.
        let valid = match trigger.strip_prefix('/') {
            Some(rest) => rest.split('/').all(|part| !matches!(part, "" | "." | "..")),
            None => {
                !trigger.starts_with('.')
                    && !trigger.contains('/')
                    && !["File", "Lock", "Unincorp"].contains(&trigger)
            }
        };
        if !valid {
            return Err(bad());
        }
        interests.push(TriggerLine { trigger: trigger.to_owned(), noawait });
    }
    Ok(interests)
}

/// Reads a file from an offset, whatever its position is.
struct ReadAt<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl std::io::Read for ReadAt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        use std::os::unix::fs::FileExt as _;
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..wanted], self.offset)?;
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_files_are_read_strictly() {
        let conffile = |path: &str, remove_on_upgrade| Conffile { path: path.into(), remove_on_upgrade };
        assert_eq!(parse_conffile("/etc/a b"), Some(conffile("/etc/a b", false)));
        assert_eq!(parse_conffile("remove-on-upgrade /etc/a"), Some(conffile("/etc/a", true)));
        assert_eq!(parse_conffile("etc/a"), None);

        let triggers = "# x\ninterest-noawait /usr/share/mime\ninterest ldconfig # y\nactivate-noawait z\n";
        let line = |trigger: &str, noawait| TriggerLine { trigger: trigger.into(), noawait };
        assert_eq!(
            parse_triggers(triggers).unwrap(),
            [line("/usr/share/mime", true), line("ldconfig", false)]
        );
        for bad in
            ["interest", "watch x", "interest a b", "interest ../x", "interest File", "interest /a/../b"]
        {
            assert!(parse_triggers(bad).is_err(), "{bad}");
        }
    }
}
