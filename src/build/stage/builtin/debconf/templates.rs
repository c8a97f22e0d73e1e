//! A package's .templates file: `Debconf::Template->load`.

use std::collections::BTreeMap;

use super::format::{Bytes, is_space};
use super::store::{Died, Store, is_true};

/// Largest .templates file, in bytes.
pub(super) const MAX_SIZE: usize = 16 << 20;

/// One template of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    pub name: Bytes,
    pub kind: Bytes,
    pub fields: BTreeMap<Bytes, Bytes>,
    /// What debconf says about it.
    pub said: Vec<Bytes>,
}

/// Reads a file up to its first error.
pub(super) fn parse(text: &[u8], file: &str) -> (Vec<Template>, Result<(), Died>) {
    let mut templates = Vec::new();
    let mut rest = text;
    let mut number = 0;
    while !rest.is_empty() {
        let end = memchr::memmem::find(rest, b"\n\n").map_or(rest.len(), |at| at + 2);
        let (stanza, after) = rest.split_at(end);
        rest = after;
        number += 1;
        match template(stanza, number, file) {
            Ok(template) => templates.push(template),
            Err(died) => return (templates, Err(died)),
        }
    }
    (templates, Ok(()))
}

/// Puts templates into the databases. What is to be said about that.
pub(super) fn load(store: &mut Store, templates: Vec<Template>, owner: &[u8]) -> Result<Vec<Bytes>, Died> {
    let mut said = Vec::new();
    for template in templates {
        said.extend(template.said);
        said.extend(store.new_template(&template.name, owner, &template.kind)?);
        store.set_template_fields(&template.name, template.fields);
    }
    Ok(said)
}

fn template(stanza: &[u8], number: usize, file: &str) -> Result<Template, Died> {
    let mut fields = BTreeMap::new();
    let mut said = Vec::new();
    let (mut field, mut value, mut extended) = (Bytes::new(), Bytes::new(), Bytes::new());
    for line in trimmed(stanza).split(|byte| *byte == b'\n') {
        if let Some((key, text)) = key(line) {
            save(&mut fields, &field, &value, &extended, number, file)?;
            field = key.to_ascii_lowercase();
            value = trim_end(text.strip_prefix_if(is_space)).to_vec();
            extended.clear();
            let base = field.iter().position(|byte| *byte == b'-').filter(|dash| dash + 1 < field.len());
            if !matches!(
                &field[..base.unwrap_or(field.len())],
                b"template" | b"description" | b"choices" | b"default" | b"type"
            ) {
                let shown = String::from_utf8_lossy(&field);
                let message = format!("Unknown template field '{shown}', in stanza #{number} of {file}\n");
                said.push(message.into_bytes());
            }
            continue;
        }
        let [first, bit @ ..] = line else {
            // An empty line is the end of a stanza, so it is an empty stanza.
            continue;
        };
        if !is_space(*first) {
            let line = String::from_utf8_lossy(line);
            return Err(Died::new(format!(
                "Template parse error near `{line}', in stanza #{number} of {file}\n"
            )));
        }
        let glue = !extended.is_empty() && !matches!(extended.last(), Some(b'\n' | b' '));
        if bit == b"." {
            extended.extend_from_slice(b"\n\n");
        } else if bit.first().is_some_and(|byte| is_space(*byte)) {
            if glue {
                extended.push(b'\n');
            }
            extended.extend_from_slice(trim_end(bit));
            extended.push(b'\n');
        } else {
            if glue {
                extended.push(b' ');
            }
            extended.extend_from_slice(trim_end(bit));
        }
    }
    save(&mut fields, &field, &value, &extended, number, file)?;
    let name = fields.remove(b"template".as_slice()).unwrap_or_default();
    if !is_true(&name) {
        return Err(Died::new(format!("Template #{number} in {file} does not contain a 'Template:' line\n")));
    }
    let kind = fields.get(b"type".as_slice()).cloned().unwrap_or_default();
    Ok(Template { name, kind, fields, said })
}

fn save(
    fields: &mut BTreeMap<Bytes, Bytes>,
    field: &[u8],
    value: &[u8],
    extended: &[u8],
    number: usize,
    file: &str,
) -> Result<(), Died> {
    if field.is_empty() {
        return Ok(());
    }
    if fields.contains_key(field) {
        let (field, value) = (String::from_utf8_lossy(field), String::from_utf8_lossy(value));
        return Err(Died::new(format!(
            "Template #{number} in {file} has a duplicate field \"{field}\" with new value \"{value}\". Probably two \
             templates are not properly separated by a lone newline.\n"
        )));
    }
    fields.insert(field.to_vec(), value.to_vec());
    let end = extended.iter().rposition(|byte| *byte != b'\n').map_or(0, |last| last + 1);
    if end > 0 {
        fields.insert([b"extended_", field].concat(), extended[..end].to_vec());
    }
    Ok(())
}

/// The key of a line and what follows its colon.
fn key(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = line.iter().position(|byte| !(byte.is_ascii_alphanumeric() || b"-_@.".contains(byte)))?;
    (line[end] == b':').then(|| (&line[..end], &line[end + 1..]))
}

/// Without the newlines on both ends.
fn trimmed(stanza: &[u8]) -> &[u8] {
    let start = stanza.iter().position(|byte| *byte != b'\n').unwrap_or(stanza.len());
    let end = stanza.iter().rposition(|byte| *byte != b'\n').map_or(start, |last| last + 1);
    &stanza[start..end]
}

fn trim_end(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !is_space(*byte)).map_or(0, |last| last + 1);
    &text[..end]
}

trait StripPrefixIf {
    fn strip_prefix_if(&self, wanted: fn(u8) -> bool) -> &Self;
}

impl StripPrefixIf for [u8] {
    fn strip_prefix_if(&self, wanted: fn(u8) -> bool) -> &Self {
        match self {
            [first, rest @ ..] if wanted(*first) => rest,
            all => all,
        }
    }
}
