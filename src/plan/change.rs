//! What changed between two jobs for the same recipes, for people who ask why a layer is built again.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::build::stage::StageJob;

/// One input of a stage that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A package came.
    #[error("package {0} is new")]
    PackageAdded(String),
    /// A package went.
    #[error("package {0} is gone")]
    PackageRemoved(String),
    /// A package has another version, or another .deb.
    #[error("package {name} is {new} instead of {old}")]
    PackageChanged {
        /// Its name.
        name: String,
        /// The old version.
        old: String,
        /// The new version.
        new: String,
    },
    /// Recipes ask for other packages by name, which decides what counts as installed by hand.
    #[error("the recipes name other packages")]
    Requested,
    /// Users are others.
    #[error("the users are others: {}", .0.join(", "))]
    Users(Vec<String>),
    /// Groups are others.
    #[error("the groups are others: {}", .0.join(", "))]
    Groups(Vec<String>),
    /// The date of the base release moved.
    #[error("the base release has another date")]
    Epoch,
    /// The layer below is another one.
    #[error("the layer below changed")]
    Parent,
    /// The inputs are the same, but this version of the program makes another layer of them.
    #[error("build-images makes layers in another way")]
    Program,
}

/// What is different in `new`; only [`Change::Program`] when nothing is.
pub fn changes(old: &StageJob, new: &StageJob) -> Vec<Change> {
    let mut changes = Vec::new();
    let packages = |job: &StageJob| -> BTreeMap<String, (String, String)> {
        let rows = job.packages.iter();
        rows.map(|row| {
            (row.name.clone(), (row.version.clone(), format!("{}{}", row.architecture, row.sha256)))
        })
        .collect()
    };
    let (before, after) = (packages(old), packages(new));
    for (name, (version, rest)) in &before {
        match after.get(name) {
            None => changes.push(Change::PackageRemoved(name.clone())),
            Some(same) if same == &(version.clone(), rest.clone()) => {}
            Some((other, _)) => changes.push(Change::PackageChanged {
                name: name.clone(),
                old: version.clone(),
                new: if other == version { format!("another {other}") } else { other.clone() },
            }),
        }
    }
    let added = after.keys().filter(|name| !before.contains_key(*name));
    changes.extend(added.cloned().map(Change::PackageAdded));
    if old.requested != new.requested {
        changes.push(Change::Requested);
    }
    let differing = |before: Vec<(String, String)>, after: Vec<(String, String)>| -> Vec<String> {
        let gone = before.iter().filter(|one| !after.contains(one));
        let came = after.iter().filter(|one| !before.contains(one));
        let mut names: Vec<_> = gone.chain(came).map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        names
    };
    let users =
        |job: &StageJob| job.users.iter().map(|user| (user.name.clone(), format!("{user:?}"))).collect();
    let groups =
        |job: &StageJob| job.groups.iter().map(|group| (group.name.clone(), format!("{group:?}"))).collect();
    if old.users != new.users {
        changes.push(Change::Users(differing(users(old), users(new))));
    }
    if old.groups != new.groups {
        changes.push(Change::Groups(differing(groups(old), groups(new))));
    }
    if old.epoch != new.epoch {
        changes.push(Change::Epoch);
    }
    if old.parent != new.parent {
        changes.push(Change::Parent);
    }
    if changes.is_empty() {
        changes.push(Change::Program);
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::stage::StagePackage;
    use crate::digest::Sha256;
    use crate::model::recipe::Group;

    fn job(packages: &[(&str, &str, &str)]) -> StageJob {
        let package = |(name, version, contents): &(&str, &str, &str)| StagePackage {
            name: (*name).to_owned(),
            version: (*version).to_owned(),
            architecture: "amd64".to_owned(),
            sha256: Sha256::of(contents),
            size: 1,
        };
        StageJob {
            packages: packages.iter().map(package).collect(),
            parent: None,
            users: Vec::new(),
            groups: Vec::new(),
            requested: std::collections::BTreeSet::new(),
            epoch: 1,
        }
    }

    #[test]
    fn every_input_that_changed_is_named() {
        let old = job(&[("a", "1", "x"), ("b", "1", "x"), ("c", "1", "x"), ("same", "1", "x")]);
        let mut new = job(&[("a", "2", "y"), ("b", "1", "y"), ("d", "1", "x"), ("same", "1", "x")]);
        new.groups.push(Group { name: "media".to_owned(), gid: 950 });
        new.requested.insert("d".to_owned());
        new.epoch = 2;
        new.parent = Some(Sha256::of("below"));
        let lines: Vec<_> = changes(&old, &new).iter().map(Change::to_string).collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        package a is 2 instead of 1
        package b is another 1 instead of 1
        package c is gone
        package d is new
        the recipes name other packages
        the groups are others: media
        the base release has another date
        the layer below changed
        ");
        assert_eq!(changes(&old, &old), [Change::Program]);
    }
}
