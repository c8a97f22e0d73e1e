//! Proxmox VE's side of the contract: container configuration as it parses and writes it, and its limits.
//!
//! In: the text of a `pct` configuration, or a checked image and site. Out: a [`Config`], its canonical text, or
//! every [`Problem`] found. Nothing here reads a file or talks to a node. The schema is that of pve-container 6.1
//! (`PVE::LXC::Config`); what older releases lack is noted with the keys and checked against a [`Release`].

mod builder;
mod check;
mod lxc;
mod parse;
mod problem;
mod property;
mod settings;
mod text;
mod value;

pub use builder::config_for;
pub use check::Release;
pub use problem::{Fault, Problem};
pub use property::{Device, Features, MountPoint, Net, RootFs, Unused};
pub use settings::Config;
pub use value::{
    Arch, ConsoleMode, DiskSize, HardwareAddress, InterfaceType, Ipv4Setting, Ipv6Setting, Lock, MountOption,
    MountOptions, Number, OsType, Startup,
};

#[cfg(test)]
mod tests;
