//! One run of the program: the project, the store, and what the command line and the machine gave it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;

use super::CommandError;
use crate::apt::lockfile::Lock;
use crate::build::stage::Limits;
use crate::model::evaluate::{Evaluated, evaluate};
use crate::model::{self, Project};
use crate::plan::{Plan, Requests, Stale, plan};
use crate::progress::{Event, Reporter, Unit};
use crate::store::{Context as _, Guard, Store, clear, temporary_file};

/// What the command line decides.
#[derive(Debug, Clone)]
pub struct Options {
    /// The project's directory.
    pub root: PathBuf,
    /// Where results go.
    pub results: PathBuf,
    /// The store's directory.
    pub store: PathBuf,
    /// Mirrors to ask first, by archive.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// The root of the file system whose apt configuration names mirrors: `/`.
    pub host: PathBuf,
    /// Threads.
    pub jobs: usize,
    /// Where to build trees; in memory when there is none.
    pub scratch: Option<PathBuf>,
    /// What scripts of packages may use.
    pub limits: Limits,
    /// HTTP proxy, as a URI.
    pub proxy: Option<String>,
    /// The time, for signatures and expiry only.
    pub now: Timestamp,
    /// This program, to start again as the sandbox's worker.
    pub program: PathBuf,
}

/// A checked project and everything needed to work on it.
pub struct Session<'a> {
    /// What the command line decides.
    pub options: Options,
    /// The checked project.
    pub project: Project,
    /// What its images ask of the archives.
    pub requests: Requests,
    /// The store.
    pub store: Store,
    /// Who is told of progress.
    pub reporter: &'a dyn Reporter,
    /// Set when the user wants it to stop.
    pub cancel: &'a AtomicBool,
}

impl<'a> Session<'a> {
    /// Loads and checks the project and opens the store.
    ///
    /// # Errors
    /// All that is wrong with the project; a store that cannot be made.
    pub fn open(
        options: Options,
        reporter: &'a dyn Reporter,
        cancel: &'a AtomicBool,
    ) -> Result<Self, CommandError> {
        let project = model::load(&options.root)?;
        Self::with(options, project, reporter, cancel)
    }

    /// As [`Self::open`], for a project of which only a part is there: see [`model::load_part`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn open_part(
        options: Options,
        reporter: &'a dyn Reporter,
        cancel: &'a AtomicBool,
    ) -> Result<Self, CommandError> {
        let project = model::load_part(&options.root)?;
        Self::with(options, project, reporter, cancel)
    }

    fn with(
        options: Options,
        project: Project,
        reporter: &'a dyn Reporter,
        cancel: &'a AtomicBool,
    ) -> Result<Self, CommandError> {
        let requests = Requests::of(&project);
        let store = Store::open(&options.store)?;
        Ok(Self { options, project, requests, store, reporter, cancel })
    }

    /// The names of `images`, all of the project's when none is given.
    ///
    /// # Errors
    /// When one is not in the project.
    pub fn select(&self, images: &[String]) -> Result<Vec<String>, CommandError> {
        if images.is_empty() {
            return Ok(self.project.images.keys().cloned().collect());
        }
        let unknown: Vec<_> =
            images.iter().filter(|name| !self.project.images.contains_key(*name)).cloned().collect();
        if unknown.is_empty() {
            let mut names = images.to_vec();
            names.sort();
            names.dedup();
            return Ok(names);
        }
        let known = self.project.images.keys().cloned().collect();
        Err(CommandError::UnknownImage { unknown, known })
    }

    /// Where the lock is.
    pub fn lock_path(&self) -> PathBuf {
        self.options.root.join("images").join("images.lock")
    }

    /// The lock; nothing when there is none yet.
    ///
    /// # Errors
    /// When it cannot be read or is not as written.
    pub fn read_lock(&self) -> Result<Option<Lock>, CommandError> {
        read_lock(&self.lock_path())
    }

    /// Writes the lock, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_lock(&self, lock: &Lock) -> Result<(), CommandError> {
        let path = self.lock_path();
        let directory = path.parent().unwrap_or(Path::new("."));
        const PREFIX: &str = ".images.lock-";
        // What killed runs left.
        clear(directory, |name| name.starts_with(PREFIX));
        let mut file = temporary_file(directory, PREFIX).context("make a file in", directory)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(mode).context("write", &path)?;
        io::Write::write_all(&mut file, lock.to_text().as_bytes()).context("write", &path)?;
        file.as_file().sync_data().context("write", &path)?;
        file.persist(&path).map_err(|error| error.error).context("write", &path)?;
        Ok(())
    }

    /// The evaluated image, templates rendered.
    ///
    /// # Errors
    /// What is wrong with its templates.
    pub fn evaluate(&self, image: &str) -> Result<Evaluated, CommandError> {
        Ok(evaluate(&self.project, image)?)
    }

    /// The plan of `image` by `lock`.
    ///
    /// # Errors
    /// Templates, or a lock that does not answer what the image asks.
    pub fn plan(&self, image: &str, lock: &Lock) -> Result<Plan, CommandError> {
        self.plan_knowing(image, lock, &self.requests.stale(lock))
    }

    /// As [`Self::plan`], for who plans many images and has asked once what is `stale` of `lock`.
    ///
    /// # Errors
    /// As there.
    pub(super) fn plan_knowing(
        &self,
        image: &str,
        lock: &Lock,
        stale: &[Stale],
    ) -> Result<Plan, CommandError> {
        let evaluated = self.evaluate(image)?;
        let config = crate::pve::config_for(&evaluated.image, &self.project.site).to_text();
        let parameters = crate::archive::Parameters::default();
        Ok(plan(&self.project, &self.requests, (lock, stale), evaluated, config, parameters)?)
    }

    /// Takes the store's lock `name`. While another process holds it, `subject` is said to be doing `action`; that can be
    /// interrupted.
    ///
    /// # Errors
    /// When the lock file cannot be opened, or [`CommandError::Interrupted`].
    pub(super) fn wait_for(&self, name: &str, subject: &str, action: &str) -> Result<Guard, CommandError> {
        self.wait(subject, action, |wait| Ok(self.store.lock(name, wait)?))
    }

    /// As [`Self::wait_for`], for whatever `take` takes.
    pub(super) fn wait(
        &self,
        subject: &str,
        action: &str,
        take: impl FnOnce(&mut dyn FnMut() -> bool) -> Result<Option<Guard>, CommandError>,
    ) -> Result<Guard, CommandError> {
        let mut told = false;
        let taken = take(&mut || {
            if !std::mem::replace(&mut told, true) {
                let (subject, action) = (subject.to_owned(), action.to_owned());
                self.reporter.report(Event::Stage { subject, action, total: 0, unit: Unit::Packages });
            }
            self.check_cancelled().is_ok()
        });
        if told {
            self.reporter.report(Event::Finished { subject: subject.to_owned() });
        }
        taken?.ok_or(CommandError::Interrupted)
    }

    /// Fails when the user wants it to stop.
    ///
    /// # Errors
    /// [`CommandError::Interrupted`].
    pub fn check_cancelled(&self) -> Result<(), CommandError> {
        if self.cancel.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(CommandError::Interrupted);
        }
        Ok(())
    }
}

/// Reads the lock at `path`; nothing when there is none.
///
/// # Errors
/// When it cannot be read or is not as written.
pub fn read_lock(path: &Path) -> Result<Option<Lock>, CommandError> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Err::<(), _>(error).context("read", path).expect_err("it is an error").into()),
        Ok(text) => Lock::parse(&text)
            .map(Some)
            .map_err(|source| CommandError::LockFile { path: path.display().to_string(), source }),
    }
}
