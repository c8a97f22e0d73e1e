//! What kinds of patterns the cache tells apart, and the tree of those that are suffixes.

use std::collections::BTreeMap;

use super::cache::size;
use super::types::{Database, Glob, TypeId};

/// Flag of a pattern, above its weight.
const CASE_SENSITIVE: u32 = 0x100;

/// Whether a character makes a pattern of a name.
pub(super) fn is_wild(c: char) -> bool {
    matches!(c, '*' | '?' | '[' | '\\')
}

/// What follows the star of a pattern with nothing else that is wild.
pub(super) fn suffix(pattern: &str) -> Option<&str> {
    pattern.strip_prefix('*').filter(|rest| !rest.contains(is_wild))
}

/// Weight and flag of a pattern.
pub(super) fn weight(glob: &Glob) -> u32 {
    u32::from(glob.weight) | if glob.case_sensitive { CASE_SENSITIVE } else { 0 }
}

/// A node of the tree of suffixes, which is as deep as a pattern is long.
#[derive(Default)]
pub(super) struct Suffix {
    /// The types that a suffix ending here means, in the order of reading, with weight and flag.
    pub ends: Vec<(TypeId, u32)>,
    pub below: BTreeMap<char, Suffix>,
}

impl Suffix {
    /// The tree of all suffixes, last characters first.
    pub fn all(database: &Database) -> Self {
        let mut top = Self::default();
        for (pattern, globs) in database.globs.iter() {
            if let Some(suffix) = suffix(pattern) {
                let end = suffix.chars().rev().fold(&mut top, |at, c| at.below.entry(c).or_default());
                globs.iter().for_each(|glob| end.add(glob));
            }
        }
        top
    }

    /// Entries on the level below.
    pub fn len(&self) -> u32 {
        size(self.ends.len() + self.below.len())
    }

    /// A type that is said twice keeps the flag of the first time and the larger weight.
    fn add(&mut self, glob: &Glob) {
        match self.ends.iter_mut().find(|(kind, _)| *kind == glob.kind) {
            Some((_, first)) => {
                let flag = *first & CASE_SENSITIVE;
                *first = flag | (*first & !CASE_SENSITIVE).max(glob.weight.into());
            }
            None => self.ends.push((glob.kind, weight(glob))),
        }
    }
}
