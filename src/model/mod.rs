//! What a user declares: recipes, images and the site, checked and with every default filled in.
//!
//! In: the TOML files of a project directory. Out: a [`Project`], or every problem found, each with file, line,
//! column and what to write instead. Nothing here touches the network, and no file outside the project is read.

pub mod image;
pub mod recipe;
pub mod site;

use std::collections::BTreeMap;

pub use image::Image;
pub use recipe::Recipe;
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
}
