//! One file, from the first place that gives it whole and right.

use std::io::Read;
use std::path::PathBuf;

use super::candidates::Candidate;
use super::error::{Attempt, Failure, FetchError};
use super::http::{Answer, join};
use super::partial::Partial;
use super::{Fetcher, Source, Wanted};
use crate::store::StoreError;

/// Bytes read at a time; between two reads a stop is noticed.
pub(super) const CHUNK: usize = 64 << 10;

/// How often one place is asked for one file when its answers break off.
const TRIES: u32 = 3;

/// Why an attempt ended without a file.
pub(super) enum Stop {
    /// The next place may help.
    Failure(Failure),
    /// No place can help.
    Store(StoreError),
    Cancelled,
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Fetcher<'_> {
    /// Fetches `wanted` into the store. `on_bytes` hears of every byte that arrives.
    pub(super) fn download(
        &self,
        wanted: &Wanted,
        sources: &[Source],
        on_bytes: &dyn Fn(u64),
    ) -> Result<PathBuf, FetchError> {
        let partial = Partial::open(self.store, wanted, || self.cancelled())?;
        let mut partial = partial.ok_or(FetchError::Cancelled)?;
        // Another process may have finished it while this one waited.
        if let Some(path) = self.stored(wanted)? {
            partial.discard_if_empty();
            return Ok(path);
        }
        let mut attempts = Vec::new();
        for source in sources {
            let uri = join(&source.candidate.uri, &source.path);
            match self.complete(&mut partial, wanted, &source.candidate, &uri, on_bytes) {
                Ok(()) => return Ok(partial.commit(self.store, wanted)?),
                Err(Stop::Store(error)) => return Err(error.into()),
                Err(Stop::Cancelled) => return Err(FetchError::Cancelled),
                Err(Stop::Failure(failure)) => {
                    attempts.push(Attempt { origin: source.candidate.origin, uri, failure });
                }
            }
        }
        partial.discard_if_empty();
        Err(FetchError::Exhausted { what: wanted.sha256.to_string(), attempts })
    }

    /// Completes `partial` from one place, going on where an answer broke off as long as it gets longer.
    fn complete(
        &self,
        partial: &mut Partial,
        wanted: &Wanted,
        candidate: &Candidate,
        uri: &str,
        on_bytes: &dyn Fn(u64),
    ) -> Result<(), Stop> {
        if let Some(reason) = self.given_up(candidate) {
            return Err(Failure::Unreachable { reason }.into());
        }
        let mut left = TRIES;
        loop {
            left -= 1;
            let before = partial.length();
            let result = self.attempt(partial, wanted, uri, on_bytes);
            let failure = match result {
                Err(Stop::Failure(failure)) => failure,
                other => {
                    self.reached(candidate);
                    return other;
                }
            };
            let again = match &failure {
                // What was there before, perhaps from another place or a crashed run, may have been the bad part.
                Failure::Mismatch { .. } | Failure::TooLong { .. } | Failure::Status { status: 416 } => {
                    before > 0
                }
                // A connection that was kept open may have been closed on the other side just then.
                Failure::NoAnswer { .. } => left + 1 == TRIES,
                failure => failure.is_transient() && partial.length() > before,
            };
            self.note(candidate, &failure);
            if let Failure::Mismatch { .. } | Failure::TooLong { .. } | Failure::Status { status: 416 } =
                failure
            {
                partial.restart()?;
            }
            if left == 0 || !again {
                return Err(failure.into());
            }
        }
    }

    /// One request, appended to `partial`, and the check of the whole.
    fn attempt(
        &self,
        partial: &mut Partial,
        wanted: &Wanted,
        uri: &str,
        on_bytes: &dyn Fn(u64),
    ) -> Result<(), Stop> {
        if partial.length() < wanted.size {
            let from = partial.length();
            let answer = self.get(uri, from, wanted.size)?;
            if answer.offset != from {
                if answer.offset != 0 {
                    return Err(Failure::Range { expected: from, found: answer.offset }.into());
                }
                // The server does not know ranges and sends everything.
                partial.restart()?;
            }
            if let Some(found) = answer.size.filter(|size| *size != wanted.size) {
                return Err(Failure::Size { expected: wanted.size, found }.into());
            }
            self.append(partial, wanted, answer.reader, on_bytes)?;
        }
        let found = partial.digest();
        if found == wanted.sha256 {
            Ok(())
        } else {
            Err(Failure::Mismatch { expected: wanted.sha256, found }.into())
        }
    }

    pub(super) fn get(&self, uri: &str, from: u64, size: u64) -> Result<Answer, Stop> {
        let answer = self.http.get(uri, from, size, &|| self.cancelled());
        if self.cancelled() { Err(Stop::Cancelled) } else { Ok(answer?) }
    }

    fn append(
        &self,
        partial: &mut Partial,
        wanted: &Wanted,
        mut reader: Box<dyn Read>,
        on_bytes: &dyn Fn(u64),
    ) -> Result<(), Stop> {
        let mut buffer = vec![0; CHUNK];
        loop {
            if self.cancelled() {
                return Err(Stop::Cancelled);
            }
            let cut_off =
                |reason: String, found: u64| Failure::CutOff { expected: wanted.size, found, reason };
            let count = match reader.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(cut_off(error.to_string(), partial.length()).into()),
            };
            if count == 0 {
                if partial.length() < wanted.size {
                    return Err(cut_off("the answer ended".to_owned(), partial.length()).into());
                }
                return Ok(());
            }
            if partial.length() + count as u64 > wanted.size {
                return Err(Failure::TooLong { expected: wanted.size }.into());
            }
            partial.write(&buffer[..count])?;
            on_bytes(count as u64);
        }
    }

    /// The whole of a small file, in memory.
    pub(super) fn whole(&self, candidate: &Candidate, path: &str, limit: u64) -> Result<Vec<u8>, FetchError> {
        let uri = join(&candidate.uri, path);
        let mut left = TRIES;
        loop {
            left -= 1;
            match self.whole_once(candidate, &uri, limit) {
                Ok(bytes) => return Ok(bytes),
                Err(Stop::Cancelled) => return Err(FetchError::Cancelled),
                Err(Stop::Store(error)) => return Err(error.into()),
                Err(Stop::Failure(failure)) if failure.is_transient() && left > 0 => {}
                Err(Stop::Failure(Failure::NoAnswer { .. })) if left + 1 == TRIES => {}
                Err(Stop::Failure(failure)) => {
                    let attempt = Attempt { origin: candidate.origin, uri, failure };
                    return Err(FetchError::Exhausted { what: format!("`{path}`"), attempts: vec![attempt] });
                }
            }
        }
    }

    fn whole_once(&self, candidate: &Candidate, uri: &str, limit: u64) -> Result<Vec<u8>, Stop> {
        if let Some(reason) = self.given_up(candidate) {
            return Err(Failure::Unreachable { reason }.into());
        }
        let answer = self.get(uri, 0, limit).inspect_err(|stop| {
            if let Stop::Failure(failure) = stop {
                self.note(candidate, failure);
            }
        })?;
        self.reached(candidate);
        let mut reader = answer.reader;
        let mut bytes = Vec::new();
        let mut buffer = vec![0; CHUNK];
        loop {
            if self.cancelled() {
                return Err(Stop::Cancelled);
            }
            let found = bytes.len() as u64;
            let expected = answer.size.unwrap_or(limit);
            match reader.read(&mut buffer) {
                Ok(0) if answer.size.is_some_and(|size| found < size) => {
                    let reason = "the answer ended".to_owned();
                    return Err(Failure::CutOff { expected, found, reason }.into());
                }
                Ok(0) => return Ok(bytes),
                Ok(count) if found + count as u64 > limit => {
                    return Err(Failure::TooLong { expected: limit }.into());
                }
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Failure::CutOff { expected, found, reason: error.to_string() }.into());
                }
            }
        }
    }

    /// Why this place is not asked any more, if so.
    pub(super) fn given_up(&self, candidate: &Candidate) -> Option<String> {
        let unreachable = self.unreachable.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        unreachable.get(&candidate.uri).filter(|(times, _)| *times > 1).map(|(_, reason)| reason.clone())
    }

    pub(super) fn reached(&self, candidate: &Candidate) {
        let mut unreachable = self.unreachable.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        unreachable.remove(&candidate.uri);
    }

    /// Remembers how a place failed.
    pub(super) fn note(&self, candidate: &Candidate, failure: &Failure) {
        match failure {
            Failure::Unreachable { reason } | Failure::NoAnswer { reason } => {
                self.not_reached(candidate, reason)
            }
            _ => self.reached(candidate),
        }
    }

    fn not_reached(&self, candidate: &Candidate, reason: &str) {
        let mut unreachable = self.unreachable.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let entry = unreachable.entry(candidate.uri.clone()).or_default();
        *entry = (entry.0 + 1, reason.to_owned());
    }
}
