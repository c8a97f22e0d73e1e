//! Calls of a job's programs that the worker answers itself.
//!
//! A directory of its own, on `PATH` before all others, holds a link for each name that is offered; all lead to one
//! small program (`relay/program.rs`), which sends its arguments, environment and working directory over a socket and
//! does what it is told. What to answer is the caller's business: see [`Calls`].
//!
//! # Messages
//! From the relay, first: three numbers of four bytes, little endian: length, arguments, variables; then that many
//! strings, each ended by a zero byte, and the working directory. A call too long to send, or with a mask of file modes
//! other than 022, has one argument and `u32::MAX` variables. From the worker, any number of: a letter, a length of four
//! bytes, a body.
//!
//! | letter | body | the relay |
//! |---|---|---|
//! | `1`, `2` | bytes | writes them to that descriptor |
//! | `S` | number of variables, then strings: variables, program, arguments with its name | starts it, sends the socket |
//! | `W` | — | waits for it, sends its wait status |
//! | `R` | path | becomes that program, with its own arguments and environment |
//! | `X` | status | ends |

use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::Permissions;
use std::io::{self, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::MountAttrFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::mount::{self, MountError, Step as _};
use super::root::attach;
use super::{Inside, Status, run};

/// The program, as `build.rs` compiled it.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/relay"));

/// Where the directory is, in the worker's file system.
pub(super) const PLACE: &CStr = c"/relay";
/// The program there.
pub(super) const PROGRAM_PLACE: &CStr = c"/relay/relay";
/// Where the directory is in a job; `program.rs` knows it too.
pub const DIRECTORY: &str = "/dev/build-images";

/// Names in the directory under which covered programs can still be run, in the order of [`Calls::covered`].
pub(super) const COVERED: [&CStr; 4] = [c"covered-0", c"covered-1", c"covered-2", c"covered-3"];

/// Longest call that is read, in bytes; `program.rs` sends no longer one.
const LONGEST: u32 = 256 << 10;
/// Calls that are answered at once; others wait.
const AT_ONCE: usize = 64;

/// The directory and the socket, for all jobs of a worker.
#[derive(Debug)]
pub struct Relay {
    listener: UnixListener,
}

/// What is done with the calls of one job.
#[derive(Clone, Copy)]
pub struct Calls<'a> {
    /// Where they come from.
    pub relay: &'a Relay,
    /// Absolute paths of regular files in the root that are covered by the relay; at most four. What they cover is at
    /// `/dev/build-images/covered-N`, counted from 0.
    pub covered: &'a [CString],
    /// Answers one call. Several threads use it at once.
    pub answer: &'a (dyn Fn(Request, &mut Connection) -> Reply + Sync),
}

impl fmt::Debug for Calls<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("covered", &self.covered).finish_non_exhaustive()
    }
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The name, then the arguments.
    pub arguments: Vec<Vec<u8>>,
    /// `NAME=value` each.
    pub environment: Vec<Vec<u8>>,
    /// The working directory; nothing when the call could not be sent whole. Then there is just the name.
    pub directory: Option<Vec<u8>>,
}

/// How a call ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// With this exit status.
    Exit(u8),
    /// By running the program at this path of the root.
    Run(CString),
}

impl Inside {
    /// Makes the directory and the socket; a worker does so once.
    ///
    /// # Errors
    /// When there is one already, or the kernel refuses.
    pub fn relay(&self) -> Result<Relay, MountError> {
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let options = [(c"size", c"1m"), (c"nr_inodes", c"256"), (c"mode", c"0755")];
        let tree = mount::make(c"tmpfs", &options, attributes).step("make a tmpfs")?;
        attach(tree.as_fd(), PLACE)?;
        let step = "make the relay";
        let cannot = |source| MountError { step, source };
        std::fs::write("/relay/relay", PROGRAM).map_err(cannot)?;
        std::fs::set_permissions("/relay/relay", Permissions::from_mode(0o755)).map_err(cannot)?;
        let listener = UnixListener::bind("/relay/socket").map_err(cannot)?;
        std::fs::set_permissions("/relay/socket", Permissions::from_mode(0o666)).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        // Places for what is covered, to be found there by who is told so.
        for place in COVERED {
            std::fs::write(Path::new("/relay").join(place.to_string_lossy().as_ref()), b"")
                .map_err(cannot)?;
        }
        Ok(Relay { listener })
    }
}

impl Relay {
    /// Lets the next job find exactly `names`.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn offer(&self, names: &[&str]) -> io::Result<()> {
        for entry in std::fs::read_dir("/relay")? {
            let entry = entry?;
            if entry.file_type()?.is_symlink() {
                std::fs::remove_file(entry.path())?;
            }
        }
        names.iter().try_for_each(|name| symlink("relay", format!("/relay/{name}")))
    }
}

impl Calls<'_> {
    /// Answers calls while `work` runs a job. When it returns, every process of the job is gone.
    pub(super) fn serve<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        let (stopped, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let (active, idle) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (streams, received) = channel();
        let received = Mutex::new(received);
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("calls".to_owned());
            let answering = Answering { calls: self, active: &active, idle: &idle, received: &received };
            thread.spawn_scoped(scope, move || {
                while let Some(stream) = self.next(&stopped, answering.active) {
                    answering.active.fetch_add(1, Ordering::Relaxed);
                    // Whoever is idle takes just one; a caller never waits behind another.
                    if answering
                        .idle
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |idle| idle.checked_sub(1))
                        .is_ok()
                    {
                        let _ = streams.send(stream);
                    } else if std::thread::Builder::new()
                        .spawn_scoped(scope, move || answering.run(stream))
                        .is_err()
                    {
                        answering.active.fetch_sub(1, Ordering::Relaxed);
                    }
                }
            })?;
            let done = work();
            drop(stop);
            Ok(done)
        })
    }

    /// The next caller; nothing when the job is over.
    fn next(&self, stopped: &OwnedFd, active: &AtomicUsize) -> Option<UnixStream> {
        loop {
            let full = active.load(Ordering::Relaxed) >= AT_ONCE;
            let wanted = if full { PollFlags::empty() } else { PollFlags::IN };
            let mut ready = [PollFd::new(stopped, PollFlags::IN), PollFd::new(&self.relay.listener, wanted)];
            let wait = full.then_some(rustix::event::Timespec { tv_sec: 0, tv_nsec: 1_000_000 });
            match poll(&mut ready, wait.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return None,
            }
            if !ready[0].revents().is_empty() {
                return None;
            }
            if ready[1].revents().contains(PollFlags::IN) {
                match self.relay.listener.accept() {
                    Ok((stream, _)) if stream.set_nonblocking(false).is_ok() => return Some(stream),
                    Ok(_) => {}
                    // A caller that is gone again, or no descriptor is free for now.
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        }
    }

    fn answer(&self, mut stream: UnixStream) -> io::Result<()> {
        let request = Request::read(&mut stream)?;
        let mut connection = Connection { stream };
        match (self.answer)(request, &mut connection) {
            Reply::Exit(status) => connection.send(b'X', &[&[status]]),
            Reply::Run(path) => connection.send(b'R', &[path.to_bytes_with_nul()]),
        }
    }
}

/// What the threads that answer calls share. They stay for further calls: to start one takes longer than most answers.
#[derive(Clone, Copy)]
struct Answering<'a> {
    calls: &'a Calls<'a>,
    /// Calls that are being answered.
    active: &'a AtomicUsize,
    /// Threads that wait for a call and were given none yet.
    idle: &'a AtomicUsize,
    received: &'a Mutex<Receiver<UnixStream>>,
}

impl Answering<'_> {
    /// Answers one call, then others until the job is over.
    fn run(self, mut stream: UnixStream) {
        loop {
            // A caller that went away or talks nonsense ends with status 126 by itself.
            let _ = self.calls.answer(stream);
            self.active.fetch_sub(1, Ordering::Relaxed);
            self.idle.fetch_add(1, Ordering::Relaxed);
            let next = self.received.lock().unwrap_or_else(PoisonError::into_inner).recv();
            match next {
                Ok(next) => stream = next,
                Err(_) => return,
            }
        }
    }
}

impl Request {
    fn read(stream: &mut UnixStream) -> io::Result<Self> {
        let mut header = [0; 12];
        stream.read_exact(&mut header)?;
        let number = |index: usize| {
            header[index..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes)).unwrap_or_default()
        };
        let (length, arguments, variables) = (number(0), number(4), number(8));
        if length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; length as usize];
        stream.read_exact(&mut bytes)?;
        Self::parse(&bytes, arguments, variables).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn parse(bytes: &[u8], arguments: u32, variables: u32) -> Option<Self> {
        let mut strings = bytes.strip_suffix(b"\0")?.split(|byte| *byte == 0).map(<[u8]>::to_vec);
        let arguments: Vec<_> = strings.by_ref().take(arguments as usize).collect();
        if arguments.is_empty() || variables == u32::MAX {
            return Some(Self {
                arguments: vec![arguments.into_iter().next()?],
                environment: Vec::new(),
                directory: None,
            });
        }
        let environment: Vec<_> = strings.by_ref().take(variables as usize).collect();
        let directory = strings.next()?;
        (strings.next().is_none() && environment.len() == variables as usize).then_some(Self {
            arguments,
            environment,
            directory: Some(directory),
        })
    }
}

/// The way back to one caller.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
}

impl Connection {
    fn send(&mut self, letter: u8, parts: &[&[u8]]) -> io::Result<()> {
        let body = parts.concat();
        let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        if length > LONGEST {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut message = vec![letter];
        message.extend_from_slice(&length.to_le_bytes());
        message.extend_from_slice(&body);
        self.stream.write_all(&message)
    }

    /// Writes to the caller's standard output (1) or standard error (2).
    ///
    /// # Errors
    /// When the caller went away.
    pub fn write(&mut self, descriptor: u8, bytes: &[u8]) -> io::Result<()> {
        let letter = if descriptor == 1 { b'1' } else { b'2' };
        bytes.chunks(LONGEST as usize).try_for_each(|chunk| self.send(letter, &[chunk]))
    }

    /// Lets the caller start a program, its standard input and output being the socket that is returned.
    ///
    /// # Errors
    /// When the caller went away, or a string holds a zero byte.
    pub fn start(
        &mut self,
        program: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> io::Result<UnixStream> {
        let mut body = (environment.len() as u32).to_le_bytes().to_vec();
        let variables = environment.iter().map(|(name, value)| format!("{name}={value}"));
        let strings = [program, program].into_iter().chain(arguments.iter().copied()).map(str::to_owned);
        for string in variables.chain(strings) {
            body.extend_from_slice(CString::new(string)?.as_bytes_with_nul());
        }
        self.send(b'S', &[&body])?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        recvmsg(&self.stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut received = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => rights.collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        Ok(received.next().ok_or(io::ErrorKind::UnexpectedEof)?.into())
    }

    /// Waits until the program that was started last ends.
    ///
    /// # Errors
    /// When the caller went away.
    pub fn wait(&mut self) -> io::Result<Status> {
        self.send(b'W', &[])?;
        let mut status = [0; 4];
        self.stream.read_exact(&mut status)?;
        Ok(run::decode(i32::from_le_bytes(status)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_whole_or_not_at_all() {
        let request = Request::parse(b"ls\0\0-l\0A=1\0/root\0", 3, 1).unwrap();
        assert_eq!(request.arguments, [&b"ls"[..], b"", b"-l"]);
        assert_eq!(request.environment, [b"A=1"]);
        assert_eq!(request.directory.as_deref(), Some(&b"/root"[..]));
        let name = Request::parse(b"ls\0", 1, u32::MAX).unwrap();
        assert_eq!((name.arguments, name.directory), (vec![b"ls".to_vec()], None));
        for (bytes, arguments, variables) in
            [(&b""[..], 0, 0), (b"ls", 1, 0), (b"ls\0", 1, 0), (b"ls\0/\0x\0", 1, 0), (b"ls\0A=1\0/\0", 1, 2)]
        {
            assert_eq!(Request::parse(bytes, arguments, variables), None, "{bytes:?}");
        }
    }
}
