//! Which package owns a path, and which of two packages that ship one path keeps it.

use std::collections::HashMap;

use super::failure::Failure;
use super::root::Root;
use crate::apt::control::Stanza;
use crate::apt::relation::clauses;

/// A file wherever its name leads: the directory's inode and the last component.
pub(super) type Place = (u64, Box<[u8]>);

/// A package's number and the name that it has for a path.
pub(super) type Owned = (usize, Box<[u8]>);

/// A package that owns paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub name: String,
    pub version: String,
    /// Its `Replaces` field.
    pub replaces: String,
    /// Its `Provides` field.
    pub provides: String,
    /// What its files in `info/` begin with.
    pub stem: String,
}

/// Who ships what, by real place, so that `/lib/x` and `/usr/lib/x` are one.
#[derive(Default)]
pub(super) struct Owners {
    pub packages: Vec<Owner>,
    places: HashMap<Place, Owned>,
    /// The lists of the packages up to here are in `places`; those before are read when first needed.
    unread: usize,
}

/// Which package keeps a path that two ship.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    /// The one being unpacked; the other loses the path.
    New,
    /// The one that is there; the new one does not get the path.
    Old,
    /// Neither replaces the other.
    Conflict,
}

impl Owner {
    pub fn of(stanza: &Stanza<'_>, stem: String) -> Self {
        let field = |name| stanza.get(name).unwrap_or_default().to_owned();
        Self {
            name: field("Package"),
            version: field("Version"),
            replaces: field("Replaces"),
            provides: field("Provides"),
            stem,
        }
    }
}

impl Owners {
    /// Starts with the packages that the root has already; their lists are read when needed.
    pub fn new(installed: Vec<Owner>) -> Self {
        Self { unread: installed.len(), packages: installed, places: HashMap::new() }
    }

    /// Adds a package that is about to be unpacked, and gives its number.
    pub fn add(&mut self, owner: Owner) -> usize {
        self.packages.push(owner);
        self.packages.len() - 1
    }

    /// Notes that package `index` now has `path`, and gives who had it before, and under which name.
    pub fn set(&mut self, place: Place, index: usize, path: &[u8]) -> Option<Owned> {
        self.places.insert(place, (index, path.into()))
    }

    /// The owner of a place and the name it has there.
    pub fn get(&mut self, root: &Root, place: &Place) -> Result<Option<Owned>, Failure> {
        for index in 0..std::mem::take(&mut self.unread) {
            let path = format!("var/lib/dpkg/info/{}.list", self.packages[index].stem);
            let list = root.read(&path)?.unwrap_or_default();
            for line in list.split(|byte| *byte == b'\n').filter(|line| line.len() > 2) {
                if let Ok((directory, name)) = root.parent(line) {
                    self.places.entry((directory.inode, name.into())).or_insert((index, line[1..].into()));
                }
            }
        }
        Ok(self.places.get(place).cloned())
    }

    /// Which of two packages keeps a path, by dpkg's rule: the new one's `Replaces` counts first.
    pub fn keeps(&self, new: usize, old: usize) -> Keeps {
        let (new, old) = (&self.packages[new], &self.packages[old]);
        if replaces(&new.replaces, old) {
            Keeps::New
        } else if replaces(&old.replaces, new) {
            Keeps::Old
        } else {
            Keeps::Conflict
        }
    }
}

/// Whether a `Replaces` field covers `other`. Virtual names count only without a version, as in dpkg.
fn replaces(field: &str, other: &Owner) -> bool {
    clauses(field).filter_map(Result::ok).any(|clause| match clause.constraint {
        _ if clause.name == other.name => {
            clause.constraint.is_none_or(|constraint| constraint.admits(&other.version))
        }
        Some(_) => false,
        None => clauses(&other.provides).filter_map(Result::ok).any(|provided| provided.name == clause.name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_looks_at_versions_and_provides() {
        let other = Owner {
            name: "a".into(),
            version: "1:2.0-1".into(),
            replaces: String::new(),
            provides: "virtual (= 2), more".into(),
            stem: "a".into(),
        };
        for (field, expected) in [
            ("a", true),
            ("b, a:any", true),
            ("a (<< 1:2.0-1)", false),
            ("a (<= 1:2.0-1)", true),
            ("a (<< 1:2.0-1~), virtual", true),
            ("virtual (>= 1)", false),
            ("aa", false),
            ("", false),
        ] {
            assert_eq!(replaces(field, &other), expected, "{field}");
        }
    }
}
