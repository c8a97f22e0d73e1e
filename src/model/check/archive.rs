//! Rules for apt archives of a recipe.

use std::path::Path;

use super::{Scope, files};
use crate::model::recipe::Archive;
use crate::model::source;
use crate::model::syntax::recipe::RawArchive;
use crate::model::syntax::{At, Required};
use crate::model::words;

/// Checks one `[archive.<name>]` of the recipe `recipe`, and reads its keys.
pub fn archive(
    scope: &mut Scope<'_>,
    root: &Path,
    recipe: &str,
    name: &At<String>,
    raw: &RawArchive,
) -> Option<Archive> {
    scope.take(&name.span, words::archive_word(&name.value, "archive"));
    let uri = raw.uri.0.as_ref().and_then(|at| scope.take(&at.span, words::archive_uri(&at.value)));
    let suites = some_words(scope, &raw.suites, "suite");
    let components = some_words(scope, &raw.components, "component");
    let mut keys = Vec::new();
    if let Some(list) = not_empty(scope, &raw.keys, "key file") {
        scope.unique(list);
        keys = list.iter().filter_map(|at| key(scope, root, recipe, at)).collect();
    }
    let mut fingerprints = Vec::new();
    if let Some(list) = not_empty(scope, &raw.fingerprints, "fingerprint") {
        scope.unique(list);
        fingerprints =
            list.iter().filter_map(|at| scope.take(&at.span, words::fingerprint(&at.value))).collect();
    }
    let name = name.value.clone();
    Some(Archive { name, uri: uri?, suites: suites?, components: components?, keys, fingerprints })
}

fn not_empty<'r>(
    scope: &mut Scope<'_>,
    list: &'r Required<Vec<At<String>>>,
    what: &str,
) -> Option<&'r [At<String>]> {
    let at = list.0.as_ref()?;
    if at.value.is_empty() {
        scope.error(&at.span, "the list is empty").help(format!("an archive has at least one {what}"));
    }
    Some(&at.value)
}

fn some_words(scope: &mut Scope<'_>, list: &Required<Vec<At<String>>>, what: &str) -> Option<Vec<String>> {
    let items = not_empty(scope, list, what)?;
    scope.unique(items);
    for at in items {
        scope.take(&at.span, words::archive_word(&at.value, what));
    }
    Some(items.iter().map(|at| at.value.clone()).collect())
}

fn key(scope: &mut Scope<'_>, root: &Path, recipe: &str, at: &At<String>) -> Option<Vec<u8>> {
    scope.take(&at.span, words::relative(&at.value))?;
    let folder = format!("recipes/{recipe}/keys");
    let bytes = files::read(scope, root, &folder, at, source::MAX_TOML)?;
    let has = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    if has(b"PRIVATE KEY BLOCK") || matches!(bytes.first(), Some(0x94..=0x97 | 0xc5)) {
        scope
            .error(&at.span, format!("`{folder}/{}` holds a private key", at.value))
            .help("only certificates belong here; take it out, and out of the history, and make a new key");
        return None;
    }
    if !has(b"-----BEGIN PGP PUBLIC KEY BLOCK-----") && bytes.first().is_none_or(|first| first & 0x80 == 0) {
        scope
            .error(&at.span, format!("`{folder}/{}` is not an OpenPGP certificate", at.value))
            .help("export it with `gpg --export --armor FINGERPRINT`");
        return None;
    }
    Some(bytes)
}
