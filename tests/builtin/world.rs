//! Two copies of a Debian root that cost nothing: a call is made in one by the real program, in the other by ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use build_images::build::stage::door;
use build_images::digest::Sha256;

use crate::packages;
use crate::support::require;

/// What the root has beside what is required.
const INCLUDED: &str =
    "adduser,ca-certificates,dbus,ifupdown,openssh-server,openssl,procps,shared-mime-info,systemd-sysv";

/// Packages whose units are put into `/usr/share/sample-units/{system,user}` of the root; one that is gone is left out.
const SAMPLED: &str = "avahi-daemon bind9 chrony cron cups-daemon dnsmasq dovecot-core exim4-base fail2ban fwupd gdm3 \
    haproxy lighttpd lvm2 mariadb-server memcached multipath-tools network-manager nginx-common nfs-kernel-server \
    openvpn packagekit pipewire postgresql-common rsync rsyslog samba smartmontools syncthing systemd-resolved \
    systemd-timesyncd tor transmission-daemon unattended-upgrades wireplumber";
/// Packages whose MIME types are put into `/usr/share/sample-types` of the root; one that is gone is left out.
const TYPED: &str = "bluefish-data libkf5coreaddons-data libkf6coreaddons-data minder okteta openscad planner-data \
    remmina step virt-viewer wireshark-common xournalpp zim";
/// Fetches them into the root `$1` and takes their units and types out.
const SAMPLE: &str = r#"set -e
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
samples="$1/usr/share/sample-units"
types="$1/usr/share/sample-types"
mkdir -p "$samples/system" "$samples/user" "$types" "$1/var/cache/sample"
cd "$1/var/cache/sample"
for package in SAMPLED TYPED; do apt-get download "$package" || true; done
for deb in *.deb; do dpkg-deb -x "$deb" unpacked; done
for scope in system user; do
  for directory in usr/lib/systemd lib/systemd; do
    [ ! -d "unpacked/$directory/$scope" ] ||
      find "unpacked/$directory/$scope" -maxdepth 1 -type f -exec cp {} "$samples/$scope/" ';'
  done
done
find unpacked/usr/share/mime/packages -name '*.xml' -exec cp {} "$types/" ';'
rm -r "$1/var/cache/sample"
"#;

/// A Debian 13 root, made once and kept; nothing when it cannot be made.
fn base() -> Option<&'static Path> {
    static BASE: OnceLock<Option<PathBuf>> = OnceLock::new();
    BASE.get_or_init(make_base).as_deref()
}

fn make_base() -> Option<PathBuf> {
    let sample = SAMPLE.replace("SAMPLED", SAMPLED).replace("TYPED", TYPED);
    // Another list makes another root.
    let hash = Sha256::of(format!("{INCLUDED} {sample}")).to_string();
    let done = packages::cache().join(format!("builtin-root-{}", &hash[..16]));
    fs::create_dir_all(packages::cache()).ok()?;
    let lock = fs::File::create(packages::cache().join("builtin-root.lock")).ok()?;
    lock.lock().ok()?;
    if done.exists() {
        return Some(done);
    }
    let uri = Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]).output().ok()?;
    let text = String::from_utf8(uri.stdout).ok()?;
    let uri = text.lines().find(|uri| uri.trim_end_matches('/').ends_with("/debian"))?;
    let work = tempfile::tempdir_in(packages::cache()).ok()?;
    let root = work.path().join("root");
    let output = Command::new("mmdebstrap")
        .args(["--mode=root", "--variant=apt", &format!("--include={INCLUDED}")])
        .arg(format!("--customize-hook={}", sample))
        .arg("trixie")
        .arg(&root)
        .arg(format!("deb {uri} trixie main"))
        .output()
        .ok()?;
    if !output.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    fs::rename(&root, &done).ok()?;
    Some(done)
}

/// Two roots that were alike before every call and are compared after it.
pub struct World {
    real: Overlay,
    ours: Overlay,
    environment: BTreeMap<String, String>,
    /// Calls that ours declined.
    pub declined: Vec<String>,
    /// Calls that ours did.
    pub done: usize,
}

struct Overlay {
    directory: tempfile::TempDir,
    mounted: Vec<PathBuf>,
}

impl Overlay {
    fn new(base: &Path) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["upper", "work", "root"] {
            fs::create_dir(at(name)).unwrap();
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            base.display(),
            at("upper").display(),
            at("work").display()
        );
        let root = at("root");
        let mut overlay = Self { directory, mounted: Vec::new() };
        overlay.mount(&["-t", "overlay", "overlay", "-o", &options], root.clone())?;
        overlay.mount(&["-t", "proc", "proc"], root.join("proc"))?;
        Some(overlay)
    }

    fn mount(&mut self, arguments: &[&str], at: PathBuf) -> Option<()> {
        let mounted = Command::new("mount").args(arguments).arg(&at).stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then(|| self.mounted.push(at))
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn upper(&self) -> PathBuf {
        self.directory.path().join("upper")
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        for at in self.mounted.iter().rev() {
            let _ = Command::new("umount").arg("-l").arg(at).status();
        }
    }
}

/// What a call came to: exit status, standard output, standard error.
pub type Seen = (u8, String, String);

impl World {
    /// Two fresh copies; nothing when this machine cannot have them.
    pub fn new() -> Option<Self> {
        if !require("root", rustix::process::geteuid().is_root())
            || !require("mmdebstrap", Command::new("mmdebstrap").arg("--version").output().is_ok())
        {
            return None;
        }
        let base = base();
        if !require("a Debian mirror in the host's apt configuration", base.is_some()) {
            return None;
        }
        let pair = Overlay::new(base?).zip(Overlay::new(base?));
        if !require("overlayfs", pair.is_some()) {
            return None;
        }
        let (real, ours) = pair?;
        let variables = [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", "/root"),
            ("LC_ALL", "C.UTF-8"),
            ("TZ", "UTC"),
            ("TERM", "dumb"),
            ("DEBIAN_FRONTEND", "noninteractive"),
            ("SOURCE_DATE_EPOCH", "1767225600"),
            ("DPKG_ADMINDIR", "/var/lib/dpkg"),
            ("DPKG_MAINTSCRIPT_ARCH", "amd64"),
            ("DPKG_MAINTSCRIPT_NAME", "postinst"),
            ("DPKG_MAINTSCRIPT_PACKAGE", "sample"),
            ("DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT", "1"),
            ("DPKG_ROOT", ""),
            ("DPKG_RUNNING_VERSION", "1.22.22"),
        ];
        let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Some(Self { real, ours, environment, declined: Vec::new(), done: 0 })
    }

    /// Sets a variable for the calls to come.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    /// Does the same to both roots.
    pub fn change(&self, change: impl Fn(&Path)) {
        change(&self.real.root());
        change(&self.ours.root());
    }

    /// Writes a file into both, with the directories above it.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        self.change(|root| {
            let path = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let _ = fs::remove_file(&path);
            fs::write(&path, text.as_ref()).unwrap();
        });
    }

    /// Makes a link in both.
    pub fn link(&self, path: &str, target: &str) {
        self.change(|root| {
            let path = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let _ = fs::remove_file(&path);
            std::os::unix::fs::symlink(target, &path).unwrap();
        });
    }

    /// Removes a path in both, with what is below it.
    pub fn remove(&self, path: &str) {
        self.change(|root| {
            let path = root.join(path.trim_start_matches('/'));
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() => fs::remove_dir_all(&path).unwrap(),
                Ok(_) => fs::remove_file(&path).unwrap(),
                Err(_) => {}
            }
        });
    }

    /// The text of a file in the root where ours ran.
    pub fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.ours.root().join(path.trim_start_matches('/'))).ok()
    }

    /// The bytes of a file in the root where ours ran.
    pub fn read_bytes(&self, path: &str) -> Vec<u8> {
        fs::read(self.ours.root().join(path.trim_start_matches('/'))).unwrap()
    }

    /// Whether there is a file in the root where ours ran.
    pub fn has(&self, path: &str) -> bool {
        self.ours.root().join(path.trim_start_matches('/')).is_file()
    }

    /// The names in a directory of the root where ours ran, sorted.
    pub fn list(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.ours.root().join(path.trim_start_matches('/'))).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Makes a call of ours alone; nothing when it was declined.
    pub fn alone(&self, program: &str, arguments: &[&str]) -> Option<Seen> {
        let root = fs::File::open(self.ours.root()).unwrap();
        let mut start = |program: &str, words: &[&str], further: &[(&str, &str)], socket: OwnedFd| {
            let mut command = Command::new("chroot");
            command.arg(self.ours.root()).arg(program).args(words).env_clear().envs(&self.environment);
            command.envs(further.iter().copied()).stdin(socket.try_clone()?).stdout(socket);
            command.stderr(Stdio::piped()).spawn()
        };
        let (status, stdout, stderr) =
            door::call(root.into(), program, arguments, &self.environment, &mut start)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Some((status, text(stdout), text(stderr)))
    }

    /// Makes a call of the real program alone.
    pub fn real(&self, program: &str, arguments: &[&str]) -> Seen {
        self.run_real(&self.real, program, arguments)
    }

    /// Compares one path in all but what is in it.
    #[track_caller]
    pub fn same_but_content(&self, path: &str) {
        let seen = [&self.ours, &self.real].map(|overlay| {
            look(&overlay.root().join(path.trim_start_matches('/')))
                .map(|(kind, mode, uid, gid, _)| (kind, mode, uid, gid))
        });
        assert!(seen[0].is_some() && seen[0] == seen[1], "{path}: {seen:?}");
    }

    fn run_real(&self, at: &Overlay, program: &str, arguments: &[&str]) -> Seen {
        let output = Command::new("chroot")
            .arg(at.root())
            .arg(program)
            .args(arguments)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let status = u8::try_from(output.status.code().unwrap()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (status, text(&output.stdout), text(&output.stderr))
    }

    /// Makes a call in both; says whether ours did it. What was declined is done by the real program in both.
    #[track_caller]
    pub fn call(&mut self, program: &str, arguments: &[&str]) -> bool {
        let what = format!("{program} {arguments:?}");
        let Some(ours) = self.alone(program, arguments) else {
            self.compare(&format!("{what}, declined"));
            self.run_real(&self.real, program, arguments);
            self.run_real(&self.ours, program, arguments);
            self.declined.push(what);
            return false;
        };
        let real = self.run_real(&self.real, program, arguments);
        assert_eq!(ours, real, "{what}: ours is on the left");
        self.compare(&what);
        self.done += 1;
        true
    }

    /// As [`World::call`], and ours has to do it.
    #[track_caller]
    pub fn must(&mut self, program: &str, arguments: &[&str]) {
        assert!(self.call(program, arguments), "{program} {arguments:?} was declined");
    }

    /// As [`World::call`], and ours has to decline it.
    #[track_caller]
    pub fn must_not(&mut self, program: &str, arguments: &[&str]) {
        assert!(!self.call(program, arguments), "{program} {arguments:?} was not declined");
    }

    #[track_caller]
    fn compare(&self, what: &str) {
        let mut paths = BTreeSet::new();
        for overlay in [&self.real, &self.ours] {
            let upper = overlay.upper();
            let entries = walkdir::WalkDir::new(&upper).into_iter().map(Result::unwrap);
            paths.extend(entries.map(|entry| entry.path().strip_prefix(&upper).unwrap().to_owned()));
        }
        let differing: Vec<_> = paths
            .iter()
            .map(|path| (path, look(&self.ours.root().join(path)), look(&self.real.root().join(path))))
            .filter(|(_, ours, real)| ours != real)
            .map(|(path, ours, real)| format!("{}:\n  ours {ours:?}\n  real {real:?}", path.display()))
            .collect();
        assert!(differing.is_empty(), "{what}:\n{}", differing.join("\n"));
    }
}

/// Type, mode, owner, group, and what is in it.
fn look(path: &Path) -> Option<(String, u32, u32, u32, String)> {
    let found = fs::symlink_metadata(path).ok()?;
    let kind = found.file_type();
    let inside = if kind.is_symlink() {
        fs::read_link(path).unwrap().display().to_string()
    } else if kind.is_file() {
        fs::read(path).unwrap().escape_ascii().to_string()
    } else {
        String::new()
    };
    let kind = match () {
        () if kind.is_dir() => "directory",
        () if kind.is_symlink() => "link",
        () if kind.is_file() => "file",
        () if kind.is_fifo() => "pipe",
        () => "other",
    };
    Some((kind.to_owned(), found.permissions().mode(), found.uid(), found.gid(), inside))
}
