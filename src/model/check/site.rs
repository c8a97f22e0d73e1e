//! Rules for `images/site.toml`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use super::{Scope, archive};
use crate::model::site::{Directories, Network, Node, Proxy, Site, SiteArchive};
use crate::model::source::{Place, SourceFile};
use crate::model::syntax::site::{RawNetwork, RawProxy, RawSite};
use crate::model::syntax::{At, List, Required};
use crate::model::{diagnostics::Diagnostics, words};

/// What is known of the site, also when something of it is wrong.
#[derive(Debug, Default)]
pub struct SiteDraft {
    /// The whole, when nothing is wrong.
    pub site: Option<Site>,
    /// DNS domain.
    pub domain: Option<String>,
    /// Network address and prefix length.
    pub subnet: Option<(Ipv4Addr, u8)>,
    /// Addresses in the network that no container may have: gateway, proxy, name servers; with what they are.
    pub taken: Vec<(Ipv4Addr, &'static str, Place)>,
    /// Router.
    pub gateway: Option<Ipv4Addr>,
    /// Media directory.
    pub media: Option<String>,
    /// State directory.
    pub state: Option<String>,
    /// Archive names of mirrors, for dangling ones.
    pub mirrors: Vec<(String, Place)>,
    /// Archive names of the site's own copies, for dangling ones.
    pub archives: Vec<(String, Place)>,
}

/// The bits of an address that name the network.
pub fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

/// Whether `address` is in the network.
pub fn contains((network, prefix): (Ipv4Addr, u8), address: Ipv4Addr) -> bool {
    address.to_bits() & mask(prefix) == network.to_bits() & mask(prefix)
}

/// Checks the site.
pub fn check(root: &Path, file: &SourceFile, raw: &RawSite, problems: &mut Diagnostics) -> SiteDraft {
    let mut scope = Scope::new(file, problems);
    let domain = text(&mut scope, &raw.domain, words::domain);
    let mut draft = SiteDraft { domain, ..SiteDraft::default() };
    if let (Some(at), Some(domain)) = (&raw.domain.0, &draft.domain)
        && !domain.contains('.')
    {
        scope
            .warning(&at.span, format!("`{domain}` is a top-level domain"))
            .help("a site has a domain of its own, as `example.org` or `home.arpa`");
    }
    let timezone = match &raw.timezone.0 {
        Some(at) => scope.take(&at.span, words::timezone(&at.value)).map(|()| at.value.clone()),
        None => Some("Etc/UTC".to_owned()),
    };
    let network = raw.network.0.as_ref().and_then(|at| network(&mut scope, &at.value, &mut draft));
    let node = raw.node.0.as_ref().and_then(|at| {
        let host = text(&mut scope, &at.value.host, words::ssh_host);
        let storage = text(&mut scope, &at.value.storage, words::storage);
        let release = at.value.release.0.as_ref().and_then(|at| release(&mut scope, at));
        Some(Node { host: host?, storage: storage?, release: release? })
    });
    if let Some(at) = &raw.directories.0 {
        draft.media = directory(&mut scope, &at.value.media);
        draft.state = directory(&mut scope, &at.value.state);
        if let (Some(media), Some(state), Some(at)) = (&draft.media, &draft.state, &at.value.state.0)
            && (format!("{media}/").starts_with(&format!("{state}/"))
                || format!("{state}/").starts_with(&format!("{media}/")))
        {
            scope
                .error(
                    &at.span,
                    format!("the state directory `{state}` and the media directory `{media}` overlap"),
                )
                .help("keep them apart, as `/srv/appdata` and `/srv/media`");
        }
    }
    let proxy = raw.proxy.0.as_ref().map(|at| proxy(&mut scope, &at.value)).unwrap_or_default();
    let mirrors = mirrors(&mut scope, raw, &mut draft);
    let archives: BTreeMap<String, SiteArchive> = raw
        .archive
        .0
        .iter()
        .filter_map(|(name, at)| {
            draft.archives.push((name.value.clone(), scope.place(name)));
            Some((name.value.clone(), archive::site_archive(&mut scope, root, at)?))
        })
        .collect();
    let failed = scope.failed;
    let whole = || {
        Some(Site {
            domain: draft.domain.clone()?,
            timezone: timezone?,
            network: network?,
            node: node?,
            directories: Directories { media: draft.media.clone()?, state: draft.state.clone()? },
            mirrors,
            archives,
            proxy,
        })
    };
    draft.site = whole().filter(|_| !failed);
    draft
}

fn text(
    scope: &mut Scope<'_>,
    field: &Required<String>,
    rule: fn(&str) -> Result<(), words::Complaint>,
) -> Option<String> {
    let at = field.0.as_ref()?;
    scope.take(&at.span, rule(&at.value)).map(|()| at.value.clone())
}

fn release(scope: &mut Scope<'_>, at: &At<String>) -> Option<(u32, u32)> {
    let found =
        at.value.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    match found {
        Some((major, _)) if major < 8 => {
            scope.error(&at.span, format!("Proxmox VE {} is too old", at.value)).help(
                "Debian 13 containers need release 8.4 or newer; `pveversion` on the node shows what it runs",
            );
            None
        }
        Some(release) => Some(release),
        None => {
            scope
                .error(&at.span, format!("`{}` is not a release of Proxmox VE", at.value))
                .help("write major and minor number, as `\"9.2\"`; `pveversion` on the node shows them");
            None
        }
    }
}

fn directory(scope: &mut Scope<'_>, field: &Required<String>) -> Option<String> {
    let at = field.0.as_ref()?;
    scope.take(&at.span, words::absolute(&at.value))?;
    scope.take(&at.span, words::mountable(&at.value))?;
    scope.take(&at.span, super::mounts::node_directory(&at.value))?;
    Some(at.value.clone())
}

fn ipv4(scope: &mut Scope<'_>, at: &At<String>, what: &str) -> Option<Ipv4Addr> {
    if let Ok(address) = at.value.parse() {
        return Some(address);
    }
    let problem = scope.error(&at.span, format!("{what} `{}` is not an IPv4 address", at.value));
    match at.value.split_once('/') {
        Some((address, _)) if address.parse::<Ipv4Addr>().is_ok() => {
            problem.help(format!("write `{address}`; the prefix stands in `subnet`"))
        }
        _ => problem.help("write four numbers from 0 to 255, as `192.168.1.1`"),
    };
    None
}

fn network(scope: &mut Scope<'_>, raw: &RawNetwork, draft: &mut SiteDraft) -> Option<Network> {
    let bridge = text(scope, &raw.bridge, words::bridge);
    draft.subnet = raw.subnet.0.as_ref().and_then(|at| subnet(scope, at));
    if let Some(at) = &raw.gateway.0
        && let Some(gateway) = ipv4(scope, at, "the gateway")
        && inside(scope, at, gateway, draft.subnet, "the gateway")
    {
        draft.gateway = Some(gateway);
        draft.taken.push((gateway, "the gateway", scope.place(at)));
    }
    let proxy = raw.proxy.0.as_ref().and_then(|at| ipv4(scope, at, "the proxy").map(|proxy| (proxy, at)));
    if let Some((proxy, at)) = proxy {
        draft.taken.push((proxy, "the reverse proxy", scope.place(at)));
    }
    let nameservers = nameservers(scope, &raw.nameservers, draft);
    scope.unique(&raw.admin.0);
    let admin: Vec<_> = raw.admin.0.iter().filter_map(|at| any_subnet(scope, at)).collect();
    let public = raw.public.0.as_ref().and_then(|at| public(scope, at));
    let (subnet, prefix) = draft.subnet?;
    let admin = if raw.admin.0.is_empty() { vec![(subnet, prefix)] } else { admin };
    Some(Network {
        bridge: bridge?,
        subnet,
        prefix,
        gateway: draft.gateway?,
        nameservers,
        proxy: proxy?.0,
        admin,
        public,
    })
}

/// The address under which the internet knows the site.
fn public(scope: &mut Scope<'_>, at: &At<String>) -> Option<Ipv4Addr> {
    let address = ipv4(scope, at, "the public address")?;
    if address.is_private() || address.is_loopback() || address.is_link_local() || address.is_unspecified() {
        scope
            .error(&at.span, format!("nobody on the internet reaches {address}"))
            .help("write the address that the provider gives, or leave it out when it changes");
        return None;
    }
    Some(address)
}

/// Settings of the reverse proxy.
fn proxy(scope: &mut Scope<'_>, raw: &RawProxy) -> Proxy {
    let mut proxy = Proxy::default();
    if let Some(at) = &raw.entry_point.0 {
        scope.take(&at.span, words::proxy_name(&at.value, "an entry point"));
        proxy.entry_point.clone_from(&at.value);
    }
    if let Some(at) = &raw.resolver.0 {
        scope.take(&at.span, words::proxy_name(&at.value, "a certificate resolver"));
        proxy.resolver = Some(at.value.clone());
    }
    if let Some(at) = &raw.forward_auth.0 {
        proxy.forward_auth = scope.take(&at.span, words::service_uri(&at.value)).map(|()| at.value.clone());
    }
    proxy
}

fn nameservers(scope: &mut Scope<'_>, raw: &List<String>, draft: &mut SiteDraft) -> Vec<IpAddr> {
    scope.unique(&raw.0);
    let mut found = Vec::new();
    for at in &raw.0 {
        match at.value.parse::<IpAddr>() {
            Ok(address) if address.is_unspecified() || address.is_multicast() || address.is_loopback() => {
                scope
                    .error(&at.span, format!("`{address}` is not the address of a name server"))
                    .help("containers must reach it over the network");
            }
            Ok(address) => {
                found.push(address);
                if let IpAddr::V4(address) = address
                    && Some(address) != draft.gateway
                {
                    draft.taken.push((address, "a name server", scope.place(at)));
                }
            }
            Err(_) => {
                scope
                    .error(&at.span, format!("`{}` is not an IP address", at.value))
                    .help("write the address of the name server, not its name");
            }
        }
    }
    if raw.0.is_empty() {
        found.extend(draft.gateway.map(IpAddr::V4));
    }
    found
}

/// The containers' subnet.
fn subnet(scope: &mut Scope<'_>, at: &At<String>) -> Option<(Ipv4Addr, u8)> {
    let (network, prefix) = any_subnet(scope, at)?;
    if !(8..=30).contains(&prefix) {
        scope
            .error(&at.span, format!("a prefix length of {prefix} leaves no useful subnet"))
            .help("Proxmox takes 8 to 32, and a subnet with gateway and containers needs at most 30");
        return None;
    }
    Some((network, prefix))
}

/// A network address with its prefix length.
fn any_subnet(scope: &mut Scope<'_>, at: &At<String>) -> Option<(Ipv4Addr, u8)> {
    let parsed = at.value.split_once('/').and_then(|(address, prefix)| {
        Some((address.parse::<Ipv4Addr>().ok()?, prefix.parse::<u8>().ok().filter(|prefix| *prefix <= 32)?))
    });
    let Some((address, prefix)) = parsed else {
        let problem = scope.error(&at.span, format!("`{}` is not an IPv4 subnet", at.value));
        problem.help("write network address and prefix length, as `192.168.1.0/24`");
        return None;
    };
    let network = Ipv4Addr::from_bits(address.to_bits() & mask(prefix));
    if network != address {
        scope
            .error(&at.span, format!("`{}` is an address inside the subnet, not the subnet", at.value))
            .help(format!("write `{network}/{prefix}`"));
        return None;
    }
    Some((network, prefix))
}

/// Whether `address` is a host's address in the subnet; says so when it is not.
pub fn inside<T>(
    scope: &mut Scope<'_>,
    at: &At<T>,
    address: Ipv4Addr,
    subnet: Option<(Ipv4Addr, u8)>,
    what: &str,
) -> bool {
    let Some((network, prefix)) = subnet else { return true };
    let first = network.to_bits();
    let last = first | !mask(prefix);
    let range = format!(
        "write an address from {} to {}",
        Ipv4Addr::from_bits(first + 1),
        Ipv4Addr::from_bits(last - 1)
    );
    let reason = if !contains((network, prefix), address) {
        format!("is outside the subnet {network}/{prefix}")
    } else if address.to_bits() == first {
        format!("is the address of the subnet {network}/{prefix} itself")
    } else if address.to_bits() == last {
        format!("is the broadcast address of {network}/{prefix}")
    } else {
        return true;
    };
    scope.error(&at.span, format!("{what} {address} {reason}")).help(range);
    false
}

fn mirrors(scope: &mut Scope<'_>, raw: &RawSite, draft: &mut SiteDraft) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for (name, uris) in &raw.mirrors.0 {
        draft.mirrors.push((name.value.clone(), scope.place(name)));
        scope.unique(&uris.value);
        let good: Vec<String> =
            uris.value.iter().filter_map(|at| scope.take(&at.span, words::mirror_uri(&at.value))).collect();
        found.insert(name.value.clone(), good);
    }
    found
}
