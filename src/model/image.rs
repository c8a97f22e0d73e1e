//! An image: one container, made of recipes.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::tree::TreePath;

/// A checked `images/<name>.toml`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Image {
    /// The file's name without `.toml`.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Recipes in order; the first one is the base and has a release.
    pub recipes: Vec<String>,
    /// What Proxmox is to give the container.
    pub container: Container,
    /// Directories of the node, beside those for state.
    pub mounts: Vec<Mount>,
    /// Space that its applications need before they start.
    pub space: Vec<NeededSpace>,
    /// Whether the reverse proxy asks the site's `forward-auth` about each request.
    #[serde(skip)]
    pub forward_auth: bool,
}

/// Settings of the container, sizes in the unit each says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Container {
    /// Proxmox's id, 100 to 999999999.
    pub vmid: u32,
    /// Host name without domain.
    pub hostname: String,
    /// Name in the site's domain under which it is reached (`qbittorrent.viljo.se`).
    pub domain: String,
    /// Its IPv4 address.
    pub address: Address,
    /// Number of cores.
    pub cores: u32,
    /// Memory in MiB.
    pub memory: u64,
    /// Swap in MiB.
    pub swap: u64,
    /// Size of the root file system in GiB.
    pub disk: u64,
    /// Whether it starts with the node.
    pub onboot: bool,
    /// Position in the node's start order; lower is earlier.
    pub startup: Option<u32>,
    /// Proxmox's tags, sorted.
    pub tags: Vec<String>,
    /// Whether Proxmox's firewall filters its network card.
    pub firewall: bool,
    /// VLAN tag, 1 to 4094.
    pub vlan: Option<u16>,
    /// Hardware address, derived from site domain and image name unless given: stable over rebuilds.
    pub mac: String,
    /// A graphics card of the node that the container may use.
    pub gpu: Option<Gpu>,
}

/// A graphics card of the node, for transcoding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gpu {
    /// Its render node, such as `/dev/dri/renderD128`; the same path on the node and in the container.
    pub device: String,
    /// The id, in the container, of the group that may use it: the pinned one of `render`.
    pub gid: u32,
}

/// How the container gets its IPv4 address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Address {
    /// A fixed one.
    Static {
        /// The address.
        address: Ipv4Addr,
        /// Length of the network's prefix, 8 to 32.
        prefix: u8,
        /// The router, in the same network.
        gateway: Ipv4Addr,
    },
    /// From a DHCP server.
    Dhcp,
}

/// A directory of the node that the container sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// Absolute path on the node.
    pub source: String,
    /// Where the container sees it.
    pub target: TreePath,
    /// Whether the container must not write.
    pub read_only: bool,
    /// The state it holds, when it stands for a recipe's `[[state]]`; else nothing.
    pub state: Option<TreePath>,
    /// Who owns it on the node, when the project says so.
    #[serde(skip)]
    pub owner: Option<Owner>,
}

/// Who owns a directory of the node, by ids as the container sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {:04o}", self.uid, self.gid, self.mode)
    }
}

/// Space that has to be free before the container's application starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeededSpace {
    /// A directory of the container that the application writes to, from `/` on.
    pub path: String,
    /// The directory of the node that is mounted there or above; nothing when it is in the root file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How much has to be free, in MiB.
    pub free: u64,
}
