//! Two equal roots in which the same is done.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output as Ran, Stdio};
use std::time::{Duration, Instant};

use super::super::*;
use super::{PACKAGES, WRAPPING};

const ENVIRONMENT: &[(&str, &str)] = &[
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LC_ALL", "C.UTF-8"),
    ("TZ", "UTC"),
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
    ("PERL_DL_NONLAZY", "1"),
];

#[expect(clippy::print_stderr, reason = "the harness shows it with the test's result")]
fn require(what: &str, available: bool) -> bool {
    if !available {
        let all = std::env::var("BUILD_IMAGES_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!all, "skipped, because {what} is missing, but every test has to run");
        eprintln!("skipped, because {what} is missing");
    }
    available
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A Debian 13 root with the packages as files in /srv/debs; none without a mirror.
pub(super) fn debian() -> Option<PathBuf> {
    if !require("root", rustix::process::geteuid().is_root())
        || !require("mmdebstrap", Command::new("mmdebstrap").arg("--version").output().is_ok())
    {
        return None;
    }
    let said = Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]).output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mirror = said.lines().find(|line| line.trim_end_matches('/').ends_with("/debian"));
    if !require("a Debian mirror in the host's apt configuration", mirror.is_some()) {
        return None;
    }
    let home = std::env::temp_dir().join("build-images-debconf-trixie");
    fs::create_dir_all(&home).unwrap();
    let lock = fs::File::create(home.join("lock")).unwrap();
    lock.lock().unwrap();
    let names: Vec<_> = PACKAGES.iter().chain(WRAPPING).copied().collect();
    let root = home.join(format!("root-{}", &crate::digest::Sha256::of(names.join(" ")).to_string()[..12]));
    if !root.exists() {
        let fresh = tempfile::tempdir_in(&home).unwrap();
        let made = fresh.path().join("root");
        run(Command::new("mmdebstrap").args(["--quiet", "--variant=apt", "trixie"]).arg(&made).arg(mirror?));
        fs::copy("/etc/resolv.conf", made.join("etc/resolv.conf")).unwrap();
        for file in ["/etc/apt/apt.conf", "/etc/apt/auth.conf"] {
            if Path::new(file).exists() {
                fs::copy(file, made.join(&file[1..])).unwrap();
            }
        }
        fs::create_dir(made.join("srv/debs")).unwrap();
        let script = "apt-get -qq -o Acquire::Languages=none update && cd /srv/debs && \
                      apt-get -qq -o APT::Sandbox::User=root download \"$@\" && rm -rf /var/lib/apt/lists";
        run(Command::new("chroot").arg(&made).args(["sh", "-c", script, "sh"]).args(&names));
        fs::rename(&made, &root).unwrap();
    }
    Some(root)
}

/// Runs a program in a root, with nothing of the host but its kernel, and ends what it leaves running.
fn inside(root: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args([
        "--kill-after=5",
        "180",
        "unshare",
        "--fork",
        "--pid",
        "--net",
        "--ipc",
        "--uts",
        "--mount",
    ]);
    command.args(["--kill-child", "--mount-proc"]).arg(format!("--root={}", root.display())).arg("--wd=/");
    command.env_clear().envs(ENVIRONMENT.iter().copied()).stdin(Stdio::null());
    command
}

/// Starts scripts in a root.
struct InRoot<'a> {
    root: &'a Path,
    environment: &'a BTreeMap<String, String>,
    started: Vec<String>,
    child: Option<Child>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Peer for InRoot<'_> {
    fn start(
        &mut self,
        program: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> io::Result<UnixStream> {
        self.started.push(program.to_owned());
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = inside(self.root);
        command
            .env_clear()
            .envs(self.environment)
            .envs(environment.iter().copied())
            .arg(program)
            .args(arguments);
        let (input, output) =
            (std::os::fd::OwnedFd::from(theirs.try_clone()?), std::os::fd::OwnedFd::from(theirs));
        self.child = Some(command.stdin(input).stdout(output).stderr(Stdio::null()).spawn()?);
        Ok(ours)
    }

    fn wait(&mut self) -> io::Result<u8> {
        let mut child = self.child.take().ok_or(io::ErrorKind::NotFound)?;
        let status = child.wait()?;
        Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)) as u8)
    }

    fn write(&mut self, descriptor: u8, bytes: &[u8]) -> io::Result<()> {
        if descriptor == 1 {
            self.stdout.extend(bytes)
        } else {
            self.stderr.extend(bytes)
        }
        Ok(())
    }
}

/// Two roots that start equal: one for Debian's debconf, one for this one.
pub(super) struct Pair {
    directory: tempfile::TempDir,
    debconf: Debconf,
    pub environment: BTreeMap<String, String>,
    /// Time taken by Debian's and by this one, scripts included, and how often.
    taken: (Duration, Duration, u32),
}

impl Pair {
    pub fn new(debian: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for copy in ["theirs", "ours"] {
            let root = directory.path().join(copy);
            run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(debian).arg(&root));
            // Nothing is started, whatever a script thinks.
            fs::write(root.join("usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n").unwrap();
            fs::set_permissions(root.join("usr/sbin/policy-rc.d"), fs::Permissions::from_mode(0o755))
                .unwrap();
            let cache = root.join("var/cache/debconf");
            for entry in fs::read_dir(&cache).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
        }
        let environment =
            ENVIRONMENT.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { directory, debconf: Debconf::default(), environment, taken: Default::default() }
    }

    pub fn roots(&self) -> [PathBuf; 2] {
        ["theirs", "ours"].map(|copy| self.directory.path().join(copy))
    }

    pub fn write(&self, path: &str, text: &str, mode: u32) {
        for root in self.roots() {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    /// Unpacks a package, its scripts as dpkg has them. The name of its files, and whether anything of it asks.
    pub fn unpack(&self, package: &str) -> (String, String, bool) {
        let debs = self.roots()[0].join("srv/debs");
        let mut found = fs::read_dir(debs).unwrap().map(|entry| entry.unwrap().path());
        let prefix = format!("{package}_");
        let deb =
            found.find(|path| path.file_name().unwrap().to_string_lossy().starts_with(&prefix)).unwrap();
        let field = |name: &str| {
            let value = run(Command::new("dpkg-deb").arg("-f").arg(&deb).arg(name));
            String::from_utf8(value).unwrap().trim().to_owned()
        };
        let name =
            if field("Multi-Arch") == "same" { format!("{package}:amd64") } else { package.to_owned() };
        let mut asks = false;
        for root in self.roots() {
            let info = root.join("var/lib/dpkg/info");
            run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&root));
            let control = tempfile::tempdir().unwrap();
            run(Command::new("dpkg-deb").arg("-e").arg(&deb).arg(control.path()));
            for entry in fs::read_dir(control.path()).unwrap() {
                let entry = entry.unwrap();
                let file = entry.file_name().into_string().unwrap();
                let text = fs::read(entry.path()).unwrap();
                asks |= ["config", "templates"].contains(&file.as_str())
                    || memchr::memmem::find(&text, b"debconf/confmodule").is_some()
                    || memchr::memmem::find(&text, b"Debconf::Client").is_some();
                fs::copy(entry.path(), info.join(format!("{name}.{file}"))).unwrap();
            }
            fs::write(info.join(format!("{name}.list")), "").unwrap();
        }
        (name, field("Version"), asks)
    }

    /// Makes one call on both sides and compares. The scripts that it started.
    pub fn call(&mut self, arguments: &[&str]) -> Vec<String> {
        let what = arguments.join(" ");
        let [theirs, ours] = self.roots();
        let mut command = inside(&theirs);
        command.env_clear().envs(&self.environment).arg("/usr/share/debconf/frontend").args(arguments);
        // Both at once, since this is the longest test of all.
        let running = std::thread::spawn(move || {
            let started = Instant::now();
            (command.output().unwrap(), started.elapsed())
        });
        let directory =
            rustix::fs::open(&ours, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
        let root = Root::new(directory).unwrap();
        let call = Call {
            program: "frontend".into(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            environment: self.environment.clone(),
            directory: "/".into(),
        };
        let mut peer = InRoot {
            root: &ours,
            environment: &self.environment,
            started: Vec::new(),
            child: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        let started = Instant::now();
        let answer = self.debconf.frontend(&call, &root, &mut peer);
        let here = started.elapsed();
        let (Ran { status, stdout, stderr }, took) = running.join().unwrap();
        self.taken = (self.taken.0 + took, self.taken.1 + here, self.taken.2 + 1);
        let Answer::Done(output) = answer else { panic!("{what}: declined") };
        let shown = String::from_utf8_lossy(&stderr);
        // Debian's fails when a script has ended before a reply that it does not read: a matter of time.
        let unheard = status.code() == Some(128);
        assert!(
            unheard || status.code() == Some(output.status.into()),
            "{what}: exit status {status:?}, here {output:?}; {shown}"
        );
        let said = [&peer.stdout[..], &output.stdout].concat();
        let (expected, found) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&said));
        assert_eq!(expected, found, "{what}: standard output");
        let [theirs, ours] = [&theirs, &ours].map(|root| cache(root));
        let names: std::collections::BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
        for name in names {
            let (Some(expected), Some(found)) = (theirs.get(name), ours.get(name)) else {
                panic!("{what}: {name} is on one side only; {shown}");
            };
            assert_eq!(expected.0, found.0, "{what}: mode of {name}");
            if expected.1 != found.1 {
                let (expected, found) =
                    (String::from_utf8_lossy(&expected.1), String::from_utf8_lossy(&found.1));
                let line =
                    expected.lines().zip(found.lines()).position(|(expected, found)| expected != found);
                let line = line.unwrap_or(0);
                let near = |text: &str| {
                    text.lines().skip(line.saturating_sub(3)).take(6).collect::<Vec<_>>().join("\n")
                };
                panic!(
                    "{what}: {name} differs in line {line}:\n{}\n---\n{}\n{shown}",
                    near(&expected),
                    near(&found)
                );
            }
        }
        peer.started
    }

    #[expect(clippy::print_stderr, reason = "the harness shows it with the test's result")]
    pub fn report(&mut self, what: &str) {
        let (theirs, ours, calls) = std::mem::take(&mut self.taken);
        eprintln!(
            "{what}: {calls} calls, Debian's {:?}, here {:?} each, the start of the sandbox included in both",
            theirs / calls,
            ours / calls
        );
    }
}

/// Mode and content of debconf's files, and of what a script wrote down.
fn cache(root: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let entries = fs::read_dir(root.join("var/cache/debconf")).unwrap().map(|entry| entry.unwrap().path());
    let heard = Some(root.join("heard")).filter(|path| path.exists());
    let files = entries.filter(|path| path.is_file()).chain(heard);
    let attributes =
        |path: &Path| (fs::metadata(path).unwrap().permissions().mode(), fs::read(path).unwrap());
    files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), attributes(&path))).collect()
}
