//! What is wrong with a project: all of it, each with its place and what to write instead.

use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::source::Place;

/// Whether a problem stops a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does.
    Error,
    /// It does not, but deserves a look.
    Warning,
}

/// One problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostic {
    /// Whether it stops a build.
    pub severity: Severity,
    /// What is wrong: a lower-case fragment.
    pub message: String,
    /// Where.
    pub location: Location,
    /// A few words under the caret.
    pub label: Option<String>,
    /// Other places that have to do with it, and why.
    pub related: Vec<(Place, String)>,
    /// What to write instead, or where to look.
    pub help: Vec<String>,
}

/// Where a problem is.
#[derive(Debug, Clone, PartialEq)]
pub enum Location {
    /// In a text.
    Place(Place),
    /// In a file or directory as a whole, by its path in the project.
    Path(String),
}

impl Location {
    /// Path in the project.
    pub fn path(&self) -> &str {
        match self {
            Self::Place(place) => &place.file.path,
            Self::Path(path) => path,
        }
    }

    fn position(&self) -> (usize, usize) {
        match self {
            Self::Place(place) => place.position(),
            Self::Path(_) => (0, 0),
        }
    }
}

impl From<Place> for Location {
    fn from(place: Place) -> Self {
        Self::Place(place)
    }
}

impl From<&Place> for Location {
    fn from(place: &Place) -> Self {
        Self::Place(place.clone())
    }
}

impl From<&str> for Location {
    fn from(path: &str) -> Self {
        Self::Path(path.to_owned())
    }
}

impl Diagnostic {
    /// Adds what to write instead.
    pub fn help(&mut self, text: impl Into<String>) -> &mut Self {
        self.help.push(text.into());
        self
    }

    /// Adds the words under the caret.
    pub fn label(&mut self, text: impl Into<String>) -> &mut Self {
        self.label = Some(text.into());
        self
    }

    /// Adds another place.
    pub fn related(&mut self, place: &Place, text: impl Into<String>) -> &mut Self {
        self.related.push((place.clone(), text.into()));
        self
    }

    fn render(&self, renderer: &Renderer) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(&self.message));
        match &self.location {
            Location::Path(path) => group = group.element(Origin::path(path.as_str())),
            Location::Place(place) => {
                let annotation = AnnotationKind::Primary.span(visible(place)).label(self.label.as_deref());
                let mut snippet =
                    Snippet::source(&*place.file.text).path(&*place.file.path).annotation(annotation);
                for (other, text) in self.related.iter().filter(|(other, _)| other.file == place.file) {
                    let context = AnnotationKind::Context.span(visible(other)).label(text.as_str());
                    snippet = snippet.annotation(context);
                }
                group = group.element(snippet);
            }
        }
        for (other, text) in &self.related {
            if matches!(&self.location, Location::Place(place) if place.file == other.file) {
                continue;
            }
            let context = AnnotationKind::Context.span(visible(other)).label(text.as_str());
            group =
                group.element(Snippet::source(&*other.file.text).path(&*other.file.path).annotation(context));
        }
        for help in &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }
}

/// The span as far as it is worth underlining: its first line, at least one column.
fn visible(place: &Place) -> std::ops::Range<usize> {
    let text = &*place.file.text;
    let start = text.floor_char_boundary(place.span.start);
    let end = text.floor_char_boundary(place.span.end).max(start);
    let line = text[start..end].find('\n').map_or(end, |newline| start + newline);
    start..line
}

impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Related<'a> {
            file: &'a str,
            line: usize,
            column: usize,
            message: &'a str,
        }
        let place = match &self.location {
            Location::Place(place) => Some(place),
            Location::Path(_) => None,
        };
        let related: Vec<_> = self
            .related
            .iter()
            .map(|(place, message)| {
                let (line, column) = place.position();
                Related { file: &place.file.path, line, column, message }
            })
            .collect();
        let mut out = serializer.serialize_struct("Diagnostic", 10)?;
        out.serialize_field("severity", &self.severity)?;
        out.serialize_field("file", self.location.path())?;
        out.serialize_field("line", &place.map(|place| place.position().0))?;
        out.serialize_field("column", &place.map(|place| place.position().1))?;
        out.serialize_field("end_line", &place.map(|place| place.end().0))?;
        out.serialize_field("end_column", &place.map(|place| place.end().1))?;
        out.serialize_field("message", &self.message)?;
        out.serialize_field("label", &self.label)?;
        out.serialize_field("related", &related)?;
        out.serialize_field("help", &self.help)?;
        out.end()
    }
}

/// Problems, sorted by file, line and column; serialises as a list.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether something stops a build.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|one| one.severity == Severity::Error)
    }

    /// How many errors and how many warnings.
    pub fn count(&self) -> (usize, usize) {
        let errors = self.list.iter().filter(|one| one.severity == Severity::Error).count();
        (errors, self.list.len() - errors)
    }

    /// The problems in order.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// Every problem as people read it, with its source line, and a last line that counts them.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        for one in &self.list {
            text.push_str(one.render(&renderer).trim_end());
            text.push_str("\n\n");
        }
        let plural = |count: usize, word: &str| match count {
            0 => None,
            1 => Some(format!("1 {word}")),
            _ => Some(format!("{count} {word}s")),
        };
        let (errors, warnings) = self.count();
        let counts: Vec<_> =
            [plural(errors, "error"), plural(warnings, "warning")].into_iter().flatten().collect();
        if !counts.is_empty() {
            text.push_str(&counts.join(", "));
            text.push('\n');
        }
        text
    }

    /// Reports an error and hands it back for details.
    pub(crate) fn error(
        &mut self,
        location: impl Into<Location>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(Severity::Error, location.into(), message.into())
    }

    /// Reports a warning and hands it back for details.
    pub(crate) fn warning(
        &mut self,
        location: impl Into<Location>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(Severity::Warning, location.into(), message.into())
    }

    fn push(&mut self, severity: Severity, location: Location, message: String) -> &mut Diagnostic {
        let help = Vec::new();
        self.list.push(Diagnostic { severity, message, location, label: None, related: Vec::new(), help });
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    /// Takes over what another list has.
    pub(crate) fn extend(&mut self, other: Self) {
        self.list.extend(other.list);
    }

    /// Puts the problems in order and drops those said twice.
    pub(crate) fn sorted(mut self) -> Self {
        let key =
            |one: &Diagnostic| (one.location.path().to_owned(), one.location.position(), one.message.clone());
        self.list.sort_by_cached_key(key);
        self.list.dedup_by(|a, b| key(a) == key(b));
        self
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::source::SourceFile;

    fn sample() -> Diagnostics {
        let file = SourceFile::new("images/a.toml", "name = \"é\"\nvmid = 5\n");
        let other = SourceFile::new("images/b.toml", "vmid = 5\n");
        let mut problems = Diagnostics::default();
        problems.warning("images", "late file name").help("first");
        problems
            .error(file.place(19..20), "the same id")
            .related(&other.place(7..8), "here too")
            .help("choose");
        problems.error(file.place(19..20), "the same id").help("said twice");
        problems.error(file.place(8..9), "inside a character").label("é");
        problems.sorted()
    }

    #[test]
    fn rendered_in_order_and_once() {
        insta::assert_snapshot!(sample().render(false), @r#"
        warning: late file name
        --> images
         = help: first

        error: inside a character
         --> images/a.toml:1:9
          |
        1 | name = "é"
          |         ^ é

        error: the same id
         --> images/a.toml:2:8
          |
        2 | vmid = 5
          |        ^
          |
         ::: images/b.toml:1:8
          |
        1 | vmid = 5
          |        - here too
          |
          = help: choose

        2 errors, 1 warning
        "#);
        assert!(sample().render(true).contains("\u{1b}["));
        assert!(!sample().render(false).contains('\u{1b}'));
    }

    #[test]
    fn machines_get_positions() {
        let json = serde_json::to_value(sample()).unwrap();
        assert_eq!(
            json[2],
            serde_json::json!({
                "severity": "error", "file": "images/a.toml", "line": 2, "column": 8, "end_line": 2, "end_column": 9,
                "message": "the same id", "label": null, "help": ["choose"],
                "related": [{ "file": "images/b.toml", "line": 1, "column": 8, "message": "here too" }],
            })
        );
        assert_eq!(json[0]["severity"], "warning");
        assert_eq!(json[0]["line"], serde_json::Value::Null);
    }

    #[test]
    fn warnings_stop_nothing() {
        let mut problems = Diagnostics::default();
        problems.warning("a", "b");
        assert!(!problems.has_errors());
        assert_eq!(sample().count(), (2, 1));
    }
}
