//! Looks for any set that fits, with backtracking.
//!
//! Two phases, as apt's newer solver has them: all hard dependencies first, then each recommendation as a small
//! problem of its own on what is then frozen. Going back through recommendations would try sets without end; going
//! back through hard dependencies alone does not, and a step limit bounds what is left.

use std::collections::BTreeMap;

use super::Unsatisfiable;
use super::explain;
use super::problem::{HARD, NEGATIVE, Problem};
use crate::apt::package::RelationField;
use crate::apt::universe::{Atom, NameId, PackageId};

/// Most groups of alternatives looked at, counting each time.
const STEP_LIMIT: usize = 20_000_000;

/// The packages of some set that fits, the base included.
pub(super) fn search(problem: &Problem<'_, '_>) -> Result<BTreeMap<NameId, PackageId>, Unsatisfiable> {
    let mut search = Search {
        problem,
        state: vec![State::Open; problem.universe.name_count()],
        trail: Vec::new(),
        groups: Vec::new(),
        settled: 0,
        decisions: Vec::new(),
        steps: 0,
    };
    let fits = problem.base().all(|id| search.take(id))
        && problem.roots.iter().all(|(id, _)| search.take(*id))
        && search.complete();
    if search.steps > STEP_LIMIT {
        return Err(Unsatisfiable::TooHard { steps: STEP_LIMIT });
    }
    if !fits {
        return Err(explain::explain(problem));
    }
    if problem.recommends {
        search.recommendations();
    }
    let taken = search.state.iter().filter_map(|state| match state {
        State::In(id) => Some((problem.universe.name_of(*id), *id)),
        _ => None,
    });
    Ok(taken.collect())
}

/// What is decided of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    In(PackageId),
    Out,
}

/// A choice that may be gone back on.
struct Decision {
    option: PackageId,
    trail: usize,
    groups: usize,
}

struct Search<'p, 'u, 'a> {
    problem: &'p Problem<'u, 'a>,
    /// By the name's id.
    state: Vec<State>,
    /// Names in the order in which they were decided.
    trail: Vec<NameId>,
    /// Everything that has to be met.
    groups: Vec<&'u [Atom<'a>]>,
    /// How many of them are met by what is never gone back on.
    settled: usize,
    decisions: Vec<Decision>,
    steps: usize,
}

impl<'u, 'a> Search<'_, 'u, 'a> {
    fn of(&self, id: PackageId) -> State {
        self.state[self.problem.universe.name_of(id).index()]
    }

    fn decide(&mut self, id: PackageId, state: State) {
        let name = self.problem.universe.name_of(id);
        self.state[name.index()] = state;
        self.trail.push(name);
    }

    /// Takes a package in and rules out what it conflicts with; whether that contradicts nothing.
    fn take(&mut self, id: PackageId) -> bool {
        match self.of(id) {
            State::In(taken) => return taken == id,
            State::Out => return false,
            State::Open => self.decide(id, State::In(id)),
        }
        let universe = self.problem.universe;
        for atom in NEGATIVE.iter().flat_map(|field| universe.groups(id, *field)).flatten() {
            for enemy in universe.conflicting(id, atom) {
                if !self.problem.is_candidate(enemy) {
                    continue;
                }
                match self.of(enemy) {
                    State::In(_) => return false,
                    State::Open => self.decide(enemy, State::Out),
                    State::Out => {}
                }
            }
        }
        // What is installed already was sound when it was installed.
        if !self.problem.is_base(id) {
            self.groups.extend(HARD.iter().flat_map(|field| universe.groups(id, *field)));
        }
        true
    }

    fn is_met(&self, group: &[Atom<'a>]) -> bool {
        let universe = self.problem.universe;
        group.iter().any(|atom| universe.matches(atom).any(|id| self.of(id) == State::In(id)))
    }

    fn options(&self, group: &[Atom<'a>]) -> Vec<PackageId> {
        let mut options = self.problem.options(group, |_| false);
        options.retain(|id| self.of(*id) == State::Open);
        options
    }

    /// Meets every group; whether that is possible. Everything decided before the call stays.
    fn complete(&mut self) -> bool {
        loop {
            match self.next_choice() {
                Next::Nothing => {
                    self.decisions.clear();
                    self.settled = self.groups.len();
                    return true;
                }
                Next::Forced(id) => {
                    if self.take(id) || self.go_back() {
                        continue;
                    }
                    return false;
                }
                Next::Choice(option) => {
                    let (trail, groups) = (self.trail.len(), self.groups.len());
                    self.decisions.push(Decision { option, trail, groups });
                    if self.take(option) || self.go_back() {
                        continue;
                    }
                    return false;
                }
                Next::Contradiction => {
                    if !self.go_back() {
                        return false;
                    }
                }
            }
        }
    }

    /// What has to be done next: groups with one option left come before those with several.
    fn next_choice(&mut self) -> Next {
        let mut choice = None;
        for place in self.settled..self.groups.len() {
            self.steps += 1;
            if self.steps > STEP_LIMIT {
                return Next::Contradiction;
            }
            let group = self.groups[place];
            if self.is_met(group) {
                continue;
            }
            match self.options(group)[..] {
                [] => return Next::Contradiction,
                [only] => return Next::Forced(only),
                [first, ..] => choice = choice.or(Some(first)),
            }
        }
        choice.map_or(Next::Nothing, Next::Choice)
    }

    /// Takes the last choice back and rules it out; whether there was one.
    fn go_back(&mut self) -> bool {
        if self.steps > STEP_LIMIT {
            return false;
        }
        let Some(decision) = self.decisions.pop() else { return false };
        self.undo(decision.trail, decision.groups);
        self.decide(decision.option, State::Out);
        true
    }

    fn undo(&mut self, trail: usize, groups: usize) {
        for name in self.trail.drain(trail..) {
            self.state[name.index()] = State::Open;
        }
        self.groups.truncate(groups);
    }

    /// Adds each recommendation that fits to what is there, first come first served.
    fn recommendations(&mut self) {
        let universe = self.problem.universe;
        let mut place = 0;
        while let Some(name) = self.trail.get(place).copied() {
            place += 1;
            let State::In(id) = self.state[name.index()] else { continue };
            if self.problem.is_base(id) {
                continue;
            }
            for group in universe.groups(id, RelationField::Recommends) {
                if self.is_met(group) {
                    continue;
                }
                for option in self.options(group) {
                    let (trail, groups) = (self.trail.len(), self.groups.len());
                    if self.take(option) && self.complete() {
                        break;
                    }
                    self.decisions.clear();
                    self.undo(trail, groups);
                }
            }
        }
    }
}

/// See [`Search::next_choice`].
enum Next {
    Nothing,
    Forced(PackageId),
    Choice(PackageId),
    Contradiction,
}
