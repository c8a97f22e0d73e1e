//! Values made of `key=value` parts: volumes, network cards, devices, features.
//!
//! Canonical order: the default key bare and first, then required keys, then the rest by name. There is no quoting:
//! a comma cannot be part of a value.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::problem::Fault;
use super::value::{
    DiskSize, HardwareAddress, InterfaceType, Ipv4Setting, Ipv6Setting, MountOptions, Number, Value,
};

/// The parts of one value that are not yet taken.
struct Parts(BTreeMap<String, String>);

impl Parts {
    fn read(text: &str, default_key: Option<&str>) -> Result<Self, Fault> {
        let mut parts = BTreeMap::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let (key, value) = match (part.split_once('='), default_key) {
                (Some((key, value)), _) if !key.is_empty() && !value.is_empty() => (key, value),
                (None, Some(key)) => (key, part),
                _ => return Err(Fault::value("`key=value` parts joined by commas", part)),
            };
            if parts.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(Fault::Duplicate.within(key));
            }
        }
        Ok(Self(parts))
    }

    fn take<T: Value>(&mut self, key: &str) -> Result<Option<T>, Fault> {
        let text = self.0.remove(key);
        text.map(|text| T::read(&text)).transpose().map_err(|fault| fault.within(key))
    }

    fn finish(self) -> Result<(), Fault> {
        match self.0.into_keys().next() {
            Some(key) => Err(Fault::UnknownKey.within(key)),
            None => Ok(()),
        }
    }
}

macro_rules! field_type {
    (optional $type:ty) => { Option<$type> };
    (bare $type:ty) => { $type };
    (required $type:ty) => { $type };
}

macro_rules! take {
    (optional $parts:ident $key:literal) => {
        $parts.take($key)?
    };
    ($class:ident $parts:ident $key:literal) => {
        $parts.take($key)?.ok_or(Fault::Missing($key))?
    };
}

macro_rules! put {
    (optional $self:ident $field:ident $key:literal $first:ident $rest:ident) => {
        if let Some(value) = &$self.$field {
            $rest.insert($key, format!("{}={}", $key, value.text()));
        }
    };
    (required $self:ident $field:ident $key:literal $first:ident $rest:ident) => {
        $first.push(format!("{}={}", $key, $self.$field.text()));
    };
    (bare $self:ident $field:ident $key:literal $first:ident $rest:ident) => {
        $first.insert(0, $self.$field.text());
    };
}

macro_rules! default_key {
    ($($class:ident $key:literal)*) => {{
        let classes = [$((stringify!($class), $key),)*];
        classes.into_iter().find_map(|(class, key)| (class == "bare").then_some(key))
    }};
}

/// Structures of parts: `class field "key": type`, where the class is `bare` (default key), `required` or `optional`.
macro_rules! property {
    ($(
        $(#[$meta:meta])*
        $name:ident { $($(#[$field_meta:meta])* $class:ident $field:ident $key:literal: $type:ty,)* }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name { $($(#[$field_meta])* pub $field: field_type!($class $type),)* }

        impl Value for $name {
            fn read(text: &str) -> Result<Self, Fault> {
                let mut parts = Parts::read(text, default_key!($($class $key)*))?;
                let value = Self { $($field: take!($class parts $key),)* };
                parts.finish()?;
                Ok(value)
            }

            fn text(&self) -> String {
                #[allow(unused_mut, reason = "a property without required keys never pushes")]
                let mut first = Vec::<String>::new();
                #[allow(unused_mut, reason = "a property without optional keys never inserts")]
                let mut rest = BTreeMap::<&str, String>::new();
                $(put!($class self $field $key first rest);)*
                first.into_iter().chain(rest.into_values()).collect::<Vec<_>>().join(",")
            }
        }

        impl std::fmt::Display for $name {
            /// In canonical order.
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.text())
            }
        }

        impl std::str::FromStr for $name {
            type Err = Fault;

            fn from_str(text: &str) -> Result<Self, Fault> {
                Self::read(text)
            }
        }
    )*};
}

property! {
    /// The root file system's volume.
    RootFs {
        /// `STORAGE:VOLUME`.
        bare volume "volume": String,
        /// Whether POSIX access control lists work.
        optional acl "acl": bool,
        /// Ids on disk; since Proxmox VE 9.2.
        optional idmap "idmap": String,
        /// Further mount options.
        optional mount_options "mountoptions": MountOptions,
        /// Whether disk quotas work.
        optional quota "quota": bool,
        /// Whether storage replication includes it.
        optional replicate "replicate": bool,
        /// Whether it is mounted read-only.
        optional read_only "ro": bool,
        /// Whether every node has it.
        optional shared "shared": bool,
        /// How large it is; a restore needs it.
        optional size "size": DiskSize,
    }

    /// A further volume, or a directory or device of the node.
    MountPoint {
        /// `STORAGE:VOLUME`, an absolute path of a directory, or a device.
        bare volume "volume": String,
        /// Where the container sees it.
        required target "mp": String,
        /// Whether POSIX access control lists work.
        optional acl "acl": bool,
        /// Whether a backup includes it; volumes only.
        optional backup "backup": bool,
        /// Ids on disk; since Proxmox VE 9.2.
        optional idmap "idmap": String,
        /// Whether the mount point's own owner and mode are kept; since Proxmox VE 9.2.
        optional keep_attributes "keepattrs": bool,
        /// Further mount options.
        optional mount_options "mountoptions": MountOptions,
        /// Whether disk quotas work.
        optional quota "quota": bool,
        /// Whether storage replication includes it.
        optional replicate "replicate": bool,
        /// Whether it is mounted read-only.
        optional read_only "ro": bool,
        /// Whether every node has it.
        optional shared "shared": bool,
        /// How large it is; volumes only, where a restore needs it.
        optional size "size": DiskSize,
    }

    /// A network card.
    Net {
        /// Its name inside the container.
        required name "name": String,
        /// The node's bridge it is plugged into.
        optional bridge "bridge": String,
        /// Whether Proxmox's firewall filters it.
        optional firewall "firewall": bool,
        /// IPv4 router.
        optional gateway "gw": Ipv4Addr,
        /// IPv6 router.
        optional gateway6 "gw6": Ipv6Addr,
        /// Whether the node configures it; since Proxmox VE 9.1.
        optional host_managed "host-managed": bool,
        /// Hardware address. Without one the container gets another at every start.
        optional hardware_address "hwaddr": HardwareAddress,
        /// IPv4 address.
        optional ip "ip": Ipv4Setting,
        /// IPv6 address.
        optional ip6 "ip6": Ipv6Setting,
        /// Whether the cable is pulled.
        optional link_down "link_down": bool,
        /// Largest packet in bytes, 64 to 65535.
        optional mtu "mtu": u32,
        /// Rate limit in megabytes a second.
        optional rate "rate": Number,
        /// VLAN, 1 to 4094.
        optional tag "tag": u32,
        /// VLANs passed through, joined by `;`.
        optional trunks "trunks": String,
        /// Always `veth`.
        optional interface_type "type": InterfaceType,
    }

    /// A device of the node that the container sees; since Proxmox VE 8.1.
    Device {
        /// Path below `/dev/`.
        bare path "path": String,
        /// Whether the container must not write to it; since Proxmox VE 8.3.
        optional deny_write "deny-write": bool,
        /// Group inside the container.
        optional gid "gid": u32,
        /// Four octal digits, the first 0.
        optional mode "mode": String,
        /// Owner inside the container.
        optional uid "uid": u32,
    }

    /// A volume that belongs to the container and is not mounted. Never in an image.
    Unused {
        /// `STORAGE:VOLUME`.
        bare volume "volume": String,
    }

    /// What a container may do beyond the common.
    Features {
        /// Mount /sys writable.
        optional force_rw_sys "force_rw_sys": bool,
        /// Use FUSE.
        optional fuse "fuse": bool,
        /// Use the kernel's keyring.
        optional keyctl "keyctl": bool,
        /// Make some device nodes.
        optional mknod "mknod": bool,
        /// Mount file systems of these types, joined by `;`.
        optional mount "mount": String,
        /// Mount proc and sysfs anew; systemd needs it.
        optional nesting "nesting": bool,
    }
}

impl Features {
    /// No feature.
    pub const NONE: Self =
        Self { force_rw_sys: None, fuse: None, keyctl: None, mknod: None, mount: None, nesting: None };
}

impl RootFs {
    /// `volume` of `size`, all else as Proxmox has it by default.
    pub fn new(volume: impl Into<String>, size: DiskSize) -> Self {
        let volume = volume.into();
        let (acl, idmap, mount_options, quota, replicate, read_only, shared) =
            (None, None, None, None, None, None, None);
        let size = Some(size);
        Self { volume, acl, idmap, mount_options, quota, replicate, read_only, shared, size }
    }
}

impl MountPoint {
    /// A directory of the node at `source`, seen at `target`.
    pub fn bind(source: impl Into<String>, target: impl Into<String>, read_only: bool) -> Self {
        Self {
            volume: source.into(),
            target: target.into(),
            acl: None,
            backup: None,
            idmap: None,
            keep_attributes: None,
            mount_options: None,
            quota: None,
            replicate: None,
            read_only: read_only.then_some(true),
            shared: None,
            size: None,
        }
    }

    /// Whether it is a directory of the node.
    pub fn is_bind(&self) -> bool {
        self.volume.starts_with('/') && !self.volume.starts_with("/dev/")
    }
}

impl Net {
    /// A card `name`, plugged into nothing.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            bridge: None,
            firewall: None,
            gateway: None,
            gateway6: None,
            host_managed: None,
            hardware_address: None,
            ip: None,
            ip6: None,
            link_down: None,
            mtu: None,
            rate: None,
            tag: None,
            trunks: None,
            interface_type: None,
        }
    }
}
