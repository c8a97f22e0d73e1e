//! Reads the files of packages into the database.
//!
//! The program reads on after a mistake and says what it was; here a mistake, or anything that is not known for certain
//! to be none, is the end of it.

use roxmltree::{Document, Node, ParsingOptions};

use super::types::{Database, Glob, Magic, Match, TreeMagic, TreeMatch, TypeId, split};
use super::value;
use crate::digest::Sha256;

/// The namespace of all elements.
pub(super) const NAMESPACE: &str = "http://www.freedesktop.org/standards/shared-mime-info";
const XML_NAMESPACE: &str = "http://www.w3.org/XML/1998/namespace";

/// Document types whose declarations change nothing in what is read: that of shared-mime-info 2.4.
const DOCUMENT_TYPES: [&str; 1] = ["873c855fb7cfda650ad76373319f8f2e61d3404bad7a81e6868595a6b636388b"];
/// Deepest nesting of rules.
const MAX_DEPTH: usize = 16;

/// Longest pattern, and longest tag, text or comment, in bytes.
const MAX_PATTERN: usize = 255;
const MAX_PART: usize = 16 << 10;

/// Patterns and values under which deletions are kept.
const NO_GLOBS: &str = "__NOGLOBS__";
const NO_MAGIC: &str = "__NOMAGIC__";

/// Adds what one file says; nothing when there is something odd in it.
pub(super) fn read(text: &str, database: &mut Database) -> Option<()> {
    if !is_plain(text)? {
        return None;
    }
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).ok()?;
    let root = document.root_element();
    has_name(root, "mime-info", &[])?;
    for node in root.children().filter(Node::is_element) {
        has_name(node, "mime-type", &["type"])?;
        let kind = database.type_named(node.attribute("type")?)?;
        for field in node.children().filter(Node::is_element) {
            add(database, kind, field)?;
        }
    }
    Some(())
}

/// Whether a text is free of what readers of XML may disagree about.
fn is_plain(text: &str) -> Option<bool> {
    let body = match text.strip_prefix("<?xml ") {
        Some(rest) => {
            let (declaration, body) = rest.split_once("?>")?;
            let known = |word: &str| {
                let word = word.replace('\'', "\"").to_ascii_lowercase();
                matches!(word.as_str(), "version=\"1.0\"" | "encoding=\"utf-8\"")
            };
            if !declaration.split_ascii_whitespace().all(known) {
                return None;
            }
            body
        }
        None => text,
    };
    // Carriage returns are changed by one and kept by another.
    let odd = ["\r", "\u{feff}", "<?", "<![CDATA["];
    if odd.iter().any(|odd| memchr::memmem::find(body.as_bytes(), odd.as_bytes()).is_some()) {
        return None;
    }
    // Attributes of an element are compared with each other.
    let mut starts = memchr::memchr_iter(b'<', body.as_bytes());
    let last = starts.try_fold(0, |before, at| (at - before <= MAX_PART).then_some(at))?;
    if body.len() - last > MAX_PART {
        return None;
    }
    let mut types = memchr::memmem::find_iter(body.as_bytes(), "<!DOCTYPE");
    let Some(at) = types.next() else { return Some(true) };
    let end = at + body[at..].find("]>")? + 2;
    let hash = Sha256::of(&body[at..end]).to_string();
    Some(types.next().is_none() && DOCUMENT_TYPES.contains(&hash.as_str()))
}

/// Whether an element has a name and no attributes but the known ones; `xml:lang` is among them by that name.
fn has_name(node: Node<'_, '_>, name: &str, attributes: &[&str]) -> Option<()> {
    let ours = node.has_tag_name((NAMESPACE, name));
    // Where there is one, without a prefix, it is that of the element.
    let one = node.namespaces().len() == 1 && node.namespaces().all(|namespace| namespace.name().is_none());
    let known = node.attributes().all(|attribute| {
        let name = match attribute.namespace() {
            None => attribute.name(),
            Some(XML_NAMESPACE) if attribute.name() == "lang" => "xml:lang",
            Some(_) => return false,
        };
        attributes.contains(&name) && !attribute.value().contains(char::is_control)
    });
    (ours && one && known).then_some(())
}

/// Adds one element to what is known of a type.
fn add(database: &mut Database, kind: TypeId, node: Node<'_, '_>) -> Option<()> {
    let name = node.tag_name().name();
    let rules = matches!(name, "magic" | "treemagic");
    let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    let is_text =
        |child: Node<'_, '_>| child.is_text() && !child.text().is_some_and(|text| text.contains(odd));
    if !rules && !node.children().all(is_text) {
        return None;
    }
    let known: &[&str] = match name {
        "comment" | "acronym" | "expanded-acronym" => &["xml:lang"],
        "glob" => &["pattern", "weight", "case-sensitive"],
        "alias" | "sub-class-of" => &["type"],
        "icon" | "generic-icon" => &["name"],
        "root-XML" => &["namespaceURI", "localName"],
        "magic" | "treemagic" => &["priority"],
        "glob-deleteall" | "magic-deleteall" => &[],
        _ => return None,
    };
    has_name(node, name, known)?;
    match name {
        "glob" => {
            let case_sensitive = boolean(node, "case-sensitive")?;
            let pattern = node.attribute("pattern").filter(|pattern| is_pattern(pattern))?;
            let glob = Glob { kind, weight: percentage(node, "weight")?, case_sensitive, deletes: false };
            match case_sensitive {
                true => database.globs.get_or_insert_with(pattern, Vec::new).push(glob),
                false => {
                    database.globs.get_or_insert_with(&pattern.to_ascii_lowercase(), Vec::new).push(glob)
                }
            }
        }
        "glob-deleteall" => {
            let glob = Glob { kind, weight: 0, case_sensitive: false, deletes: true };
            database.add_glob(NO_GLOBS, glob)?;
        }
        "magic" => {
            let matches = matches(node, 0)?;
            let magic = Magic { kind, priority: percentage(node, "priority")?, deletes: false, matches };
            database.magic.push((!magic.matches.is_empty()).then_some(magic)?);
        }
        "magic-deleteall" => {
            let data = NO_MAGIC.into();
            let matches =
                vec![Match { start: 0, length: 1, word_size: 1, data, mask: None, matches: Vec::new() }];
            database.magic.push(Magic { kind, priority: 0, deletes: true, matches });
        }
        "treemagic" => {
            let matches = tree_matches(node, 0)?;
            database.tree_magic.push(TreeMagic { kind, priority: percentage(node, "priority")?, matches });
        }
        "alias" => database.aliases.insert(type_name(node)?, kind),
        "sub-class-of" => {
            let name = database.kind(kind).name().to_owned();
            database.parents.get_or_insert_with(&name, Vec::new).push(type_name(node)?.to_owned());
        }
        "root-XML" => {
            let (namespace, local) = (node.attribute("namespaceURI")?, node.attribute("localName")?);
            if namespace.is_empty() && local.is_empty() || namespace.contains(' ') || local.contains(' ') {
                return None;
            }
            database.namespaces.insert(&format!("{namespace} {local}"), kind);
        }
        "icon" | "generic-icon" => {
            let icon = node.attribute("name").filter(|name| !name.contains(' '))?.to_owned();
            let type_name = database.kind(kind).name().to_owned();
            let icons = if name == "icon" { &mut database.icons } else { &mut database.generic_icons };
            icons.insert(&type_name, icon);
        }
        _ => {}
    }
    if !rules && !matches!(name, "root-XML" | "magic-deleteall") {
        database.elements(kind).add(node)?;
    }
    Some(())
}

/// The name of another type.
fn type_name<'a>(node: Node<'a, '_>) -> Option<&'a str> {
    node.attribute("type").filter(|name| split(name).is_some())
}

/// A priority or weight.
fn percentage(node: Node<'_, '_>, name: &str) -> Option<u8> {
    let Some(text) = node.attribute(name) else { return Some(50) };
    let plain = text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten().filter(|number| *number <= 100)
}

fn boolean(node: Node<'_, '_>, name: &str) -> Option<bool> {
    match node.attribute(name) {
        Some("true") => Some(true),
        Some("false") | None => Some(false),
        Some(_) => None,
    }
}

/// Whether a pattern is none that the program reads past the end of, and of a bounded length.
fn is_pattern(pattern: &str) -> bool {
    !matches!(pattern, "" | "*") && pattern.len() <= MAX_PATTERN
}

/// The rules below an element of `magic`.
fn matches(parent: Node<'_, '_>, depth: usize) -> Option<Vec<Match>> {
    let rules = parent.children().filter(Node::is_element).map(|node| {
        has_name(node, "match", &["offset", "type", "value", "mask"])?;
        let (start, length) = value::offset(node.attribute("offset")?)?;
        let (kind, text) = (node.attribute("type")?, node.attribute("value")?);
        let value = value::value(kind, text, node.attribute("mask"))?;
        let matches = if depth < MAX_DEPTH { matches(node, depth + 1)? } else { return None };
        let value::Value { data, mask, word_size } = value;
        Some(Match { start, length, word_size, data, mask, matches })
    });
    rules.collect()
}

/// The rules below an element of `treemagic`.
fn tree_matches(parent: Node<'_, '_>, depth: usize) -> Option<Vec<TreeMatch>> {
    let flags = ["match-case", "executable", "non-empty"];
    let rules = parent.children().filter(Node::is_element).map(|node| {
        has_name(node, "treematch", &[&flags[..], &["path", "type", "mimetype"]].concat())?;
        let mut conditions = match node.attribute("type") {
            None => "any",
            Some(kind @ ("file" | "directory" | "link")) => kind,
            Some(_) => return None,
        }
        .to_owned();
        for flag in flags {
            if boolean(node, flag)? {
                conditions = format!("{conditions},{flag}");
            }
        }
        if let Some(name) = node.attribute("mimetype") {
            conditions = format!("{conditions},{name}");
        }
        let matches = if depth < MAX_DEPTH { tree_matches(node, depth + 1)? } else { return None };
        Some(TreeMatch { path: node.attribute("path")?.to_owned(), conditions, matches })
    });
    rules.collect()
}
