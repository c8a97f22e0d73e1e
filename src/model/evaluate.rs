//! Templates rendered: the recipes of one image with every file's bytes final.
//!
//! Templates see the values that are declared and nothing else: no clock, no environment, no randomness, no files.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::check::image::ImageDraft;
use super::check::recipe::RecipeDraft;
use super::check::site::SiteDraft;
use super::diagnostics::Diagnostics;
use super::image::Address;
use super::recipe::Source;
use super::source::SourceFile;
use super::{Image, Project, Recipe, Site, accounts, template, words};
use crate::tree::TreePath;

/// An image with nothing left open but package versions.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluated {
    /// The image.
    pub image: Image,
    /// Its recipes in order.
    pub recipes: Vec<EvaluatedRecipe>,
    /// The site.
    pub site: Site,
}

/// A recipe with its templates rendered for one image.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluatedRecipe {
    /// The recipe.
    pub recipe: Recipe,
    /// Its files in the order of `recipe.files`.
    pub files: Vec<RenderedFile>,
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedFile {
    /// Where.
    pub path: TreePath,
    /// Owner by name.
    pub owner: String,
    /// Group by name.
    pub group: String,
    /// Permission bits.
    pub mode: u32,
    /// Whether it may take the place of a package's file.
    pub replace: bool,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// Renders the templates of the image `image`.
///
/// # Errors
/// There is no such image, or a template uses a value that is not there.
pub fn evaluate(project: &Project, image: &str) -> Result<Evaluated, Diagnostics> {
    let mut problems = Diagnostics::default();
    let Some(found) = project.images.get(image) else {
        let problem = problems.error("images", format!("there is no image `{image}`"));
        match words::nearest(image, project.images.keys().map(String::as_str)) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem
                .help(format!("images here: {}", words::list(project.images.keys().map(String::as_str)))),
        };
        return Err(problems);
    };
    let recipes: Vec<_> = found.recipes.iter().filter_map(|name| project.recipes.get(name)).collect();
    let rendered = render_all(&project.site, found, &recipes, &mut problems);
    if !problems.is_empty() {
        return Err(problems.sorted());
    }
    Ok(Evaluated { image: found.clone(), recipes: rendered, site: project.site.clone() })
}

/// Reads every template, and renders those of images that are otherwise right.
pub fn check(
    site: &SiteDraft,
    recipes: &BTreeMap<String, RecipeDraft>,
    images: &[ImageDraft],
    problems: &mut Diagnostics,
) {
    let mut rendered = BTreeSet::new();
    for draft in images.iter().filter(|draft| draft.complete) {
        let used: Option<Vec<_>> = draft.recipes.iter().map(|(name, _)| recipes.get(name)).collect();
        let (Some(site), Some(image), Some(used)) = (&site.site, &draft.image, used) else { continue };
        if used.iter().all(|recipe| recipe.complete) {
            let used: Vec<_> = used.iter().map(|draft| &draft.recipe).collect();
            render_all(site, image, &used, problems);
            rendered.extend(&image.recipes);
        }
    }
    for (_, draft) in recipes.iter().filter(|(name, _)| !rendered.contains(name)) {
        for file in &draft.recipe.files {
            if let Source::Template { name, text } = &file.source {
                template::parse(&SourceFile::new(name.as_str(), text.as_str()), text, problems);
            }
        }
    }
}

fn render_all(
    site: &Site,
    image: &Image,
    recipes: &[&Recipe],
    problems: &mut Diagnostics,
) -> Vec<EvaluatedRecipe> {
    let mut values =
        json!({ "site": site_values(site), "image": image_values(image), "ids": id_values(recipes) });
    let mut evaluated = Vec::new();
    for recipe in recipes {
        values["recipe"] = recipe_values(recipe);
        let render = |file: &super::recipe::File, problems: &mut Diagnostics| {
            let bytes = match &file.source {
                Source::Bytes(bytes) => bytes.clone(),
                Source::Template { name, text } => template::render(name, text, &values, problems),
            };
            RenderedFile {
                path: file.path.clone(),
                owner: file.owner.clone(),
                group: file.group.clone(),
                mode: file.mode,
                replace: file.replace,
                bytes,
            }
        };
        let files = recipe.files.iter().map(|file| render(file, problems)).collect();
        evaluated.push(EvaluatedRecipe { recipe: (*recipe).clone(), files });
    }
    evaluated
}

fn site_values(site: &Site) -> Value {
    let network = &site.network;
    json!({
        "domain": site.domain,
        "timezone": site.timezone,
        "network": {
            "bridge": network.bridge,
            "subnet": format!("{}/{}", network.subnet, network.prefix),
            "prefix": network.prefix,
            "gateway": network.gateway,
            "nameservers": network.nameservers,
            "proxy": network.proxy,
        },
        "directories": { "media": site.directories.media, "state": site.directories.state },
    })
}

fn image_values(image: &Image) -> Value {
    let container = &image.container;
    let mut values = json!({
        "name": image.name,
        "description": image.description,
        "recipes": image.recipes,
        "vmid": container.vmid,
        "hostname": container.hostname,
        "domain": container.domain,
        "cores": container.cores,
        "memory": container.memory,
        "swap": container.swap,
        "disk": container.disk,
        "mac": container.mac,
    });
    if let Some(gpu) = &container.gpu {
        values["gpu"] = json!(gpu.device);
    }
    if let Address::Static { address, prefix, gateway } = container.address {
        values["address"] = json!(address);
        values["prefix"] = json!(prefix);
        values["gateway"] = json!(gateway);
    }
    values
}

fn recipe_values(recipe: &Recipe) -> Value {
    let space = |space: &super::recipe::Space| json!({ "path": space.path.to_string(), "free": space.free });
    let space: Vec<_> = recipe.space.iter().map(space).collect();
    let mut values = json!({ "name": recipe.name, "description": recipe.description, "space": space });
    if let Some(release) = &recipe.release {
        values["release"] = json!(release);
    }
    if let Some(service) = &recipe.service {
        values["port"] = json!(service.port);
    }
    let ports = recipe.ports.iter().map(|port| (port.name.clone(), json!(port.number)));
    values["ports"] = Value::Object(ports.collect());
    values
}

fn id_values(recipes: &[&Recipe]) -> Value {
    let mut users: Map<String, Value> =
        accounts::USERS.iter().map(|(name, uid, _)| ((*name).to_owned(), json!(uid))).collect();
    let mut groups: Map<String, Value> =
        accounts::GROUPS.iter().map(|(name, gid)| ((*name).to_owned(), json!(gid))).collect();
    for recipe in recipes {
        users.extend(recipe.users.iter().map(|user| (user.name.clone(), json!(user.uid))));
        groups.extend(recipe.groups.iter().map(|group| (group.name.clone(), json!(group.gid))));
    }
    json!({ "user": users, "group": groups })
}
