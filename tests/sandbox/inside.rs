//! The hostile program: what it tries, and how it says what came of it. Runs as the job.
#![allow(unsafe_code, reason = "tries system calls that no library offers")]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use libc::*;

pub fn main(args: &[&str]) -> ! {
    let [attack, marker, more @ ..] = args else { panic!("no attack") };
    match *attack {
        "look" => look(),
        "network" => network(more[0], more[1]),
        "files" => files(more[0]),
        "processes" => processes(more[0].parse().unwrap()),
        "mounts" => mounts(),
        "calls" => calls(),
        "devices" => devices(),
        "forks" => forks(more[0] == "ids"),
        "disk" => disk(),
        "memory" => memory(marker),
        "hold" => hold(more[0].parse().unwrap()),
        "shared" => shared(),
        "share" => share(),
        "forever" => loop {
            std::hint::spin_loop();
        },
        "sleep" => {
            println!("sleeping");
            std::thread::sleep(Duration::from_secs(more[0].parse().unwrap()));
        }
        "daemon" => daemon(marker),
        "late" => late(marker),
        "flood" => flood(),
        "terminal" => terminal(),
        "chroot" => escape_chroot(),
        "sync" => sync(),
        "limits" => limits(),
        "owners" => owners(),
        "tree" => tree(),
        "other-numbers" => other_numbers(),
        "foreign" => foreign(),
        "fail" => {
            for line in 0..30 {
                println!("line {line}");
            }
            eprintln!("the last line");
            std::process::exit(7);
        }
        other => panic!("no attack `{other}`"),
    }
    std::process::exit(0)
}

/// Says what came of a system call: the name of the error, or that it was done.
fn say(what: &str, result: c_long) {
    let errno = std::io::Error::last_os_error();
    match result {
        -1 => println!("{what}: {}", name(errno.raw_os_error().unwrap())),
        _ => println!("{what}: done"),
    }
}

fn say_io<T>(what: &str, result: std::io::Result<T>) {
    match result {
        Ok(_) => println!("{what}: done"),
        Err(error) => println!("{what}: {}", error.raw_os_error().map_or(error.to_string(), name)),
    }
}

fn name(errno: c_int) -> String {
    match errno {
        EPERM => "EPERM",
        ENOENT => "ENOENT",
        ESRCH => "ESRCH",
        EAGAIN => "EAGAIN",
        ENOMEM => "ENOMEM",
        EACCES => "EACCES",
        EINVAL => "EINVAL",
        ENOSPC => "ENOSPC",
        EFBIG => "EFBIG",
        ENOSYS => "ENOSYS",
        ENXIO => "ENXIO",
        ENOTTY => "ENOTTY",
        EROFS => "EROFS",
        EBADF => "EBADF",
        EAFNOSUPPORT => "EAFNOSUPPORT",
        ECONNREFUSED => "ECONNREFUSED",
        ENETUNREACH => "ENETUNREACH",
        EADDRNOTAVAIL => "EADDRNOTAVAIL",
        other => return format!("errno {other}"),
    }
    .to_owned()
}

/// Everything that a script could write into a file: the same on every host, for every user.
fn look() {
    for key in [
        "Umask",
        "Uid",
        "Gid",
        "Groups",
        "SigBlk",
        "SigIgn",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
    ] {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with(&format!("{key}:"))).unwrap();
        println!("{}", line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    let list = |path: &str| {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names.into_iter().map(|name| name.into_string().unwrap()).collect::<Vec<_>>().join(" ")
    };
    println!("dev {}", list("/dev"));
    println!("root {}", list("/"));
    println!(
        "uid map {:?}",
        fs::read_to_string("/proc/self/uid_map").unwrap().split_whitespace().collect::<Vec<_>>()
    );
    println!(
        "gid map {:?}",
        fs::read_to_string("/proc/self/gid_map").unwrap().split_whitespace().collect::<Vec<_>>()
    );
    println!("host name {}", fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
    println!("directory {}", std::env::current_dir().unwrap().display());
    println!("pid {} parent {}", std::process::id(), std::os::unix::process::parent_id());
    // SAFETY: no arguments.
    println!("session {}", unsafe { getsid(0) });
    for (name, value) in std::env::vars() {
        println!("env {name}={value}");
    }
    // The directory being read is one more.
    for fd in 0..100 {
        if let Ok(target) = fs::read_link(format!("/proc/self/fd/{fd}")) {
            let target = target.display().to_string();
            println!("fd {fd} {}", target.split(':').next().unwrap());
        }
    }
    println!("init {}", fs::read_to_string("/proc/1/cmdline").unwrap().replace('\0', " "));
    for line in fs::read_to_string("/proc/net/dev").unwrap().lines().skip(2) {
        println!("device {}", line.split(':').next().unwrap().trim());
    }
}

fn network(tcp: &str, abstract_name: &str) {
    say_io("tcp to the host", TcpStream::connect_timeout(&tcp.parse().unwrap(), Duration::from_secs(2)));
    let outside = "192.0.2.1:80".parse().unwrap();
    say_io("tcp to the world", TcpStream::connect_timeout(&outside, Duration::from_secs(2)));
    let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
    say_io("udp to the world", udp.send_to(b"hello", "192.0.2.1:53"));
    use std::os::linux::net::SocketAddrExt as _;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(abstract_name).unwrap();
    say_io("abstract socket of the host", std::os::unix::net::UnixStream::connect_addr(&address));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    say_io(
        "tcp to itself",
        TcpStream::connect_timeout(&listener.local_addr().unwrap(), Duration::from_secs(2)),
    );
    // SAFETY: makes sockets from numbers.
    unsafe {
        say("packet socket", socket(AF_PACKET, SOCK_RAW, 0).into());
        say("vsock", socket(AF_VSOCK, SOCK_STREAM, 0).into());
        say("alg", socket(AF_ALG, SOCK_SEQPACKET, 0).into());
        say("bluetooth", socket(31, SOCK_RAW, 0).into());
        say("raw socket", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP).into());
        say("audit", socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT).into());
        say("uevents", socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT).into());
        say("routes", socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE).into());
        say("unix", socket(AF_UNIX, SOCK_STREAM, 0).into());
    }
}

/// `secret` is a file of the host that the test made.
fn files(secret: &str) {
    let up = "../".repeat(40);
    for path in [
        secret.to_owned(),
        format!("/{up}{secret}"),
        format!("/proc/1/root{secret}"),
        format!("/proc/1/cwd{secret}"),
        format!("/proc/self/root{secret}"),
        format!("/proc/self/root/{up}{secret}"),
        format!("/dev/fd/0/{up}{secret}"),
    ] {
        assert!(File::open(&path).is_err(), "read `{path}`");
        assert!(File::options().append(true).open(&path).is_err(), "write `{path}`");
    }
    let own = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let marked = own.lines().filter(|line| line.contains("rootfs") || line.contains("/scratch ")).count();
    println!("mounts of the worker: {marked}");
    for fd in 0..1024 {
        for path in [format!("/proc/1/fd/{fd}"), format!("/proc/1/map_files/{fd}")] {
            assert!(File::open(&path).is_err(), "opened `{path}`");
        }
    }
    // Which error depends on the kernel and on who runs the build; none of them may be read.
    for name in ["root", "cwd", "exe", "mem", "environ", "maps", "syscall", "stack"] {
        let path = format!("/proc/1/{name}");
        assert!(File::open(&path).and_then(|mut file| file.read(&mut [0; 16])).is_err(), "read `{path}`");
    }
    for path in [
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/drop_caches",
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
    ] {
        let result = File::options().write(true).open(path).and_then(|mut file| file.write(b"x"));
        assert!(result.is_err(), "wrote `{path}`");
    }
    for path in ["/proc/kcore", "/proc/keys", "/proc/kallsyms", "/proc/kmsg"] {
        let mut buffer = [0; 64];
        let length = File::open(path).and_then(|mut file| file.read(&mut buffer)).unwrap_or(0);
        println!("{path}: {length} bytes");
    }
    for path in [
        "/sys",
        "/run",
        "/home",
        "/var",
        "/usr",
        "/dev/sda",
        "/dev/kmsg",
        "/dev/mem",
        "/dev/pts",
        "/dev/ptmx",
    ] {
        println!("{path}: {}", if fs::symlink_metadata(path).is_ok() { "exists" } else { "is not there" });
    }
    // A handle for inode 2, the root of most file systems.
    let mut handle: [u32; 8] = [8, 1, 2, 0, 0, 0, 0, 0];
    let root = File::open("/").unwrap();
    use std::os::fd::AsRawFd as _;
    // SAFETY: the handle is large enough for the size that it says.
    say("open by handle", unsafe {
        syscall(SYS_open_by_handle_at, root.as_raw_fd(), handle.as_mut_ptr(), O_RDONLY)
    });
}

/// `host` is a process of the host.
fn processes(host: pid_t) {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids =
        pids.filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()));
    println!("processes to be seen: {}", pids.count());
    // SAFETY: only numbers are given.
    unsafe {
        say("signal to the host", kill(host, 0).into());
        say("kill on the host", kill(host, SIGKILL).into());
        say("pidfd of the host", syscall(SYS_pidfd_open, host, 0));
        say("kill of init", kill(1, SIGKILL).into());
        say("kill of everybody", kill(-1, SIGKILL).into());
        say("trace init", ptrace(PTRACE_ATTACH, 1, 0, 0));
        say("trace me", ptrace(PTRACE_TRACEME, 0, 0, 0));
        say("priority", setpriority(PRIO_PROCESS, 0, -5).into());
        let mut byte = 0u8;
        let local = iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        say("read init's memory", process_vm_readv(1, &local, 1, &local, 1, 0) as c_long);
        say("scheduler", sched_setscheduler(0, SCHED_FIFO, &sched_param { sched_priority: 1 }).into());
    }
    say_io("write init's memory", File::options().write(true).open("/proc/1/mem"));
    println!("still here");
}

fn mounts() {
    let none = std::ptr::null();
    // SAFETY: strings are C literals, the rest numbers; failing is the point.
    unsafe {
        say("tmpfs", mount(c"none".as_ptr(), c"/tmp".as_ptr(), c"tmpfs".as_ptr(), 0, none).into());
        say("proc", mount(c"none".as_ptr(), c"/tmp".as_ptr(), c"proc".as_ptr(), 0, none).into());
        say("bind", mount(c"/".as_ptr(), c"/tmp".as_ptr(), std::ptr::null(), MS_BIND, none).into());
        say(
            "remount",
            mount(c"none".as_ptr(), c"/proc/sys".as_ptr(), std::ptr::null(), MS_REMOUNT | MS_BIND, none)
                .into(),
        );
        say("umount", umount2(c"/proc/sys".as_ptr(), MNT_DETACH).into());
        say("fsopen", syscall(SYS_fsopen, c"tmpfs".as_ptr(), 0));
        say("open_tree", syscall(SYS_open_tree, AT_FDCWD, c"/".as_ptr(), 1));
        say("pivot_root", syscall(SYS_pivot_root, c"/tmp".as_ptr(), c"/tmp".as_ptr()));
        for (what, flag) in [
            ("user", CLONE_NEWUSER),
            ("mount", CLONE_NEWNS),
            ("pid", CLONE_NEWPID),
            ("net", CLONE_NEWNET),
            ("ipc", CLONE_NEWIPC),
            ("uts", CLONE_NEWUTS),
            ("cgroup", CLONE_NEWCGROUP),
        ] {
            say(&format!("unshare {what}"), unshare(flag).into());
            let child = syscall(SYS_clone, c_long::from(flag | SIGCHLD), 0, 0, 0, 0);
            if child == 0 {
                _exit(0);
            }
            say(&format!("clone {what}"), child);
        }
        say("clone3", syscall(SYS_clone3, 0, 0));
        let namespace = open(c"/proc/self/ns/mnt".as_ptr(), O_RDONLY);
        say("setns", setns(namespace, 0).into());
        let namespace = open(c"/proc/1/ns/user".as_ptr(), O_RDONLY);
        say("init's namespaces", namespace.into());
    }
}

fn calls() {
    // SAFETY: numbers and C literals; failing is the point.
    unsafe {
        say("keyctl", syscall(SYS_keyctl, 0, -3i64, 0));
        say("add_key", syscall(SYS_add_key, c"user".as_ptr(), c"x".as_ptr(), c"y".as_ptr(), 1, -4i64));
        say("request_key", syscall(SYS_request_key, c"user".as_ptr(), c"x".as_ptr(), 0, 0));
        say("bpf", syscall(SYS_bpf, 0, 0, 0));
        say("perf_event_open", syscall(SYS_perf_event_open, 0, 0, 0, 0, 0));
        say("userfaultfd", syscall(SYS_userfaultfd, 0));
        say("io_uring_setup", syscall(SYS_io_uring_setup, 1, 0));
        say("init_module", syscall(SYS_init_module, 0, 0, c"".as_ptr()));
        say("finit_module", syscall(SYS_finit_module, 0, c"".as_ptr(), 0));
        say("delete_module", syscall(SYS_delete_module, c"x".as_ptr(), 0));
        say("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 0));
        // Without the magic numbers it would do nothing anyway.
        say("reboot", syscall(SYS_reboot, 0, 0, 0, 0));
        say("swapon", syscall(SYS_swapon, c"/tmp".as_ptr(), 0));
        say("acct", syscall(SYS_acct, 0));
        say("syslog", syscall(SYS_syslog, 3, 0, 0));
        say("sethostname", sethostname(c"evil".as_ptr(), 4).into());
        say("setdomainname", setdomainname(c"evil".as_ptr(), 4).into());
        let time = timespec { tv_sec: 0, tv_nsec: 0 };
        say("clock_settime", clock_settime(CLOCK_REALTIME, &time).into());
        say("settimeofday", syscall(SYS_settimeofday, 0, 0));
        say("fanotify_init", syscall(SYS_fanotify_init, 0, 0));
        say("quotactl", syscall(SYS_quotactl, 0, 0, 0, 0));
        say("memfd_create", syscall(SYS_memfd_create, c"x".as_ptr(), 0));
        say("large shared memory", shmget(IPC_PRIVATE, 1 << 30, 0o600).into());
        say("small shared memory", shmget(IPC_PRIVATE, 4096, 0o600).into());
        say("gain by prctl", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0).into());
        say("undo no_new_privs", prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0).into());
    }
}

fn devices() {
    // SAFETY: C literals and numbers.
    unsafe {
        for (what, kind, device) in [
            ("character", S_IFCHR, makedev(1, 3)),
            // A whiteout of overlayfs, which the kernel gives to everybody.
            ("character 0:0", S_IFCHR, makedev(0, 0)),
            ("block", S_IFBLK, makedev(254, 0)),
        ] {
            say(what, mknod(c"/tmp/device".as_ptr(), kind | 0o666, device).into());
            say(&format!("{what} in /dev"), mknod(c"/dev/device".as_ptr(), kind | 0o666, device).into());
        }
        say("fifo", mkfifo(c"/tmp/fifo".as_ptr(), 0o644).into());
    }
    say_io(
        "null",
        File::options().read(true).write(true).open("/dev/null").and_then(|mut file| file.write(b"x")),
    );
    say_io("zero", File::open("/dev/zero").and_then(|mut file| file.read_exact(&mut [1; 8])));
    say_io("full", File::options().write(true).open("/dev/full").and_then(|mut file| file.write(b"x")));
    say_io("random", File::open("/dev/random").and_then(|mut file| file.read_exact(&mut [0; 8])));
    say_io("urandom", File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut [0; 8])));
    say_io("tty", File::open("/dev/tty"));
    say_io("remove null", fs::remove_file("/dev/null"));
    say_io(
        "run from /dev",
        fs::write("/dev/shm/x", "#!/bin/test\n").and_then(|()| {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions("/dev/shm/x", fs::Permissions::from_mode(0o755))?;
            Command::new("/dev/shm/x").status()
        }),
    );
    say_io("fill /dev", fs::write("/dev/shm/y", vec![0; 20 << 20]));
}

/// Forks until that fails, as root or under as many user ids as it can; all of them stay.
fn forks(many_ids: bool) {
    let mut count = 0u32;
    for number in 0..5000u32 {
        // SAFETY: the child makes system calls only.
        let child = unsafe { fork() };
        match child {
            0 => unsafe {
                if many_ids {
                    setresuid(1000 + number, 1000 + number, 1000 + number);
                    // As many more as this id may have.
                    for _ in 0..5000 {
                        match fork() {
                            -1 => break,
                            0 => loop {
                                pause();
                            },
                            _ => {}
                        }
                    }
                }
                loop {
                    pause();
                }
            },
            -1 => break,
            _ => count += 1,
        }
    }
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let all = processes
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .count();
    println!("forked {}", if count >= 4999 { "without end" } else { "until it failed" });
    println!("processes {all}");
}

fn disk() {
    let mut file = File::create("/tmp/large").unwrap();
    let block = vec![1; 1 << 20];
    let mut written = 0;
    let error = loop {
        match file.write(&block) {
            Ok(length) => written += length,
            Err(error) => break error,
        }
    };
    say_io::<()>("bytes", Err(error));
    println!("written {} MiB", written >> 20);
    fs::remove_file("/tmp/large").unwrap();
    let error =
        (0..1_000_000).map(|number| File::create(format!("/tmp/{number}"))).find_map(Result::err).unwrap();
    say_io::<()>("files", Err(error));
}

fn memory(marker: &str) {
    // SAFETY: maps fresh memory; nothing else refers to it.
    let address = unsafe {
        mmap(std::ptr::null_mut(), 8 << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    };
    say("8 GiB in one process", if address == MAP_FAILED { -1 } else { 0 });
    // Each is allowed that much, all together are not.
    let children: Vec<_> = (0..8)
        .map(|_| Command::new("/bin/test").args(["__inside", "hold", marker, "200"]).spawn().unwrap())
        .collect();
    for mut child in children {
        child.wait().unwrap();
    }
    println!("got it all");
}

fn hold(mib: usize) {
    let memory = vec![1u8; mib << 20];
    std::thread::sleep(Duration::from_secs(20));
    println!("{}", memory.len());
}

/// Maps memory that no limit of one process counts.
fn shared() {
    let length = 2usize << 30;
    // SAFETY: maps fresh memory, and writes into it only.
    unsafe {
        let flags = MAP_SHARED | MAP_ANONYMOUS;
        let address = mmap(std::ptr::null_mut(), length, PROT_READ | PROT_WRITE, flags, -1, 0);
        say("2 GiB shared", if address == MAP_FAILED { -1 } else { 0 });
        for page in (0..length).step_by(4096) {
            address.cast::<u8>().add(page).write_volatile(1);
            // Slower than the watch, so that the test is not about who is faster.
            if page % (64 << 20) == 0 {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    std::thread::sleep(Duration::from_secs(20));
    println!("got it all");
}

/// Shares 64 MiB with many children, which is still 64 MiB.
fn share() {
    let length = 64usize << 20;
    // SAFETY: maps fresh memory, writes into it only; the children make system calls only.
    unsafe {
        let flags = MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE;
        let address = mmap(std::ptr::null_mut(), length, PROT_READ | PROT_WRITE, flags, -1, 0);
        let mut children = Vec::new();
        for _ in 0..30 {
            let child = fork();
            if child == 0 {
                for page in (0..length).step_by(4096) {
                    address.cast::<u8>().add(page).read_volatile();
                }
                sleep(1);
                _exit(0);
            }
            children.push(child);
        }
        for child in children {
            waitpid(child, std::ptr::null_mut(), 0);
        }
    }
    println!("shared");
}

fn daemon(marker: &str) {
    // SAFETY: the children make system calls until they execute a program.
    unsafe {
        if fork() == 0 {
            setsid();
            if fork() == 0 {
                for fd in 0..3 {
                    close(fd);
                }
                for signal in 1..32 {
                    libc::signal(signal, SIG_IGN);
                }
                let args: Vec<_> = ["/bin/test", "__inside", "sleep", marker, "1000"]
                    .iter()
                    .map(|arg| std::ffi::CString::new(*arg).unwrap())
                    .collect();
                let mut pointers: Vec<_> = args.iter().map(|arg| arg.as_ptr()).collect();
                pointers.push(std::ptr::null());
                execv(c"/bin/test".as_ptr(), pointers.as_ptr());
            }
            _exit(0);
        }
    }
    println!("the daemon is started");
}

/// Ends a little before something that it started.
fn late(marker: &str) {
    let mut child = Command::new("/bin/test");
    #[expect(clippy::zombie_processes, reason = "this process ends first, which is the point")]
    child.args(["__inside", "look", marker]).spawn().unwrap();
}

fn flood() {
    let line = "y".repeat(1023);
    let mut out = std::io::stdout().lock();
    while writeln!(out, "{line}").is_ok() {}
}

fn terminal() {
    println!("\x1b]0;owned\x07\x1b[2J\x1b[31mred");
    // SAFETY: numbers, and a character that lives long enough.
    unsafe {
        let byte = b'x';
        for fd in 0..3 {
            say(&format!("TIOCSTI {fd}"), ioctl(fd, TIOCSTI, &byte).into());
        }
        say("TIOCLINUX", ioctl(0, 0x541c, &byte).into());
        say("TIOCSCTTY", ioctl(0, TIOCSCTTY, 0).into());
    }
    say_io("tty", File::open("/dev/tty"));
}

/// The classic: a second root below the first, then upwards from a directory outside of it.
fn escape_chroot() {
    fs::create_dir("/tmp/cell").unwrap();
    let before = File::open("/").unwrap();
    use std::os::fd::AsRawFd as _;
    // SAFETY: C literals and an open descriptor.
    unsafe {
        say("chroot", chroot(c"/tmp/cell".as_ptr()).into());
        say("fchdir", fchdir(before.as_raw_fd()).into());
        for _ in 0..100 {
            chdir(c"..".as_ptr());
        }
        say("chroot", chroot(c".".as_ptr()).into());
    }
    let mut names: Vec<_> =
        fs::read_dir("/").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    println!("at the top: {}", names.join(" "));
}

fn sync() {
    // SAFETY: numbers only.
    unsafe {
        say("fsync", fsync(-1).into());
        say("fdatasync", fdatasync(-1).into());
        say("syncfs", syncfs(-1).into());
        say("sync_file_range", sync_file_range(-1, 0, 0, 0).into());
        say("msync", msync(std::ptr::without_provenance_mut(1), 1, MS_SYNC).into());
        libc::sync();
        // Others still tell.
        say("fchmod", fchmod(-1, 0).into());
    }
}

fn limits() {
    // SAFETY: the structure lives until the calls return.
    unsafe {
        for (what, resource) in [
            ("processes", RLIMIT_NPROC),
            ("data", RLIMIT_DATA),
            ("file size", RLIMIT_FSIZE),
            ("core", RLIMIT_CORE),
            ("open files", RLIMIT_NOFILE),
        ] {
            let mut limit = rlimit { rlim_cur: 0, rlim_max: 0 };
            getrlimit(resource, &mut limit);
            println!("{what} {} {}", limit.rlim_cur, limit.rlim_max);
            limit.rlim_max += 1;
            say(&format!("raise {what}"), setrlimit(resource, &limit).into());
        }
    }
    println!("processors: {}", std::thread::available_parallelism().unwrap());
    libc_signal_ignore(SIGXFSZ);
    let file = File::create("/tmp/file").unwrap();
    use std::os::unix::fs::FileExt as _;
    say_io("a byte beyond the limit", file.write_at(b"x", 1 << 30));
}

fn libc_signal_ignore(signal: c_int) {
    // SAFETY: sets a disposition.
    unsafe { libc::signal(signal, SIG_IGN) };
}

fn owners() {
    // Version 2, CAP_NET_BIND_SERVICE permitted, effective.
    let value: Vec<u8> =
        [0x0200_0001u32, 1 << 10, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    for (name, uid, gid) in [("a", 0, 0), ("b", 1, 2), ("c", 65_535, 65_534)] {
        let path = format!("/tmp/{name}");
        fs::write(&path, "").unwrap();
        say_io(name, std::os::unix::fs::chown(&path, Some(uid), Some(gid)));
    }
    say_io("65536", std::os::unix::fs::chown("/tmp/a", Some(65_536), Some(0)));
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions("/tmp/b", fs::Permissions::from_mode(0o6755)).unwrap();
    say_io(
        "setcap",
        rustix::fs::setxattr("/tmp/c", "security.capability", &value, rustix::fs::XattrFlags::empty())
            .map_err(Into::into),
    );
    let mut read = [0; 64];
    let length = rustix::fs::getxattr("/tmp/c", "security.capability", &mut read).unwrap();
    println!("reads back {}", read[..length] == value);
    // SAFETY: numbers only.
    unsafe {
        say("setgid", setresgid(33, 33, 33).into());
        say("setuid", setresuid(33, 33, 33).into());
        say("setuid back", setresuid(0, 0, 0).into());
    }
    say_io("other's file", File::options().write(true).open("/tmp/c"));
}

/// Leaves a tree that is hard to remove.
fn tree() {
    fs::create_dir("/tmp/closed").unwrap();
    fs::write("/tmp/closed/file", "x").unwrap();
    std::os::unix::fs::chown("/tmp/closed", Some(7), Some(7)).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions("/tmp/closed", fs::Permissions::from_mode(0o000)).unwrap();
    for _ in 0..2000 {
        if fs::create_dir("down").is_err() || std::env::set_current_dir("down").is_err() {
            break;
        }
    }
    println!("made");
}

#[cfg(target_arch = "x86_64")]
fn other_numbers() {
    const X32: c_long = 0x4000_0000;
    // SAFETY: numbers and C literals.
    unsafe {
        say(
            "x32 mount",
            syscall(X32 | SYS_mount, c"none".as_ptr(), c"/tmp".as_ptr(), c"tmpfs".as_ptr(), 0, 0),
        );
        say("x32 getpid", syscall(X32 | SYS_getpid));
        say("x32 unshare", syscall(X32 | SYS_unshare, CLONE_NEWUSER));
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn other_numbers() {}

/// Asks for a namespace by the numbers of i386.
#[cfg(target_arch = "x86_64")]
fn foreign() {
    let result: u64;
    // SAFETY: `int 0x80` changes rax, and r8 to r11 on older kernels.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("rax") 310u64 => result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    println!("i386 unshare: {result}");
}

#[cfg(not(target_arch = "x86_64"))]
fn foreign() {
    // SAFETY: ends this process as the kernel would.
    unsafe { kill(getpid(), SIGSYS) };
}
