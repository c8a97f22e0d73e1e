//! From requests to a lock: which archives to ask, which lists to resolve, which pins to hold.

mod texts;

use std::collections::{BTreeMap, BTreeSet};

use super::deb::DebError;
use super::lockfile::{Lock, LockedArchive, LockedPackage, PackageSet, SetMember};
use super::resolve::{Chosen, Request, Unsatisfiable, resolve};
use super::sync::{SyncError, SyncedArchive, definition};
use super::universe::{Universe, UniverseError};
use texts::Texts;

use crate::fetch::FetchError;
use crate::model::recipe::Archive;
use crate::model::words::nearest;
use crate::plan::{Requests, SetRequest, Stale};

/// Where indices come from; the network, or a test's own.
pub trait ArchiveSource {
    /// The newest state of `archive`, not older than `previous`.
    ///
    /// # Errors
    /// See [`SyncError`].
    fn newest(&self, archive: &Archive, previous: Option<&LockedArchive>)
    -> Result<SyncedArchive, SyncError>;

    /// The state of `archive` that `locked` pins.
    ///
    /// # Errors
    /// See [`SyncError`].
    fn pinned(&self, archive: &Archive, locked: &LockedArchive) -> Result<SyncedArchive, SyncError>;

    /// The control file of the .deb that the lock names, for a package that no index lists any more.
    ///
    /// # Errors
    /// When nobody has the .deb, or it is none.
    fn control(&self, package: &LockedPackage, archive: &LockedArchive) -> Result<String, ControlFileError>;
}

/// What a locked package depends on cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ControlFileError {
    /// Its .deb cannot be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Its .deb cannot be read.
    #[error("cannot read `{package}`: {source}")]
    Deb {
        /// The package.
        package: String,
        /// Why not.
        source: DebError,
    },
}

/// Why there is no new lock.
#[derive(Debug, thiserror::Error)]
pub enum LockingError {
    /// An archive.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// A package index is not as Debian's policy has it.
    #[error(transparent)]
    Universe(#[from] UniverseError),
    /// A package that stays as it is.
    #[error(transparent)]
    Control(#[from] ControlFileError),
    /// Nothing fits.
    #[error("no packages fit for the recipes {}\n{source}", recipes.join(" + "))]
    Unsatisfiable {
        /// The recipes.
        recipes: Vec<String>,
        /// Why not.
        source: Unsatisfiable,
    },
    /// `update` was given a name that is neither an archive nor a locked package.
    #[error("`{name}` is neither an archive nor a package of the lock{}", near.as_deref().map(|n| format!("; is it `{n}`?")).unwrap_or_default())]
    UnknownName {
        /// What was given.
        name: String,
        /// The nearest name there is.
        near: Option<String>,
    },
}

/// Locks what `stale` names and keeps every other pin.
///
/// # Errors
/// See [`LockingError`].
pub fn lock_missing(
    requests: &Requests,
    old: &Lock,
    stale: &[Stale],
    source: &dyn ArchiveSource,
) -> Result<Lock, LockingError> {
    let changed = |name: &str| stale.iter().any(|s| matches!(s, Stale::ChangedArchive(n) if n == name));
    let redo: BTreeSet<usize> = to_resolve(requests, stale);
    let needed: BTreeSet<&String> = redo.iter().flat_map(|set| requests.sets[*set].archives.keys()).collect();
    let mut synced = BTreeMap::new();
    let mut archives = Vec::new();
    for (name, archive) in requests.archives() {
        let locked = old.archive(name).filter(|_| !changed(name));
        match locked {
            Some(locked) if !needed.contains(&name.to_owned()) => archives.push(locked.clone()),
            Some(locked) => {
                let state = source.pinned(archive, locked)?;
                // Reading it again must not change what the lock says of it.
                archives.push(locked.clone());
                synced.insert(name.to_owned(), state);
            }
            None => {
                let state = source.newest(archive, None)?;
                archives.push(state.locked.clone());
                synced.insert(name.to_owned(), state);
            }
        }
    }
    // What is in the lock stays as it is, also where `update PACKAGE` left it behind the state of its archive.
    let mut texts = Texts::of(&synced);
    let unlisted = texts.unlisted(old);
    for package in unlisted {
        if let Some(locked) = old.archive(&package.archive) {
            texts.add(package, &source.control(package, locked)?);
        }
    }
    let held = texts.pinned(&pins(old));
    let lock = Resolver { requests, old, texts: &held }.lock(&redo, archives.clone());
    // What is new may not fit with every pin of its own list.
    lock.or_else(|_| Resolver { requests, old, texts: &texts }.lock(&redo, archives))
}

/// Versions by package.
fn pins(lock: &Lock) -> BTreeMap<&str, &str> {
    lock.package.iter().map(|row| (row.name.as_str(), row.version.as_str())).collect()
}

/// The sets to resolve: those that are stale and those above one that is.
fn to_resolve(requests: &Requests, stale: &[Stale]) -> BTreeSet<usize> {
    let mut redo = BTreeSet::new();
    for (index, request) in requests.sets.iter().enumerate() {
        let own = stale.iter().any(|stale| match stale {
            Stale::ChangedArchive(name) => request.archives.contains_key(name),
            Stale::NewSet(recipes) | Stale::ChangedSet { recipes, .. } => *recipes == request.recipes,
            Stale::NewArchive(_) | Stale::UnusedSet(_) => false,
        });
        // A base stands before the sets above it.
        if own || request.base.is_some_and(|base| redo.contains(&base)) {
            redo.insert(index);
        }
    }
    redo
}

/// Moves pins forward: everything when `names` is empty, else the archives and packages named and no more than they
/// need.
///
/// # Errors
/// See [`LockingError`].
pub fn update(
    requests: &Requests,
    old: &Lock,
    names: &[String],
    source: &dyn ArchiveSource,
) -> Result<Lock, LockingError> {
    let archives = requests.archives();
    let (moving_archives, packages): (Vec<_>, Vec<_>) =
        names.iter().partition(|name| archives.contains_key(name.as_str()));
    if let Some(name) = packages.iter().find(|name| !old.package.iter().any(|row| row.name == ***name)) {
        return Err(unknown(name, old, &archives));
    }
    let everything = names.is_empty();
    let mut states = BTreeMap::new();
    let mut before = BTreeMap::new();
    for (name, archive) in &archives {
        let locked = old.archive(name).filter(|locked| locked.definition == definition(archive));
        let moves = everything || !packages.is_empty() || moving_archives.iter().any(|moving| moving == name);
        let state = match locked {
            Some(locked) if !moves => source.pinned(archive, locked)?,
            locked => source.newest(archive, locked)?,
        };
        if let Some(locked) = locked.filter(|locked| !packages.is_empty() && state.locked != **locked) {
            // Packages that do not move keep versions that only the pinned state may still list. Where nobody has
            // that state any more, their .debs say what they need.
            if let Ok(pinned) = source.pinned(archive, locked) {
                before.insert((*name).to_owned(), pinned);
            }
        }
        states.insert((*name).to_owned(), state);
    }
    let rows: Vec<_> = states.values().map(|state| state.locked.clone()).collect();
    let all: BTreeSet<_> = (0..requests.sets.len()).collect();
    let newest = Texts::of(&states);
    if packages.is_empty() {
        return Resolver { requests, old, texts: &newest }.lock(&all, rows);
    }
    let mut both = newest.and(Texts::of(&before));
    let unlisted = both.unlisted(old);
    for package in unlisted {
        if let Some(Ok(text)) = old.archive(&package.archive).map(|locked| source.control(package, locked)) {
            both.add(package, &text);
        }
    }
    least_move(requests, old, &both, &rows, packages.into_iter().cloned().collect())
}

/// The lock in which `packages` are at their newest and as few others as possible moved.
fn least_move(
    requests: &Requests,
    old: &Lock,
    texts: &Texts,
    archives: &[LockedArchive],
    packages: BTreeSet<String>,
) -> Result<Lock, LockingError> {
    let all: BTreeSet<_> = (0..requests.sets.len()).collect();
    let pins = pins(old);
    let held = |free: &BTreeSet<String>| {
        let mut pins = pins.clone();
        pins.retain(|name, _| !free.contains(*name));
        let texts = texts.pinned(&pins);
        Resolver { requests, old, texts: &texts }.lock(&all, archives.to_vec())
    };
    if let Ok(lock) = held(&packages) {
        return Ok(lock);
    }
    // Something else has to move. Let everything move, then hold one package after the other again where that fits.
    let mut free: BTreeSet<String> = pins.keys().map(|name| (*name).to_owned()).collect();
    let mut best = held(&free)?;
    let moved: Vec<String> = free
        .iter()
        .filter(|name| !packages.contains(*name))
        .filter(|name| {
            best.package.iter().any(|row| row.name == **name && pins[name.as_str()] != row.version)
        })
        .cloned()
        .collect();
    free.retain(|name| packages.contains(name) || moved.contains(name));
    for name in moved {
        let mut fewer = free.clone();
        fewer.remove(&name);
        if let Ok(lock) = held(&fewer) {
            best = lock;
            free = fewer;
        }
    }
    Ok(best)
}

fn unknown(name: &str, old: &Lock, archives: &BTreeMap<&str, &Archive>) -> LockingError {
    let known = old.package.iter().map(|row| row.name.as_str()).chain(archives.keys().copied());
    let near = nearest_name(name, known).map(str::to_owned);
    LockingError::UnknownName { name: name.to_owned(), near }
}

/// The name among `known` that was most likely meant: one with a typing error less, else one that contains `name` or is
/// part of it.
pub(crate) fn nearest_name<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let related = known.clone().filter(|known| known.contains(name) || name.contains(known));
    nearest(name, known).or_else(|| related.min_by_key(|known| known.len().abs_diff(name.len())))
}

struct Resolver<'a> {
    requests: &'a Requests,
    old: &'a Lock,
    texts: &'a Texts,
}

impl Resolver<'_> {
    /// The lock with the sets in `redo` resolved anew and the others as they were.
    fn lock(&self, redo: &BTreeSet<usize>, archive: Vec<LockedArchive>) -> Result<Lock, LockingError> {
        let mut lock = Lock { archive, package: self.old.package.clone(), ..Lock::default() };
        // Universes by the archives they are made of; a project rarely has more than one or two.
        let mut universes: Vec<(Vec<&String>, Universe<'_>)> = Vec::new();
        for (index, request) in self.requests.sets.iter().enumerate() {
            if !redo.contains(&index) {
                lock.set.extend(self.old.set(&request.recipes).cloned());
                continue;
            }
            let names: Vec<_> = request.archives.keys().collect();
            let known = universes.iter().position(|(archives, _)| *archives == names);
            let place = match known {
                Some(place) => place,
                None => {
                    universes.push((names, self.texts.universe(&request.archives)?));
                    universes.len() - 1
                }
            };
            let set = self.set(request, &universes[place].1, &mut lock)?;
            lock.set.push(set);
        }
        Ok(lock.tidy())
    }

    fn set(
        &self,
        request: &SetRequest,
        universe: &Universe<'_>,
        lock: &mut Lock,
    ) -> Result<PackageSet, LockingError> {
        let below = self.below(request, lock);
        let base: Vec<_> =
            below.iter().map(|member| Chosen { name: &member.name, version: &member.version }).collect();
        let wanted = Request {
            install: &request.install,
            recommends: request.recommends,
            essential: request.is_base(),
            base: &base,
        };
        let fail = |source| LockingError::Unsatisfiable { recipes: request.recipes.clone(), source };
        let (solution, alone) = match resolve(universe, &wanted) {
            Ok(solution) => (solution, false),
            Err(error) if base.is_empty() => return Err(fail(error)),
            // What the shorter list chose stands in the way: this list gets packages of its own from the ground up.
            Err(_) => {
                let mut install: Vec<String> = request.install.clone();
                let mut ask = request.base;
                while let Some(position) = ask {
                    install.extend(self.requests.sets[position].install.iter().cloned());
                    ask = self.requests.sets[position].base;
                }
                let wanted =
                    Request { install: &install, recommends: request.recommends, essential: true, base: &[] };
                (resolve(universe, &wanted).map_err(fail)?, true)
            }
        };
        let mut packages = Vec::new();
        for member in &solution.members {
            let row: LockedPackage = universe.locked(member.package);
            packages.push(SetMember {
                name: row.name.clone(),
                version: row.version.clone(),
                architecture: row.architecture.clone(),
                reason: member.reason,
                by: member.by.map(|by| universe.package(by).name.to_owned()),
            });
            // What is read anew takes the place of what the old lock said of the same version.
            lock.package.retain(|old| {
                (&old.name, &old.version, &old.architecture) != (&row.name, &row.version, &row.architecture)
            });
            lock.package.push(row);
        }
        Ok(PackageSet { recipes: request.recipes.clone(), alone, request: request.digest(), packages })
    }

    /// The packages of all shorter lists.
    fn below(&self, request: &SetRequest, lock: &Lock) -> Vec<SetMember> {
        let mut members = Vec::new();
        let mut next = request.base;
        while let Some(position) = next {
            let below = &self.requests.sets[position];
            let set = lock.set.iter().find(|set| set.recipes == below.recipes);
            members.extend(set.into_iter().flat_map(|set| set.packages.iter().cloned()));
            next = below.base.filter(|_| !set.is_some_and(|set| set.alone));
        }
        members
    }
}
