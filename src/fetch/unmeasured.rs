//! A file whose hash is known before anybody says how long it is.

use std::io::{Read as _, Write as _};

use super::download::{CHUNK, Stop};
use super::error::{Attempt, Failure, FetchError};
use super::http::join;
use super::{Fetcher, Source, Wanted};
use crate::digest::{HashingWriter, Sha256};
use crate::store::{Context as _, Kind};

/// The most that is read of a file whose size nobody knows yet, in bytes.
pub const LIMIT: u64 = 8 << 30;

impl Fetcher<'_> {
    /// The size of the file that hashes to `sha256`, which is in the store then. `what` names it in errors; `on_bytes`
    /// hears of bytes as they arrive.
    ///
    /// # Errors
    /// When no source gives it, the store cannot be written or the user stops the run.
    pub fn fetch_unmeasured(
        &self,
        what: &str,
        (kind, sha256): (Kind, Sha256),
        sources: &[Source],
        on_bytes: &dyn Fn(u64),
    ) -> Result<u64, FetchError> {
        let path = self.store().path(kind, sha256);
        if let Ok(metadata) = path.metadata() {
            let size = metadata.len();
            if self.stored(&Wanted { kind, sha256, size })?.is_some() {
                return Ok(size);
            }
        }
        let mut attempts = Vec::new();
        for source in sources {
            let uri = join(&source.candidate.uri, &source.path);
            match self.size_of(source, &uri, (kind, sha256), on_bytes) {
                Ok(Measured::Stored(size)) => return Ok(size),
                Ok(Measured::Announced(size)) => {
                    let wanted = Wanted { kind, sha256, size };
                    match self.fetch(what, &wanted, std::slice::from_ref(source), on_bytes) {
                        Ok(_) => return Ok(size),
                        Err(FetchError::Exhausted { attempts: more, .. }) => attempts.extend(more),
                        Err(error) => return Err(error),
                    }
                }
                Err(Stop::Store(error)) => return Err(error.into()),
                Err(Stop::Cancelled) => return Err(FetchError::Cancelled),
                Err(Stop::Failure(failure)) => {
                    self.note(&source.candidate, &failure);
                    attempts.push(Attempt { origin: source.candidate.origin, uri, failure });
                }
            }
        }
        Err(FetchError::Exhausted { what: what.to_owned(), attempts })
    }

    /// What the server says of the size. One that does not say has to send everything, which is kept then.
    fn size_of(
        &self,
        source: &Source,
        uri: &str,
        (kind, sha256): (Kind, Sha256),
        on_bytes: &dyn Fn(u64),
    ) -> Result<Measured, Stop> {
        if let Some(reason) = self.given_up(&source.candidate) {
            return Err(Failure::Unreachable { reason }.into());
        }
        let answer = self.get(uri, 0, LIMIT)?;
        self.reached(&source.candidate);
        match answer.size {
            Some(size) if size > LIMIT => return Err(Failure::TooLong { expected: LIMIT }.into()),
            Some(size) => return Ok(Measured::Announced(size)),
            None => {}
        }
        let mut reader = answer.reader;
        let mut pending = HashingWriter::new(self.store().create()?);
        let mut buffer = vec![0; CHUNK];
        loop {
            if self.cancelled() {
                return Err(Stop::Cancelled);
            }
            let found = pending.length();
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) if found + count as u64 > LIMIT => {
                    return Err(Failure::TooLong { expected: LIMIT }.into());
                }
                Ok(count) => {
                    pending.write_all(&buffer[..count]).context("write", self.store().root())?;
                    on_bytes(count as u64);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let reason = error.to_string();
                    return Err(Failure::CutOff { expected: LIMIT, found, reason }.into());
                }
            }
        }
        let (found, size, pending) = pending.finish();
        if found != sha256 {
            return Err(Failure::Mismatch { expected: sha256, found }.into());
        }
        self.store().commit(pending, kind, sha256)?;
        Ok(Measured::Stored(size))
    }
}

/// What is known of a size.
enum Measured {
    /// The server says so.
    Announced(u64),
    /// It was counted, and the file is in the store.
    Stored(u64),
}
