//! What `apt-get install` does first: mark depth first, then sweep.
//!
//! A package is marked together with what it needs, in the order of its fields; of alternatives the preferred one is
//! tried first, and one that fails is given up for good. Nothing that was marked on the way is taken back, so a failed
//! branch leaves packages behind; they are swept up in the end unless something that stays would use them.
//!
//! This never looks back: it may end in a contradiction although some set fits. Then it says so, and
//! [`super::search`] takes over.

use std::collections::BTreeMap;

use super::problem::{HARD, NEGATIVE, Problem};
use crate::apt::package::RelationField;
use crate::apt::universe::{Atom, NameId, PackageId};

/// Longest chain of packages that is followed. Debian's longest are about a tenth of it; the stack holds it easily.
const DEPTH_LIMIT: usize = 600;
/// Most packages looked at, counting each time.
const STEP_LIMIT: usize = 1_000_000;

/// The packages installed in the end, the base included; nothing when marking ends in a contradiction.
pub(super) fn mark(problem: &Problem<'_, '_>) -> Option<BTreeMap<NameId, PackageId>> {
    let mut marker = Marker::new(problem);
    for (id, _) in &problem.roots {
        let name = problem.universe.name_of(*id);
        marker.state[name.index()].protected = true;
        marker.select(*id);
    }
    for (id, _) in &problem.roots {
        marker.install(*id, Asked::ByUser, 0);
    }
    if marker.steps > STEP_LIMIT {
        return None;
    }
    // What was taken back for a conflict leaves packages that need it; they go as well unless they are needed.
    marker.sweep();
    while marker.drop_incomplete() {
        marker.sweep();
    }
    if marker.is_broken() {
        return None;
    }
    let selected = marker.state.iter().filter_map(|state| state.selected);
    Some(selected.map(|id| (problem.universe.name_of(id), id)).collect())
}

/// Who wants a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    ByUser,
    ByPackage,
}

/// What is known of one name.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// The package that is or will be installed.
    selected: Option<PackageId>,
    /// The package that may be installed; nothing once it was given up.
    candidate: Option<PackageId>,
    /// Neither to be taken back nor to be installed against what was decided.
    protected: bool,
}

struct Marker<'p, 'u, 'a> {
    problem: &'p Problem<'u, 'a>,
    /// By the name's id.
    state: Vec<State>,
    steps: usize,
}

impl<'p, 'u, 'a> Marker<'p, 'u, 'a> {
    fn new(problem: &'p Problem<'u, 'a>) -> Self {
        let mut state = vec![State::default(); problem.universe.name_count()];
        for name in problem.universe.names() {
            state[name.index()].candidate = problem.candidate(name);
        }
        for id in problem.base() {
            state[problem.universe.name_of(id).index()].selected = Some(id);
        }
        Marker { problem, state, steps: 0 }
    }

    fn state(&mut self, id: PackageId) -> &mut State {
        &mut self.state[self.problem.universe.name_of(id).index()]
    }

    fn is_protected(&self, id: PackageId) -> bool {
        self.state[self.problem.universe.name_of(id).index()].protected
    }

    fn is_selected(&self, id: PackageId) -> bool {
        self.state[self.problem.universe.name_of(id).index()].selected == Some(id)
    }

    fn is_candidate(&self, id: PackageId) -> bool {
        self.state[self.problem.universe.name_of(id).index()].candidate == Some(id)
    }

    fn select(&mut self, id: PackageId) {
        self.state(id).selected = Some(id);
    }

    /// Gives a package up that was about to be installed.
    fn give_up(&mut self, id: PackageId) {
        if !self.problem.is_base(id) {
            let state = self.state(id);
            state.selected = None;
            state.candidate = None;
        }
    }

    /// Marks a package with everything it needs; whether that worked.
    fn install(&mut self, id: PackageId, asked: Asked, depth: usize) -> bool {
        self.steps += 1;
        if depth > DEPTH_LIMIT || self.steps > STEP_LIMIT || !self.is_candidate(id) {
            return false;
        }
        let protected = self.is_protected(id);
        let selected = self.is_selected(id);
        if protected && !selected && asked == Asked::ByPackage {
            return false;
        }
        if !protected && selected && self.is_content(id) {
            return true;
        }
        let base = self.problem.is_base(id);
        if !base && !self.can_ever_be_met(id) {
            if !protected {
                let state = self.state(id);
                state.candidate = None;
                state.selected = None;
            }
            return false;
        }
        let fail_early = !protected && asked == Asked::ByPackage;
        let mut failed = false;
        let wanted = self.wanted(id, protected);
        if !self.clear_conflicts(id, protected, asked) {
            if fail_early {
                return false;
            }
            failed = true;
        }
        self.select(id);
        // Its own dependencies may not take it back.
        self.state(id).protected = true;
        let complete = self.install_needed(&wanted, protected, asked, depth);
        self.state(id).protected = protected;
        if !complete {
            if fail_early {
                self.give_up(id);
                return false;
            }
            failed = true;
        }
        !failed
    }

    /// Whether each hard dependency has some package that could meet it, were nothing else in the way.
    fn can_ever_be_met(&self, id: PackageId) -> bool {
        let universe = self.problem.universe;
        let mut groups = HARD.iter().flat_map(|field| universe.groups(id, *field));
        groups.all(|group| {
            group.iter().any(|atom| {
                universe.matches(atom).any(|id| self.is_selected(id) || self.problem.is_candidate(id))
            })
        })
    }

    /// The groups to install something for; what is met already counts only when protection is passed on.
    fn wanted(&self, id: PackageId, protected: bool) -> Vec<(RelationField, &'u [Atom<'a>])> {
        let universe = self.problem.universe;
        let mut wanted = Vec::new();
        for field in [HARD[0], HARD[1], RelationField::Recommends] {
            // What is installed already has had its chance to get what it recommends.
            if field == RelationField::Recommends && (!self.problem.recommends || self.problem.is_base(id)) {
                continue;
            }
            for group in universe.groups(id, field) {
                if protected || !self.is_met(group) {
                    wanted.push((field, group));
                }
            }
        }
        wanted
    }

    fn is_met(&self, group: &[Atom<'a>]) -> bool {
        group.iter().any(|atom| self.problem.universe.matches(atom).any(|id| self.is_selected(id)))
    }

    /// Takes back what conflicts with `id`, or fails when that is protected or installed already.
    fn clear_conflicts(&mut self, id: PackageId, protected: bool, asked: Asked) -> bool {
        let universe = self.problem.universe;
        let mut cleared = true;
        for field in NEGATIVE {
            for group in universe.groups(id, field) {
                for atom in group {
                    let enemies: Vec<_> =
                        universe.conflicting(id, atom).filter(|id| self.problem.is_candidate(*id)).collect();
                    let active = enemies.iter().any(|id| self.is_selected(*id));
                    for enemy in enemies {
                        if (!active && !protected) || !self.is_candidate(enemy) {
                            continue;
                        }
                        if self.is_selected(enemy) {
                            if self.is_protected(enemy) || self.problem.is_base(enemy) {
                                cleared = false;
                                if !protected && asked == Asked::ByPackage {
                                    return false;
                                }
                            } else {
                                self.state(enemy).selected = None;
                            }
                        } else if protected {
                            let state = self.state(enemy);
                            state.candidate = None;
                            state.protected = true;
                        }
                    }
                }
            }
        }
        cleared
    }

    /// Installs something for each wanted group that is not met by then.
    fn install_needed(
        &mut self,
        wanted: &[(RelationField, &[Atom<'a>])],
        protected: bool,
        asked: Asked,
        depth: usize,
    ) -> bool {
        let mut complete = true;
        for (field, group) in wanted {
            let hard = *field != RelationField::Recommends;
            if self.is_met(group) {
                if protected && hard {
                    complete &= self.pass_protection_on(group, depth);
                }
                continue;
            }
            let options = self.options(group);
            let single = options.len() == 1;
            let mut met = false;
            for option in options {
                if !self.is_candidate(option) {
                    continue;
                }
                if protected && hard && single {
                    // Something protected can have nothing else, so this is protected as well.
                    if self.is_protected(option) && !self.is_selected(option) {
                        continue;
                    }
                    self.select(option);
                    self.state(option).protected = true;
                }
                if self.install(option, Asked::ByPackage, depth + 1) {
                    met = true;
                    break;
                }
            }
            if !met && hard {
                complete = false;
                if !protected && asked == Asked::ByPackage {
                    break;
                }
            }
        }
        complete
    }

    /// Protects the only package that can meet a group, which is met already.
    fn pass_protection_on(&mut self, group: &[Atom<'a>], depth: usize) -> bool {
        match self.options(group)[..] {
            [only] if !self.is_protected(only) => {
                self.state(only).protected = true;
                self.install(only, Asked::ByPackage, depth + 1)
            }
            _ => true,
        }
    }

    /// The packages that may meet a group, without those that were decided against.
    fn options(&self, group: &[Atom<'a>]) -> Vec<PackageId> {
        let mut options = self.problem.options(group, |id| self.is_protected(id));
        options.retain(|id| self.is_candidate(*id) && (self.is_selected(*id) || !self.is_protected(*id)));
        options
    }

    /// Whether everything that a selected package needs, or recommends if that matters, is there, and nothing that it
    /// conflicts with.
    fn is_content(&self, id: PackageId) -> bool {
        let universe = self.problem.universe;
        let recommends = self.problem.recommends && !self.problem.is_base(id);
        self.is_sound(id)
            && (!recommends || universe.groups(id, RelationField::Recommends).all(|group| self.is_met(group)))
    }

    fn is_complete(&self, id: PackageId) -> bool {
        let universe = self.problem.universe;
        HARD.iter().flat_map(|field| universe.groups(id, *field)).all(|group| self.is_met(group))
    }

    /// Drops the packages whose dependencies are not met, as far as they may be dropped; whether there was one.
    fn drop_incomplete(&mut self) -> bool {
        let selected: Vec<_> = self.state.iter().filter_map(|state| state.selected).collect();
        let mut dropped = false;
        for id in selected {
            if !self.is_protected(id) && !self.problem.is_base(id) && !self.is_complete(id) {
                self.state(id).selected = None;
                dropped = true;
            }
        }
        dropped
    }

    fn is_sound(&self, id: PackageId) -> bool {
        let universe = self.problem.universe;
        self.is_complete(id)
            && !NEGATIVE
                .iter()
                .flat_map(|field| universe.groups(id, *field).flatten())
                .any(|atom| universe.conflicting(id, atom).any(|enemy| self.is_selected(enemy)))
    }

    fn is_broken(&self) -> bool {
        let mut selected = self.state.iter().filter_map(|state| state.selected);
        let roots = self.problem.roots.iter();
        !selected.all(|id| self.is_sound(id)) || !roots.clone().all(|(id, _)| self.is_selected(*id))
    }

    /// Drops what nothing that stays would use, where suggestions count as use, as they do for `apt autoremove`.
    fn sweep(&mut self) {
        let universe = self.problem.universe;
        let mut used = vec![false; self.state.len()];
        let roots = self.problem.roots.iter().map(|(id, _)| *id).chain(self.problem.base());
        let kept = |id: &PackageId| universe.package(*id).essential || universe.package(*id).protected;
        let mut queue: Vec<_> = roots.collect();
        queue.extend(self.state.iter().filter_map(|state| state.selected).filter(kept));
        for id in &queue {
            used[universe.name_of(*id).index()] = true;
        }
        while let Some(id) = queue.pop() {
            for field in [HARD[0], HARD[1], RelationField::Recommends, RelationField::Suggests] {
                for atom in universe.groups(id, field).flatten() {
                    for target in universe.matches(atom).filter(|id| self.is_selected(*id)) {
                        let place = universe.name_of(target).index();
                        if !std::mem::replace(&mut used[place], true) {
                            queue.push(target);
                        }
                    }
                }
            }
        }
        for (state, used) in self.state.iter_mut().zip(used) {
            if !used {
                state.selected = None;
            }
        }
    }
}
