//! A recipe: what goes into a root file system.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::offer::Port;
use super::probe::Service;
use crate::digest::Sha256;
use crate::tree::TreePath;

/// A checked `recipes/<name>/recipe.toml`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recipe {
    /// The folder's name.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Debian's code name of the release this recipe is a base for (`trixie`). The first recipe of an image has one,
    /// the others have none.
    pub release: Option<String>,
    /// apt archives this recipe brings, by name.
    pub archives: BTreeMap<String, Archive>,
    /// Debian packages to install.
    pub packages: Packages,
    /// Groups with a pinned id; made before any package of this recipe is configured.
    pub groups: Vec<Group>,
    /// Users with a pinned id; made before any package of this recipe is configured.
    pub users: Vec<User>,
    /// Directories to make.
    pub directories: Vec<Directory>,
    /// Tarballs to unpack.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tarballs: Vec<Tarball>,
    /// Files to write, templates not yet rendered.
    pub files: Vec<File>,
    /// Symbolic links to make.
    pub links: Vec<Link>,
    /// systemd units to enable, disable or mask.
    pub units: Units,
    /// Directories whose contents outlive the image; each becomes a mount.
    pub state: Vec<State>,
    /// Space that the application needs.
    pub space: Vec<Space>,
    /// What the container offers to its users.
    pub service: Option<Service>,
    /// Ports that it listens on beside that.
    #[serde(skip)]
    pub ports: Vec<Port>,
    /// Secrets that are handed over at deployment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
}

/// One apt repository.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Archive {
    /// The name the lock uses.
    pub name: String,
    /// URI of record, ending in `/`. `{timestamp}` stands for the lock's time as `YYYYMMDDTHHMMSSZ`.
    pub uri: String,
    /// Suites, each below `dists/`.
    pub suites: Vec<String>,
    /// Components of each suite.
    pub components: Vec<String>,
    /// OpenPGP certificates, as read from `keys/`.
    #[serde(skip)]
    pub keys: Vec<Vec<u8>>,
    /// Upper-case hex fingerprints of the primary keys that may sign; every one is among `keys`.
    pub fingerprints: Vec<String>,
    /// Further places that may have a .deb, as URIs with `{name}`, `{version}`, `{upstream}`, `{architecture}` and
    /// `{file}` in them.
    #[serde(skip)]
    pub places: Vec<String>,
    /// Code names of the releases that images with this archive are of.
    #[serde(skip)]
    pub releases: BTreeSet<String>,
    /// The site's keys, when the site has a copy of the archive that it signed itself.
    #[serde(skip)]
    pub resigned: Option<Keys>,
}

/// OpenPGP certificates and which of them may sign.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Keys {
    /// Certificates, as read.
    pub certificates: Vec<Vec<u8>>,
    /// Upper-case hex fingerprints of the primary keys that may sign.
    pub fingerprints: Vec<String>,
}

/// A tarball to unpack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tarball {
    /// The name the lock uses.
    pub name: String,
    /// URL of record.
    pub url: String,
    /// What it hashes to, as it is downloaded.
    pub sha256: Sha256,
    /// Directory that it is unpacked into.
    pub path: TreePath,
    /// Leading components that every member's name loses.
    pub strip: u32,
    /// What to take, by names that have lost them: files, or directories with everything below. Everything when empty.
    pub only: Vec<TreePath>,
    /// Owner by name.
    pub owner: String,
    /// Group by name.
    pub group: String,
    /// Entries that are otherwise.
    pub set: Vec<TarballEntry>,
}

/// One entry of a tarball with an owner, group or mode of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TarballEntry {
    /// Its name, as in [`Tarball::only`].
    pub path: TreePath,
    /// Owner by name.
    pub owner: String,
    /// Group by name.
    pub group: String,
    /// Permission bits; without, those of every entry of its kind.
    pub mode: Option<u32>,
}

/// What is asked of the archives.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Packages {
    /// Package names, sorted.
    pub install: Vec<String>,
    /// Whether recommended packages come too.
    pub recommends: bool,
}

/// A group with a pinned id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its id inside the container.
    pub gid: u32,
}

/// A user with a pinned id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its id inside the container.
    pub uid: u32,
    /// Its primary group, by name.
    pub group: String,
    /// Its other groups, by name.
    pub groups: Vec<String>,
    /// Its home directory, absolute.
    pub home: String,
    /// Its login shell, absolute; `/usr/sbin/nologin` unless said otherwise.
    pub shell: String,
    /// The GECOS field.
    pub comment: String,
}

/// A directory to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Directory {
    /// Where.
    pub path: TreePath,
    /// Owner by name.
    pub owner: String,
    /// Group by name.
    pub group: String,
    /// Permission bits.
    pub mode: u32,
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// Where.
    pub path: TreePath,
    /// Owner by name.
    pub owner: String,
    /// Group by name.
    pub group: String,
    /// Permission bits.
    pub mode: u32,
    /// Whether it may take the place of a package's configuration file.
    pub replace: bool,
    /// What it holds.
    pub source: Source,
}

/// Where a file's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Source {
    /// Bytes as they are; serialised as their SHA-256.
    Bytes(#[serde(serialize_with = "digest")] Vec<u8>),
    /// A Tera template; `name` is its path in the project, for messages.
    Template {
        /// Path in the project.
        name: String,
        /// The template.
        text: String,
    },
}

fn digest<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    crate::digest::Sha256::of(bytes).serialize(serializer)
}

/// A symbolic link to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Where.
    pub path: TreePath,
    /// What it points to, as written into the link.
    pub target: String,
    /// Whether it may take the place of something a package made.
    pub replace: bool,
}

/// systemd units, by full name (`ssh.service`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Units {
    /// Started at boot: the links that the unit's `[Install]` section asks for.
    pub enable: Vec<String>,
    /// Not started at boot, and kept so by a preset when the first boot applies presets.
    pub disable: Vec<String>,
    /// Cannot be started: a link to `/dev/null`.
    pub mask: Vec<String>,
}

/// A directory whose contents outlive the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct State {
    /// Where the application keeps it.
    pub path: TreePath,
    /// Owner by name.
    pub owner: String,
    /// Group by name.
    pub group: String,
    /// Permission bits.
    pub mode: u32,
    /// Whether it belongs into a backup.
    pub backup: bool,
    /// How to tell which version wrote it, where what a newer one wrote is lost on an older one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migrates: Option<Migrates>,
}

/// State whose migrations go one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Migrates {
    /// The package whose version counts.
    pub package: String,
    /// The file in the state that has the version that last wrote it, as a relative path.
    pub file: String,
}

/// Something that no image may hold and that is handed over when it is deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// What is done with it.
    #[serde(rename = "use")]
    pub purpose: SecretUse,
}

/// What is done with a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretUse {
    /// Its PBKDF2 hash goes into this file of the state while that is empty. One is made when none is given.
    Hash(TreePath),
    /// This program of the image gets it on standard input, when the application waits to be set up.
    Run(String),
}

/// Space that has to be free where an application writes, or it does not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Space {
    /// A directory it writes to.
    pub path: TreePath,
    /// How much has to be free there, in MiB.
    pub free: u64,
}
