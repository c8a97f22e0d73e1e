//! Rules for what a deployment has to know: which state migrates one way, and which secrets are handed over.

use super::{Scope, mounts};
use crate::model::recipe::{Migrates, Recipe, Secret, SecretUse};
use crate::model::syntax::At;
use crate::model::syntax::recipe::{RawMigrates, RawSecret};
use crate::model::words;

/// Checks `migrates` of a state.
pub fn migrates(scope: &mut Scope<'_>, raw: &RawMigrates) -> Option<Migrates> {
    let package = raw.package.0.as_ref()?;
    scope.take(&package.span, words::package(&package.value))?;
    let file = match &raw.file.0 {
        Some(at) => {
            scope.take(&at.span, words::relative(&at.value))?;
            scope.take(&at.span, words::mountable(&at.value))?;
            at.value.clone()
        }
        None => "version".to_owned(),
    };
    Some(Migrates { package: package.value.clone(), file })
}

/// Checks a `[[secret]]`.
pub fn secret(scope: &mut Scope<'_>, at: &At<RawSecret>, recipe: &Recipe) -> Option<Secret> {
    let raw = &at.value;
    let name = raw.name.0.as_ref()?;
    scope.take(&name.span, words::project_name(&name.value))?;
    if recipe.secrets.iter().any(|other| other.name == name.value) {
        scope
            .error(&name.span, format!("there is a secret `{}` already", name.value))
            .help("give each its own name");
        return None;
    }
    let purpose = match (&raw.hash.0, &raw.run.0) {
        (Some(path), None) => {
            let file = scope.take(&path.span, mounts::image_path(&path.value))?;
            scope.take(&path.span, words::mountable(&path.value))?;
            if !recipe.state.iter().any(|state| file.is_within(&state.path)) {
                let states: Vec<_> = recipe.state.iter().map(|state| state.path.to_string()).collect();
                scope
                    .error(
                        &path.span,
                        "a secret's hash outlives the image, and this is in no `[[state]]` of the recipe",
                    )
                    .help(match states.first() {
                        Some(state) => format!("write a path below `{state}`"),
                        None => "declare the directory as `[[state]]` first".to_owned(),
                    });
                return None;
            }
            SecretUse::Hash(file)
        }
        (None, Some(path)) => {
            scope.take(&path.span, mounts::image_path(&path.value))?;
            SecretUse::Run(path.value.clone())
        }
        (None, None) => {
            scope
                .error(&at.span, "nothing is done with this secret")
                .help("say where its `hash` goes, or which program to `run` with it");
            return None;
        }
        (Some(_), Some(run)) => {
            scope
                .error(&run.span, "a secret has a `hash` or something to `run`, not both")
                .help("leave one out");
            return None;
        }
    };
    Some(Secret { name: name.value.clone(), purpose })
}
