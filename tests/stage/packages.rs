//! Real trixie packages, from the mirror of the host's apt configuration, kept between runs.
//!
//! apt itself chooses and fetches them, in a directory of its own; nothing of the host's apt is touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What the image of the comparison asks for, beside what is Essential or required.
pub const REQUESTED: [&str; 13] = [
    "apt",
    "ca-certificates",
    "dbus",
    "dhcpcd-base",
    "ifupdown",
    "iproute2",
    "iputils-ping",
    "netbase",
    "openssh-server",
    "procps",
    "qbittorrent-nox",
    "systemd-sysv",
    "tzdata",
];

/// The packages of a set and where they came from.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The .debs, sorted.
    pub debs: Vec<PathBuf>,
    /// The names of those that are Essential or have priority required.
    pub required: Vec<String>,
}

/// Where .debs and reference trees are kept between runs.
pub fn cache() -> PathBuf {
    let chosen = std::env::var_os("BUILD_IMAGES_TEST_CACHE").map(PathBuf::from);
    chosen.unwrap_or_else(|| std::env::temp_dir().join("build-images-test-packages"))
}

/// All packages of [`REQUESTED`] with what they need; nothing when there is no apt or no mirror.
pub fn full() -> Option<&'static Fetched> {
    static FULL: OnceLock<Option<Fetched>> = OnceLock::new();
    FULL.get_or_init(|| fetch("full", &REQUESTED)).as_ref()
}

/// The packages that are Essential or required, with what they need.
pub fn base() -> Option<&'static Fetched> {
    static BASE: OnceLock<Option<Fetched>> = OnceLock::new();
    BASE.get_or_init(|| fetch("base", &["apt"])).as_ref()
}

/// The URI that the host's apt gets Debian itself from.
fn mirror() -> Option<String> {
    let output = Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let uri = text.lines().find(|uri| uri.trim_end_matches('/').ends_with("/debian"))?;
    Some(uri.to_owned())
}

/// The packages `requested`, with those that are Essential or required and what they all need; kept under `name`.
pub fn fetch(name: &str, requested: &[&str]) -> Option<Fetched> {
    let directory = cache().join(name);
    let archives = directory.join("cache/archives");
    if !directory.join("complete").exists() {
        fs::create_dir_all(&directory).ok()?;
        let lock = fs::File::create(cache().join(format!("{name}.lock"))).ok()?;
        lock.lock().ok()?;
        let configuration = configure(&directory)?;
        apt(&configuration, &["update", "-q"])?;
        let required = required(&configuration)?;
        let mut arguments = vec!["install", "-y", "--download-only", "--no-install-recommends"];
        arguments.extend(required.iter().map(String::as_str));
        arguments.extend(requested);
        apt(&configuration, &arguments)?;
        fs::write(directory.join("complete"), required.join("\n")).ok()?;
    }
    let required = fs::read_to_string(directory.join("complete")).ok()?;
    let files = fs::read_dir(archives).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut debs: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "deb")).collect();
    debs.sort();
    Some(Fetched { debs, required: required.lines().map(str::to_owned).collect() })
}

/// Writes an apt configuration for an empty system in `directory`.
fn configure(directory: &Path) -> Option<PathBuf> {
    for path in ["etc", "state/lists/partial", "cache/archives/partial", "log"] {
        fs::create_dir_all(directory.join(path)).ok()?;
    }
    fs::write(directory.join("status"), "").ok()?;
    let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let source = format!("deb [signed-by={key}] {} trixie main\n", mirror()?);
    fs::write(directory.join("etc/sources.list"), source).ok()?;
    let path = directory.display();
    let text = format!(
        "Dir::Etc \"{path}/etc\";\nDir::Etc::sourcelist \"{path}/etc/sources.list\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\nDir::State \"{path}/state\";\nDir::State::status \"{path}/status\";\n\
         Dir::Cache \"{path}/cache\";\nDir::Log \"{path}/log\";\nAPT::Architecture \"amd64\";\n\
         APT::Architectures \"amd64\";\nAcquire::Languages \"none\";\nAPT::Sandbox::User \"root\";\n"
    );
    let file = directory.join("apt.conf");
    fs::write(&file, text).ok()?;
    Some(file)
}

fn apt(configuration: &Path, arguments: &[&str]) -> Option<()> {
    let output = Command::new("apt-get").args(arguments).env("APT_CONFIG", configuration).output().ok()?;
    if !output.status.success() {
        eprintln!("apt-get: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success().then_some(())
}

fn required(configuration: &Path) -> Option<Vec<String>> {
    let output = Command::new("apt-cache").arg("dumpavail").env("APT_CONFIG", configuration).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let stanzas = build_images::apt::control::stanzas(&text).filter_map(Result::ok);
    let wanted = stanzas.filter(|stanza| {
        stanza.get("Essential") == Some("yes") || stanza.get("Priority") == Some("required")
    });
    let mut names: Vec<_> = wanted.filter_map(|stanza| stanza.get("Package").map(str::to_owned)).collect();
    names.sort();
    names.dedup();
    Some(names)
}
