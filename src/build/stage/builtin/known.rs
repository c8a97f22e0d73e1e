//! Which of the image's programs a builtin is the equal of.
//!
//! A script that a later version of its package changes is not the one that was read here, so it runs itself.

use crate::build::stage::failure::Failure;
use crate::build::stage::root::Root;
use crate::digest::Sha256;

/// Whether the file at `path` has one of the hashes (SHA-256, hexadecimal).
pub(super) fn is(root: &Root, path: &str, hashes: &[&str]) -> Result<bool, Failure> {
    let Some(bytes) = root.read(path)? else { return Ok(false) };
    let found = Sha256::of(&bytes).to_string();
    Ok(hashes.contains(&found.as_str()))
}

/// Whether the script at `path` has one of the hashes without the line in which it says its version: it comes with
/// every version of its package and is changed by few.
pub(super) fn is_but_version(root: &Root, path: &str, hashes: &[&str]) -> Result<bool, Failure> {
    let Some(text) = root.read_text(path)? else { return Ok(false) };
    let lines: Vec<_> = text.split_inclusive('\n').filter(|line| !line.starts_with("version=\"")).collect();
    let found = Sha256::of(lines.concat()).to_string();
    Ok(hashes.contains(&found.as_str()))
}
