//! Compares a layer with a directory, path by path.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use build_images::tree::{Contents, Kind, Tree, TreePath};

/// What a path is, without its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub kind: String,
    pub mode: u32,
    pub owner: (u32, u32),
    pub xattrs: BTreeMap<String, Vec<u8>>,
    pub content: Vec<u8>,
}

/// A tree as [`Seen`] entries, its hard links as the files that they are.
pub fn of_tree(tree: &Tree, contents: &dyn Contents) -> BTreeMap<TreePath, Seen> {
    let see = |path: &TreePath| {
        let node = &tree[path];
        let (kind, content) = match &node.kind {
            Kind::Directory => ("directory", Vec::new()),
            Kind::File { content } => ("file", contents.read(content).unwrap()),
            Kind::Symlink { target } => ("link", target.0.clone()),
            Kind::Fifo => ("pipe", Vec::new()),
            Kind::Hardlink { .. } => unreachable!("resolved before"),
        };
        let (kind, owner) = (kind.to_owned(), (node.uid, node.gid));
        Seen { kind, mode: node.mode, owner, xattrs: node.xattrs.clone(), content }
    };
    let first = |path: &TreePath| match &tree[path].kind {
        Kind::Hardlink { target } => target.clone(),
        _ => path.clone(),
    };
    tree.keys().map(|path| (path.clone(), see(&first(path)))).collect()
}

/// Everything below a directory.
pub fn of_directory(root: &Path) -> BTreeMap<TreePath, Seen> {
    let mut entries = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        let kind = metadata.file_type();
        let (kind, content) = if kind.is_dir() {
            ("directory", Vec::new())
        } else if kind.is_file() {
            ("file", fs::read(entry.path()).unwrap())
        } else if kind.is_symlink() {
            ("link", fs::read_link(entry.path()).unwrap().as_os_str().as_bytes().to_vec())
        } else if kind.is_fifo() {
            ("pipe", Vec::new())
        } else {
            ("device", Vec::new())
        };
        let path = TreePath::new(entry.path().strip_prefix(root).unwrap().as_os_str().as_bytes()).unwrap();
        let mode = metadata.mode() & 0o7777;
        let (kind, owner) = (kind.to_owned(), (metadata.uid(), metadata.gid()));
        let xattrs = xattrs(entry.path());
        entries.insert(path, Seen { kind, mode, owner, xattrs, content });
    }
    entries
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 65_536];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let names = names.map(|name| String::from_utf8(name.to_vec()).unwrap());
    let names = names.filter(|name| name.starts_with("user.") || name == "security.capability");
    names
        .map(|name| {
            let mut value = vec![0; 65_536];
            let length = rustix::fs::lgetxattr(path, name.as_str(), &mut value[..]).unwrap();
            value.truncate(length);
            (name, value)
        })
        .collect()
}

/// One line for each path that differs.
pub fn differences(
    ours: &BTreeMap<TreePath, Seen>,
    theirs: &BTreeMap<TreePath, Seen>,
) -> Vec<(String, String)> {
    let paths: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let differ = |path: &TreePath| match (ours.get(path), theirs.get(path)) {
        (Some(ours), Some(theirs)) => describe(ours, theirs),
        (Some(ours), None) => Some(format!("only here: {}", ours.kind)),
        (None, Some(theirs)) => Some(format!("missing: {}", theirs.kind)),
        (None, None) => None,
    };
    paths.into_iter().filter_map(|path| Some((path.to_string(), differ(path)?))).collect()
}

fn describe(ours: &Seen, theirs: &Seen) -> Option<String> {
    let mut parts = Vec::new();
    if ours.kind != theirs.kind {
        parts.push(format!("{} instead of {}", ours.kind, theirs.kind));
    }
    if ours.mode != theirs.mode {
        parts.push(format!("mode {:o} instead of {:o}", ours.mode, theirs.mode));
    }
    if ours.owner != theirs.owner {
        parts.push(format!("owner {:?} instead of {:?}", ours.owner, theirs.owner));
    }
    if ours.xattrs != theirs.xattrs {
        parts.push(format!("attributes {:?} instead of {:?}", ours.xattrs, theirs.xattrs));
    }
    if ours.content != theirs.content {
        parts.push(first_difference(&ours.content, &theirs.content));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The first line of each that the other does not have.
fn first_difference(ours: &[u8], theirs: &[u8]) -> String {
    let lines = |bytes: &[u8]| -> Vec<String> {
        String::from_utf8_lossy(bytes).lines().map(|line| line.chars().take(80).collect()).collect()
    };
    let (ours, theirs) = (lines(ours), lines(theirs));
    let only =
        |a: &[String], b: &[String]| a.iter().find(|line| !b.contains(line)).cloned().unwrap_or_default();
    format!("content `{}` instead of `{}`", only(&ours, &theirs), only(&theirs, &ours))
}

/// Writes a tree into an empty directory.
pub fn extract(tree: &Tree, contents: &dyn Contents, root: &Path) {
    use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    for (path, node) in tree {
        let place = root.join(path.as_path());
        match &node.kind {
            Kind::Directory => fs::create_dir(&place).unwrap(),
            Kind::File { content } => fs::write(&place, contents.read(content).unwrap()).unwrap(),
            Kind::Symlink { target } => symlink(std::ffi::OsStr::from_bytes(&target.0), &place).unwrap(),
            Kind::Hardlink { target } => {
                fs::hard_link(root.join(target.as_path()), &place).unwrap();
                continue;
            }
            Kind::Fifo => rustix::fs::mkfifoat(rustix::fs::CWD, &place, 0o600.into()).unwrap(),
        }
        lchown(&place, Some(node.uid), Some(node.gid)).unwrap();
        if !matches!(node.kind, Kind::Symlink { .. }) {
            fs::set_permissions(&place, fs::Permissions::from_mode(node.mode)).unwrap();
        }
    }
}
