//! Lists of recipes, each resolved on top of the shorter ones.

use std::collections::{BTreeMap, BTreeSet};

use super::LockingError;
use super::texts::Texts;
use crate::apt::lockfile::{Lock, LockedArchive, LockedPackage, PackageSet, SetMember};
use crate::apt::resolve::{Chosen, Request, resolve};
use crate::apt::universe::Universe;
use crate::plan::{Requests, SetRequest};

/// What sets are resolved from.
pub(super) struct Resolver<'a> {
    pub(super) requests: &'a Requests,
    pub(super) old: &'a Lock,
    pub(super) texts: &'a Texts,
    /// Sets that cannot be resolved now, each with the archive that is missing.
    pub(super) lost: &'a BTreeMap<usize, String>,
}

impl Resolver<'_> {
    /// The lock with the sets in `redo` resolved anew and the others as they were.
    pub(super) fn lock(
        &self,
        redo: &BTreeSet<usize>,
        archive: Vec<LockedArchive>,
    ) -> Result<Lock, LockingError> {
        let mut lock = Lock { archive, package: self.old.package.clone(), ..Lock::default() };
        // Universes by the archives they are made of; a project rarely has more than one or two.
        let mut universes: Vec<(Vec<&String>, Universe<'_>)> = Vec::new();
        // Sets that hold other packages now than in the old lock, or stand on one that does.
        let mut moved = BTreeSet::new();
        for (index, request) in self.requests.sets.iter().enumerate() {
            let old = self.old.set(&request.recipes);
            let below_moved = request.base.is_some_and(|base| moved.contains(&base));
            if !redo.contains(&index) || self.lost.contains_key(&index) {
                // One that stands alone has nothing below it that could move.
                let below_moved = below_moved && !old.is_some_and(|old| old.alone);
                let kept = old.cloned();
                lock.set
                    .extend(kept.map(|set| PackageSet { unresolved: set.unresolved || below_moved, ..set }));
                if below_moved || old.is_none() {
                    moved.insert(index);
                }
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
            if below_moved || old.is_none_or(|old| !same(old, &set)) {
                moved.insert(index);
            }
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
        let recipes = request.recipes.clone();
        Ok(PackageSet { recipes, alone, unresolved: false, request: request.digest(), packages })
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

/// Whether two sets hold the same packages.
fn same(old: &PackageSet, new: &PackageSet) -> bool {
    let key = |set: &PackageSet| -> Vec<(String, String, String)> {
        let members = set.packages.iter();
        let mut key: Vec<_> =
            members.map(|m| (m.name.clone(), m.version.clone(), m.architecture.clone())).collect();
        key.sort();
        key
    };
    old.alone == new.alone && key(old) == key(new)
}
