//! Making and placing mounts by descriptor, so that no path in between can be exchanged or followed.
//!
//! Everything here takes no lock and, with borrowed C strings, no memory: a job's init uses it after a fork.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};
use rustix::process::{fchdir, pivot_root};

/// A file system could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {source}")]
pub struct MountError {
    /// What was tried, as a verb with its object.
    pub step: &'static str,
    /// Why it failed.
    pub source: std::io::Error,
}

/// Says what was tried when a system call failed.
pub(super) trait Step<T> {
    /// `step` fits "cannot …".
    fn step(self, step: &'static str) -> Result<T, MountError>;
}

impl<T> Step<T> for Result<T, Errno> {
    fn step(self, step: &'static str) -> Result<T, MountError> {
        self.map_err(|source| MountError { step, source: source.into() })
    }
}

/// The device nodes that scripts may use, with their numbers on Linux.
pub(super) const DEVICES: [(&CStr, u32, u32); 6] = [
    (c"null", 1, 3),
    (c"zero", 1, 5),
    (c"full", 1, 7),
    (c"random", 1, 8),
    (c"urandom", 1, 9),
    (c"tty", 5, 0),
];

/// Makes a file system of `kind` that is mounted nowhere yet.
pub(super) fn make(
    kind: &CStr,
    options: &[(&CStr, &CStr)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A copy of the mount at `path`, mounted nowhere yet.
pub(super) fn copy(directory: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    flags.set(OpenTreeFlags::AT_EMPTY_PATH, path.is_empty());
    open_tree(directory, path, flags)
}

/// Mounts what `tree` holds on the object that `target` holds.
pub(super) fn place(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", target, c"", flags)
}

/// Opens `path` below `directory` as a place to mount on; a symbolic link on the way is an error.
pub(super) fn target(directory: BorrowedFd<'_>, path: &CStr, kind: OFlags) -> Result<OwnedFd, Errno> {
    let flags = kind | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(directory, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

/// Makes the mount `root` the root directory and forgets the old one with all below it.
pub(super) fn switch_root(root: BorrowedFd<'_>) -> Result<(), Errno> {
    fchdir(root)?;
    // With both at the same place the old root lies on top of the new one, so no directory is needed to hold it.
    pivot_root(c".", c".")?;
    unmount(c".", UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")
}

/// Opens a directory as it stands now.
pub(super) fn directory(path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}
