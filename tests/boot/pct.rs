//! A container's configuration as Proxmox reads it: written here anew, so that it can disagree with the builder's.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// `key: value` lines of a pct configuration.
#[derive(Debug, Clone)]
pub struct Config {
    values: BTreeMap<String, String>,
}

/// The first network card.
#[derive(Debug, Clone)]
pub struct Card {
    pub name: String,
    pub bridge: String,
    pub mac: String,
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub gateway: Ipv4Addr,
}

/// A bind mount: a directory of the node and where the container sees it.
#[derive(Debug, Clone)]
pub struct Bind {
    pub source: String,
    pub target: String,
    pub read_only: bool,
}

/// A device of the node that the container gets.
#[derive(Debug, Clone)]
pub struct Device {
    pub path: String,
    /// Major and minor number that the node has for it.
    pub number: (u32, u32),
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

impl Config {
    /// Reads the current section, as `parse_pct_config` does; whatever that would not take is a panic.
    pub fn parse(text: &str) -> Config {
        let mut values = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("no `key: value`: {line}"));
            assert!(
                values.insert(key.to_owned(), value.trim().to_owned()).is_none(),
                "`{key}` is given twice"
            );
        }
        Config { values }
    }

    /// A key's value.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// A key's value, which has to be there.
    pub fn need(&self, key: &str) -> &str {
        self.get(key).unwrap_or_else(|| panic!("the configuration has no `{key}`"))
    }

    /// Puts another value in the place of a key's.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.values.insert(key.to_owned(), value.into());
    }

    /// A number, in the unit that Proxmox gives the key.
    pub fn number(&self, key: &str) -> u64 {
        let text = self.need(key);
        text.parse().unwrap_or_else(|_| panic!("`{key}` is no number: {text}"))
    }

    /// Whether `features` has one switched on.
    pub fn feature(&self, name: &str) -> bool {
        self.get("features").is_some_and(|text| properties(text).get(name).is_some_and(|value| value == "1"))
    }

    /// `net0`, which has to have a fixed address.
    pub fn card(&self) -> Card {
        let properties = properties(self.need("net0"));
        let need = |key: &str| properties.get(key).unwrap_or_else(|| panic!("`net0` has no `{key}`")).clone();
        let ip = need("ip");
        let (address, prefix) = ip.split_once('/').unwrap_or_else(|| panic!("no fixed address: {ip}"));
        Card {
            name: need("name"),
            bridge: need("bridge"),
            mac: need("hwaddr"),
            address: address.parse().unwrap(),
            prefix: prefix.parse().unwrap(),
            gateway: need("gw").parse().unwrap(),
        }
    }

    /// All bind mounts, in the order in which Proxmox mounts them.
    pub fn binds(&self) -> Vec<Bind> {
        let mut points: Vec<(u32, &String)> = self
            .values
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix("mp")?.parse().ok()?, value)))
            .collect();
        points.sort_unstable();
        points
            .into_iter()
            .map(|(index, value)| {
                let properties = properties(value);
                let source = properties.get("volume").unwrap_or_else(|| panic!("`mp{index}` has no volume"));
                assert!(
                    source.starts_with('/'),
                    "`mp{index}` is no bind mount, which is all this can do: {value}"
                );
                Bind {
                    source: source.clone(),
                    target: properties["mp"].clone(),
                    read_only: properties.get("ro").is_some_and(|value| value == "1"),
                }
            })
            .collect()
    }

    /// All devices. The only ones these tests know are render nodes, whose major number is 226.
    pub fn devices(&self) -> Vec<Device> {
        let devices = self
            .values
            .iter()
            .filter(|(key, _)| key.strip_prefix("dev").is_some_and(|number| number.parse::<u32>().is_ok()));
        devices
            .map(|(key, value)| {
                let properties = properties(value);
                let path = properties.get("volume").unwrap_or_else(|| panic!("`{key}` has no path"));
                let minor = path.strip_prefix("/dev/dri/renderD").and_then(|minor| minor.parse().ok());
                let number = |key: &str| properties.get(key).map_or(0, |value| value.parse().unwrap());
                let mode = properties.get("mode").map_or("0660", String::as_str);
                Device {
                    path: path.clone(),
                    number: (226, minor.unwrap_or_else(|| panic!("`{path}` is no render node"))),
                    uid: number("uid"),
                    gid: number("gid"),
                    mode: u32::from_str_radix(mode, 8).unwrap(),
                }
            })
            .collect()
    }
}

/// A property string; the value without a key is the volume.
fn properties(text: &str) -> BTreeMap<String, String> {
    text.split(',')
        .map(|part| part.split_once('=').unwrap_or(("volume", part)))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}
