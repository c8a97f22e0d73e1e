//! Namespaces, id maps, system-call filters and limits around maintainer scripts. The only module with unsafe code.
//!
//! ```text
//! outer process          any thread, any user
//!   Worker::spawn ──▶ worker process      own user, mount, net, ipc and uts namespaces; root of 65,536 ids
//!                       enter()             sees an empty file system of its own, nothing of the host's
//!                       Inside::mount_root  an empty root directory, on tmpfs or on a scratch directory
//!                       RootDir::run ──▶ starter, a small copy of the worker that forks
//!                                        init, pid 1 of a pid namespace      pivots into the root, confines itself
//!                                          └─▶ the program, pid 2            what the script sees of the world
//! ```
//!
//! What comes in: a range of subordinate ids, the worker's program, one [`Job`] at a time. What goes out: the job's
//! status and the last lines it wrote. Never: a program of the host (`newuidmap` and `newgidmap` aside), the network,
//! a file of the host, a process, mount or directory that outlives the worker.
//!
//! ```no_run
//! # use std::path::Path;
//! # use build_images::sandbox::{self, IdRange, Job, Medium, Worker};
//! # fn outer(exe: &Path, order: std::os::fd::OwnedFd) -> Result<(), Box<dyn std::error::Error>> {
//! let worker = Worker::spawn(exe, &["__stage"], vec![order], &IdRange::discover()?)?;
//! worker.wait()?;
//! # Ok(()) }
//! # fn inner() -> Result<(), Box<dyn std::error::Error>> {
//! // In the process that was started, before any thread:
//! let mut inside = sandbox::enter()?;
//! let order = inside.take_descriptors();
//! let root = inside.mount_root(Medium::Memory { bytes: 4 << 30, files: 1 << 20 })?;
//! // Fill root.path(), with any number of threads, then:
//! let job = Job { program: "/usr/bin/dpkg", args: &["--configure", "-a"], ..Job::default() };
//! let outcome = root.run(&job, &mut |line| { /* tell the outer process */ })?;
//! # Ok(()) }
//! ```
//!
//! Decisions that hold for all of it:
//!
//! - **Two user namespaces.** The worker owns one; each job makes another one below it with the same ids. All
//!   mounts, the network, the host name and the pid namespace belong to the worker's, so root inside a job has no
//!   power over them, whatever the system-call filter misses. The second one also makes `RLIMIT_NPROC` count: the
//!   kernel fixes a namespace's bound from the limit of whoever makes it, and counts every process of every id
//!   inside against it. The first one cannot serve for this: made by the host's root it has no bound at all, made by
//!   a user it would count that user's desktop too.
//! - **No cgroups.** A killed build would leave one behind and an ordinary user often may not make one. Memory is
//!   bounded per process by `RLIMIT_DATA` and in sum by the supervisor, which looks every tenth of a second (what can
//!   be touched in that time is beyond the bound); memory that belongs to no process (files, shared segments) by the
//!   size of the file systems and by the filter. Buffers of pipes and sockets are bounded only by their number.
//! - **Death is tied by descent.** The worker has a thread that waits on its socket to the outer process and ends the
//!   worker when that closes, however the outer process died. The starter and each job's init are the worker's children and
//!   die by signal with it; when a pid namespace's init dies the kernel kills all inside. Mounts live in mount namespaces that
//!   die with their last process.

mod advice;
mod capabilities;
mod enter;
mod filter;
mod idle;
mod ids;
mod init;
mod job;
mod mount;
mod output;
mod process;
mod processor;
mod relay;
mod root;
mod run;
mod scratch;
mod starter;
mod worker;

pub use enter::{EnterError, Inside, enter};
pub use idle::only_when_idle;
pub use ids::{AccountFiles, IdRange, IdRangeError};
pub use job::{Job, JobError, LeftProcess, Outcome, Status};
pub use mount::MountError;
pub use processor::processors_are_alike;
pub use relay::{Calls, Connection, DIRECTORY as RELAY_DIRECTORY, Relay, Reply, Request};
pub use root::{Medium, RootDir};
pub use scratch::{Cleaner, Scratch, ScratchError};
pub use worker::{Worker, WorkerError};

/// How many user and group ids an image may use: 0 to 65535.
pub const IDS: u32 = 65_536;

/// The host name that scripts see; it is the same everywhere, since some write it into files.
pub const HOST_NAME: &str = "localhost";
