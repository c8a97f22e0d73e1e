//! Paths as people write them.

use super::{Complaint, complain, only};
use crate::tree::TreePath;

/// An absolute path without empty, `.` and `..` components, not the root.
pub fn absolute(text: &str) -> Result<TreePath, Complaint> {
    if !text.starts_with('/') {
        return complain(
            format!("`{text}` is not an absolute path"),
            format!("write `/{}`", text.trim_matches('/')),
        );
    }
    if text == "/" {
        return complain("the root itself cannot be named here", "name a directory or file below it");
    }
    let parts: Vec<_> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let clean = format!("/{}", parts.join("/"));
    if let Some(bad) = only(text, |c| !c.is_control()) {
        return complain(
            format!("the path has the control character `{}`", bad.escape_default()),
            "leave it out",
        );
    }
    if clean != text && !parts.contains(&"..") {
        return complain(format!("`{text}` is not in its shortest form"), format!("write `{clean}`"));
    }
    if parts.contains(&"..") {
        return complain(format!("`{text}` has a `..` component"), "write the path that it leads to");
    }
    TreePath::new(text).or_else(|error| complain(error.to_string(), ""))
}

/// A path below some directory of the project or the node, without `.` and `..`.
pub fn relative(text: &str) -> Result<(), Complaint> {
    if text.starts_with('/') {
        return complain(format!("`{text}` is an absolute path"), "write it relative to that directory");
    }
    if text.split('/').any(|part| part == "..") {
        return complain(format!("`{text}` leads out of that directory"), "a path here has no `..`");
    }
    if text.split('/').any(|part| part.is_empty() || part == ".") || text.contains('\0') {
        return complain(
            format!("`{text}` is not a path in its shortest form"),
            "no empty and no `.` components",
        );
    }
    Ok(())
}

/// A path as Proxmox's mount point lines can hold it; there is no way to quote in them.
pub fn mountable(text: &str) -> Result<(), Complaint> {
    match only(text, |c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '@')) {
        Some(bad) => complain(
            format!("`{}` cannot stand in a path of a Proxmox mount point", bad.escape_default()),
            "use letters, digits, `.`, `_`, `-`, `+` and `@`; the mount point line has no quoting",
        ),
        None => Ok(()),
    }
}
