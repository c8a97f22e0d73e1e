//! What the root itself says about where files go and whose they are: diversions, overrides, account names.

use std::collections::{BTreeMap, HashMap};

use super::failure::Failure;
use super::root::{Attributes, Root};
use crate::apt::deb::{Member, MemberKind};

/// Read anew for each round, since preinst scripts change it.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// By diverted path without slash.
    diversions: HashMap<Box<[u8]>, Diversion>,
    /// Owner, group and mode by path without slash.
    overrides: HashMap<Box<[u8]>, Attributes>,
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

/// Where a path goes instead, and for whom it does not: the package that made the diversion, or `:` for nobody.
type Diversion = (Box<[u8]>, String);

impl Rules {
    /// Reads the root's diversions, overrides, passwd and group; each may be missing.
    pub fn read(root: &Root) -> Result<Self, Failure> {
        let mut rules = Self {
            users: ids(&root.read("etc/passwd")?.unwrap_or_default()),
            groups: ids(&root.read("etc/group")?.unwrap_or_default()),
            ..Self::default()
        };
        let database = |reason: String| Failure::Database { reason };
        let diversions = root.read_text("var/lib/dpkg/diversions")?.unwrap_or_default();
        let lines: Vec<_> = diversions.lines().collect();
        for entry in lines.chunks(3) {
            let [from, to, package] = entry else {
                return Err(database("`diversions` ends within an entry".into()));
            };
            let key = |path: &str| path.trim_start_matches('/').as_bytes().into();
            rules.diversions.insert(key(from), (key(to), (*package).to_owned()));
        }
        let overrides = root.read_text("var/lib/dpkg/statoverride")?.unwrap_or_default();
        for line in overrides.lines().filter(|line| !line.is_empty()) {
            let bad = || database(format!("`statoverride` has the line `{line}`"));
            let mut words = line.splitn(4, ' ');
            let (Some(user), Some(group), Some(mode), Some(path)) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                return Err(bad());
            };
            let id = |ids: &BTreeMap<String, u32>, name: &str| match name.strip_prefix('#') {
                Some(number) => number.parse().ok(),
                None => ids.get(name).copied(),
            };
            let attributes = Attributes {
                uid: id(&rules.users, user).ok_or_else(bad)?,
                gid: id(&rules.groups, group).ok_or_else(bad)?,
                mode: u32::from_str_radix(mode, 8).map_err(|_| bad())? & 0o7777,
            };
            rules.overrides.insert(path.trim_start_matches('/').as_bytes().into(), attributes);
        }
        Ok(rules)
    }

    /// Where `path` (without slash) of `package` goes.
    pub fn target<'a>(&'a self, path: &'a [u8], package: &str) -> &'a [u8] {
        match self.diversions.get(path) {
            // A local diversion (`:`) moves everybody's file.
            Some((to, owner)) if owner != package => to,
            _ => path,
        }
    }

    /// Mode, owner and group of a member: an override wins, then names, then numbers.
    pub fn attributes(&self, path: &[u8], member: &Member) -> Attributes {
        if let Some(found) = self.overrides.get(path)
            && !matches!(member.kind, MemberKind::Symlink(_))
        {
            return *found;
        }
        Attributes {
            mode: member.mode,
            uid: self.users.get(&member.user).copied().unwrap_or(member.uid),
            gid: self.groups.get(&member.group).copied().unwrap_or(member.gid),
        }
    }
}

/// Names and ids of a passwd or group file; lines that are none are left out, as the C library does.
fn ids(bytes: &[u8]) -> BTreeMap<String, u32> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (!name.is_empty()).then_some((name.to_owned(), id.parse().ok().filter(|id| *id <= 65_535)?))
    });
    // The first of two equal names counts.
    lines.rev().collect()
}
