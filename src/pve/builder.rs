//! From a checked image and site to the configuration of its container.

use std::collections::BTreeMap;

use super::property::{Device, Features, MountPoint, Net, RootFs};
use super::settings::Config;
use super::value::{Arch, DiskSize, InterfaceType, Ipv4Setting, OsType, Startup};
use crate::model::image::{Address, Container, Gpu, Mount};
use crate::model::{Image, Site};

/// The configuration of `image`'s container on the nodes of `site`.
///
/// The same model gives the same text: it holds no time and no hash. Every key is known to all releases from
/// Proxmox VE 8.0 on. The time zone is not among them: the image brings its own /etc/localtime, and Proxmox would
/// take only the names of the node's zone.tab. Run [`Config::check`] on the result: the model cannot know all limits.
pub fn config_for(image: &Image, site: &Site) -> Config {
    let container = &image.container;
    let name_servers: Vec<_> = site.network.nameservers.iter().map(ToString::to_string).collect();
    let given = |text: String| (!text.is_empty()).then_some(text);
    Config {
        description: describe(image),
        arch: Some(Arch::Amd64),
        cores: Some(container.cores),
        devices: container.gpu.iter().map(gpu).zip(0..).map(|(device, number)| (number, device)).collect(),
        features: Some(Features { nesting: Some(true), ..Features::NONE }),
        hostname: Some(container.hostname.clone()),
        memory: Some(container.memory),
        mount_points: mounts(&image.mounts),
        nameserver: given(name_servers.join(" ")),
        nets: BTreeMap::from([(0, net(container, site))]),
        onboot: container.onboot.then_some(true),
        ostype: Some(OsType::Debian),
        rootfs: Some(root(container, site)),
        searchdomain: given(site.domain.clone()),
        startup: container.startup.map(|order| Startup { order: Some(order), ..Startup::default() }),
        swap: Some(container.swap),
        tags: given(container.tags.join(";")),
        // A restore takes an absent key for a privileged container.
        unprivileged: Some(true),
        ..Config::default()
    }
}

/// What the web interface shows beside the container.
fn describe(image: &Image) -> String {
    let reached = match image.container.domain.as_str() {
        "" => String::new(),
        domain => format!("\n\nReached as {domain}."),
    };
    let description = image.description.trim();
    format!("{description}{reached}\n\nImage `{}` made by build-images.", image.name)
        .trim_start()
        .chars()
        .take(8192)
        .collect()
}

/// The volume's name is only a form: a restore allocates a new one on the storage its user names.
fn root(container: &Container, site: &Site) -> RootFs {
    let volume = format!("{}:vm-{}-disk-0", site.node.storage, container.vmid);
    RootFs::new(volume, DiskSize(container.disk.saturating_mul(1 << 30)))
}

fn net(container: &Container, site: &Site) -> Net {
    let (ip, gateway) = match container.address {
        Address::Static { address, prefix, gateway } => (Ipv4Setting::Static(address, prefix), Some(gateway)),
        Address::Dhcp => (Ipv4Setting::Dhcp, None),
    };
    Net {
        bridge: Some(site.network.bridge.clone()),
        firewall: container.firewall.then_some(true),
        gateway,
        // The model's check refuses what is no hardware address; without one, each start would draw another.
        hardware_address: container.mac.parse().ok(),
        ip: Some(ip),
        tag: container.vlan.map(u32::from),
        interface_type: Some(InterfaceType::Veth),
        ..Net::new("eth0")
    }
}

/// Proxmox makes a device node of its own for the container, whose group is the container's own one.
fn gpu(gpu: &Gpu) -> Device {
    Device {
        path: gpu.device.clone(),
        deny_write: None,
        gid: Some(gpu.gid),
        mode: Some("0660".to_owned()),
        uid: None,
    }
}

/// State first, so that adding a media directory moves no number of a state mount.
fn mounts(mounts: &[Mount]) -> BTreeMap<u8, MountPoint> {
    let (state, other): (Vec<_>, Vec<_>) = mounts.iter().partition(|mount| mount.state.is_some());
    let points = state
        .into_iter()
        .chain(other)
        .map(|mount| MountPoint::bind(mount.source.clone(), mount.target.to_string(), mount.read_only));
    (0..=u8::MAX).zip(points).collect()
}
