//! `images/<name>.toml` as written.

use super::{List, NumberOrText, Optional, Required, Size, table};

table! {
    /// An image: one container, made of recipes.
    RawImage {
        /// One line for people. Default: the description of the last recipe.
        description: Optional<String> = "description",
        /// Recipes in order; the first is the base and has a release.
        recipes: Required<super::recipe::TextList> = "recipes" ; { "uniqueItems": true },
        /// What Proxmox gives the container.
        container: Required<RawContainer> = "container",
        /// Directories of the node that the container sees, beside those for state.
        mount: List<RawMount> = "mount",
        /// Whether the reverse proxy asks the site's `forward-auth` about each request. Default: false.
        forward_auth: Optional<bool> = "forward-auth" ; { "default": false },
    }
}

table! {
    /// What Proxmox gives the container.
    RawContainer {
        /// Proxmox's id.
        vmid: Required<i64> = "vmid" ; { "minimum": 100, "maximum": 999_999_999 },
        /// Host name without domain. Default: the image's name.
        hostname: Optional<String> = "hostname",
        /// Full name under which it is reached. Default: the host name in the site's domain.
        domain: Optional<String> = "domain",
        /// IPv4 address: the host's number inside the site's subnet (`59`), a full `"10.0.0.5/24"`, or `"dhcp"`.
        address: Required<NumberOrText> = "address",
        /// Number of cores. Default: 1.
        cores: Optional<i64> = "cores" ; { "minimum": 1, "maximum": 8192, "default": 1 },
        /// Memory as `"2 GiB"` or `"512 MiB"`. Default: `"512 MiB"`.
        memory: Optional<Size> = "memory" ; { "default": "512 MiB" },
        /// Swap, also `"0"`. Default: `"512 MiB"`.
        swap: Optional<Size> = "swap" ; { "default": "512 MiB" },
        /// Size of the root file system in whole GiB. Default: `"8 GiB"`.
        disk: Optional<Size> = "disk" ; { "default": "8 GiB" },
        /// Whether it starts with the node. Default: true.
        onboot: Optional<bool> = "onboot" ; { "default": true },
        /// Position in the node's start order; lower is earlier.
        startup: Optional<i64> = "startup" ; { "minimum": 0 },
        /// Proxmox's tags.
        tags: List<String> = "tags" ; { "uniqueItems": true },
        /// Whether Proxmox's firewall filters the network card. Default: false.
        firewall: Optional<bool> = "firewall" ; { "default": false },
        /// VLAN tag.
        vlan: Optional<i64> = "vlan" ; { "minimum": 1, "maximum": 4094 },
        /// Hardware address. Default: made from the site's domain and the image's name.
        mac: Optional<String> = "mac",
        /// Render node of a graphics card of the node for transcoding. Default: none.
        gpu: Optional<String> = "gpu" ; { "pattern": "^/dev/dri/renderD[0-9]{3}$" },
    }
}

table! {
    /// A directory of the node that the container sees, with exactly one of `media` and `source`.
    RawMount {
        /// Directory below the site's media directory; `"."` is that directory itself.
        media: Optional<String> = "media",
        /// Absolute path on the node.
        source: Optional<String> = "source" ; { "pattern": "^/" },
        /// Where the container sees it.
        target: Required<String> = "target" ; { "pattern": "^/" },
        /// Whether the container must not write. Default: false.
        read_only: Optional<bool> = "read-only" ; { "default": false },
        /// Who owns it on the node, by a name of the container. Default: as a recipe's `[[directory]]` at `target` says.
        owner: Optional<String> = "owner",
        /// Its group on the node, by a name of the container. Default: the owner's primary group.
        group: Optional<String> = "group",
        /// Its permission bits on the node as a string of octal digits. Default: `"0755"`.
        mode: Optional<super::Mode> = "mode",
    }
}
