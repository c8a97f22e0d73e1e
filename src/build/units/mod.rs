//! systemd units over a [`Tree`]: enabling, disabling and masking as `systemctl --root` would, without running it.
//!
//! [`enable`], [`disable`] and [`mask`] give the links to make and remove; [`preset`] writes down what is enabled, so
//! that the first boot changes nothing.

mod install;
mod name;
pub mod preset;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

pub use install::Install;
use name::Name;

use super::place::{self, PlaceError};
use crate::tree::{Contents, Kind, Tree, TreePath};

/// Where units are looked for, the first place wins. `/run` and generators do not exist in an image.
const UNIT_DIRECTORIES: [&str; 3] =
    ["etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system"];
/// Where links of enabled units are.
const CONFIGURATION: &str = UNIT_DIRECTORIES[0];
/// Longest unit file that is read, in bytes.
const MAX_UNIT: u64 = 1 << 20;
/// Something a recipe wants of a unit that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum UnitProblem {
    /// The name has no unit's form.
    #[error("`{0}` is not a unit name: write it in full, such as `{0}.service`")]
    BadName(String),
    /// There is no such unit file.
    #[error("there is no unit `{0}` in the image: no package or file of the recipes brings it")]
    Unknown(String),
    /// The unit is masked.
    #[error("unit `{0}` is masked")]
    Masked(String),
    /// The name is another unit's alias.
    #[error("`{name}` is another name of `{unit}`: write `{unit}`")]
    Alias {
        /// What the recipe says.
        name: String,
        /// The unit's own name.
        unit: String,
    },
    /// The unit does not say where it belongs.
    #[error(
        "unit `{0}` has no `WantedBy=`, `RequiredBy=`, `UpheldBy=`, `Alias=` or `Also=` in an `[Install]` section: \
             it cannot be enabled"
    )]
    NothingToEnable(String),
    /// A template cannot be started by itself.
    #[error("unit `{0}` is a template without a default instance: name one, such as `{instance}`",
            instance = .0.replacen('@', "@name", 1))]
    NeedsInstance(String),
    /// A name in `[Install]` has a specifier that only systemd knows at run time.
    #[error("unit `{unit}`: `{name}` in its `[Install]` section has a specifier that is not supported")]
    Specifier {
        /// The unit.
        unit: String,
        /// The name with the specifier.
        name: String,
    },
    /// The name of a link is taken by something else.
    #[error("unit `{unit}` needs the link `{link}`, but there is {found} already")]
    Taken {
        /// The unit.
        unit: String,
        /// Where the link would be.
        link: TreePath,
        /// What is there.
        found: String,
    },
    /// A package starts the unit by a link below /usr, which disabling does not remove.
    #[error(
        "unit `{unit}` is started by `{link}` of a package, which stays: put it under `mask` instead of `disable`"
    )]
    Static {
        /// The unit.
        unit: String,
        /// The link.
        link: TreePath,
    },
    /// The unit file cannot be read.
    #[error("cannot read `{path}`: {source}")]
    Unreadable {
        /// The unit file.
        path: TreePath,
        /// Why.
        source: io::Error,
    },
    /// The unit's path leads nowhere.
    #[error("`{path}`: {source}")]
    Place {
        /// The path.
        path: TreePath,
        /// Why.
        source: PlaceError,
    },
}

/// Links that a unit needs, by place.
pub type Links = BTreeMap<TreePath, String>;

/// The units of a tree.
#[derive(Clone, Copy)]
pub struct Units<'a> {
    /// The root file system.
    pub tree: &'a Tree,
    /// Its bytes.
    pub contents: &'a dyn Contents,
}

/// A unit file that was found.
struct UnitFile {
    /// Its place among the unit directories, and the target of links to it.
    path: TreePath,
    install: Install,
}

/// Joins names that were checked before; nothing for one too long to be a path.
fn join(directory: &str, name: &str) -> Option<TreePath> {
    TreePath::new(format!("{directory}/{name}")).ok()
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

impl Units<'_> {
    /// Finds the file of a unit by the unit's own name; the template's for an instance.
    fn find(&self, name: Name<'_>) -> Result<UnitFile, UnitProblem> {
        let file = name.file();
        // An instance may have a file of its own, which is tried first.
        let candidates = if file == name.whole { vec![file] } else { vec![name.whole.to_owned(), file] };
        for file in candidates {
            for directory in UNIT_DIRECTORIES {
                let Some(path) = join(directory, &file) else { continue };
                if let Some(kind) = self.tree.get(&path).map(|node| &node.kind) {
                    return self.open(name, &file, path, kind);
                }
            }
        }
        Err(UnitProblem::Unknown(name.whole.to_owned()))
    }

    fn open(&self, name: Name<'_>, file: &str, path: TreePath, kind: &Kind) -> Result<UnitFile, UnitProblem> {
        let place = |source| UnitProblem::Place { path: path.clone(), source };
        let mut real = path.clone();
        if let Kind::Symlink { target } = kind {
            if target.0 == b"/dev/null" {
                return Err(UnitProblem::Masked(name.whole.into()));
            }
            real = place::resolve(self.tree, &path).map_err(place)?;
            if real.name() != file.as_bytes() {
                return Err(UnitProblem::Alias { name: name.whole.into(), unit: text(real.name()) });
            }
        }
        let mut install = Install::default();
        install.read(&self.read(&real)?);
        for drop_in in self.drop_ins(name, file) {
            install.read(&self.read(&drop_in)?);
        }
        Ok(UnitFile { path: real, install })
    }

    /// The drop-ins of a unit, in the order in which systemd reads them: by name, the first directory's for equal
    /// names.
    fn drop_ins(&self, name: Name<'_>, file: &str) -> Vec<TreePath> {
        let mut found = BTreeMap::new();
        let files = BTreeSet::from([file, name.whole]);
        for directory in UNIT_DIRECTORIES {
            for file in &files {
                let Some(directory) = join(directory, &format!("{file}.d")) else { continue };
                for (path, node) in place::below(self.tree, &directory) {
                    if path.name().ends_with(b".conf") && !node.is_directory() {
                        found.entry(path.name().to_vec()).or_insert_with(|| path.clone());
                    }
                }
            }
        }
        found.into_values().collect()
    }

    fn read(&self, path: &TreePath) -> Result<String, UnitProblem> {
        let unreadable = |source| UnitProblem::Unreadable { path: path.clone(), source };
        let real = place::resolve(self.tree, path)
            .map_err(|source| UnitProblem::Place { path: path.clone(), source })?;
        let node = match self.tree.get(&real).map(|node| &node.kind) {
            Some(Kind::Hardlink { target }) => self.tree.get(target),
            Some(_) => self.tree.get(&real),
            None => return Err(unreadable(io::ErrorKind::NotFound.into())),
        };
        match node.and_then(|node| node.content()) {
            Some(content) if content.size <= MAX_UNIT => {
                Ok(text(&self.contents.read(content).map_err(unreadable)?))
            }
            Some(content) => Err(unreadable(io::Error::other(format!("it has {} bytes", content.size)))),
            // A link to /dev/null, whose node no image has, says nothing.
            None => Ok(String::new()),
        }
    }

    /// The links that enabling a unit needs, with those of the units in `Also=`.
    ///
    /// # Errors
    /// See [`UnitProblem`].
    pub fn links(&self, unit: &str) -> Result<Links, UnitProblem> {
        let mut links = Links::new();
        self.collect(unit, true, &mut links, &mut BTreeSet::new())?;
        Ok(links)
    }

    fn collect(
        &self,
        unit: &str,
        asked_for: bool,
        links: &mut Links,
        seen: &mut BTreeSet<String>,
    ) -> Result<(), UnitProblem> {
        if !seen.insert(unit.to_owned()) {
            return Ok(());
        }
        let name = Name::parse(unit)?;
        let UnitFile { path, install } = self.find(name)?;
        if install.is_empty() && asked_for {
            return Err(UnitProblem::NothingToEnable(unit.to_owned()));
        }
        let mut linked = name.whole.to_owned();
        if name.is_template() {
            match &install.default_instance {
                Some(instance) => linked = name.with_instance(instance),
                None if install.wanted_by.len() + install.required_by.len() + install.upheld_by.len()
                    == 0 => {}
                None => return Err(UnitProblem::NeedsInstance(unit.to_owned())),
            }
        }
        let target = path.to_string();
        let lists = [
            (&install.wanted_by, "wants"),
            (&install.required_by, "requires"),
            (&install.upheld_by, "upholds"),
        ];
        for (list, suffix) in lists {
            for other in list {
                let other = Name::parse(&linked)?.expand(other)?;
                Name::parse(&other)?;
                links.extend(
                    join(CONFIGURATION, &format!("{other}.{suffix}/{linked}"))
                        .map(|link| (link, target.clone())),
                );
            }
        }
        for alias in &install.alias {
            let alias = name.expand(alias)?;
            let parsed = Name::parse(&alias)?;
            let alias = match name.instance {
                Some(instance) if parsed.is_template() => parsed.with_instance(instance),
                _ => alias,
            };
            if alias != name.whole {
                links.extend(join(CONFIGURATION, &alias).map(|link| (link, target.clone())));
            }
        }
        for also in &install.also {
            match self.collect(&name.expand(also)?, false, links, seen) {
                // A unit of a package that is not here; systemd passes over it too.
                Err(UnitProblem::Unknown(_)) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Whether enabling the unit would change nothing.
    ///
    /// # Errors
    /// See [`UnitProblem`].
    pub fn is_enabled(&self, unit: &str) -> Result<bool, UnitProblem> {
        let links = self.links(unit)?;
        Ok(links.iter().all(|(link, target)| self.has_link(link, target)))
    }

    /// Whether there is a link to the same unit file, be it spelled through /lib or /usr/lib.
    fn has_link(&self, link: &TreePath, target: &str) -> bool {
        let is_link = matches!(self.tree.get(link).map(|node| &node.kind), Some(Kind::Symlink { .. }));
        let real = |path: &TreePath| place::resolve(self.tree, path).ok();
        is_link
            && real(link)
                .is_some_and(|found| TreePath::new(target).ok().and_then(|path| real(&path)) == Some(found))
    }
}

/// The links that enabling `unit` adds to the tree.
///
/// # Errors
/// See [`UnitProblem`].
pub fn enable(units: Units<'_>, unit: &str) -> Result<Links, UnitProblem> {
    let mut links = units.links(unit)?;
    links.retain(|link, target| !units.has_link(link, target));
    for link in links.keys() {
        let found = match units.tree.get(link).map(|node| &node.kind) {
            Some(Kind::Symlink { target }) => format!("a link to `{}`", text(&target.0)),
            Some(_) => "a file".to_owned(),
            None => continue,
        };
        return Err(UnitProblem::Taken { unit: unit.to_owned(), link: link.clone(), found });
    }
    Ok(links)
}

/// The links to remove so that nothing starts `unit`: those in `.wants` and its kin, and aliases. A template stands
/// for all its instances. Units in its `Also=` are disabled with it.
///
/// # Errors
/// See [`UnitProblem`].
pub fn disable(units: Units<'_>, unit: &str) -> Result<BTreeSet<TreePath>, UnitProblem> {
    let mut removed = BTreeSet::new();
    let mut pending = vec![unit.to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(unit) = pending.pop() {
        let name = Name::parse(&unit)?;
        if !seen.insert(unit.clone()) {
            continue;
        }
        let found = match units.find(name) {
            Err(UnitProblem::Unknown(_)) if seen.len() > 1 => continue,
            found => found?,
        };
        for also in &found.install.also {
            pending.push(name.expand(also)?);
        }
        for (path, node) in links_below(units.tree, CONFIGURATION) {
            if starts(units.tree, path, node, name, &found.path) {
                removed.insert(path.clone());
            }
        }
        for directory in &UNIT_DIRECTORIES[1..] {
            let mut links =
                links_below(units.tree, directory).filter(|(path, _)| in_dependency_directory(path));
            if let Some((link, _)) = links.find(|(path, _)| names(path, name)) {
                return Err(UnitProblem::Static { unit, link: link.clone() });
            }
        }
    }
    Ok(removed)
}

/// The link that makes a unit impossible to start. It need not exist: masking is also a precaution.
///
/// # Errors
/// [`UnitProblem::BadName`], and [`UnitProblem::Taken`] when the unit's own file is where the link has to be.
pub fn mask(units: Units<'_>, unit: &str) -> Result<TreePath, UnitProblem> {
    Name::parse(unit)?;
    let link = join(CONFIGURATION, unit).ok_or_else(|| UnitProblem::BadName(unit.to_owned()))?;
    match units.tree.get(&link).map(|node| &node.kind) {
        None | Some(Kind::Symlink { .. }) => Ok(link),
        Some(_) => {
            Err(UnitProblem::Taken { unit: unit.to_owned(), link, found: "the unit's own file".into() })
        }
    }
}

fn links_below<'a>(
    tree: &'a Tree,
    directory: &str,
) -> impl Iterator<Item = (&'a TreePath, &'a Kind)> + use<'a> {
    let directory = TreePath::new(directory).ok();
    let entries = directory.into_iter().flat_map(move |directory| place::below(tree, &directory));
    entries
        .filter(|(_, node)| matches!(node.kind, Kind::Symlink { .. }))
        .map(|(path, node)| (path, &node.kind))
}

fn in_dependency_directory(path: &TreePath) -> bool {
    let parent = path.parent();
    let name = parent.as_ref().map(TreePath::name).unwrap_or_default();
    [&b".wants"[..], b".requires", b".upholds"].into_iter().any(|suffix| name.ends_with(suffix))
}

/// Whether a link in a dependency directory bears the unit's name, or that of an instance of the template.
fn names(path: &TreePath, name: Name<'_>) -> bool {
    let link = text(path.name());
    link == name.whole || name.is_template() && Name::parse(&link).is_ok_and(|link| link.file() == name.whole)
}

/// Whether a link below /etc starts the unit or is another name of it.
fn starts(tree: &Tree, path: &TreePath, kind: &Kind, name: Name<'_>, file: &TreePath) -> bool {
    if in_dependency_directory(path) {
        return names(path, name);
    }
    let Kind::Symlink { target } = kind else { return false };
    target.0 != b"/dev/null"
        && name.instance.is_none_or(str::is_empty)
        && place::resolve(tree, path).as_ref() == Ok(file)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::digest::Sha256;
    use crate::tree::{Content, Node};

    /// A tree of unit files, links (`path -> target`) and their bytes.
    pub(crate) fn image(entries: &[(&str, &str)]) -> (Tree, BTreeMap<Sha256, Vec<u8>>) {
        let mut tree = Tree::new();
        let mut contents = BTreeMap::new();
        for (path, text) in entries {
            let (path, node) = match path.split_once(" -> ") {
                Some((path, target)) => (path, Node::symlink(target, 0)),
                None => {
                    let content = Content::of(text.as_bytes());
                    contents.insert(content.sha256, text.as_bytes().to_vec());
                    (*path, Node::file(content, 0o644, 0))
                }
            };
            place::put(&mut tree, TreePath::new(path).unwrap(), node, 0);
        }
        (tree, contents)
    }

    const SSH: &str = "[Install]\nWantedBy=multi-user.target\nAlias=sshd.service\n";
    const GETTY: &str = "[Install]\nWantedBy=getty.target\nDefaultInstance=tty1\n";

    fn samples() -> (Tree, BTreeMap<Sha256, Vec<u8>>) {
        image(&[
            ("lib -> usr/lib", ""),
            ("usr/lib/systemd/system/ssh.service", SSH),
            ("usr/lib/systemd/system/getty@.service", GETTY),
            ("usr/lib/systemd/system/worker@.service", "[Install]\nWantedBy=pool-%i.target\n"),
            ("usr/lib/systemd/system/a.socket", "[Install]\nRequiredBy=sockets.target\nAlso=b.service\n"),
            ("usr/lib/systemd/system/b.service", "[Service]\n"),
            ("usr/lib/systemd/system/c.service", "[Service]\n"),
            ("usr/lib/systemd/system/c.service.d/x.conf", "[Install]\nUpheldBy=b.service\n"),
            ("usr/lib/systemd/system/static.mount", "[Install]\nWantedBy=a.target\n"),
            ("usr/lib/systemd/system/sysinit.target.wants/static.mount -> ../static.mount", ""),
            ("usr/lib/systemd/system/other.service -> ssh.service", ""),
            ("etc/systemd/system/off.service -> /dev/null", ""),
            ("etc/systemd/system/own.service", "[Install]\nAlias=taken.service\n"),
            ("etc/systemd/system/taken.service -> /usr/lib/systemd/system/b.service", ""),
            ("etc/systemd/system/sshd.service -> /lib/systemd/system/ssh.service", ""),
            (
                "etc/systemd/system/getty.target.wants/getty@tty1.service -> /lib/systemd/system/getty@.service",
                "",
            ),
            (
                "etc/systemd/system/getty.target.wants/getty@tty2.service -> /lib/systemd/system/getty@.service",
                "",
            ),
        ])
    }

    #[test]
    fn enabling_gives_the_links_that_systemctl_makes() {
        let (tree, contents) = samples();
        let units = Units { tree: &tree, contents: &contents };
        let mut shown = String::new();
        let asked = [
            "ssh.service",
            "getty@.service",
            "getty@tty7.service",
            "worker@3.service",
            "worker@.service",
            "a.socket",
            "b.service",
            "c.service",
            "other.service",
            "off.service",
            "own.service",
            "nobody.service",
            "ssh",
        ];
        for unit in asked {
            shown += &format!("{unit}:\n");
            match enable(units, unit) {
                Ok(links) => {
                    links.iter().for_each(|(link, target)| shown += &format!("  {link} -> {target}\n"))
                }
                Err(problem) => shown += &format!("  {problem}\n"),
            }
        }
        insta::assert_snapshot!(shown, @"
        ssh.service:
          /etc/systemd/system/multi-user.target.wants/ssh.service -> /usr/lib/systemd/system/ssh.service
        getty@.service:
        getty@tty7.service:
          /etc/systemd/system/getty.target.wants/getty@tty7.service -> /usr/lib/systemd/system/getty@.service
        worker@3.service:
          /etc/systemd/system/pool-3.target.wants/worker@3.service -> /usr/lib/systemd/system/worker@.service
        worker@.service:
          unit `worker@.service` is a template without a default instance: name one, such as `worker@name.service`
        a.socket:
          /etc/systemd/system/sockets.target.requires/a.socket -> /usr/lib/systemd/system/a.socket
        b.service:
          unit `b.service` has no `WantedBy=`, `RequiredBy=`, `UpheldBy=`, `Alias=` or `Also=` in an `[Install]` section: it cannot be enabled
        c.service:
          /etc/systemd/system/b.service.upholds/c.service -> /usr/lib/systemd/system/c.service
        other.service:
          `other.service` is another name of `ssh.service`: write `ssh.service`
        off.service:
          unit `off.service` is masked
        own.service:
          unit `own.service` needs the link `/etc/systemd/system/taken.service`, but there is a link to `/usr/lib/systemd/system/b.service` already
        nobody.service:
          there is no unit `nobody.service` in the image: no package or file of the recipes brings it
        ssh:
          `ssh` is not a unit name: write it in full, such as `ssh.service`
        ");
    }

    #[test]
    fn disabling_removes_every_link_that_starts_a_unit() {
        let (tree, contents) = samples();
        let units = Units { tree: &tree, contents: &contents };
        let shown = |unit| match disable(units, unit) {
            Ok(links) => links.iter().map(|link| format!("{link}\n")).collect::<String>(),
            Err(problem) => problem.to_string(),
        };
        insta::assert_snapshot!(shown("ssh.service"), @"/etc/systemd/system/sshd.service");
        insta::assert_snapshot!(shown("getty@.service"), @"
        /etc/systemd/system/getty.target.wants/getty@tty1.service
        /etc/systemd/system/getty.target.wants/getty@tty2.service
        ");
        insta::assert_snapshot!(shown("getty@tty2.service"), @"/etc/systemd/system/getty.target.wants/getty@tty2.service");
        insta::assert_snapshot!(shown("static.mount"), @"unit `static.mount` is started by `/usr/lib/systemd/system/sysinit.target.wants/static.mount` of a package, which stays: put it under `mask` instead of `disable`");
        insta::assert_snapshot!(shown("nobody.service"), @"there is no unit `nobody.service` in the image: no package or file of the recipes brings it");
    }

    #[test]
    fn masking_works_on_units_that_are_not_there_but_not_on_own_files() {
        let (tree, contents) = samples();
        let units = Units { tree: &tree, contents: &contents };
        assert_eq!(mask(units, "new.mount").unwrap().to_string(), "/etc/systemd/system/new.mount");
        assert!(mask(units, "sshd.service").is_ok());
        insta::assert_snapshot!(mask(units, "own.service").unwrap_err(), @"unit `own.service` needs the link `/etc/systemd/system/own.service`, but there is the unit's own file already");
        assert!(mask(units, "../x.service").is_err());
    }
}
