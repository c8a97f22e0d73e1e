//! The configuration itself: every top-level key of the schema.

use std::collections::BTreeMap;

use super::problem::Fault;
use super::property::{Device, Features, MountPoint, Net, RootFs, Unused};
use super::value::{Arch, ConsoleMode, Lock, Number, OsType, Startup, Value};

/// Top-level keys: plain ones as `field: type`, numbered ones as `field "prefix" count: type`.
macro_rules! settings {
    (
        plain { $($(#[$meta:meta])* $field:ident: $type:ty,)* }
        numbered { $($(#[$many_meta:meta])* $many:ident $prefix:literal $count:literal: $many_type:ty,)* }
    ) => {
        /// A container's configuration: what `pct config` shows and `/etc/pve/lxc/VMID.conf` holds.
        ///
        /// What is absent is left to Proxmox's own default.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct Config {
            /// Text for people, without a final newline; at most 8192 characters.
            pub description: String,
            $($(#[$meta])* pub $field: Option<$type>,)*
            $($(#[$many_meta])* pub $many: BTreeMap<u8, $many_type>,)*
            /// Environment of the first process, in order; since Proxmox VE 9.1.
            pub environment: Vec<(String, String)>,
            /// Settings for LXC itself, in order, each with its full key (`lxc.idmap`).
            pub lxc: Vec<(String, String)>,
        }

        impl Config {
            /// Sets `key` from its text; says whether it was set before. Nothing when there is no such key.
            pub(super) fn set(&mut self, key: &str, text: &str) -> Option<Result<bool, Fault>> {
                match key {
                    $(stringify!($field) => {
                        return Some(<$type>::read(text).map(|value| self.$field.replace(value).is_some()));
                    })*
                    _ => {}
                }
                $(if let Some(number) = numbered(key, $prefix, $count) {
                    let value = <$many_type>::read(text);
                    return Some(value.map(|value| self.$many.insert(number, value).is_some()));
                })*
                None
            }

            /// All `key: value` lines but those of LXC, by key.
            pub(super) fn lines(&self) -> BTreeMap<String, String> {
                let mut lines = BTreeMap::new();
                $(if let Some(value) = &self.$field {
                    lines.insert(stringify!($field).to_owned(), value.text());
                })*
                $(for (number, value) in &self.$many {
                    lines.insert(format!("{}{number}", $prefix), value.text());
                })*
                lines
            }
        }
    };
}

settings! {
    plain {
        /// Machine architecture.
        arch: Arch,
        /// What `pct console` opens.
        cmode: ConsoleMode,
        /// Whether there is a console.
        console: bool,
        /// Number of cores, 1 to 8192.
        cores: u32,
        /// How many cores' time it may use, 0 to 8192; 0 is no limit.
        cpulimit: Number,
        /// Weight against other containers, at most 500000.
        cpuunits: u32,
        /// Whether LXC logs more.
        debug: bool,
        /// The first process; since Proxmox VE 9.1.
        entrypoint: String,
        /// What it may do beyond the common.
        features: Features,
        /// A script on the node, as volume id.
        hookscript: String,
        /// Host name.
        hostname: String,
        /// Why it is locked; never in an image.
        lock: Lock,
        /// Memory in MiB, at least 16.
        memory: u64,
        /// Name servers, separated by spaces.
        nameserver: String,
        /// Whether it starts with the node.
        onboot: bool,
        /// Which set-up code Proxmox runs on it.
        ostype: OsType,
        /// The snapshot it comes from; never in an image.
        parent: String,
        /// Whether it may not be removed.
        protection: bool,
        /// The root file system.
        rootfs: RootFs,
        /// Domains to look names up in, separated by spaces.
        searchdomain: String,
        /// When a snapshot was taken; never in an image.
        snaptime: u64,
        /// Place in the node's start order.
        startup: Startup,
        /// Swap in MiB.
        swap: u64,
        /// Tags, separated by `;`.
        tags: String,
        /// Whether it is a template.
        template: bool,
        /// `host`, `UTC` or a name of the node's zone.tab.
        timezone: String,
        /// Number of ttys, at most 6.
        tty: u32,
        /// Whether its ids are mapped to others on the node.
        unprivileged: bool,
    }
    numbered {
        /// Devices of the node, by number.
        devices "dev" 256: Device,
        /// Mounts, by number.
        mount_points "mp" 256: MountPoint,
        /// Network cards, by number.
        nets "net" 32: Net,
        /// Volumes that are not mounted, by number; never in an image.
        unused "unused" 256: Unused,
    }
}

/// The number of a key such as `net0`, written without leading zeros and below `count`.
fn numbered(key: &str, prefix: &str, count: u16) -> Option<u8> {
    let digits = key.strip_prefix(prefix)?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    let number: u8 = digits.parse().ok()?;
    (u16::from(number) < count).then_some(number)
}
