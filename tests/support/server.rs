//! An HTTP/1.1 server on the loopback interface that can misbehave and remembers what it was asked.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// How a file is answered instead of properly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The right size is announced, this many bytes come, then the connection closes.
    CutOff(usize),
    /// No size is announced and bytes come until the client has enough.
    Endless,
    /// The right bytes, but no size is announced: the connection closes behind them.
    Unmeasured,
    /// Other bytes, with their own size.
    Wrong(Vec<u8>),
    /// The right bytes, but this size is announced.
    Announce(u64),
    /// The right bytes, a kilobyte at a time with this pause before each.
    Slow(Duration),
    /// The head of the answer, then silence for as long as the client waits.
    Stall,
    /// The connection closes without an answer.
    Hangup,
    /// A status and no file.
    Status(u16),
    /// The whole file although a part was asked for.
    NoRange,
    /// A part that begins one byte after the one asked for.
    WrongRange,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The path without its first slash, unescaped.
    pub path: String,
    /// The first byte asked for, if not the whole.
    pub from: Option<usize>,
    /// Which connection it came over, counted from 0.
    pub connection: usize,
}

/// A server; it stops when dropped.
pub struct Server {
    address: SocketAddr,
    state: Arc<State>,
    socket: TcpListener,
    listener: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    files: Mutex<BTreeMap<String, Arc<Vec<u8>>>>,
    faults: Mutex<BTreeMap<String, (Fault, Option<usize>)>>,
    requests: Mutex<Vec<Request>>,
    connections: Mutex<(usize, usize)>,
    stop: AtomicBool,
}

/// A fault that was just set, for saying how often it happens.
pub struct Set<'a> {
    server: &'a Server,
    path: String,
}

impl Set<'_> {
    /// The next answer only.
    pub fn once(self) {
        self.times(1);
    }

    /// The next `times` answers.
    pub fn times(self, times: usize) {
        let mut faults = lock(&self.server.state.faults);
        faults.get_mut(&self.path).unwrap().1 = Some(times);
    }
}

impl Server {
    /// Serves `files`, by path without the first slash.
    pub fn start(files: BTreeMap<String, Vec<u8>>) -> Self {
        Self::start_at("127.0.0.1", files)
    }

    /// As [`start`](Self::start), on another address of a network that the test made.
    pub fn start_at(address: &str, files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let files = files.into_iter().map(|(path, bytes)| (path, Arc::new(bytes))).collect();
        let state = Arc::new(State { files: Mutex::new(files), ..State::default() });
        let shared = Arc::clone(&state);
        let socket = listener.try_clone().unwrap();
        let listener = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let state = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let number = {
                        let mut connections = lock(&state.connections);
                        connections.0 += 1;
                        connections.1 += 1;
                        connections.0 - 1
                    };
                    // A client that goes away is no concern of the test.
                    _ = converse(&state, &stream, number);
                    lock(&state.connections).1 -= 1;
                });
            }
        });
        Self { address, state, socket, listener: Some(listener) }
    }

    /// `http://127.0.0.1:PORT/`.
    pub fn uri(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The port, for taking it out of messages.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on, `path` is answered like this.
    pub fn fault(&self, path: &str, fault: Fault) -> Set<'_> {
        lock(&self.state.faults).insert(path.to_owned(), (fault, None));
        Set { server: self, path: path.to_owned() }
    }

    /// Puts other bytes in place of a file, or adds one.
    pub fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        lock(&self.state.files).insert(path.to_owned(), Arc::new(bytes.into()));
    }

    /// Takes a file away, so that it is answered with 404.
    pub fn remove(&self, path: &str) {
        assert!(lock(&self.state.files).remove(path).is_some(), "`{path}` is not served");
    }

    /// The bytes of a file.
    pub fn file(&self, path: &str) -> Vec<u8> {
        let files = lock(&self.state.files);
        files.get(path).unwrap_or_else(|| panic!("`{path}` is not served")).to_vec()
    }

    /// Paths of all files.
    pub fn paths(&self) -> Vec<String> {
        lock(&self.state.files).keys().cloned().collect()
    }

    /// Everything asked so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state.requests).clone()
    }

    /// How often `path` was asked for.
    pub fn count(&self, path: &str) -> usize {
        self.requests().iter().filter(|request| request.path == path).count()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        lock(&self.state.connections).0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it has to stop. It may be in another network than this thread.
        _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        if let Some(listener) = self.listener.take() {
            _ = listener.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Answers requests on one connection until one side closes it.
fn converse(state: &State, stream: &TcpStream, connection: usize) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || state.stop.load(Ordering::SeqCst) {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default();
        let path = unescape(path.trim_start_matches('/'));
        let mut from = None;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            if header.trim().is_empty() {
                break;
            }
            let lower = header.to_ascii_lowercase();
            if let Some(range) = lower.strip_prefix("range: bytes=") {
                from = range.split('-').next().and_then(|first| first.parse::<usize>().ok());
            }
        }
        lock(&state.requests).push(Request { path: path.clone(), from, connection });
        if !answer(state, stream, &path, from)? {
            return Ok(());
        }
    }
}

/// Answers one request; false when the connection has to close.
fn answer(state: &State, mut stream: &TcpStream, path: &str, from: Option<usize>) -> io::Result<bool> {
    let fault = {
        let mut faults = lock(&state.faults);
        match faults.get_mut(path) {
            Some((_, Some(0))) | None => None,
            Some((fault, left)) => {
                *left = left.map(|left| left - 1);
                Some(fault.clone())
            }
        }
    };
    if fault == Some(Fault::Hangup) {
        stream.shutdown(std::net::Shutdown::Both)?;
        return Ok(false);
    }
    let file = lock(&state.files).get(path).cloned();
    let (Some(file), None) = (&file, fault.as_ref().and_then(status)) else {
        let status = fault.as_ref().and_then(status).unwrap_or(404);
        write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 3\r\n\r\nno\n")?;
        return Ok(true);
    };
    let file = match &fault {
        Some(Fault::Wrong(bytes)) => Arc::new(bytes.clone()),
        _ => Arc::clone(file),
    };
    let from = from.filter(|_| fault != Some(Fault::NoRange));
    if from.is_some_and(|from| from >= file.len()) {
        write!(stream, "HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(true);
    }
    let first = from.unwrap_or(0) + usize::from(fault == Some(Fault::WrongRange));
    let body = &file[first..];
    let mut head = match from {
        Some(_) => format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{}/{}\r\n",
            file.len() - 1,
            file.len()
        ),
        None => "HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\n".to_owned(),
    };
    match &fault {
        Some(Fault::Endless | Fault::Unmeasured) => head += "Connection: close\r\n\r\n",
        Some(Fault::Announce(size)) => head += &format!("Content-Length: {size}\r\n\r\n"),
        _ => head += &format!("Content-Length: {}\r\n\r\n", body.len()),
    }
    stream.write_all(head.as_bytes())?;
    match fault {
        Some(Fault::CutOff(length)) => {
            stream.write_all(&body[..length.min(body.len())])?;
            stream.flush()?;
            stream.shutdown(std::net::Shutdown::Both)?;
            Ok(false)
        }
        Some(Fault::Endless) => {
            stream.write_all(body)?;
            let more = vec![0; 1 << 16];
            while !state.stop.load(Ordering::SeqCst) {
                stream.write_all(&more)?;
            }
            Ok(false)
        }
        Some(Fault::Unmeasured) => {
            stream.write_all(body)?;
            stream.shutdown(std::net::Shutdown::Both)?;
            Ok(false)
        }
        Some(Fault::Slow(pause)) => {
            for piece in body.chunks(1024) {
                std::thread::sleep(pause);
                stream.write_all(piece)?;
            }
            Ok(true)
        }
        Some(Fault::Stall) => {
            while !state.stop.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(false)
        }
        Some(Fault::Announce(_)) => {
            stream.write_all(body)?;
            Ok(false)
        }
        _ => {
            stream.write_all(body)?;
            Ok(true)
        }
    }
}

fn status(fault: &Fault) -> Option<u16> {
    match fault {
        Fault::Status(status) => Some(*status),
        _ => None,
    }
}

fn unescape(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}
