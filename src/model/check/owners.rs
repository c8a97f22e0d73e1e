//! Rules for who owns the node's directories that containers see.

use std::collections::BTreeMap;

use super::Scope;
use super::accounts::Kind;
use super::image::ImageDraft;
use super::mounts::PlacedMount;
use super::recipe::RecipeDraft;
use crate::model::accounts;
use crate::model::diagnostics::Diagnostics;
use crate::model::image::Owner;
use crate::model::source::Place;
use crate::model::syntax::At;
use crate::model::words;

type Recipes<'r> = [(&'r RecipeDraft, Place)];

/// Settles who owns each mount on the node: as a recipe says of its state, as the `[[mount]]` says, or as a recipe says of
/// the directory that is there in the container.
///
/// Unless `all_known`, a recipe is missing or could not be read, and nothing is said of names that it may declare.
pub fn settle(scope: &mut Scope<'_>, recipes: &Recipes<'_>, all_known: bool, mounts: &mut [PlacedMount]) {
    for placed in mounts {
        let PlacedMount { mount, asked, .. } = placed;
        let said = asked.owner.as_ref().or(asked.group.as_ref()).map(|at| at.span.clone());
        let said = said.or_else(|| asked.mode.as_ref().map(|at| at.span.clone()));
        let states = recipes.iter().flat_map(|(draft, _)| &draft.recipe.state);
        if let Some(state) = states.into_iter().find(|state| mount.state.as_ref() == Some(&state.path)) {
            if let Some(span) = said {
                scope
                    .error(&span, format!("who owns the state `{}` is for its recipe to say", state.path))
                    .help("leave `owner`, `group` and `mode` out here");
            }
            mount.owner = ids(recipes, &state.owner, &state.group, state.mode);
        } else if said.is_some() {
            let root = "root".to_owned();
            let owner = asked.owner.as_ref().map_or(&root, |at| &at.value);
            let group = match &asked.group {
                Some(at) => at.value.clone(),
                None => primary(recipes, owner),
            };
            let mode = asked.mode.as_ref().map_or(0o755, |at| at.value);
            mount.owner = ids(recipes, owner, &group, mode);
            if all_known {
                known(scope, recipes, Kind::User, asked.owner.as_ref());
                known(scope, recipes, Kind::Group, asked.group.as_ref());
            }
        } else {
            let directories = recipes.iter().flat_map(|(draft, _)| &draft.recipe.directories);
            let made = directories.into_iter().find(|directory| directory.path == mount.target);
            mount.owner = made.and_then(|made| ids(recipes, &made.owner, &made.group, made.mode));
        }
    }
}

/// Reports a name that no recipe declares.
fn known(scope: &mut Scope<'_>, recipes: &Recipes<'_>, kind: Kind, at: Option<&At<String>>) {
    let Some(at) = at else { return };
    let names = recipes.iter().flat_map(|(draft, _)| &draft.accounts);
    let names: Vec<_> =
        names.filter(|account| account.kind == kind).map(|account| account.name.as_str()).collect();
    if names.contains(&at.value.as_str()) || base(kind, &at.value).is_some() {
        return;
    }
    let word = kind.word();
    let problem = scope.error(
        &at.span,
        format!("there is no {word} `{}` in this image's recipes or in Debian's base system", at.value),
    );
    match words::nearest(&at.value, names.iter().copied()) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem.help(format!("{word}s of its recipes: {}", words::list(names))),
    };
}

fn base(kind: Kind, name: &str) -> Option<u32> {
    match kind {
        Kind::User => accounts::user(name),
        Kind::Group => accounts::group(name),
    }
}

fn primary(recipes: &Recipes<'_>, owner: &str) -> String {
    let users = recipes.iter().flat_map(|(draft, _)| &draft.recipe.users);
    let declared = users.into_iter().find(|user| user.name == owner).map(|user| user.group.clone());
    declared.or_else(|| accounts::primary_group(owner).map(str::to_owned)).unwrap_or_else(|| owner.to_owned())
}

fn ids(recipes: &Recipes<'_>, owner: &str, group: &str, mode: u32) -> Option<Owner> {
    let id = |kind: Kind, name: &str| {
        let mut declared = recipes.iter().flat_map(|(draft, _)| &draft.accounts);
        let declared = declared.find(|account| account.kind == kind && account.name == name);
        declared.and_then(|account| account.id.as_ref()).map(|(id, _)| *id).or_else(|| base(kind, name))
    };
    Some(Owner { uid: id(Kind::User, owner)?, gid: id(Kind::Group, group)?, mode })
}

/// Reports directories of the node that two images want with different owners. State that two images would share is
/// reported elsewhere.
pub fn agree(images: &[ImageDraft], problems: &mut Diagnostics) {
    let mut seen: BTreeMap<&str, (Owner, &ImageDraft, &PlacedMount)> = BTreeMap::new();
    for image in images {
        for placed in &image.mounts {
            let Some(owner) = placed.mount.owner else { continue };
            let (other, named, first) = *seen.entry(&placed.mount.source).or_insert((owner, image, placed));
            let states = placed.mount.state.is_some() && first.mount.state.is_some();
            if other != owner && named.name != image.name && !states {
                problems
                    .error(
                        &placed.place,
                        format!(
                            "`{}` belongs to {owner} for the image `{}`, but to {other} for `{}`",
                            placed.mount.source, image.name, named.name
                        ),
                    )
                    .related(&first.place, format!("as `{}` sees it", named.name))
                    .help("a directory of the node has one owner, group and mode: say the same in both");
            }
        }
    }
}
