//! A node of its own for one test: private mount, process and network namespaces with a bridge in them.
//!
//! The addresses of the site exist only in there, root file systems and the node's directories lie on a tmpfs that
//! only it sees. Its first process waits for the end of a pipe whose other end this process holds: whatever happens
//! to the test, the kernel then ends everything in the namespaces and all of it is gone. Only control groups are
//! outside, and they are removed by name.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// What the first process does. Its arguments: the bridge, then addresses to put on it.
const SETUP: &str = r#"
set -e
mount -t tmpfs -o mode=0755,size=4g tmpfs /mnt
mkdir /mnt/cgroup /mnt/lxc /mnt/srv
# A fresh sysfs shows this namespace's network cards; control groups have to be below it again.
mount --rbind /sys/fs/cgroup /mnt/cgroup
mount -t sysfs sysfs /sys
mount --rbind /mnt/cgroup /sys/fs/cgroup
echo root:100000:65536 > /mnt/subid
mount --bind /mnt/subid /etc/subuid
mount --bind /mnt/subid /etc/subgid
mount --bind /mnt/srv /srv
mkdir -p /run/lxc
mount -t tmpfs tmpfs /run/lxc
ip link set lo up
bridge=$1
shift
ip link add "$bridge" type bridge
ip link set "$bridge" up
for address in "$@"; do ip address add "$address" dev "$bridge"; done
echo ready
exec cat > /dev/null
"#;

/// The namespaces and what holds them.
pub struct World {
    holder: Child,
    /// The first process inside, as this process sees it.
    first: u32,
    /// Starts the names of this world's containers; no other world on this machine has it.
    prefix: String,
}

impl World {
    /// Makes one with a bridge that has `addresses` (with prefix).
    pub fn new(bridge: &str, addresses: &[String]) -> World {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_groups(is_orphaned);
        let mut holder = Command::new("unshare")
            .args([
                "--mount",
                "--net",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
                SETUP,
                "sh",
            ])
            .arg(bridge)
            .args(addresses)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let prefix = format!("bi-{}-{}-", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let output = holder.stdout.take().unwrap();
        let mut world = World { first: holder.id(), holder, prefix };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the namespaces could not be set up; the reason is above");
        let id = world.holder.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        world.first = children.trim().parse().unwrap_or_else(|_| panic!("one child expected: {children}"));
        world
    }

    /// A name for a container.
    pub fn container_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// How this process reaches a path of the world. No symbolic link on the way may be absolute.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        PathBuf::from(format!("/proc/{}/root", self.first)).join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A command that runs in the world, and no longer than `seconds`.
    pub fn command(&self, seconds: u32, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.first.to_string(), "--mount", "--net", "--pid", "--"])
            .args(["timeout", "--kill-after=5", &seconds.to_string(), program])
            .stdin(Stdio::null())
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// Runs a command that has to succeed; gives what it wrote to standard output.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(60, program).args(arguments).output().unwrap();
        expect_success(&format!("{program} {}", arguments.join(" ")), &output)
    }

    /// Runs a function whose sockets are in the world's network.
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

    /// Makes a directory of the node, with the parents it lacks.
    pub fn make_directory(&self, path: &str, owner: (u32, u32), mode: u32) {
        let directory = self.path(path);
        fs::create_dir_all(&directory).unwrap();
        set_owner(&directory, owner);
        set_mode(&directory, mode);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        remove_groups(|name| name.starts_with(&self.prefix));
    }
}

/// Removes the control groups that LXC made for containers whose name `doomed` takes.
fn remove_groups(doomed: impl Fn(&str) -> bool) {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in std::iter::once(root.to_owned()).chain(hierarchies) {
        for group in fs::read_dir(&hierarchy).into_iter().flatten().flatten() {
            let name = group.file_name().to_string_lossy().into_owned();
            let container = name.strip_prefix("lxc.payload.").or_else(|| name.strip_prefix("lxc.monitor."));
            if container.is_some_and(&doomed) {
                remove_group(&group.path());
            }
        }
        // Where LXC's monitors go to die. Another container's may be there still: then this fails, and rightly.
        let _ = fs::remove_dir(hierarchy.join("lxc.pivot"));
    }
}

/// Whether a container's name is of a test process that is no more: one that was killed leaves its groups.
fn is_orphaned(name: &str) -> bool {
    let process = name.strip_prefix("bi-").and_then(|rest| rest.split('-').next());
    process.is_some_and(|process| !Path::new("/proc").join(process).exists())
}

fn remove_group(group: &Path) {
    for inner in fs::read_dir(group).into_iter().flatten().flatten() {
        if inner.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&inner.path());
        }
    }
    // Its processes were killed a moment ago and may still be on their way out.
    for _ in 0..50 {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            _ => return,
        }
    }
}

/// What a program wrote, when it succeeded.
pub fn expect_success(what: &str, output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "`{what}` failed ({}):\n{stdout}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}

/// Sets a file's owner and group, not following a link.
pub fn set_owner(path: &Path, (user, group): (u32, u32)) {
    std::os::unix::fs::lchown(path, Some(user), Some(group)).unwrap();
}

/// Sets a file's permission bits.
pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A file's owner, group and permission bits, not following a link.
pub fn facts(path: &Path) -> (u32, u32, u32) {
    let status = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (status.uid(), status.gid(), status.mode() & 0o7777)
}

/// Whether a program can be run.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

/// A file's text; at most a MiB of it.
pub fn read(path: &Path) -> String {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(1 << 20).read_to_string(&mut text))
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    text
}
