//! One request: HTTP, HTTPS or a local file.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use ureq::http::{Response, StatusCode, Uri, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body, Proxy};

use super::Options;
use super::error::{Failure, FetchError};

/// Time that every request may take, whatever its size.
const GRACE: Duration = Duration::from_secs(60);

/// How often somebody who waits for a server looks whether to go on.
const LOOK_UP: Duration = Duration::from_millis(100);

/// The thread of a request is at most so many chunks of so many bytes ahead of who reads the answer.
const CHUNKS: usize = 4;
const CHUNK: usize = 1 << 16;

/// The client, with its pool of connections.
pub(super) struct Http {
    agent: Agent,
    slowest: u64,
}

/// The beginning of an answer.
pub(super) struct Answer {
    /// The offset of the first byte that `reader` yields.
    pub(super) offset: u64,
    /// The size of the whole file, when the server says.
    pub(super) size: Option<u64>,
    /// The bytes.
    pub(super) reader: Box<dyn Read>,
}

impl Http {
    pub(super) fn new(options: &Options) -> Result<Self, FetchError> {
        let proxy = match &options.proxy {
            Some(proxy) => {
                let error = |_| FetchError::Proxy { proxy: proxy.clone() };
                Some(Proxy::new(proxy).map_err(error)?)
            }
            None => None,
        };
        let config = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .proxy(proxy)
            .http_status_as_error(false)
            .max_redirects(5)
            .user_agent(concat!("build-images/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections(options.workers * 2)
            .max_idle_connections_per_host(options.workers)
            .timeout_resolve(Some(options.connect_timeout))
            .timeout_connect(Some(options.connect_timeout))
            .timeout_recv_response(Some(options.read_timeout))
            .timeout_per_read(Some(options.read_timeout))
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::default(), CachingResolver::default());
        Ok(Self { agent, slowest: options.slowest.max(1) })
    }

    /// Asks for `uri` from byte `from` on. At most `size` bytes are going to be read.
    ///
    /// The request runs in a thread of its own, so that whoever waits for a server that hangs can stop: this function
    /// looks at `cancelled` while it waits, and the answer's reader gives an [`ErrorKind::Interrupted`] now and then.
    pub(super) fn get(
        &self,
        uri: &str,
        from: u64,
        size: u64,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Answer, Failure> {
        if let Some(path) = uri.strip_prefix("file://") {
            return local(path, from);
        }
        if !uri.starts_with("http://") && !uri.starts_with("https://") {
            return Err(Failure::Scheme);
        }
        let patience = GRACE + Duration::from_secs(size.saturating_sub(from) / self.slowest);
        let mut request = self.agent.get(uri);
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        let request = request.config().timeout_global(Some(patience)).build();
        let (send, receive) = sync_channel(CHUNKS);
        let thread = std::thread::Builder::new().name("fetch".to_owned()).spawn(move || {
            let (offset, size, mut reader) = match request.call().map_err(no_answer).and_then(opened) {
                Ok(opened) => opened,
                Err(failure) => return drop(send.send(Part::Failed(failure))),
            };
            let mut next = Part::Opened { offset, size };
            // An error of `send` means that nobody wants the rest.
            while send.send(next).is_ok() {
                let mut chunk = vec![0; CHUNK];
                next = match reader.read(&mut chunk) {
                    Ok(0) => return,
                    Ok(count) => {
                        chunk.truncate(count);
                        Part::Bytes(chunk)
                    }
                    Err(error) => Part::BrokeOff(error),
                };
            }
        });
        thread.map_err(|error| Failure::NoAnswer { reason: error.to_string() })?;
        loop {
            match receive.recv_timeout(LOOK_UP) {
                Ok(Part::Opened { offset, size }) => {
                    let reader = Box::new(Arriving { receive, chunk: Vec::new(), read: 0 });
                    return Ok(Answer { offset, size, reader });
                }
                Ok(Part::Failed(failure)) => return Err(failure),
                Err(RecvTimeoutError::Timeout) if !cancelled() => {}
                _ => return Err(Failure::NoAnswer { reason: "the request was given up".to_owned() }),
            }
        }
    }
}

/// What the thread of a request has to say.
enum Part {
    Opened { offset: u64, size: Option<u64> },
    Failed(Failure),
    Bytes(Vec<u8>),
    BrokeOff(std::io::Error),
}

/// The bytes of an answer as its thread hands them over.
struct Arriving {
    receive: Receiver<Part>,
    chunk: Vec<u8>,
    read: usize,
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.read == self.chunk.len() {
            match self.receive.recv_timeout(LOOK_UP) {
                Ok(Part::Bytes(chunk)) => (self.chunk, self.read) = (chunk, 0),
                Ok(Part::BrokeOff(error)) => return Err(error),
                Err(RecvTimeoutError::Timeout) => return Err(ErrorKind::Interrupted.into()),
                Ok(_) | Err(RecvTimeoutError::Disconnected) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.chunk.len() - self.read);
        buffer[..count].copy_from_slice(&self.chunk[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

/// The first byte's offset, the whole file's size and the body of `response`, if it is the file.
fn opened(response: Response<Body>) -> Result<(u64, Option<u64>, impl Read), Failure> {
    let number =
        |name| response.headers().get(name).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    let (offset, size) = match response.status() {
        StatusCode::OK => (0, number(header::CONTENT_LENGTH)),
        StatusCode::PARTIAL_CONTENT => content_range(&response).ok_or(Failure::Status { status: 206 })?,
        status @ (StatusCode::NOT_FOUND | StatusCode::GONE) => {
            return Err(Failure::Absent { status: status.as_u16() });
        }
        status => return Err(Failure::Status { status: status.as_u16() }),
    };
    Ok((offset, size, response.into_body().into_reader()))
}

/// Tells a host that is not there from one that does not do its work.
fn no_answer(error: ureq::Error) -> Failure {
    let reason = error.to_string();
    let unreachable = match error {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::Tls(_) => true,
        ureq::Error::Timeout(timeout) => matches!(timeout, ureq::Timeout::Resolve | ureq::Timeout::Connect),
        ureq::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::NetworkDown
                | ErrorKind::TimedOut
        ),
        _ => false,
    };
    if unreachable { Failure::Unreachable { reason } } else { Failure::NoAnswer { reason } }
}

/// `Content-Range: bytes 5-9/10` as the first byte and the size of the whole.
fn content_range(response: &Response<Body>) -> Option<(u64, Option<u64>)> {
    let value = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, size) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, size.trim().parse().ok()))
}

fn local(path: &str, from: u64) -> Result<Answer, Failure> {
    let unreachable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::Absent { status: 404 },
        _ => Failure::Unreachable { reason: error.to_string() },
    };
    let path = decode(path);
    let path = Path::new(&path);
    // Opening a pipe would wait for ever.
    let metadata = path.metadata().map_err(unreachable)?;
    if !metadata.is_file() {
        return Err(Failure::Absent { status: 404 });
    }
    let mut file = File::open(path).map_err(unreachable)?;
    file.seek(SeekFrom::Start(from)).map_err(unreachable)?;
    Ok(Answer { offset: from, size: Some(metadata.len()), reader: Box::new(file) })
}

/// Puts `path` behind `base`, with everything escaped that a URI cannot hold.
///
/// A plus sign is escaped too, as apt does: some servers take it for a blank.
pub(super) fn join(base: &str, path: &str) -> String {
    let mut uri = base.to_owned();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:@!$&'()*,;=".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

/// Takes back what [`join`] escapes.
pub(super) fn decode(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let pair = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Asks for the addresses of each host once. ureq asks before every request otherwise, also for one over a connection
/// that is open already, and a name server that drops one question in a hundred then costs five seconds each time.
#[derive(Default)]
struct CachingResolver {
    inner: DefaultResolver,
    known: Mutex<HashMap<String, ResolvedSocketAddrs>>,
}

impl fmt::Debug for CachingResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CachingResolver")
    }
}

impl Resolver for CachingResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = format!("{:?} {:?}", uri.scheme_str(), uri.authority());
        // The lock is held while asking, so that eight workers that start together ask once.
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(addresses) = known.get(&host) {
            return Ok(copy(self, addresses));
        }
        let addresses = self.inner.resolve(uri, config, timeout)?;
        known.insert(host, copy(self, &addresses));
        Ok(addresses)
    }
}

fn copy(resolver: &impl Resolver, addresses: &ResolvedSocketAddrs) -> ResolvedSocketAddrs {
    let mut copy = resolver.empty();
    addresses.iter().for_each(|address| copy.push(*address));
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped_and_come_back() {
        let path = "pool/main/g/g++/libstdc++6_1%3a2.0~rc1 ü_amd64.deb";
        let uri = join("http://h/", path);
        assert_eq!(uri, "http://h/pool/main/g/g%2B%2B/libstdc%2B%2B6_1%253a2.0~rc1%20%C3%BC_amd64.deb");
        assert_eq!(decode(&uri), format!("http://h/{path}"));
        assert_eq!(decode("100%"), "100%");
    }
}
