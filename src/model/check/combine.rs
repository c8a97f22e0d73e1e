//! Rules for the recipes of one image together.

use std::collections::BTreeMap;

use super::accounts::{Account, Kind};
use super::mounts::{Asked, PlacedMount};
use super::recipe::{Made, RecipeDraft};
use crate::model::accounts;
use crate::model::diagnostics::Diagnostics;
use crate::model::image::{Mount, NeededSpace};
use crate::model::offer::Protocol;
use crate::model::recipe::Space;
use crate::model::source::Place;
use crate::model::words;

type Recipes<'r> = [(&'r RecipeDraft, Place)];

/// Checks everything that recipes of one image can do to one another and to its mounts.
///
/// Unless `all_known`, a recipe is missing or could not be read, and nothing is said of names that it may declare.
pub fn check(recipes: &Recipes<'_>, all_known: bool, mounts: &[PlacedMount], problems: &mut Diagnostics) {
    suites(recipes, problems);
    declared(recipes, problems);
    if all_known {
        mentions(recipes, problems);
    }
    paths(recipes, mounts, problems);
    units(recipes, problems);
    ports(recipes, problems);
    logs(recipes, mounts, problems);
}

/// The system's own share of the root file system, in MiB, when nothing better is known.
const SYSTEM: u64 = 1 << 10;

/// Where the space is that the recipes need. `disk` is the size of the root file system in MiB and where it stands.
pub fn space(
    recipes: &Recipes<'_>,
    mounts: &[PlacedMount],
    disk: Option<(u64, &Place)>,
    problems: &mut Diagnostics,
) -> Vec<NeededSpace> {
    let mut needed = Vec::new();
    for (draft, _) in recipes {
        for (Space { path, free }, place) in draft.recipe.space.iter().zip(&draft.spaces) {
            let over = mounts.iter().find(|placed| path.is_within(&placed.mount.target));
            if let Some(placed) = over.filter(|placed| placed.mount.read_only) {
                problems
                    .error(&placed.place, format!("`{path}` needs free space, but is on a read-only mount"))
                    .related(place, "needed here")
                    .help("leave `read-only` out");
            }
            if let (None, Some((disk, at))) = (over, disk)
                && disk < free + SYSTEM
            {
                problems
                    .error(at, format!("a disk of {} never has {} free", gib(disk), gib(*free)))
                    .related(place, format!("`{path}` needs that much"))
                    .help(format!("write at least `disk = \"{} GiB\"`", (free + SYSTEM).div_ceil(1 << 10)));
            }
            let source = over.map(|placed| placed.mount.source.clone());
            needed.push(NeededSpace { path: path.to_string(), source, free: *free });
        }
    }
    needed
}

fn gib(mib: u64) -> String {
    if mib.is_multiple_of(1 << 10) { format!("{} GiB", mib >> 10) } else { format!("{mib} MiB") }
}

/// Makes a mount of each recipe's state: below `<state>/<image>`, or that directory itself when there is one state.
///
/// A `[[mount]]` with the state's path as its target takes the place of the automatic one.
pub fn state_mounts(
    image: &str,
    state: Option<&str>,
    recipes: &Recipes<'_>,
    mounts: &mut Vec<PlacedMount>,
    problems: &mut Diagnostics,
) {
    let Some(directory) = state else { return };
    let mut automatic = Vec::new();
    for (draft, _) in recipes {
        for (state, place) in draft.recipe.state.iter().zip(&draft.states) {
            let Some(own) = mounts.iter_mut().find(|own| own.mount.target == state.path) else {
                automatic.push((state, place));
                continue;
            };
            own.mount.state = Some(state.path.clone());
            if own.mount.read_only {
                problems
                    .error(&own.place, format!("the state `{}` is on a read-only mount", state.path))
                    .related(place, "declared as state here")
                    .help("leave `read-only` out");
            }
        }
    }
    let several = automatic.len() > 1;
    let mut names: BTreeMap<String, &Place> = BTreeMap::new();
    for (state, place) in automatic {
        let name = String::from_utf8_lossy(state.path.name()).into_owned();
        let source =
            if several { format!("{directory}/{image}/{name}") } else { format!("{directory}/{image}") };
        if several && let Some(first) = names.insert(name.clone(), place) {
            problems
                .error(place, format!("two states of the image `{image}` would share `{source}` on the node"))
                .related(first, "the other one")
                .help(format!(
                    "give one a `[[mount]]` of its own in `images/{image}.toml`, with its path as target"
                ));
        }
        let (target, state) = (state.path.clone(), Some(state.path.clone()));
        let mount = Mount { source, target, read_only: false, state, owner: None };
        mounts.push(PlacedMount { mount, place: place.clone(), asked: Asked::default() });
    }
}

fn suites(recipes: &Recipes<'_>, problems: &mut Diagnostics) {
    let Some(base) = recipes.first().map(|(draft, _)| draft) else { return };
    let (Some(release), Some(place)) = (&base.recipe.release, &base.release) else { return };
    for (draft, _) in recipes {
        for (suite, at) in &draft.suites {
            let own = suite
                .strip_prefix(release.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-') || rest.starts_with('/'));
            // Somebody else's suite may have a name of its own; what it is for, its signed Release may say.
            let first = suite.split(['-', '/']).next().unwrap_or_default();
            let elsewhere = draft.recipe.release.is_none()
                && words::release_of(suite).is_none()
                && words::nearest(first, [release.as_str()]).is_none();
            if own || elsewhere {
                continue;
            }
            let problem =
                problems.error(at, format!("the suite `{suite}` is not one of the release `{release}`"));
            problem.related(place, "the base's release");
            match suite.split_once('-') {
                Some((_, rest)) => problem.help(format!("write `{release}-{rest}` or `{release}`")),
                None => problem.help(format!("write `{release}` or `{release}-…`")),
            };
        }
    }
}

fn declared(recipes: &Recipes<'_>, problems: &mut Diagnostics) {
    let mut names: BTreeMap<(Kind, &str), &Account> = BTreeMap::new();
    let mut ids: BTreeMap<(Kind, u32), (&str, &Place, bool)> = BTreeMap::new();
    for account in recipes.iter().flat_map(|(draft, _)| &draft.accounts) {
        let word = account.kind.word();
        if let Some(first) = names.get(&(account.kind, account.name.as_str())) {
            if shared_group(first, account) {
                continue;
            }
            problems
                .error(&account.place, format!("the {word} `{}` is declared twice", account.name))
                .related(&first.place, "first here")
                .help(match account.kind {
                    Kind::Group => {
                        "declare it in one recipe only, or with the same id in each; others can use its name"
                    }
                    Kind::User => "declare it in one recipe only; the others of the image can use its name",
                });
            continue;
        }
        names.insert((account.kind, &account.name), account);
        let Some((id, place)) = &account.id else { continue };
        let Some((other, first, implicit)) =
            ids.insert((account.kind, *id), (&account.name, place, account.implicit))
        else {
            continue;
        };
        // Two users with one id are reported; their own groups follow from them.
        if !(implicit && account.implicit) {
            problems
                .error(place, format!("the {word}s `{other}` and `{}` have the same id {id}", account.name))
                .related(first, format!("the id of `{other}`"))
                .help("give each an id of its own");
        }
    }
}

/// Whether two recipes declare the same group: each can then be used alone, and both in one image.
fn shared_group(first: &Account, second: &Account) -> bool {
    let id = |account: &Account| account.id.as_ref().map(|(id, _)| *id);
    let written = !first.implicit && !second.implicit && first.place.file != second.place.file;
    first.kind == Kind::Group && written && id(first).is_some() && id(first) == id(second)
}

fn mentions(recipes: &Recipes<'_>, problems: &mut Diagnostics) {
    let known = |kind: Kind| {
        let declared = recipes.iter().flat_map(|(draft, _)| &draft.accounts);
        declared.filter(move |account| account.kind == kind).map(|account| account.name.as_str())
    };
    for mention in recipes.iter().flat_map(|(draft, _)| &draft.mentions) {
        let (word, id, base) = match mention.kind {
            Kind::User => ("user", "uid", accounts::user(&mention.name)),
            Kind::Group => ("group", "gid", accounts::group(&mention.name)),
        };
        if base.is_some() || known(mention.kind).any(|name| name == mention.name) {
            continue;
        }
        let problem = problems.error(
            &mention.place,
            format!(
                "there is no {word} `{}` in this image's recipes or in Debian's base system",
                mention.name
            ),
        );
        let good = known(mention.kind).filter(|name| words::account(name).is_ok());
        match words::nearest(&mention.name, good) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem.help(format!(
                "declare it: `[[{word}]]` with `name = \"{}\"` and a `{id}`; a package's own {word}s too must be pinned to be used",
                mention.name
            )),
        };
    }
}

fn paths(recipes: &Recipes<'_>, mounts: &[PlacedMount], problems: &mut Diagnostics) {
    let mut made = BTreeMap::new();
    for claim in recipes.iter().flat_map(|(draft, _)| &draft.claims) {
        let first = made.entry(&claim.path).or_insert(claim);
        let same = matches!((&first.made, &claim.made), (Made::Directory(a), Made::Directory(b)) if a == b);
        if std::ptr::eq(*first, claim) || unpacked_into(&first.made, &claim.made) {
            continue;
        }
        if !same || first.place.file == claim.place.file {
            let problem = problems.error(&claim.place, format!("`{}` is made twice", claim.path));
            problem
                .label(format!("as a {}", claim.made.described()))
                .related(&first.place, format!("first as a {}", first.made.described()));
            match (&first.made, &claim.made) {
                (Made::Directory(_), Made::Directory(_)) if !same => {
                    problem.help("give both the same owner, group and mode, or leave one out")
                }
                (Made::State, Made::Directory(_)) | (Made::Directory(_), Made::State) => {
                    problem.help("leave the directory out: a state directory is made for you")
                }
                _ => problem.help("leave one out"),
            };
        }
    }
    for (path, claim) in &made {
        for above in path.ancestors().skip(1) {
            if let Some(parent) = made.get(&above)
                && matches!(parent.made, Made::File | Made::Link)
            {
                problems
                    .error(&claim.place, format!("`{path}` needs `{above}` to be a directory"))
                    .related(&parent.place, format!("it is a {}", parent.made.word()))
                    .help("choose another path for one of them");
            }
        }
        for placed in mounts {
            let target = &placed.mount.target;
            let only_mount_point =
                **path == *target && matches!(claim.made, Made::Directory(_) | Made::State);
            if path.is_within(target) && !only_mount_point {
                problems
                    .error(&claim.place, format!("`{path}` is hidden by the mount on `{target}`"))
                    .related(&placed.place, "mounted here")
                    .help(match claim.made {
                        Made::Directory(_) => "have a unit make it when it starts, where it is absent",
                        Made::Tarball => "unpack it elsewhere, as below `/usr/lib` or `/opt`",
                        _ => "ship it elsewhere, as below `/usr/share`, and have a unit copy it where it is absent",
                    });
            }
        }
    }
}

/// Whether one of two claims on a path is a tarball's, which only needs it to be a directory.
fn unpacked_into(first: &Made, second: &Made) -> bool {
    let directory = |made: &Made| matches!(made, Made::Directory(_) | Made::Tarball);
    directory(first) && directory(second) && (*first == Made::Tarball || *second == Made::Tarball)
}

fn units(recipes: &Recipes<'_>, problems: &mut Diagnostics) {
    let mut seen: BTreeMap<&str, (&str, &Place)> = BTreeMap::new();
    for (name, verb, place) in recipes.iter().flat_map(|(draft, _)| &draft.units) {
        let (first, other) = *seen.entry(name).or_insert((verb, place));
        if first != *verb {
            problems
                .error(place, format!("the unit `{name}` stands under both `{first}` and `{verb}`"))
                .related(other, format!("under `{first}` here"))
                .help("keep one; `mask` already means that it cannot be started");
        }
    }
}

fn ports(recipes: &Recipes<'_>, problems: &mut Diagnostics) {
    let mut seen: BTreeMap<(Protocol, u16), (&str, &Place)> = BTreeMap::new();
    let mut names: BTreeMap<&str, &Place> = BTreeMap::new();
    for (draft, _) in recipes {
        let recipe = &draft.recipe;
        let web = recipe.service.as_ref().zip(draft.port.as_ref());
        let mut all: Vec<_> =
            web.map(|(service, place)| (Protocol::Tcp, service.port, place)).into_iter().collect();
        for (port, place) in recipe.ports.iter().zip(&draft.ports) {
            all.extend(port.protocols.iter().map(|protocol| (*protocol, port.number, place)));
            if let Some(first) = names.insert(&port.name, place) {
                problems
                    .error(place, format!("two ports have the name `{}`", port.name))
                    .related(first, "the other one")
                    .help("give one another name");
            }
        }
        for (protocol, number, place) in all {
            let Some((other, first)) = seen.insert((protocol, number), (&recipe.name, place)) else {
                continue;
            };
            let (message, help) = if other == recipe.name {
                (format!("`{other}` listens on {protocol} port {number} twice"), "leave one out")
            } else {
                let message = format!("`{}` and `{other}` both listen on port {number}", recipe.name);
                (message, "give one of them another port, in its own configuration too")
            };
            problems.error(place, message).related(first, format!("the port of `{other}`")).help(help);
        }
    }
}

/// fail2ban reads logs on the node: what is in the root file system it cannot see.
fn logs(recipes: &Recipes<'_>, mounts: &[PlacedMount], problems: &mut Diagnostics) {
    for (draft, _) in recipes {
        let login = draft.recipe.service.as_ref().and_then(|service| service.login.as_ref());
        let Some(failures) = login.and_then(|login| login.failures.as_ref()) else { continue };
        let Some(place) = &draft.log else { continue };
        let below = |placed: &PlacedMount| {
            let target = placed.mount.target.to_string();
            failures.log.strip_prefix(&target).is_some_and(|rest| rest.starts_with('/'))
        };
        if !mounts.iter().any(below) {
            problems
                .error(
                    place,
                    format!("the log `{}` is on no mount, so nothing on the node can read it", failures.log),
                )
                .help("have the application write it below a `[[state]]`, or leave `log` and `failure` out");
        }
    }
}
