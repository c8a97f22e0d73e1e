//! What the image's packages ship, from the dpkg database in it.

use std::collections::BTreeSet;
use std::io;

use crate::build::place;
use crate::tree::{Content, Contents, Tree, TreePath};

/// Longest file list that is read, in bytes.
const MAX_LIST: u64 = 64 << 20;

/// A package that ships a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The package, with `:ARCH` where its files are named so.
    pub package: String,
    /// Whether the path is one of its configuration files.
    pub conffile: bool,
}

/// Finds the package that ships `path`, which is a real place, without links among its parents. The lists spell
/// paths as the package does, so `/lib/x` is taken for `/usr/lib/x`.
///
/// # Errors
/// When a list of the dpkg database cannot be read.
pub fn owner(tree: &Tree, contents: &dyn Contents, path: &TreePath) -> io::Result<Option<Owner>> {
    for (list, content) in lists(tree) {
        if !ships(tree, &contents.read(content)?, path) {
            continue;
        }
        let package = list.name().strip_suffix(b".list").unwrap_or(list.name());
        let package = String::from_utf8_lossy(package).into_owned();
        let conffiles = list.parent().and_then(|info| info.join(format!("{package}.conffiles")).ok());
        let conffiles = conffiles.and_then(|conffiles| tree.get(&conffiles)?.content());
        let conffile = match conffiles {
            Some(content) if content.size <= MAX_LIST => ships(tree, &contents.read(content)?, path),
            _ => false,
        };
        return Ok(Some(Owner { package, conffile }));
    }
    Ok(None)
}

/// Everything that packages ship in one of `directories`, those themselves included, at its real place.
///
/// # Errors
/// When a list of the dpkg database cannot be read.
pub fn shipped_in(
    tree: &Tree,
    contents: &dyn Contents,
    directories: &[&str],
) -> io::Result<BTreeSet<TreePath>> {
    let mut shipped = BTreeSet::new();
    for (_, content) in lists(tree) {
        for line in contents.read(content)?.split(|byte| *byte == b'\n') {
            let line = line.strip_prefix(b"/").unwrap_or(line);
            let inside = |directory: &&str| {
                line.strip_prefix(directory.as_bytes())
                    .is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
            };
            if directories.iter().any(inside)
                && let Ok(path) = TreePath::new(line)
            {
                shipped.extend(place::resolve_parent(tree, &path));
            }
        }
    }
    Ok(shipped)
}

/// The file lists of the packages.
fn lists(tree: &Tree) -> impl Iterator<Item = (&TreePath, &Content)> {
    let info = TreePath::new("var/lib/dpkg/info").ok();
    let files = info.into_iter().flat_map(|info| place::below(tree, &info));
    let lists = files.filter(|(path, _)| path.name().ends_with(b".list"));
    lists.filter_map(|(path, node)| Some((path, node.content().filter(|content| content.size <= MAX_LIST)?)))
}

fn ships(tree: &Tree, list: &[u8], path: &TreePath) -> bool {
    list.split(|byte| *byte == b'\n').any(|line| {
        // Only a line with the same last name is worth resolving.
        line.ends_with(path.name())
            && TreePath::new(line).is_ok_and(|line| {
                line.name() == path.name() && place::resolve_parent(tree, &line).as_ref() == Ok(path)
            })
    })
}
