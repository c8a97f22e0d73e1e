//! How a value of each type is read.

use schemars::{Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::DeValue;

use super::{At, Decode, MODE, Mode, NumberOrText, Reader, SIZE, Size, TIME, Time, decode_at};

impl Decode for String {
    fn decode(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        if let DeValue::String(text) = value.get_ref() {
            return Some(text.to_string());
        }
        reader.wrong_type(value, "a string");
        None
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

macro_rules! text {
    ($name:ident, $expected:expr, $pattern:literal) => {
        impl Decode for $name {
            fn decode(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
                if let DeValue::String(text) = value.get_ref() {
                    return Some(Self(text.to_string()));
                }
                reader.wrong_type(value, $expected);
                None
            }

            fn schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

text!(Size, SIZE, "^(0|[0-9]+ *(MiB|GiB|TiB))$");
text!(Mode, MODE, "^[0-7]{3,4}$");
text!(Time, TIME, "^[0-9]+ *(s|min|h)$");

impl<T: Decode> Decode for Vec<At<T>> {
    fn decode(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(items) = value.get_ref().as_array() else {
            reader.wrong_type(value, "a list");
            return None;
        };
        Some(items.iter().filter_map(|item| decode_at(item, reader)).collect())
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": T::schema(generator), "minItems": 1 })
    }
}

impl Decode for bool {
    fn decode(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        if let DeValue::Boolean(value) = value.get_ref() {
            return Some(*value);
        }
        reader.wrong_type(value, "`true` or `false`");
        None
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

impl Decode for i64 {
    fn decode(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Integer(number) = value.get_ref() else {
            reader.wrong_type(value, "a whole number");
            return None;
        };
        let found = Self::from_str_radix(number.as_str(), number.radix()).ok();
        if found.is_none() {
            let place = reader.place(value.span());
            reader.problems.error(place, "the number is too large");
        }
        found
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer" })
    }
}

impl Decode for NumberOrText {
    fn decode(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(text) => Some(Self::Text(text.to_string())),
            DeValue::Integer(_) => i64::decode(value, reader).map(Self::Number),
            _ => {
                reader.wrong_type(value, "a whole number or a string");
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"] })
    }
}
