//! `verify`: an artifact against its manifest, or against what building it again gives.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use serde::Serialize;

use super::CommandError;
use super::artifact_diff::{files, locate};
use super::build::build_one;
use super::session::Session;
use crate::archive;
use crate::artifact::{FileEntry, Manifest, ResultDirectory};
use crate::digest::Sha256;
use crate::store::{Context as _, Kind};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The image.
    pub image: String,
    /// Each file and whether it is as the manifest says.
    pub files: Vec<VerifiedFile>,
    /// What is wrong with the archive's inside: frames, members, the tar's hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_problem: Option<String>,
    /// How it compares with an artifact that was built again, if one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebuilt: Option<Rebuilt>,
}

/// One file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifiedFile {
    /// Its name.
    pub file: String,
    /// What the manifest says it hashes to.
    pub expected: Sha256,
    /// What it hashes to; nothing when it is not there.
    pub found: Option<Sha256>,
}

/// How an artifact compares with the same one built again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rebuilt {
    /// Files that are not the same.
    pub different: Vec<String>,
    /// Where the archives differ first, when they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_difference: Option<String>,
}

impl VerifiedFile {
    fn good(&self) -> bool {
        self.found == Some(self.expected)
    }
}

impl Verified {
    /// Whether everything is as it should be.
    pub fn good(&self) -> bool {
        let same = self.rebuilt.as_ref().is_none_or(|rebuilt| rebuilt.different.is_empty());
        self.files.iter().all(VerifiedFile::good) && self.archive_problem.is_none() && same
    }

    /// The same for people.
    pub fn text(&self) -> String {
        let line = |file: &VerifiedFile| match &file.found {
            Some(found) if file.good() => format!("good  {} {found}\n", file.file),
            Some(found) => format!("BAD   {}: expected {}, found {found}\n", file.file, file.expected),
            None => format!("BAD   {}: it is not there\n", file.file),
        };
        let mut text: String = self.files.iter().map(line).collect();
        if let Some(problem) = &self.archive_problem {
            text.push_str(&format!("BAD   the archive: {problem}\n"));
        }
        match &self.rebuilt {
            Some(rebuilt) if rebuilt.different.is_empty() => {
                text.push_str("good  building it again gives the same bytes\n");
            }
            Some(Rebuilt { different, first_difference }) => {
                let names = different.join(", ");
                text.push_str(&format!("BAD   building it again gives other bytes: {names}\n"));
                if let Some(first) = first_difference {
                    text.push_str(&format!("      first difference: {first}\n"));
                }
            }
            None => {}
        }
        text
    }
}

/// Checks the artifact at `path`, an artifact's directory or its archive, against its manifest: the hash of each file,
/// each frame of the archive, and the tar inside.
///
/// # Errors
/// When there is no artifact, or a file of it cannot be read.
pub fn verify(path: &Path) -> Result<Verified, CommandError> {
    let (archive, manifest) = artifact(path)?;
    let directory = archive.parent().unwrap_or(Path::new("."));
    let check = |entry: &FileEntry| -> Result<VerifiedFile, CommandError> {
        let path = directory.join(entry.file_name()?);
        let found = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            file => Some(Sha256::of_reader(file.context("open", &path)?).context("read", &path)?.0),
        };
        Ok(VerifiedFile { file: entry.file.clone(), expected: entry.sha256, found })
    };
    let files = [&manifest.archive, &manifest.config, &manifest.sbom].into_iter().map(check);
    let files: Vec<_> = files.collect::<Result<_, _>>()?;
    let there = files.first().is_some_and(|file| file.found.is_some());
    Ok(Verified {
        image: manifest.image.clone(),
        archive_problem: there.then(|| archive_problem(&archive, &manifest)).flatten(),
        files,
        rebuilt: None,
    })
}

fn artifact(path: &Path) -> Result<(std::path::PathBuf, Manifest), CommandError> {
    let (archive, manifest) = locate(path)?;
    let manifest = manifest.ok_or_else(|| {
        CommandError::Usage(format!("no manifest.json beside `{}` names it", path.display()))
    })?;
    Ok((archive, manifest))
}

fn archive_problem(path: &Path, manifest: &Manifest) -> Option<String> {
    // Without the table at its end, a file that is cut off where a frame ends would read well.
    let table = File::open(path).map_err(Into::into).and_then(|mut file| archive::read_table(&mut file));
    let table = match table {
        Ok((table, _)) => table,
        Err(error) => return Some(error.to_string()),
    };
    let archive = match archive::read(path, &[]) {
        Ok(archive) => archive,
        Err(error) => return Some(error.to_string()),
    };
    if archive.tar_sha256 != manifest.tar.sha256 || table.tar_size != manifest.tar.size {
        let (expected, found) = (manifest.tar.sha256, archive.tar_sha256);
        return Some(format!("the tar in it hashes to {found}, the manifest says {expected}"));
    }
    let named = manifest.frames.iter().map(|frame| &frame.frame);
    if !named.eq(table.frames.iter()) {
        return Some("its frame table is not the one that the manifest has".to_owned());
    }
    None
}

/// As [`verify`], then builds the image again and compares every byte. Packages may come from the store, layers and
/// frames may not.
///
/// # Errors
/// As [`verify`]; also when the project no longer has the plan that the artifact was built from, or cannot be built.
pub fn rebuild(session: &Session, path: &Path) -> Result<Verified, CommandError> {
    let mut verified = verify(path)?;
    let (archive, manifest) = artifact(path)?;
    let image = &manifest.image;
    session.select(std::slice::from_ref(image))?;
    let lock = session.read_lock()?.ok_or(CommandError::NoLock)?;
    let planned = session.plan(image, &lock)?.key;
    if planned != manifest.plan {
        let message = format!(
            "`{}` was built from plan {}, the project as it is now has plan {planned} for `{image}`; rebuild it from the \
             project's state of then",
            path.display(),
            manifest.plan
        );
        return Err(CommandError::Usage(message));
    }
    let _used = session.store.use_objects()?;
    let place = session.store.create_directory()?;
    let mut options = session.options.clone();
    options.store = place.path().join("store");
    options.results = place.path().join("result");
    fs::create_dir(&options.store).context("make the directory", &options.store)?;
    for kind in [Kind::Deb, Kind::Tarball, Kind::Index, Kind::Partial] {
        let link = options.store.join(kind.directory());
        let target = session.store.root().join(kind.directory());
        let target = fs::canonicalize(&target).context("find", &target)?;
        symlink(target, &link).context("make", &link)?;
    }
    let again = Session::open(options, session.reporter, session.cancel)?;
    build_one(&again, &again.plan(image, &lock)?)?;
    let directory = archive.parent().unwrap_or(Path::new("."));
    let result = ResultDirectory::new(&again.options.results, image);
    verified.rebuilt = Some(compare_artifacts(directory, result.path(), &manifest)?);
    Ok(verified)
}

/// Compares the files that `manifest` names, and the manifests themselves, in two directories.
///
/// # Errors
/// When a file cannot be read.
pub fn compare_artifacts(old: &Path, new: &Path, manifest: &Manifest) -> Result<Rebuilt, CommandError> {
    let hash = |path: &Path| -> Result<Option<Sha256>, CommandError> {
        match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            file => Ok(Some(Sha256::of_reader(file.context("open", path)?).context("read", path)?.0)),
        }
    };
    let mut different = Vec::new();
    for name in [&manifest.archive.file, &manifest.config.file, &manifest.sbom.file, "manifest.json"] {
        if hash(&old.join(name))? != hash(&new.join(name))? {
            different.push(name.to_owned());
        }
    }
    let archive = &manifest.archive.file;
    let first_difference = different.contains(archive).then(|| {
        let read = |directory: &Path| archive::read(&directory.join(archive), &[]);
        match (read(old), read(new)) {
            (Ok(before), Ok(after)) => match files(&before.tree, &after.tree).into_iter().next() {
                Some(change) => {
                    let side = |side: Option<String>| side.unwrap_or_else(|| "not there".to_owned());
                    let what = change.what.join(", ");
                    let what = if what.is_empty() { what } else { format!(" ({what})") };
                    format!("{}: {}, built again {}{what}", change.path, side(change.old), side(change.new))
                }
                None if before.tar_sha256 == after.tar_sha256 => "only how the tar is compressed".to_owned(),
                None => "times or the order of members".to_owned(),
            },
            (Err(error), _) | (_, Err(error)) => error.to_string(),
        }
    });
    Ok(Rebuilt { different, first_difference })
}
