//! A Debian 13 machine with Nix: private mount, process, network, host name and control-group namespaces over a shared
//! root, whose changes are kept in memory.
//!
//! Its first process waits for the end of a pipe whose other end this process holds: whatever happens to the test, the
//! kernel then ends everything in the namespaces, and files, network and mounts go with it. Only its control group is
//! outside, and is removed by name.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Into its control group first: a new control-group namespace begins there.
const ENTER_GROUP: &str = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;

/// What the first process does. Its arguments: the shared root and the machine's name. User namespaces are refused in a
/// chroot, so the root has to become the root.
const SETUP: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=0755,size=12g tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
cd /mnt/root
mount -t proc proc proc
mount --rbind /dev dev
mount -t sysfs sysfs sys
mount -t cgroup2 none sys/fs/cgroup
mkdir -p old
hostname "$2"
ip link set lo up
pivot_root . old
umount -l /old
echo ready
exec cat > /dev/null
"#;

/// The variables that programs in a machine see.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("HOME", "/root"),
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("LC_ALL", "C.UTF-8"),
    ("TERM", "dumb"),
];

/// One machine.
pub struct Machine {
    holder: Child,
    /// The first process inside, as this process sees it.
    first: u32,
    group: PathBuf,
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        Self {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The same, when it succeeded.
    #[track_caller]
    pub fn good(self) -> Self {
        assert!(self.ok, "out:\n{}\nerr:\n{}", self.out, self.err);
        self
    }

    /// The same, when it failed.
    #[track_caller]
    pub fn bad(self) -> Self {
        assert!(!self.ok, "out:\n{}\nerr:\n{}", self.out, self.err);
        self
    }

    /// The lines of standard output.
    pub fn lines(&self) -> Vec<String> {
        self.out.lines().map(str::to_owned).collect()
    }

    /// The names of the derivations that are to be built by `nix build --dry-run`, without hash and ending.
    pub fn to_build(&self) -> BTreeSet<String> {
        let lines = self.err.lines().map(str::trim).filter(|line| line.ends_with(".drv"));
        lines.map(derivation_name).collect()
    }
}

/// `/nix/store/HASH-NAME.drv` to `NAME`.
pub fn derivation_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.trim_end_matches(".drv").split_once('-').map_or(file, |(_, name)| name).to_owned()
}

/// Where the version 2 control groups are.
pub fn control_groups() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut found = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (place, kind) = (words.nth(1)?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    });
    found.find(|place| place.join("cgroup.procs").exists())
}

impl Machine {
    /// Starts a machine over the tree `root`, which it does not change.
    pub fn new(root: &Path, name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let groups = control_groups().unwrap();
        remove_groups(&groups, is_orphaned);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let group = groups.join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&group).unwrap();
        let mut holder = Command::new("sh")
            .args(["-c", ENTER_GROUP])
            .arg(&group)
            .args(["unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--fork"])
            .args(["--kill-child", "sh", "-c", SETUP, "sh"])
            .arg(root)
            .arg(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = holder.stdout.take().unwrap();
        let mut machine = Self { first: holder.id(), holder, group };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the machine could not be set up; the reason is above");
        let id = machine.holder.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        machine.first = children.trim().parse().unwrap_or_else(|_| panic!("one child expected: {children}"));
        machine
    }

    /// How this process reaches a path of the machine. No symbolic link on the way may be absolute.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        PathBuf::from(format!("/proc/{}/root", self.first)).join(path.strip_prefix("/").unwrap_or(path))
    }

    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        let path = self.path(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// A command that runs in the machine, and no longer than `seconds`.
    pub fn command(&self, seconds: u32, program: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", ENTER_GROUP])
            .arg(&self.group)
            .args(["nsenter", "--target", &self.first.to_string()])
            .args(["--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--"])
            .args(["timeout", "--kill-after=5", &seconds.to_string(), program])
            .stdin(Stdio::null())
            .env_clear()
            .envs(ENVIRONMENT);
        command
    }

    /// Runs a command for at most four minutes.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Ran {
        Ran::of(self.command(240, program).args(arguments).output().unwrap())
    }

    /// Runs Nix.
    pub fn nix(&self, arguments: &[&str]) -> Ran {
        self.run("nix", arguments)
    }

    /// Runs a function whose sockets are in the machine's network.
    pub fn in_network<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.first)).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                function()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `ip` of the host in the machine's network.
    pub fn ip(&self, arguments: &[&str]) {
        let output = Command::new("nsenter")
            .args(["--target", &self.first.to_string(), "--net", "ip"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Gives the machine a switch with `address` (with prefix) that others are plugged into.
    pub fn make_switch(&self, address: &str) {
        self.ip(&["link", "add", "switch", "type", "bridge"]);
        self.ip(&["address", "add", address, "dev", "switch"]);
        self.ip(&["link", "set", "switch", "up"]);
    }

    /// Plugs the machine into the switch of `hub`, where its end of the cable is called `port`.
    pub fn plug_into(&self, hub: &Machine, port: &str, address: &str) {
        let us = self.first.to_string();
        hub.ip(&["link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", &us]);
        hub.ip(&["link", "set", port, "master", "switch", "up"]);
        self.ip(&["address", "add", address, "dev", "eth0"]);
        self.ip(&["link", "set", "eth0", "up"]);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        let name = self.group.file_name().unwrap_or_default().to_owned();
        if let Some(groups) = self.group.parent() {
            remove_groups(groups, |other| *other == *name);
        }
    }
}

/// Begins the name of each machine's control group.
const PREFIX: &str = "build-images-nix-";

/// Whether a group is of a test process that is no more.
fn is_orphaned(name: &std::ffi::OsStr) -> bool {
    let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
    process.is_some_and(|process| !Path::new("/proc").join(process).exists())
}

fn remove_groups(groups: &Path, doomed: impl Fn(&std::ffi::OsStr) -> bool) {
    for group in fs::read_dir(groups).into_iter().flatten().flatten() {
        if doomed(&group.file_name()) {
            remove_group(&group.path());
        }
    }
}

fn remove_group(group: &Path) {
    for inner in fs::read_dir(group).into_iter().flatten().flatten() {
        if inner.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&inner.path());
        }
    }
    // Its processes were killed a moment ago and may still be on their way out.
    for _ in 0..100 {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(20));
            }
            _ => return,
        }
    }
}
