//! The types of single values: how each is read and written.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::problem::Fault;

/// A value of a key or sub-key: text in, the same text in canonical form out.
pub(super) trait Value: Sized {
    /// Reads `text` as Proxmox's own reader does: type and format, not the limits that only its API enforces.
    fn read(text: &str) -> Result<Self, Fault>;

    /// The canonical text.
    fn text(&self) -> String;
}

/// A [`Value`] whose canonical text is its `Display`.
macro_rules! shown {
    ($($type:ty: $read:expr;)*) => {$(
        impl Value for $type {
            fn read(text: &str) -> Result<Self, Fault> {
                let read: fn(&str) -> Result<Self, Fault> = $read;
                read(text)
            }

            fn text(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

fn integer<T: std::str::FromStr>(text: &str) -> Result<T, Fault> {
    let fault = || Fault::value("a whole number", text);
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(fault());
    }
    text.parse().map_err(|_| fault())
}

shown! {
    u16: integer;
    u32: integer;
    u64: integer;
    String: |text| Ok(text.to_owned());
    Ipv4Addr: |text| text.parse().map_err(|_| Fault::value("an IPv4 address", text));
    Ipv6Addr: |text| text.parse().map_err(|_| Fault::value("an IPv6 address", text));
    Number: Number::new;
    DiskSize: DiskSize::read_text;
    HardwareAddress: HardwareAddress::read_text;
    Ipv4Setting: Ipv4Setting::read_text;
    Ipv6Setting: Ipv6Setting::read_text;
    MountOptions: MountOptions::read_text;
    Startup: Startup::read_text;
}

impl Value for bool {
    fn read(text: &str) -> Result<Self, Fault> {
        match text.to_ascii_lowercase().as_str() {
            "1" | "on" | "yes" | "true" => Ok(true),
            "0" | "off" | "no" | "false" => Ok(false),
            _ => Err(Fault::value("`1` or `0`", text)),
        }
    }

    fn text(&self) -> String {
        u8::from(*self).to_string()
    }
}

/// An enumeration whose members are written as words.
macro_rules! words {
    ($($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)* })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_meta])* $variant,)* }

        impl $name {
            /// All members.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word,)* })
            }
        }

        impl Value for $name {
            fn read(text: &str) -> Result<Self, Fault> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => {
                        let words = [$(concat!("`", $word, "`"),)*].join(", ");
                        Err(Fault::value(format!("one of {words}"), text))
                    }
                }
            }

            fn text(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

words! {
    /// Machine architecture.
    Arch {
        /// 64-bit x86.
        Amd64 = "amd64",
        /// 32-bit x86.
        I386 = "i386",
        /// 64-bit ARM.
        Arm64 = "arm64",
        /// 32-bit ARM with hardware floating point.
        Armhf = "armhf",
        /// 32-bit RISC-V.
        Riscv32 = "riscv32",
        /// 64-bit RISC-V.
        Riscv64 = "riscv64",
    }
    /// What `pct console` opens.
    ConsoleMode {
        /// A shell without login.
        Shell = "shell",
        /// `/dev/console`.
        Console = "console",
        /// One of the ttys.
        Tty = "tty",
    }
    /// Why a container is locked. Never in an image: the restored container could not start.
    Lock {
        /// Being backed up.
        Backup = "backup",
        /// Being made.
        Create = "create",
        /// Being removed.
        Destroyed = "destroyed",
        /// A volume is being changed.
        Disk = "disk",
        /// Being trimmed.
        Fstrim = "fstrim",
        /// Being moved to another node.
        Migrate = "migrate",
        /// Mounted on the node.
        Mounted = "mounted",
        /// Being rolled back.
        Rollback = "rollback",
        /// A snapshot is being taken.
        Snapshot = "snapshot",
        /// A snapshot is being removed.
        SnapshotDelete = "snapshot-delete",
    }
    /// Which set-up code Proxmox runs on the root file system at each start.
    OsType {
        /// Debian.
        Debian = "debian",
        /// Devuan.
        Devuan = "devuan",
        /// Ubuntu.
        Ubuntu = "ubuntu",
        /// `CentOS` and its kin.
        Centos = "centos",
        /// Fedora.
        Fedora = "fedora",
        /// `openSUSE`.
        Opensuse = "opensuse",
        /// Arch Linux.
        Archlinux = "archlinux",
        /// Alpine.
        Alpine = "alpine",
        /// Gentoo.
        Gentoo = "gentoo",
        /// `NixOS`.
        Nixos = "nixos",
        /// None: Proxmox changes nothing.
        Unmanaged = "unmanaged",
    }
    /// The type of a network card.
    InterfaceType {
        /// A pair of virtual Ethernet devices; the only type there is.
        Veth = "veth",
    }
    /// An option of `mount` that Proxmox passes on.
    MountOption {
        /// Tell the storage of freed blocks; since Proxmox VE 8.3.
        Discard = "discard",
        /// Write time stamps late.
        Lazytime = "lazytime",
        /// No access times.
        Noatime = "noatime",
        /// No device nodes.
        Nodev = "nodev",
        /// No programs.
        Noexec = "noexec",
        /// No set-id bits.
        Nosuid = "nosuid",
    }
}

/// A decimal number as written: digits with at most one dot between them. Proxmox keeps its spelling, so do we.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number(String);

impl Number {
    /// Takes `2` and `1.50`; no sign, no exponent.
    ///
    /// # Errors
    /// Any other text.
    pub fn new(text: &str) -> Result<Self, Fault> {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let (whole, fraction) = text.split_once('.').map_or((text, None), |(a, b)| (a, Some(b)));
        if digits(whole) && fraction.is_none_or(digits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Fault::value("a decimal number such as `1.5`", text))
        }
    }

    /// The number.
    pub fn get(&self) -> f64 {
        self.0.parse().unwrap_or(f64::INFINITY)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A size in bytes, written in the largest unit (`K`, `M`, `G`, `T`) that leaves no fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiskSize(pub u64);

impl DiskSize {
    fn read_text(text: &str) -> Result<Self, Fault> {
        let fault = || Fault::value("a size such as `8G` or `512M`", text);
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let shift = match &text[end..] {
            "" => 0,
            "K" | "Ki" | "KiB" => 10,
            "M" | "Mi" | "MiB" => 20,
            "G" | "Gi" | "GiB" => 30,
            "T" | "Ti" | "TiB" => 40,
            _ => return Err(fault()),
        };
        // The schema's unit is `[KMGT](iB)?`: `Ki` alone is none.
        if text[end..].len() == 2 {
            return Err(fault());
        }
        let number = Number::new(&text[..end]).map_err(|_| fault())?;
        let (whole, fraction) = number.0.split_once('.').unwrap_or((&number.0, ""));
        let whole: u64 = whole.parse().map_err(|_| fault())?;
        let mut bytes = whole.checked_mul(1 << shift).ok_or_else(fault)?;
        if !fraction.is_empty() {
            // Fifteen digits of a fraction are beyond any byte; rounded down as Proxmox does.
            let fraction = &fraction[..fraction.len().min(15)];
            let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
            let part: u128 = fraction.parse().map_err(|_| fault())?;
            let part = u64::try_from((part << shift) / scale).map_err(|_| fault())?;
            bytes = bytes.checked_add(part).ok_or_else(fault)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for DiskSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
        let unit = units.into_iter().find(|(shift, _)| self.0 != 0 && self.0.trailing_zeros() >= *shift);
        let (shift, unit) = unit.unwrap_or((0, ""));
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

/// A unicast Ethernet address, written in upper case as Proxmox generates them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HardwareAddress(pub [u8; 6]);

impl HardwareAddress {
    fn read_text(text: &str) -> Result<Self, Fault> {
        let fault = || Fault::value("a unicast hardware address such as `BC:24:11:00:00:01`", text);
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(fault)?;
            if !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(fault());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| fault())?;
        }
        if parts.next().is_some() || bytes[0] & 1 == 1 {
            return Err(fault());
        }
        Ok(Self(bytes))
    }
}

impl std::str::FromStr for HardwareAddress {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        Self::read_text(text)
    }
}

impl fmt::Display for HardwareAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02X}:{b:02X}:{c:02X}:{d:02X}:{e:02X}:{g:02X}")
    }
}

/// How a network card gets its IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv4Setting {
    /// From a DHCP server.
    Dhcp,
    /// The container sees to it.
    Manual,
    /// This address with the length of its prefix, 8 to 32.
    Static(Ipv4Addr, u8),
}

/// How a network card gets its IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv6Setting {
    /// From router advertisements.
    Auto,
    /// From a DHCP server.
    Dhcp,
    /// The container sees to it.
    Manual,
    /// This address with the length of its prefix, 8 to 128.
    Static(Ipv6Addr, u8),
}

/// Reads `ADDRESS/PREFIX` with a prefix of 8 to `longest`.
fn cidr<T: std::str::FromStr>(text: &str, longest: u8) -> Option<(T, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let prefix: u8 = integer(prefix).ok().filter(|prefix| (8..=longest).contains(prefix))?;
    Some((address.parse().ok()?, prefix))
}

impl Ipv4Setting {
    fn read_text(text: &str) -> Result<Self, Fault> {
        match text {
            "dhcp" => Ok(Self::Dhcp),
            "manual" => Ok(Self::Manual),
            _ => cidr(text, 32).map(|(address, prefix)| Self::Static(address, prefix)).ok_or_else(|| {
                Fault::value("`dhcp`, `manual` or an IPv4 address with a prefix of 8 to 32", text)
            }),
        }
    }
}

impl fmt::Display for Ipv4Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dhcp => f.write_str("dhcp"),
            Self::Manual => f.write_str("manual"),
            Self::Static(address, prefix) => write!(f, "{address}/{prefix}"),
        }
    }
}

impl Ipv6Setting {
    fn read_text(text: &str) -> Result<Self, Fault> {
        match text {
            "auto" => Ok(Self::Auto),
            "dhcp" => Ok(Self::Dhcp),
            "manual" => Ok(Self::Manual),
            _ => cidr(text, 128).map(|(address, prefix)| Self::Static(address, prefix)).ok_or_else(|| {
                Fault::value("`auto`, `dhcp`, `manual` or an IPv6 address with a prefix of 8 to 128", text)
            }),
        }
    }
}

impl fmt::Display for Ipv6Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Dhcp => f.write_str("dhcp"),
            Self::Manual => f.write_str("manual"),
            Self::Static(address, prefix) => write!(f, "{address}/{prefix}"),
        }
    }
}

/// Options of `mount` in the order written, joined by `;`. `ro` is none of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions(pub Vec<MountOption>);

impl MountOptions {
    fn read_text(text: &str) -> Result<Self, Fault> {
        text.split(';').map(MountOption::read).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for MountOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&words.join(";"))
    }
}

/// Place in the node's start order, and waiting times in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Startup {
    /// Lower starts earlier and stops later.
    pub order: Option<u32>,
    /// Wait so long after starting it.
    pub up: Option<u32>,
    /// Wait so long for it to stop.
    pub down: Option<u32>,
}

impl Startup {
    fn read_text(text: &str) -> Result<Self, Fault> {
        let mut startup = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, number) = part.split_once('=').unwrap_or(("order", part));
            let place = match key {
                "order" => &mut startup.order,
                "up" => &mut startup.up,
                "down" => &mut startup.down,
                _ => return Err(Fault::value("`order=N,up=SECONDS,down=SECONDS`", text)),
            };
            if place.replace(integer(number)?).is_some() {
                return Err(Fault::Duplicate.within(key));
            }
        }
        if startup == Self::default() {
            return Err(Fault::value("`order=N,up=SECONDS,down=SECONDS`", text));
        }
        Ok(startup)
    }
}

impl fmt::Display for Startup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("order", self.order), ("up", self.up), ("down", self.down)];
        let given = parts.iter().filter_map(|(key, number)| Some(format!("{key}={}", (*number)?)));
        f.write_str(&given.collect::<Vec<_>>().join(","))
    }
}
