//! Result directories: made beside their place, renamed into it, recognised again.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::manifest::{Manifest, ManifestError};
use crate::digest::Sha256;
use crate::store::{Context as _, Store, StoreError};
use crate::tree::TreeText;

/// Where the store keeps notes about results.
const NOTES: &str = "results";

/// `result/<image>/` of one image.
#[derive(Debug)]
pub struct ResultDirectory {
    path: PathBuf,
}

/// A result cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// A file of it.
    #[error(transparent)]
    File(#[from] StoreError),
    /// Its manifest.
    #[error("`{path}`: {source}")]
    Manifest {
        /// The manifest's path.
        path: String,
        /// What is wrong with it.
        source: ManifestError,
    },
}

/// What tells a file that is as we left it from one that was touched, without reading it. Kept in the store, it also
/// names the directories whose results the store's objects belong to.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    place: TreeText,
    plan: Sha256,
    manifest: Sha256,
    size: u64,
    inode: u64,
    modified: (i64, i64),
}

impl ResultDirectory {
    /// The result of `image` below `results`.
    pub fn new(results: &Path, image: &str) -> Self {
        Self { path: results.join(image) }
    }

    /// The result in `directory`.
    pub fn at(directory: &Path) -> Self {
        Self { path: directory.to_owned() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The manifest of what is there; nothing when nothing is.
    ///
    /// # Errors
    /// When something is there that cannot be read.
    pub fn manifest(&self) -> Result<Option<Manifest>, ResultError> {
        let path = self.path.join("manifest.json");
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Err::<(), _>(error).context("read", &path).expect_err("it is an error").into()),
            Ok(text) => Manifest::parse(&text)
                .map(Some)
                .map_err(|source| ResultError::Manifest { path: path.display().to_string(), source }),
        }
    }

    /// The manifest, if what is there was made from `plan` and nobody touched it since.
    ///
    /// The archive is not read: size, inode and modification time must be those noted in the store when it was
    /// written. Where there is no such note, or another one, the archive is hashed once.
    pub fn current(&self, plan: Sha256, store: &Store) -> Option<Manifest> {
        let manifest = self.manifest().ok().flatten().filter(|manifest| manifest.plan == plan)?;
        for (entry, hash) in [(&manifest.config, true), (&manifest.sbom, true), (&manifest.archive, false)] {
            let path = self.path.join(&entry.file);
            if fs::metadata(&path).ok()?.len() != entry.size {
                return None;
            }
            if hash && Sha256::of(fs::read(&path).ok()?) != entry.sha256 {
                return None;
            }
        }
        let archive = self.path.join(&manifest.archive.file);
        let note = self.note_path(store);
        let noted = fs::read(&note).ok().and_then(|text| serde_json::from_slice::<Stamp>(&text).ok());
        let stamp = self.stamp(&manifest).ok()?;
        // Nobody else vouches for the manifest.
        if noted.as_ref().is_some_and(|noted| noted.plan == plan && noted.manifest != stamp.manifest) {
            return None;
        }
        if noted.as_ref() != Some(&stamp) {
            let (found, _) = Sha256::of_reader(File::open(&archive).ok()?).ok()?;
            if found != manifest.archive.sha256 {
                return None;
            }
            self.note(&manifest, store).ok()?;
        }
        Some(manifest)
    }

    /// Notes in the store how the archive looks, for [`Self::current`].
    fn note(&self, manifest: &Manifest, store: &Store) -> Result<(), StoreError> {
        let stamp = self.stamp(manifest).context("look at", &self.path)?;
        let note = self.note_path(store);
        let directory = note.parent().unwrap_or(&note);
        fs::create_dir_all(directory).context("make the directory", directory)?;
        let text = serde_json::to_vec(&stamp).map_err(io::Error::other).context("write", &note)?;
        fs::write(&note, text).context("write", &note)
    }

    fn note_path(&self, store: &Store) -> PathBuf {
        let name = Sha256::of(self.place().as_os_str().as_encoded_bytes());
        store.root().join(NOTES).join(name.to_string())
    }

    fn place(&self) -> PathBuf {
        fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone())
    }

    fn stamp(&self, manifest: &Manifest) -> io::Result<Stamp> {
        let metadata = fs::metadata(self.path.join(&manifest.archive.file))?;
        Ok(Stamp {
            place: TreeText(self.place().into_os_string().into_encoded_bytes()),
            plan: manifest.plan,
            manifest: Sha256::of(manifest.to_text()),
            size: metadata.len(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }

    /// Every result that was written with `store` and is still there, of whatever project; and the notes about those
    /// that are gone.
    ///
    /// # Errors
    /// When the store's notes cannot be listed.
    pub fn all(store: &Store) -> Result<(Vec<Manifest>, Vec<PathBuf>), StoreError> {
        use std::os::unix::ffi::OsStringExt as _;
        let directory = store.root().join(NOTES);
        let (mut manifests, mut gone) = (Vec::new(), Vec::new());
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((manifests, gone)),
            entries => entries.context("read", &directory)?,
        };
        for entry in entries {
            let path = entry.context("read", &directory)?.path();
            let stamp = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Stamp>(&text).ok());
            let place = stamp.map(|stamp| PathBuf::from(std::ffi::OsString::from_vec(stamp.place.0)));
            match place.and_then(|path| Self { path }.manifest().ok().flatten()) {
                Some(manifest) => manifests.push(manifest),
                None => gone.push(path),
            }
        }
        Ok((manifests, gone))
    }

    /// A new directory beside the result's place, gone again unless it is committed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn begin(&self) -> Result<tempfile::TempDir, ResultError> {
        let parent = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent).context("make the directory", parent)?;
        let prefix = format!(".{}-", self.path.file_name().unwrap_or_default().to_string_lossy());
        sweep(parent, &prefix);
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent);
        Ok(directory.context("make a directory in", parent)?)
    }

    /// Puts `made`, which holds every file that `manifest` names, in place of what is there.
    ///
    /// # Errors
    /// When a file cannot be written or renamed. What was there before stays then.
    pub fn commit(
        &self,
        made: tempfile::TempDir,
        manifest: &Manifest,
        store: &Store,
    ) -> Result<(), ResultError> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = made.path().join("manifest.json");
        fs::write(&path, manifest.to_text()).context("write", &path)?;
        for entry in fs::read_dir(made.path()).context("read", made.path())? {
            let entry = entry.context("read", made.path())?;
            let file = File::open(entry.path()).context("open", &entry.path())?;
            let mode = fs::Permissions::from_mode(0o644);
            file.set_permissions(mode).and_then(|()| file.sync_data()).context("write", &entry.path())?;
        }
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(made.path(), mode).context("set the mode of", made.path())?;
        // A directory cannot take the place of a full one: exchange the two, then drop the old one with `made`.
        let exchanged = rustix::fs::renameat_with(
            rustix::fs::CWD,
            made.path(),
            rustix::fs::CWD,
            &self.path,
            rustix::fs::RenameFlags::EXCHANGE,
        );
        match exchanged {
            Ok(()) => drop(made),
            Err(rustix::io::Errno::NOENT) => {
                let made = made.keep();
                fs::rename(&made, &self.path).context("make", &self.path)?;
            }
            // A file system without exchange (NFS, some FUSE).
            Err(_) => {
                if self.path.exists() {
                    fs::remove_dir_all(&self.path).context("remove", &self.path)?;
                }
                let made = made.keep();
                fs::rename(&made, &self.path).context("make", &self.path)?;
            }
        }
        Ok(self.note(manifest, store)?)
    }
}

/// Removes what a killed run left beside its result, unless it is younger than a day and may be in use.
fn sweep(parent: &Path, prefix: &str) {
    const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let old = || entry.metadata().ok()?.modified().ok()?.elapsed().ok().filter(|age| *age > DAY);
        if entry.file_name().to_string_lossy().starts_with(prefix) && old().is_some() {
            // Best effort: what stays is ignored by everything else.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
