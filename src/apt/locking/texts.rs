//! Package indices to resolve from, as they are, with more packages, or without versions that are not to be chosen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::apt::control::stanzas;
use crate::apt::lockfile::{Lock, LockedPackage};
use crate::apt::sync::{ARCHITECTURE, SyncedArchive, SyncedIndex};
use crate::apt::universe::{Index, Universe, UniverseError};
use crate::model::recipe::Archive;

/// Package indices by archive.
#[derive(Default)]
pub(super) struct Texts(BTreeMap<String, Vec<SyncedIndex>>);

impl Texts {
    pub(super) fn of(states: &BTreeMap<String, SyncedArchive>) -> Self {
        Self(states.iter().map(|(name, state)| (name.clone(), state.indices.clone())).collect())
    }

    /// The indices of one archive.
    pub(super) fn take(mut self, archive: &str) -> Vec<SyncedIndex> {
        self.0.remove(archive).unwrap_or_default()
    }

    pub(super) fn and(mut self, other: Self) -> Self {
        for (name, indices) in other.0 {
            self.0.entry(name).or_default().extend(indices);
        }
        self
    }

    /// Packages of `lock` that no index lists, of archives that are here.
    pub(super) fn unlisted<'l>(&self, lock: &'l Lock) -> Vec<&'l LockedPackage> {
        let mut listed = BTreeSet::new();
        for index in self.0.values().flatten() {
            let stanzas = stanzas(&index.text).flatten();
            listed
                .extend(stanzas.filter_map(|stanza| Some((stanza.get("Package")?, stanza.get("Version")?))));
        }
        let here = lock.package.iter().filter(|row| self.0.contains_key(&row.archive));
        here.filter(|row| !listed.contains(&(row.name.as_str(), row.version.as_str()))).collect()
    }

    /// Lists `package`, whose control file is `control`, as its archive once did.
    pub(super) fn add(&mut self, package: &LockedPackage, control: &str) {
        let LockedPackage { archive, suite, architecture, path, size, sha256, .. } = package;
        let text = format!("{}\nFilename: {path}\nSize: {size}\nSHA256: {sha256}\n\n", control.trim());
        let (suite, architecture) = (suite.clone(), architecture.clone());
        let index = SyncedIndex { suite, component: "main".to_owned(), architecture, text: Arc::new(text) };
        self.0.entry(archive.clone()).or_default().push(index);
    }

    /// The same without versions of pinned packages other than the pinned one, where that one is there at all.
    pub(super) fn pinned(&self, pins: &BTreeMap<&str, &str>) -> Self {
        let all = || self.0.values().flatten();
        let mut present = BTreeSet::new();
        for index in all() {
            for stanza in stanzas(&index.text).flatten() {
                let (name, version) = (stanza.get("Package"), stanza.get("Version"));
                if let (Some(name), Some(version)) = (name, version)
                    && pins.get(name) == Some(&version)
                {
                    present.insert(name);
                }
            }
        }
        let keep = |index: &SyncedIndex| {
            let mut text = String::with_capacity(index.text.len());
            for paragraph in index.text.split_inclusive("\n\n") {
                let field = |name: &str| {
                    paragraph
                        .lines()
                        .find_map(|line| line.strip_prefix(name))
                        .map(str::trim)
                        .unwrap_or_default()
                };
                let name = field("Package:");
                if !present.contains(name) || pins.get(name) == Some(&field("Version:")) {
                    text.push_str(paragraph);
                }
            }
            SyncedIndex { text: Arc::new(text), ..index.clone() }
        };
        Self(
            self.0.iter().map(|(name, indices)| (name.clone(), indices.iter().map(keep).collect())).collect(),
        )
    }

    pub(super) fn universe<'a>(
        &'a self,
        archives: &'a BTreeMap<String, Archive>,
    ) -> Result<Universe<'a>, UniverseError> {
        let indices: Vec<Index<'a>> = archives
            .keys()
            .flat_map(|name| self.0.get(name).into_iter().flatten().map(move |index| (name, index)))
            .map(|(archive, index)| Index {
                archive,
                suite: &index.suite,
                not_automatic: false,
                text: &index.text,
            })
            .collect();
        Universe::new(ARCHITECTURE, &indices)
    }
}
