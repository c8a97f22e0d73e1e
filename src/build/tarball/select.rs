//! What a recipe takes of a tarball: names, owners and modes, as pure functions over its members.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::recipe::{Tarball, TarballEntry};
use crate::tree::{Kind, Node, Tree, TreePath};

/// One entry to put into the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Its name below the directory that the tarball is unpacked into.
    pub path: TreePath,
    /// What it is, with its mode; owners are still those of root.
    pub node: Node,
    /// Owner by name.
    pub owner: String,
    /// Group by name.
    pub group: String,
}

/// What a recipe asks of a tarball does not fit what is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectProblem {
    /// Nothing is left.
    #[error("`strip = {strip}` leaves nothing of it; its names begin with {}", .first.join(", "))]
    Nothing {
        /// Components that every name loses.
        strip: u32,
        /// Some names.
        first: Vec<String>,
    },
    /// `only` or `set` names something that is not there.
    #[error("`{key}` names `{path}`, which it does not have{}", near.as_deref().map(|n| format!("; is it `{n}`?")).unwrap_or_default())]
    Unknown {
        /// `only` or `set`.
        key: &'static str,
        /// The name.
        path: String,
        /// A name that it does have.
        near: Option<String>,
    },
    /// Two members have one name after losing components.
    #[error("`strip = {strip}` gives two members the name `{path}`")]
    Twice {
        /// Components that every name loses.
        strip: u32,
        /// The name.
        path: String,
    },
    /// A link leads elsewhere.
    #[error(
        "`{path}` is a link to `{target}`, which {}: leave it out with `only`, and make the link with `[[link]]` if it \
         is meant",
        why
    )]
    LeadsOut {
        /// The link.
        path: String,
        /// Its target.
        target: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A program would run with other rights than its caller's.
    #[error(
        "`{path}` {what}: whoever runs it acts as its owner; leave it out with `only`, or say what mode it gets: \
         `set = [{{ path = \"{path}\", mode = \"{mode:04o}\" }}]`"
    )]
    Privileged {
        /// The file.
        path: String,
        /// Why.
        what: String,
        /// Its mode in the tarball.
        mode: u32,
    },
}

/// What `tarball` takes of `tree`, in the order of names.
///
/// # Errors
/// Everything that does not fit.
pub fn select(tree: &Tree, tarball: &Tarball) -> Result<Vec<Selected>, Vec<SelectProblem>> {
    let mut problems = Vec::new();
    let mut named: BTreeMap<TreePath, &Node> = BTreeMap::new();
    for (path, node) in tree {
        let Some(short) = stripped(path, tarball.strip) else { continue };
        if let Some(other) = named.insert(short.clone(), node)
            && !(other.is_directory() && node.is_directory())
        {
            problems.push(SelectProblem::Twice { strip: tarball.strip, path: shown(&short) });
        }
    }
    if named.is_empty() {
        let first: BTreeSet<_> = tree.keys().filter_map(|path| path.ancestors().last()).collect();
        let first = first.iter().take(3).map(|path| format!("`{}`", shown(path))).collect();
        return Err(vec![SelectProblem::Nothing { strip: tarball.strip, first }]);
    }
    let has = |wanted: &TreePath| named.keys().any(|path| path.is_within(wanted));
    let only = tarball.only.iter().filter(|wanted| !has(wanted)).map(|wanted| ("only", wanted));
    let set = tarball.set.iter().map(|entry| &entry.path).filter(|path| !named.contains_key(*path));
    for (key, path) in only.chain(set.map(|path| ("set", path))) {
        problems.push(SelectProblem::Unknown { key, path: shown(path), near: nearest(path, &named) });
    }
    let taken =
        |path: &TreePath| tarball.only.is_empty() || tarball.only.iter().any(|wanted| path.is_within(wanted));
    let rules: BTreeMap<&TreePath, &TarballEntry> =
        tarball.set.iter().map(|entry| (&entry.path, entry)).collect();
    let mut selected = Vec::new();
    for (path, node) in named.iter().filter(|(path, _)| taken(path)) {
        let rule = rules.get(path);
        if let Some(problem) = refused(path, node, rule.is_some_and(|rule| rule.mode.is_some())) {
            problems.push(problem);
            continue;
        }
        let mode = match &node.kind {
            Kind::Symlink { .. } => 0o777,
            kind => rule.and_then(|rule| rule.mode).unwrap_or(match kind {
                Kind::Directory => 0o755,
                _ if node.mode & 0o111 != 0 => 0o755,
                _ => 0o644,
            }),
        };
        let (owner, group) = rule.map_or((&tarball.owner, &tarball.group), |rule| (&rule.owner, &rule.group));
        let node = Node { mode, xattrs: BTreeMap::new(), ..(*node).clone() };
        selected.push(Selected { path: path.clone(), node, owner: owner.clone(), group: group.clone() });
    }
    if problems.is_empty() { Ok(selected) } else { Err(problems) }
}

/// The name without its first components, when something is left of it.
fn stripped(path: &TreePath, strip: u32) -> Option<TreePath> {
    let rest: Vec<_> = path.components().skip(usize::try_from(strip).unwrap_or(usize::MAX)).collect();
    if rest.is_empty() { None } else { TreePath::new(rest.join(&b'/')).ok() }
}

fn refused(path: &TreePath, node: &Node, mode_is_set: bool) -> Option<SelectProblem> {
    if let Kind::Symlink { target } = &node.kind {
        let why = leads_out(path, &target.0)?;
        let target = String::from_utf8_lossy(&target.0).into_owned();
        return Some(SelectProblem::LeadsOut { path: shown(path), target, why });
    }
    let file = matches!(node.kind, Kind::File { .. });
    let what = if file && node.mode & 0o6000 != 0 {
        format!("has mode {:04o}", node.mode)
    } else if !node.xattrs.is_empty() {
        "has capabilities".to_owned()
    } else {
        return None;
    };
    (!mode_is_set).then(|| SelectProblem::Privileged { path: shown(path), what, mode: node.mode & 0o7777 })
}

/// Why a link at `path` does not stay below the directory that everything is unpacked into.
///
/// `..` may only stand at the beginning: behind the name of another link it would go up from where that one leads.
fn leads_out(path: &TreePath, target: &[u8]) -> Option<&'static str> {
    if target.starts_with(b"/") {
        return Some("begins at the root");
    }
    let mut depth = path.components().count() - 1;
    let mut down = false;
    for name in target.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if down => return Some("goes up again after going down"),
            b".." if depth == 0 => return Some("leads out of the directory"),
            b".." => depth -= 1,
            _ => down = true,
        }
    }
    None
}

fn nearest(path: &TreePath, named: &BTreeMap<TreePath, &Node>) -> Option<String> {
    let wanted = shown(path);
    let names: Vec<String> = named.keys().map(shown).collect();
    let same_end = names.iter().find(|name| name.ends_with(&format!("/{wanted}")));
    let near = || crate::model::words::nearest(&wanted, names.iter().map(String::as_str));
    same_end.map(String::as_str).or_else(near).map(str::to_owned)
}

fn shown(path: &TreePath) -> String {
    String::from_utf8_lossy(path.as_bytes()).into_owned()
}
