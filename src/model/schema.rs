//! JSON Schemas of the files a user writes, from the same types that read them.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::syntax::image::RawImage;
use super::syntax::recipe::RawRecipe;
use super::syntax::site::RawSite;

/// The three files of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `recipes/<name>/recipe.toml`.
    Recipe,
    /// `images/<name>.toml`.
    Image,
    /// `images/site.toml`.
    Site,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Recipe, Self::Image, Self::Site];

    /// Its name, as in `schema/<name>.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Recipe => "recipe",
            Self::Image => "image",
            Self::Site => "site",
        }
    }
}

/// The JSON Schema (draft 2020-12) of a file.
pub fn schema(kind: Kind) -> Value {
    fn root<T: JsonSchema>() -> Value {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        settings.into_generator().into_root_schema_for::<T>().into()
    }
    let mut schema = match kind {
        Kind::Recipe => root::<RawRecipe>(),
        Kind::Image => root::<RawImage>(),
        Kind::Site => root::<RawSite>(),
    };
    schema["title"] = kind.name().into();
    schema
}

/// The text of `schema/<name>.json`.
pub fn schema_text(kind: Kind) -> String {
    format!("{:#}\n", schema(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Run with `UPDATE_SCHEMA=1` to write the files anew.
    #[test]
    fn committed_schemas_are_current() {
        for kind in Kind::ALL {
            let path = format!("{}/schema/{}.json", env!("CARGO_MANIFEST_DIR"), kind.name());
            if std::env::var_os("UPDATE_SCHEMA").is_some() {
                std::fs::write(&path, schema_text(kind)).unwrap();
            }
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                committed == schema_text(kind),
                "schema/{}.json is stale: UPDATE_SCHEMA=1 cargo test schema",
                kind.name()
            );
        }
    }

    #[test]
    fn unknown_keys_are_refused_and_required_ones_named() {
        let schema = schema(Kind::Image);
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["required"], serde_json::json!(["recipes", "container"]));
        assert_eq!(schema["properties"]["container"]["properties"]["vmid"]["minimum"], 100);
        assert_eq!(schema["properties"]["mount"]["items"]["properties"]["read-only"]["type"], "boolean");
    }

    fn keys(schema: &Value, found: &mut Vec<String>) {
        match schema {
            Value::Object(map) => {
                if let Some(Value::Object(properties)) = map.get("properties") {
                    found.extend(properties.keys().cloned());
                }
                map.values().for_each(|value| keys(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| keys(value, found)),
            _ => {}
        }
    }

    #[test]
    fn the_reference_names_every_key() {
        let reference =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference.md")).unwrap();
        for kind in Kind::ALL {
            let mut found = Vec::new();
            keys(&schema(kind), &mut found);
            assert!(found.len() >= 10, "{found:?}");
            for key in found {
                let forms = [format!("{key} = "), format!("[{key}]"), format!("[{key}."), format!("{key} ")];
                assert!(forms.iter().any(|form| reference.contains(form)), "docs/reference.md lacks `{key}`");
            }
        }
    }
}
