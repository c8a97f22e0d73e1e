//! Child processes: making one without leaving the language's rules, and never losing one.
#![allow(unsafe_code, reason = "fork, exec and signal dispositions have no safe interface")]

use std::cell::UnsafeCell;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::path::Path;
use std::ptr;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};
use serde::{Deserialize, Serialize};

/// A child of this process; killed and waited for when dropped.
pub(super) struct Process {
    pid: Pid,
    status: Option<WaitStatus>,
}

impl Process {
    /// A child that another process made, with `CLONE_PARENT`.
    pub fn adopt(pid: Pid) -> Self {
        Self { pid, status: None }
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Ends it at once. The namespace's other processes end with it where it is the namespace's first.
    pub fn kill(&mut self) {
        if self.status.is_none() {
            // A child that was not waited for keeps its number, so no other process can be hit.
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }

    /// Waits for the end; for a namespace's first process that is the end of all in it.
    pub fn wait(&mut self) -> io::Result<WaitStatus> {
        loop {
            if let Some(status) = self.status {
                return Ok(status);
            }
            match waitpid(Some(self.pid), WaitOptions::empty()) {
                Ok(Some((_, status))) => self.status = Some(status),
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let _ = self.wait();
    }
}

/// Duplicates the calling process; `flags` are `CLONE_NEW…`. The child gets nothing.
///
/// # Safety
/// In the child only the calling thread exists and any lock may be held for ever by one that does not. Until it
/// calls `execve` or `_exit` it must neither allocate nor take a lock: system calls and memory made before only. It
/// must not return from the function that called this one.
pub(super) unsafe fn fork(flags: libc::c_int) -> io::Result<Option<Process>> {
    // SAFETY: without CLONE_VM the child has its own copy of memory and stack, which a null stack asks for; the other
    // arguments are unused without the flags that name them.
    let result = unsafe { libc::syscall(libc::SYS_clone, i64::from(flags | libc::SIGCHLD), 0, 0, 0, 0) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Pid::from_raw(pid as libc::pid_t).map(Process::adopt)),
    }
}

/// As [`fork`], for a child of this process's parent, which may [adopt](Process::adopt) it; nothing in the child.
///
/// # Safety
/// As of [`fork`].
pub(super) unsafe fn fork_for_parent(flags: libc::c_int) -> io::Result<Option<Pid>> {
    // SAFETY: the caller's; the parent gets it, so it is not waited for here.
    let child = unsafe { fork(flags | libc::CLONE_PARENT) }?;
    Ok(child.map(|child| {
        let pid = child.pid;
        std::mem::forget(child);
        pid
    }))
}

/// Bytes of stack for a child that shares memory.
const STACK: usize = 64 << 10;

/// Memory for the stack of such a child: it lives no longer than this process, which stands still meanwhile.
#[repr(align(16))]
struct Stack(UnsafeCell<[u8; STACK]>);

// SAFETY: only the child that `fork_sharing` makes uses it, one at a time.
unsafe impl Sync for Stack {}

static CHILD_STACK: Stack = Stack(UnsafeCell::new([0; STACK]));

/// As [`fork`], for a child that calls `execve` or `_exit` soon: it runs `child` in this process's own memory, which stands still
/// until then. Nothing of that memory has to be copied.
///
/// # Safety
/// As of [`fork`], and this process must have one thread. What the child changes in memory stays changed.
pub(super) unsafe fn fork_sharing<T>(child: fn(&T) -> !, argument: &T) -> io::Result<Process> {
    struct Call<'a, T>(fn(&T) -> !, &'a T);
    extern "C" fn enter<T>(call: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the caller's value, which stands still with the caller.
        let Call(child, argument) = unsafe { &*call.cast::<Call<'_, T>>() };
        child(argument)
    }
    let mut call = Call(child, argument);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack grows downwards from its end, which is aligned, and nobody else uses it; `call` lives until the child has
    // its own memory.
    let result = unsafe {
        let end = CHILD_STACK.0.get().cast::<u8>().add(STACK);
        libc::clone(enter::<T>, end.cast(), flags, (&raw mut call).cast())
    };
    let pid = if result > 0 { Pid::from_raw(result) } else { None };
    pid.map(Process::adopt).ok_or_else(io::Error::last_os_error)
}

/// Ends the calling process without running anything of the program's.
pub(super) fn exit_now(code: libc::c_int) -> ! {
    // SAFETY: `_exit` is one system call and does not return.
    unsafe { libc::_exit(code) }
}

/// Signal handlers, ignored and blocked signals back to what a program expects at its start. Takes no lock.
///
/// Rust programs ignore `SIGPIPE`, and what is ignored stays so across `execve`.
pub(super) fn reset_signals() {
    for signal in 1..=64 {
        // Not by the C library, which refuses the two that it uses itself; even those may have been ignored.
        // All zero is the default disposition, with no flags and no mask, on every architecture.
        let default = [0u64; 4];
        // SAFETY: the structure is at least as large as the kernel's, and the mask 8 bytes as said.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &default, ptr::null_mut::<u64>(), 8) };
    }
    // SAFETY: the set is initialised by `sigemptyset` before it is read.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
    }
}

/// Makes `fd` available as number `target`, open across `execve`. Takes no lock.
pub(super) fn place(fd: BorrowedFd<'_>, target: RawFd) -> Result<(), i32> {
    let fd = fd.as_raw_fd();
    // SAFETY: both are plain numbers; what was open as `target` in this process is the caller's to give up.
    let result =
        unsafe { if fd == target { libc::fcntl(fd, libc::F_SETFD, 0) } else { libc::dup2(fd, target) } };
    if result == -1 { Err(errno()) } else { Ok(()) }
}

/// Duplicates `fd` to a number of at least `least`, closed by `execve`. Takes no lock.
pub(super) fn lift(fd: RawFd, least: RawFd) -> Result<RawFd, i32> {
    // SAFETY: duplicates a descriptor number; a number that is not open is refused.
    let result = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, least) };
    if result == -1 { Err(errno()) } else { Ok(result) }
}

/// Closes the descriptors from `first` to `last`. Takes no lock.
pub(super) fn close_range(first: u32, last: u32) -> Result<(), i32> {
    if first > last {
        return Ok(());
    }
    // SAFETY: called only in children made by `fork`, which own nothing above the numbers they keep.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == -1 { Err(errno()) } else { Ok(()) }
}

/// What the last failed call of the C library left. Takes no lock.
pub(super) fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// A program with its arguments and environment.
#[derive(Serialize, Deserialize)]
pub(super) struct Invocation {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Invocation {
    /// `name` is what the program sees as its own, before `arguments`; the environment is exactly `environment`.
    ///
    /// # Errors
    /// A NUL byte in any of them.
    pub fn new<'a>(
        path: &Path,
        name: &str,
        arguments: impl IntoIterator<Item = &'a str>,
        environment: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> io::Result<Self> {
        use std::os::unix::ffi::OsStrExt as _;
        let path = CString::new(path.as_os_str().as_bytes())?;
        let mut all = vec![CString::new(name)?];
        for argument in arguments {
            all.push(CString::new(argument)?);
        }
        let environment = environment
            .into_iter()
            .map(|(name, value)| CString::new(format!("{name}={value}")))
            .collect::<Result<_, _>>()?;
        Ok(Self { path, arguments: all, environment })
    }

    /// The same for `execve` in a child.
    pub fn prepare(self) -> Program {
        let Self { path, arguments, environment } = self;
        Program { path, arguments: Strings::new(arguments), environment: Strings::new(environment) }
    }
}

/// A program with its arguments and environment, ready for `execve` in a child.
pub(super) struct Program {
    path: CString,
    arguments: Strings,
    environment: Strings,
}

/// A list of strings as C has it, ended by a null pointer.
struct Strings {
    pointers: Vec<*const libc::c_char>,
    // What the pointers point into; its heap memory does not move with it.
    _strings: Vec<CString>,
}

impl Strings {
    fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        Self { pointers, _strings: strings }
    }
}

impl Program {
    /// Becomes the program; returns only when that fails, with the reason. Takes no lock.
    pub fn execute(&self) -> i32 {
        // SAFETY: path and both lists are NUL-terminated strings, the lists end with a null pointer, and all of it
        // lives as long as `self`.
        unsafe {
            libc::execve(
                self.path.as_ptr(),
                self.arguments.pointers.as_ptr(),
                self.environment.pointers.as_ptr(),
            )
        };
        errno()
    }
}
