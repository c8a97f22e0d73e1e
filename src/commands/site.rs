//! `site`: the site's own files, into `result/site/`.

use std::path::PathBuf;

use serde::Serialize;

use super::CommandError;
use super::session::Session;
use crate::artifact::SiteDirectory;
use crate::site;

/// What became of the site's files.
#[derive(Debug, Serialize)]
pub struct SiteWritten {
    /// Where they are.
    pub directory: PathBuf,
    /// All of them, by path.
    pub files: Vec<String>,
    /// Those that are new, differ from what was there, or are gone.
    pub changed: Vec<String>,
}

/// Writes the site's files for `images`, all when none is named. Needs neither a lock nor network nor a built image.
///
/// # Errors
/// An image that there is not; a place that cannot be written.
pub fn site(session: &Session, images: &[String]) -> Result<SiteWritten, CommandError> {
    let images = session.select(images)?;
    let files = site::files(&session.project, &images);
    let directory = SiteDirectory::new(&session.options.results);
    let changed = directory.put(&files)?;
    Ok(SiteWritten {
        directory: directory.path().to_owned(),
        files: files.into_iter().map(|file| file.path).collect(),
        changed,
    })
}
