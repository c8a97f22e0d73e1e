//! The file of one type, as libxml2 writes it.

use std::ops::Range;

use roxmltree::Node;

use super::packages::NAMESPACE;
use super::types::Type;

/// Bytes at most of the elements of one type: all of them are moved when one is replaced.
const MAX_ELEMENTS: usize = 64 << 10;

/// The elements that the file of a type repeats, in that order.
#[derive(Default)]
pub(super) struct Elements {
    text: String,
    comments: Vec<Comment>,
}

/// Where a comment is in the text.
struct Comment {
    all: Range<usize>,
    /// The end of its language.
    language: usize,
}

impl Elements {
    /// Adds an element that holds only text, which stays as it is; nothing when it is too much. A comment takes the
    /// place of an earlier one in its language.
    pub fn add(&mut self, node: Node<'_, '_>) -> Option<()> {
        let start = self.text.len();
        let name = node.tag_name().name();
        self.text.extend(["  <", name]);
        for attribute in node.attributes() {
            let prefix = if attribute.namespace().is_some() { " xml:" } else { " " };
            self.text.extend([prefix, attribute.name(), "=\""]);
            escape(&mut self.text, attribute.value(), true);
            self.text.push('"');
        }
        let language = self.text.len();
        if node.has_children() {
            self.text.push('>');
            for inside in node.children().filter_map(|child| child.text()) {
                escape(&mut self.text, inside, false);
            }
            self.text.extend(["</", name, ">\n"]);
        } else {
            self.text.push_str("/>\n");
        }
        if name == "comment" {
            self.replace(Comment { all: start..self.text.len(), language });
        }
        (self.text.len() <= MAX_ELEMENTS).then_some(())
    }

    /// Removes the earlier comment in the language of the last.
    fn replace(&mut self, mut last: Comment) {
        let tag = |comment: &Comment| &self.text[comment.all.start..comment.language];
        if let Some(at) = self.comments.iter().position(|comment| tag(comment) == tag(&last)) {
            let Range { start, end } = self.comments.remove(at).all;
            self.text.drain(start..end);
            for comment in self.comments[at..].iter_mut().chain([&mut last]) {
                let by = end - start;
                comment.all = comment.all.start - by..comment.all.end - by;
                comment.language -= by;
            }
        }
        self.comments.push(last);
    }
}

/// The file of a type.
pub(super) fn file(kind: &Type) -> Vec<u8> {
    let elements = &kind.elements.text;
    let mut text = String::with_capacity(512 + elements.len());
    text.extend(["<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<mime-type xmlns=\"", NAMESPACE, "\" type=\""]);
    escape(&mut text, kind.name(), true);
    text += "\">\n  <!--Created automatically by update-mime-database. DO NOT EDIT!-->\n";
    text.extend([elements, "</mime-type>\n"]);
    text.into_bytes()
}

/// Adds text with references for what has a meaning. Attributes hold no control characters.
fn escape(out: &mut String, text: &str, attribute: bool) {
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let reference = match byte {
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'&' => "&amp;",
            b'"' if attribute => "&quot;",
            _ => continue,
        };
        out.extend([&text[from..at], reference]);
        from = at + 1;
    }
    out.push_str(&text[from..]);
}
