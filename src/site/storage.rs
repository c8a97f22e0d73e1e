//! `storage.sh`: the node's directories, with the owners that unprivileged containers need.

use std::collections::BTreeMap;

use super::view::View;
use super::{SHIFT, heading, quote};
use crate::model::Project;
use crate::model::image::Owner;

/// A directory of the node that containers see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDirectory {
    /// Absolute path.
    pub path: String,
    /// Who owns it, by the node's ids; nobody says so when there is nothing, and what is there is left as it is.
    pub owner: Option<Owner>,
    /// Whether it is an application's own state: everything in it is one user's.
    pub state: bool,
    /// Images that see it.
    pub images: Vec<String>,
}

/// The node's directories that `images` of `project` see, parents before what is in them.
pub fn directories(project: &Project, images: &[String]) -> Vec<HostDirectory> {
    of(&View::new(project, images))
}

pub(super) fn of(view: &View<'_>) -> Vec<HostDirectory> {
    let mut found: BTreeMap<&str, HostDirectory> = BTreeMap::new();
    for container in &view.containers {
        for mount in &container.image.mounts {
            let directory = found.entry(&mount.source).or_insert_with(|| HostDirectory {
                path: mount.source.clone(),
                owner: None,
                state: false,
                images: Vec::new(),
            });
            directory.owner = directory.owner.or(mount.owner);
            directory.state |= mount.state.is_some();
            directory.images.push(container.name().to_owned());
        }
    }
    // What nobody says anything of belongs to whoever owns the directory around it.
    let owned: Vec<_> = found.values().filter_map(|one| Some((one.path.clone(), one.owner?))).collect();
    for directory in found.values_mut().filter(|directory| directory.owner.is_none()) {
        let around = owned.iter().filter(|(path, _)| directory.path.starts_with(&format!("{path}/")));
        directory.owner = around.max_by_key(|(path, _)| path.len()).map(|(_, owner)| *owner);
    }
    let shifted = |owner: Owner| Owner { uid: owner.uid + SHIFT, gid: owner.gid + SHIFT, mode: owner.mode };
    let shift = |directory: HostDirectory| HostDirectory { owner: directory.owner.map(shifted), ..directory };
    found.into_values().map(shift).collect()
}

/// The script.
pub(super) fn script(view: &View<'_>) -> String {
    let lines = of(view).into_iter().map(|directory| {
        let kind = if directory.state { "state" } else { "shared" };
        let path = quote::shell(&directory.path);
        let seen = format!("# {}\n", directory.images.join(", "));
        match directory.owner {
            Some(Owner { uid, gid, mode }) => {
                format!("{seen}directory {kind} {uid} {gid} {mode:04o} {path}\n")
            }
            None => format!("{seen}present {path}\n"),
        }
    });
    let about = [
        "Directories of the node that the containers see, with the owners that they need. Run it as root, there.",
    ];
    include_str!("text/storage.sh")
        .replace("@HEADING@\n", &heading("#", &about))
        .replace("@DIRECTORIES@\n", &lines.collect::<String>())
}
