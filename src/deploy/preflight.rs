//! What stands in the way of a deployment: every finding at once, before anything is touched.

use std::collections::BTreeMap;

use super::facts::{Facts, Guest, Path, ROOT};
use super::steps::marker;
use super::target::{Source, Target};
use crate::apt::version;
use crate::model::image::Owner as DirectoryOwner;

/// Seconds that the clocks may differ without a word, and without an error.
const CLOCK: (i64, i64) = (60, 3600);
/// KiB that stay free beside what is uploaded.
const SPARE: u64 = 64 << 10;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The image; nothing when it is about the node.
    pub image: Option<String>,
    /// Whether nothing is deployed because of it.
    pub fatal: bool,
    /// What is wrong.
    pub text: String,
    /// What can be done, a line each.
    pub help: Vec<String>,
}

impl Finding {
    fn new(image: Option<&Target>, text: impl Into<String>) -> Self {
        let image = image.map(|target| target.image.clone());
        Self { image, fatal: true, text: text.into(), help: Vec::new() }
    }

    fn help(mut self, line: impl Into<String>) -> Self {
        self.help.push(line.into());
        self
    }

    fn warning(mut self) -> Self {
        self.fatal = false;
        self
    }
}

/// Whose a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// There is none.
    Nobody,
    /// We deployed it, and nobody put another in its place.
    Us,
    /// Somebody else.
    Other,
}

/// Whose the container of `target` is.
pub fn owner(target: &Target, facts: &Facts) -> Owner {
    let Some(guest) = facts.guests.get(&target.vmid) else { return Owner::Nobody };
    let described = guest.description();
    let ours = |deployed: &super::facts::Deployed| described.contains(&marker(&deployed.sha256));
    if guest.kind == "lxc"
        && facts.here.contains(&target.vmid)
        && facts.history.get(&target.vmid).is_some_and(|all| all.iter().any(ours))
    {
        Owner::Us
    } else {
        Owner::Other
    }
}

/// What is wrong with the node for all of `targets`; `now` is in seconds since 1970.
pub fn node(targets: &[Target], facts: &Facts, now: i64) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.uid != Some(0) {
        let who = facts.uid.map_or("nobody known".to_owned(), |uid| format!("uid {uid}"));
        let finding = Finding::new(None, format!("ssh logs in as {who}; `pct restore` of a file is root's"));
        findings
            .push(finding.help(
                "write `root@…` as `[node] host` in images/site.toml, or `User root` in ~/.ssh/config",
            ));
    }
    for tool in ["pct", "pvesm", "pveversion", "perl", "zstd", "tar", "sha256sum", "flock", "setsid"] {
        if !facts.tools.contains(tool) {
            let what = if tool.starts_with('p') && tool != "perl" {
                "it is no Proxmox VE node"
            } else {
                "a node has it"
            };
            findings.push(Finding::new(None, format!("the node has no `{tool}`; {what}")));
        }
    }
    release(targets, facts, &mut findings);
    if let Some(clock) = facts.clock {
        let off = clock - now;
        if off.abs() > CLOCK.0 {
            let finding = Finding::new(None, format!("the node's clock is off by {off} s"))
                .help("`timedatectl` on the node shows why");
            findings.push(if off.abs() > CLOCK.1 { finding } else { finding.warning() });
        }
    }
    let mut storages: BTreeMap<&str, u64> = BTreeMap::new();
    for target in targets {
        let tar = target.artifact.as_ref().map_or(0, |artifact| artifact.tar_size >> 10);
        let thick = facts.storages.get(&target.storage).is_some_and(|storage| storage.kind == "lvm");
        *storages.entry(&target.storage).or_default() += if thick { target.disk } else { tar + tar / 4 };
    }
    for (name, needed) in storages {
        match facts.storages.get(name) {
            None => {
                let known: Vec<_> = facts.storages.keys().map(String::as_str).collect();
                let finding =
                    Finding::new(None, format!("storage `{name}` takes no root file systems of containers"));
                let there = if known.is_empty() {
                    "none does".to_owned()
                } else {
                    format!("there is: {}", known.join(", "))
                };
                findings.push(finding.help(format!("write another as `[node] storage`; {there}")));
            }
            Some(storage) if !storage.active => {
                findings.push(Finding::new(None, format!("storage `{name}` is not active")));
            }
            Some(storage) if storage.free < needed => {
                let text = format!(
                    "storage `{name}` has {} MiB free, {} MiB are needed",
                    storage.free >> 10,
                    needed >> 10
                );
                findings.push(Finding::new(None, text));
            }
            Some(_) => {}
        }
    }
    let upload: u64 = targets
        .iter()
        .filter_map(|target| target.artifact.as_ref())
        .map(|artifact| artifact.size >> 10)
        .sum();
    if let Some(free) = facts.room.get(ROOT).filter(|free| **free < upload + SPARE) {
        let text = format!("{ROOT} has {} MiB free, {} MiB are needed", free >> 10, (upload + SPARE) >> 10);
        findings.push(Finding::new(None, text));
    }
    findings
}

/// The node's releases: of Proxmox VE, and of what handles containers.
fn release(targets: &[Target], facts: &Facts, findings: &mut Vec<Finding>) {
    let numbers = |text: &str| {
        let mut parts = text.split(['.', '-', '~']).map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    };
    let Some(manager) = facts.versions.get("pve-manager") else {
        if facts.tools.contains("pveversion") {
            findings.push(Finding::new(None, "`pveversion -v` names no pve-manager"));
        }
        return;
    };
    let found = numbers(manager);
    let wanted = targets.iter().map(|target| target.release).max().unwrap_or_default();
    if (found.0, found.1) < wanted {
        let text = format!(
            "the node runs Proxmox VE {}.{}, the images are made for {}.{} and later",
            found.0, found.1, wanted.0, wanted.1
        );
        findings.push(
            Finding::new(None, text)
                .help("write the node's as `[node] release` in images/site.toml, and build again"),
        );
    }
    if let Some(container) = facts.versions.get("pve-container") {
        let (major, minor, patch) = numbers(container);
        // Up to these it takes no point release of Debian 13.
        if (major, minor, patch) < (5, 3, 1) || ((6, 0, 0)..(6, 0, 10)).contains(&(major, minor, patch)) {
            let text = format!("pve-container {container} restores no Debian 13.1 or later");
            findings.push(Finding::new(None, text).help("`apt update && apt full-upgrade` on the node"));
        }
    }
}

/// What is wrong with the node for `target`. `copied` is the number of KiB of state that would be copied.
pub fn image(target: &Target, facts: &Facts, copied: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |finding: Finding| findings.push(finding);
    if owner(target, facts) == Owner::Other
        && let Some(guest) = facts.guests.get(&target.vmid)
    {
        add(foreign(target, guest, facts));
    }
    if let Some(lock) =
        facts.guests.get(&target.vmid).filter(|_| owner(target, facts) == Owner::Us).and_then(Guest::lock)
    {
        let finding = Finding::new(Some(target), format!("container {} is locked ({lock})", target.vmid));
        add(finding
            .help(format!("wait until that is over; if nothing is under way: pct unlock {}", target.vmid)));
    }
    if owner(target, facts) == Owner::Us {
        volumes(target, facts, &mut add);
    }
    if !facts.bridges.contains(&target.bridge) {
        let finding = Finding::new(Some(target), format!("the node has no bridge `{}`", target.bridge));
        add(finding
            .help("write the right one as `[network] bridge` in images/site.toml, or make it on the node"));
    }
    address(target, facts, &mut add);
    for source in &target.sources {
        directory(target, source, facts, &mut add);
    }
    if let Some(device) =
        target.device.as_ref().filter(|device| facts.paths.get(*device) != Some(&Path::Device))
    {
        let finding = Finding::new(Some(target), format!("the node has no device {device}"));
        add(finding
            .help("leave `gpu` out of the image, or load the card's driver on the node: ls -l /dev/dri"));
    }
    for space in &target.space {
        let Some(source) = &space.source else { continue };
        if facts.room.get(source).is_some_and(|free| free >> 10 < space.free) {
            let text = format!(
                "{source} has less than {} MiB free, which the application needs to start",
                space.free
            );
            add(Finding::new(Some(target), text));
        }
    }
    if let Some(state) = target.states.first()
        && copied > 0
        && facts.room.get(&state.source).is_some_and(|free| *free < copied + copied / 20 + SPARE)
    {
        let text = format!(
            "there is no room for a copy of the state, {} MiB, beside {}",
            copied >> 10,
            state.source
        );
        add(Finding::new(Some(target), text)
            .help("make room, or deploy with `--state keep`: then there is no way back after a migration"));
    }
    findings
}

/// State that a newer application wrote than `target` brings.
pub fn newer_state(target: &Target, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, brings) in target.states.iter().filter_map(|state| state.mark.as_ref()) {
        let Some(wrote) = facts.marks.get(file).filter(|wrote| !wrote.is_empty()) else { continue };
        if version::compare(wrote, brings).is_gt() {
            let text = format!(
                "the state was last written by version {wrote}, this image brings {brings}, which cannot read it"
            );
            let finding = Finding::new(Some(target), text);
            findings.push(finding.help(format!(
                "deploy an image with {wrote} or later; or go back with the state of before: build-images deploy --rollback {}",
                target.image
            )));
        }
    }
    findings
}

/// A restore over a container destroys every volume that it owns. Nobody of ours has one beside the root file system.
fn volumes(target: &Target, facts: &Facts, add: &mut impl FnMut(Finding)) {
    let lines = facts.guests.get(&target.vmid).map(|guest| guest.lines.as_slice()).unwrap_or_default();
    for line in lines.iter().filter(|line| line.starts_with("mp") || line.starts_with("unused")) {
        let Some((key, value)) = line.split_once(": ") else { continue };
        let volume = value.split(',').next().unwrap_or_default();
        let own =
            volume.split_once(":").is_some_and(|(_, name)| name.contains(&format!("-{}-", target.vmid)));
        if own && !volume.starts_with('/') {
            let text = format!(
                "container {} has the volume {volume} as {key}; another image would destroy it",
                target.vmid
            );
            let finding = Finding::new(Some(target), text);
            add(finding.help(format!("move what is in it to a directory of the node, as a `[[mount]]` of the image; then: pct set {} --delete {key}, and pvesm free {volume} when nothing of it is needed", target.vmid)));
        }
    }
}

/// The address is nobody else's.
fn address(target: &Target, facts: &Facts, add: &mut impl FnMut(Finding)) {
    let Some(address) = target.address else { return };
    let text = address.to_string();
    let other = facts.guests.iter().find(|(vmid, guest)| **vmid != target.vmid && guest.has(address));
    if let Some((vmid, guest)) = other {
        let kind = if guest.kind == "lxc" { "container" } else { "machine" };
        let finding = Finding::new(
            Some(target),
            format!("{address} is the address of {kind} {vmid} on {}", guest.node),
        );
        add(finding.help("write another `address` in the image"));
    } else if let Some(card) = facts.own.get(&text) {
        add(Finding::new(Some(target), format!("{address} is the node's own address, on {card}")));
    } else if facts.answers.contains(&text) {
        let finding = Finding::new(
            Some(target),
            format!("somebody answers at {address}, and no guest of the cluster is known to have it"),
        );
        add(finding.help(format!("find out who: ip neigh show {address}")));
    }
}

/// A directory that is mounted is there and belongs to whom the application needs.
fn directory(target: &Target, source: &Source, facts: &Facts, add: &mut impl FnMut(Finding)) {
    let make = match source.owner {
        Some(DirectoryOwner { uid, gid, mode }) => {
            format!("install -d -o {uid} -g {gid} -m {mode:04o} {}", source.path)
        }
        None => format!("install -d {}", source.path),
    };
    match (facts.paths.get(&source.path), source.owner) {
        (
            Some(Path::Directory(uid, gid, mode)),
            Some(DirectoryOwner { uid: owner, gid: group, mode: bits }),
        ) => {
            if (*uid, *gid) != (owner, group) {
                let text = format!(
                    "{} belongs to {uid}:{gid}; {} in the container needs {owner}:{group}",
                    source.path, source.target
                );
                let finding = Finding::new(Some(target), text)
                    .help(format!("on the node: chown {owner}:{group} {}", source.path));
                // What is only read may be somebody else's, as long as all may read it.
                add(if source.read_only { finding.warning() } else { finding });
            } else if mode & bits != bits {
                let text = format!("{} has mode {mode:04o}, expected {bits:04o}", source.path);
                add(Finding::new(Some(target), text)
                    .warning()
                    .help(format!("on the node: chmod {bits:04o} {}", source.path)));
            }
        }
        (Some(Path::Directory(..)), None) => {}
        (Some(_), _) => add(Finding::new(Some(target), format!("{} is no directory", source.path))),
        (None, _) => {
            let text =
                format!("the node has no directory {}, for {} in the container", source.path, source.target);
            add(Finding::new(Some(target), text).help(format!("on the node: {make}")));
        }
    }
}

/// A container that somebody else made: nothing of it is touched, and this says how its state is taken over.
fn foreign(target: &Target, guest: &Guest, facts: &Facts) -> Finding {
    let vmid = target.vmid;
    if guest.kind != "lxc" {
        let finding = Finding::new(Some(target), format!("{vmid} is a virtual machine on {}", guest.node));
        return finding.help("write another `vmid` in the image");
    }
    if !facts.here.contains(&vmid) {
        let finding =
            Finding::new(Some(target), format!("container {vmid} is on another node, {}", guest.node));
        return finding.help("write that node as `[node] host`, or another `vmid` in the image");
    }
    let text = format!("container {vmid} was not made by `build-images deploy`, and is not overwritten");
    let mut finding = Finding::new(Some(target), text);
    for line in takeover(target, guest, facts.running.contains(&vmid)) {
        finding = finding.help(line);
    }
    finding
}

/// How the state of a container of other means is taken over. Lines that are no comments are commands for the node.
fn takeover(target: &Target, guest: &Guest, running: bool) -> Vec<String> {
    let vmid = target.vmid;
    let mut lines =
        vec!["# to take its state over, on the node; nothing is lost, the backup has all of it:".to_owned()];
    if running {
        lines.push(format!("pct shutdown {vmid}"));
    }
    lines.push(format!("vzdump {vmid} --mode stop --compress zstd --dumpdir /var/lib/vz/dump"));
    let mut mounted = false;
    let mut unmount = Vec::new();
    for state in &target.states {
        let owner =
            target.sources.iter().find(|source| source.path == state.source).and_then(|source| source.owner);
        let Some(DirectoryOwner { uid, gid, mode }) = owner else { continue };
        match guest.mounted(&state.target) {
            Some(source) if source == state.source => {
                lines.push(format!("# {} is mounted from {source} already and stays", state.target));
                lines.push(format!("chown -R {uid}:{gid} {source}"));
                continue;
            }
            Some(source) if source.starts_with('/') => {
                lines.push(format!("install -d -m {mode:04o} {}", state.source));
                lines.push(format!("cp -a {source}/. {}/", state.source));
            }
            _ => {
                if !std::mem::replace(&mut mounted, true) {
                    lines.push(format!("pct mount {vmid}"));
                    unmount.push(format!("pct unmount {vmid}"));
                }
                lines.push(format!("install -d -m {mode:04o} {}", state.source));
                let inside = format!("/var/lib/lxc/{vmid}/rootfs{}", state.target);
                lines.push(format!("cp -a {inside}/. {}/", state.source));
            }
        }
        lines.push(format!("chown -R {uid}:{gid} {}", state.source));
    }
    lines.extend(unmount);
    lines.push(format!("pct destroy {vmid}"));
    lines.push(format!("# then: build-images deploy {}", target.image));
    lines.push("# if the application kept its data elsewhere, copy from there; other directories of it are not taken".to_owned());
    lines
}
