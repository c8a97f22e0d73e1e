//! The worker process: how it leaves the host behind.
//!
//! Comes in: a process that [`Worker::spawn`](super::Worker::spawn) started. Goes out: the same process as root of its
//! own namespaces, in a file system that holds `/proc`, a few devices and nothing else.

#![allow(unsafe_code, reason = "takes descriptors by number and unshares namespaces")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, mount_change};
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{DumpableBehavior, getegid, geteuid, set_dumpable_behavior, umask};
use rustix::thread::{
    UnshareFlags, set_thread_groups, set_thread_res_gid, set_thread_res_uid, unshare_unsafe,
};

use super::advice::USER_NAMESPACE;
use super::mount::{self, DEVICES, MountError, Step as _};
use super::process::exit_now;
use super::scratch;
use super::starter::Starter;
use super::worker::message;

/// The first descriptor that the worker inherits.
const FIRST_FD: i32 = 3;

/// The worker could not leave the host behind. The outer process has been told the same.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// Descriptor 0 is not the socket that `Worker::spawn` gives.
    #[error("this command is a part of a build that `build-images` starts by itself")]
    NotAWorker,
    /// The outer process went away or refused.
    #[error("the process that started this worker has ended")]
    Abandoned,
    /// A step failed.
    #[error(transparent)]
    Step(#[from] MountError),
    /// The thread that watches the outer process could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// Proof that this process is inside: root of its own namespaces, without the host's files.
pub struct Inside {
    descriptors: Vec<OwnedFd>,
    pub(super) scratch: Option<OwnedFd>,
    pub(super) starter: Arc<Starter>,
    /// Held as long as this process lives: while it does, nobody may remove the scratch directory.
    _lock: Option<OwnedFd>,
}

impl Inside {
    /// The descriptors given to [`Worker::spawn`](super::Worker::spawn), in that order; empty the second time.
    pub fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.descriptors)
    }
}

/// Leaves the host behind. The first thing a worker does, while it has one thread only.
///
/// In a worker that was started to remove a scratch directory this does so and ends the process.
///
/// # Errors
/// When this process was not started by `Worker::spawn`, or the kernel refuses; the outer process then fails too.
pub fn enter() -> Result<Inside, EnterError> {
    let control = take_control()?;
    let inside = enter_with(&control);
    match inside {
        Ok(inside) => {
            send(&control, message::READY, b"")?;
            watch(control)?;
            Ok(inside)
        }
        Err(error) => {
            if let EnterError::Step(step) = &error {
                let errno = step.source.raw_os_error().unwrap_or(0).to_ne_bytes();
                let _ = send(&control, message::FAILED, &[&errno, step.step.as_bytes()].concat());
            }
            Err(error)
        }
    }
}

/// The socket to the outer process; descriptor 0 becomes `/dev/null`.
fn take_control() -> Result<OwnedFd, EnterError> {
    let stdin = rustix::stdio::stdin();
    let kind = rustix::net::sockopt::socket_type(stdin);
    if kind != Ok(rustix::net::SocketType::SEQPACKET) {
        return Err(EnterError::NotAWorker);
    }
    let control = rustix::io::fcntl_dupfd_cloexec(stdin, FIRST_FD).step("duplicate a descriptor")?;
    let null = rustix::fs::open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let null = null.step("open `/dev/null`")?;
    rustix::stdio::dup2_stdin(null).step("duplicate a descriptor")?;
    Ok(control)
}

fn enter_with(control: &OwnedFd) -> Result<Inside, EnterError> {
    // SAFETY: this process has one thread, and neither memory nor descriptors are unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER) }.step(USER_NAMESPACE)?;
    send(control, message::UNSHARED, b"")?;
    let orders = receive(control)?;
    let [message::MAPPED, count, duty] = orders[..] else { return Err(EnterError::Abandoned) };
    let mut descriptors = Vec::new();
    for number in (FIRST_FD..).take(count.into()) {
        // SAFETY: the outer process says that it placed one at this number, and nothing here has taken it since.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC)
            .step("close a descriptor on exec")?;
        descriptors.push(descriptor);
    }
    become_root()?;
    let flags = UnshareFlags::NEWNS
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP;
    // SAFETY: as above.
    unsafe { unshare_unsafe(flags) }.step("make mount, network, ipc, uts and cgroup namespaces")?;
    rustix::system::sethostname(super::HOST_NAME.as_bytes()).step("set the host name")?;
    // The host's later mounts must not appear here, nor ours there.
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .step("make all mounts private")?;
    // The outer process made the scratch directory the working one: its path need not be open to this user.
    let scratch = match duty {
        message::NO_SCRATCH => None,
        _ => Some(mount::copy(CWD, c"", false).step("open the scratch directory as a mount")?),
    };
    let lock = scratch.as_ref().and_then(|_| descriptors.pop());
    leave_host()?;
    match scratch {
        Some(scratch) if duty == message::CLEAN => clean(control, &scratch),
        scratch => {
            // SAFETY: this process has one thread.
            let starter = unsafe { Starter::fork() };
            let starter =
                starter.map_err(|source| MountError { step: "start a process for jobs", source })?;
            Ok(Inside { descriptors, scratch, starter: Arc::new(starter), _lock: lock })
        }
    }
}

/// Empties the scratch directory and ends this process.
fn clean(control: &OwnedFd, scratch: &OwnedFd) -> ! {
    let _ = send(control, message::READY, b"");
    let code = match scratch::clear(scratch) {
        Ok(()) => 0,
        Err(errno) => {
            // Standard error is a file of the outer process, which shows it.
            let _ = rustix::io::write(rustix::stdio::stderr(), errno.to_string().as_bytes());
            1
        }
    };
    exit_now(code)
}

/// Takes id 0 of the namespace and drops the host's groups.
fn become_root() -> Result<(), EnterError> {
    set_thread_groups(&[]).step("drop supplementary groups")?;
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    set_thread_res_gid(gid, gid, gid).step("become group 0")?;
    set_thread_res_uid(uid, uid, uid).step("become user 0")?;
    if !geteuid().is_root() || !getegid().is_root() {
        return Err(EnterError::Abandoned);
    }
    umask(Mode::from_raw_mode(0o022));
    // Changing ids made this process's files in /proc the host's root's; its own children's maps are written there.
    set_dumpable_behavior(DumpableBehavior::Dumpable).step("own this process's files in /proc")?;
    Ok(())
}

/// Exchanges the host's file systems for a small one with `/proc` and devices.
fn leave_host() -> Result<(), MountError> {
    // All of /proc, for the kernel lets a user namespace mount a new one only where one is to be seen uncovered.
    let proc = mount::copy(CWD, c"/proc", true).step("copy the mount of `/proc`")?;
    let mut devices = Vec::new();
    for (name, major, minor) in DEVICES {
        let path = [b"/dev/", name.to_bytes_with_nul()].concat();
        let path = CStr::from_bytes_with_nul(&path).unwrap_or(c"/dev/null");
        let device = mount::copy(CWD, path, false).step("copy the mount of a device in `/dev`")?;
        let status = rustix::fs::fstat(&device).step("look at a device in `/dev`")?;
        let number = (rustix::fs::major(status.st_rdev), rustix::fs::minor(status.st_rdev));
        if FileType::from_raw_mode(status.st_mode) != FileType::CharacterDevice || number != (major, minor) {
            return Err(rustix::io::Errno::NODEV)
                .step("use the host's devices: one is not what its name says");
        }
        devices.push((name, device));
    }
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let options = [(c"size", c"1m"), (c"nr_inodes", c"64"), (c"mode", c"0755")];
    let base = mount::make(c"tmpfs", &options, attributes).step("make a tmpfs")?;
    for name in [c"proc", c"dev"] {
        rustix::fs::mkdirat(&base, name, Mode::from_raw_mode(0o755)).step("make a directory")?;
    }
    // It has to be mounted somewhere to become the root; `/proc` is a directory on every host.
    let over = mount::directory(c"/proc").step("open `/proc`")?;
    mount::place(base.as_fd(), over.as_fd()).step("mount a tmpfs")?;
    let target = mount::target(base.as_fd(), c"proc", OFlags::DIRECTORY).step("open a directory")?;
    mount::place(proc.as_fd(), target.as_fd()).step("mount `/proc`")?;
    let dev = mount::target(base.as_fd(), c"dev", OFlags::DIRECTORY).step("open a directory")?;
    for (name, device) in devices {
        place_device(dev.as_fd(), name, device.as_fd()).step("mount a device")?;
    }
    mount::switch_root(base.as_fd()).step("change the root directory")
}

/// Mounts `device` on a new file `name` of `directory`. Takes no lock.
pub(super) fn place_device(
    directory: std::os::fd::BorrowedFd<'_>,
    name: &CStr,
    device: std::os::fd::BorrowedFd<'_>,
) -> Result<(), rustix::io::Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    drop(rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o666))?);
    let target = mount::target(directory, name, OFlags::empty())?;
    mount::place(device, target.as_fd())
}

/// Ends this process, whatever it is doing, as soon as the outer one is gone.
fn watch(control: OwnedFd) -> Result<(), EnterError> {
    let wait = move || {
        // Nothing is said any more; the end of the stream is an error.
        while receive(&control).is_ok() {}
        exit_now(message::ABANDONED);
    };
    let thread = std::thread::Builder::new().name("watch".to_owned()).stack_size(64 << 10);
    thread.spawn(wait).map(drop).map_err(EnterError::Thread)
}

fn send(control: &OwnedFd, kind: u8, rest: &[u8]) -> Result<(), EnterError> {
    let message = [&[kind], rest].concat();
    match rustix::net::send(control, &message, SendFlags::NOSIGNAL) {
        Ok(_) => Ok(()),
        Err(_) => Err(EnterError::Abandoned),
    }
}

fn receive(control: &OwnedFd) -> Result<Vec<u8>, EnterError> {
    let mut buffer = [0; message::LONGEST];
    loop {
        match rustix::net::recv(control, &mut buffer, RecvFlags::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            Ok((length @ 1.., _)) => return Ok(buffer[..length].to_vec()),
            Ok(_) | Err(_) => return Err(EnterError::Abandoned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_started_worker_enters() {
        assert!(matches!(enter(), Err(EnterError::NotAWorker)));
    }
}
