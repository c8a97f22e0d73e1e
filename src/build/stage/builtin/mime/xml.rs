//! The file of one type, as libxml2 writes it.

use roxmltree::Node;

use super::packages::NAMESPACE;
use super::types::Type;

/// The file of a type.
pub(super) fn file(kind: &Type) -> Vec<u8> {
    let mut text =
        String::with_capacity(512 + kind.fields.iter().map(|field| field.text.len()).sum::<usize>());
    text += "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<mime-type xmlns=\"";
    text += NAMESPACE;
    text += "\" type=\"";
    escape(&mut text, kind.name(), true);
    text += "\">\n  <!--Created automatically by update-mime-database. DO NOT EDIT!-->\n";
    kind.fields.iter().for_each(|field| text += &field.text);
    text += "</mime-type>\n";
    text.into_bytes()
}

/// The line of an element that holds only text. Text of several lines stays as it is.
pub(super) fn element(node: Node<'_, '_>) -> String {
    let name = node.tag_name().name();
    let mut text = String::with_capacity(128);
    text += "  <";
    text += name;
    for attribute in node.attributes() {
        text += if attribute.namespace().is_some() { " xml:" } else { " " };
        text += attribute.name();
        text += "=\"";
        escape(&mut text, attribute.value(), true);
        text += "\"";
    }
    if node.first_child().is_none() {
        text += "/>\n";
        return text;
    }
    text += ">";
    node.children().filter_map(|child| child.text()).for_each(|inside| escape(&mut text, inside, false));
    text += "</";
    text += name;
    text += ">\n";
    text
}

/// Adds text with references for what has a meaning. Attributes hold no control characters.
fn escape(out: &mut String, text: &str, attribute: bool) {
    let meaning = |c: char| matches!(c, '<' | '>' | '&') || attribute && c == '"';
    let mut rest = text;
    while let Some(at) = rest.find(meaning) {
        out.push_str(&rest[..at]);
        out.push_str(match rest.as_bytes()[at] {
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'&' => "&amp;",
            _ => "&quot;",
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}
