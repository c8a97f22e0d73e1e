//! Relations between packages: `Depends`, `Conflicts`, `Provides` and their kin (policy 7.1).
//!
//! In: the value of one field. Out: its clauses one by one, without copying. Which package meets a clause is the
//! universe's business.

use std::fmt;

use crate::apt::version;

/// Longest package name taken.
const NAME_LIMIT: usize = 255;

/// One package that a field names, with what it asks of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clause<'a> {
    /// The package's name, without the qualifier.
    pub name: &'a str,
    /// The text after the colon: `any`, `native` or an architecture.
    pub qualifier: Option<&'a str>,
    /// The version asked for.
    pub constraint: Option<Constraint<'a>>,
    /// Whether the next clause is an alternative to this one (`|`).
    pub or_next: bool,
}

/// A bound on a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Constraint<'a> {
    /// How to compare.
    pub operator: Operator,
    /// What to compare with.
    pub version: &'a str,
}

/// How a version is compared with the one asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

impl Constraint<'_> {
    /// Whether `version` is within the bound.
    pub fn admits(&self, version: &str) -> bool {
        let order = version::compare(version, self.version);
        match self.operator {
            Operator::Earlier => order.is_lt(),
            Operator::EarlierOrEqual => order.is_le(),
            Operator::Equal => order.is_eq(),
            Operator::LaterOrEqual => order.is_ge(),
            Operator::Later => order.is_gt(),
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Operator::Earlier => "<<",
            Operator::EarlierOrEqual => "<=",
            Operator::Equal => "=",
            Operator::LaterOrEqual => ">=",
            Operator::Later => ">>",
        })
    }
}

impl fmt::Display for Clause<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)?;
        if let Some(qualifier) = self.qualifier {
            write!(formatter, ":{qualifier}")?;
        }
        if let Some(constraint) = self.constraint {
            write!(formatter, " ({} {})", constraint.operator, constraint.version)?;
        }
        Ok(())
    }
}

/// A field is not a list of relations.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `name (operator version)`, found `{text}`: {reason}")]
pub struct RelationError {
    /// The clause, cut to 80 characters.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The clauses of a field, in order.
///
/// The first bad clause ends the list with an error.
pub fn clauses(field: &str) -> Clauses<'_> {
    Clauses { rest: field }
}

/// The groups of a field: each is a list of alternatives in order of preference.
///
/// # Errors
///
/// When a clause is malformed.
pub fn groups(field: &str) -> Result<Vec<Vec<Clause<'_>>>, RelationError> {
    let mut groups = Vec::new();
    let mut open = Vec::new();
    for clause in clauses(field) {
        let clause = clause?;
        open.push(clause);
        if !clause.or_next {
            groups.push(std::mem::take(&mut open));
        }
    }
    Ok(groups)
}

/// See [`clauses`].
#[derive(Debug, Clone)]
pub struct Clauses<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Clauses<'a> {
    type Item = Result<Clause<'a>, RelationError>;

    fn next(&mut self) -> Option<Self::Item> {
        // dpkg takes a comma too many without complaint; so do the archives' own files.
        let text = self.rest.trim_start_matches(|c: char| c == ',' || c.is_ascii_whitespace());
        if text.is_empty() {
            self.rest = "";
            return None;
        }
        let end = text.bytes().position(|byte| byte == b',' || byte == b'|').unwrap_or(text.len());
        let or_next = text.as_bytes().get(end) == Some(&b'|');
        let (clause, rest) = text.split_at(end);
        self.rest = rest.get(1..).unwrap_or_default();
        let parsed = parse(clause.trim_end(), or_next).and_then(|clause| {
            let dangling = or_next && self.rest.trim_start().is_empty();
            if dangling { Err("an alternative is missing after `|`") } else { Ok(clause) }
        });
        Some(parsed.map_err(|reason| {
            self.rest = "";
            RelationError { text: clause.trim().chars().take(80).collect(), reason }
        }))
    }
}

fn parse(text: &str, or_next: bool) -> Result<Clause<'_>, &'static str> {
    let is_name = |byte: u8| !matches!(byte, b' ' | b'\t' | b'\n' | b'(' | b':' | b'[' | b'<');
    let end = text.bytes().position(|byte| !is_name(byte)).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    if name.is_empty() {
        return Err("a package name is missing");
    }
    if name.len() > NAME_LIMIT {
        return Err("the package name is longer than 255 characters");
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._$".contains(&byte)) {
        return Err("the package name has a character that names do not have");
    }
    let mut qualifier = None;
    if let Some(after) = rest.strip_prefix(':') {
        let end = after.bytes().position(|byte| !is_name(byte)).unwrap_or(after.len());
        let (text, after) = after.split_at(end);
        if text.is_empty() {
            return Err("the architecture after `:` is missing");
        }
        qualifier = Some(text);
        rest = after;
    }
    rest = rest.trim_start();
    let mut constraint = None;
    if let Some(after) = rest.strip_prefix('(') {
        let (inside, after) = after.split_once(')').ok_or("the `)` is missing")?;
        constraint = Some(parse_constraint(inside.trim())?);
        rest = after.trim_start();
    }
    if !rest.is_empty() {
        return Err("there is more after the name and version");
    }
    Ok(Clause { name, qualifier, constraint, or_next })
}

fn parse_constraint(text: &str) -> Result<Constraint<'_>, &'static str> {
    let end = text.bytes().position(|byte| !matches!(byte, b'<' | b'=' | b'>')).unwrap_or(text.len());
    let (operator, version) = text.split_at(end);
    let operator = match operator {
        "<<" => Operator::Earlier,
        // The old single signs mean "or equal", as policy says.
        "<=" | "<" => Operator::EarlierOrEqual,
        "=" => Operator::Equal,
        ">=" | ">" => Operator::LaterOrEqual,
        ">>" => Operator::Later,
        _ => return Err("the operator is none of `<<`, `<=`, `=`, `>=`, `>>`"),
    };
    let version = version.trim_start();
    if version.is_empty() || version.contains(|c: char| c.is_ascii_whitespace()) {
        return Err("the version is missing or has a blank in it");
    }
    Ok(Constraint { operator, version })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn show(field: &str) -> String {
        match groups(field) {
            Ok(groups) => {
                let join = |group: &Vec<Clause<'_>>| {
                    group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
                };
                groups.iter().map(join).collect::<Vec<_>>().join(", ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn reads_alternatives_versions_and_qualifiers() {
        assert_eq!(
            show("libc6 (>=2.36), a|b:any (<< 1:2~) ,\n c:native(=1-1), libc6-x32:i386,"),
            "libc6 (>= 2.36), a | b:any (<< 1:2~), c:native (= 1-1), libc6-x32:i386"
        );
        assert_eq!(show("old (< 2), older (> 1)"), "old (<= 2), older (>= 1)");
        assert_eq!(show(" "), "");
    }

    #[test]
    fn names_what_is_wrong() {
        let wrong =
            ["a (1)", "a (>= 1", "a (>=)", "a [amd64]", "a b", "(>= 1)", "a:", "a |", "a$é", "a (>= 1 2)"];
        insta::assert_snapshot!(wrong.map(show).join("\n"), @r#"
    expected `name (operator version)`, found `a (1)`: the operator is none of `<<`, `<=`, `=`, `>=`, `>>`
    expected `name (operator version)`, found `a (>= 1`: the `)` is missing
    expected `name (operator version)`, found `a (>=)`: the version is missing or has a blank in it
    expected `name (operator version)`, found `a [amd64]`: there is more after the name and version
    expected `name (operator version)`, found `a b`: there is more after the name and version
    expected `name (operator version)`, found `(>= 1)`: a package name is missing
    expected `name (operator version)`, found `a:`: the architecture after `:` is missing
    expected `name (operator version)`, found `a`: an alternative is missing after `|`
    expected `name (operator version)`, found `a$é`: the package name has a character that names do not have
    expected `name (operator version)`, found `a (>= 1 2)`: the version is missing or has a blank in it
    "#);
    }

    #[test]
    fn bounds_compare_as_dpkg_does() {
        let admits = |operator, version: &str| Constraint { operator, version: "2.0" }.admits(version);
        let table = [
            (Operator::Earlier, [true, false, false]),
            (Operator::EarlierOrEqual, [true, true, false]),
            (Operator::Equal, [false, true, false]),
            (Operator::LaterOrEqual, [false, true, true]),
            (Operator::Later, [false, false, true]),
        ];
        for (operator, expected) in table {
            assert_eq!(
                ["1.9", "2.0-0", "2.0-1"].map(|version| admits(operator, version)),
                expected,
                "{operator}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            names in prop::collection::vec("[a-z0-9][a-z0-9+.-]{1,8}(:any|:native)?( \\((<<|<=|=|>=|>>) [0-9][a-z0-9.~+-]{0,5}\\))?", 1..6),
            bars in prop::collection::vec(any::<bool>(), 5),
        ) {
            let mut field = names[0].clone();
            for (name, bar) in names[1..].iter().zip(bars) {
                field += if bar { " | " } else { ", " };
                field += name;
            }
            prop_assert_eq!(show(&field), field);
        }

        #[test]
        fn no_text_makes_it_panic(field in ".{0,60}") {
            let _ = groups(&field);
        }
    }
}
