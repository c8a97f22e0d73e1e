//! What Proxmox's node does with an archive: unpacking it, and writing into it before each start.
//!
//! After pve-container's Create.pm and Setup/{Base,Debian}.pm. Paths inside a root file system are handled without
//! following links: a restored image is not trusted.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::pct::Config;
use crate::world::{World, expect_success, read, set_mode, set_owner};

/// The container's root, as the node sees it.
pub const SHIFT: u32 = 100_000;

/// Which of Proxmox's two commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `pct restore`: takes the configuration from the archive.
    Restore,
    /// `pct create`: takes the archive for a template.
    Create,
}

/// Reads the configuration that an archive carries, as `recover_config_from_tar` does.
pub fn embedded_configuration(world: &World, archive: &Path) -> Config {
    let archive = archive.to_str().unwrap();
    let names = world.run("tar", &["tf", archive]);
    let member = names
        .lines()
        .find(|name| *name == "./etc/vzdump/pct.conf")
        .unwrap_or_else(|| panic!("{archive} contains no configuration file"));
    Config::parse(&world.run("tar", &["-xpOf", archive, member, "--occurrence"]))
}

/// Unpacks an archive into a new directory of the world, and does what the verb does afterwards.
pub fn unpack(world: &World, archive: &Path, root: &str, verb: Verb) {
    world.make_directory(root, (SHIFT, SHIFT), 0o755);
    let output = world
        .command(300, "lxc-usernsexec")
        .args(["-m", "u:0:100000:65536", "-m", "g:0:100000:65536", "--"])
        .args([
            "tar",
            "xpf",
            "-",
            "--zstd",
            "--totals",
            "--one-file-system",
            "-p",
            "--sparse",
            "--numeric-owner",
        ])
        .args(["--acls", "--xattrs", "--xattrs-include=user.*", "--xattrs-include=security.capability"])
        .args(["--warning=no-file-ignored", "--warning=no-xattr-write", "-C", root, "--skip-old-files"])
        .args(["--anchored", "--exclude", "./dev/*"])
        .stdin(File::open(archive).unwrap())
        .output()
        .unwrap();
    expect_success("tar", &output);
    let root = Root(world.path(root));
    root.check_release();
    match verb {
        Verb::Restore => {
            fs::remove_file(root.join("etc/vzdump/pct.conf")).unwrap();
        }
        Verb::Create => {
            // Proxmox would make host keys as well. Without them the image has the harder task.
            let _ = fs::remove_file(root.join("var/lib/dbus/machine-id"));
            fs::remove_file(root.join("etc/machine-id")).unwrap();
            let shadow = read(&root.join("etc/shadow"));
            let locked: Vec<String> = shadow
                .lines()
                .map(|line| match line.split(':').collect::<Vec<_>>().as_slice() {
                    ["root", _, rest @ ..] => format!("root:*:{}", rest.join(":")),
                    _ => line.to_owned(),
                })
                .collect();
            root.write("etc/shadow", &(locked.join("\n") + "\n"));
            set_mode(&root.join("etc/shadow"), 0o640);
        }
    }
}

/// Writes what Proxmox writes before each start.
pub fn pre_start(world: &World, root: &str, config: &Config) {
    let root = Root(world.path(root));
    let card = config.card();
    let hostname = config.need("hostname").split('.').next().unwrap_or_default();
    root.write("fastboot", "");
    root.write("etc/hostname", &format!("{hostname}\n"));

    let names = match config.get("searchdomain") {
        Some(domain) => format!("{hostname}.{domain} {hostname}"),
        None => hostname.to_owned(),
    };
    root.write_section("etc/hosts", &format!("{} {names}\n", card.address));

    let mut resolver = String::new();
    if let Some(domain) = config.get("searchdomain") {
        resolver += &format!("search {domain}\n");
    }
    for server in config.get("nameserver").unwrap_or_default().split([' ', ',', ';']) {
        resolver += &format!("nameserver {server}\n");
    }
    if !root.exists("etc/resolv.conf") || !read(&root.join("etc/resolv.conf")).contains(BEGIN) {
        root.write("etc/resolv.conf", "");
    }
    root.write_section("etc/resolv.conf", &resolver);

    let mut interfaces = String::from("auto lo\niface lo inet loopback\n\n");
    interfaces += &format!("auto {name}\niface {name} inet static\n", name = card.name);
    interfaces += &format!("\taddress {}/{}\n\tgateway {}\n", card.address, card.prefix, card.gateway);
    for line in read(&root.join("etc/network/interfaces")).lines() {
        let own = ["auto ", "iface ", "\t"].iter().any(|start| line.starts_with(start));
        if !own && !line.is_empty() {
            interfaces = format!("{interfaces}\n{line}\n");
        }
    }
    root.write("etc/network/interfaces", &interfaces);

    root.make_directory("etc/systemd/system-preset");
    root.write(
        "etc/systemd/system-preset/00-pve.preset",
        "# Added by PVE\nenable container-getty@.service\ndisable getty@.service\n\
         disable sys-kernel-config.mount\ndisable sys-kernel-debug.mount\ndisable systemd-networkd.service\n",
    );
    let getty = "usr/lib/systemd/system/container-getty@.service";
    root.write(getty, &read(&root.join(getty)).replace("pts/%I", "tty%I"));
    let wants = root.join("etc/systemd/system/getty.target.wants");
    assert!(wants.is_dir(), "without {} Proxmox's consoles are dead", wants.display());
    for terminal in 1..=6 {
        let _ = fs::remove_file(wants.join(format!("getty@tty{terminal}.service")));
        let link = wants.join(format!("container-getty@{terminal}.service"));
        let _ = fs::remove_file(&link);
        if terminal <= 2 {
            std::os::unix::fs::symlink("/usr/lib/systemd/system/container-getty@.service", &link).unwrap();
            set_owner(&link, (SHIFT, SHIFT));
        }
    }
}

const BEGIN: &str = "# --- BEGIN PVE ---\n";
const END: &str = "# --- END PVE ---\n";

/// A root file system in the world.
struct Root(PathBuf);

impl Root {
    /// A path inside, whose directories have to be real ones.
    fn join(&self, path: &str) -> PathBuf {
        let mut full = self.0.clone();
        for part in Path::new(path).parent().into_iter().flat_map(Path::iter) {
            full.push(part);
            let kind =
                fs::symlink_metadata(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()));
            assert!(kind.is_dir(), "{} is no directory", full.display());
        }
        self.0.join(path)
    }

    fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.join(path)).is_ok_and(|kind| kind.is_file())
    }

    /// Puts a new file in the place of whatever is there.
    fn write(&self, path: &str, text: &str) {
        let path = self.join(path);
        let _ = fs::remove_file(&path);
        fs::write(&path, text).unwrap();
        set_owner(&path, (SHIFT, SHIFT));
        set_mode(&path, 0o644);
    }

    /// Replaces Proxmox's section of a file, or appends it.
    fn write_section(&self, path: &str, section: &str) {
        let mut text = if self.exists(path) { read(&self.join(path)) } else { String::new() };
        if let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) {
            text.replace_range(begin..end + END.len(), "");
        }
        self.write(path, &format!("{text}{BEGIN}{section}{END}"));
    }

    fn make_directory(&self, path: &str) {
        let path = self.join(path);
        if !path.is_dir() {
            fs::create_dir(&path).unwrap();
            set_owner(&path, (SHIFT, SHIFT));
        }
    }

    /// The release as `PVE::LXC::Setup::Debian` finds it.
    fn check_release(&self) {
        let version = read(&self.join("etc/debian_version"));
        let first = version.lines().next().unwrap_or_default();
        let major: u32 = first
            .split('.')
            .next()
            .and_then(|major| major.parse().ok())
            .unwrap_or_else(|| panic!("unable to parse version info `{first}`"));
        assert!((4..=14).contains(&major), "unsupported debian version `{first}`");
        let release = read(&self.join("usr/lib/os-release"));
        assert!(release.lines().any(|line| line == "ID=debian"), "not taken for Debian:\n{release}");
    }
}
