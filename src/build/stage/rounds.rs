//! Which packages of an empty root have to be configured before the others are even unpacked.
//!
//! Packages may use Essential ones without saying so, and a preinst may use what its package pre-depends on. So the
//! first round is the Essential packages, apt (which every Debian bootstrap installs with them), what those that
//! have a preinst pre-depend on, and whatever all these depend on.

use std::collections::{BTreeMap, BTreeSet};

use super::package::Package;
use crate::apt::relation::{Clause, groups};

/// Installed with the Essential packages although it is not one of them.
const WITH_ESSENTIAL: &str = "apt";

/// For each package, whether it belongs to the first round.
pub(super) fn first_round(packages: &[Package]) -> Vec<bool> {
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut providers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let stanzas: Vec<_> = packages.iter().map(Package::stanza).collect();
    for (index, stanza) in stanzas.iter().enumerate() {
        by_name.entry(&packages[index].name).or_default().push(index);
        for clause in groups(stanza.get("Provides").unwrap_or_default()).unwrap_or_default().concat() {
            providers.entry(clause.name).or_default().push(index);
        }
    }
    // Of the alternatives the first that is there; whether its version fits was the resolver's business.
    let one = |alternatives: Vec<Clause<'_>>| {
        let found = alternatives.iter().find_map(|clause| by_name.get(clause.name));
        let found = found.or_else(|| alternatives.iter().find_map(|clause| providers.get(clause.name)));
        found.cloned().unwrap_or_default()
    };
    let satisfying = |field: &str, index: usize| {
        let groups = groups(stanzas[index].get(field).unwrap_or_default()).unwrap_or_default();
        groups.into_iter().flat_map(one).collect::<BTreeSet<_>>()
    };
    let mut waiting: Vec<usize> = Vec::new();
    for (index, package) in packages.iter().enumerate() {
        if package.essential || package.name == WITH_ESSENTIAL {
            waiting.push(index);
        }
        if package.has_script("preinst") {
            waiting.extend(satisfying("Pre-Depends", index));
        }
    }
    let mut first = vec![false; packages.len()];
    while let Some(index) = waiting.pop() {
        if !std::mem::replace(&mut first[index], true) {
            waiting.extend(satisfying("Pre-Depends", index));
            waiting.extend(satisfying("Depends", index));
        }
    }
    first
}
