//! `images.lock`: what every archive and every recipe prefix resolved to.
//!
//! It names archives, paths and hashes, never a mirror. One package is one line, so a review reads like any diff.

mod text;

use serde::{Deserialize, Serialize};

pub use text::LockFileError;

use crate::digest::Sha256;

/// Version of the lock's format.
pub const VERSION: u32 = 1;

/// The whole lock, in the order in which it is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Version of this format.
    pub version: u32,
    /// Every package that a set names, sorted by name, version, architecture.
    #[serde(default)]
    pub package: Vec<LockedPackage>,
    /// Every tarball of a recipe, sorted by name.
    #[serde(default)]
    pub tarball: Vec<LockedTarball>,
    /// Every archive, sorted by name.
    #[serde(default)]
    pub archive: Vec<LockedArchive>,
    /// Every recipe prefix that installs packages, sorted by `recipes`.
    #[serde(default)]
    pub set: Vec<PackageSet>,
}

impl Lock {
    /// The row of the package that a set names.
    pub fn package(&self, member: &SetMember) -> Option<&LockedPackage> {
        let wanted = (&member.name, &member.version, &member.architecture);
        self.package.iter().find(|row| (&row.name, &row.version, &row.architecture) == wanted)
    }

    /// The archive `name`.
    pub fn archive(&self, name: &str) -> Option<&LockedArchive> {
        self.archive.iter().find(|archive| archive.name == name)
    }

    /// The tarball `name`.
    pub fn tarball(&self, name: &str) -> Option<&LockedTarball> {
        self.tarball.iter().find(|tarball| tarball.name == name)
    }

    /// The set that was resolved for exactly these recipes.
    pub fn set(&self, recipes: &[String]) -> Option<&PackageSet> {
        self.set.iter().find(|set| set.recipes == recipes)
    }
}

/// One binary package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// Its name.
    pub name: String,
    /// Its full version, epoch included.
    pub version: String,
    /// Its architecture (`amd64`, `all`).
    pub architecture: String,
    /// The archive it comes from, as named in the lock.
    pub archive: String,
    /// The suite of that archive.
    pub suite: String,
    /// Its path below the archive's root.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// The hash of the .deb.
    pub sha256: Sha256,
}

/// One tarball.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedTarball {
    /// The name its recipe gives it.
    pub name: String,
    /// URL of record, as in the recipe.
    pub url: String,
    /// Its size in bytes, as it is downloaded.
    pub size: u64,
    /// The hash of the file, as in the recipe.
    pub sha256: Sha256,
}

/// One archive as it was when it was resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedArchive {
    /// The name recipes give it.
    pub name: String,
    /// URI of record, with `{timestamp}` as in the recipe.
    pub uri: String,
    /// The digest of what the recipe says of it: URI, suites, components, fingerprints.
    pub definition: Sha256,
    /// Its suites, in the recipe's order.
    pub suite: Vec<LockedSuite>,
}

/// One signed suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedSuite {
    /// Its directory below `dists/`.
    pub name: String,
    /// `Date` of its Release file, as RFC 3339 in UTC.
    pub date: String,
    /// `Valid-Until` of its Release file, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<String>,
    /// The hash of InRelease.
    pub inrelease: Sha256,
    /// Fingerprints of the pinned primary keys that signed it.
    pub signed_by: Vec<String>,
}

/// The packages that a prefix of an image's recipes adds to those of the shorter prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageSet {
    /// The recipes, in the image's order; the last one asks for packages.
    pub recipes: Vec<String>,
    /// Whether it stands alone because nothing that fits contains the shorter prefix's set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
    /// Whether the packages below it moved when it could not be resolved again: the pins are kept until it can.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unresolved: bool,
    /// The digest of what it was resolved from: what the recipes ask for and which archives they bring.
    pub request: Sha256,
    /// The packages, sorted by name and architecture, each with the reason it is there.
    pub packages: Vec<SetMember>,
}

/// One package of a set and what brought it in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetMember {
    /// The package's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// Why it is there.
    pub reason: Reason,
    /// The package that asked for it; nothing for `requested`, `essential` and `required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Why a package is in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A recipe names it.
    Requested,
    /// It is `Essential: yes`.
    Essential,
    /// It has `Priority: required`.
    Required,
    /// Another package has it in Pre-Depends.
    PreDepends,
    /// Another package has it in Depends.
    Depends,
    /// Another package has it in Recommends.
    Recommends,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Requested => "requested",
            Self::Essential => "essential",
            Self::Required => "required",
            Self::PreDepends => "pre-depends",
            Self::Depends => "depends",
            Self::Recommends => "recommends",
        })
    }
}
