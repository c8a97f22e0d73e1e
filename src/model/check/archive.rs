//! Rules for apt archives of a recipe, and for what a site has in their place.

use std::path::Path;

use super::{Scope, files};
use crate::model::recipe::{Archive, Keys};
use crate::model::site::SiteArchive;
use crate::model::source;
use crate::model::syntax::recipe::RawArchive;
use crate::model::syntax::site::RawSiteArchive;
use crate::model::syntax::{At, Required};
use crate::model::words;

/// Where the site's keys are.
const SITE_KEYS: &str = "images/keys";

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
    let folder = format!("recipes/{recipe}/keys");
    let certificates = not_empty(scope, &raw.keys, "key file").map(|list| keys(scope, root, &folder, list));
    let signers = not_empty(scope, &raw.fingerprints, "fingerprint").map(|list| fingerprints(scope, list));
    scope.unique(&raw.places.0);
    for at in &raw.places.0 {
        scope.take(&at.span, words::place_uri(&at.value));
    }
    Some(Archive {
        name: name.value.clone(),
        uri: uri?,
        suites: suites?,
        components: components?,
        keys: certificates.unwrap_or_default(),
        fingerprints: signers.unwrap_or_default(),
        places: raw.places.0.iter().map(|at| at.value.clone()).collect(),
        ..Archive::default()
    })
}

/// Checks one `[archive.<name>]` of the site, and reads its keys.
pub fn site_archive(scope: &mut Scope<'_>, root: &Path, raw: &At<RawSiteArchive>) -> Option<SiteArchive> {
    let RawSiteArchive { uri, keys: files, fingerprints: signers } = &raw.value;
    let uri = uri.0.as_ref().and_then(|at| scope.take(&at.span, words::mirror_uri(&at.value)));
    let certificates = keys(scope, root, SITE_KEYS, &files.0);
    let found = fingerprints(scope, &signers.0);
    match (files.0.first(), signers.0.first()) {
        (Some(at), None) => {
            scope
                .error(&at.span, "there is a key, but no fingerprint says that it may sign")
                .help("add `fingerprints = [\"…\"]` with what `gpg --show-keys` prints");
            return None;
        }
        (None, Some(at)) => {
            scope
                .error(&at.span, "there is a fingerprint, but no key")
                .help(format!("put the certificate into `{SITE_KEYS}/` and add `keys = [\"…\"]`"));
            return None;
        }
        _ => {}
    }
    let keys = (!files.0.is_empty()).then_some(Keys { certificates, fingerprints: found });
    Some(SiteArchive { uri: uri?, keys })
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

fn fingerprints(scope: &mut Scope<'_>, list: &[At<String>]) -> Vec<String> {
    scope.unique(list);
    list.iter().filter_map(|at| scope.take(&at.span, words::fingerprint(&at.value))).collect()
}

fn keys(scope: &mut Scope<'_>, root: &Path, folder: &str, list: &[At<String>]) -> Vec<Vec<u8>> {
    scope.unique(list);
    list.iter().filter_map(|at| key(scope, root, folder, at)).collect()
}

fn key(scope: &mut Scope<'_>, root: &Path, folder: &str, at: &At<String>) -> Option<Vec<u8>> {
    scope.take(&at.span, words::relative(&at.value))?;
    let bytes = files::read(scope, root, folder, at, source::MAX_TOML)?;
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
