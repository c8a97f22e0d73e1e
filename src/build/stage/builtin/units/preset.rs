//! What `systemctl --root=/ --preset-mode=enable-only preset UNIT` of systemd 257 makes of one unit.
//!
//! Declined: another systemd, a unit whose file is missing, empty or a link, units in places that only a running system
//! has, `[Install]` that is not simple, aliases of another kind than their unit, specifiers but `%i %j %n %N %p`, links
//! that are there and lead elsewhere, an `Also=` of a unit that is not there, presets with brackets.

use std::collections::BTreeMap;

use rustix::fs::FileType;

use super::super::text::{is_simple_pattern, matches};
use super::Scope;
use super::unit_file::{self, Install, instance, with_instance};
use crate::build::stage::failure::Failure;
use crate::build::stage::root::Root;

/// Where the one library of systemd's programs is; its name has the version.
const LIBRARIES: [&str; 2] = ["/usr/lib/x86_64-linux-gnu/systemd", "/usr/lib/aarch64-linux-gnu/systemd"];
const LIBRARY: &[u8] = b"libsystemd-shared-257.so";
/// Kinds of units that may have other names.
const MAY_ALIAS: [&str; 6] = ["service", "socket", "target", "device", "timer", "path"];
/// Kinds of units that may be templates.
const MAY_TEMPLATE: [&str; 6] = ["service", "socket", "target", "timer", "path", "slice"];

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Links to make, in order: path, target.
    links: Vec<(String, String)>,
    /// What `systemctl` says of it on standard error.
    pub said: String,
}

impl Plan {
    pub fn apply(&self, root: &Root) -> Result<(), Failure> {
        for (path, target) in &self.links {
            if let Some((directory, _)) = path.rsplit_once('/') {
                root.make_directory(directory, 0o755)?;
            }
            root.symlink(target.as_bytes(), path)?;
        }
        Ok(())
    }
}

/// Whether the image has `systemctl`.
pub(super) fn has_systemctl(root: &Root) -> Option<bool> {
    for path in ["/bin/systemctl", "/usr/bin/systemctl"] {
        if root.follow(path).ok()?.is_some_and(|stat| stat.st_mode & 0o111 != 0) {
            return Some(true);
        }
    }
    Some(false)
}

/// Works out what enabling a unit by preset does.
pub(super) fn plan(root: &Root, scope: Scope, unit: &str) -> Option<Plan> {
    let mut known = false;
    for directory in LIBRARIES {
        let names = root.list(directory).ok()?.unwrap_or_default();
        known |= names.iter().any(|name| name.starts_with(LIBRARY));
    }
    let places = Places::of(root, scope)?;
    if !known || !places.only_known() {
        return None;
    }
    // The unit has to be there whatever the presets say.
    places.file(unit)?;
    let mut planning = Planning { places, plan: Plan::default(), queue: Vec::new() };
    planning.queue.extend(enabled(root, scope, unit)?);
    let mut next = 0;
    while let Some(unit) = planning.queue.get(next).cloned() {
        planning.enable(&unit)?;
        next += 1;
    }
    Some(planning.plan)
}

/// The places of unit files.
struct Places<'a> {
    root: &'a Root,
    scope: Scope,
    /// In which they are looked for, in order.
    search: Vec<String>,
}

impl<'a> Places<'a> {
    fn of(root: &'a Root, scope: Scope) -> Option<Self> {
        let directories = ["/etc", "/usr/local/lib", "/usr/lib"];
        let search = directories.map(|place| format!("{place}/systemd/{}", scope.name()));
        Some(Self { root, scope, search: search.into() })
    }

    /// Whether there are no units in the places that are not looked at.
    fn only_known(&self) -> bool {
        let other: &[&str] = match self.scope {
            Scope::System => &[
                "/etc/systemd/system.control",
                "/etc/systemd/system.attached",
                "/run/systemd/system.control",
                "/run/systemd/system.attached",
                "/run/systemd/system",
                "/run/systemd/transient",
                "/run/systemd/generator",
                "/run/systemd/generator.early",
                "/run/systemd/generator.late",
            ],
            Scope::User => &["/run/systemd/user", "/usr/local/share/systemd/user", "/usr/share/systemd/user"],
        };
        other.iter().all(|path| matches!(self.root.kind(path), Ok(None)))
    }

    /// The regular file of a unit, the template's for an instance; nothing for anything else.
    fn file(&self, unit: &str) -> Option<String> {
        let template = instance(unit).filter(|instance| !instance.is_empty());
        let template = template.and_then(|_| with_instance(unit, ""));
        for name in [Some(unit.to_owned()), template].into_iter().flatten() {
            for directory in &self.search {
                let path = format!("{directory}/{name}");
                match self.root.stat(path.as_bytes()).ok()? {
                    None => {}
                    Some(stat) => {
                        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
                        return (regular && stat.st_size > 0).then_some(path);
                    }
                }
            }
        }
        None
    }

    /// Whether a unit is there, be it a link; nothing inside when that is not certain.
    fn exists(&self, unit: &str) -> Option<bool> {
        let template = with_instance(unit, "").filter(|template| template != unit);
        for name in [Some(unit.to_owned()), template].into_iter().flatten() {
            for directory in &self.search {
                let path = format!("{directory}/{name}");
                match self.root.kind(&path).ok()? {
                    None => {}
                    Some(FileType::RegularFile) => return Some(true),
                    Some(FileType::Symlink) if self.root.is_file(&path).ok()? => return Some(true),
                    Some(_) => return None,
                }
            }
        }
        Some(false)
    }

    /// What a unit's file and its drop-ins say.
    fn install(&self, unit: &str, path: &str) -> Option<Install> {
        let mut install = Install::default();
        install.read(self.root, path)?;
        let template = with_instance(unit, "").filter(|template| template != unit);
        let mut drop_ins = BTreeMap::new();
        for name in [Some(unit.to_owned()), template].into_iter().flatten() {
            for directory in &self.search {
                let directory = format!("{directory}/{name}.d");
                for file in self.root.list(&directory).ok()?.unwrap_or_default() {
                    let file = String::from_utf8(file).ok()?;
                    let path = format!("{directory}/{file}");
                    if file.ends_with(".conf") {
                        drop_ins.entry(file).or_insert(path);
                    }
                }
            }
        }
        for path in drop_ins.values() {
            let stat = self.root.stat(path.as_bytes()).ok()??;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return None;
            }
            if stat.st_size > 0 {
                install.read(self.root, path)?;
            }
        }
        Some(install)
    }
}

struct Planning<'a> {
    places: Places<'a>,
    plan: Plan,
    /// Units to enable: the first, then those that `Also=` names, in order.
    queue: Vec<String>,
}

impl Planning<'_> {
    fn enable(&mut self, unit: &str) -> Option<()> {
        let kind = unit_file::kind(unit)?;
        if instance(unit).is_some() && !MAY_TEMPLATE.contains(&kind) {
            return None;
        }
        let path = self.places.file(unit)?;
        let install = self.places.install(unit, &path)?;
        let is_template = instance(unit) == Some("");
        // Said of a unit that is no template, it is worth a warning.
        let default = install.default_instance.as_deref();
        if default.is_some() && instance(unit).is_none() {
            return None;
        }
        let default = default.filter(|_| is_template);
        for also in &install.also {
            let also = expand(unit, default, also)?;
            unit_file::kind(&also)?;
            if !self.queue.contains(&also) {
                self.queue.push(also);
            }
        }
        if !install.alias.is_empty() && !MAY_ALIAS.contains(&kind) {
            return None;
        }
        for alias in &install.alias {
            let alias = expand(unit, default, alias)?;
            // Only a plain name of a plain unit is simple.
            if unit_file::kind(&alias) != Some(kind) || instance(&alias).is_some() || instance(unit).is_some()
            {
                return None;
            }
            if alias != unit {
                self.link(&format!("{}/{alias}", self.places.scope.configuration()), &path)?;
            }
        }
        let linked = match default {
            Some(instance) => {
                let name = with_instance(unit, instance)?;
                // A file of the instance's own may be masked.
                for directory in &self.places.search {
                    if self.places.root.kind(&format!("{directory}/{name}")).ok()?.is_some() {
                        return None;
                    }
                }
                name
            }
            None => unit.to_owned(),
        };
        let lists = [
            (&install.wanted_by, "wants"),
            (&install.required_by, "requires"),
            (&install.upheld_by, "upholds"),
        ];
        for (list, suffix) in lists {
            for other in list {
                let other = expand(unit, default, other)?;
                unit_file::kind(&other)?;
                // A template cannot be wanted by a plain unit before it has an instance; presets say nothing of it.
                if is_template && default.is_none() && instance(&other).is_none() {
                    continue;
                }
                let directory = format!("{}/{other}.{suffix}", self.places.scope.configuration());
                self.link(&format!("{directory}/{linked}"), &path)?;
                if !self.places.exists(&other)? {
                    self.plan.said +=
                        &format!("Unit {path} is added as a dependency to a non-existent unit {other}.\n");
                }
            }
        }
        Some(())
    }

    fn link(&mut self, path: &str, target: &str) -> Option<()> {
        if let Some((_, planned)) = self.plan.links.iter().find(|(planned, _)| planned == path) {
            return (planned == target).then_some(());
        }
        match self.places.root.kind(path).ok()? {
            None => {
                self.plan.links.push((path.to_owned(), target.to_owned()));
                self.plan.said += &format!("Created symlink '{path}' → '{target}'.\n");
                Some(())
            }
            Some(FileType::Symlink) => {
                let found = self.places.root.read_link(path).ok()??;
                let found = String::from_utf8(found).ok().filter(|found| found.starts_with('/'))?;
                let inode = |path: &str| {
                    Some(self.places.root.follow(path).ok()??).map(|stat| (stat.st_dev, stat.st_ino))
                };
                let same = found == target || inode(&found).is_some_and(|found| Some(found) == inode(target));
                same.then_some(())
            }
            Some(_) => None,
        }
    }
}

/// Replaces the specifiers of a name.
fn expand(unit: &str, default: Option<&str>, name: &str) -> Option<String> {
    let (stem, kind) = unit.rsplit_once('.')?;
    let prefix = stem.split_once('@').map_or(stem, |(prefix, _)| prefix);
    let given = instance(unit).unwrap_or_default();
    let given = if given.is_empty() { default.unwrap_or_default() } else { given };
    let mut result = String::new();
    let mut characters = name.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            result.push(character);
            continue;
        }
        match characters.next()? {
            'i' => result += given,
            'p' => result += prefix,
            'j' => result += prefix.rsplit_once('-').map_or(prefix, |(_, last)| last),
            'n' | 'N' if instance(unit) == Some("") && default.is_none() => return None,
            'n' if instance(unit).is_some() => result += &format!("{prefix}@{given}.{kind}"),
            'n' => result += unit,
            'N' if instance(unit).is_some() => result += &format!("{prefix}@{given}"),
            'N' => result += prefix,
            '%' => result.push('%'),
            _ => return None,
        }
    }
    Some(result)
}

/// What the presets say to enable: the unit, instances of it, or nothing.
fn enabled(root: &Root, scope: Scope, unit: &str) -> Option<Vec<String>> {
    for (action, pattern, instances) in rules(root, scope)? {
        if !instances.is_empty() && with_instance(unit, "").as_deref() == Some(pattern.as_str()) {
            let own = instance(unit).unwrap_or_default();
            if own.is_empty() {
                return instances.iter().map(|instance| with_instance(unit, instance)).collect();
            }
            if instances.iter().any(|instance| instance == own) {
                return Some(vec![unit.to_owned()]);
            }
        }
        if matches(&pattern, unit) {
            return Some(if action == "enable" { vec![unit.to_owned()] } else { Vec::new() });
        }
    }
    Some(vec![unit.to_owned()])
}

type Rule = (String, String, Vec<String>);

fn rules(root: &Root, scope: Scope) -> Option<Vec<Rule>> {
    let mut files = BTreeMap::new();
    for place in ["/etc", "/run", "/usr/local/lib", "/usr/lib"] {
        let directory = format!("{place}/systemd/{}-preset", scope.name());
        for name in root.list(&directory).ok()?.unwrap_or_default() {
            let name = String::from_utf8(name).ok()?;
            let path = format!("{directory}/{name}");
            if name.ends_with(".preset") {
                files.entry(name).or_insert(path);
            }
        }
    }
    let mut rules = Vec::new();
    for path in files.values() {
        if root.kind(path).ok()? != Some(FileType::RegularFile) {
            return None;
        }
        for line in root.read_text(path).ok()??.lines() {
            let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
            let Some(action) = words.next() else { continue };
            if action.starts_with(['#', ';']) {
                continue;
            }
            let pattern = words.next()?;
            let instances: Vec<_> = words.map(str::to_owned).collect();
            let listed = action == "enable" && instance(pattern) == Some("");
            let odd = !is_simple_pattern(pattern) || pattern.contains(['"', '\'']);
            if !["enable", "disable", "ignore"].contains(&action) || odd || !instances.is_empty() && !listed {
                return None;
            }
            rules.push((action.to_owned(), pattern.to_owned(), instances));
        }
    }
    Some(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifiers_are_replaced_and_unknown_ones_are_not() {
        let of = |unit, default, name| expand(unit, default, name);
        assert_eq!(of("a-b@c.service", None, "%p-%i.target").unwrap(), "a-b-c.target");
        assert_eq!(of("a-b@.service", Some("d"), "%n %N %j").unwrap(), "a-b@d.service a-b@d b");
        assert_eq!(of("a.service", None, "%n%%").unwrap(), "a.service%");
        assert_eq!(of("a.service", None, "%b"), None);
    }
}
