//! Why each package of a chosen set is there.

use std::collections::{BTreeMap, VecDeque};

use super::Member;
use super::problem::Problem;
use crate::apt::lockfile::Reason;
use crate::apt::package::RelationField;
use crate::apt::universe::{NameId, PackageId};

/// Walks from what was asked for, breadth first, so every chain is as short as can be; hard dependencies first, then
/// recommendations.
///
/// `selected` holds everything that is installed in the end, the base included. What nothing reaches is left out.
pub(super) fn explain(problem: &Problem<'_, '_>, selected: &BTreeMap<NameId, PackageId>) -> Vec<Member> {
    let universe = problem.universe;
    let mut found: BTreeMap<PackageId, (Reason, Option<PackageId>)> = BTreeMap::new();
    let mut order = Vec::new();
    let mut queue = VecDeque::new();
    let reach = |queue: &mut VecDeque<PackageId>,
                 found: &mut BTreeMap<PackageId, (Reason, Option<PackageId>)>,
                 id,
                 reason,
                 by| {
        if let std::collections::btree_map::Entry::Vacant(entry) = found.entry(id) {
            entry.insert((reason, by));
            queue.push_back(id);
        }
    };
    for (id, reason) in &problem.roots {
        reach(&mut queue, &mut found, *id, *reason, None);
    }
    for id in problem.base() {
        reach(&mut queue, &mut found, id, Reason::Requested, None);
    }
    let mut recommending = 0;
    loop {
        while let Some(id) = queue.pop_front() {
            order.push(id);
            for (field, reason) in
                [(RelationField::PreDepends, Reason::PreDepends), (RelationField::Depends, Reason::Depends)]
            {
                for atom in universe.groups(id, field).flatten() {
                    for target in universe.matches(atom).filter(|id| is_selected(problem, selected, *id)) {
                        reach(&mut queue, &mut found, target, reason, Some(id));
                    }
                }
            }
        }
        let Some(id) = order.get(recommending).copied() else { break };
        recommending += 1;
        for atom in universe.groups(id, RelationField::Recommends).flatten() {
            for target in universe.matches(atom).filter(|id| is_selected(problem, selected, *id)) {
                reach(&mut queue, &mut found, target, Reason::Recommends, Some(id));
            }
        }
    }
    let mut members: Vec<_> = found
        .into_iter()
        .filter(|(id, _)| !problem.is_base(*id))
        .map(|(package, (reason, by))| Member { package, reason, by })
        .collect();
    members.sort_by_key(|member| universe.package(member.package).name);
    members
}

fn is_selected(problem: &Problem<'_, '_>, selected: &BTreeMap<NameId, PackageId>, id: PackageId) -> bool {
    selected.get(&problem.universe.name_of(id)) == Some(&id)
}
