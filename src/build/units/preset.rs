//! A preset file that says what is enabled.
//!
//! An image boots for the first time with the machine-id `uninitialized`; systemd then applies presets and enables
//! every unit that no preset names. So the image brings a preset that names all that is enabled and ends in
//! `disable *`. Preset files are read in the order of their names and the first line that matches a unit counts:
//! Proxmox's own `00-pve.preset` (`container-getty@` on; `getty@`, networkd off) comes before ours, Debian's
//! `90-systemd.preset` after it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Name, UNIT_DIRECTORIES, Units, in_dependency_directory, links_below, text};
use crate::build::place;
use crate::tree::{Kind, TreePath};

/// Where the preset file goes.
pub const PATH: &str = "usr/lib/systemd/system-preset/10-build-images.preset";

/// The text of the preset file for what is enabled in the tree now.
///
/// A unit that is enabled in part only, or whose `Also=` would bring in one that is off, gets no line: the first boot
/// only ever enables, so leaving it out leaves it as it is.
pub fn text_of(units: Units<'_>) -> String {
    let mut lines = String::from(
        "# What is enabled in this image, so that the presets of the first boot change nothing.\n",
    );
    let mut templates: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, _) in
        links_below(units.tree, UNIT_DIRECTORIES[0]).filter(|(path, _)| in_dependency_directory(path))
    {
        let link = text(path.name());
        if let Ok(name) = Name::parse(&link)
            && let Some(instance) = name.instance.filter(|instance| !instance.is_empty())
            && units.is_enabled(&link).unwrap_or(false)
        {
            templates.entry(name.file()).or_default().insert(instance.to_owned());
        }
    }
    for unit in unit_files(units) {
        match templates.get(&unit) {
            Some(instances) => {
                let instances: Vec<&str> = instances.iter().map(String::as_str).collect();
                lines += &format!("enable {unit} {}\n", instances.join(" "));
            }
            None if units.is_enabled(&unit).unwrap_or(false) => lines += &format!("enable {unit}\n"),
            None => {}
        }
    }
    lines + "disable *\n"
}

/// The names of all unit files, aliases and masked units left out.
fn unit_files(units: Units<'_>) -> BTreeSet<String> {
    let directories = UNIT_DIRECTORIES.iter().filter_map(|directory| TreePath::new(directory).ok());
    let entries = directories.flat_map(|directory| {
        place::below(units.tree, &directory)
            .filter(move |(path, _)| path.parent().as_ref() == Some(&directory))
    });
    let files = entries.filter(|(_, node)| matches!(node.kind, Kind::File { .. } | Kind::Hardlink { .. }));
    files.map(|(path, _)| text(path.name())).filter(|name| Name::parse(name).is_ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::units::tests::image;

    #[test]
    fn presets_name_exactly_what_a_first_boot_may_enable_again() {
        let on = "[Install]\nWantedBy=multi-user.target\n";
        let (tree, contents) = image(&[
            ("usr/lib/systemd/system/on.service", on),
            ("usr/lib/systemd/system/off.service", on),
            ("usr/lib/systemd/system/masked.service", on),
            ("usr/lib/systemd/system/static.service", "[Service]\n"),
            ("usr/lib/systemd/system/half.service", "[Install]\nWantedBy=multi-user.target other.target\n"),
            (
                "usr/lib/systemd/system/pulls.service",
                "[Install]\nWantedBy=multi-user.target\nAlso=off.service\n",
            ),
            (
                "usr/lib/systemd/system/getty@.service",
                "[Install]\nWantedBy=getty.target\nDefaultInstance=tty1\n",
            ),
            ("etc/systemd/system/masked.service -> /dev/null", ""),
            (
                "etc/systemd/system/multi-user.target.wants/on.service -> /usr/lib/systemd/system/on.service",
                "",
            ),
            (
                "etc/systemd/system/multi-user.target.wants/masked.service -> /usr/lib/systemd/system/masked.service",
                "",
            ),
            (
                "etc/systemd/system/multi-user.target.wants/half.service -> /usr/lib/systemd/system/half.service",
                "",
            ),
            (
                "etc/systemd/system/multi-user.target.wants/pulls.service -> /usr/lib/systemd/system/pulls.service",
                "",
            ),
            (
                "etc/systemd/system/getty.target.wants/getty@tty1.service -> /usr/lib/systemd/system/getty@.service",
                "",
            ),
            (
                "etc/systemd/system/getty.target.wants/getty@tty3.service -> /usr/lib/systemd/system/getty@.service",
                "",
            ),
        ]);
        insta::assert_snapshot!(text_of(Units { tree: &tree, contents: &contents }), @"
        # What is enabled in this image, so that the presets of the first boot change nothing.
        enable getty@.service tty1 tty3
        enable on.service
        disable *
        ");
    }
}
