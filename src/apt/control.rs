//! deb822 stanzas: `Packages`, `Release` and `control` files.
//!
//! Reads without copying. Continuation lines stay part of the value; see [`Stanza::lines`].

/// One paragraph of fields.
#[derive(Debug, Clone, Default)]
pub struct Stanza<'a> {
    fields: Vec<(&'a str, &'a str)>,
}

/// The text is no deb822.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}: `{text}`")]
pub struct ControlError {
    line: usize,
    reason: &'static str,
    text: String,
}

impl<'a> Stanza<'a> {
    /// The value of `field`, in any case, without the blanks around it.
    pub fn get(&self, field: &str) -> Option<&'a str> {
        let found = self.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(field));
        found.map(|(_, value)| *value)
    }

    /// Fields in the order of the text.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.fields.iter().copied()
    }

    /// The lines of a multi-line value, trimmed, empty ones left out.
    pub fn lines(&self, field: &str) -> impl Iterator<Item = &'a str> {
        let value = self.get(field).unwrap_or_default();
        value.lines().map(str::trim).filter(|line| !line.is_empty())
    }
}

/// All stanzas of `text`, in order.
///
/// Each item is an error when its paragraph has a line that is neither a field nor a continuation, or a field twice.
pub fn stanzas(text: &str) -> impl Iterator<Item = Result<Stanza<'_>, ControlError>> {
    let mut offset = 0;
    let mut line_number = 0;
    std::iter::from_fn(move || {
        let mut stanza = Stanza::default();
        // Start and end of the value being read, and the name of its field.
        let mut open: Option<(&str, usize, usize)> = None;
        let mut failure = None;
        while offset < text.len() {
            let rest = &text[offset..];
            let length = rest.find('\n').unwrap_or(rest.len());
            let line = &rest[..length];
            let start = offset;
            offset = (offset + length + 1).min(text.len());
            line_number += 1;
            let fail =
                |reason| ControlError { line: line_number, reason, text: line.chars().take(80).collect() };
            if line.trim().is_empty() {
                if open.is_some() || failure.is_some() {
                    break;
                }
            } else if line.starts_with('#') || failure.is_some() {
                // A comment, or the rest of a paragraph that is already known to be bad.
            } else if line.starts_with([' ', '\t']) {
                match &mut open {
                    Some((_, _, end)) => *end = start + length,
                    None => failure = Some(fail("continuation without a field")),
                }
            } else {
                stanza.fields.extend(open.take().map(|(name, a, b)| (name, text[a..b].trim())));
                match line.split_once(':') {
                    Some((name, _)) if name.is_empty() || name.contains([' ', '\t']) => {
                        failure = Some(fail("not a field name"));
                    }
                    Some((name, _)) if stanza.get(name).is_some() => {
                        failure = Some(fail("field given twice"));
                    }
                    Some((name, _)) => open = Some((name, start + name.len() + 1, start + length)),
                    None => failure = Some(fail("neither a field nor a continuation")),
                }
            }
        }
        stanza.fields.extend(open.take().map(|(name, a, b)| (name, text[a..b].trim())));
        match failure {
            Some(error) => Some(Err(error)),
            None if stanza.fields.is_empty() => None,
            None => Some(Ok(stanza)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_continuations_and_paragraphs() {
        let text = "\n\nPackage: a\nDescription: one\n two\n .\n# c\n three\n\n\nPackage: b\nX:\n";
        let found: Vec<_> = stanzas(text).map(Result::unwrap).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].get("package"), Some("a"));
        assert_eq!(found[0].lines("Description").collect::<Vec<_>>(), ["one", "two", ".", "# c", "three"]);
        assert_eq!(found[1].get("X"), Some(""));
    }

    #[test]
    fn bad_lines_are_named_and_the_next_paragraph_is_read() {
        let text = "A: 1\nnonsense\n\n B: 2\n\nC: 3\nc: 4\n\nD: 5\n";
        let found: Vec<_> = stanzas(text).collect();
        let messages: Vec<_> =
            found.iter().filter_map(|s| s.as_ref().err()).map(ToString::to_string).collect();
        assert_eq!(
            messages,
            [
                "line 2: neither a field nor a continuation: `nonsense`",
                "line 4: continuation without a field: ` B: 2`",
                "line 7: field given twice: `c: 4`",
            ]
        );
        assert_eq!(found.last().unwrap().as_ref().unwrap().get("D"), Some("5"));
    }
}
