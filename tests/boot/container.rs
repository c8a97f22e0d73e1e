//! An LXC container made from a pct configuration, as Proxmox's `update_lxc_config` makes it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::pct::{Config, Device};
use crate::restore;
use crate::world::{World, expect_success, read, set_mode, set_owner};

/// How long a container may take to come up, and to go down. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// A restored container; killed when it goes out of scope.
pub struct Container<'world> {
    pub world: &'world World,
    /// LXC's name for it.
    name: String,
    /// Its root file system, as a path of the world.
    pub root: String,
    /// Its configuration.
    pub config: Config,
}

impl<'world> Container<'world> {
    /// A container whose root file system is unpacked at `root`.
    pub fn new(world: &'world World, name: &str, root: &str, config: Config) -> Container<'world> {
        Container { world, name: world.container_name(name), root: root.to_owned(), config }
    }

    /// Does what `pct start` does, and waits until the system is up with no failed unit.
    pub fn start(&self) {
        self.boot();
        self.wait_until_running();
    }

    /// Does what `pct start` does.
    pub fn boot(&self) {
        for bind in self.config.binds() {
            let source = self.world.path(&bind.source);
            assert!(source.is_dir(), "directory `{}` does not exist", bind.source);
        }
        restore::pre_start(self.world, &self.root, &self.config);
        for (index, device) in self.config.devices().iter().enumerate() {
            self.make_device(index, device);
        }
        let file = format!("/mnt/lxc/{}.conf", self.name);
        fs::write(self.world.path(&file), self.lxc_configuration()).unwrap();
        let log = format!("/mnt/lxc/{}.log", self.name);
        let output = self
            .world
            .command(60, "lxc-start")
            .args(["-P", "/mnt/lxc", "-n", &self.name, "-f", &file, "-d", "-o", &log, "-l", "INFO"])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "the container does not start:\n{}{}",
            String::from_utf8_lossy(&output.stderr),
            read(&self.world.path(&log))
        );
    }

    /// Makes a device node of the container's own, as Proxmox does, with its ids shifted as the container's are.
    fn make_device(&self, index: usize, device: &Device) {
        let node = self.device_node(index);
        let (major, minor) = device.number;
        self.world.run("mknod", &[&node, "c", &major.to_string(), &minor.to_string()]);
        let path = self.world.path(&node);
        set_owner(&path, (restore::SHIFT + device.uid, restore::SHIFT + device.gid));
        set_mode(&path, device.mode);
    }

    fn device_node(&self, index: usize) -> String {
        format!("/mnt/lxc/{}.dev{index}", self.name)
    }

    /// Waits until a unit has written this to the journal; gives all that it wrote.
    pub fn wait_for_journal(&self, unit: &str, text: &str) -> String {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let output = self.command(&["journalctl", "--no-pager", "-b", "-u", unit, "-o", "cat"]).output();
            let journal = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
            if journal.contains(text) {
                return journal;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("`{unit}` does not say `{text}`:\n{}", self.report());
    }

    fn wait_until_running(&self) {
        let begin = Instant::now();
        loop {
            let output = self.command(&["systemctl", "is-system-running"]).output().unwrap();
            let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            match state.as_str() {
                "running" => return,
                "" | "offline" | "initializing" | "starting" | "unknown" if begin.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                _ => panic!("the system is `{state}`, not `running`:\n{}", self.report()),
            }
        }
    }

    /// Does what `pct shutdown` does; a container that does not go by itself is a panic.
    pub fn stop(&self) {
        let patience = PATIENCE.as_secs().to_string();
        let output = self
            .world
            .command(180, "lxc-stop")
            .args(["-P", "/mnt/lxc", "-n", &self.name, "--nokill", "-t", &patience])
            .output()
            .unwrap();
        assert!(output.status.success(), "the container does not stop:\n{}", self.report());
    }

    /// Runs a program inside that has to succeed; gives what it wrote to standard output.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        expect_success(&arguments.join(" "), &output)
    }

    /// Runs a shell script inside that has to succeed.
    pub fn shell(&self, script: &str) -> String {
        self.run(&["sh", "-euc", script])
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.world.command(60, "lxc-attach");
        command
            .args(["-P", "/mnt/lxc", "-n", &self.name, "--clear-env"])
            .args(["-v", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "-v", "LC_ALL=C.UTF-8", "--"])
            .args(arguments);
        command
    }

    /// What somebody needs who wants to know why it does not work.
    pub fn report(&self) -> String {
        let mut report = String::new();
        for arguments in [
            ["systemctl", "--no-pager", "--failed", "--full"].as_slice(),
            &["systemctl", "--no-pager", "list-jobs"],
            &["journalctl", "--no-pager", "-b", "-n", "200"],
        ] {
            let output = self.command(arguments).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            let _ = writeln!(report, "--- {}\n{text}", arguments.join(" "));
        }
        report
    }

    /// A path of its root file system, as this process reaches it. Nothing on the way may be a link.
    pub fn path(&self, path: &str) -> std::path::PathBuf {
        self.world.path(&self.root).join(path)
    }

    fn lxc_configuration(&self) -> String {
        let config = &self.config;
        assert_eq!(config.need("unprivileged"), "1", "a privileged container is nothing this runs");
        assert_eq!(config.need("ostype"), "debian");
        assert_eq!(config.need("arch"), "amd64");
        let card = config.card();
        let mut lines = vec![
            "lxc.include = /usr/share/lxc/config/debian.common.conf".to_owned(),
            "lxc.include = /usr/share/lxc/config/debian.userns.conf".to_owned(),
        ];
        if config.feature("nesting") {
            lines.push("lxc.include = /usr/share/lxc/config/nesting.conf".to_owned());
        }
        lines.extend([
            "lxc.apparmor.profile = unconfined".to_owned(),
            "lxc.arch = amd64".to_owned(),
            format!("lxc.uts.name = {}", config.need("hostname")),
            format!("lxc.tty.max = {}", config.get("tty").unwrap_or("2")),
            "lxc.environment = TERM=linux".to_owned(),
            "lxc.idmap = u 0 100000 65536".to_owned(),
            "lxc.idmap = g 0 100000 65536".to_owned(),
            format!("lxc.rootfs.path = dir:{}", self.root),
            "lxc.net.0.type = veth".to_owned(),
            "lxc.net.0.flags = up".to_owned(),
            format!("lxc.net.0.link = {}", card.bridge),
            format!("lxc.net.0.name = {}", card.name),
            format!("lxc.net.0.hwaddr = {}", card.mac),
        ]);
        for bind in config.binds() {
            let options = if bind.read_only { "bind,ro,create=dir" } else { "bind,create=dir" };
            let target = bind.target.trim_start_matches('/');
            lines.push(format!("lxc.mount.entry = {} {target} none {options} 0 0", bind.source));
        }
        for (index, device) in config.devices().iter().enumerate() {
            let (node, target) = (self.device_node(index), device.path.trim_start_matches('/'));
            lines.push(format!("lxc.mount.entry = {node} {target} none bind,create=file 0 0"));
        }
        lines.extend(limits(config));
        lines.join("\n") + "\n"
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The world goes with the test; this is what is left of it.
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "{}", self.report());
        }
        let _ = self.world.command(30, "lxc-stop").args(["-P", "/mnt/lxc", "-n", &self.name, "-k"]).output();
    }
}

/// Memory, swap and cores in the keys of this machine's control groups, as far as it has these controllers.
fn limits(config: &Config) -> Vec<String> {
    let memory = config.number("memory") << 20;
    let swap = config.number("swap") << 20;
    let cores = config.number("cores").min(available_cores());
    let cpus = format!("0-{}", cores - 1);
    let mut lines = Vec::new();
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        lines.push(format!("lxc.cgroup2.memory.max = {memory}"));
        lines.push(format!("lxc.cgroup2.memory.swap.max = {swap}"));
        lines.push(format!("lxc.cgroup2.cpuset.cpus = {cpus}"));
    }
    if Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists() {
        lines.push(format!("lxc.cgroup.memory.limit_in_bytes = {memory}"));
        if Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists() {
            lines.push(format!("lxc.cgroup.memory.memsw.limit_in_bytes = {}", memory + swap));
        }
    }
    if Path::new("/sys/fs/cgroup/cpuset/cpuset.cpus").exists() {
        lines.push(format!("lxc.cgroup.cpuset.cpus = {cpus}"));
    }
    lines
}

/// The machine's cores.
pub fn available_cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u64)
}
