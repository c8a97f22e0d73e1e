//! `vendor`: all that the lock names, in a directory that serves as a mirror of every archive.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::lock::fetcher;
use super::session::Session;
use super::{CommandError, tarballs};
use crate::apt::Present;
use crate::apt::lockfile::{Lock, LockedArchive};
use crate::apt::sync::{SyncError, definition, load_archive};
use crate::digest::{HashingWriter, Sha256};
use crate::fetch::{Fetcher, directory_uri, mirror_name};
use crate::model::words;
use crate::progress::Event;
use crate::store::{Context as _, Kind};

/// What a directory holds after `vendor`.
#[derive(Debug, Default, Serialize)]
pub struct Vendored {
    /// Number of packages that the lock names.
    pub packages: usize,
    /// Number of tarballs that the lock names.
    pub tarballs: usize,
    /// Files that were not there already.
    pub new: usize,
    /// Bytes of all files.
    pub size: u64,
    /// The URI of each archive's and tarball's copy, for `--mirror`.
    pub mirrors: BTreeMap<String, String>,
    /// Archives whose signed state nobody has any more: the copy has their packages, but cannot be locked from.
    pub unsigned: Vec<String>,
}

/// Copies the signed state and the .debs of every archive of the lock, and its tarballs, into `directory`: each archive
/// and tarball in a directory of its name. What is there already and right stays; nothing else is touched.
///
/// # Errors
/// When there is no lock, something cannot be had, or the directory cannot be written.
pub fn vendor(session: &Session, directory: &Path) -> Result<Vendored, CommandError> {
    let _used = session.store.use_objects()?;
    let lock = session.read_lock()?.ok_or(CommandError::NoLock)?;
    let named =
        lock.archive.iter().map(|archive| &archive.name).chain(lock.tarball.iter().map(|row| &row.name));
    if let Some(bad) = named.into_iter().find(|name| words::archive_word(name, "archive").is_err()) {
        return Err(CommandError::Failed(format!("the lock has the archive `{bad}`, which is no name")));
    }
    let place = |path: &Path| fs::create_dir_all(path).context("make the directory", path);
    place(directory)?;
    let directory = fs::canonicalize(directory).context("find", directory)?;
    let fetcher = fetcher(session)?;
    let packages: Vec<_> = lock.package.iter().collect();
    let fetched = fetcher.fetch_debs("vendor", &packages, Present::Compared, &lock.archive);
    session.check_cancelled()?;
    let fetched = fetched.map_err(|error| CommandError::failed("cannot fetch packages", &error))?;
    let mut copy = Copy { session, vendored: Vendored::default() };
    for (package, path) in lock.package.iter().zip(fetched) {
        let target = directory.join(&package.archive).join(&package.path);
        copy.file(&path, &target, package.sha256)?;
    }
    copy.vendored.packages = packages.len();
    for archive in &lock.archive {
        let root = directory.join(&archive.name);
        if !signed(&mut copy, &fetcher, archive, &root)? {
            copy.vendored.unsigned.push(archive.name.clone());
        }
        copy.mirror(&archive.name, &root);
    }
    for row in &lock.tarball {
        let path = tarballs::fetch(&fetcher, row);
        session.check_cancelled()?;
        let path = path.map_err(|error| CommandError::failed("cannot fetch tarballs", &error))?;
        let file = mirror_name(&row.url).ok_or_else(|| {
            CommandError::Failed(format!(
                "tarball `{}` has the URL `{}`, which ends in no file name",
                row.name, row.url
            ))
        })?;
        let root = directory.join(&row.name);
        copy.file(&path, &root.join(file), row.sha256)?;
        copy.mirror(&row.name, &root);
        copy.vendored.tarballs += 1;
    }
    warn_of_unlocked(session, &lock);
    Ok(copy.vendored)
}

/// Copies what vouches for an archive: InRelease and the indices; false when nobody has that state any more.
fn signed(
    copy: &mut Copy<'_, '_>,
    fetcher: &Fetcher<'_>,
    locked: &LockedArchive,
    root: &Path,
) -> Result<bool, CommandError> {
    let session = copy.session;
    let archives = session.requests.archives();
    let archive =
        archives.get(locked.name.as_str()).filter(|archive| definition(archive) == locked.definition);
    let Some(archive) = archive else { return Ok(false) };
    let state = match load_archive(archive, locked, fetcher, session.options.now) {
        Ok(state) => state,
        Err(error @ SyncError::Fetch(_)) => {
            session.check_cancelled()?;
            return Err(CommandError::failed("cannot read the archive", &error));
        }
        Err(_) => return Ok(false),
    };
    // InRelease last: who sees it finds what it names.
    for (path, sha256) in state.files.iter().rev() {
        copy.file(&session.store.path(Kind::Index, sha256), &root.join(path), *sha256)?;
    }
    Ok(true)
}

/// What no lock names cannot be copied.
fn warn_of_unlocked(session: &Session, lock: &Lock) {
    let stale = session.requests.stale(lock);
    let images: BTreeSet<_> = session
        .project
        .images
        .keys()
        .filter(|image| {
            let one = BTreeSet::from([(*image).clone()]);
            !session.requests.concerning(&stale, Some(&one)).is_empty()
        })
        .map(|image| format!("`{image}`"))
        .collect();
    if !images.is_empty() {
        let names = images.into_iter().collect::<Vec<_>>().join(", ");
        session.reporter.report(Event::Warning(format!(
            "the lock does not hold all that {names} asks for; the copy cannot either"
        )));
    }
}

struct Copy<'s, 'r> {
    session: &'s Session<'r>,
    vendored: Vendored,
}

impl Copy<'_, '_> {
    fn mirror(&mut self, name: &str, root: &Path) {
        self.vendored.mirrors.insert(name.to_owned(), directory_uri(&root.to_string_lossy()));
    }

    /// Puts a file in its place, whole and right or not at all.
    fn file(&mut self, from: &Path, to: &Path, sha256: Sha256) -> Result<(), CommandError> {
        self.session.check_cancelled()?;
        if let Ok(file) = File::open(to) {
            let (found, size) = Sha256::of_reader(file).context("read", to)?;
            if found == sha256 {
                self.vendored.size += size;
                return Ok(());
            }
        }
        let parent = to.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).context("make the directory", parent)?;
        let made = tempfile::Builder::new()
            .prefix(".vendor-")
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(parent);
        let mut writer = HashingWriter::new(made.context("make a file in", parent)?);
        let mut source = File::open(from).context("open", from)?;
        io::copy(&mut source, &mut writer).context("write", to)?;
        writer.flush().context("write", to)?;
        let (found, size, made) = writer.finish();
        if found != sha256 {
            let from: PathBuf = from.to_owned();
            return Err(CommandError::Failed(format!(
                "`{}` changed while it was copied: expected SHA-256 {sha256}, found {found}",
                from.display()
            )));
        }
        made.as_file().sync_data().context("write", to)?;
        made.persist(to).map_err(|error| error.error).context("make", to)?;
        self.vendored.size += size;
        self.vendored.new += 1;
        Ok(())
    }
}
