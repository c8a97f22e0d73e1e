//! Verified downloads: candidates in order, resume, bounded connections.
//!
//! In: what a lock or a Release file says of a file (size, SHA-256, path in its archive), and where to look for it. Out:
//! a path in the store whose contents were checked. A mirror is never trusted: it decides how fast bytes come, not
//! which. Nothing here looks at the environment or the clock.

mod candidates;
mod download;
mod error;
mod http;
mod partial;
mod unmeasured;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use candidates::{Candidate, Filling, Mirrors, Origin, carrying, directory_uri, file_name, mirror_name};
pub use error::{Attempt, Failure, FetchError, FetchErrors};

use crate::digest::Sha256;
use crate::progress::{Event, Reporter};
use crate::store::{Context as _, Kind, Store, StoreError, touch};

/// How downloads behave.
#[derive(Debug, Clone)]
pub struct Options {
    /// Most connections at once.
    pub workers: usize,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest silence of a server, before and within an answer.
    pub read_timeout: Duration,
    /// The slowest average that is put up with, in bytes a second, after a minute's grace.
    pub slowest: u64,
    /// HTTP proxy, as a URI, if one is to be used.
    pub proxy: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 8,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            slowest: 8 << 10,
            proxy: None,
        }
    }
}

/// Fetches files into a store. One is enough for a whole run: it keeps connections and names of hosts.
pub struct Fetcher<'a> {
    store: &'a Store,
    mirrors: Mirrors,
    workers: usize,
    http: http::Http,
    reporter: &'a dyn Reporter,
    cancel: &'a AtomicBool,
    /// How often in a row a candidate could not be reached, and why. After the second time it is not asked again: a
    /// host that is down would otherwise cost a timeout for every package.
    unreachable: Mutex<BTreeMap<String, (u32, String)>>,
}

/// A file that is wanted, as a lock or a Release file describes it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Where the store keeps it.
    pub kind: Kind,
    /// Its hash.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub size: u64,
}

/// One place where a wanted file may be.
#[derive(Debug, Clone)]
pub struct Source {
    /// The mirror.
    pub candidate: Candidate,
    /// The path below it.
    pub path: String,
}

impl<'a> Fetcher<'a> {
    /// A fetcher that puts files into `store` and stops soon after `cancel` becomes true.
    ///
    /// # Errors
    /// When `options.proxy` is no proxy URI.
    pub fn new(
        store: &'a Store,
        mirrors: Mirrors,
        options: &Options,
        reporter: &'a dyn Reporter,
        cancel: &'a AtomicBool,
    ) -> Result<Self, FetchError> {
        let http = http::Http::new(options)?;
        let workers = options.workers.max(1);
        Ok(Self { store, mirrors, workers, http, reporter, cancel, unreachable: Mutex::default() })
    }

    /// The store that files are put into.
    pub fn store(&self) -> &Store {
        self.store
    }

    /// Where to look for files of `archive`, in order. `record` is its URI of record; `{timestamp}` in it becomes each
    /// of `times`.
    pub fn candidates(&self, archive: &str, record: &str, times: &[jiff::Timestamp]) -> Vec<Candidate> {
        self.mirrors.candidates(archive, record, times)
    }

    /// Further places that may have one package of `archive`, to be asked after all candidates.
    pub fn places(&self, archive: &str, package: Filling<'_>) -> Vec<Source> {
        let places = self.mirrors.places(archive, package);
        places.into_iter().map(|(candidate, path)| Source { candidate, path }).collect()
    }

    /// Where to look for the tarball `name`, in order. `url` is its URL of record.
    pub fn tarball_sources(&self, name: &str, url: &str) -> Vec<Source> {
        let places = self.mirrors.tarball(name, url);
        places.into_iter().map(|(candidate, path)| Source { candidate, path }).collect()
    }

    /// Who is told how far the work is.
    pub(crate) fn reporter(&self) -> &'a dyn Reporter {
        self.reporter
    }

    /// Tells the user how far the work is.
    pub(crate) fn report(&self, event: Event) {
        self.reporter.report(event);
    }

    /// Tells the user something that does not stop the work.
    pub(crate) fn warn(&self, message: String) {
        self.report(Event::Warning(message));
    }

    /// Most connections at once.
    pub(crate) fn workers(&self) -> usize {
        self.workers
    }

    /// Whether the user wants to stop.
    pub(crate) fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// The stored file, when its contents are still what they were. One that changed is removed, with a warning.
    ///
    /// # Errors
    /// When it cannot be read or removed.
    pub fn stored(&self, wanted: &Wanted) -> Result<Option<PathBuf>, StoreError> {
        let path = self.store.path(wanted.kind, wanted.sha256);
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("open", &path),
        };
        let (found, size) = Sha256::of_reader(file).context("read", &path)?;
        if found == wanted.sha256 && size == wanted.size {
            touch(&path);
            return Ok(Some(path));
        }
        self.warn(format!(
            "`{}` changed after it was stored: expected {} bytes with SHA-256 {}, found {size} bytes with {found}; \
             it is removed and fetched again",
            path.display(),
            wanted.size,
            wanted.sha256
        ));
        match fs::remove_file(&path) {
            // Another process noticed it too.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            removed => removed.context("remove", &path).map(|()| None),
        }
    }

    /// The stored file, when it has the size that is wanted; its contents are not looked at.
    pub(crate) fn present(&self, wanted: &Wanted) -> Option<PathBuf> {
        let path = self.store.path(wanted.kind, wanted.sha256);
        let there = fs::metadata(&path).is_ok_and(|found| found.len() == wanted.size);
        there.then(|| {
            touch(&path);
            path
        })
    }

    /// A file of at most `limit` bytes whose hash is not known beforehand, from one candidate.
    ///
    /// # Errors
    /// Why this candidate does not give it.
    pub fn fetch_unchecked(
        &self,
        candidate: &Candidate,
        path: &str,
        limit: u64,
    ) -> Result<Vec<u8>, FetchError> {
        self.whole(candidate, path, limit)
    }

    /// The file in the store, fetched from the first of `sources` that has it, if it is not there yet. `what` names it
    /// in errors; `on_bytes` hears of bytes as they arrive.
    ///
    /// # Errors
    /// When no source gives it, the store cannot be written or the user stops the run.
    pub fn fetch(
        &self,
        what: &str,
        wanted: &Wanted,
        sources: &[Source],
        on_bytes: &dyn Fn(u64),
    ) -> Result<PathBuf, FetchError> {
        match self.stored(wanted)? {
            Some(path) => Ok(path),
            None => self.download(wanted, sources, on_bytes).map_err(|error| error.named(what)),
        }
    }
}
