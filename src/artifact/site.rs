//! `result/site/`: the site's own files, replaced as a whole when one of them differs.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::result::{ResultDirectory, ResultError};
use crate::site::SiteFile;
use crate::store::Context as _;

/// Its name below the results. No image can have it: `images/site.toml` is the site's.
const NAME: &str = "site";

/// `result/site/`.
#[derive(Debug)]
pub struct SiteDirectory {
    result: ResultDirectory,
}

impl SiteDirectory {
    /// The one below `results`.
    pub fn new(results: &Path) -> Self {
        Self { result: ResultDirectory::new(results, NAME) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.result.path()
    }

    /// Makes it hold `files` and nothing else. Gives the paths of those that are new or differ, and of those that are gone;
    /// when there are none, nothing is written.
    ///
    /// # Errors
    /// When something cannot be written. What was there before stays then.
    pub fn put(&self, files: &[SiteFile]) -> Result<Vec<String>, ResultError> {
        let changed = self.changed(files);
        if changed.is_empty() {
            return Ok(changed);
        }
        let results = self.path().parent().unwrap_or(Path::new("."));
        ResultDirectory::clear_leftovers(results, &[NAME.to_owned()]);
        let made = self.result.begin()?;
        let mut directories: Vec<PathBuf> = vec![made.path().to_owned()];
        for file in files {
            let path = made.path().join(&file.path);
            let directory = path.parent().unwrap_or(made.path());
            if !directories.iter().any(|made| made == directory) {
                fs::create_dir_all(directory).context("make the directory", directory)?;
                directories.extend(
                    directory.ancestors().take_while(|above| *above != made.path()).map(Path::to_owned),
                );
            }
            let mut open = File::create(&path).context("make", &path)?;
            let mode = fs::Permissions::from_mode(mode(file));
            // Nothing waits for the disk: what a power cut takes, the next run sees and writes again.
            open.write_all(file.contents.as_bytes())
                .and_then(|()| open.set_permissions(mode))
                .context("write", &path)?;
        }
        for directory in directories {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&directory, mode).context("set the mode of", &directory)?;
        }
        self.result.put(made)?;
        Ok(changed)
    }

    /// What differs from `files`, by path.
    fn changed(&self, files: &[SiteFile]) -> Vec<String> {
        let same = |file: &&SiteFile| {
            let path = self.path().join(&file.path);
            let status = fs::symlink_metadata(&path);
            let alike = status.is_ok_and(|status| {
                let bits = status.permissions().mode() & 0o7777;
                status.is_file() && status.len() == file.contents.len() as u64 && bits == mode(file)
            });
            alike && fs::read(&path).is_ok_and(|bytes| bytes == file.contents.as_bytes())
        };
        let mut changed: Vec<_> =
            files.iter().filter(|file| !same(file)).map(|file| file.path.clone()).collect();
        for entry in WalkDir::new(self.path()).min_depth(1).into_iter().flatten() {
            let Ok(path) = entry.path().strip_prefix(self.path()) else { continue };
            let path = path.to_string_lossy();
            if !entry.file_type().is_dir() && !files.iter().any(|file| file.path == path) {
                changed.push(path.into_owned());
            }
        }
        changed
    }
}

fn mode(file: &SiteFile) -> u32 {
    if file.executable { 0o755 } else { 0o644 }
}
