//! Rules for one image.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::mounts::{self, PlacedMount};
use super::recipe::RecipeDraft;
use super::site::{SiteDraft, inside};
use super::{Scope, combine, gpu, offer, owners};
use crate::digest::Sha256;
use crate::model::image::{Address, Container, Image};
use crate::model::source::{Place, SourceFile};
use crate::model::syntax::image::{RawContainer, RawImage};
use crate::model::syntax::{At, NumberOrText, Optional, Size};
use crate::model::{diagnostics::Diagnostics, words};

/// What is known of an image, also when something of it is wrong.
#[derive(Debug)]
pub struct ImageDraft {
    /// The file's name without `.toml`.
    pub name: String,
    /// The whole, when nothing is wrong with its own file.
    pub image: Option<Image>,
    /// Whether nothing is wrong with it and its recipes together.
    pub complete: bool,
    /// Its recipes and where they are named.
    pub recipes: Vec<(String, Place)>,
    /// What no two images may share: what it is, its text, where it stands.
    pub unique: Vec<(&'static str, String, Place)>,
    /// Directories of the node for state: no two images may share one either.
    pub mounts: Vec<PlacedMount>,
}

/// Checks an image.
pub fn check(
    name: &str,
    file: &SourceFile,
    raw: &RawImage,
    site: &SiteDraft,
    recipes: &BTreeMap<String, RecipeDraft>,
    problems: &mut Diagnostics,
) -> ImageDraft {
    let mut scope = Scope::new(file, problems);
    let mut draft = ImageDraft {
        name: name.to_owned(),
        image: None,
        complete: false,
        recipes: Vec::new(),
        unique: Vec::new(),
        mounts: Vec::new(),
    };
    if let Some(at) = &raw.description.0 {
        super::recipe::description(&mut scope, at);
    }
    let mut known = Vec::new();
    if let Some(list) = &raw.recipes.0 {
        known = named_recipes(&mut scope, list, recipes);
        draft.recipes = list.value.iter().map(|at| (at.value.clone(), scope.place(at))).collect();
    }
    let container =
        raw.container.0.as_ref().and_then(|at| container(&mut scope, &at.value, site, &mut draft));
    draft.mounts =
        raw.mount.0.iter().filter_map(|at| mounts::mount(&mut scope, at, site.media.as_deref())).collect();
    combine::state_mounts(name, site.state.as_deref(), &known, &mut draft.mounts, scope.problems);
    mounts::overlaps(&draft.mounts, scope.problems);
    let all_known = known.len() == draft.recipes.len() && known.iter().all(|(recipe, _)| !recipe.unread);
    combine::check(&known, all_known, &draft.mounts, scope.problems);
    owners::settle(&mut scope, &known, all_known, &mut draft.mounts);
    offer::forwarded(&mut scope, raw, &known, &mut draft);
    let forward_auth = offer::forward_auth(&mut scope, raw, site);
    let raw_container = raw.container.0.as_ref();
    let disk = raw_container.and_then(|at| at.value.disk.0.as_ref()).map(|at| scope.place(at));
    let disk = disk.or_else(|| raw_container.map(|at| scope.place(at)));
    let size = container.as_ref().map(|container| container.disk << 10);
    let space = combine::space(&known, &draft.mounts, size.zip(disk.as_ref()), scope.problems);
    let gpu = raw_container.and_then(|at| at.value.gpu.0.as_ref());
    let gpu = gpu.map(|at| gpu::check(&mut scope, at, site, &known, all_known));
    let description = match &raw.description.0 {
        Some(at) => at.value.clone(),
        None => known.last().map(|(recipe, _)| recipe.recipe.description.clone()).unwrap_or_default(),
    };
    let failed_before = scope.failed;
    let found = gpu.clone().flatten();
    let gpu_failed = gpu.is_some() && found.is_none();
    if let (Some(container), false) = (container, failed_before || gpu_failed) {
        let container = Container { gpu: found, ..container };
        draft.image = Some(Image {
            name: name.to_owned(),
            description,
            recipes: draft.recipes.iter().map(|(name, _)| name.clone()).collect(),
            container,
            mounts: draft.mounts.iter().map(|placed| placed.mount.clone()).collect(),
            space,
            forward_auth,
        });
    }
    draft
}

fn named_recipes<'r>(
    scope: &mut Scope<'_>,
    list: &At<Vec<At<String>>>,
    recipes: &'r BTreeMap<String, RecipeDraft>,
) -> Vec<(&'r RecipeDraft, Place)> {
    scope.unique(&list.value);
    if list.value.is_empty() {
        scope
            .error(&list.span, "the image has no recipes")
            .help("name the base first, as `recipes = [\"debian-13\", \"qbittorrent\"]`");
    }
    let mut known = Vec::new();
    let released = |at: &&At<String>| recipes.get(&at.value).is_some_and(|draft| draft.release.is_some());
    let late = list.value.iter().position(|at| released(&at)).filter(|index| *index > 0);
    if let Some(base) = late.map(|index| &list.value[index]) {
        let others = list.value.iter().filter(|at| at.value != base.value);
        let order: Vec<_> =
            std::iter::once(base).chain(others).map(|at| format!("\"{}\"", at.value)).collect();
        scope
            .error(&base.span, format!("the base `{}` is not the first recipe", base.value))
            .help(format!("write `recipes = [{}]`", order.join(", ")));
    }
    for (index, at) in list.value.iter().enumerate() {
        let Some(draft) = recipes.get(&at.value) else {
            let problem = scope.error(&at.span, format!("there is no recipe `{}`", at.value));
            match words::nearest(&at.value, recipes.keys().map(String::as_str)) {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None if recipes.is_empty() => {
                    problem.help(format!("make `recipes/{}/recipe.toml`", at.value))
                }
                None => problem.help(format!(
                    "make `recipes/{}/recipe.toml`, or name one of {}",
                    at.value,
                    words::list(recipes.keys().map(String::as_str))
                )),
            };
            continue;
        };
        if list.value[..index].iter().any(|earlier| earlier.value == at.value) {
            continue;
        }
        match (index, &draft.release) {
            (0, None) if !draft.unread && late.is_none() => {
                scope
                    .error(&at.span, format!("the first recipe, `{}`, has no `release`", at.value))
                    .help("the first recipe is the base: name one with `release = \"trixie\"` first");
            }
            (1.., Some(place)) if late != Some(index) => {
                scope
                    .error(
                        &at.span,
                        format!("the recipe `{}` has a `release`, but is not the first", at.value),
                    )
                    .related(place, "its release")
                    .help("an image has one base: put it first, or leave it out");
            }
            _ => {}
        }
        known.push((draft, scope.place(at)));
    }
    known
}

fn container(
    scope: &mut Scope<'_>,
    raw: &RawContainer,
    site: &SiteDraft,
    draft: &mut ImageDraft,
) -> Option<Container> {
    let start = scope.file.place(0..0);
    let name = draft.name.clone();
    let vmid = raw.vmid.0.as_ref().and_then(|at| vmid(scope, at, &raw.address.0));
    if let (Some(vmid), Some(at)) = (vmid, &raw.vmid.0) {
        draft.unique.push(("vmid", vmid.to_string(), scope.place(at)));
    }
    let hostname = match &raw.hostname.0 {
        Some(at) => {
            scope.take(&at.span, words::host_label(&at.value)).map(|()| (at.value.clone(), scope.place(at)))
        }
        None => Some((name.clone(), start.clone())),
    };
    let domain = domain(scope, &raw.domain, hostname.as_ref(), site);
    let address = raw.address.0.as_ref().and_then(|at| address(scope, at, site, draft));
    let mac = match &raw.mac.0 {
        Some(at) => scope.take(&at.span, words::mac(&at.value)).map(|mac| (mac, scope.place(at))),
        None => site.domain.as_ref().map(|domain| (derived_mac(domain, &name), start)),
    };
    for (what, value) in [("host name", &hostname), ("domain", &domain)] {
        draft.unique.extend(value.clone().map(|(text, place)| (what, text.to_lowercase(), place)));
    }
    draft.unique.extend(mac.clone().map(|(text, place)| ("hardware address", text, place)));
    let cores = optional(&raw.cores, 1, |at| scope.within(at, 1, 8192, "`cores`"));
    let memory = size(scope, &raw.memory, 512, 16, 16 << 20, "the memory");
    let swap = size(scope, &raw.swap, 512, 0, 16 << 20, "the swap");
    let disk = size(scope, &raw.disk, 8 << 10, 1 << 10, 64 << 20, "the disk").and_then(|mib| {
        if mib % 1024 == 0 {
            return Some(mib / 1024);
        }
        let at = raw.disk.0.as_ref()?;
        scope
            .error(&at.span, format!("the disk of `{}` is not a whole number of GiB", at.value.0))
            .help(format!("write `\"{} GiB\"`", mib.div_ceil(1024)));
        None
    });
    let startup = match &raw.startup.0 {
        Some(at) => scope.within(at, 0, 999_999, "`startup`").map(Some),
        None => Some(None),
    };
    let vlan = match &raw.vlan.0 {
        Some(at) => scope.within(at, 1, 4094, "the VLAN tag").map(Some),
        None => Some(None),
    };
    let tags = tags(scope, &raw.tags.0);
    Some(Container {
        vmid: vmid?,
        hostname: hostname?.0,
        domain: domain?.0,
        address: address?,
        cores: cores?,
        memory: memory?,
        swap: swap?,
        disk: disk?,
        onboot: raw.onboot.0.as_ref().is_none_or(|at| at.value),
        startup: startup?,
        tags,
        firewall: raw.firewall.0.as_ref().is_some_and(|at| at.value),
        vlan: vlan?,
        mac: mac?.0,
        // Filled in when the recipes are known.
        gpu: None,
    })
}

fn optional<T, N>(field: &Optional<T>, default: N, check: impl FnOnce(&At<T>) -> Option<N>) -> Option<N> {
    field.0.as_ref().map_or(Some(default), check)
}

/// Proxmox's own prefix and three bytes of a hash: the same for the same image at the same site.
fn derived_mac(domain: &str, image: &str) -> String {
    let digest = Sha256::of(format!("{domain}/{image}"));
    let [a, b, c, ..] = digest.as_bytes();
    format!("BC:24:11:{a:02X}:{b:02X}:{c:02X}")
}

fn vmid(scope: &mut Scope<'_>, at: &At<i64>, address: &Option<At<NumberOrText>>) -> Option<u32> {
    if (100..=999_999_999).contains(&at.value) {
        return u32::try_from(at.value).ok();
    }
    if !(0..100).contains(&at.value) {
        scope
            .error(&at.span, format!("Proxmox refuses the id {}", at.value))
            .help("write a number from 100 to 999999999");
        return None;
    }
    let better = at.value + 100;
    let keep = match address {
        Some(At { value: NumberOrText::Number(host), .. }) => format!(" and keep the address .{host}"),
        _ => String::new(),
    };
    scope
        .error(&at.span, format!("Proxmox refuses ids below 100, this is {}", at.value))
        .help(format!("write `vmid = {better}`{keep}; the id and the address need not be alike"));
    None
}

fn domain(
    scope: &mut Scope<'_>,
    raw: &Optional<String>,
    hostname: Option<&(String, Place)>,
    site: &SiteDraft,
) -> Option<(String, Place)> {
    let Some(at) = &raw.0 else {
        let (hostname, place) = hostname?;
        return Some((format!("{hostname}.{}", site.domain.as_ref()?), place.clone()));
    };
    scope.take(&at.span, words::domain(&at.value))?;
    if !at.value.contains('.') {
        let problem = scope.error(&at.span, format!("`{}` is not a full name", at.value));
        match &site.domain {
            Some(domain) => problem.help(format!("write `{}.{domain}`, or leave it out", at.value)),
            None => problem.help("write the host name and the domain"),
        };
        return None;
    }
    Some((at.value.clone(), scope.place(at)))
}

fn address(
    scope: &mut Scope<'_>,
    at: &At<NumberOrText>,
    site: &SiteDraft,
    draft: &mut ImageDraft,
) -> Option<Address> {
    let (address, prefix) = match &at.value {
        NumberOrText::Text(text) if text == "dhcp" => return Some(Address::Dhcp),
        NumberOrText::Number(host) => by_number(scope, at, *host, site.subnet?)?,
        NumberOrText::Text(text) => by_text(scope, at, text, site)?,
    };
    let gateway = site.gateway?;
    let network = (address, prefix);
    if !super::site::contains(network, gateway) {
        scope
            .error(&at.span, format!("the gateway {gateway} is outside the network of {address}/{prefix}"))
            .help("give an address of the site's subnet, with a prefix length that covers the gateway");
        return None;
    }
    let own = Ipv4Addr::from_bits(address.to_bits() & super::site::mask(prefix));
    if !inside(scope, at, address, Some((own, prefix)), "the address") {
        return None;
    }
    if let Some((_, what, place)) = site.taken.iter().find(|(taken, ..)| *taken == address) {
        scope
            .error(&at.span, format!("the address {address} is that of {what}"))
            .related(place, "in use here")
            .help("choose another");
        return None;
    }
    draft.unique.push(("address", address.to_string(), scope.place(at)));
    Some(Address::Static { address, prefix, gateway })
}

fn by_number(
    scope: &mut Scope<'_>,
    at: &At<NumberOrText>,
    host: i64,
    (network, prefix): (Ipv4Addr, u8),
) -> Option<(Ipv4Addr, u8)> {
    let most = i64::from(!super::site::mask(prefix)) - 1;
    if !(1..=most).contains(&host) {
        let what = match host {
            0 => " (0 is the subnet itself)",
            _ if host == most + 1 => " (that is the broadcast address)",
            _ => "",
        };
        scope
            .error(&at.span, format!("the subnet {network}/{prefix} has no host {host}{what}"))
            .help(format!("write a number from 1 to {most}"));
        return None;
    }
    let host = u32::try_from(host).ok()?;
    Some((Ipv4Addr::from_bits(network.to_bits() | host), prefix))
}

fn by_text(
    scope: &mut Scope<'_>,
    at: &At<NumberOrText>,
    text: &str,
    site: &SiteDraft,
) -> Option<(Ipv4Addr, u8)> {
    let form = "write the host's number in the site's subnet (`59`), a full `\"10.0.0.5/24\"`, or `\"dhcp\"`";
    let (bare, prefix) = match text.split_once('/') {
        Some((bare, prefix)) => (bare, Some(prefix)),
        None => (text, None),
    };
    let Ok(address) = bare.parse::<Ipv4Addr>() else {
        scope.error(&at.span, format!("`{text}` is not an address")).help(form);
        return None;
    };
    let Some(prefix) = prefix else {
        let problem = scope.error(&at.span, format!("the address `{text}` has no prefix length"));
        match site.subnet {
            Some((network, prefix)) if super::site::contains((network, prefix), address) => {
                let host = address.to_bits() & !super::site::mask(prefix);
                problem.help(format!("write `address = {host}`, the number in the site's subnet"))
            }
            _ => problem.help(form),
        };
        return None;
    };
    match prefix.parse::<u8>() {
        Ok(prefix @ 8..=30) => Some((address, prefix)),
        _ => {
            scope
                .error(&at.span, format!("`/{prefix}` is not a prefix length for a container with a gateway"))
                .help("write one from 8 to 30, as `/24`");
            None
        }
    }
}

fn size(
    scope: &mut Scope<'_>,
    field: &Optional<Size>,
    default: u64,
    least: u64,
    most: u64,
    what: &str,
) -> Option<u64> {
    let Some(at) = &field.0 else { return Some(default) };
    let found = scope.take(&at.span, words::size(&at.value.0))?;
    if (least..=most).contains(&found) {
        return Some(found);
    }
    let show = |mib: u64| match mib {
        _ if mib >= 1 << 20 && mib.is_multiple_of(1 << 20) => format!("{} TiB", mib >> 20),
        _ if mib >= 1 << 10 && mib.is_multiple_of(1 << 10) => format!("{} GiB", mib >> 10),
        _ => format!("{mib} MiB"),
    };
    let bound = if found < least {
        format!("less than {}", show(least))
    } else {
        format!("more than {}", show(most))
    };
    let help = format!("write a size from `\"{}\"` to `\"{}\"`", show(least), show(most));
    scope.error(&at.span, format!("{what} of `{}` is {bound}", at.value.0)).help(help);
    None
}

fn tags(scope: &mut Scope<'_>, list: &[At<String>]) -> Vec<String> {
    let mut lower: Vec<At<String>> = list.to_vec();
    lower.iter_mut().for_each(|at| at.value.make_ascii_lowercase());
    scope.unique(&lower);
    for at in list {
        scope.take(&at.span, words::tag(&at.value));
    }
    let mut tags: Vec<_> = lower.into_iter().map(|at| at.value).collect();
    tags.sort();
    tags.dedup();
    tags
}
