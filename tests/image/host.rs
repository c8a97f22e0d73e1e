//! The host, as scripts must not see or change it.

use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What a script is told of the host, and what is checked afterwards.
pub struct Host {
    /// Stands in the names of packages and in the arguments of processes that scripts start, and nowhere else.
    pub mark: String,
    /// Text in a file in the user's home and in one in the directory for temporary files.
    pub secret: String,
    tcp: TcpListener,
    udp: UdpSocket,
    directories: [tempfile::TempDir; 2],
    process: Child,
    mounts: BTreeSet<String>,
    name: String,
}

impl Host {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("7{}{number:03}", std::process::id());
        let secret = format!("secret of the host {mark}");
        let tcp = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0")).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let udp = UdpSocket::bind(tcp.local_addr().unwrap()).unwrap();
        udp.set_nonblocking(true).unwrap();
        let home = std::env::home_dir().unwrap();
        // The image has such directories too, but none of these names in them.
        let directories = [std::env::temp_dir(), home].map(|parent| {
            let directory = tempfile::Builder::new().prefix("build-images-host-").tempdir_in(parent).unwrap();
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
            fs::write(directory.path().join("file"), &secret).unwrap();
            directory
        });
        let process = Command::new("sleep").arg(format!("{}1", &mark)).spawn().unwrap();
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { mark, secret, tcp, udp, directories, process, mounts: mounts(), name }
    }

    fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.directories.iter().map(|directory| directory.path().join("file"))
    }

    /// Assignments for the head of a shell script.
    pub fn variables(&self) -> String {
        let files: Vec<_> = self.files().map(|file| file.display().to_string()).collect();
        format!(
            "port={}\naddresses='{}'\nfiles='{}'\nmark={}\npid={}\n",
            self.tcp.local_addr().unwrap().port(),
            addresses().join(" "),
            files.join(" "),
            self.mark,
            self.process.id(),
        )
    }

    /// Fails when the host is not as before or anything of a script is left.
    #[track_caller]
    pub fn expect_unchanged(&mut self) {
        assert!(self.tcp.accept().is_err(), "a script reached a server of the host");
        assert!(self.udp.recv(&mut [0]).is_err(), "a script reached a socket of the host");
        for file in self.files() {
            let found = fs::read_to_string(&file).unwrap();
            assert_eq!(found, self.secret, "a script wrote to the host's `{}`", file.display());
        }
        assert!(self.process.try_wait().unwrap().is_none(), "a script ended a process of the host");
        let added: Vec<_> = mounts().difference(&self.mounts).cloned().collect();
        assert!(added.is_empty(), "{added:#?}");
        assert_eq!(rustix::system::uname().nodename().to_string_lossy(), self.name);
        let own = format!("sleep {}1", self.mark);
        let left = processes(&self.mark, &own);
        assert!(left.is_empty(), "processes are left: {left:#?}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// Addresses of this machine, its loopback addresses first.
fn addresses() -> Vec<String> {
    let output = Command::new("hostname").arg("-I").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    ["127.0.0.1", "::1"].into_iter().chain(text.split_whitespace()).map(str::to_owned).collect()
}

fn mounts() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    // Managers of containers mount cgroups when they need them first.
    text.lines().filter(|line| !line.contains(" /sys/fs/cgroup/")).map(str::to_owned).collect()
}

/// Command lines with `mark` other than `own`, after processes had a moment to go away.
fn processes(mark: &str, own: &str) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let lines = entries.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
        let lines = lines.map(|line| line.replace('\0', " ").trim().to_owned());
        let found: Vec<_> = lines.filter(|line| line.contains(mark) && line != own).collect();
        if found.is_empty() || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
