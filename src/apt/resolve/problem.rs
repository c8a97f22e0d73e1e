//! What both solvers work on: the roots, what is installed before, and which package a relation may be met by.

use std::collections::BTreeMap;

use crate::apt::lockfile::Reason;
use crate::apt::package::{MultiArch, RelationField};
use crate::apt::universe::{Atom, NameId, PackageId, Qualifier, Universe};

/// Fields that must be met, in the order in which apt looks at them.
pub(super) const HARD: [RelationField; 2] = [RelationField::PreDepends, RelationField::Depends];
/// Fields that name what may not be there.
pub(super) const NEGATIVE: [RelationField; 2] = [RelationField::Conflicts, RelationField::Breaks];

/// A request whose names are looked up.
#[derive(Debug)]
pub(super) struct Problem<'u, 'a> {
    pub(super) universe: &'u Universe<'a>,
    pub(super) recommends: bool,
    /// What was asked for, with the reason, in the order in which it is marked.
    pub(super) roots: Vec<(PackageId, Reason)>,
    /// The package that a name stands for, where it is not the universe's candidate.
    base: BTreeMap<NameId, PackageId>,
}

impl<'u, 'a> Problem<'u, 'a> {
    pub(super) fn new(universe: &'u Universe<'a>, recommends: bool) -> Self {
        Problem { universe, recommends, roots: Vec::new(), base: BTreeMap::new() }
    }

    /// Has `id` installed from the start.
    pub(super) fn install_before(&mut self, id: PackageId) {
        self.base.insert(self.universe.name_of(id), id);
    }

    /// Asks for the name of `id`; of two reasons for one name the earlier [`Reason`] is kept.
    pub(super) fn ask_for(&mut self, id: PackageId, reason: Reason) {
        let id = self.candidate(self.universe.name_of(id)).unwrap_or(id);
        if self.roots.iter().all(|(root, _)| *root != id) {
            self.roots.push((id, reason));
        }
    }

    /// What is installed before, by name's id.
    pub(super) fn base(&self) -> impl Iterator<Item = PackageId> {
        self.base.values().copied()
    }

    pub(super) fn is_base(&self, id: PackageId) -> bool {
        self.base.get(&self.universe.name_of(id)) == Some(&id)
    }

    /// The only package that may be installed of a name: the one that already is, or else the candidate.
    pub(super) fn candidate(&self, name: NameId) -> Option<PackageId> {
        self.base.get(&name).copied().or_else(|| self.universe.candidate_of(name))
    }

    pub(super) fn is_candidate(&self, id: PackageId) -> bool {
        self.candidate(self.universe.name_of(id)) == Some(id)
    }

    /// The packages that may meet one clause, the most preferred first.
    ///
    /// apt's order: what is protected already, what is installed, the package of that very name, essential and
    /// protected packages, the more important priority; then whichever record of the name apt made last.
    pub(super) fn providers(&self, atom: &Atom<'a>, favoured: impl Fn(PackageId) -> bool) -> Vec<PackageId> {
        let mut found: Vec<_> = self.universe.matches(atom).filter(|id| self.is_candidate(*id)).collect();
        found.sort_unstable();
        found.dedup();
        if found.len() > 1 {
            let rank = |id: &PackageId| {
                let package = self.universe.package(*id);
                let name = self.universe.name_of(*id);
                let base = self.is_base(*id);
                (
                    !favoured(*id),
                    !(base && package.multi_arch == MultiArch::Same),
                    !base,
                    !(name == atom.name && atom.qualifier == Qualifier::Own),
                    !package.essential,
                    !package.protected,
                    package.priority,
                    std::cmp::Reverse(self.universe.place(name)),
                )
            };
            found.sort_by_cached_key(rank);
        }
        found
    }

    /// The packages that may meet a group of alternatives, the most preferred first.
    ///
    /// The order of the alternatives is the preference, but what is installed before comes first.
    pub(super) fn options(&self, group: &[Atom<'a>], favoured: impl Fn(PackageId) -> bool) -> Vec<PackageId> {
        let mut found: Vec<PackageId> = Vec::new();
        for atom in group {
            found.extend(self.providers(atom, &favoured));
        }
        found.sort_by_key(|id| !self.is_base(*id));
        let mut seen = std::collections::HashSet::new();
        found.retain(|id| seen.insert(*id));
        found
    }
}
