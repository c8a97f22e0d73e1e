//! Which settings of LXC itself Proxmox lets through.

use super::problem::Fault;

/// Keys that Proxmox passes on to LXC.
const PASSED_ON: &[&str] = &[
    "lxc.apparmor.allow_incomplete",
    "lxc.apparmor.allow_nesting",
    "lxc.apparmor.profile",
    "lxc.apparmor.raw",
    "lxc.arch",
    "lxc.autodev",
    "lxc.cap.drop",
    "lxc.cap.keep",
    "lxc.console.logfile",
    "lxc.console.path",
    "lxc.devtty.dir",
    "lxc.environment",
    "lxc.environment.hooks",
    "lxc.environment.runtime",
    "lxc.group",
    "lxc.hook.autodev",
    "lxc.hook.clone",
    "lxc.hook.destroy",
    "lxc.hook.mount",
    "lxc.hook.post-stop",
    "lxc.hook.pre-mount",
    "lxc.hook.pre-start",
    "lxc.hook.start",
    "lxc.hook.stop",
    "lxc.hook.version",
    "lxc.idmap",
    "lxc.include",
    "lxc.init.cmd",
    "lxc.init.cwd",
    "lxc.init.gid",
    "lxc.init.groups",
    "lxc.init.uid",
    "lxc.kmsg",
    "lxc.log.file",
    "lxc.log.level",
    "lxc.mount.auto",
    "lxc.mount.entry",
    "lxc.mount.fstab",
    "lxc.pty.max",
    "lxc.rootfs.mount",
    "lxc.seccomp.notify.cookie",
    "lxc.seccomp.notify.proxy",
    "lxc.seccomp.profile",
    "lxc.selinux.context",
    "lxc.signal.halt",
    "lxc.signal.reboot",
    "lxc.signal.stop",
    "lxc.start.auto",
    "lxc.start.delay",
    "lxc.start.order",
    "lxc.sysctl.fs.mqueue",
    "lxc.sysctl.kernel.msgmax",
    "lxc.sysctl.kernel.msgmnb",
    "lxc.sysctl.kernel.msgmni",
    "lxc.sysctl.kernel.sem",
    "lxc.sysctl.kernel.shm_rmid_forced",
    "lxc.sysctl.kernel.shmall",
    "lxc.sysctl.kernel.shmmax",
    "lxc.sysctl.kernel.shmmni",
    "lxc.tty.max",
    "lxc.uts.name",
];

/// Families of keys that Proxmox passes on whatever follows.
const FAMILIES: &[&str] = &["lxc.cgroup2.", "lxc.prlimit.", "lxc.net."];

/// What is wrong with using `key`, if anything.
pub(super) fn fault(key: &str) -> Option<Fault> {
    match key {
        "lxc.rootfs.path" => Some(Fault::Forbidden("Proxmox makes it from `rootfs`")),
        "lxc.rootfs.options" => Some(Fault::Forbidden("write mount options into `rootfs`")),
        _ if key.starts_with("lxc.cgroup.") => {
            Some(Fault::Forbidden("nodes have version 2 control groups; write `lxc.cgroup2.…`"))
        }
        _ if PASSED_ON.binary_search(&key).is_ok() => None,
        _ if FAMILIES.iter().any(|family| key.len() > family.len() && key.starts_with(family)) => None,
        _ => Some(Fault::UnknownKey),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_so_that_it_can_be_searched() {
        assert!(PASSED_ON.is_sorted());
        assert_eq!(fault("lxc.idmap"), None);
        assert_eq!(fault("lxc.cgroup2.devices.allow"), None);
        assert_eq!(fault("lxc.net."), Some(Fault::UnknownKey));
        assert_eq!(fault("lxc.utsname"), Some(Fault::UnknownKey));
        assert!(matches!(fault("lxc.rootfs.path"), Some(Fault::Forbidden(_))));
        assert!(matches!(fault("lxc.cgroup.memory.limit"), Some(Fault::Forbidden(_))));
    }
}
