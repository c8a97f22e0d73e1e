//! Finding and changing entries of a [`Tree`] as the kernel would: through symbolic links, with parents made.

use std::collections::VecDeque;

use crate::tree::{Kind, Node, Tree, TreePath};

/// Most symbolic links that are followed for one path, as in Linux.
const MAX_LINKS: usize = 40;

/// A path leads nowhere in this tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Something on the way is no directory.
    #[error("`{at}` is not a directory")]
    NotADirectory {
        /// What is in the way.
        at: TreePath,
    },
    /// Links lead to links without end.
    #[error("more than {MAX_LINKS} symbolic links, the last one `{at}`")]
    LinkLoop {
        /// The last link followed.
        at: TreePath,
    },
    /// The path is the root itself, or longer than the kernel takes.
    #[error("it leads to no entry below the root")]
    Nowhere,
}

/// Where an entry `path` would really be: every link among its parents followed, its last component not.
///
/// # Errors
/// See [`PlaceError`]. That nothing is there is none.
pub fn resolve_parent(tree: &Tree, path: &TreePath) -> Result<TreePath, PlaceError> {
    walk(tree, path, false)
}

/// As [`resolve_parent`], with the last component followed too.
///
/// # Errors
/// See [`PlaceError`].
pub fn resolve(tree: &Tree, path: &TreePath) -> Result<TreePath, PlaceError> {
    walk(tree, path, true)
}

fn walk(tree: &Tree, path: &TreePath, follow_last: bool) -> Result<TreePath, PlaceError> {
    let mut rest: VecDeque<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
    let mut current: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        match &*name {
            b"" | b"." => continue,
            b".." => {
                current.pop();
                continue;
            }
            _ => current.push(name),
        }
        let here = TreePath::new(current.join(&b'/')).map_err(|_| PlaceError::Nowhere)?;
        match tree.get(&here).map(|node| &node.kind) {
            Some(Kind::Symlink { target }) if follow_last || !rest.is_empty() => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(PlaceError::LinkLoop { at: here });
                }
                if target.0.starts_with(b"/") {
                    current.clear();
                } else {
                    current.pop();
                }
                for name in target.0.split(|byte| *byte == b'/').rev() {
                    rest.push_front(name.to_vec());
                }
            }
            Some(Kind::Directory | Kind::Symlink { .. }) | None => {}
            Some(_) if rest.is_empty() => {}
            Some(_) => return Err(PlaceError::NotADirectory { at: here }),
        }
    }
    TreePath::new(current.join(&b'/')).map_err(|_| PlaceError::Nowhere)
}

/// Everything below a directory, itself not included, in order.
pub fn below<'a>(
    tree: &'a Tree,
    directory: &TreePath,
) -> impl Iterator<Item = (&'a TreePath, &'a Node)> + use<'a> {
    let directory = directory.clone();
    // A name cannot be shorter or smaller than this one, so nothing below sorts before it.
    let first = directory.join([1]).ok();
    first
        .into_iter()
        .flat_map(|first| tree.range(first..))
        .take_while(move |(path, _)| path.is_within(&directory))
}

/// Puts an entry in place of whatever is there, and makes missing parents (0755, owned by root, `mtime`).
/// `path` must have come from [`resolve_parent`].
pub fn put(tree: &mut Tree, path: TreePath, node: Node, mtime: i64) {
    for parent in path.ancestors().skip(1) {
        tree.entry(parent).or_insert_with(|| Node::directory(0o755, mtime));
    }
    remove(tree, &path);
    tree.insert(path, node);
}

/// Removes an entry, and everything below it. Other names of a removed file live on.
pub fn remove(tree: &mut Tree, path: &TreePath) -> Option<Node> {
    let inside: Vec<TreePath> = below(tree, path).map(|(path, _)| path.clone()).collect();
    for path in inside.iter().rev() {
        remove_one(tree, path);
    }
    remove_one(tree, path)
}

fn remove_one(tree: &mut Tree, path: &TreePath) -> Option<Node> {
    let removed = tree.remove(path)?;
    if let Kind::File { content } = removed.kind {
        let names =
            tree.iter().filter(|(_, node)| matches!(&node.kind, Kind::Hardlink { target } if target == path));
        let mut names: Vec<TreePath> = names.map(|(path, _)| path.clone()).collect();
        if !names.is_empty() {
            // The first name left becomes the file, the others now mean that one.
            let first = names.remove(0);
            for name in names {
                if let Some(node) = tree.get_mut(&name) {
                    node.kind = Kind::Hardlink { target: first.clone() };
                }
            }
            tree.insert(first, Node { kind: Kind::File { content }, ..removed.clone() });
        }
    }
    Some(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Content;

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn tree(entries: &[(&str, Node)]) -> Tree {
        entries.iter().map(|(text, node)| (path(text), node.clone())).collect()
    }

    #[test]
    fn links_are_followed_inside_the_root() {
        let directory = || Node::directory(0o755, 0);
        let tree = tree(&[
            ("lib", Node::symlink("usr/lib", 0)),
            ("loop", Node::symlink("loop", 0)),
            ("up", Node::symlink("../../../etc/./x", 0)),
            ("usr", directory()),
            ("usr/lib", directory()),
            ("usr/lib/abs", Node::symlink("/lib/there", 0)),
            ("usr/lib/file", Node::file(Content::of(b""), 0o644, 0)),
        ]);
        let shown = |result: Result<TreePath, PlaceError>| match result {
            Ok(path) => path.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown(resolve_parent(&tree, &path("lib/new/x"))), "/usr/lib/new/x");
        assert_eq!(shown(resolve_parent(&tree, &path("lib"))), "/lib");
        assert_eq!(shown(resolve(&tree, &path("lib/abs"))), "/usr/lib/there");
        assert_eq!(shown(resolve(&tree, &path("up"))), "/etc/x");
        assert_eq!(shown(resolve(&tree, &path("lib/file/x"))), "`/usr/lib/file` is not a directory");
        assert_eq!(shown(resolve(&tree, &path("loop"))), "more than 40 symbolic links, the last one `/loop`");
    }

    #[test]
    fn other_names_of_a_removed_file_keep_its_content() {
        let content = Content::of(b"x");
        let name = |target: &str| Node {
            kind: Kind::Hardlink { target: path(target) },
            ..Node::file(content, 0o755, 0)
        };
        let mut tree = tree(&[
            ("d", Node::directory(0o755, 0)),
            ("d-e", name("d/a")),
            ("d/a", Node::file(content, 0o755, 3)),
            ("e", name("d/a")),
        ]);
        remove(&mut tree, &path("d"));
        assert_eq!(tree.keys().map(ToString::to_string).collect::<Vec<_>>(), ["/d-e", "/e"]);
        assert_eq!(tree[&path("d-e")], Node::file(content, 0o755, 3));
        assert_eq!(tree[&path("e")].kind, Kind::Hardlink { target: path("d-e") });
    }

    #[test]
    fn below_is_not_fooled_by_names_that_sort_between() {
        let file = || Node::file(Content::of(b""), 0o644, 0);
        let mut tree =
            tree(&[("a", Node::directory(0o755, 0)), ("a-b", file()), ("a/b", file()), ("a0", file())]);
        assert_eq!(below(&tree, &path("a")).map(|(path, _)| path.to_string()).collect::<Vec<_>>(), ["/a/b"]);
        put(&mut tree, path("x/y/z"), file(), 9);
        assert_eq!(tree[&path("x/y")], Node::directory(0o755, 9));
    }
}
