//! dpkg's database as dpkg writes it: `status`, `info/`, trigger interests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::failure::Failure;
use super::owners::{Owner, Owners};
use super::package::Package;
use super::place::{Placed, Unpacked};
use super::root::{Attributes, Root};
use crate::apt::control;

/// The database's directory, without slash.
pub(super) const ADMIN: &str = "var/lib/dpkg";

/// Directories below [`ADMIN`].
const DIRECTORIES: [&str; 5] = ["info", "updates", "parts", "alternatives", "triggers"];
/// Files below [`ADMIN`] that are there from the beginning, with mode and content.
const FILES: [(&str, u32, &str); 5] = [
    ("lock", 0o640, ""),
    ("lock-frontend", 0o640, ""),
    ("info/format", 0o644, "1\n"),
    ("triggers/Lock", 0o600, ""),
    ("triggers/Unincorp", 0o644, ""),
];

/// The packages that the database says are installed.
pub(super) fn installed(root: &Root) -> Result<Vec<Owner>, Failure> {
    let text = root.read_text(&format!("{ADMIN}/status"))?.unwrap_or_default();
    let mut owners = Vec::new();
    for stanza in control::stanzas(&text) {
        let stanza = stanza.map_err(|error| Failure::Database { reason: format!("`status`: {error}") })?;
        let name = stanza.get("Package").unwrap_or_default();
        let status = stanza.get("Status").unwrap_or_default();
        if status != "install ok installed" {
            let reason =
                format!("package `{name}` has the status `{status}`; expected `install ok installed`");
            return Err(Failure::Database { reason });
        }
        let same = stanza.get("Multi-Arch") == Some("same");
        let architecture = stanza.get("Architecture").unwrap_or_default();
        let stem = if same { format!("{name}:{architecture}") } else { name.to_owned() };
        owners.push(Owner::of(&stanza, stem));
    }
    Ok(owners)
}

/// Makes what every database has, unless it is there.
pub(super) fn prepare(root: &Root, architecture: &str) -> Result<(), Failure> {
    for name in DIRECTORIES {
        root.make_directory(&format!("{ADMIN}/{name}"), 0o755)?;
    }
    let architecture = format!("{architecture}\n");
    for (name, mode, content) in FILES.into_iter().chain([("arch", 0o644, architecture.as_str())]) {
        let path = format!("{ADMIN}/{name}");
        if root.stat(path.as_bytes())?.is_none() {
            root.write(&path, content.as_bytes(), Attributes::of_root(mode))?;
        }
    }
    Ok(())
}

/// Adds packages as unpacked, not yet configured.
pub(super) fn add(
    root: &Root,
    packages: &[(&Package, &Unpacked)],
    placed: &mut Placed,
) -> Result<(), Failure> {
    let mut interests = Interests::default();
    let path = format!("{ADMIN}/status");
    let mut status = root.read_text(&path)?.unwrap_or_default();
    for (package, unpacked) in packages {
        add_stanza(&mut status, package, unpacked);
        let list = format!("{ADMIN}/info/{}.list", package.stem);
        root.write(&list, &list_text(&unpacked.list), Attributes::of_root(0o644))?;
        for file in &package.control.files {
            let path = format!("{ADMIN}/info/{}.{}", package.stem, file.name);
            root.write(&path, &file.bytes, Attributes::of_root(file.mode))?;
            let dated = root.parent(path.as_bytes()).and_then(|(directory, name)| {
                directory.set_mtime(name, file.mtime)?;
                directory.stat(name)
            });
            let dated = dated.map_err(|error| Failure::file("date", path.as_bytes(), error))?;
            placed.extend(dated.map(|stat| (stat.st_ino, file.mtime)));
        }
        if let Some(md5sums) = &unpacked.md5sums {
            let path = format!("{ADMIN}/info/{}.md5sums", package.stem);
            root.write(&path, md5sums, Attributes::of_root(0o644))?;
        }
        interests.add(package);
    }
    root.write(&path, status.as_bytes(), Attributes::of_root(0o644))?;
    interests.write(root)
}

/// A package's stanza; dpkg puts fields and packages in order when it next writes the file.
fn add_stanza(status: &mut String, package: &Package, unpacked: &Unpacked) {
    status.push_str(package.control.text.trim());
    status.push_str("\nStatus: install ok unpacked\n");
    if !package.conffiles.is_empty() {
        status.push_str("Conffiles:\n");
        for (conffile, state) in package.conffiles.iter().zip(&unpacked.conffiles) {
            let _ = writeln!(status, " {} {state}", conffile.path);
        }
    }
    status.push('\n');
}

/// The text of a `.list`.
fn list_text(list: &[Box<[u8]>]) -> Vec<u8> {
    let mut text = Vec::new();
    for path in list {
        text.push(b'/');
        text.extend_from_slice(if path.is_empty() { b"." } else { path });
        text.push(b'\n');
    }
    text
}

/// Takes paths that others replace out of the lists of those who had them.
pub(super) fn drop_paths(root: &Root, owners: &Owners, lost: &[(usize, Box<[u8]>)]) -> Result<(), Failure> {
    let mut by_owner: BTreeMap<usize, BTreeSet<&[u8]>> = BTreeMap::new();
    for (owner, path) in lost {
        by_owner.entry(*owner).or_default().insert(path);
    }
    for (owner, paths) in by_owner {
        let owner = &owners.packages[owner];
        let list = format!("{ADMIN}/info/{}.list", owner.stem);
        let text = root.read(&list)?.unwrap_or_default();
        let mut kept = Vec::with_capacity(text.len());
        let mut keeps_file = false;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let path = line.strip_suffix(b"\n").unwrap_or(line);
            let path = path.strip_prefix(b"/").unwrap_or(path);
            if !paths.contains(path) {
                kept.extend_from_slice(line);
                keeps_file |= path != b"." && root.directory(path).is_err();
            }
        }
        if !keeps_file {
            return Err(Failure::Disappeared { package: owner.name.clone() });
        }
        root.write(&list, &kept, Attributes::of_root(0o644))?;
    }
    Ok(())
}

/// New interests in triggers, to be added to the files below `triggers/`.
#[derive(Default)]
struct Interests {
    /// Lines of `File`.
    files: BTreeSet<String>,
    /// Lines by trigger name.
    named: BTreeMap<String, BTreeSet<String>>,
}

impl Interests {
    fn add(&mut self, package: &Package) {
        for line in &package.triggers {
            let option = if line.noawait { "/noawait" } else { "" };
            if line.trigger.starts_with('/') {
                self.files.insert(format!("{} {}{option}", line.trigger, package.stem));
            } else {
                let lines = self.named.entry(line.trigger.clone()).or_default();
                lines.insert(format!("{}{option}", package.stem));
            }
        }
    }

    fn write(self, root: &Root) -> Result<(), Failure> {
        let files = (!self.files.is_empty()).then(|| ("File".to_owned(), self.files));
        for (name, mut lines) in files.into_iter().chain(self.named) {
            let path = format!("{ADMIN}/triggers/{name}");
            let before = root.read_text(&path)?.unwrap_or_default();
            lines.extend(before.lines().map(str::to_owned));
            let text: String = lines.into_iter().map(|line| line + "\n").collect();
            root.write(&path, text.as_bytes(), Attributes::of_root(0o644))?;
        }
        Ok(())
    }
}

/// Records that new paths activate the file triggers of packages that are configured already; dpkg would do so while
/// unpacking. Everything else dpkg activates itself when it configures the new packages.
pub(super) fn activate_file_triggers(
    root: &Root,
    before: &str,
    packages: &[(&Package, &Unpacked)],
) -> Result<(), Failure> {
    let mut interested: BTreeMap<&[u8], bool> = BTreeMap::new();
    for line in before.lines() {
        let Some((path, package)) = line.rsplit_once(' ') else { continue };
        // A package waits unless all who are interested say that it need not.
        *interested.entry(path.trim_start_matches('/').as_bytes()).or_default() |=
            !package.ends_with("/noawait");
    }
    let mut activated: BTreeMap<&[u8], BTreeSet<&str>> = BTreeMap::new();
    for (package, unpacked) in packages {
        for path in &unpacked.list {
            let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(index, _)| index);
            for end in ends.chain([path.len()]) {
                if let Some((trigger, waits)) = interested.get_key_value(&path[..end]) {
                    activated.entry(trigger).or_default().insert(if *waits { &package.stem } else { "-" });
                }
            }
        }
    }
    if activated.is_empty() {
        return Ok(());
    }
    let path = format!("{ADMIN}/triggers/Unincorp");
    let mut text = root.read_text(&path)?.unwrap_or_default();
    for (trigger, packages) in activated {
        let _ = write!(text, "/{}", String::from_utf8_lossy(trigger));
        packages.iter().for_each(|package| {
            let _ = write!(text, " {package}");
        });
        text.push('\n');
    }
    root.write(&path, text.as_bytes(), Attributes::of_root(0o644))
}

/// Tells apt which packages nobody asked for. Nothing is written where apt is not installed.
pub(super) fn mark_automatic(
    root: &Root,
    packages: &[Package],
    requested: &BTreeSet<String>,
    architecture: &str,
) -> Result<(), Failure> {
    if root.stat(b"var/lib/apt")?.is_none() {
        return Ok(());
    }
    let path = "var/lib/apt/extended_states";
    let before = root.read_text(path)?.unwrap_or_default();
    let mut stanzas: BTreeSet<String> = BTreeSet::new();
    stanzas.extend(before.split("\n\n").map(|stanza| stanza.trim().to_owned()));
    for package in packages {
        if !package.essential && !requested.contains(&package.name) {
            let native = if package.architecture == "all" { architecture } else { &package.architecture };
            stanzas.insert(format!("Package: {}\nArchitecture: {native}\nAuto-Installed: 1", package.name));
        }
    }
    let stanzas = stanzas.into_iter().filter(|stanza| !stanza.is_empty());
    let text: String = stanzas.map(|stanza| stanza + "\n\n").collect();
    root.write(path, text.as_bytes(), Attributes::of_root(0o644))
}
