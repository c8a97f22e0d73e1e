//! What root inside a job may do: what dpkg and maintainer scripts need to own files, and no more.

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities};

/// Ownership and modes of files, changing to other users, signals to them, file capabilities, chroot.
///
/// Not here, among others: `SYS_ADMIN` (mounts), `MKNOD`, `NET_ADMIN`, `NET_RAW`, `SYS_PTRACE`, `SYS_RESOURCE` (limits),
/// `SETPCAP`, `LINUX_IMMUTABLE` (files that could not be removed).
pub(super) const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SYS_CHROOT);

/// Gives up all others, for this process and for every program it becomes. Takes no lock.
pub(super) fn drop_all_others() -> Result<(), Errno> {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if KEPT.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // The kernel knows no more of them.
            Err(Errno::INVAL) => break,
            other => other?,
        }
    }
    let sets = CapabilitySets { effective: KEPT, permitted: KEPT, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets)
}
