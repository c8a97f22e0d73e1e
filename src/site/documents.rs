//! `QUICKSTART.md` and `DEPLOYMENT.md`: the same facts as the scripts', for people.

use std::fmt::Write as _;

use super::quote::cell;
use super::view::{Container, View, networks};
use super::{backup, storage};
use crate::model::image::{Address, Owner};

/// Where Proxmox looks for backups in a directory storage's usual place.
const DUMP: &str = "/var/lib/vz/dump";

fn address(container: &Container<'_>) -> String {
    match container.image.container.address {
        Address::Static { address, prefix, .. } => format!("{address}/{prefix}"),
        Address::Dhcp => "DHCP".to_owned(),
    }
}

/// Containers in the order in which they are to start.
fn in_order<'a>(view: &'a View<'_>) -> Vec<&'a Container<'a>> {
    let mut containers: Vec<_> = view.containers.iter().collect();
    containers.sort_by_key(|container| container.image.container.startup.unwrap_or(u32::MAX));
    containers
}

/// How long the slowest application may be silent after its start, in seconds.
fn patience(view: &View<'_>) -> u64 {
    let services = view.containers.iter().flat_map(Container::webs);
    services.map(|web| web.service.probe.patience).max().unwrap_or(60)
}

fn fill(template: &str, view: &View<'_>) -> String {
    let site = view.site;
    let resolver = match &site.proxy.resolver {
        Some(name) => format!("and a certificate resolver `{name}`"),
        None => "and certificates for the names below".to_owned(),
    };
    let public = match site.network.public {
        Some(address) => format!("the site's address {address}"),
        None => "whatever address the domain itself has; set `public` in `[network]` of images/site.toml for a fixed one".to_owned(),
    };
    let names: Vec<_> = view.containers.iter().map(Container::name).collect();
    let values = [
        ("@HOST@", site.node.host.clone()),
        ("@STORAGE@", site.node.storage.clone()),
        ("@DOMAIN@", site.domain.clone()),
        ("@PROXY@", site.network.proxy.to_string()),
        ("@GATEWAY@", site.network.gateway.to_string()),
        ("@BRIDGE@", site.network.bridge.clone()),
        ("@SUBNET@", format!("{}/{}", site.network.subnet, site.network.prefix)),
        ("@ADMIN@", networks(&site.network.admin).replace(',', ", ")),
        ("@ENTRY@", site.proxy.entry_point.clone()),
        ("@RESOLVER@", resolver),
        ("@PUBLIC@", public),
        ("@DUMP@", DUMP.to_owned()),
        ("@PATIENCE@", patience(view).to_string()),
        ("@IMAGES@", names.join(" ")),
        ("@TABLE@", table(view)),
        ("@DIRECTORIES@", directories(view)),
        ("@PORTS@", ports(view)),
        ("@RESTORES@", restores(view)),
        ("@UPGRADES@", upgrades(view)),
        ("@SETUP@", setup(view)),
        ("@FIREWALLS@", firewalls(view)),
        ("@STATES@", states(view)),
        ("@LIMITS@", limits(view)),
    ];
    values.into_iter().fold(template.to_owned(), |text, (mark, value)| text.replace(mark, value.trim_end()))
}

/// The short one: commands in order.
pub(super) fn quickstart(view: &View<'_>) -> String {
    fill(include_str!("text/QUICKSTART.md"), view)
}

/// The long one.
pub(super) fn deployment(view: &View<'_>) -> String {
    fill(include_str!("text/DEPLOYMENT.md"), view)
}

fn table(view: &View<'_>) -> String {
    let mut text =
        "| image | container | address | name | cores | memory | disk |\n|---|---|---|---|---|---|---|\n"
            .to_owned();
    for container in &view.containers {
        let settings = &container.image.container;
        let name =
            container.web().map_or_else(|| "none".to_owned(), |_| format!("https://{}", settings.domain));
        let _ = writeln!(
            text,
            "| {}: {} | {} | {} | {name} | {} | {} MiB + {} MiB swap | {} GiB |",
            container.name(),
            cell(&container.image.description),
            settings.vmid,
            address(container),
            settings.cores,
            settings.memory,
            settings.swap,
            settings.disk
        );
    }
    text
}

fn directories(view: &View<'_>) -> String {
    let mut text = "| directory | owner on the node | mode | seen by |\n|---|---|---|---|\n".to_owned();
    for directory in storage::of(view) {
        let owner = match directory.owner {
            Some(Owner { uid, gid, mode }) => format!("{uid}:{gid} | {mode:04o}"),
            None => "as it is | as it is".to_owned(),
        };
        let _ = writeln!(text, "| `{}` | {owner} | {} |", directory.path, directory.images.join(", "));
    }
    text
}

fn ports(view: &View<'_>) -> String {
    let mut text = "| container | port | for |\n|---|---|---|\n".to_owned();
    for container in &view.containers {
        for web in container.webs() {
            let _ = writeln!(
                text,
                "| {} | {}/tcp | the proxy, and administrators |",
                container.name(),
                web.service.port
            );
        }
        for port in container.ports() {
            let whom = if port.public { "everybody: forwarded from the internet" } else { "administrators" };
            for protocol in &port.protocols {
                let _ = writeln!(
                    text,
                    "| {} | {}/{protocol} ({}) | {whom} |",
                    container.name(),
                    port.number,
                    port.name
                );
            }
        }
    }
    text
}

fn restores(view: &View<'_>) -> String {
    let lines = in_order(view).into_iter().map(|container| {
        let vmid = container.image.container.vmid;
        format!(
            "pct restore {vmid} {DUMP}/vzdump-lxc-{vmid}-*.tar.zst --storage {}\npct start {vmid}\n",
            view.site.node.storage
        )
    });
    lines.collect()
}

fn upgrades(view: &View<'_>) -> String {
    let lines = in_order(view).into_iter().map(|container| {
        let vmid = container.image.container.vmid;
        format!(
            "pct shutdown {vmid} && pct restore {vmid} {DUMP}/vzdump-lxc-{vmid}-TIME.tar.zst --storage {} --force && pct start {vmid}\n",
            view.site.node.storage
        )
    });
    lines.collect()
}

fn setup(view: &View<'_>) -> String {
    let mut text = String::new();
    for container in &view.containers {
        let (Some(web), Some(address)) = (container.web(), container.address()) else { continue };
        let Some(setup) = &web.service.setup else { continue };
        let _ = write!(
            text,
            "- `{}` has to be set up by somebody: open http://{address}:{} from {}.",
            container.name(),
            web.service.port,
            networks(&view.site.network.admin).replace(',', " or ")
        );
        if !setup.private.is_empty() {
            let paths: Vec<_> = setup.private.iter().map(|path| format!("`{path}`")).collect();
            let _ = write!(
                text,
                " Through the proxy that cannot be done: it answers 403 for {} and what is below.",
                paths.join(", ")
            );
        }
        text.push('\n');
    }
    if text.is_empty() { "- No application waits for a set-up of its own.\n".to_owned() } else { text }
}

fn firewalls(view: &View<'_>) -> String {
    let lines = view.containers.iter().map(|container| {
        let vmid = container.image.container.vmid;
        format!("cp site/firewall/{vmid}.fw /etc/pve/firewall/{vmid}.fw\n")
    });
    lines.collect()
}

fn states(view: &View<'_>) -> String {
    let mut text = "| image | on the node | in the container |\n|---|---|---|\n".to_owned();
    for (container, states) in backup::images(view) {
        for (source, target) in states {
            let _ = writeln!(text, "| {} | `{source}` | `{target}` |", container.name());
        }
    }
    text
}

fn limits(view: &View<'_>) -> String {
    let mut text = "| image | requests a second and client | attempts to log in a minute and client | ready when |\n|---|---|---|---|\n".to_owned();
    for (container, web, _) in view.offered() {
        let attempts = web
            .service
            .login
            .as_ref()
            .map_or_else(|| "not known apart".to_owned(), |login| login.attempts.to_string());
        let ready = &web.service.ready;
        let status = ready.status.map_or_else(|| "200 to 399".to_owned(), |status| status.to_string());
        let _ = writeln!(
            text,
            "| {} | {} | {attempts} | `{}` answers {status} |",
            container.name(),
            web.service.rate,
            cell(&ready.path)
        );
    }
    text
}
