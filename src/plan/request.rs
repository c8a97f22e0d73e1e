//! What a project asks of the archives: one request for each recipe prefix that installs packages.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::apt::lockfile::{Lock, PackageSet, Reason};
use crate::apt::sync::definition;
use crate::digest::Sha256;
use crate::model::Project;
use crate::model::recipe::{Archive, Recipe, Tarball};

/// Version of what resolution means; a change makes every locked set stale.
const RESOLUTION: u32 = 1;

/// The packages that a list of recipes adds to those of the longest shorter list.
#[derive(Debug, Clone, PartialEq)]
pub struct SetRequest {
    /// The recipes, in order; the last one asks for packages.
    pub recipes: Vec<String>,
    /// What the last recipe asks for.
    pub install: Vec<String>,
    /// Whether recommended packages come too.
    pub recommends: bool,
    /// The archives that the recipes bring, by name.
    pub archives: BTreeMap<String, Archive>,
    /// Position of the shorter list's request among the requests, if there is one.
    pub base: Option<usize>,
    /// Images that use it.
    pub images: BTreeSet<String>,
}

/// All requests of a project, shorter recipe lists first, each list once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Requests {
    /// The requests.
    pub sets: Vec<SetRequest>,
    /// The tarballs of all images, by name.
    pub tarballs: BTreeMap<String, TarballRequest>,
}

/// A tarball that images need.
#[derive(Debug, Clone, PartialEq)]
pub struct TarballRequest {
    /// What the recipe says of it.
    pub tarball: Tarball,
    /// Images that use it.
    pub images: BTreeSet<String>,
}

/// The digest of a value's JSON, whose maps are sorted.
pub(crate) fn digest_json(value: &impl Serialize) -> Sha256 {
    // Values of this crate's own types have string keys only, the one thing that JSON could refuse.
    Sha256::of(serde_json::to_vec(value).expect("plain data has a JSON form"))
}

impl SetRequest {
    /// The digest that the lock keeps of this request.
    pub fn digest(&self) -> Sha256 {
        let Self { recipes, install, recommends, archives, base, images: _ } = self;
        let archives: BTreeMap<_, _> = archives.iter().map(|(name, a)| (name, definition(a))).collect();
        let install: BTreeSet<_> = install.iter().collect();
        digest_json(&(RESOLUTION, recipes, install, recommends, archives, base.is_none()))
    }

    /// Whether Essential and Priority: required packages are part of it.
    pub fn is_base(&self) -> bool {
        self.base.is_none()
    }
}

impl Requests {
    /// What `project`'s images ask for.
    pub fn of(project: &Project) -> Self {
        let mut requests = Self::default();
        for image in project.images.values() {
            let mut base = None;
            let mut archives = BTreeMap::new();
            for (index, name) in image.recipes.iter().enumerate() {
                let Some(recipe) = project.recipes.get(name) else { continue };
                archives.extend(recipe.archives.clone());
                for tarball in &recipe.tarballs {
                    let new = || TarballRequest { tarball: tarball.clone(), images: BTreeSet::new() };
                    let request = requests.tarballs.entry(tarball.name.clone()).or_insert_with(new);
                    request.images.insert(image.name.clone());
                }
                if index == 0 || !recipe.packages.install.is_empty() {
                    let recipes = image.recipes[..=index].to_vec();
                    base = Some(requests.add(recipes, recipe, &archives, base, &image.name));
                }
            }
        }
        requests
    }

    fn add(
        &mut self,
        recipes: Vec<String>,
        recipe: &Recipe,
        archives: &BTreeMap<String, Archive>,
        base: Option<usize>,
        image: &str,
    ) -> usize {
        let known = self.sets.iter().position(|set| set.recipes == recipes);
        let place = known.unwrap_or_else(|| {
            self.sets.push(SetRequest {
                recipes,
                install: recipe.packages.install.clone(),
                recommends: recipe.packages.recommends,
                archives: archives.clone(),
                base,
                images: BTreeSet::new(),
            });
            self.sets.len() - 1
        });
        self.sets[place].images.insert(image.to_owned());
        place
    }

    /// Every archive that a request uses, by name.
    pub fn archives(&self) -> BTreeMap<&str, &Archive> {
        let all = self.sets.iter().flat_map(|set| &set.archives);
        all.map(|(name, archive)| (name.as_str(), archive)).collect()
    }

    /// Those of `stale` that concern one of `images`; all of them when there are none.
    pub fn concerning(&self, stale: &[Stale], images: Option<&BTreeSet<String>>) -> Vec<Stale> {
        let Some(images) = images else { return stale.to_vec() };
        let used = |users: &BTreeSet<String>| users.iter().any(|user| images.contains(user));
        let concerns = |stale: &&Stale| match stale {
            Stale::NewArchive(name) | Stale::ChangedArchive(name) => {
                self.sets.iter().any(|set| set.archives.contains_key(name) && used(&set.images))
            }
            Stale::NewSet(recipes) | Stale::ChangedSet { recipes, .. } | Stale::Unresolved(recipes) => {
                self.sets.iter().any(|set| set.recipes == *recipes && used(&set.images))
            }
            Stale::NewTarball(name) | Stale::ChangedTarball(name) => {
                self.tarballs.get(name).is_some_and(|request| used(&request.images))
            }
            Stale::UnusedSet(_) | Stale::UnusedTarball(_) => false,
        };
        stale.iter().filter(concerns).cloned().collect()
    }

    /// What `lock` lacks or has otherwise than asked for. Nothing when the lock answers every request.
    pub fn stale(&self, lock: &Lock) -> Vec<Stale> {
        let mut stale = Vec::new();
        for (name, archive) in self.archives() {
            match lock.archive(name) {
                None => stale.push(Stale::NewArchive(name.to_owned())),
                Some(locked) if locked.definition != definition(archive) => {
                    stale.push(Stale::ChangedArchive(name.to_owned()));
                }
                Some(_) => {}
            }
        }
        for request in &self.sets {
            match lock.set(&request.recipes) {
                None => stale.push(Stale::NewSet(request.recipes.clone())),
                Some(set) if set.request != request.digest() => stale.push(changed(request, set)),
                Some(set) if set.unresolved => stale.push(Stale::Unresolved(request.recipes.clone())),
                Some(_) => {}
            }
        }
        for (name, TarballRequest { tarball, .. }) in &self.tarballs {
            match lock.tarball(name) {
                None => stale.push(Stale::NewTarball(name.clone())),
                Some(row) if row.sha256 != tarball.sha256 || row.url != tarball.url => {
                    stale.push(Stale::ChangedTarball(name.clone()));
                }
                Some(_) => {}
            }
        }
        let unused = lock.tarball.iter().filter(|row| !self.tarballs.contains_key(&row.name));
        stale.extend(unused.map(|row| Stale::UnusedTarball(row.name.clone())));
        let asked = |set: &&PackageSet| !self.sets.iter().any(|request| request.recipes == set.recipes);
        stale.extend(lock.set.iter().filter(asked).map(|set| Stale::UnusedSet(set.recipes.clone())));
        stale
    }
}

fn changed(request: &SetRequest, set: &PackageSet) -> Stale {
    let requested = |name: &&String| {
        let same = |member: &&crate::apt::lockfile::SetMember| member.name == **name;
        set.packages.iter().filter(same).any(|member| member.reason == Reason::Requested)
    };
    let members = set.packages.iter().filter(|member| member.reason == Reason::Requested);
    Stale::ChangedSet {
        recipes: request.recipes.clone(),
        added: request.install.iter().filter(|name| !requested(name)).cloned().collect(),
        removed: members.map(|m| &m.name).filter(|name| !request.install.contains(name)).cloned().collect(),
    }
}

/// One way in which a lock no longer answers what the recipes ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Stale {
    /// A recipe brings an archive that is not locked.
    #[error("archive `{0}` is not locked yet")]
    NewArchive(String),
    /// A recipe says something else of an archive than what was locked.
    #[error("archive `{0}` has another URI, suites, components or keys than were locked")]
    ChangedArchive(String),
    /// A list of recipes is not locked.
    #[error("the recipes {} are not locked yet", list(.0))]
    NewSet(Vec<String>),
    /// A list of recipes asks for something else than was locked.
    #[error("the recipes {} ask for something else than was locked{}", list(.recipes), difference(.added, .removed))]
    ChangedSet {
        /// The recipes.
        recipes: Vec<String>,
        /// Packages asked for now and not then.
        added: Vec<String>,
        /// Packages asked for then and not now.
        removed: Vec<String>,
    },
    /// A list of recipes keeps its pins, but what it builds on moved when it could not be resolved again.
    #[error("the recipes {} have to be resolved again, since what they build on has moved", list(.0))]
    Unresolved(Vec<String>),
    /// A recipe names a tarball that is not locked.
    #[error("tarball `{0}` is not locked yet")]
    NewTarball(String),
    /// A recipe says something else of a tarball than what was locked.
    #[error("tarball `{0}` has another URL or hash than was locked")]
    ChangedTarball(String),
    /// No recipe has this tarball any more. Harmless.
    #[error("no image has the tarball `{0}` any more")]
    UnusedTarball(String),
    /// No image has this list of recipes any more. Harmless.
    #[error("no image has the recipes {} any more", list(.0))]
    UnusedSet(Vec<String>),
}

impl Stale {
    /// Whether images can still be built from the lock as it is.
    pub fn is_harmless(&self) -> bool {
        matches!(self, Self::UnusedSet(_) | Self::UnusedTarball(_))
    }
}

fn list(names: &[String]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(" + ")
}

fn difference(added: &[String], removed: &[String]) -> String {
    let part = |label: &str, names: &[String]| match names {
        [] => String::new(),
        names => format!("; {label}: {}", names.join(", ")),
    };
    part("new", added) + &part("gone", removed)
}
