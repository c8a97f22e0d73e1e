//! The directory that becomes an image's root file system.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, UnmountFlags};

use super::Inside;
use super::mount::{self, MountError, Step as _};
use super::starter::Starter;

/// What holds the root's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// Memory, at most this many bytes and files. It is freed by the kernel when the worker ends, however it ends.
    Memory {
        /// Bytes of contents.
        bytes: u64,
        /// Files, directories and links.
        files: u64,
    },
    /// The scratch directory that the worker was started with.
    Scratch {
        /// A job is ended when fewer bytes than this are free on that file system.
        keep_free: u64,
    },
}

/// An empty directory, mode 0755, that only this worker and its jobs see.
///
/// The worker fills it through [`RootDir::path`] or [`RootDir::descriptor`] with as many threads as it likes.
pub struct RootDir {
    descriptor: OwnedFd,
    keep_free: u64,
    starter: Arc<Starter>,
}

/// Where it is mounted in the worker's file system.
pub(super) const PLACE: &CStr = c"/rootfs";

impl Inside {
    /// Mounts an empty root directory; a worker has one at a time.
    ///
    /// # Errors
    /// When there is one already, no scratch directory was given or it is not empty, or the kernel refuses.
    pub fn mount_root(&mut self, medium: Medium) -> Result<RootDir, MountError> {
        let tree = match medium {
            Medium::Memory { bytes, files } => {
                let text = |number: u64| CString::new(number.to_string()).unwrap_or_default();
                let (bytes, files) = (text(bytes), text(files));
                // Writing takes half the time where a file may have pages as large as it is.
                let options = [
                    (c"huge", c"within_size"),
                    (c"size", &*bytes),
                    (c"nr_inodes", &*files),
                    (c"mode", c"0755"),
                ];
                let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
                mount::make(c"tmpfs", &options, attributes)
                    // Kernels without large pages do not know the word.
                    .or_else(|_| mount::make(c"tmpfs", &options[1..], attributes))
                    .step("make a tmpfs")?
            }
            Medium::Scratch { .. } => self.scratch_root()?,
        };
        let keep_free = match medium {
            Medium::Memory { .. } => 0,
            Medium::Scratch { keep_free } => keep_free,
        };
        attach(tree.as_fd(), PLACE)?;
        let descriptor = mount::directory(PLACE).step("open the root")?;
        probe_modes(descriptor.as_fd())?;
        Ok(RootDir { descriptor, keep_free, starter: Arc::clone(&self.starter) })
    }

    /// A new directory in the scratch directory, since that itself belongs to a user who does not exist here.
    fn scratch_root(&mut self) -> Result<OwnedFd, MountError> {
        let tree =
            self.scratch.take().ok_or(Errno::NOENT).step("use a scratch directory, since none was given")?;
        let flags = rustix::fs::fstatvfs(&tree).step("look at the scratch directory")?.f_flag;
        if flags.contains(rustix::fs::StatVfsMountFlags::NOEXEC) {
            return Err(Errno::ACCESS)
                .step("run programs from the scratch directory, whose file system is mounted noexec");
        }
        attach(tree.as_fd(), c"/scratch")?;
        rustix::fs::mkdirat(&tree, c"root", Mode::from_raw_mode(0o755))
            .step("make the root in the scratch directory")?;
        let root =
            mount::copy(CWD, c"/scratch/root", false).step("open the root in the scratch directory")?;
        // Whatever the directory above says about new files (set-gid, default access lists) is not for an image.
        use rustix::fs::{AtFlags, Gid, Uid};
        rustix::fs::chownat(&root, c"", Some(Uid::ROOT), Some(Gid::ROOT), AtFlags::EMPTY_PATH)
            .and_then(|()| rustix::fs::chmod(c"/scratch/root", Mode::from_raw_mode(0o755)))
            .step("own the root in the scratch directory")?;
        for list in [c"system.posix_acl_default", c"system.posix_acl_access"] {
            match rustix::fs::removexattr(c"/scratch/root", list) {
                Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno).step("remove access lists from the root"),
            }
        }
        // Jobs see the root only.
        rustix::mount::unmount(c"/scratch", UnmountFlags::DETACH).step("leave the scratch directory")?;
        Ok(root)
    }
}

impl RootDir {
    /// Where the directory is, in the worker's file system.
    pub fn path(&self) -> &Path {
        Path::new("/rootfs")
    }

    /// The open directory.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// The path of `relative` below the root. Symbolic links in it are not looked at.
    pub fn join(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.path().join(relative)
    }

    /// How many bytes have to stay free.
    pub(super) fn keep_free(&self) -> u64 {
        self.keep_free
    }

    /// What starts its jobs.
    pub(super) fn starter(&self) -> &Starter {
        &self.starter
    }

    /// Whether fewer bytes are free than have to stay so. A tmpfs has its own limit.
    pub(super) fn is_almost_full(&self) -> bool {
        self.keep_free > 0
            && rustix::fs::fstatvfs(&self.descriptor)
                .is_ok_and(|space| space.f_bavail.saturating_mul(space.f_frsize) < self.keep_free)
    }
}

/// Packages bring set-user-id programs and scripts give files such modes. Who forbids that, as Nix's filter does, is to be
/// known before any package is unpacked.
fn probe_modes(root: BorrowedFd<'_>) -> Result<(), MountError> {
    const NAME: &CStr = c".modes";
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(root, NAME, flags, Mode::from_raw_mode(0o600));
    let file = file.step("make a file in the root")?;
    let set = rustix::fs::fchmod(&file, Mode::from_raw_mode(0o4755));
    rustix::fs::unlinkat(root, NAME, rustix::fs::AtFlags::empty()).step("remove a file from the root")?;
    match set {
        Err(Errno::PERM) => Err(Errno::PERM).step(FORBIDDEN_MODES),
        set => set.step("set the mode of a file in the root"),
    }
}

/// What is said where a filter is in the way, before "Operation not permitted".
const FORBIDDEN_MODES: &str = "give files set-user-id modes, which a system-call filter around this process forbids; in \
                               Nix, write `filter-syscalls = false` into nix.conf of the machine that builds";

/// Mounts `tree` on the new directory `place`.
pub(super) fn attach(tree: BorrowedFd<'_>, place: &CStr) -> Result<(), MountError> {
    rustix::fs::mkdir(place, Mode::from_raw_mode(0o755)).step("make a mount point")?;
    let target = mount::directory(place).step("open a mount point")?;
    mount::place(tree, target.as_fd()).step("mount the root")
}
