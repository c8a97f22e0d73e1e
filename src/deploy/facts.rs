//! What a node says of itself, and of what was deployed to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::shell::with_variables;
use super::target::Target;
use crate::digest::Sha256;

/// Where everything is that a deployment keeps on the node.
pub const ROOT: &str = "/var/lib/build-images";

const SCRIPT: &str = include_str!("node/facts.sh");

/// What a node says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// The user that ssh logs in as.
    pub uid: Option<u32>,
    /// Seconds since 1970.
    pub clock: Option<i64>,
    /// Programs it has, of those that are needed.
    pub tools: BTreeSet<String>,
    /// Versions, by package.
    pub versions: BTreeMap<String, String>,
    /// Storages that take root file systems.
    pub storages: BTreeMap<String, Storage>,
    /// Bridges, of those that are needed.
    pub bridges: BTreeSet<String>,
    /// Its own addresses and the network card of each.
    pub own: BTreeMap<String, String>,
    /// All guests of the cluster, by id.
    pub guests: BTreeMap<u32, Guest>,
    /// Containers of this node, of those that are needed.
    pub here: BTreeSet<u32>,
    /// Those that run.
    pub running: BTreeSet<u32>,
    /// Addresses that somebody answers at.
    pub answers: BTreeSet<String>,
    /// What is at each path, of those that are needed.
    pub paths: BTreeMap<String, Path>,
    /// Free KiB at each path.
    pub room: BTreeMap<String, u64>,
    /// First lines of version files.
    pub marks: BTreeMap<String, String>,
    /// KiB in each state directory.
    pub sizes: BTreeMap<String, u64>,
    /// State directories that have something in them.
    pub used: BTreeSet<String>,
    /// What was deployed, by container, the newest last.
    pub history: BTreeMap<u32, Vec<Deployed>>,
    /// Containers with a deployment that is not over, and whether it still runs.
    pub transactions: BTreeMap<u32, bool>,
    /// Containers for which public keys are kept.
    pub keys: BTreeSet<u32>,
    /// Archives that are kept, whole or in part.
    pub kept: BTreeMap<(u32, String), Kept>,
}

/// A storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// `dir`, `lvmthin`, `zfspool`, …
    pub kind: String,
    /// Whether it can be used now.
    pub active: bool,
    /// KiB free.
    pub free: u64,
}

/// A guest of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guest {
    /// Its node.
    pub node: String,
    /// `lxc` or `qemu-server`.
    pub kind: String,
    /// The lines of its configuration that can collide.
    pub lines: Vec<String>,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// A directory with owner, group and permission bits.
    Directory(u32, u32, u32),
    /// A character device.
    Device,
    /// Anything else.
    Other,
}

/// A line of what was deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// Name of the archive's directory.
    pub id: String,
    /// Hash of the archive.
    pub sha256: Sha256,
    /// Its file.
    pub file: String,
    /// When, as seconds since 1970.
    pub time: i64,
}

impl Deployed {
    /// The line.
    pub fn line(&self) -> String {
        format!("{} {} {} {}\n", self.id, self.sha256, self.file, self.time)
    }

    /// Reads one.
    pub fn parse(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split(' ').collect();
        let [id, sha256, file, time] = words.as_slice() else { return None };
        let named =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        (named(id) && named(file) && !file.starts_with('.')).then_some(())?;
        Some(Self {
            id: (*id).to_owned(),
            sha256: sha256.parse().ok()?,
            file: (*file).to_owned(),
            time: time.parse().ok()?,
        })
    }
}

/// An archive on the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Its path.
    pub path: String,
    /// Bytes that are there.
    pub size: u64,
    /// Its frames: hash, where it begins, length.
    pub frames: Vec<(Sha256, u64, u64)>,
    /// Versions that it brings, by the file on the node that says which one last wrote the state.
    pub brings: BTreeMap<String, String>,
}

impl Guest {
    /// The description, decoded.
    pub fn description(&self) -> String {
        let lines = self.lines.iter().filter_map(|line| line.strip_prefix('#'));
        lines.map(decode).collect::<Vec<_>>().join("\n")
    }

    /// The lock it is under, if it is.
    pub fn lock(&self) -> Option<&str> {
        self.lines.iter().find_map(|line| line.strip_prefix("lock:")).map(str::trim)
    }

    /// Whether one of its network cards has this address.
    pub fn has(&self, address: Ipv4Addr) -> bool {
        let network = |line: &&String| line.starts_with("net") || line.starts_with("ipconfig");
        let values = self.lines.iter().filter(network).filter_map(|line| line.split_once(": "));
        let mut addresses =
            values.flat_map(|(_, value)| value.split(',')).filter_map(|part| part.strip_prefix("ip="));
        addresses.any(|ip| ip.split('/').next().and_then(|ip| ip.parse().ok()) == Some(address))
    }

    /// The directory of the node that is mounted at `target`.
    pub fn mounted(&self, target: &str) -> Option<&str> {
        let points = self.lines.iter().filter(|line| line.starts_with("mp"));
        let mut values = points.filter_map(|line| line.split_once(": ")).map(|(_, value)| value);
        values
            .find(|value| value.split(',').any(|part| part.strip_prefix("mp=") == Some(target)))
            .and_then(|value| value.split(',').next())
    }
}

/// Decodes `%XX`, as Proxmox writes descriptions.
fn decode(line: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = line.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The script that asks for everything that `targets` need.
pub fn script(targets: &[Target]) -> String {
    let join = |words: Vec<String>| words.join(" ");
    let vmids = join(targets.iter().map(|target| target.vmid.to_string()).collect());
    let bridges: BTreeSet<_> = targets.iter().map(|target| target.bridge.clone()).collect();
    let addresses = targets.iter().filter_map(|target| Some(format!("{}={}", target.vmid, target.address?)));
    let mut paths = BTreeSet::from([ROOT.to_owned()]);
    for target in targets {
        paths.extend(target.sources.iter().map(|source| source.path.clone()));
        paths.extend(target.device.clone());
        paths.extend(target.states.iter().map(|state| state.source.clone()));
        paths.extend(target.space.iter().filter_map(|space| space.source.clone()));
    }
    let lines = |set: Vec<String>| set.join("\n");
    let marks = targets
        .iter()
        .flat_map(|target| &target.states)
        .filter_map(|state| Some(state.mark.as_ref()?.0.clone()));
    let states = targets.iter().flat_map(|target| &target.states).map(|state| state.source.clone());
    with_variables(
        &[
            ("root", ROOT),
            ("vmids", &vmids),
            ("bridges", &join(bridges.into_iter().collect())),
            ("addresses", &join(addresses.collect())),
            ("paths", &lines(paths.into_iter().collect())),
            ("marks", &lines(marks.collect())),
            ("states", &lines(states.collect())),
        ],
        SCRIPT,
    )
}

impl Facts {
    /// Reads what the script printed. Lines that are none of it are passed over: a login may print what it likes.
    pub fn parse(text: &str) -> Self {
        let mut facts = Self::default();
        for line in text.lines() {
            let fields: Vec<_> = line.split('\t').collect();
            facts.take(&fields);
        }
        facts
    }

    fn take(&mut self, fields: &[&str]) -> Option<()> {
        match fields {
            ["uid", uid] => self.uid = uid.parse().ok(),
            ["clock", clock] => self.clock = clock.parse().ok(),
            ["tool", tool] => drop(self.tools.insert((*tool).to_owned())),
            ["version", text] => {
                let (package, version) = text.split_once(": ")?;
                let version = version.split(' ').next().unwrap_or_default();
                self.versions.insert(package.to_owned(), version.to_owned());
            }
            ["storage", text] => {
                let words: Vec<_> = text.split_whitespace().collect();
                let [name, kind, status, _, _, free, ..] = words.as_slice() else { return None };
                let storage = Storage {
                    kind: (*kind).to_owned(),
                    active: *status == "active",
                    free: free.parse().ok()?,
                };
                self.storages.insert((*name).to_owned(), storage);
            }
            ["bridge", name] => drop(self.bridges.insert((*name).to_owned())),
            ["own", card, address] => drop(self.own.insert((*address).to_owned(), (*card).to_owned())),
            ["guest", id, node, kind] => {
                let guest = self.guests.entry(id.parse().ok()?).or_default();
                (guest.node, guest.kind) = ((*node).to_owned(), (*kind).to_owned());
            }
            ["config", id, line] => self.guests.get_mut(&id.parse().ok()?)?.lines.push((*line).to_owned()),
            ["here", id] => drop(self.here.insert(id.parse().ok()?)),
            ["running", id] => drop(self.running.insert(id.parse().ok()?)),
            ["answers", address] => drop(self.answers.insert((*address).to_owned())),
            ["path", path, kind, facts] => {
                let words: Vec<_> = facts.split(' ').collect();
                let found = match (*kind, words.as_slice()) {
                    ("directory", [uid, gid, mode]) => Path::Directory(
                        uid.parse().ok()?,
                        gid.parse().ok()?,
                        u32::from_str_radix(mode, 8).ok()?,
                    ),
                    ("device", _) => Path::Device,
                    _ => Path::Other,
                };
                self.paths.insert((*path).to_owned(), found);
            }
            ["room", path, free] => drop(self.room.insert((*path).to_owned(), free.parse().ok()?)),
            ["mark", path, text] => drop(self.marks.insert((*path).to_owned(), text.trim().to_owned())),
            ["size", path, size] => drop(self.sizes.insert((*path).to_owned(), size.parse().ok()?)),
            ["used", path] => drop(self.used.insert((*path).to_owned())),
            ["history", id, line] => {
                self.history.entry(id.parse().ok()?).or_default().push(Deployed::parse(line)?);
            }
            ["transaction", id, how] => drop(self.transactions.insert(id.parse().ok()?, *how == "running")),
            ["keys", id] => drop(self.keys.insert(id.parse().ok()?)),
            ["kept", id, name, path, size] => {
                let kept = self.kept.entry((id.parse().ok()?, (*name).to_owned())).or_default();
                (kept.path, kept.size) = ((*path).to_owned(), size.parse().ok()?);
            }
            ["frame", id, name, line] => {
                let words: Vec<_> = line.split(' ').collect();
                let [sha256, offset, size] = words.as_slice() else { return None };
                let frame = (sha256.parse().ok()?, offset.parse().ok()?, size.parse().ok()?);
                self.kept.get_mut(&(id.parse().ok()?, (*name).to_owned()))?.frames.push(frame);
            }
            ["brings", id, name, path, version] => {
                let kept = self.kept.get_mut(&(id.parse().ok()?, (*name).to_owned()))?;
                kept.brings.insert((*path).to_owned(), (*version).to_owned());
            }
            _ => return None,
        }
        Some(())
    }

    /// What is deployed now, as we noted it.
    pub fn current(&self, vmid: u32) -> Option<&Deployed> {
        self.history.get(&vmid)?.last()
    }

    /// What was deployed before that.
    pub fn previous(&self, vmid: u32) -> Option<&Deployed> {
        let history = self.history.get(&vmid)?;
        history.get(history.len().checked_sub(2)?)
    }

    /// The whole archive of a deployment, when the node still has it.
    pub fn archive(&self, vmid: u32, deployed: &Deployed) -> Option<&Kept> {
        let kept = self.kept.get(&(vmid, deployed.id.clone()))?;
        kept.path.ends_with(".tar.zst").then_some(kept)
    }
}
