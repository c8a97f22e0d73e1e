//! Orders as they are written: one JSON object, whose `step` says what it is. An unknown key is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;

use crate::apt::lockfile::Lock;
use crate::digest::Sha256;

/// What a step is to do.
#[derive(Debug, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Order {
    /// Install packages into a layer.
    Layer(LayerOrder),
    /// Make an image of finished layers.
    Image(Box<ImageOrder>),
    /// Check a project.
    Check(CheckOrder),
    /// Check an artifact.
    Verify(VerifyOrder),
    /// Put links to several images into one directory.
    Collect(CollectOrder),
}

/// The packages that one list of recipes adds. The result is a directory with `layers/KEY/`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerOrder {
    /// The recipes, for messages.
    pub recipes: Vec<String>,
    /// Results of the steps that made the layers below, the lowest first.
    pub below: Vec<PathBuf>,
    /// What to add.
    pub packages: Vec<GivenPackage>,
    /// Names of packages that the recipes ask for, Essential and required ones among them.
    pub requested: BTreeSet<String>,
    /// Groups and users of the recipes that this layer adds, in the recipes' order.
    pub accounts: Vec<Accounts>,
    /// The date that stands for "now" inside the image, as the lock has it.
    pub epoch: String,
}

/// One package and where its .deb is. The file is compared with all that is said of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenPackage {
    /// Its name.
    pub name: String,
    /// Its full version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// The size of the .deb in bytes.
    pub size: u64,
    /// The hash of the .deb.
    pub sha256: Sha256,
    /// The .deb.
    pub deb: PathBuf,
}

/// The accounts of one recipe, as `recipe.toml` has them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    /// The recipe.
    pub recipe: String,
    /// Its `[[group]]` tables.
    #[serde(default)]
    pub group: Vec<toml::Table>,
    /// Its `[[user]]` tables.
    #[serde(default)]
    pub user: Vec<toml::Table>,
}

/// One image. The result is a directory with `IMAGE/`, as the build puts into `result/`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageOrder {
    /// Its name.
    pub image: String,
    /// A project that holds at least this image, its recipes and the site. Its lock is not read.
    pub project: PathBuf,
    /// The rows of the lock that the image needs.
    pub lock: Lock,
    /// Results of the steps that made its layers.
    pub layers: Vec<PathBuf>,
    /// Its tarballs by their hash.
    #[serde(default)]
    pub tarballs: BTreeMap<Sha256, PathBuf>,
}

/// A project to check. The result is a file that says what was checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckOrder {
    /// The project.
    pub project: PathBuf,
}

/// An artifact to compare with its manifest. The result is a file that says what was compared.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyOrder {
    /// Its directory.
    pub artifact: PathBuf,
}

/// Images to put side by side. The result is a directory with a link to each.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectOrder {
    /// Results of the steps that made them, by name.
    pub images: BTreeMap<String, PathBuf>,
}
