//! `lock` and `update`: pins that are missing, pins that move.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use jiff::Timestamp;

use super::session::Session;
use super::{CommandError, LockDiff, diff_locks};
use crate::apt::deb::Deb;
use crate::apt::lockfile::{Lock, LockedArchive, LockedPackage};
use crate::apt::locking::{self, ArchiveSource, ControlFileError, Locking, Missing};
use crate::apt::sources::host_sources;
use crate::apt::sync::{SyncError, SyncedArchive, load_archive, sync_archive};
use crate::fetch::{self, FetchError, Fetcher, Mirrors};
use crate::model::recipe::{Archive, Tarball};
use crate::plan::Stale;
use crate::progress::{Event, Over, Unit};
use crate::store::{Context as _, Kind};

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

    fn tarball(&self, tarball: &Tarball) -> Result<u64, FetchError> {
        let name = &tarball.name;
        let stage = Event::Stage {
            subject: name.clone(),
            action: "fetching a tarball".to_owned(),
            total: 0,
            unit: Unit::Bytes,
        };
        self.fetcher.report(stage);
        let _over = Over { reporter: self.fetcher.reporter(), subject: name };
        let done = Cell::new(0);
        let on_bytes = |bytes: u64| {
            done.set(done.get() + bytes);
            let (subject, item) = (name.clone(), String::new());
            self.fetcher.report(Event::Progress { subject, done: done.get(), item });
        };
        let sources = self.fetcher.tarball_sources(name, &tarball.url);
        let wanted = (Kind::Tarball, tarball.sha256);
        self.fetcher.fetch_unmeasured(&format!("tarball `{name}`"), wanted, &sources, &on_bytes)
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
    let own = &session.project.site;
    let mut site: BTreeMap<String, Vec<String>> =
        own.archives.iter().map(|(name, archive)| (name.clone(), vec![archive.uri.clone()])).collect();
    for (name, uris) in &own.mirrors {
        site.entry(name.clone()).or_default().extend(uris.iter().cloned());
    }
    let archives = session.project.recipes.values().flat_map(|recipe| recipe.archives.values());
    let mirrors = Mirrors {
        given: session.options.mirrors.clone(),
        site,
        host: host_sources(&session.options.host),
        places: archives.map(|archive| (archive.name.clone(), archive.places.clone())).collect(),
    };
    let options = fetch::Options { proxy: session.options.proxy.clone(), ..fetch::Options::default() };
    Fetcher::new(&session.store, mirrors, &options, session.reporter, session.cancel)
        .map_err(|error| CommandError::failed("cannot fetch", &error))
}

/// What `lock` and `update` did.
#[derive(Debug)]
pub struct Locked {
    /// The lock as it is now.
    pub lock: Lock,
    /// What changed.
    pub diff: LockDiff,
    /// What was missing or stale before.
    pub stale: Vec<Stale>,
    /// What could not be had; everything else is locked.
    pub missing: Vec<Missing>,
}

/// Locks what is not locked yet, and writes the lock if that changed anything.
///
/// An archive or tarball that cannot be had is no error: see [`Locked::missing`].
///
/// # Errors
/// Packages that do not fit, a store or a lock that cannot be written.
pub fn lock(session: &Session) -> Result<Locked, CommandError> {
    lock_for(session, None)
}

/// As [`lock`], but only what `images` need; everything when there are none.
pub(super) fn lock_for(session: &Session, images: Option<&BTreeSet<String>>) -> Result<Locked, CommandError> {
    let _used = session.store.use_objects()?;
    // Two processes must not write the same lock at once.
    let _guard = session.wait_for("images.lock", "images.lock", WAITING)?;
    let found = session.read_lock()?;
    let old = found.clone().unwrap_or_default();
    let stale = session.requests.stale(&old);
    let concerned = session.requests.concerning(&stale, images);
    if concerned.is_empty() && found.is_some() {
        let (diff, missing) = (LockDiff::default(), Vec::new());
        return Ok(Locked { lock: old, diff, stale: concerned, missing });
    }
    let Locking { lock: new, missing } = working(session, "locking packages", |source| {
        locking::lock_missing(&session.requests, &old, &stale, images, source)
    })?;
    if new != old.clone().tidy() || (found.is_none() && missing.is_empty()) {
        session.write_lock(&new)?;
    }
    Ok(Locked { diff: diff_locks(&old, &new), lock: new, stale: concerned, missing })
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
    let Locking { lock: new, missing } =
        working(session, "moving pins", |source| locking::update(&session.requests, &old, names, source))?;
    if !dry_run && new != old {
        session.write_lock(&new)?;
    }
    Ok(Locked { diff: diff_locks(&old, &new), lock: new, stale, missing })
}

fn working(
    session: &Session,
    action: &str,
    work: impl FnOnce(&dyn ArchiveSource) -> Result<Locking, locking::LockingError>,
) -> Result<Locking, CommandError> {
    let source = Network { fetcher: fetcher(session)?, now: session.options.now };
    let subject = "images.lock".to_owned();
    let stage =
        Event::Stage { subject: subject.clone(), action: action.to_owned(), total: 0, unit: Unit::Packages };
    session.reporter.report(stage);
    let lock = work(&source);
    session.reporter.report(Event::Finished { subject });
    session.check_cancelled()?;
    lock.map_err(|error| match error {
        locking::LockingError::UnknownName { .. } | locking::LockingError::Tarball { .. } => {
            CommandError::Usage(error.to_string())
        }
        error => CommandError::failed("cannot lock", &error),
    })
}
