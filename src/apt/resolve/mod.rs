//! From names to the packages that apt would install.
//!
//! In: a [`Universe`] and a [`Request`]. Out: a [`Solution`], or an [`Unsatisfiable`] that says why there is none.
//! Pure: the same universe and request give the same answer, in whatever order names are asked for.
//!
//! Two solvers take turns, as in apt 3.0 of Debian 13:
//! 1. [`marker`] does what `apt-get install` and `apt install` do first: it marks packages depth first, each with what
//!    it depends on and recommends, and sweeps up what an abandoned alternative left behind.
//! 2. When that ends in a contradiction, [`search`] looks for any set that fits: first all hard dependencies, with
//!    backtracking, then one recommendation after the other on what is then frozen.
//!
//! [`explain`] is asked only when there is no such set.

mod explain;
mod marker;
mod problem;
mod reasons;
mod search;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use explain::Unsatisfiable;

use super::lockfile::Reason;
use super::package::Priority;
use super::universe::{PackageId, Universe};
use problem::Problem;

/// What is asked of a universe.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// Names of packages to install; the order does not matter.
    pub install: &'a [String],
    /// Whether recommended packages come too.
    pub recommends: bool,
    /// Whether packages that are `Essential: yes` or have `Priority: required` come too.
    pub essential: bool,
    /// What the shorter recipe prefix chose: it stays as it is, and the new packages are added as apt would on a
    /// system where these are installed.
    pub base: &'a [Chosen<'a>],
}

/// A package chosen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
}

/// A set of packages that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solution {
    /// The new packages, those of the request's base left out; sorted by name.
    pub members: Vec<Member>,
}

/// One package of a [`Solution`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The package.
    pub package: PackageId,
    /// Why it is there.
    pub reason: Reason,
    /// The first package that asks for it; nothing for requested, essential and required ones. It may be one of the
    /// base.
    pub by: Option<PackageId>,
}

/// Finds the packages that apt would install.
///
/// # Errors
///
/// When a name is unknown or virtual, or nothing fits.
pub fn resolve(universe: &Universe<'_>, request: &Request<'_>) -> Result<Solution, Unsatisfiable> {
    let problem = problem(universe, request)?;
    let selected = match marker::mark(&problem) {
        Some(selected) => selected,
        None => search::search(&problem)?,
    };
    Ok(Solution { members: reasons::explain(&problem, &selected) })
}

/// Looks up every name of the request; all that is wrong with them is said at once.
fn problem<'u, 'a>(
    universe: &'u Universe<'a>,
    request: &Request<'_>,
) -> Result<Problem<'u, 'a>, Unsatisfiable> {
    let mut problem = Problem::new(universe, request.recommends);
    let mut unknown = Vec::new();
    for chosen in request.base {
        match universe.find(chosen.name, chosen.version) {
            Some(id) => problem.install_before(id),
            None => unknown.push(explain::gone(chosen)),
        }
    }
    let mut roots = BTreeSet::new();
    for name in request.install {
        match universe.candidate(name) {
            Some(id) => drop(roots.insert((universe.package(id).name, id, Reason::Requested))),
            None => unknown.push(explain::unknown(universe, name)),
        }
    }
    if request.essential {
        for id in universe.candidates() {
            let package = universe.package(id);
            if package.essential {
                roots.insert((package.name, id, Reason::Essential));
            } else if package.priority == Priority::Required {
                roots.insert((package.name, id, Reason::Required));
            }
        }
    }
    if !unknown.is_empty() {
        unknown.sort();
        unknown.dedup();
        return Err(Unsatisfiable::Names { problems: unknown });
    }
    for (_, id, reason) in roots {
        problem.ask_for(id, reason);
    }
    Ok(problem)
}
