//! Rules for `[[tarball]]`.

use super::Scope;
use super::accounts::owners;
use super::recipe::{Claim, Made, RecipeDraft, path};
use crate::digest::Sha256;
use crate::model::recipe::{Tarball, TarballEntry};
use crate::model::syntax::recipe::{RawTarball, RawTarballEntry};
use crate::model::syntax::{At, Optional};
use crate::model::words::{self, Complaint};
use crate::tree::TreePath;

/// Checks one `[[tarball]]`.
pub fn tarball(scope: &mut Scope<'_>, raw: &At<RawTarball>, draft: &mut RecipeDraft) {
    let raw = &raw.value;
    if let Some(at) = &raw.name.0 {
        let good = scope.take(&at.span, words::archive_word(&at.value, "tarball")).is_some();
        if good && at.value.contains('/') {
            scope
                .error(&at.span, format!("`{}` is no name of a tarball", at.value))
                .help("use letters, digits, `-`, `.`, `_` and `+`");
        }
        draft.tarballs.push((at.value.clone(), scope.place(at)));
    }
    let url = raw.url.0.as_ref().and_then(|at| {
        scope.take(&at.span, words::tarball_url(&at.value))?;
        Some(at.value.clone())
    });
    let sha256 = raw.sha256.0.as_ref().and_then(|at| scope.take(&at.span, digest(&at.value)));
    let (owner, group) = owners(scope, draft, &raw.owner, &raw.group);
    scope.unique(&raw.only.0);
    let only: Vec<_> = raw.only.0.iter().filter_map(|at| inside(scope, at)).collect();
    let strip = match &raw.strip.0 {
        Some(at) => scope.within(at, 0, 64, "`strip`"),
        None => Some(0),
    };
    let paths: Vec<_> = raw.set.0.iter().filter_map(|at| at.value.path.0.clone()).collect();
    scope.unique(&paths);
    let set: Vec<_> = raw
        .set
        .0
        .iter()
        .filter_map(|at| entry(scope, draft, &at.value, (&raw.owner, &raw.group), &only))
        .collect();
    let Some((path, place)) = path(scope, &raw.path) else { return };
    draft.claims.push(Claim { path: path.clone(), place, made: Made::Tarball });
    if let (Some(name), Some(url), Some(sha256), Some(strip)) = (&raw.name.0, url, sha256, strip) {
        let name = name.value.clone();
        draft.recipe.tarballs.push(Tarball { name, url, sha256, path, strip, only, owner, group, set });
    }
}

fn digest(text: &str) -> Result<Sha256, Complaint> {
    let found = text.to_ascii_lowercase().parse();
    found.map_err(|_| Complaint {
        message: match text.len() {
            64 => "a SHA-256 hash has hex digits only".to_owned(),
            40 | 32 | 128 => format!("this has {} digits: it is no SHA-256 hash", text.len()),
            length => format!("a SHA-256 hash has 64 hex digits, this has {length}"),
        },
        help: "write what `sha256sum FILE` prints, and compare it with what its makers publish".to_owned(),
    })
}

/// The name of an entry, below the directory that a tarball is unpacked into.
fn inside(scope: &mut Scope<'_>, at: &At<String>) -> Option<TreePath> {
    // People write directories with a slash at their end.
    let text = at.value.strip_suffix('/').unwrap_or(&at.value);
    scope.take(&at.span, words::relative(text))?;
    let path = TreePath::new(text);
    scope.take(&at.span, path.map_err(|error| Complaint { message: error.to_string(), help: String::new() }))
}

fn entry(
    scope: &mut Scope<'_>,
    draft: &mut RecipeDraft,
    raw: &RawTarballEntry,
    (owner, group): (&Optional<String>, &Optional<String>),
    only: &[TreePath],
) -> Option<TarballEntry> {
    let own = raw.owner.0.is_some();
    let owner = if own { &raw.owner } else { owner };
    let group = if own || raw.group.0.is_some() { &raw.group } else { group };
    let (owner, group) = owners(scope, draft, owner, group);
    // Whoever writes a mode here has looked at the file: bits that others must not have by chance are asked for.
    let mode = match &raw.mode.0 {
        Some(at) => Some(scope.take(&at.span, words::mode(&at.value.0))?),
        None => None,
    };
    let at = raw.path.0.as_ref()?;
    let path = inside(scope, at)?;
    if !only.is_empty() && !only.iter().any(|taken| path.is_within(taken)) {
        let name = &at.value;
        scope
            .error(&at.span, format!("`{name}` is set, but `only` does not take it"))
            .help(format!("add `\"{name}\"` to `only`, or leave it out here"));
        return None;
    }
    Some(TarballEntry { path, owner, group, mode })
}
