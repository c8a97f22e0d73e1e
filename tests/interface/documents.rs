//! The documents: they name what there is, and their links lead somewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{COMMANDS, prints, read, repository};

/// Every long option of every command, with its dashes.
pub(super) fn options() -> BTreeSet<String> {
    let helps = COMMANDS.iter().map(|command| prints(&[command, "--help"]));
    let helps: Vec<_> = helps.chain([prints(&["--help"])]).collect();
    let mut options = BTreeSet::new();
    for line in helps.iter().flat_map(|help| help.lines()) {
        let line = line.trim_start();
        let line = line.split_once(", ").filter(|(short, _)| short.len() == 2).map_or(line, |(_, long)| long);
        if line.starts_with("--") {
            let end = line.find([' ', '=']).unwrap_or(line.len());
            options.insert(line[..end].to_owned());
        }
    }
    assert!(options.len() > 10, "{options:?}");
    options
}

#[test]
fn the_reference_names_every_command_and_option() {
    let reference = read(&repository().join("docs/reference.md"));
    let chapter = reference.split("\n## ").find(|chapter| chapter.starts_with("Command line\n"));
    let chapter = chapter.expect("docs/reference.md has a chapter `Command line`");
    for command in COMMANDS {
        assert!(
            chapter.contains(&format!("build-images {command}")),
            "`build-images {command}` is not in it"
        );
    }
    for option in options() {
        assert!(chapter.contains(&format!("`{option}")), "`{option}` is not in it");
    }
}

/// The Markdown files of the repository.
fn documents() -> Vec<PathBuf> {
    let wanted = |entry: &walkdir::DirEntry| {
        let name = entry.file_name().to_string_lossy();
        entry.depth() == 0
            || !(name == "target" || name == "result" || (name.starts_with('.') && name != ".ci"))
    };
    let entries = walkdir::WalkDir::new(repository()).sort_by_file_name().into_iter().filter_entry(wanted);
    let paths = entries.map(|entry| entry.unwrap().into_path());
    let found: Vec<_> = paths.filter(|path| path.extension().is_some_and(|ending| ending == "md")).collect();
    assert!(found.len() >= 4, "{found:?}");
    found
}

/// Targets of `[text](target)` outside of code.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("code");
        let ends = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        links.extend(ends.map(str::to_owned));
    }
    links
}

/// The name under which a heading can be reached.
fn anchor(heading: &str) -> String {
    let plain = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = plain.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = read(&document);
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (path, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => document.clone(),
                path => document.parent().unwrap_or(Path::new("/")).join(path),
            };
            let there = target.exists()
                && (fragment.is_empty()
                    || read(&target).lines().any(|line| line.starts_with('#') && anchor(line) == fragment));
            if !there {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn no_document_names_paths_of_one_machine() {
    for document in documents() {
        let text = read(&document);
        for (number, line) in text.lines().enumerate() {
            let own = ["/work/", "/root/", "/tmp/bash"].iter().find(|path| line.contains(**path));
            assert!(own.is_none(), "{}:{}: {line}", document.display(), number + 1);
        }
    }
}
