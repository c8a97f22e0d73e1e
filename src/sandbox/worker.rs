//! The outer half: starting a worker process, mapping its ids, ending it.
#![allow(unsafe_code, reason = "starts a process with descriptors at fixed numbers")]

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::MemfdFlags;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::WaitStatus;

use super::process::{self, Invocation, Process};
use super::{Cleaner, IDS, IdRange, Scratch, advice};

/// What the two halves say to each other: one byte, then what belongs to it.
pub(super) mod message {
    /// Worker: the program could not be started; an error number.
    pub const NOT_STARTED: u8 = b'X';
    /// Worker: the user namespace exists, its ids may be mapped.
    pub const UNSHARED: u8 = b'U';
    /// Worker: all is done.
    pub const READY: u8 = b'R';
    /// Worker: a step failed; an error number, then the step.
    pub const FAILED: u8 = b'F';
    /// Outer: ids are mapped; how many descriptors there are, and what the working directory is for.
    pub const MAPPED: u8 = b'M';
    /// Nothing.
    pub const NO_SCRATCH: u8 = 0;
    /// A root may be made in it; the last descriptor is its lock.
    pub const SCRATCH: u8 = 1;
    /// It is to be emptied, and nothing else to be done; the last descriptor is its lock.
    pub const CLEAN: u8 = 2;
    /// The longest of them.
    pub const LONGEST: usize = 512;
    /// What a worker exits with when the outer process is gone.
    pub const ABANDONED: i32 = 113;
}

/// Where Debian and others put setuid programs. Not `PATH`: what is run here has the right to map ids.
const TOOL_DIRECTORIES: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/run/wrappers/bin"];
/// How much of what a dead worker wrote to standard error is shown.
const STDERR_SHOWN: u64 = 4096;

/// A worker could not be started or did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The worker's program does not run.
    #[error("cannot start the worker `{program}`: {source}")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The host's kernel or its settings refuse what the worker needs.
    #[error("cannot {step} for the sandbox: {source}{advice}")]
    Refused {
        /// What was tried.
        step: String,
        /// Why it failed.
        source: io::Error,
        /// What to change, beginning with `; `, or nothing.
        advice: String,
    },
    /// The programs that map ids for ordinary users are not here.
    #[error("`{tool}` is in none of /usr/bin, /bin, /usr/sbin; install the Debian package `uidmap`")]
    NoTool {
        /// Which program.
        tool: &'static str,
    },
    /// Mapping ids failed.
    #[error("cannot map 65536 ids from {start} with `{tool}`: {reason}")]
    Map {
        /// The program or file that refused.
        tool: String,
        /// The first id of the range.
        start: u32,
        /// What it said.
        reason: String,
    },
    /// The worker ended without having been asked.
    #[error("the worker ended with {status}{}{stderr}", if .stderr.is_empty() { "" } else { ": " })]
    Ended {
        /// Its exit status or signal.
        status: String,
        /// The last it wrote to standard error.
        stderr: String,
    },
    /// The worker sent what no worker sends.
    #[error("the worker `{program}` does not answer as one")]
    NotAWorker {
        /// The program.
        program: PathBuf,
    },
}

/// A process that is root of its own namespaces. It and all it started end when this is dropped.
pub struct Worker {
    // Before the socket, so that the process is killed and not told to end by itself.
    process: Process,
    control: OwnedFd,
    stderr: File,
}

impl Worker {
    /// Starts `exe` with `args`, the descriptors `fds` at the numbers 3, 4, …, an empty environment and null as
    /// standard input and output. It must call [`enter`](super::enter) first; this returns when that has succeeded.
    ///
    /// # Errors
    /// When the program does not start, the host forbids user namespaces, or the ids cannot be mapped.
    pub fn spawn(exe: &Path, args: &[&str], fds: Vec<OwnedFd>, range: &IdRange) -> Result<Self, WorkerError> {
        Self::start(exe, args, fds, range, None)
    }

    /// As [`Worker::spawn`], with a directory on disk that [`Medium::Scratch`](super::Medium) means.
    ///
    /// # Errors
    /// As [`Worker::spawn`].
    pub fn spawn_with_scratch(
        exe: &Path,
        args: &[&str],
        fds: Vec<OwnedFd>,
        range: &IdRange,
        scratch: &Scratch,
    ) -> Result<Self, WorkerError> {
        Self::start(exe, args, fds, range, Some((scratch, message::SCRATCH)))
    }

    /// Empties a scratch directory.
    pub(super) fn clean(cleaner: &Cleaner<'_>, scratch: &Scratch) -> Result<(), WorkerError> {
        let Cleaner { exe, args, range } = cleaner;
        Self::start(exe, args, Vec::new(), range, Some((scratch, message::CLEAN)))?.wait()
    }

    fn start(
        exe: &Path,
        args: &[&str],
        mut fds: Vec<OwnedFd>,
        range: &IdRange,
        scratch: Option<(&Scratch, u8)>,
    ) -> Result<Self, WorkerError> {
        let start = |source: io::Error| WorkerError::Start { program: exe.to_owned(), source };
        let flags = SocketFlags::CLOEXEC;
        let (control, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
                .map_err(|error| start(error.into()))?;
        let stderr = rustix::fs::memfd_create(c"worker-stderr", MemfdFlags::CLOEXEC)
            .map_err(|error| start(error.into()))?;
        if let Some((scratch, _)) = scratch {
            fds.push(scratch.lock().map_err(start)?);
        }
        let count = u8::try_from(fds.len()).map_err(|_| start(io::ErrorKind::ArgumentListTooLong.into()))?;
        let process =
            start_process(exe, args, &theirs, &stderr, fds, scratch.map(|(scratch, _)| scratch.files()))
                .map_err(start)?;
        drop(theirs);
        let mut worker = Self { process, control, stderr: stderr.into() };
        worker.expect(message::UNSHARED, exe)?;
        map_ids(worker.process.pid().as_raw_pid(), range)?;
        let orders = [message::MAPPED, count, scratch.map_or(message::NO_SCRATCH, |(_, duty)| duty)];
        if rustix::net::send(&worker.control, &orders, SendFlags::NOSIGNAL).is_err() {
            return Err(worker.ended());
        }
        worker.expect(message::READY, exe)?;
        Ok(worker)
    }

    /// Waits until the worker ends by itself.
    ///
    /// # Errors
    /// When its exit status is not 0, with the last it wrote to standard error.
    pub fn wait(mut self) -> Result<(), WorkerError> {
        match self.process.wait() {
            Ok(status) if status.exit_status() == Some(0) => Ok(()),
            _ => Err(self.ended()),
        }
    }

    fn expect(&mut self, kind: u8, program: &Path) -> Result<(), WorkerError> {
        let mut buffer = [0; message::LONGEST];
        let length = loop {
            match rustix::net::recv(&self.control, &mut buffer, RecvFlags::empty()) {
                Ok((length, _)) => break length,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break 0,
            }
        };
        let errno = |bytes: &[u8]| {
            let bytes = bytes.get(..4).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
            io::Error::from_raw_os_error(i32::from_ne_bytes(bytes))
        };
        match &buffer[..length] {
            [first] if *first == kind => Ok(()),
            [] => Err(self.ended()),
            [message::NOT_STARTED, number @ ..] => {
                Err(WorkerError::Start { program: program.to_owned(), source: errno(number) })
            }
            [message::FAILED, rest @ ..] if rest.len() > 4 => {
                let step = String::from_utf8_lossy(&rest[4..]).into_owned();
                let source = errno(rest);
                let advice = advice::on(&step, &source, Path::new("/proc/sys"));
                Err(WorkerError::Refused { step, source, advice })
            }
            _ => Err(WorkerError::NotAWorker { program: program.to_owned() }),
        }
    }

    fn ended(&mut self) -> WorkerError {
        let status = self.process.wait();
        let length = self.stderr.seek(SeekFrom::End(0)).unwrap_or(0);
        let _ = self.stderr.seek(SeekFrom::Start(length.saturating_sub(STDERR_SHOWN)));
        let mut text = Vec::new();
        let _ = self.stderr.by_ref().take(STDERR_SHOWN).read_to_end(&mut text);
        let stderr = String::from_utf8_lossy(&text).trim_end().to_owned();
        WorkerError::Ended { status: describe(status.ok()), stderr }
    }
}

fn describe(status: Option<WaitStatus>) -> String {
    match status.map(|status| (status.exit_status(), status.terminating_signal())) {
        Some((Some(code), _)) => format!("exit status {code}"),
        Some((_, Some(signal))) => format!("signal {signal}"),
        _ => "an unknown status".to_owned(),
    }
}

/// Forks and executes; what it returns is the worker, or a child that says over the socket why it is none.
fn start_process(
    exe: &Path,
    args: &[&str],
    control: &OwnedFd,
    stderr: &OwnedFd,
    fds: Vec<OwnedFd>,
    scratch: Option<PathBuf>,
) -> io::Result<Process> {
    // Scripts can read the command line of their init, which is a copy of the worker: no path of the host in it.
    let program = Invocation::new(exe, "build-images", args.iter().copied(), [])?.prepare();
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let scratch = match scratch {
        Some(path) => {
            use std::os::unix::ffi::OsStrExt as _;
            Some(CString::new(path.as_os_str().as_bytes())?)
        }
        None => None,
    };
    let mut given: Vec<_> = [control, stderr].into_iter().chain(&fds).map(|fd| fd.as_raw_fd()).collect();
    let least = i32::try_from(given.len() + 3).map_err(io::Error::other)?;
    let null_fd = null.as_raw_fd();
    let mut become_worker = |connected: &mut bool| -> Result<(), i32> {
        // First out of the way of each other, then into place.
        let null_fd = process::lift(null_fd, least)?;
        for fd in &mut given {
            *fd = process::lift(*fd, least)?;
        }
        let [control, stderr, fds @ ..] = &given[..] else { return Err(libc::EINVAL) };
        let placed = [(*control, 0), (null_fd, 1), (*stderr, 2)];
        for (fd, target) in placed.into_iter().chain(fds.iter().copied().zip(3..)) {
            // SAFETY: the number was just opened by `lift` and stays open in this process.
            process::place(unsafe { BorrowedFd::borrow_raw(fd) }, target)?;
            *connected = true;
        }
        process::close_range(3 + fds.len() as u32, u32::MAX)?;
        process::reset_signals();
        // A terminal's Ctrl-C is for the outer process; the worker ends when that has ended.
        rustix::process::setsid().map_err(|error| error.raw_os_error())?;
        if let Some(scratch) = &scratch {
            rustix::process::chdir(scratch.as_c_str()).map_err(|error| error.raw_os_error())?;
        }
        Err(program.execute())
    };
    // SAFETY: the child runs `become_worker`, made of system calls on memory prepared above, then exits.
    match unsafe { process::fork(0) }? {
        Some(process) => Ok(process),
        None => {
            let mut connected = false;
            let errno = become_worker(&mut connected).err().unwrap_or(libc::EIO).to_ne_bytes();
            if connected {
                let message = [message::NOT_STARTED, errno[0], errno[1], errno[2], errno[3]];
                // SAFETY: the socket was placed at 0, first of all.
                let fd = unsafe { BorrowedFd::borrow_raw(0) };
                let _ = rustix::net::send(fd, &message, SendFlags::NOSIGNAL);
            }
            process::exit_now(127)
        }
    }
}

/// Gives the ids 0 to 65535 of the process's user namespace their meaning outside.
fn map_ids(pid: i32, range: &IdRange) -> Result<(), WorkerError> {
    for (file, tool, start) in
        [("uid_map", "newuidmap", range.uid_start), ("gid_map", "newgidmap", range.gid_start)]
    {
        let fail = |tool: &str, reason: String| WorkerError::Map { tool: tool.to_owned(), start, reason };
        if range.privileged {
            let path = format!("/proc/{pid}/{file}");
            std::fs::write(&path, format!("0 {start} {IDS}\n"))
                .map_err(|error| fail(&path, error.to_string()))?;
            continue;
        }
        let path = TOOL_DIRECTORIES.iter().map(|directory| Path::new(directory).join(tool));
        let path = path.into_iter().find(|path| path.is_file()).ok_or(WorkerError::NoTool { tool })?;
        let arguments = [pid.to_string(), "0".to_owned(), start.to_string(), IDS.to_string()];
        let output = Command::new(&path).args(arguments).env_clear().output();
        let output = output.map_err(|error| fail(&path.display().to_string(), error.to_string()))?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(fail(&path.display().to_string(), reason));
        }
    }
    Ok(())
}
