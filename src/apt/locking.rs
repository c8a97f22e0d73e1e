//! From requests to a lock: which archives to ask, which lists to resolve, which pins to hold.

mod missing;
mod resolver;
mod states;
mod tarballs;
mod texts;

use std::collections::{BTreeMap, BTreeSet};

use super::deb::DebError;
use super::lockfile::{Lock, LockedArchive, LockedPackage};
use super::resolve::Unsatisfiable;
use super::sync::{SyncError, SyncedArchive, definition};
use super::universe::UniverseError;
use resolver::Resolver;
use states::States;
use texts::Texts;

pub use missing::{Lacking, Missing, Tried};

use crate::fetch::FetchError;
use crate::model::recipe::{Archive, Tarball};
use crate::model::words::nearest;
use crate::plan::{Requests, Stale};

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

    /// The size of a tarball, which has the hash that its recipe names.
    ///
    /// # Errors
    /// When nobody has it.
    fn tarball(&self, tarball: &Tarball) -> Result<u64, FetchError>;
}

/// A lock, and what could not be had for it.
#[derive(Debug)]
pub struct Locking {
    /// The lock: whatever could be locked is, everything else is as it was.
    pub lock: Lock,
    /// What could not be had, and which images wait for it.
    pub missing: Vec<Missing>,
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
    /// `update` was given the name of a tarball.
    #[error("`{name}` is a tarball, which its recipe pins: change its `url` and `sha256` there")]
    Tarball {
        /// What was given.
        name: String,
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

/// Locks what `stale` names and keeps every other pin. With `images`, only what these need.
///
/// An archive or a tarball that cannot be had, and a list of recipes that no packages fit, stop only the images that need
/// them: see [`Locking::missing`].
///
/// # Errors
/// See [`LockingError`].
pub fn lock_missing(
    requests: &Requests,
    old: &Lock,
    stale: &[Stale],
    images: Option<&BTreeSet<String>>,
    source: &dyn ArchiveSource,
) -> Result<Locking, LockingError> {
    let wanted =
        |users: &BTreeSet<String>| images.is_none_or(|images| users.iter().any(|user| images.contains(user)));
    let changed = |name: &str| stale.iter().any(|s| matches!(s, Stale::ChangedArchive(n) if n == name));
    let mut redo: BTreeSet<usize> = to_resolve(requests, stale);
    redo.retain(|set| wanted(&requests.sets[*set].images));
    let mut states = States::default();
    let archives = requests.archives();
    let (pinned, new): (Vec<_>, Vec<_>) =
        archives.iter().partition(|(name, _)| old.archive(name).is_some() && !changed(name));
    // New ones first: what a list needs beside one that cannot be had is not worth fetching.
    for (name, archive) in new.into_iter().chain(pinned) {
        let needs = |set: &&usize| {
            let archives = &requests.sets[**set].archives;
            archives.contains_key(*name) && !archives.keys().any(|other| states.has_failed(other))
        };
        let locked = old.archive(name);
        if !redo.iter().any(|set| needs(&set)) {
            states.keep(locked);
        } else if let Some(locked) = locked.filter(|_| !changed(name)) {
            states.pinned(archive, locked, old, source)?;
        } else {
            states.newest(archive, None, old, source)?;
        }
    }
    // What is in the lock stays as it is, also where `update PACKAGE` left it behind the state of its archive.
    let mut texts = Texts::of(&states.synced);
    states.complete(&mut texts, old, source)?;
    let held = texts.pinned(&pins(old));
    // What is new may not fit with every pin of its own list.
    let lock = states.resolve(requests, (&redo, true), |lost, archives| {
        let lock = Resolver { requests, old, texts: &held, lost }.lock(&redo, archives.clone());
        lock.or_else(|_| Resolver { requests, old, texts: &texts, lost }.lock(&redo, archives))
    })?;
    tarballs::lock(requests, old, wanted, states.finish(requests, lock), source)
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
            Stale::NewSet(recipes) | Stale::ChangedSet { recipes, .. } | Stale::Unresolved(recipes) => {
                *recipes == request.recipes
            }
            Stale::NewArchive(_) | Stale::UnusedSet(_) => false,
            Stale::NewTarball(_) | Stale::ChangedTarball(_) | Stale::UnusedTarball(_) => false,
        });
        // A base stands before the sets above it.
        if own || request.base.is_some_and(|base| redo.contains(&base)) {
            redo.insert(index);
        }
    }
    redo
}

/// Moves pins forward: everything when `names` is empty, else the archives and packages named and no more than they
/// need. Archives that do not move keep their packages' versions where that is possible.
///
/// An archive that cannot be had keeps its pins: see [`Locking::missing`].
///
/// # Errors
/// See [`LockingError`].
pub fn update(
    requests: &Requests,
    old: &Lock,
    names: &[String],
    source: &dyn ArchiveSource,
) -> Result<Locking, LockingError> {
    let archives = requests.archives();
    let (moving_archives, packages): (Vec<_>, Vec<_>) =
        names.iter().partition(|name| archives.contains_key(name.as_str()));
    if let Some(name) = packages.iter().find(|name| !old.package.iter().any(|row| row.name == ***name)) {
        return Err(unknown(name, requests, old, &archives));
    }
    let everything = names.is_empty();
    let related = related(requests, old, &packages);
    let mut states = States::default();
    let mut before = BTreeMap::new();
    let mut still = BTreeSet::new();
    for (name, archive) in &archives {
        let locked = old.archive(name).filter(|locked| locked.definition == definition(archive));
        let moves =
            everything || related.contains(*name) || moving_archives.iter().any(|moving| moving == name);
        match locked {
            Some(locked) if !moves => {
                states.pinned(archive, locked, old, source)?;
                still.insert(*name);
                continue;
            }
            locked => states.newest(archive, locked, old, source)?,
        }
        if !states.moved(name) {
            still.insert(*name);
        }
        if let Some(locked) = locked.filter(|locked| !packages.is_empty() && states.is_other(name, locked)) {
            // Packages that do not move keep versions that only the pinned state may still list. Where nobody has
            // that state any more, their .debs say what they need.
            if let Ok(pinned) = source.pinned(archive, locked) {
                before.insert((*name).to_owned(), pinned);
            }
        }
    }
    let all: BTreeSet<_> = (0..requests.sets.len()).collect();
    let mut both = Texts::of(&states.synced).and(Texts::of(&before));
    let unlisted = both.unlisted(old);
    for package in unlisted {
        if packages.is_empty() && !still.contains(package.archive.as_str()) {
            continue;
        }
        if let Some(Ok(text)) = old.archive(&package.archive).map(|locked| source.control(package, locked)) {
            both.add(package, &text);
        }
    }
    let lock = if packages.is_empty() {
        let mut staying = pins(old);
        staying.retain(|name, _| {
            old.package.iter().any(|row| row.name == **name && still.contains(row.archive.as_str()))
        });
        let held = both.pinned(&staying);
        states.resolve(requests, (&all, false), |lost, archives| {
            let lock = Resolver { requests, old, texts: &held, lost }.lock(&all, archives.clone());
            lock.or_else(|_| Resolver { requests, old, texts: &both, lost }.lock(&all, archives))
        })?
    } else {
        let packages: BTreeSet<String> = packages.into_iter().cloned().collect();
        states.resolve(requests, (&all, false), |lost, archives| {
            least_move((requests, lost), old, &both, &archives, packages.clone())
        })?
    };
    tarballs::lock(requests, old, |_| true, states.finish(requests, lock), source)
}

/// The archives that a newer version of `packages` may come from: those that were there to choose from when the
/// archive they are from was first named.
fn related<'r>(requests: &'r Requests, old: &Lock, packages: &[&String]) -> BTreeSet<&'r str> {
    let rows = old.package.iter().filter(|row| packages.contains(&&row.name));
    let smallest = |archive: &str| {
        let with = requests.sets.iter().filter(|set| set.archives.contains_key(archive));
        with.min_by_key(|set| set.archives.len())
    };
    let sets = rows.filter_map(|row| smallest(&row.archive));
    sets.flat_map(|set| set.archives.keys().map(String::as_str)).collect()
}

/// The lock in which `packages` are at their newest and as few others as possible moved.
fn least_move(
    (requests, lost): (&Requests, &BTreeMap<usize, String>),
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
        Resolver { requests, old, texts: &texts, lost }.lock(&all, archives.to_vec())
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

fn unknown(name: &str, requests: &Requests, old: &Lock, archives: &BTreeMap<&str, &Archive>) -> LockingError {
    if requests.tarballs.contains_key(name) {
        return LockingError::Tarball { name: name.to_owned() };
    }
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
