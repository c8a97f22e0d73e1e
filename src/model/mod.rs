//! What a user declares: recipes, images and the site, checked and with every default filled in.
//!
//! In: the TOML files of a project directory. Out: a [`Project`], or every problem found, each with file, line,
//! column and what to write instead. Nothing here touches the network, and no file outside the project is read.
//!
//! [`load`] goes from text to [`syntax`] (what was written, with places) to [`check`] (what is meant); [`evaluate`]
//! renders the templates of one image; [`schema`] describes the files for editors.

pub mod accounts;
pub mod check;
pub mod diagnostics;
pub mod evaluate;
pub mod image;
pub mod load;
pub mod offer;
pub mod probe;
pub mod recipe;
pub mod schema;
pub mod site;
pub mod source;
pub mod syntax;
pub mod template;
pub mod words;

use std::collections::BTreeMap;

pub use diagnostics::{Diagnostic, Diagnostics};
pub use evaluate::{Evaluated, EvaluatedRecipe, RenderedFile, evaluate};
pub use image::Image;
pub use load::{load, load_part};
pub use recipe::Recipe;
pub use schema::{Kind, schema};
pub use site::Site;

/// Everything a project directory declares, checked: names resolve, nothing collides, Proxmox accepts it.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    /// All recipes that an image uses, by name.
    pub recipes: BTreeMap<String, Recipe>,
    /// All images, by name.
    pub images: BTreeMap<String, Image>,
    /// What all images here share.
    pub site: Site,
    /// What deserves a look but stops nothing.
    pub warnings: Diagnostics,
}
