//! The system calls that a job does not get, and those that do nothing.
//!
//! A list of what is refused, not of what is allowed: scripts run any program, and the namespaces and dropped
//! capabilities already bound what a call can reach. The filter takes away what costs time for nothing (flushing a
//! root that is read back at once), what would open new kernel code (namespaces, bpf, io_uring, keys), and what is
//! not bounded by a namespace (vsock, shared memory that no process owns).

use std::collections::BTreeMap;

use libc::*;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

/// Do nothing and say it worked. A wrong descriptor goes unnoticed; no program relies on the error.
const NOTHING: [i64; 6] = [SYS_fsync, SYS_fdatasync, SYS_sync, SYS_syncfs, SYS_sync_file_range, SYS_msync];

/// Not for a job: `EPERM`.
const REFUSED: &[i64] = &[
    // Mounts and namespaces.
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_open_tree,
    SYS_move_mount,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_mount_setattr,
    SYS_unshare,
    SYS_setns,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_swapon,
    SYS_swapoff,
    SYS_quotactl,
    SYS_quotactl_fd,
    // Files by handle, which know no root directory.
    SYS_open_by_handle_at,
    SYS_fanotify_init,
    // Keys, which belong to users and not to namespaces.
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    // Other processes' memory.
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_pidfd_getfd,
    SYS_kcmp,
    // The kernel itself and its clock.
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_kexec_load,
    #[cfg(target_arch = "x86_64")]
    SYS_kexec_file_load,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_reboot,
    SYS_acct,
    SYS_syslog,
    SYS_vhangup,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_clock_adjtime,
    SYS_adjtimex,
    #[cfg(target_arch = "x86_64")]
    SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    SYS_modify_ldt,
];

/// As if the kernel were older; programs then do without: `ENOSYS`.
///
/// `clone3` because a filter cannot see its flags, which it takes by pointer. Files in memory because they are
/// bounded by no file system's size and belong to no process once they are not mapped.
const UNKNOWN: [i64; 6] = [
    SYS_clone3,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_memfd_create,
    SYS_memfd_secret,
];

/// The largest SysV shared memory segment; databases ask for a small one to lock their directory. There can be 4096,
/// which stay when no process uses them.
const LARGEST_SEGMENT: u64 = 64 << 10;

/// Families of sockets that end in the network namespace, which has no device but a loopback that is down. Others do
/// not: vsock reaches the hypervisor from any namespace.
const FAMILIES: [i32; 4] = [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK];

/// The filters that a job's init installs, in this order.
///
/// # Errors
/// On an architecture that the compiler does not know.
pub(super) fn programs() -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
    let always = |calls: &[i64]| calls.iter().map(|call| (*call, Vec::new())).collect::<BTreeMap<_, _>>();
    let compare =
        |argument, operator, value| SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value);
    let compare_int = |argument, operator, value: i32| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value as u32 as u64)
    };

    let mut refused = always(REFUSED);
    let mut flags = Vec::new();
    for flag in
        [CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET]
    {
        let flag = flag as u32 as u64;
        flags.push(SeccompRule::new(vec![compare(0, SeccompCmpOp::MaskedEq(flag), flag)?])?);
    }
    refused.insert(SYS_clone, flags);
    // Device nodes, which an image cannot have. The kernel refuses all but the character device 0:0 by itself.
    #[cfg(target_arch = "x86_64")]
    let calls = [(SYS_mknod, 1), (SYS_mknodat, 2)];
    #[cfg(not(target_arch = "x86_64"))]
    let calls = [(SYS_mknodat, 2)];
    for (call, argument) in calls {
        let device = |kind: u32| {
            let operator = SeccompCmpOp::MaskedEq(u64::from(S_IFMT));
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, u64::from(kind))
                .and_then(|condition| SeccompRule::new(vec![condition]))
        };
        refused.insert(call, vec![device(S_IFCHR)?, device(S_IFBLK)?]);
    }
    // Typing into somebody's terminal.
    let request = |number: c_ulong| {
        SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, number)
            .and_then(|condition| SeccompRule::new(vec![condition]))
    };
    refused.insert(SYS_ioctl, vec![request(TIOCSTI as c_ulong)?, request(TIOCLINUX as c_ulong)?]);

    let foreign = FAMILIES
        .into_iter()
        .map(|family| compare_int(0, SeccompCmpOp::Ne, family))
        .collect::<Result<Vec<_>, _>>()?;
    // Of netlink only the routing table, which is empty; audit and kobject events are the whole host's.
    let netlink =
        vec![compare_int(0, SeccompCmpOp::Eq, AF_NETLINK)?, compare_int(2, SeccompCmpOp::Ne, NETLINK_ROUTE)?];
    let family = || Ok(vec![SeccompRule::new(foreign.clone())?, SeccompRule::new(netlink.clone())?]);
    let sockets = BTreeMap::from([(SYS_socket, family()?), (SYS_socketpair, family()?)]);

    let large = SeccompRule::new(vec![compare(1, SeccompCmpOp::Gt, LARGEST_SEGMENT)?])?;
    let segments = BTreeMap::from([(SYS_shmget, vec![large])]);

    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let parts = [
        (always(&NOTHING), 0),
        (refused, EPERM),
        (always(&UNKNOWN), ENOSYS),
        (sockets, EAFNOSUPPORT),
        (segments, EINVAL),
    ];
    let mut programs = Vec::new();
    for (rules, error) in parts {
        let error = SeccompAction::Errno(error as u32);
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, error, architecture)?;
        programs.push(filter.try_into()?);
    }
    programs.extend(other_numbers());
    Ok(programs)
}

/// Second sets of numbers for the same architecture: x32, which the filters above would let pass as unknown calls.
/// Calls of another architecture (i386) end the process; seccompiler's programs begin with that.
#[cfg(target_arch = "x86_64")]
fn other_numbers() -> Option<BpfProgram> {
    /// Set in every number of x32.
    const X32: u32 = 0x4000_0000;
    let statement = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    Some(vec![
        // The number is the first field of what the filter is given.
        statement(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),
        statement(BPF_JMP | BPF_JGE | BPF_K, 0, 1, X32),
        statement(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | ENOSYS as u32),
        statement(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW),
    ])
}

#[cfg(not(target_arch = "x86_64"))]
fn other_numbers() -> Option<BpfProgram> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_compiles() {
        let programs = programs().unwrap();
        assert!(programs.len() >= 5);
        // The kernel takes 4096 instructions each.
        assert!(programs.iter().all(|program| !program.is_empty() && program.len() <= 4096));
    }
}
