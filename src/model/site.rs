//! The site: what all images of a project share.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;

use super::recipe::Keys;

/// A checked `images/site.toml`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Site {
    /// DNS domain (`viljo.se`).
    pub domain: String,
    /// Time zone of the containers (`Etc/UTC`, `Europe/Stockholm`).
    pub timezone: String,
    /// The network that the containers are in.
    pub network: Network,
    /// The Proxmox node.
    pub node: Node,
    /// Directories of the node.
    pub directories: Directories,
    /// Mirrors to ask before the archive of record, by the name of an archive or a tarball.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// What the site has in an archive's place, by archive name.
    #[serde(skip)]
    pub archives: BTreeMap<String, SiteArchive>,
    /// The reverse proxy.
    pub proxy: Proxy,
}

/// The reverse proxy, Traefik 3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proxy {
    /// Its entry point for https.
    pub entry_point: String,
    /// Its certificate resolver; without one it uses the certificates that it has.
    pub resolver: Option<String>,
    /// Where it asks whether somebody is signed in.
    pub forward_auth: Option<String>,
}

impl Default for Proxy {
    fn default() -> Self {
        Self { entry_point: "websecure".to_owned(), resolver: None, forward_auth: None }
    }
}

/// The site's own copy of an archive.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteArchive {
    /// Its URI, ending in `/`.
    pub uri: String,
    /// The keys that sign it; the recipe's, when there are none.
    pub keys: Option<Keys>,
}

/// The network that the containers are in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Network {
    /// Bridge on the node (`vmbr3`).
    pub bridge: String,
    /// Network address.
    pub subnet: Ipv4Addr,
    /// Length of its prefix.
    pub prefix: u8,
    /// Router inside the subnet.
    pub gateway: Ipv4Addr,
    /// Name servers.
    pub nameservers: Vec<IpAddr>,
    /// The reverse proxy's address, as the containers see it.
    pub proxy: Ipv4Addr,
    /// Networks from which people reach containers without the proxy, as address and prefix length.
    pub admin: Vec<(Ipv4Addr, u8)>,
    /// The site's address on the internet.
    pub public: Option<Ipv4Addr>,
}

/// The Proxmox node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// Where `ssh` reaches it (`root@192.168.1.3`).
    pub host: String,
    /// Storage for root file systems (`local-lvm`).
    pub storage: String,
    /// Release it runs, as (major, minor): keys that only newer nodes know are not used below it.
    pub release: (u32, u32),
}

/// Directories of the node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Directories {
    /// Media (`/srv/media`).
    pub media: String,
    /// State of the applications, one directory an image (`/srv/appdata`).
    pub state: String,
}
