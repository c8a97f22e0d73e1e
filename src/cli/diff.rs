//! How differences look: of locks, package by package, and of artifacts, path by path.

use std::fmt::Write as _;
use std::path::Path;

use super::run::print;
use super::show::print_json;
use super::table::table;
use crate::commands::{
    self, ArtifactDiff, CommandError, Diff, FileChange, LockDiff, PackageChange, TarballChange,
};

pub(super) fn diff(old: &Path, new: &Path, as_json: bool) -> Result<u8, CommandError> {
    let diff = commands::diff(old, new)?;
    if as_json {
        print_json(&diff)?;
        return Ok(0);
    }
    match &diff {
        Diff::Locks(diff) => print(&diff_text(diff))?,
        Diff::Artifacts(diff) => print(&artifact_text(diff))?,
    }
    Ok(0)
}

fn artifact_text(diff: &ArtifactDiff) -> String {
    let mut text = diff_text(&diff.packages());
    if diff.files.is_empty() {
        text.push_str("no file changes\n");
    }
    for FileChange { path, old, new, what } in &diff.files {
        let _ = match (old, new) {
            (None, Some(new)) => writeln!(text, "+ {path}: {new}"),
            (Some(old), None) => writeln!(text, "- {path}: {old}"),
            (old, new) => {
                let (old, new) = (old.as_deref().unwrap_or_default(), new.as_deref().unwrap_or_default());
                if old == new {
                    writeln!(text, "~ {path}: {}", what.join(", "))
                } else {
                    writeln!(text, "~ {path}: {} ({old} -> {new})", what.join(", "))
                }
            }
        };
    }
    if diff.configuration_added.is_empty() && diff.configuration_removed.is_empty() {
        text.push_str("no configuration changes\n");
    }
    for line in &diff.configuration_removed {
        let _ = writeln!(text, "- {line}");
    }
    for line in &diff.configuration_added {
        let _ = writeln!(text, "+ {line}");
    }
    text
}

/// A package diff as people read it, one package a line.
pub(super) fn diff_text(diff: &LockDiff) -> String {
    let mut rows = Vec::new();
    let mut add = |sign: &str, changes: &[PackageChange]| {
        for PackageChange { package, old, new } in changes {
            let versions = match (old, new) {
                (Some(old), Some(new)) if old == new => format!("{old} is another .deb now"),
                (Some(old), Some(new)) => format!("{old} -> {new}"),
                (old, new) => old.as_ref().or(new.as_ref()).cloned().unwrap_or_default(),
            };
            rows.push(vec![sign.to_owned(), package.clone(), versions]);
        }
    };
    add("+", &diff.added);
    add("-", &diff.removed);
    add("~", &diff.changed);
    add("!", &diff.replaced);
    let mut text = if rows.is_empty() {
        "no package changes\n".to_owned()
    } else {
        let aligned = table(&[("", false); 3], &rows);
        aligned.lines().skip(1).map(|line| format!("{line}\n")).collect()
    };
    for TarballChange { tarball, old, new } in &diff.tarballs {
        let _ = match (old, new) {
            (Some(old), Some(new)) if old == new => {
                writeln!(text, "tarball {tarball}: {old} is another file now")
            }
            (Some(old), Some(new)) => writeln!(text, "tarball {tarball}: {old} -> {new}"),
            (None, Some(new)) => writeln!(text, "+ tarball {tarball}: {new}"),
            (old, _) => writeln!(text, "- tarball {tarball}: {}", old.as_deref().unwrap_or_default()),
        };
    }
    for suite in &diff.suites {
        let date = |date: &Option<String>| date.clone().unwrap_or_else(|| "nothing".to_owned());
        let _ = writeln!(text, "{}: {} -> {}", suite.suite, date(&suite.old), date(&suite.new));
    }
    text
}
