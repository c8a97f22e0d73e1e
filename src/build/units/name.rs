//! Names of units.

use super::UnitProblem;

/// Endings of unit names.
const TYPES: [&str; 11] = [
    "service",
    "socket",
    "target",
    "timer",
    "path",
    "mount",
    "automount",
    "swap",
    "slice",
    "scope",
    "device",
];

/// A unit's name in its parts: `prefix@instance.type`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) whole: &'a str,
    pub(super) prefix: &'a str,
    /// Nothing for a plain unit, empty for a template.
    pub(super) instance: Option<&'a str>,
    pub(super) kind: &'a str,
}

impl<'a> Name<'a> {
    pub(super) fn parse(whole: &'a str) -> Result<Self, UnitProblem> {
        let bad = || UnitProblem::BadName(whole.to_owned());
        let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        let (stem, kind) = whole.rsplit_once('.').ok_or_else(bad)?;
        if !TYPES.contains(&kind) || !whole.chars().all(allowed) || whole.len() > 255 {
            return Err(bad());
        }
        let (prefix, instance) = match stem.split_once('@') {
            Some((prefix, instance)) => (prefix, Some(instance)),
            None => (stem, None),
        };
        if prefix.is_empty() { Err(bad()) } else { Ok(Self { whole, prefix, instance, kind }) }
    }

    pub(super) fn is_template(&self) -> bool {
        self.instance == Some("")
    }

    /// The name of the file that defines it: the template's for an instance.
    pub(super) fn file(&self) -> String {
        match self.instance {
            Some(_) => format!("{}@.{}", self.prefix, self.kind),
            None => self.whole.to_owned(),
        }
    }

    pub(super) fn with_instance(&self, instance: &str) -> String {
        format!("{}@{instance}.{}", self.prefix, self.kind)
    }

    /// Replaces the specifiers that are known without a running system.
    pub(super) fn expand(&self, text: &str) -> Result<String, UnitProblem> {
        let mut expanded = String::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                expanded.push(character);
                continue;
            }
            let stem = self.whole.strip_suffix(self.kind).and_then(|stem| stem.strip_suffix('.'));
            match characters.next() {
                Some('%') => expanded.push('%'),
                Some('n') => expanded.push_str(self.whole),
                Some('N') => expanded.push_str(stem.unwrap_or(self.whole)),
                Some('p') => expanded.push_str(self.prefix),
                Some('i') => expanded.push_str(self.instance.unwrap_or_default()),
                Some('j') => expanded.push_str(self.prefix.rsplit('-').next().unwrap_or(self.prefix)),
                _ => return Err(UnitProblem::Specifier { unit: self.whole.into(), name: text.into() }),
            }
        }
        Ok(expanded)
    }
}
