//! Questions and templates: `Debconf::Question`, `Debconf::Template` and `Debconf::DbDriver::Stack`.

use std::collections::{BTreeMap, BTreeSet};

use super::database::Database;
use super::format::{Bytes, is_space};

/// What makes debconf end in the middle, without saving anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Died {
    /// What it says.
    pub reason: String,
    /// Its exit status.
    pub status: u8,
}

impl Died {
    /// Perl's exit status when no system call has failed.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), status: 255 }
    }
}

/// The three databases and the objects made of them.
pub(super) struct Store {
    pub config: Database,
    pub passwords: Database,
    pub templates: Database,
    /// Questions that exist as objects, which they may although the database has them no longer.
    questions: BTreeSet<Bytes>,
    /// The same for templates.
    known: BTreeSet<Bytes>,
    /// With which priority questions were asked last.
    priorities: BTreeMap<Bytes, Bytes>,
    /// Suffixes of fields to look at first.
    languages: &'static [&'static str],
}

impl Store {
    pub fn new(
        config: Database,
        passwords: Database,
        templates: Database,
        languages: &'static [&'static str],
    ) -> Self {
        let (questions, known, priorities) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        Self { config, passwords, templates, questions, known, priorities, languages }
    }

    /// Whether the databases have a question.
    pub fn exists(&self, name: &[u8]) -> bool {
        self.config.exists(name) || self.passwords.exists(name)
    }

    /// The first database that has a question.
    fn holder(&mut self, name: &[u8]) -> Option<&mut Database> {
        let holders = [&mut self.config, &mut self.passwords];
        holders.into_iter().find(|database| database.exists(name))
    }

    fn field(&mut self, name: &[u8], field: &[u8]) -> Option<Bytes> {
        self.config.field(name, field).or_else(|| self.passwords.field(name, field))
    }

    fn set_field(&mut self, name: &[u8], field: &[u8], value: Bytes) {
        if let Some(item) = self.holder(name).and_then(|database| database.change(name)) {
            item.fields.insert(field.to_vec(), value);
        }
    }

    /// Passwords go to a file of their own, whatever else their type says.
    pub fn add_owner(&mut self, name: &[u8], owner: &[u8], kind: &[u8]) {
        let password = kind.to_ascii_lowercase().windows(8).any(|part| part == b"password");
        let database = match self.holder(name) {
            Some(database) => database,
            None if password => &mut self.passwords,
            None => &mut self.config,
        };
        database.add_owner(name, owner);
    }

    /// Whether there is a question of that name.
    pub fn question(&mut self, name: &[u8]) -> bool {
        if !self.questions.contains(name) && self.exists(name) {
            self.questions.insert(name.to_vec());
        }
        self.questions.contains(name)
    }

    /// Makes a question.
    pub fn new_question(&mut self, name: &[u8], owner: &[u8], kind: &[u8]) -> Result<(), Died> {
        if !is_true(kind) {
            return Err(Died::new("no type given for question"));
        }
        if self.questions.contains(name) {
            let name = String::from_utf8_lossy(name);
            return Err(Died::new(format!("A question called \"{name}\" already exists")));
        }
        self.add_owner(name, owner, kind);
        self.set_flag(name, b"seen", b"false");
        self.questions.insert(name.to_vec());
        Ok(())
    }

    /// Takes an owner from a question; without any it goes.
    pub fn remove_owner(&mut self, name: &[u8], owner: &[u8]) {
        let template = self.field(name, b"template").unwrap_or_default();
        let removed = self.holder(name).is_some_and(|database| database.remove_owner(name, owner));
        if removed && !template.is_empty() && !self.exists(name) {
            self.templates.remove_owner(&template, name);
            self.questions.remove(name);
            self.priorities.remove(name);
        }
    }

    /// The owners of a question.
    pub fn owners(&mut self, name: &[u8]) -> Bytes {
        let item = self.holder(name).and_then(|database| database.item(name));
        let owners: Vec<_> = item.into_iter().flat_map(|item| item.owners.iter().cloned()).collect();
        owners.join(&b", "[..])
    }

    /// With which priority a question was asked last.
    pub fn priority(&self, name: &[u8]) -> Option<Bytes> {
        self.priorities.get(name).cloned()
    }

    pub fn set_priority(&mut self, name: &[u8], priority: &[u8]) {
        self.priorities.insert(name.to_vec(), priority.to_vec());
    }

    /// Gives a question another template.
    pub fn set_template(&mut self, name: &[u8], template: &[u8]) {
        let old = self.field(name, b"template");
        if old.as_deref() == Some(template) {
            return;
        }
        if let Some(old) = old.filter(|old| !old.is_empty()) {
            self.templates.remove_owner(&old, name);
        }
        self.set_field(name, b"template", template.to_vec());
        self.templates.add_owner(template, name);
    }

    /// The template of a question, when there is one.
    pub fn template(&mut self, name: &[u8]) -> Option<Bytes> {
        let template = self.holder(name)?.field(name, b"template")?;
        self.has_template(&template).then_some(template)
    }

    /// Whether there is a template of that name.
    pub fn has_template(&mut self, template: &[u8]) -> bool {
        if !self.known.contains(template) && self.templates.exists(template) {
            self.known.insert(template.to_vec());
        }
        self.known.contains(template)
    }

    /// Makes a template, its question included, or adds an owner to that. Its old fields stay.
    ///
    /// Also what has to be said about the databases.
    pub fn new_template(&mut self, name: &[u8], owner: &[u8], kind: &[u8]) -> Result<Vec<Bytes>, Died> {
        let mut said = Vec::new();
        if !is_true(name) || !is_true(kind) {
            return Err(Died::new(format!(
                "no template {} specified",
                if is_true(name) { "type" } else { "name" }
            )));
        }
        let owner = if is_true(owner) { owner } else { b"unknown" };
        let owners = self.templates.item(name).map(|item| item.owners.clone()).unwrap_or_default();
        if self.exists(name) {
            self.question(name);
            self.add_owner(name, owner, kind);
        } else {
            self.new_question(name, owner, kind)?;
            self.set_template(name, name);
        }
        if owners.is_empty() {
            self.templates.add_owner(name, name);
            self.set_template_field(name, b"type", kind.to_vec());
        } else {
            let owners = self.templates.item(name).map(|item| item.owners.clone()).unwrap_or_default();
            for question in owners {
                if !self.question(&question) {
                    said.push(
                        [
                            b"warning: possible database corruption. Will attempt to repair by adding back missing question "
                                .as_slice(),
                            &question,
                            b".",
                        ]
                        .concat(),
                    );
                    self.new_question(&question, owner, kind)?;
                    self.set_template(&question, name);
                }
            }
        }
        self.known.insert(name.to_vec());
        Ok(said)
    }

    /// Gives a template other fields.
    pub fn set_template_fields(&mut self, name: &[u8], fields: impl IntoIterator<Item = (Bytes, Bytes)>) {
        if let Some(item) = self.templates.change(name) {
            item.fields = fields.into_iter().collect();
        }
    }

    fn set_template_field(&mut self, name: &[u8], field: &[u8], value: Bytes) {
        if let Some(item) = self.templates.change(name) {
            item.fields.insert(field.to_vec(), value);
        }
    }

    /// A field of a template in the language asked for, or as the package's scripts know it (`translated` false).
    fn template_field(&mut self, template: &[u8], field: &[u8], translated: bool) -> Bytes {
        let with = |suffix: &str| [field, b"-", suffix.as_bytes()].concat();
        let first: Vec<Bytes> = if translated {
            self.languages.iter().copied().map(with).collect()
        } else if field.to_ascii_lowercase().ends_with(b"-c") {
            Vec::new()
        } else {
            vec![with("c")]
        };
        let plain = field.iter().position(|byte| *byte == b'-').map(|dash| field[..dash].to_vec());
        let mut candidates = first.into_iter().chain([field.to_vec()]).chain(plain);
        candidates.find_map(|field| self.templates.field(template, &field)).unwrap_or_default()
    }

    /// A field of a question or else of its template, which has to be there for it.
    pub fn text(&mut self, name: &[u8], field: &[u8], translated: bool) -> Result<Bytes, Died> {
        let Some(template) = self.template(name) else {
            let field = String::from_utf8_lossy(field);
            return Err(Died::new(format!("Can't call method \"{field}\" on an undefined value")));
        };
        let text = self.template_field(&template, field, translated);
        Ok(self.expanded(name, &text))
    }

    /// A field of a question, or of its template if that is there.
    pub fn any_field(&mut self, name: &[u8], field: &[u8]) -> Bytes {
        let found = match self.field(name, field) {
            Some(found) => found,
            None => match self.template(name) {
                Some(template) => self.template_field(&template, field, true),
                None => return Bytes::new(),
            },
        };
        let lower = field.to_ascii_lowercase();
        let shown = [&b"description-"[..], b"extended_description-", b"choices-"];
        if shown.iter().any(|prefix| lower.starts_with(prefix)) { self.expanded(name, &found) } else { found }
    }

    /// The value of a question: what was set, or its template's default.
    pub fn value(&mut self, name: &[u8]) -> Bytes {
        if let Some(value) = self.field(name, b"value") {
            return value;
        }
        match self.template(name) {
            Some(template) => self.template_field(&template, b"default", true),
            None => Bytes::new(),
        }
    }

    pub fn set_value(&mut self, name: &[u8], value: Bytes) {
        self.set_field(name, b"value", value);
    }

    /// What a flag is set to.
    pub fn flag(&mut self, name: &[u8], flag: &[u8]) -> Bytes {
        if flag == b"isdefault" {
            return if self.flag(name, b"seen") == b"true" { b"false".to_vec() } else { b"true".to_vec() };
        }
        match self.holder(name).and_then(|database| database.item(name)) {
            Some(item) => item.flags.get(flag).cloned().unwrap_or_else(|| b"false".to_vec()),
            None => Bytes::new(),
        }
    }

    pub fn set_flag(&mut self, name: &[u8], flag: &[u8], value: &[u8]) {
        if flag == b"isdefault" {
            let seen: &[u8] = if value == b"true" { b"false" } else { b"true" };
            return self.set_flag(name, b"seen", seen);
        }
        if let Some(item) = self.holder(name).and_then(|database| database.change(name)) {
            item.flags.insert(flag.to_vec(), value.to_vec());
        }
    }

    /// Sets a variable; whether it could be.
    pub fn set_variable(&mut self, name: &[u8], variable: &[u8], value: Bytes) -> bool {
        let item = self.holder(name).and_then(|database| database.change(name));
        item.map(|item| item.variables.insert(variable.to_vec(), value)).is_some()
    }

    /// Puts the variables of a question into a text.
    fn expanded(&mut self, name: &[u8], text: &[u8]) -> Bytes {
        let (mut out, mut rest) = (Bytes::new(), text);
        while let Some((start, end)) = variable(rest) {
            let escaped = start > 0 && rest[start - 1] == b'\\';
            out.extend_from_slice(&rest[..start - usize::from(escaped)]);
            if escaped {
                out.extend_from_slice(&rest[start..end]);
            } else {
                let variable = &rest[start + 2..end - 1];
                let value = |database: &mut Database| database.item(name)?.variables.get(variable).cloned();
                let value = value(&mut self.config).or_else(|| value(&mut self.passwords));
                out.extend(value.unwrap_or_default());
            }
            rest = &rest[end..];
        }
        out.extend_from_slice(rest);
        out
    }

    /// The choices of a question as the package's scripts know them.
    pub fn choices(&mut self, name: &[u8]) -> Result<Vec<Bytes>, Died> {
        self.text(name, b"choices", false).map(|choices| split(&choices))
    }
}

/// Where the first `${variable}` of a text is.
fn variable(text: &[u8]) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(at) = memchr::memmem::find(&text[from..], b"${") {
        let start = from + at;
        let brace = text[start + 2..].iter().position(|byte| matches!(byte, b'{' | b'}'))?;
        if brace > 0 && text[start + 2 + brace] == b'}' {
            return Some((start, start + 2 + brace + 1));
        }
        from = start + 2;
    }
    None
}

/// Splits a list of choices: at commas with space after them, unless either is escaped.
pub(super) fn split(list: &[u8]) -> Vec<Bytes> {
    let (mut items, mut item) = (Vec::new(), Bytes::new());
    let mut rest = list;
    while let Some((first, after)) = rest.split_first() {
        let space = after.iter().take_while(|byte| is_space(**byte)).count();
        match (first, after.first()) {
            (b'\\', Some(next @ (b',' | b' '))) => {
                item.push(*next);
                rest = &after[1..];
            }
            (b',', _) if space > 0 => {
                items.push(std::mem::take(&mut item));
                rest = &after[space..];
            }
            _ => {
                item.push(*first);
                rest = after;
            }
        }
    }
    if !item.is_empty() {
        items.push(item);
    }
    items
}

/// What Perl takes for true.
pub(super) fn is_true(text: &[u8]) -> bool {
    !matches!(text, b"" | b"0")
}
