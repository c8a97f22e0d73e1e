//! Each attack, and what has to come of it.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::Test;
use crate::world::{Report, run};

pub const TESTS: &[Test] = &[
    ("a job sees the same world for every user", world),
    ("the network is out of reach", network),
    ("host files are out of reach", files),
    ("host processes are out of reach", processes),
    ("mounts and namespaces are refused", mounts),
    ("calls into the kernel are refused", calls),
    ("other numbers for the same calls are refused", other_numbers),
    ("device nodes cannot be made", devices),
    ("forking without end is bounded", forks),
    ("forking without end under many ids is bounded", forks_under_ids),
    ("the disk cannot be filled", disk),
    ("memory cannot be filled", memory),
    ("running for ever is ended", forever),
    ("a daemon is found and ended", daemon),
    ("a process that ends a moment later is no daemon", late),
    ("output without end is ended", flood),
    ("terminals are left alone", terminal),
    ("changing the root twice leads nowhere", chroot),
    ("flushing does nothing", sync),
    ("limits hold and cannot be raised", limits),
    ("owners and capabilities are real", owners),
    ("a failing job gives its last lines", failing),
    ("a program that does not start is named", not_there),
    ("workers run side by side", side_by_side),
];

/// The report's lines, one below the other.
fn text(report: Report) -> String {
    report.success().join("\n")
}

fn world() {
    insta::assert_snapshot!(text(run("look", &[], |_| ())).replace(&format!("{}", std::process::id()), "N"), @r#"
        Umask: 0022
        Uid: 0 0 0 0
        Gid: 0 0 0 0
        Groups:
        SigBlk: 0000000000000000
        SigIgn: 0000000000001000
        CapInh: 0000000000000000
        CapPrm: 00000000800400ff
        CapEff: 00000000800400ff
        CapBnd: 00000000800400ff
        CapAmb: 0000000000000000
        NoNewPrivs: 1
        Seccomp: 2
        dev fd full null random shm stderr stdin stdout tty urandom zero
        root bin dev etc lib64 proc tmp
        uid map ["0", "0", "65536"]
        gid map ["0", "0", "65536"]
        host name localhost
        directory /tmp
        pid 2 parent 1
        session 2
        env LD_LIBRARY_PATH=/lib64
        env RUST_BACKTRACE=0
        fd 0 /dev/null
        fd 1 pipe
        fd 2 pipe
        init build-images __worker
        device lo
        "#);
}

fn network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    use std::os::linux::net::SocketAddrExt as _;
    let name = format!("build-images-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let unix = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    unix.set_nonblocking(true).unwrap();
    let report = run("network", &[&listener.local_addr().unwrap().to_string(), &name], |_| ());
    assert!(listener.accept().is_err(), "the host's server was reached");
    assert!(unix.accept().is_err(), "the host's abstract socket was reached");
    insta::assert_snapshot!(text(report), @r"
        tcp to the host: ENETUNREACH
        tcp to the world: ENETUNREACH
        udp to the world: ENETUNREACH
        abstract socket of the host: ECONNREFUSED
        tcp to itself: ENETUNREACH
        packet socket: EAFNOSUPPORT
        vsock: EAFNOSUPPORT
        alg: EAFNOSUPPORT
        bluetooth: EAFNOSUPPORT
        raw socket: EPERM
        audit: EAFNOSUPPORT
        uevents: EAFNOSUPPORT
        routes: done
        unix: done
        ");
}

fn files() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    for (path, mode) in [(directory.path(), 0o777), (&secret, 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let report = run("files", &[secret.to_str().unwrap()], |_| ());
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
    insta::assert_snapshot!(text(report), @r"
        mounts of the worker: 0
        /proc/kcore: 0 bytes
        /proc/keys: 0 bytes
        /proc/kallsyms: 0 bytes
        /proc/kmsg: 0 bytes
        /sys: is not there
        /run: is not there
        /home: is not there
        /var: is not there
        /usr: is not there
        /dev/sda: is not there
        /dev/kmsg: is not there
        /dev/mem: is not there
        /dev/pts: is not there
        /dev/ptmx: is not there
        open by handle: EPERM
        ");
}

fn processes() {
    let mut victim = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let report = run("processes", &[&victim.id().to_string()], |_| ());
    let alive = victim.try_wait().unwrap().is_none();
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(alive, "a process of the host was ended");
    insta::assert_snapshot!(text(report), @r"
        processes to be seen: 2
        signal to the host: ESRCH
        kill on the host: ESRCH
        pidfd of the host: ESRCH
        kill of init: done
        kill of everybody: ESRCH
        trace init: EPERM
        trace me: EPERM
        priority: EACCES
        read init's memory: EPERM
        scheduler: EPERM
        write init's memory: EACCES
        still here
        ");
}

fn mounts() {
    insta::assert_snapshot!(text(run("mounts", &[], |_| ())), @r"
        tmpfs: EPERM
        proc: EPERM
        bind: EPERM
        remount: EPERM
        umount: EPERM
        fsopen: EPERM
        open_tree: EPERM
        pivot_root: EPERM
        unshare user: EPERM
        clone user: EPERM
        unshare mount: EPERM
        clone mount: EPERM
        unshare pid: EPERM
        clone pid: EPERM
        unshare net: EPERM
        clone net: EPERM
        unshare ipc: EPERM
        clone ipc: EPERM
        unshare uts: EPERM
        clone uts: EPERM
        unshare cgroup: EPERM
        clone cgroup: EPERM
        clone3: ENOSYS
        setns: EPERM
        init's namespaces: EACCES
        ");
}

fn calls() {
    let host = rustix::system::uname().nodename().to_owned();
    insta::assert_snapshot!(text(run("calls", &[], |_| ())), @r"
        keyctl: EPERM
        add_key: EPERM
        request_key: EPERM
        bpf: EPERM
        perf_event_open: EPERM
        userfaultfd: EPERM
        io_uring_setup: ENOSYS
        init_module: EPERM
        finit_module: EPERM
        delete_module: EPERM
        kexec_load: EPERM
        reboot: EPERM
        swapon: EPERM
        acct: EPERM
        syslog: EPERM
        sethostname: EPERM
        setdomainname: EPERM
        clock_settime: EPERM
        settimeofday: EPERM
        fanotify_init: EPERM
        quotactl: EPERM
        memfd_create: ENOSYS
        large shared memory: EINVAL
        small shared memory: done
        gain by prctl: EPERM
        undo no_new_privs: EINVAL
        ");
    assert_eq!(rustix::system::uname().nodename(), &*host);
}

fn other_numbers() {
    let lines = run("other-numbers", &[], |_| ()).success();
    assert!(lines.iter().all(|line| line.ends_with(": ENOSYS")), "{lines:?}");
    // Either the filter ends it or a kernel without i386 does.
    let report = run("foreign", &[], |_| ());
    let status = report.status.as_deref();
    assert!(matches!(status, Some("signal 31" | "signal 11")), "{report:#?}");
}

fn devices() {
    insta::assert_snapshot!(text(run("devices", &[], |_| ())), @r"
        character: EPERM
        character in /dev: EPERM
        character 0:0: EPERM
        character 0:0 in /dev: EPERM
        block: EPERM
        block in /dev: EPERM
        fifo: done
        null: done
        zero: done
        full: ENOSPC
        random: done
        urandom: done
        tty: ENXIO
        remove null: errno 16
        run from /dev: EACCES
        fill /dev: ENOSPC
        ");
}

fn forks() {
    let report = run("forks", &["root"], |order| order.max_processes = 40);
    assert_bounded(&report);
}

fn forks_under_ids() {
    let report = run("forks", &["ids"], |order| order.max_processes = 40);
    assert_bounded(&report);
}

fn assert_bounded(report: &Report) {
    assert_eq!(report.kind, "left", "{report:#?}");
    assert_eq!(report.lines[0], "forked until it failed");
    let count: u32 = report.lines[1].strip_prefix("processes ").unwrap().parse().unwrap();
    assert!((10..=41).contains(&count), "{report:#?}");
}

fn disk() {
    let report = run("disk", &[], |order| {
        order.root_bytes = 128 << 20;
        order.root_files = 500;
    });
    let written: u32 =
        report.lines[1].strip_prefix("written ").unwrap().strip_suffix(" MiB").unwrap().parse().unwrap();
    assert!((10..128).contains(&written), "{report:#?}");
    let lines = report.success();
    assert_eq!((lines[0].as_str(), lines[2].as_str()), ("bytes: ENOSPC", "files: ENOSPC"));
}

fn memory() {
    let report = run("memory", &[], |_| ());
    assert_eq!(report.lines, ["8 GiB in one process: ENOMEM"]);
    assert_eq!(report.error, "`/bin/test` used more than 1073741824 bytes of memory");
    let report = run("shared", &[], |_| ());
    assert_eq!(report.lines, ["2 GiB shared: done"]);
    assert_eq!(report.kind, "memory", "{report:#?}");
    // What is shared counts once, and what the worker uses does not.
    let lines = run("share", &[], |order| (order.memory, order.ballast) = (200 << 20, 500 << 20)).success();
    assert_eq!(lines, ["shared"]);
}

fn forever() {
    let begin = Instant::now();
    let report = run("forever", &[], |order| order.timeout = Duration::from_secs(2));
    assert_eq!(report.error, "`/bin/test` did not end within 2 s");
    assert!(begin.elapsed() >= Duration::from_secs(2));
}

fn daemon() {
    let report = run("daemon", &[], |_| ());
    assert_eq!(report.lines, ["the daemon is started"]);
    let error = report.error.split("marker").next().unwrap();
    assert_eq!(
        error,
        "`/bin/test` ended with exit status 0 and left a process running: `/bin/test __inside sleep "
    );
    assert_eq!(report.tail, ["the daemon is started"]);
}

fn late() {
    let lines = run("late", &[], |_| ()).success();
    assert!(lines.iter().any(|line| line.starts_with("host name ")), "{lines:?}");
}

fn flood() {
    let report = run("flood", &[], |_| ());
    assert_eq!(report.error, "`/bin/test` wrote more than 1048576 bytes to standard output and error");
    assert_eq!(report.tail.len(), 20);
}

fn terminal() {
    insta::assert_snapshot!(text(run("terminal", &[], |_| ())), @r"
        \x1b]0;owned\x07\x1b[2J\x1b[31mred
        TIOCSTI 0: EPERM
        TIOCSTI 1: EPERM
        TIOCSTI 2: EPERM
        TIOCLINUX: EPERM
        TIOCSCTTY: ENOTTY
        tty: ENXIO
        ");
}

fn chroot() {
    insta::assert_snapshot!(text(run("chroot", &[], |_| ())), @r"
        chroot: done
        fchdir: done
        chroot: done
        at the top: bin dev etc lib64 proc tmp
        ");
}

fn sync() {
    insta::assert_snapshot!(text(run("sync", &[], |_| ())), @r"
        fsync: done
        fdatasync: done
        syncfs: done
        sync_file_range: done
        msync: done
        fchmod: EBADF
        ");
}

fn limits() {
    insta::assert_snapshot!(text(run("limits", &[], |_| ())), @r"
        processes 64 64
        raise processes: EPERM
        data 1073741824 1073741824
        raise data: EPERM
        file size 1073741824 1073741824
        raise file size: EPERM
        core 1 1
        raise core: EPERM
        open files 1024 1024
        raise open files: EPERM
        processors: 1
        a byte beyond the limit: EFBIG
        ");
}

fn owners() {
    let report = run("owners", &[], |_| ());
    insta::assert_snapshot!(report.files.join("\n"), @r"
        a 0:0 100644
        b 1:2 106755
        c 65535:65534 100644 0100000200040000000000000000000000000000
        ");
    insta::assert_snapshot!(text(report), @r"
        a: done
        b: done
        c: done
        65536: EINVAL
        setcap: done
        reads back true
        setgid: done
        setuid: done
        setuid back: EPERM
        other's file: EACCES
        ");
}

fn failing() {
    let report = run("fail", &[], |_| ());
    assert_eq!(report.status.as_deref(), Some("exit status 7"));
    assert_eq!(report.lines.len(), 31);
    assert_eq!(
        (report.tail.len(), report.tail[0].as_str(), report.tail[19].as_str()),
        (20, "line 11", "the last line")
    );
}

fn not_there() {
    let report = run("look", &[], |order| order.program = "/bin/nothing".to_owned());
    let error = "cannot execute the program for `/bin/nothing`: No such file or directory (os error 2)";
    assert_eq!((report.kind.as_str(), report.error.as_str()), ("setup", error));
    let report = run("look", &[], |order| order.directory = "/nowhere".to_owned());
    let error =
        "cannot change to the working directory for `/bin/test`: No such file or directory (os error 2)";
    assert_eq!(report.error, error);
}

fn side_by_side() {
    let one = text(run("look", &[], |_| ()));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| text(run("look", &[], |_| ())))).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), one);
        }
    });
}
