//! One template: text and values in, bytes out, or every value it asks for in vain.

use std::io::{self, Write};
use std::ops::Range;

use serde_json::Value;
use tera::{Context, ErrorKind, ReportError, Tera};

use super::diagnostics::Diagnostics;
use super::source::{MAX_FILE, SourceFile};
use super::words;

/// Most undefined variables that are reported of one template.
const MAX_UNDEFINED: usize = 20;

/// The template, ready to render; reports what is wrong with its syntax. `text` is read in place of the file's.
pub fn parse(file: &SourceFile, text: &str, problems: &mut Diagnostics) -> Option<Tera> {
    let mut tera = Tera::new();
    tera.autoescape_on(Vec::<&str>::new());
    match tera.add_raw_template(&file.path, text) {
        Ok(()) => Some(tera),
        Err(error) => {
            report(file, error.kind(), problems);
            None
        }
    }
}

/// Renders a template; what it gives after problems were reported is of no use.
pub fn render(name: &str, text: &str, values: &Value, problems: &mut Diagnostics) -> Vec<u8> {
    let file = SourceFile::new(name, text);
    let context = match Context::from_serialize(values) {
        Ok(context) => context,
        Err(error) => {
            problems.error(name, format!("the values do not fit a template: {error}"));
            return Vec::new();
        }
    };
    // The engine stops at the first undefined variable. To find the others too, a string of the same length takes its
    // place in a copy, and the copy is rendered.
    let mut patched = text.to_owned();
    for round in 0..MAX_UNDEFINED {
        let mut found = Diagnostics::default();
        let Some(tera) = parse(&file, &patched, &mut found) else {
            if round == 0 {
                problems.extend(found);
            }
            return Vec::new();
        };
        let mut out = Limited(Vec::new());
        let Err(error) = tera.render_to(name, &context, &mut out) else { return out.0 };
        let undefined = match error.kind() {
            ErrorKind::RenderingError(error) if error.message().contains("is not defined") => error,
            other => {
                if round == 0 {
                    report(&file, other, problems);
                }
                return Vec::new();
            }
        };
        rendering(&file, undefined, problems);
        let path = whole_path(text, &undefined.span().range);
        if path.len() < 2 || patched.get(path.clone()).is_none_or(|old| old.starts_with('"')) {
            return Vec::new();
        }
        patched.replace_range(path.clone(), &format!("\"{}\"", "_".repeat(path.len() - 2)));
    }
    Vec::new()
}

/// `a.b.c` around the part of it that the engine points to.
fn whole_path(text: &str, part: &Range<usize>) -> Range<usize> {
    let belongs = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let before = text.get(..part.start).unwrap_or_default();
    let after = text.get(part.end..).unwrap_or_default();
    let start = before.trim_end_matches(belongs).len();
    start..part.end + (after.len() - after.trim_start_matches(belongs).len())
}

fn report(file: &SourceFile, kind: &ErrorKind, problems: &mut Diagnostics) {
    match kind {
        ErrorKind::SyntaxError(error) => {
            let place = file.place(error.span().range.clone());
            problems.error(place, format!("the template cannot be read: {}", fragment(error.message())));
        }
        ErrorKind::RenderingError(error) => rendering(file, error, problems),
        ErrorKind::Io(_) => {
            problems
                .error(&*file.path, format!("the rendered text is larger than {} MiB", MAX_FILE >> 20))
                .help("large data belongs into a package or into state");
        }
        ErrorKind::Msg(text) if text.starts_with("error: ") => reported(file, text, problems),
        other => {
            let message = format!("the template cannot be rendered: {}", fragment(&other.to_string()));
            problems.error(&*file.path, message);
        }
    }
}

/// Reports that the engine hands out only as text: a message, `--> file:line:column`, the line and carets.
fn reported(file: &SourceFile, text: &str, problems: &mut Diagnostics) {
    for report in format!("\n{text}").split("\nerror: ").skip(1) {
        let mut lines = report.lines();
        let message = lines.next().unwrap_or_default();
        let position = lines.next().and_then(|line| {
            let mut numbers = line.rsplit(':').map(|number| number.trim().parse::<usize>().ok());
            let (column, line) = (numbers.next()??, numbers.next()??);
            Some((line, column))
        });
        let carets = lines.next_back().map_or(0, |line| line.matches('^').count());
        let message = format!("the template cannot be read: {}", fragment(message));
        let problem = match position.and_then(|(line, column)| offset(&file.text, line, column)) {
            Some(start) => problems.error(file.place(start..start + carets), message),
            None => problems.error(&*file.path, message),
        };
        if report.starts_with("Unknown function") {
            problem.help(
                "templates see declared values only: no clock, no environment, no files, nothing random",
            );
        } else if report.starts_with("Unknown template") {
            problem.help("a template stands alone: write its text here, or make it a file of its own");
        } else if report.starts_with("Unknown filter") {
            problem.help("the filters of Tera are `default`, `upper`, `lower`, `trim`, `replace`, `join`, `length` and the like");
        }
    }
}

fn offset(text: &str, line: usize, column: usize) -> Option<usize> {
    let start = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum::<usize>();
    let within = text.get(start..)?.char_indices().nth(column.checked_sub(1)?)?.0;
    Some(start + within)
}

fn rendering(file: &SourceFile, error: &ReportError, problems: &mut Diagnostics) {
    let part = &error.span().range;
    let message = error.message();
    let name = message.split('`').nth(1).unwrap_or_default();
    let known =
        message.split_once("Available variables: ").or_else(|| message.split_once("Available fields: "));
    let path = whole_path(&file.text, part);
    let problem = if message.starts_with("Variable `") && message.contains("is not defined") {
        problems.error(file.place(part.clone()), format!("the variable `{name}` is not defined"))
    } else if message.starts_with("Field `") && message.contains("is not defined") {
        let parent = file.text.get(path.start..part.start).unwrap_or_default().trim_end_matches('.');
        match parent {
            "" => problems.error(file.place(part.clone()), format!("there is no value `{name}`")),
            _ => problems.error(file.place(part.clone()), format!("`{parent}` has no value `{name}`")),
        }
    } else {
        let message = format!("the template cannot be rendered: {}", fragment(message));
        problems.error(file.place(part.clone()), message);
        return;
    };
    let Some((_, known)) = known else { return };
    let known: Vec<_> = known.split(", ").filter(|word| !word.starts_with("__")).collect();
    match words::nearest(name, known.iter().copied()) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem.help(format!("known here: {}", words::list(known.iter().copied()))),
    };
}

/// The engine's sentence as a fragment.
fn fragment(sentence: &str) -> String {
    let sentence = sentence.trim().trim_end_matches('.');
    let mut letters = sentence.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// Takes as much as a file may have.
struct Limited(Vec<u8>);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.0.len() + bytes.len()) as u64 > MAX_FILE {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
