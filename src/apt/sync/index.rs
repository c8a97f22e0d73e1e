//! The package indices of one suite: fetched by hash, unpacked within bounds.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use super::{ARCHITECTURE, SuiteError, SyncedIndex, Work};
use crate::apt::release::{Listed, Release};
use crate::digest::Sha256;
use crate::fetch::{Candidate, FetchError, Source, Wanted};
use crate::progress::Event;
use crate::store::Kind;

/// The largest index, compressed or not, that is fetched or unpacked, in bytes. Debian's main has 57 MB.
const INDEX_LIMIT: u64 = 1 << 30;

/// Bytes that one compressed byte may stand for where the Release file lists no uncompressed index, above
/// [`FREE_EXPANSION`]. Debian's reach about 8.
const EXPANSION: u64 = 100;

/// Bytes that any such index may unpack to.
const FREE_EXPANSION: u64 = 16 << 20;

/// The most memory that decompressing may take, in bytes. `xz -9` needs 65 MiB.
const MEMORY_LIMIT: u64 = 256 << 20;

/// How an index is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    Xz,
    Gzip,
    None,
}

impl Compression {
    /// In order of preference, each with the end of the file's name.
    const ALL: [(Self, &str); 3] = [(Self::Xz, ".xz"), (Self::Gzip, ".gz"), (Self::None, "")];
}

impl Work<'_> {
    /// The indices of all components, for the architecture and for `all` where that has its own.
    pub(super) fn indices(
        &self,
        release: &Release,
        places: &[Candidate],
    ) -> Result<Vec<SyncedIndex>, SuiteError> {
        let mut indices = Vec::new();
        for component in &self.archive.components {
            let mut architectures = vec![ARCHITECTURE];
            let all = format!("{component}/binary-all/Packages");
            if release.has_architecture("all") && !release.all_in_each && release.files.contains_key(&all) {
                architectures.push("all");
            }
            for architecture in architectures {
                let path = format!("{component}/binary-{architecture}/Packages");
                let text = self.index(release, &path, places)?;
                check_architectures(&path, &text)?;
                indices.push(SyncedIndex {
                    suite: self.suite.to_owned(),
                    component: component.clone(),
                    architecture: architecture.to_owned(),
                    text: Arc::new(text),
                });
            }
        }
        Ok(indices)
    }

    /// The index at `path`, in the best compression that the Release file lists and a place has.
    fn index(&self, release: &Release, path: &str, places: &[Candidate]) -> Result<String, SuiteError> {
        let not_listed = || SuiteError::NotListed { path: path.to_owned() };
        // Some archives list compressed indices only: their hash vouches for what they unpack to.
        let whole = release.files.get(path).copied();
        if let Some(whole) = whole {
            check_size(path, whole)?;
            if whole.size == 0 {
                return Ok(String::new());
            }
        }
        let mut first_failure = None;
        for (compression, suffix) in Compression::ALL {
            let name = format!("{path}{suffix}");
            let Some(listed) = release.files.get(&name).copied() else { continue };
            check_size(&name, listed)?;
            match self.fetch_index(release, &name, listed, places) {
                Ok(file) => {
                    let text = unpack(&file, compression, &name, path, whole)?;
                    let mut files = self.files.borrow_mut();
                    files.push((format!("dists/{}/{name}", self.suite), listed.sha256));
                    if release.acquire_by_hash {
                        files.push((by_hash(self.suite, &name, listed.sha256), listed.sha256));
                    }
                    return Ok(text);
                }
                // The store or the user: another compression does not help.
                Err(error @ (FetchError::Store(_) | FetchError::Cancelled)) => return Err(error.into()),
                Err(error) => first_failure = first_failure.or(Some(error)),
            }
        }
        Err(first_failure.map_or_else(not_listed, SuiteError::from))
    }

    fn fetch_index(
        &self,
        release: &Release,
        name: &str,
        listed: Listed,
        places: &[Candidate],
    ) -> Result<std::path::PathBuf, FetchError> {
        let suite = self.suite;
        let by_hash = by_hash(suite, name, listed.sha256);
        let by_name = format!("dists/{suite}/{name}");
        let source =
            |place: &Candidate, path: &str| Source { candidate: place.clone(), path: path.to_owned() };
        let mut sources = Vec::new();
        for place in places {
            // By name, a mirror that is just being updated may give the next version already.
            if release.acquire_by_hash {
                sources.push(source(place, &by_hash));
            }
            sources.push(source(place, &by_name));
        }
        let wanted = Wanted { kind: Kind::Index, sha256: listed.sha256, size: listed.size };
        let on_bytes = |bytes: u64| {
            let done = self.bytes.get() + bytes;
            self.bytes.set(done);
            let (subject, item) = (self.archive.name.clone(), format!("{suite}/{name}"));
            self.fetcher.report(Event::Progress { subject, done, item });
        };
        self.fetcher.fetch(&format!("index `{name}` of `{suite}`"), &wanted, &sources, &on_bytes)
    }
}

/// Where an index is by its hash.
fn by_hash(suite: &str, name: &str, sha256: Sha256) -> String {
    let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
    format!("dists/{suite}/{directory}/by-hash/SHA256/{sha256}")
}

fn check_size(path: &str, listed: Listed) -> Result<(), SuiteError> {
    if listed.size > INDEX_LIMIT {
        let (path, limit, found) = (path.to_owned(), INDEX_LIMIT, listed.size);
        return Err(SuiteError::IndexSize { path, limit, found });
    }
    Ok(())
}

/// Reads the index in `file`, never more than the Release file says it has.
fn unpack(
    file: &Path,
    compression: Compression,
    name: &str,
    path: &str,
    whole: Option<Listed>,
) -> Result<String, SuiteError> {
    let broken =
        |error: io::Error| SuiteError::Compression { path: name.to_owned(), reason: error.to_string() };
    let opened = File::open(file).map_err(broken)?;
    let most = match whole {
        Some(whole) => whole.size,
        None => {
            let compressed = opened.metadata().map_err(broken)?.len();
            compressed.saturating_mul(EXPANSION).clamp(FREE_EXPANSION, INDEX_LIMIT)
        }
    };
    let input = BufReader::with_capacity(1 << 18, opened);
    let reader: Box<dyn Read> = match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Xz => {
            let stream =
                liblzma::stream::Stream::new_stream_decoder(MEMORY_LIMIT, liblzma::stream::CONCATENATED);
            let stream = stream.map_err(|error| broken(error.into()))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
    };
    let bytes = read_at_most(reader, whole.is_some(), most + 1).map_err(broken)?;
    if bytes.len() as u64 > most {
        return Err(match whole {
            Some(_) => SuiteError::Bomb { path: name.to_owned(), expected: most },
            None => SuiteError::Unlisted { path: name.to_owned(), limit: most },
        });
    }
    if let Some(whole) = whole {
        let found = Sha256::of(&bytes);
        if found != whole.sha256 {
            return Err(SuiteError::Unpacked {
                path: path.to_owned(),
                expected: whole.sha256,
                expected_size: whole.size,
                found,
                found_size: bytes.len() as u64,
            });
        }
    }
    String::from_utf8(bytes).map_err(|error| SuiteError::NotText {
        path: path.to_owned(),
        offset: error.utf8_error().valid_up_to(),
    })
}

/// The first `limit` bytes of `reader`; what follows is not even looked at.
fn read_at_most(reader: impl Read, exact: bool, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if exact {
        // `INDEX_LIMIT` keeps this reservation within reason.
        bytes.reserve_exact(usize::try_from(limit).unwrap_or(0));
    }
    reader.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// That every package in the index is for the architecture asked for.
fn check_architectures(path: &str, text: &str) -> Result<(), SuiteError> {
    const FIELD: &str = "Architecture:";
    for line in text.lines() {
        let name = line.get(..FIELD.len()).filter(|name| name.eq_ignore_ascii_case(FIELD));
        let Some(found) = name.map(|_| line[FIELD.len()..].trim()) else { continue };
        if found != ARCHITECTURE && found != "all" {
            return Err(SuiteError::OtherArchitecture {
                path: path.to_owned(),
                expected: ARCHITECTURE.to_owned(),
                found: found.chars().take(40).collect(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_bomb_no_more_is_unpacked_than_was_announced() {
        struct Bomb(u64);
        impl Read for Bomb {
            fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
                self.0 += bytes.len() as u64;
                assert!(self.0 <= 1001, "{} bytes were unpacked", self.0);
                bytes.fill(b'x');
                Ok(bytes.len())
            }
        }
        assert_eq!(read_at_most(Bomb(0), true, 1001).unwrap().len(), 1001);
    }
}
