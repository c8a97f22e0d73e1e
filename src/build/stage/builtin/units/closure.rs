//! The links that a unit needs with those of its `Also=`, as `deb-systemd-helper` works them out.
//!
//! The script reads unit files line by line and knows of no sections, drop-ins or specifiers; `Install` only takes
//! files in which that makes no difference but for the specifiers, which stay as they are.

use super::Scope;
use super::unit_file::{Install, with_instance};
use crate::build::stage::root::Root;

/// A link to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub path: String,
    pub target: String,
}

/// The path of a unit's file, or its name when there is none.
pub(super) fn find(root: &Root, scope: Scope, unit: &str) -> Option<String> {
    let scope = scope.name();
    for directory in ["/etc/systemd", "/lib/systemd", "/usr/lib/systemd"] {
        let path = format!("{directory}/{scope}/{unit}");
        if root.is_file(&path).ok()? {
            return Some(path);
        }
    }
    Some(unit.to_owned())
}

/// The links of the unit file at `path`; nothing when one cannot be read. `visited` are units that were come by.
pub(super) fn links(root: &Root, scope: Scope, path: &str, visited: &mut Vec<String>) -> Option<Vec<Link>> {
    let (_, unit) = path.strip_prefix('/')?.rsplit_once('/')?;
    let mut install = Install::default();
    install.read(root, path)?;
    let mut found = Vec::new();
    for (key, value) in in_order(root, path)? {
        let words = value.split([' ', '\t']).filter(|word| !word.is_empty());
        match key.as_str() {
            "Also" => {
                for also in words {
                    if also != unit && !visited.iter().any(|visited| visited == also) {
                        visited.push(also.to_owned());
                        let next = find(root, scope, also)?;
                        // Each goes its own way with what was visited so far.
                        found.extend(links(root, scope, &next, &mut visited.clone())?);
                    }
                }
            }
            // The whole value is taken for one name.
            "Alias" => found.extend(words.filter(|alias| *alias != unit).map(|_| Link {
                path: format!("{}/{value}", scope.configuration()),
                target: path.to_owned(),
            })),
            _ => {}
        }
    }
    let wanted = match &install.default_instance {
        Some(instance) if unit.contains("@.") => with_instance(unit, instance)?,
        _ => unit.to_owned(),
    };
    for (key, value) in in_order(root, path)? {
        let suffix = match key.as_str() {
            "WantedBy" => "wants",
            "RequiredBy" => "requires",
            _ => continue,
        };
        found.extend(value.split([' ', '\t']).filter(|word| !word.is_empty()).map(|other| Link {
            path: format!("{}/{other}.{suffix}/{wanted}", scope.configuration()),
            target: path.to_owned(),
        }));
    }
    Some(found)
}

/// The values of `Also=`, each whole.
pub(super) fn also(root: &Root, path: &str) -> Option<Vec<String>> {
    Install::default().read(root, path)?;
    let values = in_order(root, path)?.into_iter().filter(|(key, _)| key == "Also");
    let values: Vec<_> = values.map(|(_, value)| value).collect();
    values.iter().all(|value| !value.contains([' ', '\t'])).then_some(values)
}

/// The assignments of `[Install]` in a file that `Install` takes, with their values as written.
fn in_order(root: &Root, path: &str) -> Option<Vec<(String, String)>> {
    let text = root.read_text(path).ok()??;
    let keys = ["WantedBy", "RequiredBy", "Alias", "Also"];
    let pairs = text.lines().filter_map(|line| line.trim_start().split_once('='));
    let pairs = pairs.filter(|(key, _)| keys.contains(key));
    Some(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}
