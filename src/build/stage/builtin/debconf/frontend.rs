//! Questions and their answers when there is nobody to answer: `Debconf::FrontEnd::Noninteractive`.

use super::display::Display;
use super::format::Bytes;
use super::store::{Died, Store};
use super::words::rank;
use crate::build::stage::root::Root;

/// What all scripts of a call share.
pub(super) struct Frontend<'a> {
    pub store: Store,
    pub root: &'a Root,
    /// The directory that relative paths start from.
    pub directory: &'a str,
    pub display: Display,
    /// Whether questions that nobody is shown count as seen.
    pub mark_seen: bool,
    /// `DEBIAN_PRIORITY`.
    pub priority: Option<&'a str>,
    /// Questions asked and not answered yet.
    pub elements: Vec<Element>,
    pub has_progress_bar: bool,
}

/// A question that is to be answered by `GO`.
pub(super) struct Element {
    pub question: Bytes,
    pub kind: Kind,
    pub mark_seen: bool,
}

/// What answers a question.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Value,
    Select,
    Text,
    Error,
}

impl<'a> Frontend<'a> {
    pub fn new(
        store: Store,
        root: &'a Root,
        directory: &'a str,
        display: Display,
        mark_seen: bool,
        priority: Option<&'a str>,
    ) -> Self {
        let (elements, has_progress_bar) = (Vec::new(), false);
        Self { store, root, directory, display, mark_seen, priority, elements, has_progress_bar }
    }

    /// Whether a question of this priority would be asked.
    pub fn high_enough(&mut self, priority: &[u8]) -> bool {
        let wanted = match self.priority {
            Some(priority) => priority.as_bytes().to_vec(),
            None if self.store.question(b"debconf/priority") => self.store.value(b"debconf/priority"),
            None => Bytes::new(),
        };
        let wanted = match wanted.as_slice() {
            b"" | b"0" if self.priority.is_none() => b"high",
            other => other,
        };
        rank(priority).is_none_or(|rank_of| rank_of >= rank(wanted).unwrap_or(0))
    }

    /// What answers a question of its type.
    pub fn kind(&mut self, question: &[u8]) -> Result<Kind, Died> {
        let mut kind = self.store.any_field(question, b"type");
        if let Some(first) = kind.first_mut() {
            first.make_ascii_uppercase();
        }
        match kind.as_slice() {
            b"" | b"Boolean" | b"Multiselect" | b"Note" | b"Password" | b"Progress" | b"String" => {
                Ok(Kind::Value)
            }
            b"Select" => Ok(Kind::Select),
            b"Text" => Ok(Kind::Text),
            b"Error" => Ok(Kind::Error),
            other => {
                let class = format!("Debconf::Element::Noninteractive::{}", String::from_utf8_lossy(other));
                let reason = format!(
                    "Can't locate object method \"new\" via package \"{class}\" (perhaps you forgot to load \"{class}\"?)"
                );
                // Perl looked for a file of that class and ends with what it was told.
                Err(Died { reason, status: 2 })
            }
        }
    }

    /// The answer that a question gets from nobody.
    pub fn answer(&mut self, question: &[u8], kind: Kind) -> Result<Bytes, Died> {
        match kind {
            Kind::Value => Ok(self.store.value(question)),
            Kind::Select => {
                let choices = self.store.choices(question)?;
                let value = self.store.value(question);
                Ok(if choices.contains(&value) {
                    value
                } else {
                    choices.into_iter().next().unwrap_or_default()
                })
            }
            Kind::Text => Ok(Bytes::new()),
            Kind::Error => {
                if self.store.flag(question, b"seen") != b"true" {
                    let description = self.store.text(question, b"description", true)?;
                    let extended = self.store.text(question, b"extended_description", true)?;
                    self.display.show(&[&description, &b"\n\n"[..], &extended, b"\n"].concat());
                }
                Ok(Bytes::new())
            }
        }
    }
}
