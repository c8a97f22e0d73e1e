//! A table of strings that goes through its entries in the order in which GLib's `GHashTable` does.
//!
//! The program writes several of its lists, and all strings of its cache, in that order, so the slots of the table are
//! part of what it writes. They depend on the hashes of the keys and on the order in which they were put in.

/// Slots of an empty table.
const SMALLEST: usize = 8;
/// Hashes below are taken by GLib for slots without an entry.
const FIRST_HASH: u32 = 2;

/// Entries by their keys. None is ever taken out.
pub(super) struct Table<V> {
    entries: Vec<(Box<str>, V)>,
    slots: Vec<Option<Slot>>,
    /// Largest prime number below the number of slots.
    modulus: u32,
}

/// Where an entry is.
#[derive(Clone, Copy)]
struct Slot {
    hash: u32,
    entry: usize,
}

impl<V> Table<V> {
    /// A table with nothing in it.
    pub fn new() -> Self {
        Self { entries: Vec::new(), slots: vec![None; SMALLEST], modulus: largest_prime_below(SMALLEST) }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&V> {
        let slot = self.slots[self.find(hash(key), key)]?;
        Some(&self.entries[slot.entry].1)
    }

    /// Puts a value in; that of a key that is there already is replaced at its place.
    pub fn insert(&mut self, key: &str, value: V) {
        let mut value = Some(value);
        let there = self.get_or_insert_with(key, || value.take().expect("nobody took it yet"));
        if let Some(value) = value {
            *there = value;
        }
    }

    /// The value of a key, which is made when the key is new.
    pub fn get_or_insert_with(&mut self, key: &str, make: impl FnOnce() -> V) -> &mut V {
        let hash = hash(key);
        let at = self.find(hash, key);
        let entry = match self.slots[at] {
            Some(slot) => slot.entry,
            None => {
                let entry = self.entries.len();
                self.entries.push((key.into(), make()));
                self.slots[at] = Some(Slot { hash, entry });
                self.grow();
                entry
            }
        };
        &mut self.entries[entry].1
    }

    /// All entries, by their slots.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.slots.iter().flatten().map(|slot| {
            let (key, value) = &self.entries[slot.entry];
            (&**key, value)
        })
    }

    /// All entries, by their keys.
    pub fn sorted(&self) -> Vec<(&str, &V)> {
        let mut entries: Vec<_> = self.entries.iter().map(|(key, value)| (&**key, value)).collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        entries
    }

    /// The slot that has the key, or would get it.
    fn find(&self, hash: u32, key: &str) -> usize {
        self.probe(hash, |at| {
            self.slots[at].is_some_and(|slot| slot.hash != hash || *self.entries[slot.entry].0 != *key)
        })
    }

    /// The first slot for a hash that is not passed over.
    fn probe(&self, hash: u32, pass: impl Fn(usize) -> bool) -> usize {
        let mut at = (hash.wrapping_mul(11) % self.modulus) as usize;
        let mut step = 0;
        while pass(at) {
            step += 1;
            at = (at + step) & (self.slots.len() - 1);
        }
        at
    }

    /// Makes room when the table is nearly full.
    fn grow(&mut self) {
        let (before, count) = (self.slots.len(), self.entries.len());
        if before > count + count / 16 {
            return;
        }
        // A third more than there is, rounded up to what a number of bits can count.
        let bits = usize::BITS - (count * 1333 / 1000).leading_zeros();
        let after = SMALLEST.max(1 << bits);
        self.modulus = largest_prime_below(after);
        self.slots.resize(after, None);
        // Who is moved takes its slot from whoever has not been moved yet, who is moved next.
        let mut settled = vec![false; after];
        for at in 0..before {
            if settled[at] {
                continue;
            }
            let mut moving = self.slots[at].take();
            while let Some(slot) = moving {
                let to = self.probe(slot.hash, |at| settled[at]);
                settled[to] = true;
                moving = self.slots[to].replace(slot);
            }
        }
    }
}

/// The hash of a key, as `g_str_hash` has it.
fn hash(key: &str) -> u32 {
    // Bytes are signed there.
    let add = |hash: u32, byte: u8| hash.wrapping_mul(33).wrapping_add_signed(byte.cast_signed().into());
    key.bytes().fold(5381, add).max(FIRST_HASH)
}

fn largest_prime_below(limit: usize) -> u32 {
    let is_prime = |number: &u32| (2..).take_while(|d| d * d <= *number).all(|d| !number.is_multiple_of(d));
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    (2..limit).rev().find(is_prime).unwrap_or(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_found_while_the_table_grows() {
        let mut table = Table::new();
        for number in 0..5000 {
            table.insert(&format!("key-{number}"), number);
            table.insert(&format!("key-{}", number / 2), number / 2);
        }
        assert_eq!(table.len(), 5000);
        assert!((0..5000).all(|number| table.get(&format!("key-{number}")) == Some(&number)));
        assert_eq!(table.get("key-5000"), None);
        assert_eq!(table.iter().count(), 5000);
        assert!(table.sorted().is_sorted());
    }

    #[test]
    fn moduli_are_those_of_glib() {
        let primes = [8, 16, 32, 64, 4096, 65_536].map(largest_prime_below);
        assert_eq!(primes, [7, 13, 31, 61, 4093, 65_521]);
    }
}
