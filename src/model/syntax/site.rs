//! `images/site.toml` as written.

use super::{List, Named, Optional, Required, table};

table! {
    /// The site: what all images of a project share.
    RawSite {
        /// DNS domain.
        domain: Required<String> = "domain",
        /// Time zone of the containers. Default: `Etc/UTC`.
        timezone: Optional<String> = "timezone" ; { "default": "Etc/UTC" },
        /// The network that the containers are in.
        network: Required<RawNetwork> = "network",
        /// The Proxmox node.
        node: Required<RawNode> = "node",
        /// Directories of the node.
        directories: Required<RawDirectories> = "directories",
        /// The reverse proxy, Traefik 3.
        proxy: Optional<RawProxy> = "proxy",
        /// URIs to ask before an archive's URI of record, by the name of an archive or a tarball.
        mirrors: Named<super::recipe::TextList> = "mirrors",
        /// What the site has in an archive's place, by archive name.
        archive: Named<RawSiteArchive> = "archive",
    }
}

table! {
    /// The site's own copy of an archive.
    RawSiteArchive {
        /// Its URI: http, https or file.
        uri: Required<String> = "uri" ; { "pattern": "^(https?|file)://" },
        /// Files below `images/keys/` with OpenPGP certificates, when the site signs its copy itself.
        keys: List<String> = "keys" ; { "uniqueItems": true },
        /// Fingerprints of the primary keys that may sign it, 40 or 64 hex digits; blanks between them are ignored.
        fingerprints: List<String> = "fingerprints" ; { "uniqueItems": true },
    }
}

table! {
    /// The network that the containers are in.
    RawNetwork {
        /// Bridge on the node.
        bridge: Required<String> = "bridge" ; { "pattern": "^[A-Za-z0-9_.-]{1,15}$" },
        /// Subnet with its prefix length.
        subnet: Required<String> = "subnet",
        /// Router inside the subnet.
        gateway: Required<String> = "gateway" ; { "format": "ipv4" },
        /// Name servers. Default: the gateway.
        nameservers: super::List<String> = "nameservers" ; { "uniqueItems": true },
        /// The reverse proxy's address, as the containers see it.
        proxy: Required<String> = "proxy" ; { "format": "ipv4" },
        /// Networks from which people reach containers without the proxy: ssh, web interfaces. Default: the subnet.
        admin: List<String> = "admin" ; { "uniqueItems": true },
        /// The site's address on the internet, for DNS. Default: names refer to that of the domain itself.
        public: Optional<String> = "public" ; { "format": "ipv4" },
    }
}

table! {
    /// The reverse proxy, Traefik 3.
    RawProxy {
        /// Its entry point for https. Default: `websecure`.
        entry_point: Optional<String> = "entry-point" ; { "default": "websecure" },
        /// Its certificate resolver. Default: none, it uses the certificates that it has.
        resolver: Optional<String> = "resolver",
        /// Where it asks whether somebody is signed in (oauth2-proxy, with a static upstream), for images with
        /// `forward-auth = true`. Default: nowhere.
        forward_auth: Optional<String> = "forward-auth" ; { "pattern": "^https?://" },
    }
}

table! {
    /// The Proxmox node.
    RawNode {
        /// Where ssh reaches it.
        host: Required<String> = "host",
        /// Storage for root file systems.
        storage: Required<String> = "storage",
        /// Release of Proxmox VE it runs. Keys of the configuration that only newer nodes know are not used.
        release: Required<String> = "release" ; { "pattern": "^[0-9]+[.][0-9]+$" },
    }
}

table! {
    /// Directories of the node.
    RawDirectories {
        /// Media that containers share.
        media: Required<String> = "media" ; { "pattern": "^/" },
        /// State of the applications, one directory an image.
        state: Required<String> = "state" ; { "pattern": "^/" },
    }
}
