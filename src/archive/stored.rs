//! What the store keeps of archives, named and checked.

use std::path::Path;

use super::{frame, running};
use crate::digest::Sha256;
use crate::store::{Object, Unusable};

/// What the file at `path` below the store's `frames/` is, a frame or a state of an archive's hash, and by which key it is
/// called.
pub(crate) fn stored_name(path: &Path) -> (Object, String) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match name.strip_suffix(running::SUFFIX) {
        Some(chain) => (Object::HashState, chain.to_owned()),
        None => (Object::Frame, name.into_owned()),
    }
}

/// Checks every byte of that file.
///
/// # Errors
/// When it is damaged, or gone.
pub(crate) fn check_stored(path: &Path) -> Result<(), Unusable> {
    let (object, name) = stored_name(path);
    let key = name.parse::<Sha256>().map_err(|_| Unusable::Damaged("its name is no hash".to_owned()))?;
    match object {
        Object::HashState => running::read(path, key).map(drop),
        _ => frame::read(path).map(drop),
    }
}
