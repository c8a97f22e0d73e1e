//! `backup.list` and `backup.sh`: what recipes declare as state that belongs into a backup.

use std::fmt::Write as _;

use super::view::{Container, View};
use super::{heading, quote};

/// Directories of the node with state of `container` that belongs into a backup, and its paths there.
fn state(container: &Container<'_>) -> Vec<(String, String)> {
    let states = container.recipes.iter().flat_map(|recipe| &recipe.state).filter(|state| state.backup);
    states
        .filter_map(|state| {
            let path = state.path.to_string();
            Some((container.on_node(&path)?, path))
        })
        .collect()
}

/// One line a directory: image, id of the container, path on the node, path in the container; with tabs between.
pub(super) fn list(view: &View<'_>) -> String {
    let mut text = heading(
        "#",
        &["State that belongs into a backup: image, container, path on the node, path in the container."],
    );
    for container in &view.containers {
        for (source, target) in state(container) {
            let _ = writeln!(
                text,
                "{}\t{}\t{source}\t{target}",
                container.name(),
                container.image.container.vmid
            );
        }
    }
    text
}

/// The script.
pub(super) fn script(view: &View<'_>) -> String {
    let mut entries = String::new();
    for container in &view.containers {
        let directories = state(container);
        if directories.is_empty() {
            continue;
        }
        let sources: Vec<_> = directories.iter().map(|(source, _)| quote::shell(source)).collect();
        let _ = writeln!(
            entries,
            "    {}) vmid={}; set -- {} ;;",
            container.name(),
            container.image.container.vmid,
            sources.join(" ")
        );
    }
    let names = view.containers.iter().filter(|container| !state(container).is_empty());
    let names: Vec<_> = names.map(Container::name).collect();
    include_str!("text/backup.sh")
        .replace(
            "@HEADING@\n",
            &heading(
                "#",
                &["Copies the state of containers, and puts a copy back. Run it as root, on the node."],
            ),
        )
        .replace("@STATES@\n", &entries)
        .replace("@IMAGES@", &names.join(" "))
}

/// Names of images with state that belongs into a backup, with their directories.
pub(super) fn images<'a>(view: &'a View<'_>) -> Vec<(&'a Container<'a>, Vec<(String, String)>)> {
    view.containers
        .iter()
        .map(|container| (container, state(container)))
        .filter(|(_, states)| !states.is_empty())
        .collect()
}
