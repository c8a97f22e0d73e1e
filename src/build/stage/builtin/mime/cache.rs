//! `mime.cache`: everything in one file that applications map. All numbers are big-endian, all places multiples of four.

use std::collections::HashMap;

use super::pattern::{Suffix, is_wild, suffix, weight};
use super::table::Table;
use super::types::{Database, Match, TypeId};

/// Format 1.2.
const VERSION: u32 = 1 << 16 | 2;
/// Bytes of the header: the version, and the places of ten lists.
const HEADER: usize = 4 + 4 * 10;
/// Bytes of an entry of the tree of suffixes, of a group of rules and of a rule.
const SUFFIX_ENTRY: u32 = 12;
const MAGIC_ENTRY: u32 = 16;
const MATCH_ENTRY: u32 = 32;

/// The cache of all types.
pub(super) fn file(database: &Database) -> Vec<u8> {
    let strings = strings(database);
    let mut cache = Cache { bytes: vec![0; HEADER], places: HashMap::new(), database };
    for (text, ()) in strings.iter() {
        cache.places.insert(text, cache.end());
        cache.bytes.extend(text.as_bytes());
        cache.bytes.push(0);
        cache.align();
    }
    let lists = [
        Cache::aliases,
        Cache::parents,
        Cache::literals,
        Cache::suffixes,
        Cache::patterns,
        Cache::magic,
        Cache::namespaces,
        |cache: &mut Cache<'_>| cache.icons(&cache.database.icons),
        |cache: &mut Cache<'_>| cache.icons(&cache.database.generic_icons),
        Cache::types,
    ];
    let mut header = VERSION.to_be_bytes().to_vec();
    for list in lists {
        header.extend(cache.end().to_be_bytes());
        list(&mut cache);
    }
    cache.bytes[..HEADER].copy_from_slice(&header);
    cache.bytes
}

/// All strings. Their order follows from the order in which they are put in.
fn strings(database: &Database) -> Table<()> {
    let mut strings = Table::new();
    let mut add = |text: &str| strings.insert(text, ());
    let name = |id: &TypeId| database.kind(*id).name();
    for (alias, kind) in database.aliases.iter() {
        add(alias);
        add(name(kind));
    }
    for (kind, parents) in database.parents.iter() {
        add(kind);
        parents.iter().for_each(|parent| add(parent));
    }
    for (pattern, globs) in database.globs.iter() {
        if suffix(pattern).is_none() {
            add(pattern);
        }
        globs.iter().for_each(|glob| add(name(&glob.kind)));
    }
    database.magic.iter().for_each(|magic| add(name(&magic.kind)));
    for (key, kind) in database.namespaces.iter() {
        let (namespace, local) = key.split_once(' ').unwrap_or((key, ""));
        [name(kind), namespace, local].into_iter().for_each(&mut add);
    }
    for (kind, icon) in database.generic_icons.iter().chain(database.icons.iter()) {
        add(kind);
        add(icon);
    }
    strings
}

/// A count or place as it is written.
pub(super) fn size(count: usize) -> u32 {
    u32::try_from(count).expect("what is read is bounded")
}

struct Cache<'a> {
    bytes: Vec<u8>,
    /// Where each string is.
    places: HashMap<&'a str, u32>,
    database: &'a Database,
}

impl<'a> Cache<'a> {
    /// The place of what comes next.
    fn end(&self) -> u32 {
        size(self.bytes.len())
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn word(&mut self, number: u32) {
        self.bytes.extend(number.to_be_bytes());
    }

    fn count(&mut self, count: usize) {
        self.word(size(count));
    }

    fn string(&mut self, text: &str) {
        let place = *self.places.get(text).expect("all strings were gathered");
        self.word(place);
    }

    fn kind(&mut self, id: TypeId) {
        self.string(self.database.kind(id).name());
    }

    fn aliases(&mut self) {
        self.count(self.database.aliases.len());
        for (alias, kind) in self.database.aliases.sorted() {
            self.string(alias);
            self.kind(*kind);
        }
    }

    fn parents(&mut self) {
        let all = self.database.parents.sorted();
        self.count(all.len());
        let mut place = self.end() + 8 * size(all.len());
        for (kind, parents) in &all {
            self.string(kind);
            self.word(place);
            place += 4 + 4 * size(parents.len());
        }
        for (_, parents) in &all {
            self.count(parents.len());
            parents.iter().for_each(|parent| self.string(parent));
        }
    }

    /// Patterns that are names.
    fn literals(&mut self) {
        self.globs(|pattern| !pattern.contains(is_wild));
    }

    /// Patterns that are neither names nor suffixes.
    fn patterns(&mut self) {
        self.globs(|pattern| pattern.contains(is_wild) && suffix(pattern).is_none());
    }

    fn globs(&mut self, wanted: impl Fn(&str) -> bool) {
        let mut all = self.database.globs.sorted();
        all.retain(|(pattern, _)| wanted(pattern));
        self.count(all.iter().map(|(_, globs)| globs.len()).sum());
        for (pattern, globs) in all {
            for glob in globs {
                self.string(pattern);
                self.kind(glob.kind);
                self.word(weight(glob));
            }
        }
    }

    /// The tree of suffixes, last characters first, level by level.
    fn suffixes(&mut self) {
        let top = Suffix::all(self.database);
        self.word(top.len());
        self.word(self.end() + 4);
        let mut level = vec![&top];
        let mut below = self.end() + SUFFIX_ENTRY * top.len();
        while !level.is_empty() {
            for entry in &level {
                for (kind, weight) in &entry.ends {
                    self.word(0);
                    self.kind(*kind);
                    self.word(*weight);
                }
                for (character, entry) in &entry.below {
                    self.word(u32::from(*character));
                    self.word(entry.len());
                    self.word(below);
                    below += SUFFIX_ENTRY * entry.len();
                }
            }
            level = level.into_iter().flat_map(|entry| entry.below.values()).collect();
        }
    }

    /// Groups of rules, then the rules, then what they compare with.
    fn magic(&mut self) {
        let all = &self.database.magic;
        let mut rules = Vec::new();
        let mut groups = Vec::new();
        for magic in all {
            groups.push(rules.len());
            gather(&magic.matches, &mut rules);
        }
        let reach = |rule: &Match| size(rule.data.len()) + rule.start + rule.length;
        self.count(all.len());
        self.word(rules.iter().map(|(rule, _)| reach(rule)).max().unwrap_or(0));
        self.word(self.end() + 4);
        let first = self.end() + MAGIC_ENTRY * size(all.len());
        let place = |rule: usize| first + MATCH_ENTRY * size(rule);
        for (magic, group) in all.iter().zip(groups) {
            self.word(magic.priority.into());
            self.kind(magic.kind);
            self.count(magic.matches.len());
            self.word(place(group));
        }
        let mut data = place(rules.len());
        let mut next = |bytes: &[u8]| {
            let place = data;
            data += size(bytes.len().next_multiple_of(4));
            place
        };
        for (rule, below) in &rules {
            self.word(rule.start);
            self.word(rule.length);
            self.word(rule.word_size.into());
            self.count(rule.data.len());
            self.word(next(&rule.data));
            self.word(rule.mask.as_deref().map_or(0, &mut next));
            self.count(rule.matches.len());
            self.word(if rule.matches.is_empty() { 0 } else { place(*below) });
        }
        for (rule, _) in &rules {
            for bytes in [Some(&rule.data), rule.mask.as_ref()].into_iter().flatten() {
                self.bytes.extend(bytes);
                self.align();
            }
        }
    }

    fn namespaces(&mut self) {
        self.count(self.database.namespaces.len());
        for (key, kind) in self.database.namespaces.sorted() {
            let (namespace, local) = key.split_once(' ').unwrap_or((key, ""));
            self.string(namespace);
            self.string(local);
            self.kind(*kind);
        }
    }

    fn icons(&mut self, icons: &'a Table<String>) {
        self.count(icons.len());
        for (kind, icon) in icons.sorted() {
            self.string(kind);
            self.string(icon);
        }
    }

    /// The program looks for the types' names with line ends, finds none and writes zeros.
    fn types(&mut self) {
        let count = self.database.names.len();
        self.count(count);
        (0..count).for_each(|_| self.word(0));
    }
}

/// Adds rules, those on one level together, each with the place of what is below it.
fn gather<'a>(rules: &'a [Match], all: &mut Vec<(&'a Match, usize)>) {
    let first = all.len();
    all.extend(rules.iter().map(|rule| (rule, 0)));
    for (number, rule) in rules.iter().enumerate() {
        all[first + number].1 = all.len();
        gather(&rule.matches, all);
    }
}
