//! The text of a database: `Debconf::Format::822`.
//!
//! Stanzas that nobody touches are written back as they were read. That is right only when debconf, which reads and
//! writes every one, would give the same bytes, so the parser here takes exactly the text that debconf writes.

use std::collections::{BTreeMap, BTreeSet};

use memchr::{memchr, memmem};

/// Text of no certain encoding, as debconf has it.
pub(super) type Bytes = Vec<u8>;

/// A question or a template.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Item {
    pub owners: BTreeSet<Bytes>,
    pub fields: BTreeMap<Bytes, Bytes>,
    pub variables: BTreeMap<Bytes, Bytes>,
    pub flags: BTreeMap<Bytes, Bytes>,
}

/// A stanza, its values still escaped.
#[derive(Debug, PartialEq, Eq, Default)]
struct Stanza<'a> {
    name: &'a [u8],
    fields: Vec<(&'a [u8], &'a [u8])>,
    owners: Vec<&'a [u8]>,
    flags: Vec<&'a [u8]>,
    variables: Vec<(&'a [u8], &'a [u8])>,
}

/// The name of a stanza, given with its last line's end but without the empty line after it. Nothing when debconf
/// would not have written it so.
pub(super) fn name(stanza: &[u8]) -> Option<&[u8]> {
    scan(stanza).map(|stanza| stanza.name)
}

/// Reads a stanza that [`name`] takes.
pub(super) fn read(stanza: &[u8]) -> Option<Item> {
    let stanza = scan(stanza)?;
    let unescaped = |value: &[u8]| replace(value, b"\\n", b"\n");
    Some(Item {
        owners: stanza.owners.iter().map(|owner| owner.to_vec()).collect(),
        fields: stanza
            .fields
            .iter()
            .map(|(key, value)| (key.to_ascii_lowercase(), unescaped(value)))
            .collect(),
        variables: stanza.variables.iter().map(|(key, value)| (key.to_vec(), unescaped(value))).collect(),
        flags: stanza.flags.iter().map(|flag| (flag.to_vec(), b"true".to_vec())).collect(),
    })
}

/// Writes a stanza and the empty line after it.
pub(super) fn write(name: &[u8], item: &Item, out: &mut Bytes) {
    let mut line = |parts: &[&[u8]]| {
        parts.iter().for_each(|part| out.extend_from_slice(part));
        out.push(b'\n');
    };
    let escaped = |value: &[u8]| replace(value, b"\n", b"\\n");
    line(&[b"Name: ", name]);
    for (key, value) in &item.fields {
        let mut key = key.clone();
        if let Some(first) = key.first_mut() {
            first.make_ascii_uppercase();
        }
        line(&[&key, b": ", &escaped(value)]);
    }
    let join = |words: &mut dyn Iterator<Item = &Bytes>| words.cloned().collect::<Vec<_>>().join(&b", "[..]);
    if !item.owners.is_empty() {
        line(&[b"Owners: ", &join(&mut item.owners.iter())]);
    }
    let is_set = |(_, value): &(&Bytes, &Bytes)| value.as_slice() == b"true";
    if item.flags.iter().any(|flag| is_set(&flag)) {
        line(&[b"Flags: ", &join(&mut item.flags.iter().filter(is_set).map(|(flag, _)| flag))]);
    }
    if !item.variables.is_empty() {
        line(&[b"Variables:"]);
        for (key, value) in &item.variables {
            line(&[b" ", key, b" = ", &escaped(value)]);
        }
    }
    line(&[]);
}

fn scan(stanza: &[u8]) -> Option<Stanza<'_>> {
    let mut lines = Lines(stanza);
    let mut found = Stanza { name: lines.next()??.strip_prefix(b"Name: ")?, ..Stanza::default() };
    if found.name.is_empty() {
        return None;
    }
    let mut line = lines.next();
    while let Some(text) = line {
        let text = text?;
        if text.starts_with(b"Owners: ") || text.starts_with(b"Flags: ") || text == b"Variables:" {
            break;
        }
        let (key, value) = text.split_at(memchr(b':', text)?);
        let (first, rest) = key.split_first()?;
        let graphic = key.iter().all(u8::is_ascii_graphic);
        let special = matches!(key, b"Name" | b"Owners" | b"Flags" | b"Variables");
        if !graphic || special || first.is_ascii_lowercase() || rest.iter().any(u8::is_ascii_uppercase) {
            return None;
        }
        if found.fields.last().is_some_and(|(before, _)| lower(before).ge(lower(key))) {
            return None;
        }
        found.fields.push((key, value.strip_prefix(b": ")?));
        line = lines.next();
    }
    if let Some(Some(owners)) = line.map(|line| line.and_then(|line| line.strip_prefix(b"Owners: "))) {
        found.owners = words(owners)?;
        line = lines.next();
    }
    if let Some(Some(flags)) = line.map(|line| line.and_then(|line| line.strip_prefix(b"Flags: "))) {
        found.flags = words(flags)?;
        line = lines.next();
    }
    if line == Some(Some(b"Variables:")) {
        for line in lines {
            let line = line?.strip_prefix(b" ")?;
            let (key, value) = line.split_at(memchr(b'=', line)?);
            let key = key.strip_suffix(b" ")?;
            let (first, last) = (key.first()?, key.last()?);
            let ascending = found.variables.last().is_none_or(|(before, _)| *before < key);
            if is_space(*first) || is_space(*last) || !ascending {
                return None;
            }
            found.variables.push((key, value.strip_prefix(b"= ")?));
        }
        return (!found.variables.is_empty()).then_some(found);
    }
    line.is_none().then_some(found)
}

fn lower(key: &[u8]) -> impl Iterator<Item = u8> {
    key.iter().map(u8::to_ascii_lowercase)
}

/// The words of a list as debconf splits it, when it would join them to the same text.
fn words(list: &[u8]) -> Option<Vec<&[u8]>> {
    let mut words = Vec::new();
    let mut start = 0;
    for comma in memchr::memchr_iter(b',', list) {
        if list.get(comma + 1).is_some_and(|byte| is_space(*byte)) {
            if list[comma + 1] != b' ' || list.get(comma + 2).is_none_or(|byte| is_space(*byte)) {
                return None;
            }
            words.push(&list[start..comma]);
            start = comma + 2;
        }
    }
    words.push(&list[start..]);
    let ascending = words.windows(2).all(|pair| pair[0] < pair[1]);
    (ascending && !list.is_empty()).then_some(words)
}

/// The lines of a text; nothing in place of one that has no end or is empty.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let Some(end) = memchr(b'\n', self.0) else {
            self.0 = b"";
            return Some(None);
        };
        let (line, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Some((!line.is_empty()).then_some(line))
    }
}

/// What Perl's `\s` takes in text without an encoding.
pub(super) fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// Replaces every occurrence.
pub(super) fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memmem::find(rest, from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}
