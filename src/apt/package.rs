//! The stanzas of a `Packages` index as typed values.
//!
//! In: the text of an index whose hash is already verified. Out: one [`Package`] per stanza, borrowing from the text.
//! An index has tens of megabytes, so only the fields that resolving and fetching need are looked at; that is why this
//! does not go through [`super::control`], which keeps every field.

use std::ops::Range;

use super::relation::RelationError;
use super::version;
use crate::digest::Sha256;

/// One binary package as an index describes it.
#[derive(Debug, Clone)]
pub struct Package<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version, epoch included.
    pub version: &'a str,
    /// Its architecture: a real one or `all`.
    pub architecture: &'a str,
    /// What it says of other architectures.
    pub multi_arch: MultiArch,
    /// `Essential: yes`.
    pub essential: bool,
    /// `Protected: yes` or the older `Important: yes`.
    pub protected: bool,
    /// How much a system needs it.
    pub priority: Priority,
    /// Path of the .deb below the archive's root; relative, without `..`.
    pub path: &'a str,
    /// Size of the .deb in bytes.
    pub size: u64,
    /// Hash of the .deb.
    pub sha256: Sha256,
    /// The relation fields as written, in the order of [`RelationField`].
    pub relations: [&'a str; RelationField::COUNT],
}

/// `Multi-Arch` (policy's multiarch specification).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MultiArch {
    /// Meets relations of its own architecture only.
    #[default]
    No,
    /// Can be installed for several architectures at once.
    Same,
    /// Meets relations of any architecture.
    Foreign,
    /// Meets relations that say `:any`.
    Allowed,
}

/// `Priority`; earlier is more needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Without it dpkg may not work.
    Required,
    /// Any Unix-like system has it.
    Important,
    /// A small text-mode system has it.
    Standard,
    /// Everything else.
    Optional,
    /// The old name of `optional`; also what an unknown or absent priority counts as.
    Extra,
}

/// The relation fields that are read, in the order in which apt reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named as the fields are")]
pub enum RelationField {
    PreDepends,
    Depends,
    Conflicts,
    Breaks,
    Recommends,
    Suggests,
    Replaces,
    Enhances,
    Provides,
}

impl RelationField {
    /// How many there are.
    pub const COUNT: usize = 9;
    /// All of them, in order.
    pub const ALL: [RelationField; Self::COUNT] = [
        RelationField::PreDepends,
        RelationField::Depends,
        RelationField::Conflicts,
        RelationField::Breaks,
        RelationField::Recommends,
        RelationField::Suggests,
        RelationField::Replaces,
        RelationField::Enhances,
        RelationField::Provides,
    ];

    /// The field's name as indices write it.
    pub fn name(self) -> &'static str {
        RELATION_NAMES[self as usize]
    }
}

const RELATION_NAMES: [&str; RelationField::COUNT] = [
    "Pre-Depends",
    "Depends",
    "Conflicts",
    "Breaks",
    "Recommends",
    "Suggests",
    "Replaces",
    "Enhances",
    "Provides",
];

/// A stanza that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// A line is neither a field nor a continuation of one.
    #[error("line {line}: expected `Field: value`, found `{text}`")]
    NoField {
        /// Line in the index, from 1.
        line: usize,
        /// The line, cut to 80 characters.
        text: String,
    },
    /// A field is there twice.
    #[error("line {line}: package `{package}` has `{field}` twice")]
    Twice {
        /// Line in the index, from 1.
        line: usize,
        /// The package, if its name came before.
        package: String,
        /// The field.
        field: &'static str,
    },
    /// A field that every package has is absent.
    #[error("line {line}: package `{package}` has no `{field}`")]
    Missing {
        /// First line of the stanza, from 1.
        line: usize,
        /// The package, if it has a name.
        package: String,
        /// The field.
        field: &'static str,
    },
    /// A value is not what the field may hold.
    #[error("line {line}: package `{package}` has `{field}: {value}`, expected {expected}")]
    Value {
        /// First line of the stanza, from 1.
        line: usize,
        /// The package.
        package: String,
        /// The field.
        field: &'static str,
        /// What it holds, cut to 80 characters.
        value: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// A relation field does not parse.
    #[error("package `{package}`, `{field}`")]
    Relation {
        /// The package.
        package: String,
        /// The field.
        field: &'static str,
        /// What is wrong.
        #[source]
        source: RelationError,
    },
}

const NAME: usize = RelationField::COUNT;
const VERSION: usize = NAME + 1;
const ARCHITECTURE: usize = NAME + 2;
const MULTI_ARCH: usize = NAME + 3;
const ESSENTIAL: usize = NAME + 4;
const PROTECTED: usize = NAME + 5;
const IMPORTANT: usize = NAME + 6;
const PRIORITY: usize = NAME + 7;
const PATH: usize = NAME + 8;
const SIZE: usize = NAME + 9;
const SHA256: usize = NAME + 10;
const FIELDS: usize = NAME + 11;

/// Which of the fields that matter has this name, and the name as errors write it.
fn field_index(name: &str) -> Option<(usize, &'static str)> {
    let first = name.as_bytes().first()?.to_ascii_lowercase();
    let relation = |field: RelationField| (field as usize, field.name());
    let (index, full) = match (name.len(), first) {
        (11, b'p') => relation(RelationField::PreDepends),
        (7, b'd') => relation(RelationField::Depends),
        (9, b'c') => relation(RelationField::Conflicts),
        (6, b'b') => relation(RelationField::Breaks),
        (10, b'r') => relation(RelationField::Recommends),
        (8, b's') => relation(RelationField::Suggests),
        (8, b'r') => relation(RelationField::Replaces),
        (8, b'e') => relation(RelationField::Enhances),
        // `Provides` and `Priority` have the same length and letter.
        (8, b'p') if name.as_bytes()[2].eq_ignore_ascii_case(&b'o') => relation(RelationField::Provides),
        (8, b'p') => (PRIORITY, "Priority"),
        (7, b'p') => (NAME, "Package"),
        (7, b'v') => (VERSION, "Version"),
        (12, b'a') => (ARCHITECTURE, "Architecture"),
        (10, b'm') => (MULTI_ARCH, "Multi-Arch"),
        (9, b'e') => (ESSENTIAL, "Essential"),
        (9, b'p') => (PROTECTED, "Protected"),
        (9, b'i') => (IMPORTANT, "Important"),
        (8, b'f') => (PATH, "Filename"),
        (4, b's') => (SIZE, "Size"),
        (6, b's') => (SHA256, "SHA256"),
        _ => return None,
    };
    name.eq_ignore_ascii_case(full).then_some((index, full))
}

/// The packages of an index, in its order.
///
/// An item is an error when its stanza is malformed; reading goes on after it.
pub fn packages(text: &str) -> Packages<'_> {
    Packages { text, offset: 0, end: text.len() }
}

/// The packages of an index in up to `parts` pieces of about the same size, for as many threads.
pub fn split_packages(text: &str, parts: usize) -> Vec<Packages<'_>> {
    let mut pieces = Vec::new();
    let mut offset = 0;
    for part in 1..=parts {
        let wanted = text.len() / parts * part;
        let mut end = text.len();
        if part < parts && wanted > offset {
            let blank = memchr::memmem::find(&text.as_bytes()[wanted..], b"\n\n");
            end = blank.map_or(text.len(), |blank| wanted + blank + 2);
        }
        if end > offset {
            pieces.push(Packages { text, offset, end });
            offset = end;
        }
    }
    pieces
}

/// See [`packages`].
#[derive(Debug, Clone)]
pub struct Packages<'a> {
    text: &'a str,
    offset: usize,
    end: usize,
}

impl<'a> Iterator for Packages<'a> {
    type Item = Result<Package<'a>, PackageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut values: [Option<Range<usize>>; FIELDS] = std::array::from_fn(|_| None);
        let mut open: Option<usize> = None;
        let mut any = false;
        let mut begin = self.offset;
        let mut failure = None;
        while self.offset < self.end {
            let start = self.offset;
            let rest = &self.text[start..];
            let length = memchr::memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
            let line = &rest[..length];
            self.offset = start + length + 1;
            match rest.as_bytes()[0] {
                b'\n' | b'\r' => {
                    if any {
                        break;
                    }
                }
                b'#' => {}
                b' ' | b'\t' => match open.and_then(|index| values[index].as_mut()) {
                    Some(value) => value.end = start + length,
                    None if any => {}
                    None => failure = failure.or_else(|| Some(self.no_field(start, line))),
                },
                _ => {
                    if !std::mem::replace(&mut any, true) {
                        begin = start;
                    }
                    open = None;
                    let Some(colon) = line.bytes().position(|byte| byte == b':') else {
                        failure = failure.or_else(|| Some(self.no_field(start, line)));
                        continue;
                    };
                    if let Some((index, field)) = field_index(&line[..colon]) {
                        if values[index].is_some() {
                            let package = self.value(&values, NAME).to_owned();
                            failure = failure.or(Some(PackageError::Twice {
                                line: self.line(start),
                                package,
                                field,
                            }));
                        }
                        values[index] = Some(start + colon + 1..start + length);
                        open = Some(index);
                    }
                }
            }
        }
        match failure {
            Some(failure) => Some(Err(failure)),
            None if any => Some(self.package(&values, begin)),
            None => None,
        }
    }
}

impl<'a> Packages<'a> {
    /// The number of the line that starts at `offset`, from 1. Counted only when an error needs it.
    fn line(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        memchr::memchr_iter(b'\n', before).count() + 1
    }

    fn no_field(&self, start: usize, line: &str) -> PackageError {
        PackageError::NoField { line: self.line(start), text: cut(line) }
    }

    fn value(&self, values: &[Option<Range<usize>>; FIELDS], index: usize) -> &'a str {
        values[index].clone().map_or("", |range| self.text[range].trim_ascii())
    }

    fn package(
        &self,
        values: &[Option<Range<usize>>; FIELDS],
        begin: usize,
    ) -> Result<Package<'a>, PackageError> {
        let get = |index| self.value(values, index);
        let name = get(NAME);
        let missing = |field| PackageError::Missing { line: self.line(begin), package: cut(name), field };
        let wrong = |field, value: &str, expected| PackageError::Value {
            line: self.line(begin),
            package: cut(name),
            field,
            value: cut(value),
            expected,
        };
        let required = [
            (NAME, "Package"),
            (VERSION, "Version"),
            (ARCHITECTURE, "Architecture"),
            (PATH, "Filename"),
            (SIZE, "Size"),
            (SHA256, "SHA256"),
        ];
        for (index, field) in required {
            if get(index).is_empty() {
                return Err(missing(field));
            }
        }
        if !is_name(name) {
            return Err(wrong("Package", name, "letters, digits, `+`, `-`, `.`, and 255 characters at most"));
        }
        let version = get(VERSION);
        if !version::is_valid(version) {
            return Err(wrong("Version", version, "`[epoch:]upstream[-revision]`"));
        }
        let path = get(PATH);
        let inside = |part: &str| !part.is_empty() && part != "." && part != "..";
        // Indices of small archives start paths with `./`.
        let path = path.strip_prefix("./").unwrap_or(path);
        if !path.split('/').all(inside) || path.bytes().any(|byte| byte.is_ascii_control() || byte == b'\\') {
            return Err(wrong("Filename", path, "a relative path without `..`"));
        }
        let size = get(SIZE).parse();
        let size = size.map_err(|_| wrong("Size", get(SIZE), "a number of bytes"))?;
        let sha256 = get(SHA256).parse();
        let sha256 = sha256.map_err(|_| wrong("SHA256", get(SHA256), "64 hexadecimal digits"))?;
        let yes = |index| get(index).eq_ignore_ascii_case("yes");
        Ok(Package {
            name,
            version,
            architecture: get(ARCHITECTURE),
            multi_arch: match get(MULTI_ARCH) {
                "same" => MultiArch::Same,
                "foreign" => MultiArch::Foreign,
                "allowed" => MultiArch::Allowed,
                _ => MultiArch::No,
            },
            essential: yes(ESSENTIAL),
            protected: yes(PROTECTED) || yes(IMPORTANT),
            priority: match get(PRIORITY) {
                "required" => Priority::Required,
                "important" => Priority::Important,
                "standard" => Priority::Standard,
                "optional" => Priority::Optional,
                _ => Priority::Extra,
            },
            path,
            size,
            sha256,
            relations: std::array::from_fn(get),
        })
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= 255
        && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

    fn stanza(lines: &str) -> String {
        format!("Filename: pool/a.deb\nSize: 3\nSHA256: {HASH}\nArchitecture: all\n{lines}\n")
    }

    #[test]
    fn reads_what_matters() {
        let text = format!(
            "\n{}\n\n{}",
            stanza(
                "Package: a\nversion: 1:2-3\nMulti-Arch: same\nEssential: yes\nPriority: required\n\
                 Description: one\n two\nDepends: b (>= 1),\n c\n# a comment\nprovides: d\nFoo: bar"
            ),
            stanza("Package: b\nVersion: 1\nImportant: yes")
        );
        let found: Vec<_> = packages(&text).map(Result::unwrap).collect();
        assert_eq!(found.len(), 2);
        let a = &found[0];
        assert_eq!(
            (a.name, a.version, a.architecture, a.path, a.size),
            ("a", "1:2-3", "all", "pool/a.deb", 3)
        );
        assert_eq!((a.multi_arch, a.essential, a.priority), (MultiArch::Same, true, Priority::Required));
        assert_eq!(a.relations[RelationField::Depends as usize], "b (>= 1),\n c");
        assert_eq!(a.relations[RelationField::Provides as usize], "d");
        assert_eq!(a.sha256.to_string(), HASH);
        let b = &found[1];
        assert!(b.protected && !b.essential && b.priority == Priority::Extra);
    }

    #[test]
    fn every_error_names_the_place() {
        let wrong = [
            "nonsense".to_owned(),
            " indented: 1".to_owned(),
            stanza("Package: a\nVersion: 1\nVersion: 2"),
            stanza("Package: a"),
            stanza("Package: a/b\nVersion: 1"),
            stanza("Package: a\nVersion: 1 2"),
            format!("Package: a\nVersion: 1\nArchitecture: all\nSize: x\nSHA256: {HASH}\nFilename: pool/a"),
            format!("Package: a\nVersion: 1\nArchitecture: all\nSize: 1\nSHA256: {HASH}\nFilename: ../a"),
            "Package: a\nVersion: 1\nArchitecture: all\nSize: 1\nSHA256: 00\nFilename: a".to_owned(),
        ];
        let messages: Vec<_> = wrong
            .iter()
            .map(|text| packages(text).next().map(|first| first.unwrap_err().to_string()).unwrap_or_default())
            .collect();
        insta::assert_snapshot!(messages.join("\n"), @r#"
    line 1: expected `Field: value`, found `nonsense`
    line 1: expected `Field: value`, found ` indented: 1`
    line 7: package `a` has `Version` twice
    line 1: package `a` has no `Version`
    line 1: package `a/b` has `Package: a/b`, expected letters, digits, `+`, `-`, `.`, and 255 characters at most
    line 1: package `a` has `Version: 1 2`, expected `[epoch:]upstream[-revision]`
    line 1: package `a` has `Size: x`, expected a number of bytes
    line 1: package `a` has `Filename: ../a`, expected a relative path without `..`
    line 1: package `a` has `SHA256: 00`, expected 64 hexadecimal digits
    "#);
    }

    #[test]
    fn pieces_hold_every_stanza_once() {
        let text: String = (0..50)
            .map(|n| stanza(&format!("Package: p{n}\nVersion: 1")) + if n % 3 == 0 { "\n\n" } else { "\n" })
            .collect();
        for parts in [1, 2, 3, 7, 200] {
            let pieces = split_packages(&text, parts);
            let names: Vec<_> = pieces.into_iter().flatten().map(|package| package.unwrap().name).collect();
            assert_eq!(names, (0..50).map(|n| format!("p{n}")).collect::<Vec<_>>(), "{parts} parts");
        }
    }

    #[test]
    fn a_bad_stanza_does_not_hide_the_next() {
        let text = format!("nonsense\n\n{}", stanza("Package: a\nVersion: 1"));
        let found: Vec<_> = packages(&text).collect();
        assert!(found[0].is_err());
        assert_eq!(found[1].as_ref().unwrap().name, "a");
    }
}
