//! Why nothing fits, in words that name what a person can change.
//!
//! What has to be installed is followed breadth first from what was asked for. Every contradiction met is put down as
//! the chain that leads to it, and the shortest one is told. Where only a choice leads further, each alternative is
//! refuted on its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use super::Chosen;
use super::problem::{HARD, NEGATIVE, Problem};
use crate::apt::package::RelationField;
use crate::apt::relation::Clause;
use crate::apt::universe::{Atom, NameId, PackageId, Qualifier, Universe};

/// How many choices deep alternatives are refuted.
const CHOICE_DEPTH: usize = 4;
/// Most groups of alternatives tried at one depth.
const CHOICES: usize = 40;
/// Most names put in a list.
const LISTED: usize = 5;

/// Why a request has no solution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsatisfiable {
    /// Names that cannot be installed as they stand.
    #[error("{}", lines(.problems))]
    Names {
        /// One per name, sorted.
        problems: Vec<NameProblem>,
    },
    /// What was asked for does not go together.
    #[error("nothing fits:\n{chain}")]
    Conflict {
        /// The shortest chain found.
        chain: Chain,
    },
    /// The search gave up.
    #[error("no set of packages was found in {steps} steps; ask for fewer packages at once")]
    TooHard {
        /// How many alternatives were looked at.
        steps: usize,
    },
}

/// A name that cannot be installed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum NameProblem {
    /// No package has it.
    #[error("no such package: `{name}`{}", did_you_mean(.similar))]
    Unknown {
        /// The name.
        name: String,
        /// Names that look like it.
        similar: Vec<String>,
    },
    /// Only other packages provide it.
    #[error("`{name}` is a virtual package, provided by {}: name one of them", list(.providers))]
    Virtual {
        /// The name.
        name: String,
        /// Who provides it.
        providers: Vec<String>,
    },
    /// A package of the shorter recipe prefix has left the archives.
    #[error("`{name}` {version} of the recipes before is not in the archives any more; update it")]
    Gone {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
    },
}

/// The steps that lead to a contradiction, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// One line each, indented by two blanks per level.
    pub steps: Vec<String>,
}

impl fmt::Display for Chain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<_> = self.steps.iter().map(|step| format!("  {step}")).collect();
        formatter.write_str(&steps.join("\n"))
    }
}

fn lines(problems: &[NameProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn list(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(LISTED).map(|name| format!("`{name}`")).collect();
    let rest = names.len().saturating_sub(LISTED);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    shown.join(", ") + &more
}

fn did_you_mean(similar: &[String]) -> String {
    if similar.is_empty() { String::new() } else { format!("; did you mean {}?", list(similar)) }
}

/// What is wrong with a name that no package has.
pub(super) fn unknown(universe: &Universe<'_>, name: &str) -> NameProblem {
    let providers: Vec<_> = universe.providers(name).into_iter().map(str::to_owned).collect();
    if !providers.is_empty() {
        return NameProblem::Virtual { name: name.to_owned(), providers };
    }
    let mut similar: Vec<_> = universe
        .candidates()
        .into_iter()
        .map(|id| universe.package(id).name)
        .filter_map(|other| Some((distance(name, other)?, other)))
        .collect();
    similar.sort_unstable();
    let best = similar.first().map_or(0, |(distance, _)| *distance);
    similar.retain(|(distance, _)| *distance == best);
    let similar = similar.into_iter().take(3).map(|(_, other)| other.to_owned()).collect();
    NameProblem::Unknown { name: name.to_owned(), similar }
}

pub(super) fn gone(chosen: &Chosen<'_>) -> NameProblem {
    NameProblem::Gone { name: chosen.name.to_owned(), version: chosen.version.to_owned() }
}

/// How many single-character edits, counting two swapped neighbours as one, lie between two names; nothing when they
/// are too far apart to be one mistyped.
fn distance(left: &str, right: &str) -> Option<usize> {
    let limit = (left.len() / 4).clamp(1, 3);
    if left.len().abs_diff(right.len()) > limit {
        return None;
    }
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let mut before = vec![0; right.len() + 1];
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut row = vec![i; right.len() + 1];
        for j in 1..=right.len() {
            let changed = usize::from(left[i - 1] != right[j - 1]);
            row[j] = (previous[j - 1] + changed).min(previous[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut previous, row);
    }
    Some(previous[right.len()]).filter(|distance| *distance <= limit)
}

/// The shortest chain to a contradiction; the caller knows that there is one.
pub(super) fn explain(problem: &Problem<'_, '_>) -> Unsatisfiable {
    let mut argument = Argument { problem, taken: BTreeMap::new(), out: BTreeMap::new() };
    let mut queue = VecDeque::new();
    let mut found = Vec::new();
    for id in problem.base() {
        argument.take(id, Because::Base, &mut queue, &mut found);
    }
    for (id, _) in &problem.roots {
        argument.take(*id, Because::Asked, &mut queue, &mut found);
    }
    let steps = argument.refute(queue, found, CHOICE_DEPTH).unwrap_or_else(|| {
        let names: Vec<_> =
            problem.roots.iter().map(|(id, _)| problem.universe.package(*id).name.to_owned()).collect();
        vec![format!("{} do not go together, in more than one way", list(&names))]
    });
    Unsatisfiable::Conflict { chain: Chain { steps } }
}

/// Why a package has to be installed.
#[derive(Debug, Clone)]
enum Because {
    Asked,
    Base,
    /// One of several alternatives, tried.
    Assumed,
    /// Another package needs it; the alternatives were ruled out before.
    Needed {
        by: PackageId,
        relation: String,
        ruled_out: Vec<PackageId>,
    },
}

/// What follows from what was asked for.
#[derive(Clone)]
struct Argument<'p, 'u, 'a> {
    problem: &'p Problem<'u, 'a>,
    taken: BTreeMap<NameId, (PackageId, Because)>,
    /// What may not be installed: which package says so, and how.
    out: BTreeMap<NameId, (PackageId, String)>,
}

/// A group of alternatives that is not met, and who needs it.
type Open<'u, 'a> = (PackageId, RelationField, &'u [Atom<'a>]);

impl<'u, 'a> Argument<'_, 'u, 'a> {
    fn universe(&self) -> &'u Universe<'a> {
        self.problem.universe
    }

    fn take(
        &mut self,
        id: PackageId,
        because: Because,
        queue: &mut VecDeque<PackageId>,
        found: &mut Vec<Vec<String>>,
    ) {
        let universe = self.universe();
        let name = universe.name_of(id);
        if self.taken.contains_key(&name) {
            return;
        }
        self.taken.insert(name, (id, because));
        if let Some((by, relation)) = self.out.get(&name).cloned() {
            found.push(self.told(&[Told::Taken(by), Told::Line(relation), Told::Taken(id)]));
            return;
        }
        for field in NEGATIVE {
            for atom in universe.groups(id, field).flatten() {
                for enemy in universe.conflicting(id, atom).filter(|id| self.problem.is_candidate(*id)) {
                    let verb = if field == RelationField::Breaks { "breaks" } else { "conflicts with" };
                    let provided = if universe.name_of(enemy) == atom.name {
                        String::new()
                    } else {
                        format!(", which `{}` provides", universe.package(enemy).name)
                    };
                    let line = format!("{} {verb} {}{provided}", self.show(id), self.show_atom(atom));
                    if self.taken.get(&universe.name_of(enemy)).is_some_and(|(taken, _)| *taken == enemy) {
                        found.push(self.told(&[Told::Taken(id), Told::Line(line), Told::Taken(enemy)]));
                    } else {
                        self.out.entry(universe.name_of(enemy)).or_insert((id, line));
                    }
                }
            }
        }
        queue.push_back(id);
    }

    /// Follows everything that has only one way to go; the shortest contradiction, if there is one.
    fn refute(
        &mut self,
        mut queue: VecDeque<PackageId>,
        mut found: Vec<Vec<String>>,
        depth: usize,
    ) -> Option<Vec<String>> {
        let universe = self.universe();
        let mut open: Vec<Open<'u, 'a>> = Vec::new();
        loop {
            while let Some(id) = queue.pop_front() {
                if self.problem.is_base(id) {
                    continue;
                }
                for field in HARD {
                    for group in universe.groups(id, field) {
                        self.follow((id, field, group), &mut open, &mut queue, &mut found);
                    }
                }
            }
            // Something ruled out later may have left one alternative of what was open.
            let before = open.len();
            for group in std::mem::take(&mut open) {
                self.follow(group, &mut open, &mut queue, &mut found);
            }
            if open.len() == before && queue.is_empty() {
                break;
            }
        }
        if let Some(shortest) = found.into_iter().min_by_key(Vec::len) {
            return Some(shortest);
        }
        if depth == 0 {
            return None;
        }
        let choices = open.iter().take(CHOICES).filter_map(|group| self.refute_each(*group, depth - 1));
        choices.min_by_key(Vec::len)
    }

    fn follow(
        &mut self,
        (id, field, group): Open<'u, 'a>,
        open: &mut Vec<Open<'u, 'a>>,
        queue: &mut VecDeque<PackageId>,
        found: &mut Vec<Vec<String>>,
    ) {
        let universe = self.universe();
        let all = self.problem.options(group, |_| false);
        if all.iter().any(|id| self.taken.get(&universe.name_of(*id)).is_some_and(|(taken, _)| taken == id)) {
            return;
        }
        let (ruled_out, left): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|id| self.out.contains_key(&universe.name_of(*id)));
        let relation = self.show_need(id, field, group);
        match left[..] {
            [] => {
                let mut told = vec![Told::Taken(id), Told::Line(relation)];
                told.extend(ruled_out.iter().map(|id| Told::Out(*id)));
                if ruled_out.is_empty() {
                    told.push(Told::Line(self.show_available(group)));
                }
                found.push(self.told(&told));
            }
            [only] => self.take(only, Because::Needed { by: id, relation, ruled_out }, queue, found),
            _ => open.push((id, field, group)),
        }
    }

    /// A chain for each alternative, when none of them works.
    fn refute_each(&self, (id, field, group): Open<'u, 'a>, depth: usize) -> Option<Vec<String>> {
        let universe = self.universe();
        let options = self.problem.options(group, |_| false);
        let mut steps = self.told(&[Told::Taken(id), Told::Line(self.show_need(id, field, group))]);
        for option in options {
            if self.out.contains_key(&universe.name_of(option)) {
                steps.extend(self.told(&[Told::Out(option)]));
                continue;
            }
            let mut argument = self.clone();
            let (mut queue, mut found) = (VecDeque::new(), Vec::new());
            argument.take(option, Because::Assumed, &mut queue, &mut found);
            let refuted = argument.refute(queue, found, depth)?;
            steps.push(format!("`{}` does not do:", universe.package(option).name));
            let known: BTreeSet<_> = steps.iter().cloned().collect();
            steps.extend(
                refuted.into_iter().filter(|step| !known.contains(step)).map(|step| format!("  {step}")),
            );
        }
        Some(steps)
    }

    /// Puts what is to be told in words, each line once.
    fn told(&self, what: &[Told]) -> Vec<String> {
        let mut steps = Vec::new();
        for told in what {
            match told {
                Told::Line(line) => push(&mut steps, line.clone()),
                Told::Taken(id) => self.tell_taken(*id, &mut steps),
                Told::Out(id) => self.tell_out(*id, &mut steps),
            }
        }
        steps
    }

    fn tell_taken(&self, id: PackageId, steps: &mut Vec<String>) {
        let package = self.universe().package(id);
        match self.taken.get(&self.universe().name_of(id)) {
            Some((_, Because::Asked)) => push(steps, format!("`{}` is asked for", package.name)),
            Some((_, Because::Base)) => {
                push(steps, format!("{} is there from the recipes before", self.show(id)));
            }
            Some((_, Because::Needed { by, relation, ruled_out })) => {
                self.tell_taken(*by, steps);
                push(steps, relation.clone());
                for id in ruled_out {
                    self.tell_out(*id, steps);
                }
            }
            Some((_, Because::Assumed)) | None => {}
        }
    }

    fn tell_out(&self, id: PackageId, steps: &mut Vec<String>) {
        if let Some((by, relation)) = self.out.get(&self.universe().name_of(id)) {
            self.tell_taken(*by, steps);
            push(steps, relation.clone());
        }
    }

    fn show(&self, id: PackageId) -> String {
        let package = self.universe().package(id);
        format!("`{}` {}", package.name, package.version)
    }

    fn show_need(&self, id: PackageId, field: RelationField, group: &[Atom<'a>]) -> String {
        let verb = if field == RelationField::PreDepends { "pre-depends on" } else { "depends on" };
        let alternatives: Vec<_> = group.iter().map(|atom| self.show_atom(atom)).collect();
        format!("{} {verb} {}", self.show(id), alternatives.join(" or "))
    }

    fn show_atom(&self, atom: &Atom<'a>) -> String {
        let qualifier = match atom.qualifier {
            Qualifier::Own => None,
            Qualifier::Any => Some("any"),
            Qualifier::Other => Some("another architecture"),
        };
        let name = self.universe().name_text(atom.name);
        format!("`{}`", Clause { name, qualifier, constraint: atom.constraint, or_next: false })
    }

    /// What there is in place of a group that nothing meets.
    fn show_available(&self, group: &[Atom<'a>]) -> String {
        let universe = self.universe();
        let mut parts = Vec::new();
        for atom in group {
            let name = universe.name_text(atom.name);
            let providers: Vec<_> = universe.providers(name).into_iter().map(str::to_owned).collect();
            let passed_over = universe.matches(atom).next();
            match self.problem.candidate(atom.name) {
                Some(id) if passed_over.is_some() => parts.push(format!(
                    "{} would do, but {} is what is taken of that name",
                    passed_over.map(|id| self.show(id)).unwrap_or_default(),
                    self.show(id)
                )),
                Some(id) => parts.push(format!("only {} is available", self.show(id))),
                None if providers.is_empty() => parts.push(format!("there is no package `{name}`")),
                None => parts
                    .push(format!("`{name}` is provided only by {}, without that version", list(&providers))),
            }
        }
        parts.join("; ")
    }
}

/// Something to be put in words.
enum Told {
    /// A line as it is.
    Line(String),
    /// The chain that brings a package in.
    Taken(PackageId),
    /// The chain that rules a package out.
    Out(PackageId),
}

fn push(steps: &mut Vec<String>, line: String) {
    if !steps.contains(&line) {
        steps.push(line);
    }
}
