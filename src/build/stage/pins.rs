//! Pinned users and groups: written before any script could take their ids, checked after every package.

use std::collections::BTreeMap;

use super::failure::Failure;
use super::job::StageJob;
use super::root::{Attributes, Root};
use crate::build::accounts::{AccountFile, Accounts, AccountsError};

/// Seconds in a day.
const DAY: i64 = 86_400;

/// The pins of a job and what was seen of them.
pub(super) struct Pins<'a> {
    job: &'a StageJob,
    pinned: bool,
    broken: Option<(String, String)>,
}

impl<'a> Pins<'a> {
    pub fn new(job: &'a StageJob) -> Self {
        Self { job, pinned: false, broken: None }
    }

    fn none(&self) -> bool {
        self.job.users.is_empty() && self.job.groups.is_empty()
    }

    /// Writes the pinned users and groups, once.
    pub fn pin(&mut self, root: &Root) -> Result<(), Failure> {
        if self.none() || self.pinned {
            return Ok(());
        }
        let mut accounts = read(root)?;
        let before = accounts.texts();
        self.try_pin(&mut accounts)
            .map_err(|error| Failure::Pins { package: None, reason: error.to_string() })?;
        self.pinned = true;
        write(root, &accounts, &before)
    }

    fn try_pin(&self, accounts: &mut Accounts) -> Result<(), AccountsError> {
        accounts.pin(&self.job.users, &self.job.groups, self.job.epoch.div_euclid(DAY))
    }

    /// Looks whether the pins still hold now that `package` is configured. Scripts may be running.
    pub fn look(&mut self, root: &Root, package: &str) {
        if !self.pinned || self.broken.is_some() {
            return;
        }
        // A file that is just being replaced is looked at again after the next package, and at the end.
        if let Ok(mut accounts) = read(root)
            && let Err(error @ AccountsError::Pins(_)) = self.try_pin(&mut accounts)
        {
            self.broken = Some((package.to_owned(), error.to_string()));
        }
    }

    /// Fails when a package broke a pin.
    pub fn blame(&mut self) -> Result<(), Failure> {
        match self.broken.take() {
            Some((package, reason)) => Err(Failure::Pins { package: Some(package), reason }),
            None => Ok(()),
        }
    }

    /// After the last script: joins users to groups that packages made, and checks everything.
    pub fn settle(&mut self, root: &Root) -> Result<(), Failure> {
        if self.none() {
            return Ok(());
        }
        self.pin(root)?;
        let mut accounts = read(root)?;
        let before = accounts.texts();
        accounts
            .settle(&self.job.users, &self.job.groups)
            .map_err(|error| Failure::Pins { package: None, reason: error.to_string() })?;
        write(root, &accounts, &before)
    }
}

fn read(root: &Root) -> Result<Accounts, Failure> {
    let mut files = BTreeMap::new();
    for file in AccountFile::ALL {
        files.extend(root.read(file.path())?.map(|bytes| (file, bytes)));
    }
    Accounts::parse(&files).map_err(|error| Failure::Pins { package: None, reason: error.to_string() })
}

/// Writes the files that changed, with the owner and mode they have.
fn write(root: &Root, accounts: &Accounts, before: &BTreeMap<AccountFile, String>) -> Result<(), Failure> {
    for (file, text) in accounts.texts() {
        if before.get(&file) == Some(&text) {
            continue;
        }
        if let Some(stat) = root.stat(file.path().as_bytes())? {
            let attributes = Attributes { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid };
            root.write(file.path(), text.as_bytes(), attributes)?;
        }
    }
    Ok(())
}
