//! A node of its own for one test: private mount, process and network namespaces with an sshd in them.
//!
//! Its files lie on a tmpfs over /etc, /var, /root and /srv that only it sees; the addresses of the site exist only on
//! its bridge. Its first process waits for the end of a pipe whose other end this process holds, so that whatever
//! happens to the test, the kernel ends everything in the namespaces.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// What the first process does. Arguments: directory of the tools, directory of sshd's files, a name for containers,
/// the size of its storages.
const SETUP: &str = r#"
set -e
mount -t tmpfs -o mode=0755,size=8g tmpfs /mnt
mkdir /mnt/cgroup /mnt/lxc /mnt/bin /mnt/fault /mnt/up /mnt/work /mnt/storage /mnt/srv
mount --rbind /sys/fs/cgroup /mnt/cgroup
mount -t sysfs sysfs /sys
mount --rbind /mnt/cgroup /sys/fs/cgroup
for directory in etc var root; do
    mkdir "/mnt/up/$directory" "/mnt/work/$directory"
    mount -t overlay -o "lowerdir=/$directory,upperdir=/mnt/up/$directory,workdir=/mnt/work/$directory" overlay "/$directory"
done
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir /run/lxc /run/sshd /run/ct
mount -t tmpfs -o mode=0755,size=$4 tmpfs /srv
mount -t tmpfs -o mode=0755,size=$4 tmpfs /mnt/storage
mkdir /var/lib/build-images
mount -t tmpfs -o mode=0700,size=$4 tmpfs /var/lib/build-images
cp "$1"/* /mnt/bin/
# Programs of the node at which something can happen.
for tool in cp find install mv perl setsid sha256sum; do
    real=$(command -v "$tool")
    printf '#!/bin/sh\n[ ! -e /mnt/fault/%s ] || /mnt/bin/at %s || exit 1\nexec %s "$@"\n' "$tool" "$tool" "$real" \
        > "/mnt/bin/$tool"
    chmod 0755 "/mnt/bin/$tool"
done
echo "$3" > /mnt/prefix
rm -f /root/.bashrc /root/.profile
echo root:100000:65536 > /etc/subuid
echo root:100000:65536 > /etc/subgid
sed -i 's/^root:[^:]*:/root:*:/' /etc/shadow
mkdir -p /etc/pve/nodes/node/lxc /etc/pve/nodes/node/qemu-server
ln -s nodes/node/lxc /etc/pve/lxc
ln -s nodes/node/qemu-server /etc/pve/qemu-server
echo 'local-lvm dir rootdir,images /mnt/storage active' > /etc/pve/storage.test
echo 'local dir backup,vztmpl,iso /var/lib/vz active' >> /etc/pve/storage.test
printf 'proxmox-ve: 9.2.0 (running kernel: 6.14)\npve-manager: 9.2.11 (running version: 9.2.11)\npve-container: 6.1.10\n' \
    > /etc/pve/version.test
mkdir -p /var/lib/vz
ip link set lo up
ip link add vmbr3 type bridge
ip link set vmbr3 up
ip address add 172.16.10.1/24 dev vmbr3
ip address add 172.16.10.102/24 dev vmbr3
/usr/sbin/sshd -f "$2/sshd_config" -E "$2/sshd.log"
echo ready
# Takes every orphan, and ends with the test.
exec perl -e '$SIG{CHLD} = "IGNORE"; while (sysread STDIN, my $byte, 1) {}'
"#;

/// A node.
pub struct Node {
    holder: Child,
    first: u32,
    /// sshd's and ssh's files.
    pub directory: TempDir,
    prefix: String,
}

impl Node {
    /// A node whose storage and directory of ours have this size.
    pub fn new(size: &str) -> Node {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        for key in ["host", "client"] {
            let output = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(path.join(key))
                .output()
                .unwrap();
            expect_success("ssh-keygen", &output);
        }
        fs::copy(path.join("client.pub"), path.join("authorized_keys")).unwrap();
        let shown = path.display();
        let sshd = format!(
            "ListenAddress 127.0.0.1:2222\nHostKey {shown}/host\nAuthorizedKeysFile {shown}/authorized_keys\n\
             StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\nMaxStartups 200\nUseDNS no\n\
             PermitRootLogin prohibit-password\nSetEnv PATH=/mnt/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin\n"
        );
        fs::write(path.join("sshd_config"), sshd).unwrap();
        let key = fs::read_to_string(path.join("host.pub")).unwrap();
        fs::write(path.join("known_hosts"), format!("[127.0.0.1]:2222 {key}")).unwrap();
        let config = format!(
            "Host node.test\n  HostName 127.0.0.1\n  Port 2222\n  IdentityFile {shown}/client\n  IdentitiesOnly yes\n  \
             UserKnownHostsFile {shown}/known_hosts\n  StrictHostKeyChecking yes\n  BatchMode yes\n  ConnectTimeout 5\n"
        );
        fs::write(path.join("ssh_config"), config).unwrap();

        let prefix = format!("bi-{}-{}-", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy/node");
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
            .arg(tools)
            .arg(&path)
            .args([&prefix, size])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the node could not be set up; the reason is above");
        let id = holder.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let first: u32 = children.trim().parse().unwrap();
        // ssh reaches the node's network, everything else of the program is outside.
        script(
            &path.join("ssh"),
            &format!("exec nsenter --target {first} --net -- ssh -F {shown}/ssh_config \"$@\"\n"),
        );
        // The same without a connection, for what is done very often.
        script(
            &path.join("near"),
            &format!(
                "for command do :; done\nPATH=/mnt/bin:/usr/sbin:/usr/bin:/sbin:/bin\nexport PATH\n\
                 exec nsenter --target {first} --mount --net --pid -- /bin/bash -c \"$command\"\n"
            ),
        );
        let node = Node { holder, first, directory, prefix };
        node.wait_for_sshd();
        node
    }

    fn wait_for_sshd(&self) {
        for _ in 0..100 {
            if self.try_run("ss -Htln | grep -q :2222").0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        panic!("no sshd: {}", fs::read_to_string(self.directory.path().join("sshd.log")).unwrap_or_default());
    }

    /// The program that reaches it.
    pub fn ssh(&self) -> PathBuf {
        self.directory.path().join("ssh")
    }

    /// A program in its place that needs no connection.
    pub fn near(&self) -> PathBuf {
        self.directory.path().join("near")
    }

    /// How this process reaches a path of the node.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.first)).join(path.trim_start_matches('/'))
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.first.to_string(), "--mount", "--net", "--pid", "--"])
            .args(["timeout", "--kill-after=5", "120", "sh", "-c", script])
            .stdin(Stdio::null())
            .env("PATH", "/mnt/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// A program of this machine that goes on for some time there, ten minutes at most.
    pub fn long(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.first.to_string(), "--mount", "--net", "--pid", "--"])
            .args(["timeout", "--kill-after=5", "600"])
            .arg(program)
            .stdin(Stdio::null());
        command
    }

    /// Runs a script on it; whether that succeeded, and what it printed.
    pub fn try_run(&self, script: &str) -> (bool, String) {
        let output = self.command(script).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Runs a script on it that has to succeed.
    #[track_caller]
    pub fn run(&self, script: &str) -> String {
        let (good, text) = self.try_run(script);
        assert!(good, "`{script}` failed:\n{text}");
        text
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap();
    }

    pub fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    pub fn owner(&self, path: &str) -> (u32, u32, u32) {
        let facts = fs::symlink_metadata(self.path(path)).unwrap();
        (facts.uid(), facts.gid(), facts.mode() & 0o7777)
    }

    pub fn directory(&self, path: &str, owner: (u32, u32), mode: u32) {
        let full = self.path(path);
        fs::create_dir_all(&full).unwrap();
        std::os::unix::fs::chown(&full, Some(owner.0), Some(owner.1)).unwrap();
        fs::set_permissions(&full, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Lets something happen when a point is reached; see `node/pct`.
    pub fn fault(&self, point: &str, what: &str) {
        self.write(&format!("/mnt/fault/{point}"), what);
    }

    pub fn clear_faults(&self) {
        self.run("rm -f /mnt/fault/*");
    }

    /// Waits until something hangs at a point.
    pub fn wait_until_reached(&self) {
        let begun = Instant::now();
        while !self.exists("/mnt/fault/reached") {
            assert!(begun.elapsed() < Duration::from_secs(30), "the point is not reached");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Everything that runs there dies, and it comes up again as a node does.
    pub fn reboot(&self) {
        self.reboot_without_sshd();
        let directory = self.directory.path().display();
        // The killed one may still hold the port.
        self.run(&format!(
            "for try in $(seq 100); do /usr/sbin/sshd -f {directory}/sshd_config -E {directory}/sshd.log && exit 0; \
             sleep 0.05; done; exit 1"
        ));
        self.wait_for_sshd();
    }

    /// The same, for who needs no connection.
    pub fn reboot_without_sshd(&self) {
        // The shell itself and the first process are spared by the kernel.
        let _ = self.command("kill -9 -1; exit 0").output().unwrap();
        self.run(
            "rm -rf /run/ct/* /run/build-images /mnt/fault/*
             for file in /etc/pve/lxc/*.conf; do
                 [ -e \"$file\" ] || continue
                 grep -q '^onboot: 1' \"$file\" && ! grep -q '^lock:' \"$file\" && pct start $(basename \"$file\" .conf)
             done
             true",
        );
    }

    /// The calls of `pct` so far, words separated by blanks; those that only look are left out.
    pub fn calls(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("/mnt/pct.log")).unwrap_or_default();
        let calls = log.lines().map(|line| line.replace('\x1f', " "));
        calls.filter(|call| !call.starts_with("status") && !call.starts_with("config")).collect()
    }

    /// Bytes that went over the connection, either way, since the node was made; of all layers.
    pub fn wire(&self) -> u64 {
        let text = self.run("cat /sys/class/net/lo/statistics/rx_bytes");
        text.trim().parse().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        remove_groups(&self.prefix);
    }
}

/// Removes the control groups that LXC made for containers whose name begins so.
fn remove_groups(prefix: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in std::iter::once(root.to_owned()).chain(hierarchies) {
        for group in fs::read_dir(&hierarchy).into_iter().flatten().flatten() {
            let name = group.file_name().to_string_lossy().into_owned();
            let container = name.strip_prefix("lxc.payload.").or_else(|| name.strip_prefix("lxc.monitor."));
            if container.is_some_and(|name| name.starts_with(prefix)) {
                remove_group(&group.path());
            }
        }
        let _ = fs::remove_dir(hierarchy.join("lxc.pivot"));
    }
}

fn remove_group(group: &Path) {
    for inner in fs::read_dir(group).into_iter().flatten().flatten() {
        if inner.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&inner.path());
        }
    }
    for _ in 0..50 {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(20));
            }
            _ => return,
        }
    }
}

fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What a program wrote, when it succeeded.
#[track_caller]
pub fn expect_success(what: &str, output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{what}` failed ({}):\n{stdout}{stderr}", output.status);
    stdout
}

/// Whether a program can be run.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}
