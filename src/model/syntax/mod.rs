//! The TOML syntax: what may be written, with the place of every value.
//!
//! serde stops at the first thing it dislikes; people want everything at once. So the tables are read from toml's own
//! spanned tree by [`table!`], which makes of one list of keys the type, its reader (unknown keys, missing keys and
//! wrong types are reported and reading goes on) and its JSON Schema.

mod decode;
pub mod image;
pub mod recipe;
pub mod site;

use std::ops::Range;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostics::Diagnostics;
use super::source::{Place, SourceFile};
use super::words;

/// A value and its place in the text.
#[derive(Debug, Clone)]
pub struct At<T> {
    /// Byte offsets.
    pub span: Range<usize>,
    /// The value.
    pub value: T,
}

/// A key that must be there. Empty after its absence or a wrong type was reported.
#[derive(Debug, Clone)]
pub struct Required<T>(pub Option<At<T>>);

/// A key that may be left out. Empty too after a wrong type was reported.
#[derive(Debug, Clone)]
pub struct Optional<T>(pub Option<At<T>>);

/// A list, empty when left out: `key = [ … ]` or `[[key]]`.
#[derive(Debug, Clone)]
pub struct List<T>(pub Vec<At<T>>);

/// A table whose keys the user chooses: `[key.<name>]`.
#[derive(Debug, Clone)]
pub struct Named<T>(pub Vec<(At<String>, At<T>)>);

/// A whole number or a text, as the address of an image.
#[derive(Debug, Clone, PartialEq)]
pub enum NumberOrText {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

const SIZE: &str = "a size such as `\"2 GiB\"`";
const MODE: &str = "permission bits such as `\"0644\"`";
const TIME: &str = "a time such as `\"5 min\"`";

/// A size with its unit.
#[derive(Debug, Clone)]
pub struct Size(pub String);

/// Permission bits as octal digits.
#[derive(Debug, Clone)]
pub struct Mode(pub String);

/// A length of time with its unit.
#[derive(Debug, Clone)]
pub struct Time(pub String);

/// A table being read.
pub struct Table<'v, 'i> {
    table: &'v DeTable<'i>,
    span: Range<usize>,
    /// Keys that an unknown key probably stands for: their absence is no further problem.
    meant: Vec<&'static str>,
}

/// Where reading stands: the file and what was found wrong so far.
pub struct Reader<'a> {
    file: &'a SourceFile,
    problems: &'a mut Diagnostics,
}

impl Reader<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        self.file.place(span)
    }

    /// The table in `value`; says so when it is none, and names each key that is not among `keys`.
    pub fn table<'v, 'i>(
        &mut self,
        value: &'v Spanned<DeValue<'i>>,
        keys: &[&'static str],
    ) -> Option<Table<'v, 'i>> {
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(value, "a table");
            return None;
        };
        let mut meant = Vec::new();
        for key in table.keys() {
            let name: &str = key.get_ref();
            if !keys.contains(&name) {
                let message = format!("unknown key `{name}`");
                let help = match words::nearest(name, keys.iter().copied()) {
                    Some(near) => {
                        meant.push(near);
                        format!("did you mean `{near}`?")
                    }
                    None => format!("known here: {}", words::list(keys.iter().copied())),
                };
                self.problems.error(self.file.place(key.span()), message).help(help);
            }
        }
        Some(Table { table, span: value.span(), meant })
    }

    fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, expected: &str) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a fractional number",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let text = self.file.text.get(value.span()).unwrap_or_default();
        let one_line = !text.contains('\n') && text.len() < 60;
        let bare = text.trim_matches(['"', '\'']);
        let help = match (expected, value.get_ref()) {
            _ if !one_line => None,
            ("a string", DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_)) => {
                Some(format!("write it in quotes: `\"{text}\"`"))
            }
            ("a whole number", DeValue::String(_)) if bare.parse::<i64>().is_ok() => {
                Some(format!("write it without quotes: `{bare}`"))
            }
            ("`true` or `false`", DeValue::String(_)) if matches!(bare, "true" | "false") => {
                Some(format!("write it without quotes: `{bare}`"))
            }
            ("`true` or `false`", _) if matches!(bare, "yes" | "on" | "1") => Some("write `true`".to_owned()),
            ("`true` or `false`", _) if matches!(bare, "no" | "off" | "0") => {
                Some("write `false`".to_owned())
            }
            ("a list", DeValue::String(_) | DeValue::Integer(_)) => {
                Some(format!("write it in brackets: `[{text}]`"))
            }
            (SIZE, DeValue::Integer(_)) => Some(format!("write `\"{text} MiB\"`, if MiB are meant")),
            (TIME, DeValue::Integer(_)) => Some(format!("write `\"{text} s\"`, if seconds are meant")),
            (MODE, DeValue::Integer(number)) if number.radix() == 8 => {
                Some(format!("write `\"0{}\"`", number.as_str()))
            }
            (MODE, DeValue::Integer(_)) => Some(format!("write `\"{text:0>4}\"`")),
            _ => None,
        };
        let place = self.place(value.span());
        let problem = self.problems.error(place, format!("expected {expected}, found {found}"));
        if let Some(help) = help {
            problem.help(help);
        }
    }
}

/// A type that stands on the right of a key.
pub trait Decode: Sized {
    /// Reads it; reports what is wrong.
    fn decode(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self>;
    /// Its JSON Schema.
    fn schema(generator: &mut SchemaGenerator) -> Schema;
}

/// How a key may occur in its table.
pub trait Field: Sized {
    /// Whether it must be there.
    const REQUIRED: bool;
    /// Takes it out of the table; `about` says what it is for.
    fn field(table: &Table<'_, '_>, key: &str, about: &[&str], reader: &mut Reader<'_>) -> Self;
    /// Its JSON Schema.
    fn schema(generator: &mut SchemaGenerator) -> Schema;
}

fn decode_at<T: Decode>(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<At<T>> {
    T::decode(value, reader).map(|found| At { span: value.span(), value: found })
}

impl<T: Decode> Field for Required<T> {
    const REQUIRED: bool = true;

    fn field(table: &Table<'_, '_>, key: &str, about: &[&str], reader: &mut Reader<'_>) -> Self {
        let Some(value) = table.table.get(key) else {
            if !table.meant.contains(&key) {
                let place = reader.place(table.span.clone());
                let about = joined(about);
                reader
                    .problems
                    .error(place, format!("the key `{key}` is missing"))
                    .help(format!("add `{key}`: {}", about.trim_end_matches('.')));
            }
            return Self(None);
        };
        Self(decode_at(value, reader))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        T::schema(generator)
    }
}

impl<T: Decode> Field for Optional<T> {
    const REQUIRED: bool = false;

    fn field(table: &Table<'_, '_>, key: &str, _: &[&str], reader: &mut Reader<'_>) -> Self {
        Self(table.table.get(key).and_then(|value| decode_at(value, reader)))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        T::schema(generator)
    }
}

impl<T: Decode> Field for List<T> {
    const REQUIRED: bool = false;

    fn field(table: &Table<'_, '_>, key: &str, _: &[&str], reader: &mut Reader<'_>) -> Self {
        let Some(value) = table.table.get(key) else { return Self(Vec::new()) };
        let Some(items) = value.get_ref().as_array() else {
            if value.get_ref().is_table() {
                let place = reader.place(value.span());
                let message = format!("expected a list of tables, found one table `{key}`");
                reader.problems.error(place, message).help(format!("write `[[{key}]]`"));
            } else {
                reader.wrong_type(value, "a list");
            }
            return Self(Vec::new());
        };
        Self(items.iter().filter_map(|item| decode_at(item, reader)).collect())
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": T::schema(generator) })
    }
}

impl<T: Decode> Field for Named<T> {
    const REQUIRED: bool = false;

    fn field(table: &Table<'_, '_>, key: &str, _: &[&str], reader: &mut Reader<'_>) -> Self {
        let Some(value) = table.table.get(key) else { return Self(Vec::new()) };
        let Some(entries) = value.get_ref().as_table() else {
            reader.wrong_type(value, "a table");
            return Self(Vec::new());
        };
        let mut found = Vec::new();
        for (name, value) in entries {
            if let Some(decoded) = decode_at(value, reader) {
                found.push((At { span: name.span(), value: name.get_ref().to_string() }, decoded));
            }
        }
        Self(found)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": T::schema(generator) })
    }
}

/// Reads a whole file as `T`; syntax errors and everything else found go to `problems`.
///
/// Nothing comes back when the text is no TOML: half a tree would bring problems that are none.
pub fn parse<T: Decode>(file: &SourceFile, problems: &mut Diagnostics) -> Option<T> {
    let (root, errors) = DeTable::parse_recoverable(&file.text);
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        let (message, help) = toml_words(error.message(), &file.text, span.start);
        let problem = problems.error(file.place(span), format!("not valid TOML: {message}"));
        if let Some(help) = help {
            problem.help(help);
        }
    }
    if !errors.is_empty() {
        return None;
    }
    let root = Spanned::new(0..0, DeValue::Table(root.into_inner()));
    T::decode(&root, &mut Reader { file, problems })
}

/// The parser's message in words for people who do not know its grammar, and what to write instead.
fn toml_words<'a>(message: &'a str, text: &str, offset: usize) -> (&'a str, Option<String>) {
    let rest = text.get(offset..).unwrap_or_default().lines().next().unwrap_or_default().trim();
    if message.starts_with("duplicate key") {
        return ("this is there already", Some("give a key once, and open a `[table]` once".to_owned()));
    }
    if message.starts_with("string values must be quoted") {
        return match rest.split('#').next().unwrap_or_default().trim() {
            "" => ("the value is missing", Some("write a value after the `=`".to_owned())),
            word => ("a string has to be in quotes", Some(format!("write `\"{word}\"`"))),
        };
    }
    if message.starts_with("unexpected leading zero") {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        return ("a number does not begin with 0", Some(format!("write it in quotes: `\"{digits}\"`")));
    }
    if message.starts_with("invalid basic string") {
        return ("the string has no end", Some("close it with `\"` on the same line".to_owned()));
    }
    if message.starts_with("key with no value") {
        return ("a key without a value", Some("write `key = value`".to_owned()));
    }
    (message, None)
}

/// The schema of one table, from what [`table!`] was given.
pub fn object(description: &str, fields: Vec<(&str, String, bool, Schema, Value)>) -> Schema {
    let mut properties = serde_json::Map::new();
    let mut required = Vec::new();
    for (key, description, must, mut schema, more) in fields {
        schema.insert("description".to_owned(), description.trim().into());
        if let Value::Object(more) = more {
            for (name, value) in more {
                schema.insert(name, value);
            }
        }
        if must {
            required.push(Value::from(key));
        }
        properties.insert(key.to_owned(), schema.into());
    }
    let mut object = json_schema!({
        "type": "object",
        "description": description.trim(),
        "additionalProperties": false,
        "properties": properties,
    });
    if !required.is_empty() {
        object.insert("required".to_owned(), required.into());
    }
    object
}

/// Joins the lines of a doc comment.
pub fn joined(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// Makes of a list of keys a type, its reader and its JSON Schema.
///
/// Each key: its doc comment, `field: Kind<Type> = "key"`, and if need be `; { more of the JSON Schema }`.
macro_rules! table {
    (
        $(#[doc = $doc:literal])*
        $name:ident {
            $( $(#[doc = $about:literal])* $field:ident : $kind:ty = $key:literal $( ; $more:tt )? ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone)]
        pub struct $name {
            $( $(#[doc = $about])* pub $field: $kind, )*
        }

        impl $crate::model::syntax::Decode for $name {
            fn decode(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                reader: &mut $crate::model::syntax::Reader<'_>,
            ) -> Option<Self> {
                let table = reader.table(value, &[$($key),*])?;
                Some(Self {
                    $( $field: <$kind as $crate::model::syntax::Field>::field(&table, $key, &[$($about),*], reader), )*
                })
            }

            fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                generator.subschema_for::<Self>()
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let fields = vec![$((
                    $key,
                    $crate::model::syntax::joined(&[$($about),*]),
                    <$kind as $crate::model::syntax::Field>::REQUIRED,
                    <$kind as $crate::model::syntax::Field>::schema(generator),
                    $crate::model::syntax::more!($($more)?),
                )),*];
                $crate::model::syntax::object(&$crate::model::syntax::joined(&[$($doc),*]), fields)
            }
        }
    };
}

/// What a key adds to the schema of its type.
macro_rules! more {
    () => {
        serde_json::Value::Null
    };
    ($more:tt) => {
        serde_json::json!($more)
    };
}

pub(crate) use {more, table};
