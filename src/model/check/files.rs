//! Rules for `[[file]]`, and reading what lies beside a recipe.

use std::fs;
use std::path::Path;

use super::Scope;
use super::accounts::owners;
use super::recipe::{Claim, Made, RecipeDraft, mode, path};
use crate::model::recipe::{File, Source};
use crate::model::source::{self, ReadError};
use crate::model::syntax::At;
use crate::model::syntax::recipe::RawFile;
use crate::model::words;

/// Files that Proxmox writes anew whenever the container starts.
const REWRITTEN: [&str; 6] = [
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/network/interfaces",
    "/etc/systemd/system-preset/00-pve.preset",
    "/usr/lib/systemd/system/container-getty@.service",
];

/// Checks one `[[file]]` and reads what it holds.
pub fn file(scope: &mut Scope<'_>, root: &Path, raw: &At<RawFile>, draft: &mut RecipeDraft) {
    let source = source(scope, root, raw, &draft.recipe.name);
    let (owner, group) = owners(scope, draft, &raw.value.owner, &raw.value.group);
    let mode = mode(scope, &raw.value.mode, 0o644, false);
    let Some((path, place)) = path(scope, &raw.value.path) else { return };
    let shown = path.to_string();
    if REWRITTEN.contains(&shown.as_str()) {
        scope
            .problems
            .warning(&place, format!("Proxmox rewrites `{shown}` whenever the container starts"))
            .help(
                "name, network and name servers come from the container's configuration; leave the file out",
            );
    }
    if shown == "/etc/vzdump/pct.conf" || shown == "/etc/vzdump/pct.fw" {
        scope.failed = true;
        scope
            .problems
            .error(&place, format!("`{shown}` is the container's configuration, which the build writes"))
            .help("set it in `images/<name>.toml`");
    }
    draft.claims.push(Claim { path: path.clone(), place, made: Made::File });
    let replace = raw.value.replace.0.as_ref().is_some_and(|at| at.value);
    if let (Some(source), Some(mode)) = (source, mode) {
        draft.recipe.files.push(File { path, owner, group, mode, replace, source });
    }
}

fn source(scope: &mut Scope<'_>, root: &Path, raw: &At<RawFile>, recipe: &str) -> Option<Source> {
    let given: Vec<_> = [
        ("source", &raw.value.source.0),
        ("template", &raw.value.template.0),
        ("content", &raw.value.content.0),
    ]
    .into_iter()
    .filter_map(|(key, field)| field.as_ref().map(|at| (key, at)))
    .collect();
    let (key, at) = match given.as_slice() {
        [] => {
            scope.error(&raw.span, "the file does not say what it holds").help(
                "write one of `source` (a file below `files/`), `template` (the same, filled in) and `content` (the text)",
            );
            return None;
        }
        [one] => *one,
        [(first, other), (second, at), ..] => {
            let other = scope.place(other);
            scope
                .error(&at.span, format!("the file has both `{first}` and `{second}`"))
                .related(&other, "the other one")
                .help("keep one");
            return None;
        }
    };
    if key == "content" {
        return Some(Source::Bytes(at.value.clone().into_bytes()));
    }
    let stripped = at.value.strip_prefix("files/");
    if let Some(rest) = stripped
        && !root.join(format!("recipes/{recipe}/files/files")).exists()
    {
        scope
            .error(&at.span, format!("`{key}` is relative to the recipe's `files/` already"))
            .help(format!("write `{key} = \"{rest}\"`"));
        return None;
    }
    scope.take(&at.span, words::relative(&at.value))?;
    let folder = format!("recipes/{recipe}/files");
    let bytes = read(scope, root, &folder, at, source::MAX_FILE)?;
    if key == "source" {
        return Some(Source::Bytes(bytes));
    }
    let name = format!("{folder}/{}", at.value);
    match String::from_utf8(bytes) {
        Ok(text) => Some(Source::Template { name, text }),
        Err(_) => {
            scope
                .error(&at.span, format!("the template `{name}` is not valid UTF-8"))
                .help("write `source` instead of `template` for a file that is taken as it is");
            None
        }
    }
}

/// Reads `at` below `folder`; says what is wrong and which file may be meant.
pub fn read(
    scope: &mut Scope<'_>,
    root: &Path,
    folder: &str,
    at: &At<String>,
    limit: u64,
) -> Option<Vec<u8>> {
    match source::read(root, &format!("{folder}/{}", at.value), limit) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            let help = match &error {
                ReadError::Missing { .. } => {
                    let mut present = Vec::new();
                    collect(&root.join(folder), "", &mut present);
                    match words::nearest(&at.value, present.iter().map(String::as_str)) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None if present.is_empty() => format!("put the file into `{folder}/`"),
                        None => {
                            format!("`{folder}/` has {}", words::list(present.iter().map(String::as_str)))
                        }
                    }
                }
                ReadError::Link { .. } => "put a copy of what it leads to in its place".to_owned(),
                ReadError::TooLarge { .. } => "large data belongs into a package or into state".to_owned(),
                _ => String::new(),
            };
            let problem = scope.error(&at.span, error.to_string());
            if !help.is_empty() {
                problem.help(help);
            }
            None
        }
    }
}

/// The regular files below `directory`, at most a thousand.
fn collect(directory: &Path, prefix: &str, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if found.len() >= 1000 {
            return;
        }
        if kind.is_dir() && prefix.matches('/').count() < 8 {
            collect(&entry.path(), &format!("{name}/"), found);
        } else if kind.is_file() {
            found.push(name);
        }
    }
}
