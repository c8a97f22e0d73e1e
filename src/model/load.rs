//! Reads a project directory and checks all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::check::across::{self, Extent};
use super::check::image::ImageDraft;
use super::check::recipe::RecipeDraft;
use super::check::site::SiteDraft;
use super::check::{image, recipe, site};
use super::diagnostics::Diagnostics;
use super::recipe::{Group, User};
use super::source::{self, MAX_TOML, ReadError};
use super::syntax;
use super::{Image, Project, Recipe, Site, evaluate, words};

/// Most recipes and most images of a project.
const MAX_ENTRIES: usize = 10_000;

const SITE: &str = "images/site.toml";

/// Reads `recipes/*/recipe.toml`, `images/*.toml` and `images/site.toml` below `root`.
///
/// Templates are rendered too, so that what is wrong with them is said here.
///
/// # Errors
/// Everything that is wrong in all files.
pub fn load(root: &Path) -> Result<Project, Diagnostics> {
    load_extent(root, Extent::Whole)
}

/// As [`load`], where recipes and images may have been left out: the site may name what only those have.
///
/// # Errors
/// As [`load`].
pub fn load_part(root: &Path) -> Result<Project, Diagnostics> {
    load_extent(root, Extent::Part)
}

/// The groups and users that `text`, with the tables of the recipe `name`, declares, with all defaults. `place` names the
/// text in messages.
///
/// # Errors
/// Everything that is wrong with it.
pub fn accounts(name: &str, place: &str, text: &str) -> Result<(Vec<Group>, Vec<User>), Diagnostics> {
    let mut problems = Diagnostics::default();
    let file = source::SourceFile::new(place, text);
    let raw = syntax::parse(&file, &mut problems);
    let recipe = raw.map(|raw| recipe::check(Path::new("/"), name, &file, &raw, &mut problems).recipe);
    match recipe {
        Some(recipe) if !problems.has_errors() => Ok((recipe.groups, recipe.users)),
        _ => Err(problems.sorted()),
    }
}

fn load_extent(root: &Path, extent: Extent) -> Result<Project, Diagnostics> {
    let mut problems = Diagnostics::default();
    let site = load_site(root, &mut problems);
    let Some(recipes) = load_recipes(root, &mut problems) else { return Err(problems.sorted()) };
    let images = load_images(root, &site, &recipes, &mut problems);
    across::check(extent, &site, &recipes, &images, &mut problems);
    evaluate::check(&site, &recipes, &images, &mut problems);
    let mut problems = problems.sorted();
    if problems.has_errors() {
        return Err(problems);
    }
    let Some(site) = site.site else {
        problems.error(SITE, "the site could not be read");
        return Err(problems);
    };
    let used: BTreeSet<String> =
        images.iter().flat_map(|image| &image.recipes).map(|(name, _)| name.clone()).collect();
    let recipes = recipes.into_iter().map(|(name, draft)| (name, draft.recipe));
    let mut recipes: BTreeMap<_, _> = recipes.filter(|(name, _)| used.contains(name)).collect();
    let images: BTreeMap<_, _> =
        images.into_iter().filter_map(|draft| Some((draft.name, draft.image?))).collect();
    tell_archives(&site, images.values(), &mut recipes);
    Ok(Project { recipes, images, site, warnings: problems })
}

/// Tells each archive what only the images and the site know: the releases it is used with, and other keys.
fn tell_archives<'a>(
    site: &Site,
    images: impl Iterator<Item = &'a Image>,
    recipes: &mut BTreeMap<String, Recipe>,
) {
    for image in images {
        let base = image.recipes.first().and_then(|name| recipes.get(name));
        let Some(release) = base.and_then(|recipe| recipe.release.clone()) else { continue };
        for name in &image.recipes {
            for archive in recipes.get_mut(name).into_iter().flat_map(|recipe| recipe.archives.values_mut()) {
                archive.releases.insert(release.clone());
                archive.resigned = site.archives.get(&archive.name).and_then(|own| own.keys.clone());
            }
        }
    }
}

fn report(path: &str, error: &ReadError, help: &str, problems: &mut Diagnostics) {
    problems.error(path, error.to_string()).help(help);
}

fn load_site(root: &Path, problems: &mut Diagnostics) -> SiteDraft {
    let file = match source::read_text(root, SITE, MAX_TOML) {
        Ok(file) => file,
        Err(error) => {
            let help = "it holds what all images share: domain, network, node and directories";
            report(SITE, &error, help, problems);
            return SiteDraft::default();
        }
    };
    match syntax::parse(&file, problems) {
        Some(raw) => site::check(root, &file, &raw, problems),
        None => SiteDraft::default(),
    }
}

/// The names in a directory, sorted, hidden ones left out.
fn names(root: &Path, folder: &str, problems: &mut Diagnostics) -> Option<Vec<String>> {
    let entries = match fs::read_dir(root.join(folder)) {
        Ok(entries) => entries,
        Err(error) => {
            problems
                .error(folder, format!("cannot read the directory `{folder}`: {error}"))
                .help("a project has the directories `recipes` and `images`; is this its root?");
            return None;
        }
    };
    let mut names = Vec::new();
    for entry in entries.flatten().take(MAX_ENTRIES) {
        match entry.file_name().into_string() {
            Ok(name) if name.starts_with('.') => {}
            Ok(name) => names.push(name),
            Err(name) => {
                problems.error(folder, format!("the name `{}` is not valid UTF-8", name.to_string_lossy()));
            }
        }
    }
    names.sort();
    Some(names)
}

fn load_recipes(root: &Path, problems: &mut Diagnostics) -> Option<BTreeMap<String, RecipeDraft>> {
    let mut drafts = BTreeMap::new();
    for name in names(root, "recipes", problems)? {
        let folder = format!("recipes/{name}");
        if !root.join(&folder).is_dir() {
            continue;
        }
        if let Err(complaint) = words::project_name(&name) {
            problems.error(folder.as_str(), complaint.message).help(complaint.help);
            continue;
        }
        let path = format!("{folder}/recipe.toml");
        match source::read_text(root, &path, MAX_TOML) {
            Ok(file) => {
                let before = problems.count().0;
                let raw = syntax::parse(&file, problems);
                let mut draft = match &raw {
                    Some(raw) => recipe::check(root, &name, &file, raw, problems),
                    None => recipe::empty(&name, &file),
                };
                draft.unread = raw.is_none();
                draft.complete = problems.count().0 == before;
                drafts.insert(name, draft);
            }
            Err(error) => {
                let help = "every folder below `recipes/` holds a recipe";
                report(&path, &error, help, problems);
                let mut draft = recipe::empty(&name, &source::SourceFile::new(path, ""));
                draft.unread = true;
                drafts.insert(name, draft);
            }
        }
    }
    Some(drafts)
}

fn load_images(
    root: &Path,
    site: &SiteDraft,
    recipes: &BTreeMap<String, RecipeDraft>,
    problems: &mut Diagnostics,
) -> Vec<ImageDraft> {
    let mut drafts = Vec::new();
    for entry in names(root, "images", problems).unwrap_or_default() {
        let Some(name) = entry.strip_suffix(".toml").filter(|name| *name != "site") else { continue };
        let path = format!("images/{entry}");
        if let Err(complaint) = words::project_name(name) {
            problems.error(path.as_str(), complaint.message).help(complaint.help);
            continue;
        }
        match source::read_text(root, &path, MAX_TOML) {
            Ok(file) => {
                let before = problems.count().0;
                if let Some(raw) = syntax::parse(&file, problems) {
                    let mut draft = image::check(name, &file, &raw, site, recipes, problems);
                    draft.complete = problems.count().0 == before;
                    drafts.push(draft);
                }
            }
            Err(error) => report(&path, &error, "an image is a TOML file", problems),
        }
    }
    if drafts.is_empty() && !problems.has_errors() {
        problems
            .error("images", "the project has no image")
            .help("write `images/<name>.toml` with `recipes` and `[container]`");
    }
    drafts
}
