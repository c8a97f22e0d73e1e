//! The process that forks the init of each job: a copy of the worker, made while that is small.
//!
//! A fork copies page tables, and the first write to a page after it copies the page and interrupts all other processors. The
//! worker has hundreds of MiB in many threads, which would all pay for each job; this process has neither. The init it makes is
//! a child of the worker all the same, which waits for it.

#![allow(unsafe_code, reason = "forks")]

use std::ffi::CString;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, Resource, Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use super::init::{self, Plan};
use super::process::{self, Invocation, Process, exit_now};
use super::{Job, filter};

/// A job without what only its supervisor has to know.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    command: Invocation,
    directory: CString,
    max_processes: u64,
    memory: u64,
    max_file: u64,
    one_processor: bool,
    covered: Option<Vec<CString>>,
}

impl Order {
    /// # Errors
    /// A NUL byte in a string.
    pub fn new(job: &Job<'_>) -> io::Result<Self> {
        let (arguments, environment) = (job.args.iter().copied(), job.env.iter().copied());
        Ok(Self {
            command: Invocation::new(job.program.as_ref(), job.program, arguments, environment)?,
            directory: CString::new(job.cwd)?,
            max_processes: job.max_processes,
            memory: job.memory,
            max_file: job.max_file,
            one_processor: job.one_processor,
            covered: job.calls.map(|calls| calls.covered.to_vec()),
        })
    }

    /// Starts init; gives its number.
    fn start(self, control: BorrowedFd<'_>, output: BorrowedFd<'_>) -> io::Result<Pid> {
        let filters = filter::programs().map_err(io::Error::other)?;
        let limits = [
            // Not the address space: programs reserve much more than they use.
            (Resource::Data, self.memory),
            (Resource::Fsize, self.max_file),
            // 1 also keeps the kernel from handing a core to the host's collector, which 0 does not.
            (Resource::Core, 1),
            (Resource::Nofile, 1024),
            (Resource::Memlock, 64 << 10),
            (Resource::Msgqueue, 800 << 10),
            (Resource::Stack, 8 << 20),
        ];
        init::start(&Plan {
            control,
            output,
            program: &self.command.prepare(),
            directory: &self.directory,
            filters: &filters,
            limits: &limits,
            max_processes: self.max_processes,
            one_processor: self.one_processor,
            covered: self.covered.as_deref(),
        })
    }
}

/// The process, as the worker has it. It ends when this is dropped, and with the worker.
pub(super) struct Starter {
    // Before the process: it ends when this closes.
    socket: Mutex<UnixStream>,
    _process: Process,
}

impl Starter {
    /// Makes it.
    ///
    /// # Errors
    /// When the kernel refuses.
    ///
    /// # Safety
    /// This process must have one thread.
    pub unsafe fn fork() -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        // SAFETY: with one thread the child has all there was, and no lock is held by anybody else; it never returns.
        match unsafe { process::fork(0) }? {
            Some(process) => Ok(Self { socket: Mutex::new(ours), _process: process }),
            None => serve(theirs),
        }
    }

    /// Starts a job's init, which has the sockets as its own.
    ///
    /// # Errors
    /// When it cannot be started, or the process that does so has gone.
    pub fn start(
        &self,
        order: &Order,
        control: BorrowedFd<'_>,
        output: BorrowedFd<'_>,
    ) -> io::Result<Process> {
        let order = postcard::to_allocvec(order).map_err(io::Error::other)?;
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        send(&mut socket, &order, &[control, output])?;
        let mut answer = [0; 8];
        socket.read_exact(&mut answer)?;
        let number = |at: usize| i32::from_ne_bytes(std::array::from_fn(|index| answer[at + index]));
        match Pid::from_raw(number(0)) {
            Some(pid) => Ok(Process::adopt(pid)),
            None => Err(io::Error::from_raw_os_error(number(4))),
        }
    }
}

/// Sends the length of `bytes` with `fds`, then `bytes`.
fn send(socket: &mut UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?.to_ne_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // Four bytes are sent whole or not at all.
    sendmsg(&*socket, &[IoSlice::new(&length)], &mut control, SendFlags::NOSIGNAL)?;
    socket.write_all(bytes)
}

fn receive(socket: &mut UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut length = [0; 4];
    let received =
        recvmsg(&*socket, &mut [IoSliceMut::new(&mut length)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let fds = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => rights.collect(),
        _ => Vec::new(),
    });
    let fds = fds.collect();
    if received.bytes != length.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut bytes = vec![0; u32::from_ne_bytes(length) as usize];
    socket.read_exact(&mut bytes)?;
    Ok((bytes, fds))
}

/// Starts inits until the worker has gone.
fn serve(mut socket: UnixStream) -> ! {
    // Everything else is the worker's: whoever waits for the other end of a pipe waits for the worker to close it.
    let own = socket.as_raw_fd().unsigned_abs();
    let alone = process::close_range(3, own.saturating_sub(1))
        .and_then(|()| process::close_range(own + 1, u32::MAX))
        .is_ok();
    if alone && set_parent_process_death_signal(Some(Signal::KILL)).is_ok() {
        while let Ok((order, fds)) = receive(&mut socket) {
            let started = start(&order, fds);
            let (pid, errno) = match started {
                Ok(pid) => (pid.as_raw_pid(), 0),
                Err(error) => (0, error.raw_os_error().unwrap_or(libc::EINVAL)),
            };
            if socket.write_all(&[pid.to_ne_bytes(), errno.to_ne_bytes()].concat()).is_err() {
                break;
            }
        }
    }
    exit_now(0)
}

fn start(order: &[u8], fds: Vec<OwnedFd>) -> io::Result<Pid> {
    let order: Order = postcard::from_bytes(order).map_err(io::Error::other)?;
    let [control, output] = &fds[..] else { return Err(io::ErrorKind::InvalidData.into()) };
    order.start(control.as_fd(), output.as_fd())
}
