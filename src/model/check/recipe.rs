//! Rules for one recipe.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::accounts::{self, Account, Mention};
use super::{Scope, archive, files, handover, mounts, offer, service, tarball};
use crate::model::recipe::{Directory, Link, Packages, Recipe, Space, State, Units};
use crate::model::source::{Place, SourceFile};
use crate::model::syntax::recipe::RawRecipe;
use crate::model::syntax::{At, Mode, Optional, Required};
use crate::model::{diagnostics::Diagnostics, words};
use crate::tree::TreePath;

/// A recipe with what is right of it, and the places of what can collide.
#[derive(Debug)]
pub struct RecipeDraft {
    /// What is right of it.
    pub recipe: Recipe,
    /// Whether nothing is wrong with it.
    pub complete: bool,
    /// Whether the file could not be read at all, so that nothing is known of it.
    pub unread: bool,
    /// The file.
    pub file: SourceFile,
    /// Where the release stands.
    pub release: Option<Place>,
    /// Where each archive's name stands.
    pub archives: BTreeMap<String, Place>,
    /// Names of tarballs and where they stand.
    pub tarballs: Vec<(String, Place)>,
    /// Suites and where they stand.
    pub suites: Vec<(String, Place)>,
    /// Declared groups and users.
    pub accounts: Vec<Account>,
    /// Names of users and groups that something refers to.
    pub mentions: Vec<Mention>,
    /// Paths that this recipe makes.
    pub claims: Vec<Claim>,
    /// What is done with which unit.
    pub units: Vec<(String, &'static str, Place)>,
    /// Where each state of the recipe stands, in its order.
    pub states: Vec<Place>,
    /// Where each need of space stands, in its order.
    pub spaces: Vec<Place>,
    /// Where the port stands.
    pub port: Option<Place>,
    /// Where each further port stands, in the recipe's order.
    pub ports: Vec<Place>,
    /// Where the log of failed logins stands.
    pub log: Option<Place>,
}

/// A path that a recipe makes.
#[derive(Debug)]
pub struct Claim {
    /// The path.
    pub path: TreePath,
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub made: Made,
}

/// What a claimed path is.
#[derive(Debug, PartialEq)]
pub enum Made {
    /// A directory, with all that must be the same when two recipes make it.
    Directory(Directory),
    /// A file.
    File,
    /// A symbolic link.
    Link,
    /// A mount point for state.
    State,
    /// A directory that a tarball is unpacked into.
    Tarball,
}

impl Made {
    /// The word for messages, with all that can differ between two of them.
    pub fn described(&self) -> String {
        match self {
            Self::Directory(made) => format!("directory, {}:{} {:04o}", made.owner, made.group, made.mode),
            _ => self.word().to_owned(),
        }
    }

    /// The word for messages.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Directory(_) => "directory",
            Self::File => "file",
            Self::Link => "link",
            Self::State => "state directory",
            Self::Tarball => "directory for a tarball",
        }
    }
}

/// Checks the recipe in `recipes/<name>` below `root`.
pub fn check(
    root: &Path,
    name: &str,
    file: &SourceFile,
    raw: &RawRecipe,
    problems: &mut Diagnostics,
) -> RecipeDraft {
    let mut scope = Scope::new(file, problems);
    let mut draft = empty(name, file);
    if let Some(at) = &raw.description.0 {
        draft.recipe.description.clone_from(&at.value);
        description(&mut scope, at);
    }
    if let Some(at) = &raw.release.0 {
        draft.release = Some(scope.place(at));
        draft.recipe.release = release(&mut scope, at).then(|| at.value.clone());
    }
    for (name, archive) in &raw.archive.0 {
        draft.archives.insert(name.value.clone(), scope.place(name));
        draft.suites.extend(
            archive
                .value
                .suites
                .0
                .iter()
                .flat_map(|list| &list.value)
                .map(|at| (at.value.clone(), scope.place(at))),
        );
        let checked = archive::archive(&mut scope, root, &draft.recipe.name, name, &archive.value);
        draft.recipe.archives.extend(checked.map(|archive| (name.value.clone(), archive)));
    }
    if let Some(at) = &raw.packages.0 {
        scope.unique(&at.value.install.0);
        for at in &at.value.install.0 {
            scope.take(&at.span, words::package(&at.value));
        }
        let install: BTreeSet<_> = at.value.install.0.iter().map(|at| at.value.clone()).collect();
        let recommends = at.value.recommends.0.as_ref().is_some_and(|at| at.value);
        draft.recipe.packages = Packages { install: install.into_iter().collect(), recommends };
    }
    for at in &raw.group.0 {
        accounts::group(&mut scope, &at.value, &mut draft);
    }
    for at in &raw.user.0 {
        accounts::user(&mut scope, &at.value, &mut draft);
    }
    for at in &raw.directory.0 {
        let Some((path, place)) = path(&mut scope, &at.value.path) else { continue };
        let (owner, group) = accounts::owners(&mut scope, &mut draft, &at.value.owner, &at.value.group);
        let Some(mode) = mode(&mut scope, &at.value.mode, 0o755, true) else { continue };
        let directory = Directory { path, owner, group, mode };
        let made = Made::Directory(directory.clone());
        draft.claims.push(Claim { path: directory.path.clone(), place, made });
        draft.recipe.directories.push(directory);
    }
    for at in &raw.tarball.0 {
        tarball::tarball(&mut scope, at, &mut draft);
    }
    for at in &raw.file.0 {
        files::file(&mut scope, root, at, &mut draft);
    }
    for at in &raw.link.0 {
        let Some((path, place)) = path(&mut scope, &at.value.path) else { continue };
        let Some(target) = at.value.target.0.as_ref() else { continue };
        if target.value.is_empty() || target.value.len() > 4095 || target.value.contains('\0') {
            scope
                .error(&target.span, "the target of a link is empty, has a NUL or is longer than 4095 bytes")
                .help("write the path that it leads to");
        }
        draft.claims.push(Claim { path: path.clone(), place, made: Made::Link });
        let replace = at.value.replace.0.as_ref().is_some_and(|at| at.value);
        draft.recipe.links.push(Link { path, target: target.value.clone(), replace });
    }
    if let Some(at) = &raw.units.0 {
        draft.recipe.units = service::units(&mut scope, &at.value, &mut draft.units);
    }
    for at in &raw.state.0 {
        let Some((path, place)) = path(&mut scope, &at.value.path) else { continue };
        let Some(span) = at.value.path.0.as_ref().map(|at| at.span.clone()) else { continue };
        if scope.take(&span, mounts::state(&path.to_string())).is_none() {
            continue;
        }
        let (owner, group) = accounts::owners(&mut scope, &mut draft, &at.value.owner, &at.value.group);
        let Some(mode) = mode(&mut scope, &at.value.mode, 0o750, true) else { continue };
        let backup = at.value.backup.0.as_ref().is_none_or(|at| at.value);
        draft.claims.push(Claim { path: path.clone(), place: place.clone(), made: Made::State });
        draft.states.push(place);
        let migrates = at.value.migrates.0.as_ref().and_then(|at| handover::migrates(&mut scope, &at.value));
        draft.recipe.state.push(State { path, owner, group, mode, backup, migrates });
    }
    for at in &raw.space.0 {
        let Some((path, place)) = path(&mut scope, &at.value.path) else { continue };
        let Some(at) = &at.value.free.0 else { continue };
        match scope.take(&at.span, words::size(&at.value.0)) {
            Some(0) => {
                scope.error(&at.span, "no space at all is always free").help("leave this out");
            }
            Some(free) => {
                draft.spaces.push(place);
                draft.recipe.space.push(Space { path, free });
            }
            None => {}
        }
    }
    if let Some(at) = &raw.service.0 {
        draft.port = at.value.port.0.as_ref().map(|at| scope.place(at));
        let login = at.value.login.0.as_ref();
        draft.log = login.and_then(|at| at.value.log.0.as_ref()).map(|at| scope.place(at));
        draft.recipe.service = service::service(&mut scope, &at.value);
    }
    for at in &raw.port.0 {
        let place = at.value.number.0.as_ref().map(|at| scope.place(at));
        if let (Some(port), Some(place)) = (offer::port(&mut scope, &at.value), place) {
            draft.recipe.ports.push(port);
            draft.ports.push(place);
        }
    }
    for at in &raw.secret.0 {
        let secret = handover::secret(&mut scope, at, &draft.recipe);
        draft.recipe.secrets.extend(secret);
    }
    draft
}

/// A recipe of which nothing is known yet.
pub fn empty(name: &str, file: &SourceFile) -> RecipeDraft {
    RecipeDraft {
        recipe: Recipe {
            name: name.to_owned(),
            description: String::new(),
            release: None,
            archives: BTreeMap::new(),
            packages: Packages::default(),
            groups: Vec::new(),
            users: Vec::new(),
            directories: Vec::new(),
            tarballs: Vec::new(),
            files: Vec::new(),
            links: Vec::new(),
            units: Units::default(),
            state: Vec::new(),
            space: Vec::new(),
            service: None,
            ports: Vec::new(),
            secrets: Vec::new(),
        },
        complete: false,
        unread: false,
        file: file.clone(),
        release: None,
        archives: BTreeMap::new(),
        tarballs: Vec::new(),
        suites: Vec::new(),
        accounts: Vec::new(),
        mentions: Vec::new(),
        claims: Vec::new(),
        units: Vec::new(),
        states: Vec::new(),
        spaces: Vec::new(),
        port: None,
        ports: Vec::new(),
        log: None,
    }
}

/// One line, not empty, as Proxmox's notes and tables take it.
pub fn description(scope: &mut Scope<'_>, at: &At<String>) {
    if at.value.trim().is_empty() {
        scope.error(&at.span, "the description is empty").help("say in a few words what it is");
    } else if at.value.chars().any(char::is_control) {
        scope.error(&at.span, "the description has several lines").help("write one line");
    } else if at.value.len() > 1000 {
        scope.error(&at.span, "the description is longer than 1000 bytes").help("one line is enough");
    }
}

fn release(scope: &mut Scope<'_>, at: &At<String>) -> bool {
    let fine = !at.value.is_empty() && at.value.chars().all(|c| c.is_ascii_lowercase());
    let moving =
        matches!(at.value.as_str(), "stable" | "oldstable" | "testing" | "unstable" | "oldoldstable");
    let number =
        at.value.trim_start_matches(|c: char| !c.is_ascii_digit()).split('.').next().unwrap_or_default();
    let name = match number {
        "12" => "bookworm",
        "14" => "forky",
        _ => "trixie",
    };
    if moving {
        scope
            .error(&at.span, format!("`{}` is another release after the next one is out", at.value))
            .help("write the code name, as `trixie`");
    } else if !fine {
        scope
            .error(&at.span, format!("`{}` is not the code name of a Debian release", at.value))
            .help(format!("write it in lower case, as `{name}`"));
    }
    fine && !moving
}

/// The checked path of something that is made, and where it stands.
pub fn path(scope: &mut Scope<'_>, field: &Required<String>) -> Option<(TreePath, Place)> {
    let at = field.0.as_ref()?;
    let path = scope.take(&at.span, mounts::image_path(&at.value))?;
    Some((path, scope.place(at)))
}

/// Permission bits with their default.
pub fn mode(scope: &mut Scope<'_>, field: &Optional<Mode>, default: u32, directory: bool) -> Option<u32> {
    let Some(at) = &field.0 else { return Some(default) };
    let mode = scope.take(&at.span, words::mode(&at.value.0))?;
    if !directory && mode & 0o6000 != 0 {
        scope
            .warning(
                &at.span,
                format!("mode {} lets whoever runs the file act as its owner or group", at.value.0),
            )
            .help(format!("write `\"{:04o}\"` unless that is meant", mode & 0o1777));
    } else if directory && mode & 0o4000 != 0 {
        scope
            .warning(&at.span, "the set-uid bit means nothing on a directory")
            .help(format!("write `\"{:04o}\"`", mode & 0o3777));
    }
    if mode & 0o002 != 0 && mode & 0o1000 == 0 {
        scope
            .warning(&at.span, format!("mode {} lets everybody in the container write", at.value.0))
            .help(format!("write `\"{:04o}\"` unless that is meant", mode & !0o002));
    }
    Some(mode)
}
