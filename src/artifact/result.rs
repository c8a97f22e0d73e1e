//! Result directories: made beside their place, renamed into it, recognised again.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::manifest::{FileEntry, Manifest, ManifestError};
use crate::digest::Sha256;
use crate::store::{
    Context as _, Damage, Object, Store, StoreError, TemporaryDirectory, Unusable, clear, read_sealed,
};
use crate::tree::TreeText;

/// Where the store keeps notes about results.
pub(crate) const NOTES: &str = "results";
/// Longest such note that is read, in bytes.
const MAX_NOTE: u64 = 1 << 20;

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
        Ok(self.hashed_manifest()?.map(|(manifest, _)| manifest))
    }

    /// The manifest and the hash of its text.
    fn hashed_manifest(&self) -> Result<Option<(Manifest, Sha256)>, ResultError> {
        let path = self.path.join("manifest.json");
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Err::<(), _>(error).context("read", &path).expect_err("it is an error").into()),
            Ok(text) => Manifest::parse(&text)
                .map(|manifest| Some((manifest, Sha256::of(&text))))
                .map_err(|source| ResultError::Manifest { path: path.display().to_string(), source }),
        }
    }

    /// The manifest, if what is there was made from `plan` and nobody touched it since.
    ///
    /// The archive is not read: size, inode and modification time must be those noted in the store when it was
    /// written. Where there is no such note, or another one, the archive is hashed once. What is there but not as it was
    /// written is noted in the store as damage.
    pub fn current(&self, plan: Sha256, store: &Store) -> Option<Manifest> {
        match self.try_current(plan, store) {
            Ok(manifest) => manifest,
            Err(reason) => {
                store.found_damaged(Damage::new(Object::Result, self.path.display(), reason));
                None
            }
        }
    }

    fn try_current(&self, plan: Sha256, store: &Store) -> Result<Option<Manifest>, String> {
        let (manifest, hash) = match self.hashed_manifest() {
            Ok(Some(found)) => found,
            Err(ResultError::File(error)) if error.is_no_text() => {
                return Err("`manifest.json` is no text".to_owned());
            }
            // What cannot be read at all is no damage; whoever writes there says what is wrong.
            Ok(None) | Err(ResultError::File(_)) => return Ok(None),
            Err(ResultError::Manifest { source, .. }) => return Err(format!("`manifest.json`: {source}")),
        };
        let noted = self.noted(store);
        // Nobody else vouches for the manifest.
        if noted.as_ref().is_some_and(|noted| noted.plan == plan && noted.manifest != hash) {
            return Err("`manifest.json` is not as it was written".to_owned());
        }
        if manifest.plan != plan {
            return Ok(None);
        }
        let other = |entry: &FileEntry| format!("`{}` is not as its manifest says", entry.file);
        for (entry, hash) in [(&manifest.config, true), (&manifest.sbom, true), (&manifest.archive, false)] {
            let path = self.path.join(&entry.file);
            let size = fs::metadata(&path).map(|metadata| metadata.len());
            let same = |bytes: Vec<u8>| Sha256::of(bytes) == entry.sha256;
            if !size.is_ok_and(|size| size == entry.size) || (hash && !fs::read(&path).is_ok_and(same)) {
                return Err(other(entry));
            }
        }
        let stamp = self.stamp(&manifest, hash).map_err(|error| error.to_string())?;
        if noted.as_ref() != Some(&stamp) {
            let archive = File::open(self.path.join(&manifest.archive.file)).and_then(Sha256::of_reader);
            if !archive.is_ok_and(|(found, _)| found == manifest.archive.sha256) {
                return Err(other(&manifest.archive));
            }
            if self.note(&manifest, hash, store).is_err() {
                // Whoever cannot note that would not know it the next time either.
                return Ok(None);
            }
        }
        Ok(Some(manifest))
    }

    /// What was noted of this result when it was written.
    fn noted(&self, store: &Store) -> Option<Stamp> {
        let path = self.note_path(store);
        match read_stamp(&path) {
            Ok(stamp) => Some(stamp),
            Err(Unusable::Missing) => None,
            Err(Unusable::Damaged(reason)) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                store.found_damaged(Damage::new(Object::ResultNote, name, reason));
                None
            }
        }
    }

    /// Notes in the store how the archive looks, for [`Self::current`]. `hash` is that of the manifest's text.
    fn note(&self, manifest: &Manifest, hash: Sha256, store: &Store) -> Result<(), StoreError> {
        let stamp = self.stamp(manifest, hash).context("look at", &self.path)?;
        let note = self.note_path(store);
        let text = serde_json::to_string(&stamp).map_err(io::Error::other).context("write", &note)?;
        store.write_sealed(&note, &text)
    }

    pub(crate) fn note_path(&self, store: &Store) -> PathBuf {
        let name = Sha256::of(self.place().as_os_str().as_encoded_bytes());
        store.root().join(NOTES).join(name.to_string())
    }

    fn place(&self) -> PathBuf {
        fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone())
    }

    fn stamp(&self, manifest: &Manifest, hash: Sha256) -> io::Result<Stamp> {
        let metadata = fs::metadata(self.path.join(&manifest.archive.file))?;
        Ok(Stamp {
            place: TreeText(self.place().into_os_string().into_encoded_bytes()),
            plan: manifest.plan,
            manifest: hash,
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
        let directory = store.root().join(NOTES);
        let (mut manifests, mut gone) = (Vec::new(), Vec::new());
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((manifests, gone)),
            entries => entries.context("read", &directory)?,
        };
        for entry in entries {
            let path = entry.context("read", &directory)?.path();
            let place = read_stamp(&path).ok().map(Stamp::into_place);
            match place.and_then(|path| Self { path }.manifest().ok().flatten()) {
                Some(manifest) => manifests.push(manifest),
                None => gone.push(path),
            }
        }
        Ok((manifests, gone))
    }

    /// Removes what killed runs left beside the results of `images` in `results`.
    pub fn clear_leftovers(results: &Path, images: &[String]) {
        let is_ours = |name: &str| {
            // `.IMAGE-` and what makes it unique.
            let (image, unique) = name.strip_prefix('.')?.rsplit_once('-')?;
            let unique = unique.len() == 6 && unique.bytes().all(|byte| byte.is_ascii_alphanumeric());
            Some(unique && images.iter().any(|other| other == image))
        };
        clear(results, |name| is_ours(name).unwrap_or(false));
    }

    /// A new directory beside the result's place, gone again unless it is committed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn begin(&self) -> Result<TemporaryDirectory, ResultError> {
        let parent = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent).context("make the directory", parent)?;
        let prefix = format!(".{}-", self.path.file_name().unwrap_or_default().to_string_lossy());
        Ok(TemporaryDirectory::new(parent, &prefix).context("make a directory in", parent)?)
    }

    /// Puts `made`, which holds every file that `manifest` names, in place of what is there.
    ///
    /// # Errors
    /// When a file cannot be written or renamed. What was there before stays then.
    pub fn commit(
        &self,
        made: TemporaryDirectory,
        manifest: &Manifest,
        store: &Store,
    ) -> Result<(), ResultError> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = made.path().join("manifest.json");
        let text = manifest.to_text();
        fs::write(&path, &text).context("write", &path)?;
        for entry in fs::read_dir(made.path()).context("read", made.path())? {
            let entry = entry.context("read", made.path())?;
            let file = File::open(entry.path()).context("open", &entry.path())?;
            let mode = fs::Permissions::from_mode(0o644);
            file.set_permissions(mode).and_then(|()| file.sync_data()).context("write", &entry.path())?;
        }
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(made.path(), mode).context("set the mode of", made.path())?;
        self.put(made)?;
        Ok(self.note(manifest, Sha256::of(text), store)?)
    }

    /// Puts `made` in place of what is there. A directory cannot take the place of a full one: the two are exchanged, then
    /// the old one is dropped with `made`.
    pub(super) fn put(&self, made: TemporaryDirectory) -> Result<(), StoreError> {
        // More than once only when another build puts its own there, or takes it away, at the same moment.
        for _ in 0..16 {
            let exchanged = rustix::fs::renameat_with(
                rustix::fs::CWD,
                made.path(),
                rustix::fs::CWD,
                &self.path,
                rustix::fs::RenameFlags::EXCHANGE,
            );
            match exchanged {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::NOENT) => {}
                // A file system without exchange (NFS, some FUSE).
                Err(_) if self.path.exists() => {
                    fs::remove_dir_all(&self.path).context("remove", &self.path)?;
                }
                Err(_) => {}
            }
            match fs::rename(made.path(), &self.path) {
                Ok(()) => {
                    made.keep();
                    return Ok(());
                }
                // Another build has put its own there in between: now there is something to exchange.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                    ) => {}
                Err(error) => return Err(error).context("make", &self.path),
            }
        }
        Err(io::Error::from(io::ErrorKind::ResourceBusy)).context("make", &self.path)
    }
}

/// The stamp at `path`.
fn read_stamp(path: &Path) -> Result<Stamp, Unusable> {
    let text = read_sealed(path, MAX_NOTE)?;
    serde_json::from_str(&text).map_err(|error| Unusable::Damaged(error.to_string()))
}

impl Stamp {
    fn into_place(self) -> PathBuf {
        use std::os::unix::ffi::OsStringExt as _;
        PathBuf::from(std::ffi::OsString::from_vec(self.place.0))
    }
}

/// The place of the result that the note at `path` is about.
pub(crate) fn check_note(path: &Path) -> Result<PathBuf, Unusable> {
    read_stamp(path).map(Stamp::into_place)
}
