//! `lock` and `update`: pins that are missing, pins that move.

use std::fs::File;

use jiff::Timestamp;

use super::session::Session;
use super::{CommandError, LockDiff, diff_locks};
use crate::apt::deb::Deb;
use crate::apt::lockfile::{Lock, LockedArchive, LockedPackage};
use crate::apt::locking::{self, ArchiveSource, ControlFileError};
use crate::apt::sources::host_sources;
use crate::apt::sync::{SyncError, SyncedArchive, load_archive, sync_archive};
use crate::fetch::{self, FetchError, Fetcher, Mirrors};
use crate::model::recipe::Archive;
use crate::plan::Stale;
use crate::progress::{Event, Unit};
use crate::store::Context as _;

/// What is said while another process locks.
const WAITING: &str = "waiting for another run that locks";

/// Archives as mirrors offer them.
struct Network<'a> {
    fetcher: Fetcher<'a>,
    now: Timestamp,
}

impl ArchiveSource for Network<'_> {
    fn newest(
        &self,
        archive: &Archive,
        previous: Option<&LockedArchive>,
    ) -> Result<SyncedArchive, SyncError> {
        sync_archive(archive, previous, &self.fetcher, self.now)
    }

    fn pinned(&self, archive: &Archive, locked: &LockedArchive) -> Result<SyncedArchive, SyncError> {
        load_archive(archive, locked, &self.fetcher, self.now)
    }

    fn control(&self, package: &LockedPackage, archive: &LockedArchive) -> Result<String, ControlFileError> {
        let path = self.fetcher.fetch_deb(package, archive)?;
        let opened = File::open(&path).context("open", &path).map_err(FetchError::from)?;
        let text = Deb::open(opened).and_then(|deb| deb.control());
        let read = text.map(|control| control.text);
        read.map_err(|source| ControlFileError::Deb { package: package.name.clone(), source })
    }
}

/// A fetcher that asks the places this session's command line, site and host name.
pub(super) fn fetcher<'a>(session: &'a Session) -> Result<Fetcher<'a>, CommandError> {
    let mirrors = Mirrors {
        given: session.options.mirrors.clone(),
        site: session.project.site.mirrors.clone(),
        host: host_sources(&session.options.host),
    };
    let options = fetch::Options { proxy: session.options.proxy.clone(), ..fetch::Options::default() };
    Fetcher::new(&session.store, mirrors, &options, session.reporter, session.cancel)
        .map_err(|error| CommandError::failed("cannot fetch", &error))
}

/// What `lock` and `update` did.
#[derive(Debug, Clone, PartialEq)]
pub struct Locked {
    /// The lock as it is now.
    pub lock: Lock,
    /// What changed.
    pub diff: LockDiff,
    /// What was missing or stale before.
    pub stale: Vec<Stale>,
}

/// Locks what is not locked yet, and writes the lock if that changed anything.
///
/// # Errors
/// Archives that cannot be had or trusted, packages that do not fit.
pub fn lock(session: &Session) -> Result<Locked, CommandError> {
    let _used = session.store.use_objects()?;
    // Two processes must not write the same lock at once.
    let _guard = session.wait_for("images.lock", "images.lock", WAITING)?;
    let found = session.read_lock()?;
    let old = found.clone().unwrap_or_default();
    let stale = session.requests.stale(&old);
    if stale.is_empty() && found.is_some() {
        return Ok(Locked { lock: old, diff: LockDiff::default(), stale });
    }
    let new = working(session, "locking packages", |source| {
        locking::lock_missing(&session.requests, &old, &stale, source)
    })?;
    session.write_lock(&new)?;
    Ok(Locked { diff: diff_locks(&old, &new), lock: new, stale })
}

/// The lock that answers every request of the project, made or completed if need be.
pub(super) fn ensure(session: &Session) -> Result<Lock, CommandError> {
    Ok(lock(session)?.lock)
}

/// Moves the pins of `names`, or all of them, and writes the lock unless `dry_run`.
///
/// # Errors
/// As [`lock`]; a name that is neither archive nor package.
pub fn update(session: &Session, names: &[String], dry_run: bool) -> Result<Locked, CommandError> {
    let _used = session.store.use_objects()?;
    let _guard = session.wait_for("images.lock", "images.lock", WAITING)?;
    let old = session.read_lock()?.unwrap_or_default();
    let stale = session.requests.stale(&old);
    let new =
        working(session, "moving pins", |source| locking::update(&session.requests, &old, names, source))?;
    if !dry_run && new != old {
        session.write_lock(&new)?;
    }
    Ok(Locked { diff: diff_locks(&old, &new), lock: new, stale })
}

fn working(
    session: &Session,
    action: &str,
    work: impl FnOnce(&dyn ArchiveSource) -> Result<Lock, locking::LockingError>,
) -> Result<Lock, CommandError> {
    let source = Network { fetcher: fetcher(session)?, now: session.options.now };
    let subject = "images.lock".to_owned();
    let stage =
        Event::Stage { subject: subject.clone(), action: action.to_owned(), total: 0, unit: Unit::Packages };
    session.reporter.report(stage);
    let lock = work(&source);
    session.reporter.report(Event::Finished { subject });
    session.check_cancelled()?;
    lock.map_err(|error| match error {
        locking::LockingError::UnknownName { .. } => CommandError::Usage(error.to_string()),
        error => CommandError::failed("cannot lock", &error),
    })
}
