//! A recipe's users, directories, files, links, state and units, put into a tree. Starts no process and touches no
//! file system.

mod problem;

use std::collections::BTreeMap;

pub use problem::{ComposeError, ComposeProblem};

use super::accounts::{AccountFile, Accounts, AccountsError};
use super::contents::NewContents;
use super::packaged;
use super::place;
use super::tarball::{self, Selected};
use super::units::{self, Units};
use crate::model::image::Mount;
use crate::model::recipe::{Directory, Link, Tarball};
use crate::model::{EvaluatedRecipe, Recipe, RenderedFile};
use crate::tree::{Kind, Node, Tree, TreePath};

/// Places of the root file system that are not part of an image, and why.
const FORBIDDEN: [(&str, &str); 7] = [
    ("dev", "below `/dev`, which the container makes at each start"),
    ("proc", "below `/proc`, which belongs to the kernel"),
    ("sys", "below `/sys`, which belongs to the kernel"),
    ("run", "below `/run`, which is empty at each start: use a file in `/usr/lib/tmpfiles.d`"),
    ("tmp", "below `/tmp`, which is empty at each start"),
    ("var/tmp", "below `/var/tmp`, which is emptied"),
    ("etc/vzdump", "below `/etc/vzdump`, where the container's configuration is"),
];

/// Most problems that are told of one tarball.
const MAX_OF_A_TARBALL: usize = 5;

/// Applies one recipe to the tree of its packages. `tarballs` are read already, by name; `epoch` is the time of all that is made, in seconds since 1970.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn apply(
    tree: Tree,
    contents: &mut NewContents<'_>,
    evaluated: &EvaluatedRecipe,
    tarballs: &BTreeMap<String, Tree>,
    epoch: i64,
) -> Result<Tree, ComposeError> {
    let recipe = &evaluated.recipe;
    let what = format!("recipe `{}`", recipe.name);
    let accounts = match Accounts::of_tree(&tree, contents) {
        Ok(accounts) => accounts,
        Err(error) => return Err(ComposeError { what, problems: vec![error.into()] }),
    };
    let mut composer = Composer { tree, contents, accounts, epoch, problems: Vec::new() };
    composer.accounts(recipe);
    let mut directories: Vec<&Directory> = recipe.directories.iter().collect();
    directories.sort_by_key(|directory| &directory.path);
    for directory in directories {
        let Directory { path, owner, group, mode } = directory;
        composer.attempt(|composer| {
            let path = composer.place(recipe, path)?;
            composer.directory(path, owner, group, *mode)
        });
    }
    for state in &recipe.state {
        composer.attempt(|composer| {
            let path = composer.mount_point(&state.path)?;
            composer.directory(path, &state.owner, &state.group, state.mode)
        });
    }
    for tarball in &recipe.tarballs {
        match tarballs.get(&tarball.name) {
            Some(tree) => composer.tarball(recipe, tarball, tree),
            None => composer.problems.push(ComposeProblem::NoTarball(tarball.name.clone())),
        }
    }
    for file in &evaluated.files {
        composer.attempt(|composer| composer.file(recipe, file));
    }
    for link in &recipe.links {
        composer.attempt(|composer| composer.link(recipe, link));
    }
    composer.units(recipe);
    composer.finish(what)
}

/// Makes the directories that an image's mounts need. Those of state are a recipe's and are only checked.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn apply_mounts(
    tree: Tree,
    contents: &mut NewContents<'_>,
    mounts: &[Mount],
    epoch: i64,
) -> Result<Tree, ComposeError> {
    let what = "the mounts of the image".to_owned();
    let accounts = match Accounts::of_tree(&tree, contents) {
        Ok(accounts) => accounts,
        Err(error) => return Err(ComposeError { what, problems: vec![error.into()] }),
    };
    let mut composer = Composer { tree, contents, accounts, epoch, problems: Vec::new() };
    for mount in mounts {
        composer.attempt(|composer| {
            let path = composer.mount_point(&mount.target)?;
            if !composer.tree.contains_key(&path) {
                place::put(&mut composer.tree, path, Node::directory(0o755, epoch), epoch);
            }
            Ok(())
        });
    }
    composer.finish(what)
}

struct Composer<'a, 'b> {
    tree: Tree,
    contents: &'a mut NewContents<'b>,
    accounts: Accounts,
    epoch: i64,
    problems: Vec<ComposeProblem>,
}

impl Composer<'_, '_> {
    /// Goes on after a problem, so that all of them are told.
    fn attempt(&mut self, step: impl FnOnce(&mut Self) -> Result<(), ComposeProblem>) {
        if let Err(problem) = step(self) {
            self.problems.push(problem);
        }
    }

    fn finish(self, what: String) -> Result<Tree, ComposeError> {
        match self.problems.is_empty() {
            true => Ok(self.tree),
            false => Err(ComposeError { what, problems: self.problems }),
        }
    }

    /// Pins the recipe's users again: a stage has done so before its packages were configured, but a recipe without
    /// packages has none.
    fn accounts(&mut self, recipe: &Recipe) {
        self.attempt(|composer| {
            let before = composer.accounts.texts();
            let day = composer.epoch.div_euclid(24 * 60 * 60);
            composer.accounts.pin(&recipe.users, &recipe.groups, day)?;
            composer.accounts.settle(&recipe.users, &recipe.groups)?;
            for (file, text) in composer.accounts.texts() {
                if before.get(&file) != Some(&text) {
                    composer.write_accounts(file, text)?;
                }
            }
            Ok(())
        });
    }

    fn write_accounts(&mut self, file: AccountFile, text: String) -> Result<(), AccountsError> {
        let content = self.contents.add(text);
        let node = TreePath::new(file.path()).ok().and_then(|path| self.tree.get_mut(&path));
        let node = node.ok_or(AccountsError::Missing(file))?;
        (node.kind, node.mtime) = (Kind::File { content }, self.epoch);
        Ok(())
    }

    /// Where a path really is, if something may be put there.
    fn place(&self, recipe: &Recipe, path: &TreePath) -> Result<TreePath, ComposeProblem> {
        let real = place::resolve_parent(&self.tree, path)
            .map_err(|source| ComposeProblem::Place { path: path.clone(), source })?;
        let forbidden = |place: String| Err(ComposeProblem::Forbidden { path: path.clone(), place });
        for (directory, reason) in FORBIDDEN {
            if TreePath::new(directory).is_ok_and(|directory| real.is_within(&directory)) {
                return forbidden(reason.to_owned());
            }
        }
        match recipe.state.iter().find(|state| real.is_within(&state.path)) {
            Some(state) => forbidden(format!("below `{}`, which is state: the mount hides it", state.path)),
            None => Ok(real),
        }
    }

    /// Where something is mounted: the path itself, and nothing may be lost below the mount.
    fn mount_point(&mut self, path: &TreePath) -> Result<TreePath, ComposeProblem> {
        let real = place::resolve(&self.tree, path)
            .map_err(|source| ComposeProblem::Place { path: path.clone(), source })?;
        if real != *path {
            return Err(ComposeProblem::ThroughLink { path: path.clone(), real });
        }
        for (directory, reason) in FORBIDDEN {
            if TreePath::new(directory).is_ok_and(|directory| real.is_within(&directory)) {
                return Err(ComposeProblem::Forbidden { path: real, place: reason.to_owned() });
            }
        }
        let files = place::below(&self.tree, &real).filter(|(_, node)| !node.is_directory());
        let hidden: Vec<String> = files.take(3).map(|(path, _)| format!("`{path}`")).collect();
        if !hidden.is_empty() {
            return Err(ComposeProblem::Hidden { path: real, hidden });
        }
        // Directories that a script made there are of no use below a mount.
        let directories: Vec<TreePath> =
            place::below(&self.tree, &real).map(|(path, _)| path.clone()).collect();
        for directory in directories {
            self.tree.remove(&directory);
        }
        Ok(real)
    }

    fn ids(&self, path: &TreePath, owner: &str, group: &str) -> Result<(u32, u32), ComposeProblem> {
        let unknown =
            |what, name: &str| ComposeProblem::UnknownOwner { path: path.clone(), what, name: name.into() };
        let uid = self.accounts.user_id(owner).ok_or_else(|| unknown("user", owner))?;
        let gid = self.accounts.group_id(group).ok_or_else(|| unknown("group", group))?;
        Ok((uid, gid))
    }

    fn directory(
        &mut self,
        path: TreePath,
        owner: &str,
        group: &str,
        mode: u32,
    ) -> Result<(), ComposeProblem> {
        let (uid, gid) = self.ids(&path, owner, group)?;
        match self.tree.get_mut(&path) {
            Some(node) if node.is_directory() => (node.uid, node.gid, node.mode) = (uid, gid, mode),
            Some(_) => return Err(ComposeProblem::NotDirectory { path }),
            None => {
                let node = Node::directory(mode, self.epoch).owned_by(uid, gid);
                place::put(&mut self.tree, path, node, self.epoch);
            }
        }
        Ok(())
    }

    /// Puts what the recipe takes of a tarball below its directory.
    fn tarball(&mut self, recipe: &Recipe, tarball: &Tarball, tree: &Tree) {
        let name = || tarball.name.clone();
        let selected = match tarball::select(tree, tarball) {
            Ok(selected) => selected,
            Err(problems) => {
                let problems = problems.into_iter();
                self.problems.extend(problems.map(|source| ComposeProblem::Tarball { name: name(), source }));
                return;
            }
        };
        let before = self.problems.len();
        self.attempt(|composer| {
            let path = composer.place(recipe, &tarball.path)?;
            composer.ids(&path, &tarball.owner, &tarball.group)?;
            match composer.tree.get(&path) {
                Some(node) if node.is_directory() => Ok(()),
                Some(_) => Err(ComposeProblem::NotDirectory { path }),
                None => composer.directory(path, &tarball.owner, &tarball.group, 0o755),
            }
        });
        if self.problems.len() > before {
            // The same would be said of every entry.
            return;
        }
        for entry in selected {
            self.attempt(|composer| composer.tarball_entry(recipe, tarball, entry));
        }
        let count = self.problems.len() - before;
        if count > MAX_OF_A_TARBALL {
            self.problems.truncate(before + MAX_OF_A_TARBALL);
            self.problems
                .push(ComposeProblem::MoreOfTarball { name: name(), count: count - MAX_OF_A_TARBALL });
        }
    }

    fn tarball_entry(
        &mut self,
        recipe: &Recipe,
        tarball: &Tarball,
        entry: Selected,
    ) -> Result<(), ComposeProblem> {
        let Selected { path, node, owner, group } = entry;
        let joined = tarball.path.join(path.as_bytes());
        let path = joined.map_err(|_| ComposeProblem::Forbidden { path, place: "so deep".to_owned() })?;
        let path = self.place(recipe, &path)?;
        if node.is_directory() && self.tree.get(&path).is_some_and(Node::is_directory) {
            return Ok(());
        }
        let (uid, gid) = self.ids(&path, &owner, &group)?;
        self.may_take(&path, false, |_| false).map_err(|problem| {
            let occupied =
                |path, package| ComposeProblem::Occupied { name: tarball.name.clone(), path, package };
            match problem {
                ComposeProblem::Exists { path, package } => occupied(path, package),
                ComposeProblem::Packaged { path, package } => occupied(path, Some(package)),
                ComposeProblem::IsDirectory { path } => occupied(path, None),
                other => other,
            }
        })?;
        let mtime = self.epoch;
        place::put(&mut self.tree, path, Node { mtime, ..node }.owned_by(uid, gid), mtime);
        Ok(())
    }

    fn file(&mut self, recipe: &Recipe, file: &RenderedFile) -> Result<(), ComposeProblem> {
        let path = self.place(recipe, &file.path)?;
        let (uid, gid) = self.ids(&path, &file.owner, &file.group)?;
        self.may_take(&path, file.replace, |_| false)?;
        let content = self.contents.add(&*file.bytes);
        let node = Node::file(content, file.mode, self.epoch).owned_by(uid, gid);
        place::put(&mut self.tree, path, node, self.epoch);
        Ok(())
    }

    fn link(&mut self, recipe: &Recipe, link: &Link) -> Result<(), ComposeProblem> {
        let path = self.place(recipe, &link.path)?;
        if is_link_to(&self.tree, &path, &link.target) {
            return Ok(());
        }
        // dpkg keeps no hash of a link that a package ships, so one link may stand for another.
        self.may_take(&path, link.replace, |kind| matches!(kind, Kind::Symlink { .. }))?;
        let node = Node::symlink(link.target.as_bytes(), self.epoch);
        place::put(&mut self.tree, path, node, self.epoch);
        Ok(())
    }

    /// Checks that nothing is at `path`, or something that may be replaced.
    fn may_take(
        &self,
        path: &TreePath,
        replace: bool,
        replaceable: impl Fn(&Kind) -> bool,
    ) -> Result<(), ComposeProblem> {
        let path = path.clone();
        let Some(node) = self.tree.get(&path) else { return Ok(()) };
        if node.is_directory() {
            return Err(ComposeProblem::IsDirectory { path });
        }
        let owner = packaged::owner(&self.tree, self.contents, &path);
        let owner = owner.map_err(|source| ComposeProblem::Database { path: path.clone(), source })?;
        match owner {
            Some(owner) if !owner.conffile && !replaceable(&node.kind) => {
                Err(ComposeProblem::Packaged { path, package: owner.package })
            }
            owner if !replace => {
                Err(ComposeProblem::Exists { path, package: owner.map(|owner| owner.package) })
            }
            _ => Ok(()),
        }
    }

    fn units(&mut self, recipe: &Recipe) {
        for unit in &recipe.units.enable {
            self.attempt(|composer| {
                let links = units::enable(composer.unit_files(), unit)?;
                for (link, target) in links {
                    composer.unit_link(link, target);
                }
                Ok(())
            });
        }
        for unit in &recipe.units.disable {
            self.attempt(|composer| {
                for link in units::disable(composer.unit_files(), unit)? {
                    composer.tree.remove(&link);
                }
                Ok(())
            });
        }
        for unit in &recipe.units.mask {
            self.attempt(|composer| {
                let link = units::mask(composer.unit_files(), unit)?;
                if !is_link_to(&composer.tree, &link, "/dev/null") {
                    composer.unit_link(link, "/dev/null".into());
                }
                Ok(())
            });
        }
    }

    fn unit_files(&self) -> Units<'_> {
        Units { tree: &self.tree, contents: self.contents }
    }

    fn unit_link(&mut self, link: TreePath, target: String) {
        place::put(&mut self.tree, link, Node::symlink(target, self.epoch), self.epoch);
    }
}

fn is_link_to(tree: &Tree, path: &TreePath, wanted: &str) -> bool {
    matches!(tree.get(path).map(|node| &node.kind), Some(Kind::Symlink { target }) if target.0 == wanted.as_bytes())
}

#[cfg(test)]
mod tests;
