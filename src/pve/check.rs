//! Limits that Proxmox does not look at when it reads a file, and rules for a configuration inside an image.
//!
//! A restore copies values unchecked, so what its API would refuse shows only at the first start, or never.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use super::problem::{Fault, Problem};
use super::property::{Device, MountPoint, Net};
use super::settings::Config;
use super::value::{MountOption, MountOptions};

/// A release of Proxmox VE, such as 9.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32, pub u32);

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl From<(u32, u32)> for Release {
    fn from((major, minor): (u32, u32)) -> Self {
        Self(major, minor)
    }
}

impl Config {
    /// Every limit and rule that this configuration breaks as part of an image for nodes of `release`, in the order
    /// of the keys. Empty when all is well.
    pub fn check(&self, release: Release) -> Vec<Problem> {
        let mut checker = Checker { release, problems: Vec::new() };
        checker.forbidden(self);
        checker.plain(self);
        checker.volumes(self);
        for (number, net) in &self.nets {
            checker.net(&format!("net{number}"), net);
        }
        for (number, device) in &self.devices {
            checker.device(&format!("dev{number}"), device);
        }
        checker.lxc(self);
        checker.problems.sort_by(|a, b| a.key.cmp(&b.key));
        checker.problems
    }
}

struct Checker {
    release: Release,
    problems: Vec<Problem>,
}

impl Checker {
    fn fault(&mut self, key: impl Into<String>, fault: Fault) {
        self.problems.push(Problem { line: None, key: key.into(), fault });
    }

    /// Reports a value fault unless `good`.
    fn expect(&mut self, good: bool, key: &str, expected: &str, found: impl fmt::Display) {
        if !good {
            self.fault(key, Fault::value(expected, found));
        }
    }

    /// As [`Self::expect`] for a part of a value.
    fn expect_in(&mut self, good: bool, key: &str, sub_key: &str, expected: &str, found: impl fmt::Display) {
        if !good {
            self.fault(key, Fault::value(expected, found).within(sub_key));
        }
    }

    /// Reports the use of something that only releases from `needs` on know.
    fn since(&mut self, used: bool, key: &str, what: &str, needs: Release) {
        let site = self.release;
        if used && site < needs {
            self.fault(key, Fault::TooNew { what: format!("`{what}`"), needs, site });
        }
    }

    fn forbidden(&mut self, config: &Config) {
        const SNAPSHOT: Fault = Fault::Forbidden("it belongs to a snapshot");
        if config.lock.is_some() {
            self.fault("lock", Fault::Forbidden("the restored container stays locked and cannot start"));
        }
        if config.parent.is_some() {
            self.fault("parent", SNAPSHOT);
        }
        if config.snaptime.is_some() {
            self.fault("snaptime", SNAPSHOT);
        }
        for number in config.unused.keys() {
            let fault = Fault::Forbidden("it names a volume that only the node it comes from has");
            self.fault(format!("unused{number}"), fault);
        }
    }

    fn plain(&mut self, config: &Config) {
        let length = config.description.chars().count();
        self.expect(
            length <= 8192,
            "description",
            "at most 8192 characters",
            format_args!("{length} characters"),
        );
        self.expect(
            !config.description.ends_with('\n'),
            "description",
            "no newline at the end",
            "a final newline",
        );
        if let Some(cores) = config.cores {
            self.expect((1..=8192).contains(&cores), "cores", "1 to 8192", cores);
        }
        if let Some(limit) = &config.cpulimit {
            self.expect(limit.get() <= 8192.0, "cpulimit", "0 to 8192", limit);
        }
        if let Some(units) = config.cpuunits {
            self.expect(units <= 500_000, "cpuunits", "0 to 500000", units);
        }
        if let Some(memory) = config.memory {
            self.expect(memory >= 16, "memory", "at least 16 (MiB)", memory);
        }
        if let Some(tty) = config.tty {
            self.expect(tty <= 6, "tty", "0 to 6", tty);
        }
        if let Some(entrypoint) = &config.entrypoint {
            let good = !entrypoint.is_empty() && !has_controls(entrypoint) && is_trimmed(entrypoint);
            self.expect(good, "entrypoint", "a command without control characters", entrypoint);
            self.since(true, "entrypoint", "entrypoint", Release(9, 1));
        }
        if let Some(script) = &config.hookscript {
            self.expect(is_volume_id(script), "hookscript", "`STORAGE:snippets/FILE`", script);
        }
        if let Some(hostname) = &config.hostname {
            let good = is_dns_name(hostname) && hostname.len() <= 64;
            let expected = "letters, digits and inner hyphens in labels joined by dots, at most 64 in all";
            self.expect(good, "hostname", expected, hostname);
        }
        if let Some(servers) = &config.nameserver {
            let good = is_list(servers, is_address);
            self.expect(good, "nameserver", "IP addresses separated by spaces", servers);
        }
        if let Some(domains) = &config.searchdomain {
            let good = is_list(domains, is_dns_name);
            self.expect(good, "searchdomain", "domain names separated by spaces", domains);
        }
        if let Some(tags) = &config.tags {
            let good = tags.split(';').all(is_tag);
            let expected = "tags of `a-z`, `0-9`, `_`, `-`, `+`, `.` joined by `;`";
            self.expect(good, "tags", expected, tags);
        }
        if let Some(zone) = &config.timezone {
            let good = is_timezone(zone);
            let expected = "`host`, `UTC` or a zone of zone.tab such as `Europe/Stockholm`";
            self.expect(good, "timezone", expected, zone);
        }
        if let Some(mount) = config.features.as_ref().and_then(|features| features.mount.as_ref()) {
            let good = !mount.is_empty()
                && mount.bytes().all(|b| b.is_ascii_alphanumeric() || b"_; ".contains(&b))
                && is_trimmed(mount);
            self.expect_in(good, "features", "mount", "file system types joined by `;`", mount);
        }
    }

    fn volumes(&mut self, config: &Config) {
        match &config.rootfs {
            None => self.fault("rootfs", Fault::Missing("rootfs")),
            Some(rootfs) => {
                let good = is_volume_id(&rootfs.volume) && is_mount_text(&rootfs.volume);
                self.expect_in(good, "rootfs", "volume", "`STORAGE:VOLUME`", &rootfs.volume);
                if rootfs.size.is_none_or(|size| size.0 == 0) {
                    // Restoring without it ends in "unable to detect disk size".
                    self.fault("rootfs", Fault::Missing("size"));
                }
                self.mount_options("rootfs", rootfs.mount_options.as_ref());
                self.idmap("rootfs", rootfs.idmap.as_deref());
            }
        }
        let mut targets = BTreeSet::new();
        for (number, mount) in &config.mount_points {
            let key = format!("mp{number}");
            self.mount_point(&key, mount);
            if !targets.insert(mount.target.trim_end_matches('/')) {
                let text = format!("another mount point has the target `{}` too", mount.target);
                self.fault(key, Fault::Conflict(text));
            }
        }
    }

    fn mount_point(&mut self, key: &str, mount: &MountPoint) {
        let path = mount.volume.starts_with('/');
        let good = (path || is_volume_id(&mount.volume)) && is_mount_text(&mount.volume);
        self.expect_in(good, key, "volume", "`STORAGE:VOLUME` or an absolute path", &mount.volume);
        let good = mount.target.len() > 1 && mount.target.starts_with('/') && is_mount_text(&mount.target);
        self.expect_in(good, key, "mp", "an absolute path without `.` and `..`", &mount.target);
        // Proxmox makes missing directories before it unpacks: the image's link would become a directory.
        const LINKS: [&str; 6] = ["/bin", "/lib", "/lib64", "/sbin", "/var/lock", "/var/run"];
        for link in LINKS {
            if mount.target.strip_prefix(link).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
                let text =
                    format!("`{link}` is a symbolic link in the image; write the directory it leads to");
                self.fault(key, Fault::Conflict(text));
            }
        }
        if !path && mount.size.is_none_or(|size| size.0 == 0) {
            self.fault(key, Fault::Missing("size"));
        }
        if path && mount.size.is_some() {
            self.fault(key, Fault::Conflict("a path of the node has no `size`".into()));
        }
        self.mount_options(key, mount.mount_options.as_ref());
        self.idmap(key, mount.idmap.as_deref());
        self.since(mount.keep_attributes.is_some(), key, "keepattrs", Release(9, 2));
    }

    fn mount_options(&mut self, key: &str, options: Option<&MountOptions>) {
        let Some(options) = options else { return };
        self.expect_in(!options.0.is_empty(), key, "mountoptions", "at least one option", "none");
        self.since(options.0.contains(&MountOption::Discard), key, "mountoptions=discard", Release(8, 3));
    }

    fn idmap(&mut self, key: &str, idmap: Option<&str>) {
        let Some(idmap) = idmap else { return };
        let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let range = |text: &str| {
            let parts: Vec<_> = text.split(':').collect();
            matches!(&parts[..], ["u" | "g", a, b, length]
                if number(a) && number(b) && number(length) && !length.starts_with('0'))
        };
        let good = idmap == "passthrough" || idmap.split(';').all(range);
        self.expect_in(good, key, "idmap", "`passthrough` or `u:0:100000:65536;…`", idmap);
        self.since(true, key, "idmap", Release(9, 2));
    }

    fn net(&mut self, key: &str, net: &Net) {
        // Linux takes at most 15 bytes for a network card's name; Proxmox finds out at start.
        let good = is_interface_name(&net.name) && net.name.len() <= 15;
        self.expect_in(good, key, "name", "at most 15 letters, digits, `-`, `_`, `.`", &net.name);
        if let Some(bridge) = &net.bridge {
            let good = is_interface_name(bridge);
            self.expect_in(good, key, "bridge", "letters, digits, `-`, `_`, `.`", bridge);
        }
        if let Some(mtu) = net.mtu {
            self.expect_in((64..=65535).contains(&mtu), key, "mtu", "64 to 65535", mtu);
        }
        if let Some(tag) = net.tag {
            self.expect_in((1..=4094).contains(&tag), key, "tag", "1 to 4094", tag);
        }
        if let Some(trunks) = &net.trunks {
            let vlan = |text: &str| matches!(text.parse::<u16>(), Ok(1..=4094)) && !text.starts_with('+');
            let good = trunks.split(';').all(vlan);
            self.expect_in(good, key, "trunks", "VLANs of 1 to 4094 joined by `;`", trunks);
        }
        self.since(net.host_managed.is_some(), key, "host-managed", Release(9, 1));
    }

    fn device(&mut self, key: &str, device: &Device) {
        let path = &device.path;
        let good = path.len() > 5 && path.starts_with("/dev/") && is_mount_text(path);
        self.expect_in(good, key, "path", "a path below `/dev/`", path);
        if let Some(mode) = &device.mode {
            let good = mode.len() == 4
                && mode.starts_with('0')
                && mode.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
            self.expect_in(good, key, "mode", "four octal digits, the first 0", mode);
        }
        self.since(true, key, "dev", Release(8, 1));
        self.since(device.deny_write.is_some(), key, "deny-write", Release(8, 3));
    }

    fn lxc(&mut self, config: &Config) {
        for (name, value) in &config.environment {
            let good = !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && !has_controls(value)
                && value.trim_end() == value;
            let expected = "`NAME=value` without control characters and spaces at its end";
            self.expect(good, "env", expected, format_args!("{name}={value}"));
        }
        self.since(!config.environment.is_empty(), "env", "env", Release(9, 1));
        for (key, value) in &config.lxc {
            if let Some(fault) = super::lxc::fault(key) {
                self.fault(key, fault);
            }
            let good = is_trimmed(value) && !value.contains(['\n', '\r']);
            self.expect(good, key, "one line without spaces around it", value);
            self.since(key == "lxc.init.cwd", key, key, Release(9, 0));
            let new = ["lxc.init.uid", "lxc.init.gid", "lxc.init.groups", "lxc.environment.hooks"];
            self.since(new.contains(&key.as_str()), key, key, Release(9, 1));
        }
    }
}

/// Control characters that Proxmox refuses: all but the tabulator.
fn has_controls(text: &str) -> bool {
    text.bytes().any(|byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f)
}

fn is_trimmed(text: &str) -> bool {
    text.trim() == text
}

/// A part of a value may hold neither commas nor line ends, nor a path that climbs.
fn is_mount_text(text: &str) -> bool {
    !text.contains([',', '=', '\n', '\r'])
        && is_trimmed(text)
        && !has_controls(text)
        && !text.starts_with("../")
        && !text.split('/').skip(1).any(|part| part == "." || part == "..")
}

fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    !text.is_empty() && text.len() <= 255 && text.split('.').all(label)
}

/// Items that Proxmox joins by single spaces when it writes a list.
fn is_list(text: &str, item: impl Fn(&str) -> bool) -> bool {
    text.split(' ').all(item)
}

fn is_address(text: &str) -> bool {
    let (address, interface) = text.split_once('%').map_or((text, None), |(a, b)| (a, Some(b)));
    match (address.parse(), interface) {
        (Ok(IpAddr::V6(address)), Some(interface)) => {
            address.is_unicast_link_local() && is_interface_name(interface)
        }
        (Ok(_), None) => true,
        _ => false,
    }
}

fn is_tag(text: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|byte| first(*byte))
        && bytes.iter().all(|byte| first(*byte) || b"-+.".contains(byte))
}

fn is_interface_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// `STORAGE:VOLUME`.
fn is_volume_id(text: &str) -> bool {
    let Some((storage, volume)) = text.split_once(':') else { return false };
    let bytes = storage.as_bytes();
    bytes.len() >= 2
        && bytes[0].is_ascii_alphabetic()
        && bytes[bytes.len() - 1].is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        && !volume.is_empty()
        && !volume.contains([',', '\n', '\r'])
        && is_trimmed(volume)
}

/// `host`, `UTC`, or something that can be in zone.tab: it lists places only, neither `Etc/UTC` nor `GMT`.
fn is_timezone(text: &str) -> bool {
    const AREAS: [&str; 10] = [
        "Africa",
        "America",
        "Antarctica",
        "Arctic",
        "Asia",
        "Atlantic",
        "Australia",
        "Europe",
        "Indian",
        "Pacific",
    ];
    let place = |(area, place): (&str, &str)| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+/".contains(&byte);
        AREAS.contains(&area) && !place.is_empty() && place.bytes().all(good)
    };
    text == "host" || text == "UTC" || text.split_once('/').is_some_and(place)
}
