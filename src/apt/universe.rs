//! All packages of the synced indices, and who provides what.
//!
//! In: the texts of verified `Packages` indices. Out: a [`Universe`] that answers which package is the candidate of a
//! name and which packages meet a relation. It knows nothing of any one request.
//!
//! Priorities follow apt's defaults: every suite counts 500, so the candidate of a name is its highest version; of
//! equal versions the one of the first index is taken.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use rayon::prelude::*;

use super::lockfile::LockedPackage;
use super::package::{self, MultiArch, Package, PackageError, RelationField};
use super::relation::{self, Clause, Constraint, Operator};
use super::version;

/// Most packages taken; Debian's main has about 70,000.
const PACKAGE_LIMIT: usize = 1_000_000;

/// One verified index, in the order of the sources.
#[derive(Debug, Clone, Copy)]
pub struct Index<'a> {
    /// The archive as the lock names it.
    pub archive: &'a str,
    /// Its suite.
    pub suite: &'a str,
    /// Whether the suite's Release file says `NotAutomatic: yes`.
    pub not_automatic: bool,
    /// The text of `Packages`.
    pub text: &'a str,
}

/// One package of a [`Universe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageId(u32);

/// One name of a [`Universe`]: of a package, or one that only relations have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameId(u32);

impl PackageId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

impl NameId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A clause of a relation whose name is looked up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Atom<'a> {
    pub(super) name: NameId,
    pub(super) qualifier: Qualifier,
    pub(super) constraint: Option<Constraint<'a>>,
    or_next: bool,
}

/// Which architectures a clause is about, seen from the universe's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Qualifier {
    /// None, `:native` or the own architecture.
    Own,
    /// `:any`
    Any,
    /// Another architecture, of which there is no package here.
    Other,
}

/// A package that provides a name.
#[derive(Debug, Clone, Copy)]
struct Provider<'a> {
    package: PackageId,
    qualifier: Qualifier,
    version: Option<&'a str>,
}

#[derive(Debug)]
struct Name<'a> {
    text: &'a str,
    /// Place among the names in the order in which apt makes its records; what it falls back on to choose.
    place: u32,
    versions: Vec<PackageId>,
    candidate: Option<PackageId>,
    providers: Vec<Provider<'a>>,
}

#[derive(Debug)]
struct Entry<'a> {
    package: Package<'a>,
    name: NameId,
    index: u16,
    /// Where each relation field starts in `atoms`; the last one is the end.
    fields: [u32; RelationField::COUNT + 1],
}

/// All packages that can be chosen from.
#[derive(Debug)]
pub struct Universe<'a> {
    architecture: &'a str,
    indices: Vec<Index<'a>>,
    names: Vec<Name<'a>>,
    by_name: HashMap<&'a str, NameId, BuildHasherDefault<NameHasher>>,
    entries: Vec<Entry<'a>>,
    atoms: Vec<Atom<'a>>,
    /// How many names have a place.
    mentioned: u32,
}

/// An index that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UniverseError {
    /// A stanza is malformed.
    #[error("the package index of `{archive}`, suite `{suite}`")]
    Stanza {
        /// The archive.
        archive: String,
        /// Its suite.
        suite: String,
        /// What is wrong.
        #[source]
        source: Box<PackageError>,
    },
    /// A package is of an architecture that the index is not for.
    #[error(
        "the package index of `{archive}`, suite `{suite}`, has `{package}` of architecture `{found}`, \
         expected `{expected}` or `all`"
    )]
    Architecture {
        /// The archive.
        archive: String,
        /// Its suite.
        suite: String,
        /// The package.
        package: String,
        /// Its architecture.
        found: String,
        /// The architecture of the image.
        expected: String,
    },
    /// The suite wants to be chosen from only where that is asked for, which recipes cannot do.
    #[error(
        "suite `{suite}` of `{archive}` says `NotAutomatic: yes`: apt takes nothing from it on its own, \
         and pinning is not supported; leave the suite out"
    )]
    NotAutomatic {
        /// The archive.
        archive: String,
        /// Its suite.
        suite: String,
    },
    /// More packages than any archive has.
    #[error("the package indices have more than {PACKAGE_LIMIT} packages")]
    TooMany,
}

impl UniverseError {
    /// The archive whose index it is.
    pub fn archive(&self) -> Option<&str> {
        match self {
            Self::Stanza { archive, .. }
            | Self::Architecture { archive, .. }
            | Self::NotAutomatic { archive, .. } => Some(archive),
            Self::TooMany => None,
        }
    }
}

impl<'a> Universe<'a> {
    /// Reads the indices, those of the first sources first.
    ///
    /// # Errors
    ///
    /// When an index has a malformed stanza or one of another architecture, or its suite is not automatic.
    pub fn new(architecture: &'a str, indices: &[Index<'a>]) -> Result<Self, UniverseError> {
        let mut universe = Universe {
            architecture,
            indices: indices.to_vec(),
            names: Vec::new(),
            by_name: HashMap::default(),
            entries: Vec::new(),
            atoms: Vec::new(),
            mentioned: 0,
        };
        for (place, index) in indices.iter().enumerate() {
            let (archive, suite) = (index.archive.to_owned(), index.suite.to_owned());
            if index.not_automatic {
                return Err(UniverseError::NotAutomatic { archive, suite });
            }
            let stanza = |source: PackageError| UniverseError::Stanza {
                archive: archive.clone(),
                suite: suite.clone(),
                source: Box::new(source),
            };
            let number = u16::try_from(place).unwrap_or(u16::MAX);
            let pieces = package::split_packages(index.text, rayon::current_num_threads());
            let parsed: Vec<_> =
                pieces.into_par_iter().map(|piece| piece.map(|package| parse(package?)).collect()).collect();
            for parsed in parsed.into_iter().flat_map(|piece: Vec<_>| piece) {
                let parsed: Parsed<'a> = parsed.map_err(stanza)?;
                let package = &parsed.package;
                if package.architecture != "all" && package.architecture != architecture {
                    return Err(UniverseError::Architecture {
                        package: package.name.to_owned(),
                        found: package.architecture.to_owned(),
                        expected: architecture.to_owned(),
                        archive,
                        suite,
                    });
                }
                if universe.entries.len() == PACKAGE_LIMIT {
                    return Err(UniverseError::TooMany);
                }
                universe.add(parsed, number);
            }
        }
        universe.settle();
        Ok(universe)
    }

    /// The architecture whose packages, and those of `all`, are here.
    pub fn architecture(&self) -> &'a str {
        self.architecture
    }

    /// How many packages there are, all versions counted.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no package at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The package that a name stands for: the highest version.
    pub fn candidate(&self, name: &str) -> Option<PackageId> {
        self.names[self.by_name.get(name)?.index()].candidate
    }

    /// The package with exactly this name and version.
    pub fn find(&self, name: &str, version: &str) -> Option<PackageId> {
        let versions = &self.names[self.by_name.get(name)?.index()].versions;
        versions.iter().copied().find(|id| self.package(*id).version == version)
    }

    /// The names of the packages whose candidate provides `name`, sorted, the package of that name left out.
    pub fn providers(&self, name: &str) -> Vec<&'a str> {
        let Some(id) = self.by_name.get(name) else { return Vec::new() };
        let is_candidate = |id: &PackageId| self.names[self.name_of(*id).index()].candidate == Some(*id);
        let owners = self.names[id.index()].providers.iter().map(|provider| provider.package);
        let mut found: Vec<_> = owners.filter(is_candidate).map(|id| self.package(id).name).collect();
        found.sort_unstable();
        found.dedup();
        found.retain(|owner| *owner != name);
        found
    }

    /// The candidates of all names, sorted by name.
    pub fn candidates(&self) -> Vec<PackageId> {
        let mut found: Vec<_> = self.names.iter().filter_map(|name| name.candidate).collect();
        found.sort_unstable_by_key(|id| self.package(*id).name);
        found
    }

    /// What the index says of a package.
    pub fn package(&self, id: PackageId) -> &Package<'a> {
        &self.entries[id.index()].package
    }

    /// The index that a package comes from.
    pub fn origin(&self, id: PackageId) -> &Index<'a> {
        &self.indices[usize::from(self.entries[id.index()].index)]
    }

    /// A package as the lock names it.
    pub fn locked(&self, id: PackageId) -> LockedPackage {
        let (package, origin) = (self.package(id), self.origin(id));
        LockedPackage {
            name: package.name.to_owned(),
            version: package.version.to_owned(),
            architecture: package.architecture.to_owned(),
            archive: origin.archive.to_owned(),
            suite: origin.suite.to_owned(),
            path: package.path.to_owned(),
            size: package.size,
            sha256: package.sha256,
        }
    }

    pub(super) fn name_count(&self) -> usize {
        self.names.len()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = NameId> + use<> {
        (0..u32::try_from(self.names.len()).unwrap_or(u32::MAX)).map(NameId)
    }

    pub(super) fn name_text(&self, name: NameId) -> &'a str {
        self.names[name.index()].text
    }

    pub(super) fn name_of(&self, id: PackageId) -> NameId {
        self.entries[id.index()].name
    }

    pub(super) fn candidate_of(&self, name: NameId) -> Option<PackageId> {
        self.names[name.index()].candidate
    }

    /// Place of a name in the order in which apt met it.
    pub(super) fn place(&self, name: NameId) -> u32 {
        self.names[name.index()].place
    }

    /// The groups of alternatives of one field, in order.
    pub(super) fn groups(&self, id: PackageId, field: RelationField) -> impl Iterator<Item = &[Atom<'a>]> {
        let fields = &self.entries[id.index()].fields;
        let range = fields[field as usize] as usize..fields[field as usize + 1] as usize;
        self.atoms[range].split_inclusive(|atom| !atom.or_next)
    }

    /// The packages that meet `atom`, whatever their version's rank: the real ones first, then the providers.
    pub(super) fn matches(&self, atom: &Atom<'a>) -> impl Iterator<Item = PackageId> {
        let name = &self.names[atom.name.index()];
        let admits = |constraint: Option<Constraint<'_>>, version: &str| {
            constraint.is_none_or(|constraint| constraint.admits(version))
        };
        let atom = *atom;
        let real = name.versions.iter().copied().filter(move |id| {
            let package = self.package(*id);
            let fits = match atom.qualifier {
                Qualifier::Own => true,
                Qualifier::Any => package.multi_arch == MultiArch::Allowed,
                Qualifier::Other => false,
            };
            fits && admits(atom.constraint, package.version)
        });
        let provided = name.providers.iter().filter(move |provider| {
            let fits = match atom.qualifier {
                Qualifier::Own => provider.qualifier == Qualifier::Own,
                Qualifier::Any => {
                    provider.qualifier == Qualifier::Any
                        || self.package(provider.package).multi_arch == MultiArch::Allowed
                }
                Qualifier::Other => false,
            };
            // A bound is met only by a provider that states a version.
            let version = || provider.version.is_some_and(|version| admits(atom.constraint, version));
            fits && (atom.constraint.is_none() || version())
        });
        real.chain(provided.map(|provider| provider.package))
    }

    /// The packages that a clause of `owner`'s Conflicts or Breaks is about; a package never conflicts with itself.
    pub(super) fn conflicting(&self, owner: PackageId, atom: &Atom<'a>) -> impl Iterator<Item = PackageId> {
        let own = self.name_of(owner);
        self.matches(atom).filter(move |id| self.name_of(*id) != own)
    }

    fn add(&mut self, parsed: Parsed<'a>, index: u16) {
        let Parsed { package, clauses } = parsed;
        let name = self.intern(package.name);
        self.mention(name);
        let mut known = self.names[name.index()].versions.iter();
        if known.any(|id| self.package(*id).version == package.version) {
            return;
        }
        let id = PackageId(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
        let mut fields = [0; RelationField::COUNT + 1];
        let mut clauses = clauses.into_iter().peekable();
        for field in RelationField::ALL {
            fields[field as usize] = u32::try_from(self.atoms.len()).unwrap_or(u32::MAX);
            while let Some((_, clause)) = clauses.next_if(|(of, _)| *of == field) {
                self.add_clause(id, field, clause);
            }
        }
        fields[RelationField::COUNT] = u32::try_from(self.atoms.len()).unwrap_or(u32::MAX);
        self.names[name.index()].versions.push(id);
        self.entries.push(Entry { package, name, index, fields });
    }

    fn add_clause(&mut self, owner: PackageId, field: RelationField, clause: Clause<'a>) {
        let target = self.intern(clause.name);
        let qualifier = match clause.qualifier {
            None | Some("native") => Qualifier::Own,
            Some("any") => Qualifier::Any,
            Some(architecture) if architecture == self.architecture => Qualifier::Own,
            Some(_) => Qualifier::Other,
        };
        if qualifier == Qualifier::Own {
            self.mention(target);
        }
        match field {
            // These only count for the order in which names are mentioned.
            RelationField::Replaces | RelationField::Enhances => {}
            RelationField::Provides => {
                let version = match clause.constraint {
                    None => None,
                    Some(Constraint { operator: Operator::Equal, version }) => Some(version),
                    // apt passes over what says anything but `=`.
                    Some(_) => return,
                };
                self.names[target.index()].providers.push(Provider { package: owner, qualifier, version });
            }
            _ => {
                let (constraint, or_next) = (clause.constraint, clause.or_next);
                self.atoms.push(Atom { name: target, qualifier, constraint, or_next });
            }
        }
    }

    fn intern(&mut self, text: &'a str) -> NameId {
        let next = NameId(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        let id = *self.by_name.entry(text).or_insert(next);
        if id == next {
            let (versions, providers) = (Vec::new(), Vec::new());
            self.names.push(Name { text, place: u32::MAX, versions, candidate: None, providers });
        }
        id
    }

    /// Gives a name its place when apt would make a record for it.
    fn mention(&mut self, name: NameId) {
        let place = &mut self.names[name.index()].place;
        if *place == u32::MAX {
            *place = self.mentioned;
            self.mentioned += 1;
        }
    }

    /// Finds each name's candidate.
    fn settle(&mut self) {
        for place in 0..self.names.len() {
            let mut best: Option<PackageId> = None;
            for id in &self.names[place].versions {
                let later = |best: PackageId| {
                    version::compare(self.package(*id).version, self.package(best).version).is_gt()
                };
                if best.is_none_or(later) {
                    best = Some(*id);
                }
            }
            self.names[place].candidate = best;
        }
    }
}

/// A package with its relations read, which is the part that threads share.
struct Parsed<'a> {
    package: Package<'a>,
    /// In the order of [`RelationField`].
    clauses: Vec<(RelationField, Clause<'a>)>,
}

fn parse(package: Package<'_>) -> Result<Parsed<'_>, PackageError> {
    let mut clauses = Vec::new();
    for field in RelationField::ALL {
        for clause in relation::clauses(package.relations[field as usize]) {
            let clause = clause.map_err(|source| PackageError::Relation {
                package: package.name.to_owned(),
                field: field.name(),
                source,
            })?;
            clauses.push((field, clause));
        }
    }
    Ok(Parsed { package, clauses })
}

/// A quick hash for the few hundred thousand names of an index, which is verified before it comes here.
#[derive(Debug, Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    fn finish(&self) -> u64 {
        // The table takes its place from the low bits, where a product is worst.
        self.0.rotate_left(26)
    }
}
