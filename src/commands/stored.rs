//! The objects of a store, and whose they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::CommandError;
use super::layers::{NOTES, read_note};
use crate::apt::lockfile::Lock;
use crate::archive;
use crate::artifact::{self, ResultDirectory};
use crate::build::secrets::{SCANS, check_scan};
use crate::digest::Sha256;
use crate::layer::{self, LayerError};
use crate::store::{Context as _, Kind, Object, Store, Unusable};

/// An object, there when the store was listed.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// What it is.
    pub object: Object,
    /// Its name, as messages have it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// Where objects are. Frames and states of hashes share a directory.
fn directories(store: &Store) -> [(Object, PathBuf); 8] {
    let kind = |kind: Kind| store.root().join(kind.directory());
    [
        (Object::Deb, kind(Kind::Deb)),
        (Object::Tarball, kind(Kind::Tarball)),
        (Object::Index, kind(Kind::Index)),
        (Object::Layer, kind(Kind::Layer)),
        (Object::Frame, kind(Kind::Frame)),
        (Object::Scan, store.root().join(SCANS)),
        (Object::Note, store.root().join(NOTES)),
        (Object::ResultNote, store.root().join(artifact::NOTES)),
    ]
}

/// All objects whose bytes are trusted later.
pub(super) fn list(store: &Store) -> Result<Vec<Stored>, CommandError> {
    let mut all = Vec::new();
    for (object, directory) in directories(store) {
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.context("read", &directory)?,
        };
        for entry in entries {
            let path = entry.context("read", &directory)?.path();
            let (object, name) = match object {
                Object::Frame => archive::stored_name(&path),
                object => (object, path.file_name().unwrap_or_default().to_string_lossy().into_owned()),
            };
            all.push(Stored { object, name, path });
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

impl Stored {
    /// Compares every byte with what the object's name or its own seal says.
    pub fn check(&self, store: &Store) -> Result<(), Unusable> {
        let damaged = |reason: String| Unusable::Damaged(reason);
        match self.object {
            Object::Deb | Object::Tarball | Object::Index => {
                let expected = self.hash()?;
                let file = fs::File::open(&self.path).map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => Unusable::Missing,
                    _ => damaged(error.to_string()),
                })?;
                let (found, _) = Sha256::of_reader(file).map_err(|error| damaged(error.to_string()))?;
                if found == expected { Ok(()) } else { Err(damaged(format!("it now hashes to {found}"))) }
            }
            Object::Layer => match layer::check(store, self.hash()?) {
                Ok(_) => Ok(()),
                Err(LayerError::Missing(_)) => Err(Unusable::Missing),
                Err(LayerError::Damaged { reason, .. }) => Err(damaged(reason)),
                Err(LayerError::Unreadable { source, .. }) => Err(damaged(source.to_string())),
            },
            Object::Frame | Object::HashState => archive::check_stored(&self.path),
            Object::Scan => check_scan(&self.path),
            Object::Note => read_note(&self.path).map(drop),
            Object::ResultNote | Object::Result => artifact::check_note(&self.path).map(drop),
        }
    }

    fn hash(&self) -> Result<Sha256, Unusable> {
        self.name.parse().map_err(|_| Unusable::Damaged("its name is no hash".to_owned()))
    }

    /// Bytes that it takes; 0 when it is gone by now.
    pub fn size(&self) -> u64 {
        size(&self.path).unwrap_or(0)
    }
}

/// Bytes of a file, or of all files in a directory.
pub(super) fn size(path: &Path) -> io::Result<u64> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    fs::read_dir(path)?.map(|entry| size(&entry?.path())).sum()
}

/// What is known of the objects of a store: from the notes it keeps, the results made with it, and a lock.
#[derive(Debug, Default)]
pub(super) struct Owners {
    names: BTreeMap<(Object, String), BTreeSet<String>>,
}

impl Owners {
    /// Reads all that can be read.
    pub fn of(store: &Store, lock: Option<&Lock>) -> Result<Self, CommandError> {
        let mut owners = Self::default();
        if let Some(lock) = lock {
            owners.add_lock(store, lock);
        }
        for manifest in ResultDirectory::all(store)?.0 {
            let image = format!("image `{}`", manifest.image);
            for package in &manifest.packages {
                owners.add(Object::Deb, package.sha256, format!("`{}` {}", package.name, package.version));
            }
            for tarball in &manifest.tarballs {
                owners.add(Object::Tarball, tarball.sha256, format!("`{}`", tarball.name));
            }
            for key in &manifest.layers {
                owners.add(Object::Layer, key, image.clone());
            }
            let keys: Vec<_> = manifest.frames.iter().filter_map(|frame| frame.key).collect();
            for key in &keys {
                owners.add(Object::Frame, key, image.clone());
            }
            for chain in archive::chain(&keys) {
                owners.add(Object::HashState, chain, image.clone());
            }
        }
        for Stored { object, name, path } in list(store)? {
            match object {
                Object::Note => {
                    let Ok(note) = read_note(&path) else { continue };
                    let recipes = format!("packages of {}", note.recipes.join(" + "));
                    for package in note.job.packages {
                        let owner = format!("`{}` {}", package.name, package.version);
                        owners.add(Object::Deb, package.sha256, owner);
                    }
                    owners.add(Object::Layer, note.key, recipes.clone());
                    owners.add(Object::Note, name, recipes);
                }
                Object::ResultNote => {
                    let Ok(place) = artifact::check_note(&path) else { continue };
                    owners.add(Object::ResultNote, name, format!("`{}`", place.display()));
                }
                _ => {}
            }
        }
        Ok(owners)
    }

    fn add_lock(&mut self, store: &Store, lock: &Lock) {
        for package in &lock.package {
            self.add(Object::Deb, package.sha256, format!("`{}` {}", package.name, package.version));
        }
        for tarball in &lock.tarball {
            self.add(Object::Tarball, tarball.sha256, format!("`{}`", tarball.name));
        }
        for archive in &lock.archive {
            for suite in &archive.suite {
                let of = format!("`{}` of archive `{}`", suite.name, archive.name);
                self.add(Object::Index, suite.inrelease, format!("InRelease of {of}"));
                // The indices that it names.
                let path = store.path(Kind::Index, suite.inrelease);
                let text = fs::read_to_string(path).unwrap_or_default();
                for word in text.split_whitespace().filter(|word| word.parse::<Sha256>().is_ok()) {
                    self.add(Object::Index, word, format!("index of {of}"));
                }
            }
        }
    }

    fn add(&mut self, object: Object, name: impl ToString, owner: String) {
        self.names.entry((object, name.to_string())).or_default().insert(owner);
    }

    /// Whose an object is, as far as that is known.
    pub fn of_object(&self, object: Object, name: &str) -> Vec<String> {
        let (object, name) = match object {
            // `LAYER.RULES`
            Object::Scan => (Object::Layer, name.split('.').next().unwrap_or(name)),
            object => (object, name),
        };
        let found = self.names.get(&(object, name.to_owned()));
        found.into_iter().flatten().cloned().collect()
    }
}
