//! What router and node let through: forwarded ports as an nftables file, and Proxmox's firewall file of each container.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::view::{Container, View, networks};
use super::{SiteFile, heading};
use crate::model::offer::{Port, Protocol};

/// Ports that the router forwards, with the address they are forwarded to.
fn public<'a>(view: &'a View<'_>) -> Vec<(&'a Container<'a>, &'a Port, Ipv4Addr)> {
    let containers = view.containers.iter().filter_map(|container| Some((container, container.address()?)));
    containers
        .flat_map(|(container, address)| {
            container.ports().filter(|port| port.public).map(move |port| (container, port, address))
        })
        .collect()
}

/// The nftables file of the router.
pub(super) fn port_forward(view: &View<'_>) -> String {
    let network = &view.site.network;
    let mut text = "#!/usr/sbin/nft -f\n".to_owned();
    text.push_str(&heading(
        "#",
        &["Ports that the machine with the site's public address forwards to containers. To be loaded there, as often as you like."],
    ));
    text.push_str(
        "# A chain of its own that drops what is forwarded has to let `ct status dnat` through.\n\n\
         table ip build_images\n\
         delete table ip build_images\n\
         table ip build_images {\n    chain prerouting {\n        \
         type nat hook prerouting priority dstnat; policy accept;\n",
    );
    for (container, port, address) in public(view) {
        let _ = writeln!(text, "        # {}: {}", container.name(), port.name);
        for protocol in &port.protocols {
            // Whatever came for this machine's own addresses, by any interface, but not from the containers.
            let _ = writeln!(
                text,
                "        ip saddr != {}/{} fib daddr type local {protocol} dport {number} counter dnat to {address}:{number}",
                network.subnet,
                network.prefix,
                number = port.number
            );
        }
    }
    text.push_str("    }\n}\n");
    text
}

/// Proxmox's firewall files, `/etc/pve/firewall/<vmid>.fw`.
pub(super) fn containers<'a>(view: &'a View<'_>) -> impl Iterator<Item = SiteFile> + 'a {
    view.containers.iter().map(|container| {
        let vmid = container.image.container.vmid;
        SiteFile::text(format!("firewall/{vmid}.fw"), container_file(view, container))
    })
}

fn container_file(view: &View<'_>, container: &Container<'_>) -> String {
    let network = &view.site.network;
    let settings = &container.image.container;
    let about = format!(
        "Proxmox's firewall of container {}, {}: /etc/pve/firewall/{0}.fw on the node.",
        settings.vmid, settings.hostname
    );
    let mut text = heading("#", &[&about]);
    if !settings.firewall {
        let _ = writeln!(
            text,
            "# Without effect until `firewall = true` stands in images/{}.toml.",
            container.name()
        );
    }
    text.push_str("\n[OPTIONS]\n\n");
    if container.address().is_none() {
        text.push_str("dhcp: 1\n");
    }
    text.push_str("enable: 1\npolicy_in: DROP\npolicy_out: ACCEPT\n\n[RULES]\n\n");
    let admin = networks(&network.admin);
    let mut rule = |source: Option<&str>, protocol: Protocol, number: u16, why: &str| {
        let source = source.map(|source| format!(" -source {source}")).unwrap_or_default();
        let _ = writeln!(text, "IN ACCEPT{source} -p {protocol} -dport {number} -log nolog # {why}");
    };
    let proxy = network.proxy.to_string();
    for web in container.webs() {
        let name = &web.recipe.name;
        rule(Some(&proxy), Protocol::Tcp, web.service.port, &format!("{name}, through the proxy"));
        rule(Some(&admin), Protocol::Tcp, web.service.port, &format!("{name}, for administrators"));
    }
    for port in container.ports() {
        for protocol in &port.protocols {
            if port.public {
                rule(None, *protocol, port.number, &format!("{}, for everybody", port.name));
            } else {
                rule(Some(&admin), *protocol, port.number, &format!("{}, for administrators", port.name));
            }
        }
    }
    text.push_str("IN Ping(ACCEPT) -log nolog\n");
    text
}
