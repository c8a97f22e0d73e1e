//! Rules for all images of a project together.

use std::collections::{BTreeMap, BTreeSet};

use super::accounts::Kind;
use super::image::ImageDraft;
use super::recipe::RecipeDraft;
use super::site::SiteDraft;
use crate::model::diagnostics::Diagnostics;
use crate::model::source::Place;
use crate::model::words;

/// How much of a project there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// Some images and their recipes. The site may name archives and tarballs of others.
    Part,
}

/// Checks what no two images, and no two recipes, may share, and names that lead nowhere.
pub fn check(
    extent: Extent,
    site: &SiteDraft,
    recipes: &BTreeMap<String, RecipeDraft>,
    images: &[ImageDraft],
    problems: &mut Diagnostics,
) {
    shared(images, problems);
    state(images, problems);
    super::owners::agree(images, problems);
    archives(extent, site, recipes, problems);
    ids(recipes, images, problems);
}

/// Containers share directories of the node by number, so one name should have one id everywhere.
fn ids(recipes: &BTreeMap<String, RecipeDraft>, images: &[ImageDraft], problems: &mut Diagnostics) {
    let mut seen: BTreeMap<(Kind, &str), (u32, &Place)> = BTreeMap::new();
    let used: BTreeSet<&str> =
        images.iter().flat_map(|image| &image.recipes).map(|(name, _)| &**name).collect();
    for draft in used.iter().filter_map(|name| recipes.get(*name)) {
        for account in &draft.accounts {
            let Some((id, place)) = &account.id else { continue };
            let (first, other) = *seen.entry((account.kind, &account.name)).or_insert((*id, place));
            if first != *id && other.file != place.file {
                let message = format!(
                    "the {} `{}` has the id {id} here and {first} in another recipe",
                    account.kind.word(),
                    account.name
                );
                problems.warning(place, message).related(other, "the other id").help(format!(
                    "write {first} here too: what containers share on the node belongs to ids, not names"
                ));
            }
        }
    }
}

fn shared(images: &[ImageDraft], problems: &mut Diagnostics) {
    let mut seen: BTreeMap<(&str, &str), (&ImageDraft, &Place)> = BTreeMap::new();
    for image in images {
        for (what, text, place) in &image.unique {
            let Some((other, first)) = seen.insert((what, text), (image, place)) else { continue };
            if *what == "domain" && same_host_name(other, image) {
                // The domain follows from the host name, which is reported.
                continue;
            }
            let help = match *what {
                "hardware address" => "leave `mac` out: each image gets one of its own",
                "public port" => "the site's router can forward a port to one of them only",
                "vmid" => "every container of a node, and of a cluster, has an id of its own",
                _ => "choose another",
            };
            problems
                .error(
                    place,
                    format!("the images `{}` and `{}` have the same {what} `{text}`", other.name, image.name),
                )
                .related(first, format!("that of `{}`", other.name))
                .help(help);
        }
    }
}

fn same_host_name(a: &ImageDraft, b: &ImageDraft) -> bool {
    let name = |image: &ImageDraft| {
        image.unique.iter().find(|(what, ..)| *what == "host name").map(|(_, text, _)| text.clone())
    };
    name(a).is_some() && name(a) == name(b)
}

fn state(images: &[ImageDraft], problems: &mut Diagnostics) {
    let mut seen: BTreeMap<&str, (&ImageDraft, &Place)> = BTreeMap::new();
    for image in images {
        for placed in image.mounts.iter().filter(|placed| placed.mount.state.is_some()) {
            let Some((other, first)) = seen.insert(&placed.mount.source, (image, &placed.place)) else {
                continue;
            };
            if other.name == image.name {
                continue;
            }
            problems
                .error(
                    &placed.place,
                    format!(
                        "the images `{}` and `{}` keep their state in the same directory `{}`",
                        other.name, image.name, placed.mount.source
                    ),
                )
                .related(first, format!("that of `{}`", other.name))
                .help("give each a directory of its own");
        }
    }
}

/// Names of archives and tarballs, which the lock and mirrors go by, and what the site says of them.
fn archives(
    extent: Extent,
    site: &SiteDraft,
    recipes: &BTreeMap<String, RecipeDraft>,
    problems: &mut Diagnostics,
) {
    let mut seen: BTreeMap<&str, (&str, &str, &Place)> = BTreeMap::new();
    for (recipe, draft) in recipes {
        let archives = draft.archives.iter().map(|(name, place)| ("archive", name, place));
        let tarballs = draft.tarballs.iter().map(|(name, place)| ("tarball", name, place));
        for (what, name, place) in archives.chain(tarballs) {
            let Some((kind, other, first)) = seen.insert(name, (what, recipe, place)) else { continue };
            let message = match kind == what {
                true if other == recipe => {
                    format!("the recipe `{recipe}` declares the {what} `{name}` twice")
                }
                true => format!("the recipes `{other}` and `{recipe}` both declare the {what} `{name}`"),
                false => format!("`{name}` is the name of an archive and of a tarball"),
            };
            problems.error(place, message).related(first, format!("in `{other}`")).help(match kind == what {
                true => {
                    format!("the lock has one entry for each {what}: give one another name, or leave it out")
                }
                false => "mirrors go by these names: give one another".to_owned(),
            });
        }
    }
    let archive = |name: &&&str| seen.get(**name).is_some_and(|(what, ..)| *what == "archive");
    let only: Vec<&str> = seen.keys().filter(archive).copied().collect();
    let all: Vec<&str> = seen.keys().copied().collect();
    let named = site.mirrors.iter().map(|entry| (entry, &all));
    for ((name, place), known) in named.chain(site.archives.iter().map(|entry| (entry, &only))) {
        if extent == Extent::Part || known.is_empty() || known.contains(&name.as_str()) {
            continue;
        }
        let problem = problems.error(place, format!("no recipe has an archive `{name}`"));
        match words::nearest(name, known.iter().copied()) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None if all.contains(&name.as_str()) => problem.help(format!(
                "it is a tarball: name a mirror of it in `[mirrors]`, as `{name} = [\"https://…\"]`"
            )),
            None => problem.help(format!("archives here: {}", words::list(known.iter().copied()))),
        };
    }
}
