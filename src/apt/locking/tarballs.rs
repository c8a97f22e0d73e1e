//! Tarballs of recipes: pinned by the recipe, measured once.

use std::collections::BTreeSet;

use super::missing::{Lacking, Missing};
use super::{ArchiveSource, Locking, LockingError};
use crate::apt::lockfile::{Lock, LockedTarball};
use crate::apt::sync::SyncError;
use crate::fetch::FetchError;
use crate::plan::{Requests, TarballRequest};

/// Adds the tarballs to `locking`: those of `old` that are still asked for, and the others that `wanted` images need.
pub(super) fn lock(
    requests: &Requests,
    old: &Lock,
    wanted: impl Fn(&BTreeSet<String>) -> bool,
    mut locking: Locking,
    source: &dyn ArchiveSource,
) -> Result<Locking, LockingError> {
    for (name, TarballRequest { tarball, images }) in &requests.tarballs {
        let row = old.tarball(name);
        let (url, sha256) = (tarball.url.clone(), tarball.sha256);
        let size = match row {
            // Only the hash says what it is; how long that is does not change with the URL.
            Some(row) if row.sha256 == sha256 => Ok(row.size),
            _ if !wanted(images) => {
                locking.lock.tarball.extend(row.cloned());
                continue;
            }
            _ => source.tarball(tarball),
        };
        match size {
            Ok(size) => locking.lock.tarball.push(LockedTarball { name: name.clone(), url, size, sha256 }),
            Err(error @ (FetchError::Store(_) | FetchError::Cancelled)) => {
                return Err(SyncError::Fetch(error).into());
            }
            Err(error) => {
                locking.lock.tarball.extend(row.cloned());
                locking.missing.push(Missing {
                    name: name.clone(),
                    locked: row.is_some(),
                    images: images.clone(),
                    lacking: Lacking::Tarball(error),
                });
            }
        }
    }
    locking.lock = locking.lock.tidy();
    Ok(locking)
}
