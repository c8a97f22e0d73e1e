//! A job's pid 1: what runs between the fork and the job's program, and while that runs.
//!
//! Nothing here allocates or takes a lock; what it needs was prepared before. It confines itself first, so that the program
//! begins confined.

#![allow(unsafe_code, reason = "lives between fork and exec")]

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountFlags, mount_bind, mount_remount};
use rustix::net::{RecvFlags, SendFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, getrlimit, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit, umask,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use seccompiler::BpfProgram;

use super::mount::{self, DEVICES};
use super::process::{self, Program, exit_now};
use super::{capabilities, enter, processor, relay, root};

/// What init and the supervisor say to each other: one byte, then what belongs to it.
pub(super) mod message {
    /// Init: its user namespace exists.
    pub const UNSHARED: u8 = b'U';
    /// Supervisor: ids are mapped, go on.
    pub const GO: u8 = b'G';
    /// Init: the child has become the program, or has ended. Until then it is a copy of the worker.
    pub const STARTED: u8 = b'S';
    /// Init: the program ended; its wait status.
    pub const ENDED: u8 = b'E';
    /// Init: a step failed; its number and an error number.
    pub const FAILED: u8 = b'F';
}

/// What is done in order; the names are for messages.
#[derive(Clone, Copy)]
pub(super) enum Step {
    Begin,
    Descriptors,
    Root,
    Proc,
    Dev,
    Relay,
    Pivot,
    Hide,
    Namespace,
    Rights,
    Limits,
    Capabilities,
    Filter,
    Fork,
    Directory,
    Execute,
}

impl Step {
    /// As "cannot …".
    pub const TEXTS: [&'static str; 16] = [
        "start",
        "arrange descriptors",
        "open the root directory",
        super::advice::MOUNT_PROC,
        "mount `/dev`: the root needs the directory `dev`",
        "mount the relay: the root needs the paths that it covers",
        "change the root directory",
        "hide parts of `/proc`",
        super::advice::USER_NAMESPACE,
        super::advice::USE_RIGHTS,
        "set limits",
        "drop capabilities",
        "install the system-call filter",
        "fork",
        "change to the working directory",
        "execute the program",
    ];
}

/// Everything that the child needs, prepared before the fork.
pub(super) struct Plan<'a> {
    pub control: BorrowedFd<'a>,
    pub output: BorrowedFd<'a>,
    pub program: &'a Program,
    pub directory: &'a CStr,
    pub filters: &'a [BpfProgram],
    pub limits: &'a [(Resource, u64)],
    /// How many processes and threads the job may have at once.
    pub max_processes: u64,
    /// Whether the job stays where it begins.
    pub one_processor: bool,
    /// With a relay: the absolute paths that it covers.
    pub covered: Option<&'a [CString]>,
}

/// Numbers of the descriptors that are left: the socket, then the output.
const CONTROL: i32 = 3;
const OUTPUT: i32 = 4;

/// Parts of `/proc` that a job may read but not write, and parts that are no business of it.
const READ_ONLY: [&CStr; 5] = [c"/proc/sys", c"/proc/irq", c"/proc/bus", c"/proc/fs", c"/proc/sysrq-trigger"];
const HIDDEN: [&CStr; 6] = [
    c"/proc/kcore",
    c"/proc/keys",
    c"/proc/key-users",
    c"/proc/timer_list",
    c"/proc/kallsyms",
    c"/proc/kmsg",
];

type Failure = (Step, Errno);

/// Starts a job's init, the first process of new pid, mount and ipc namespaces, as a child of the worker.
///
/// The network and the host name are the worker's own; nothing of one job stays in them for the next.
pub(super) fn start(plan: &Plan<'_>) -> std::io::Result<Pid> {
    let flags = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC;
    // SAFETY: the child runs `run`, made of system calls on memory prepared above, which does not return.
    match unsafe { process::fork_for_parent(flags) }? {
        Some(init) => Ok(init),
        None => run(plan),
    }
}

/// Runs as the namespace's first process and never returns.
fn run(plan: &Plan<'_>) -> ! {
    if let Err((step, errno)) = confine(plan).and_then(|()| supervise(plan)) {
        fail(step, errno);
    }
    exit_now(0)
}

fn fail(step: Step, errno: Errno) -> ! {
    let errno = errno.raw_os_error().to_ne_bytes();
    send(&[message::FAILED, step as u8, errno[0], errno[1], errno[2], errno[3]]);
    exit_now(127)
}

/// SAFETY of the number: placed by `confine` first of all, closed by nobody before `execve`.
fn control() -> BorrowedFd<'static> {
    // SAFETY: see above.
    unsafe { BorrowedFd::borrow_raw(CONTROL) }
}

fn send(bytes: &[u8]) {
    // When nobody listens the supervisor is dead, and so is this process in a moment.
    let _ = rustix::net::send(control(), bytes, SendFlags::NOSIGNAL);
}

fn raw(errno: i32) -> Errno {
    Errno::from_raw_os_error(errno)
}

fn confine(plan: &Plan<'_>) -> Result<(), Failure> {
    let at = |step: Step| move |errno: Errno| (step, errno);
    if arrange_descriptors(plan).is_err() {
        // There may be no socket to say so; the supervisor notices that it is closed.
        exit_now(127);
    }
    process::reset_signals();
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(at(Step::Begin))?;
    umask(Mode::from_raw_mode(0o022));
    if plan.one_processor {
        processor::stay_here();
    }

    let root = mount::directory(root::PLACE).map_err(at(Step::Root))?;
    mount_proc(root.as_fd()).map_err(at(Step::Proc))?;
    mount_dev(root.as_fd(), plan.covered.is_some()).map_err(at(Step::Dev))?;
    if let Some(covered) = plan.covered {
        mount_relay(root.as_fd(), covered).map_err(at(Step::Relay))?;
    }
    mount::switch_root(root.as_fd()).map_err(at(Step::Pivot))?;
    drop(root);
    hide().map_err(at(Step::Hide))?;
    if plan.covered.is_some() {
        let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        mount_remount(c"/dev/build-images", flags, c"").map_err(at(Step::Relay))?;
    }

    // The namespace's bound on processes is this limit at the moment it is made.
    set_limit(Resource::Nproc, plan.max_processes).map_err(at(Step::Limits))?;
    // SAFETY: this process has one thread, and neither memory nor descriptors are unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER) }.map_err(at(Step::Namespace))?;
    send(&[message::UNSHARED]);
    let mut answer = [0];
    match rustix::net::recv(control(), &mut answer, RecvFlags::empty()) {
        Ok((1, _)) if answer == [message::GO] => {}
        _ => exit_now(127),
    }
    // Nobody inside may trace init or read its files in /proc, although they have the same user id.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(at(Step::Begin))?;
    // Again, should any change of rights have cleared it.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(at(Step::Begin))?;
    probe_rights().map_err(at(Step::Rights))?;

    for (resource, value) in plan.limits {
        set_limit(*resource, *value).map_err(at(Step::Limits))?;
    }
    capabilities::drop_all_others().map_err(at(Step::Capabilities))?;
    for filter in plan.filters {
        seccompiler::apply_filter(filter).map_err(|_| (Step::Filter, raw(process::errno())))?;
    }
    Ok(())
}

/// Leaves the socket and the output open, and nothing else.
fn arrange_descriptors(plan: &Plan<'_>) -> Result<(), i32> {
    let control = process::lift(plan.control.as_raw_fd(), OUTPUT + 1)?;
    let output = process::lift(plan.output.as_raw_fd(), OUTPUT + 1)?;
    // SAFETY: both were just opened.
    unsafe {
        process::place(BorrowedFd::borrow_raw(control), CONTROL)?;
        process::place(BorrowedFd::borrow_raw(output), OUTPUT)?;
    }
    process::close_range(0, 2)?;
    process::close_range(5, u32::MAX)
}

fn mount_proc(root: BorrowedFd<'_>) -> Result<(), Errno> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let proc = mount::make(c"proc", &[], attributes)?;
    let target = mount::target(root, c"proc", OFlags::DIRECTORY)?;
    mount::place(proc.as_fd(), target.as_fd())
}

fn mount_dev(root: BorrowedFd<'_>, with_relay: bool) -> Result<(), Errno> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let options = [(c"size", c"16m"), (c"nr_inodes", c"256"), (c"mode", c"0755")];
    let dev = mount::make(c"tmpfs", &options, attributes)?;
    let ours = mount::directory(c"/dev")?;
    for (name, ..) in DEVICES {
        let device = mount::copy(ours.as_fd(), name, false)?;
        enter::place_device(dev.as_fd(), name, device.as_fd())?;
    }
    for (target, name) in [
        (c"/proc/self/fd", c"fd"),
        (c"/proc/self/fd/0", c"stdin"),
        (c"/proc/self/fd/1", c"stdout"),
        (c"/proc/self/fd/2", c"stderr"),
    ] {
        rustix::fs::symlinkat(target, &dev, name)?;
    }
    rustix::fs::mkdirat(&dev, c"shm", Mode::from_raw_mode(0o1777))?;
    rustix::fs::chmodat(&dev, c"shm", Mode::from_raw_mode(0o1777), rustix::fs::AtFlags::empty())?;
    if with_relay {
        rustix::fs::mkdirat(&dev, c"build-images", Mode::from_raw_mode(0o755))?;
    }
    let target = mount::target(root, c"dev", OFlags::DIRECTORY)?;
    mount::place(dev.as_fd(), target.as_fd())
}

/// Mounts the relay's directory, and the relay on each path of `covered`.
fn mount_relay(root: BorrowedFd<'_>, covered: &[CString]) -> Result<(), Errno> {
    let directory = mount::copy(CWD, relay::PLACE, false)?;
    let target = mount::target(root, c"dev/build-images", OFlags::DIRECTORY)?;
    mount::place(directory.as_fd(), target.as_fd())?;
    let places = mount::target(root, c"dev/build-images", OFlags::DIRECTORY)?;
    for (path, place) in covered.iter().zip(relay::COVERED) {
        // Without the slash: paths are resolved below the root.
        let path = path.to_bytes_with_nul();
        let path = CStr::from_bytes_with_nul(path.strip_prefix(b"/").unwrap_or(path)).unwrap_or(c"");
        let original = mount::copy(root, path, false)?;
        mount::place(original.as_fd(), mount::target(places.as_fd(), place, OFlags::empty())?.as_fd())?;
        let program = mount::copy(CWD, relay::PROGRAM_PLACE, false)?;
        let target = mount::target(root, path, OFlags::empty())?;
        mount::place(program.as_fd(), target.as_fd())?;
    }
    Ok(())
}

fn hide() -> Result<(), Errno> {
    for path in READ_ONLY {
        match mount_bind(path, path) {
            // Not every kernel has all of them.
            Err(Errno::NOENT) => continue,
            other => other?,
        }
        let flags = MountFlags::BIND
            | MountFlags::RDONLY
            | MountFlags::NOSUID
            | MountFlags::NODEV
            | MountFlags::NOEXEC;
        mount_remount(path, flags, c"")?;
    }
    for path in HIDDEN {
        match mount_bind(c"/dev/null", path) {
            Err(Errno::NOENT) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Some hosts hand out user namespaces without the rights that go with them.
fn probe_rights() -> Result<(), Errno> {
    use rustix::fs::{AtFlags, CWD, Gid, Uid, chownat};
    for id in [1, 0] {
        let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
        chownat(CWD, c"/dev/shm", Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn set_limit(resource: Resource, value: u64) -> Result<(), Errno> {
    // Raising a hard limit is refused, so the host's stays where it is the lower one.
    let value = getrlimit(resource).maximum.map_or(value, |maximum| maximum.min(value));
    setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
}

/// Starts the program, reports its end, and buries orphans until it is killed.
fn supervise(plan: &Plan<'_>) -> Result<(), Failure> {
    let descriptors = |errno: i32| (Step::Descriptors, raw(errno));
    // Its end is there when the child has closed it, which `execve` does.
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| (Step::Descriptors, errno))?;
    // Away from the numbers that the child fills.
    let started = process::lift(read.as_raw_fd(), OUTPUT + 1).map_err(descriptors)?;
    let start = process::lift(write.as_raw_fd(), OUTPUT + 1).map_err(descriptors)?;
    drop((read, write));
    // SAFETY: the child makes system calls on prepared memory, then becomes the program or exits; this process has one thread.
    let program = unsafe { process::fork_sharing(become_program, plan) };
    let program = program.map_err(|error| (Step::Fork, raw(error.raw_os_error().unwrap_or(libc::EIO))))?;
    let program_pid = program.pid().as_raw_pid();
    std::mem::forget(program);
    // Only the program's own copies may keep the output open.
    for fd in [OUTPUT, start] {
        process::close_range(fd as u32, fd as u32).map_err(descriptors)?;
    }
    // SAFETY: `lift` opened it, and nothing closes it.
    while rustix::io::read(unsafe { BorrowedFd::borrow_raw(started) }, &mut [0; 1]) == Err(Errno::INTR) {}
    send(&[message::STARTED]);
    loop {
        let mut status = 0;
        // SAFETY: the status is written to a valid integer.
        let pid = unsafe { libc::waitpid(-1, &mut status, 0) };
        if pid == program_pid {
            let status = status.to_ne_bytes();
            send(&[message::ENDED, status[0], status[1], status[2], status[3]]);
        } else if pid == -1 && process::errno() == libc::ECHILD {
            // The supervisor ends this process when it has looked around; its own end does so too.
            let mut nothing = [0];
            let _ = rustix::net::recv(control(), &mut nothing, RecvFlags::empty());
            return Ok(());
        }
    }
}

fn become_program(plan: &Plan<'_>) -> ! {
    let (step, errno) = start_program(plan).err().unwrap_or((Step::Execute, Errno::IO));
    fail(step, errno)
}

fn start_program(plan: &Plan<'_>) -> Result<(), Failure> {
    let at = |step: Step| move |errno: Errno| (step, errno);
    let null =
        rustix::fs::open(c"/dev/null", OFlags::RDONLY, Mode::empty()).map_err(at(Step::Descriptors))?;
    // SAFETY: `supervise`'s process has it open.
    let output = unsafe { BorrowedFd::borrow_raw(OUTPUT) };
    let place = |fd, target| process::place(fd, target).map_err(|errno| (Step::Descriptors, raw(errno)));
    place(null.as_fd(), 0)?;
    place(output, 1)?;
    place(output, 2)?;
    rustix::io::fcntl_setfd(control(), rustix::io::FdFlags::CLOEXEC).map_err(at(Step::Descriptors))?;
    // The number of `null` is whatever was free: 0, as descriptors 0 to 2 were closed.
    std::mem::forget(null);
    // What else is open ends with `execve`.
    process::close_range(OUTPUT as u32, OUTPUT as u32).map_err(|errno| (Step::Descriptors, raw(errno)))?;
    rustix::process::setsid().map_err(at(Step::Begin))?;
    rustix::process::chdir(plan.directory).map_err(at(Step::Directory))?;
    Err((Step::Execute, raw(plan.program.execute())))
}
