//! Rules for paths: in a root file system, on the node, and between mounts.

use super::Scope;
use crate::model::image::Mount;
use crate::model::source::Place;
use crate::model::syntax::At;
use crate::model::syntax::image::RawMount;
use crate::model::words::{self, Complaint};
use crate::tree::TreePath;

/// Directories of a Debian system that are symbolic links, and where they lead.
const LINKS: [(&str, &str); 8] = [
    ("/bin", "/usr/bin"),
    ("/sbin", "/usr/sbin"),
    ("/lib", "/usr/lib"),
    ("/lib64", "/usr/lib64"),
    ("/var/run", "/run"),
    ("/var/lock", "/run/lock"),
    ("/usr/lib64/lib", "/usr/lib"),
    ("/etc/mtab", "/proc/self/mounts"),
];

/// File systems that the kernel or systemd mounts over the image's directories at boot.
const VOLATILE: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];

/// Where a path of the image leads when it goes through one of Debian's symbolic links.
pub fn through_link(path: &str) -> Option<(&'static str, String)> {
    let find = |(link, target): &(&'static str, &str)| {
        let rest = path.strip_prefix(link)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| (*link, format!("{target}{rest}")))
    };
    LINKS.iter().find_map(find)
}

/// The volatile file system that hides a path of the image.
pub fn volatile(path: &str) -> Option<&'static str> {
    VOLATILE
        .into_iter()
        .find(|over| path.strip_prefix(over).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// A path that something of the image is written to.
pub fn image_path(text: &str) -> Result<TreePath, Complaint> {
    let path = words::absolute(text)?;
    if let Some((link, real)) = through_link(text)
        && text != link
    {
        return Err(Complaint {
            message: format!("`{text}` goes through `{link}`, which is a symbolic link in Debian"),
            help: format!("write `{real}`"),
        });
    }
    if let Some((link, _)) = through_link(text) {
        return Err(Complaint {
            message: format!("`{link}` is a symbolic link that Debian itself makes"),
            help: "choose another path".to_owned(),
        });
    }
    if let Some(over) = volatile(text) {
        return Err(Complaint {
            message: format!(
                "`{text}` is hidden when the container runs: `{over}` is mounted anew at each boot"
            ),
            help: "make it at boot with a file in `/usr/lib/tmpfiles.d/`".to_owned(),
        });
    }
    Ok(path)
}

/// Where the container may have a mount.
fn target(text: &str) -> Result<TreePath, Complaint> {
    const BETTER: &str = "mount below `/srv`, `/media`, `/mnt` or `/var/lib/<application>`";
    if let Some((link, _)) = through_link(text) {
        return Err(Complaint {
            message: format!(
                "the mount target `{text}` goes through `{link}`, a symbolic link that Proxmox would replace by a directory on restore"
            ),
            help: BETTER.to_owned(),
        });
    }
    if volatile(text).is_some() {
        return image_path(text).map_err(|complaint| Complaint { help: BETTER.to_owned(), ..complaint });
    }
    let path = image_path(text)?;
    words::mountable(text)?;
    const SYSTEM: [&str; 7] = ["/usr", "/etc", "/var", "/boot", "/root", "/var/lib", "/var/lib/dpkg"];
    if SYSTEM.contains(&text) || text.starts_with("/usr/") || text.starts_with("/var/lib/dpkg/") {
        return Err(Complaint {
            message: format!("a mount on `{text}` would hide a part of the system"),
            help: BETTER.to_owned(),
        });
    }
    Ok(path)
}

/// A directory of the node that may be handed to a container.
pub fn node_directory(text: &str) -> Result<(), Complaint> {
    const SYSTEM: [&str; 14] = [
        "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr",
        "/var", "/home",
    ];
    let top = format!("/{}", text.trim_start_matches('/').split('/').next().unwrap_or_default());
    let forbidden = matches!(top.as_str(), "/dev" | "/proc" | "/sys" | "/etc" | "/boot" | "/usr");
    if SYSTEM.contains(&text) || forbidden {
        return Err(Complaint {
            message: format!("`{text}` belongs to the node's own system"),
            help: "containers get directories of their own, as below `/srv`".to_owned(),
        });
    }
    Ok(())
}

/// A mount and where it was written.
#[derive(Debug, Clone)]
pub struct PlacedMount {
    /// The mount.
    pub mount: Mount,
    /// Where its target, or the state it stands for, is written.
    pub place: Place,
    /// What the image says of its owner on the node.
    pub asked: Asked,
}

/// What a `[[mount]]` says of its owner on the node.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Owner by name.
    pub owner: Option<At<String>>,
    /// Group by name.
    pub group: Option<At<String>>,
    /// Permission bits.
    pub mode: Option<At<u32>>,
}

/// Checks one `[[mount]]`; `media` is the site's media directory.
pub fn mount(scope: &mut Scope<'_>, raw: &At<RawMount>, media: Option<&str>) -> Option<PlacedMount> {
    let source = match (&raw.value.media.0, &raw.value.source.0) {
        (Some(at), None) => below_media(scope, at, media),
        (None, Some(at)) => {
            let checked = words::absolute(&at.value)
                .and_then(|_| words::mountable(&at.value))
                .and_then(|()| node_directory(&at.value));
            let found = scope.take(&at.span, checked).map(|()| at.value.clone());
            if let (Some(source), Some(media)) = (&found, media)
                && let Some(rest) = source.strip_prefix(media).and_then(|rest| rest.strip_prefix('/'))
            {
                scope
                    .warning(&at.span, format!("`{source}` repeats the site's media directory"))
                    .help(format!("write `media = \"{rest}\"`, so that it follows the site"));
            }
            found
        }
        (Some(_), Some(second)) => {
            scope.error(&second.span, "a mount has both `media` and `source`").help(
                "keep `media` for a directory below the site's media directory, `source` for any other",
            );
            None
        }
        (None, None) => {
            scope
                .error(&raw.span, "the mount does not say which directory of the node")
                .help("write `media = \"…\"` (below the site's media directory) or `source = \"/…\"`");
            None
        }
    };
    let at = raw.value.target.0.as_ref()?;
    let target = scope.take(&at.span, target(&at.value))?;
    let read_only = raw.value.read_only.0.as_ref().is_some_and(|at| at.value);
    let mode = raw.value.mode.0.as_ref().and_then(|mode| {
        let value = super::recipe::mode(scope, &raw.value.mode, 0o755, true)?;
        Some(At { span: mode.span.clone(), value })
    });
    let asked = Asked { owner: raw.value.owner.0.clone(), group: raw.value.group.0.clone(), mode };
    let mount = Mount { source: source?, target, read_only, state: None, owner: None };
    Some(PlacedMount { mount, place: scope.place(at), asked })
}

fn below_media(scope: &mut Scope<'_>, at: &At<String>, media: Option<&str>) -> Option<String> {
    if let (Some(media), true) = (media, at.value.starts_with('/')) {
        let help = match at.value.strip_prefix(media).and_then(|rest| rest.strip_prefix('/')) {
            Some(rest) => format!("write `media = \"{rest}\"`"),
            None => {
                format!("`media` is a path below `{media}`; write `source = \"{}\"` for any other", at.value)
            }
        };
        scope.error(&at.span, format!("`{}` is an absolute path", at.value)).help(help);
        return None;
    }
    if at.value == "." {
        return media.map(str::to_owned);
    }
    scope.take(&at.span, words::relative(&at.value))?;
    scope.take(&at.span, words::mountable(&at.value))?;
    media.map(|media| format!("{media}/{}", at.value))
}

/// Reports mounts on, below or above one another.
pub fn overlaps(mounts: &[PlacedMount], problems: &mut crate::model::diagnostics::Diagnostics) {
    for (index, later) in mounts.iter().enumerate() {
        for earlier in &mounts[..index] {
            let (a, b) = (&earlier.mount.target, &later.mount.target);
            if a == b {
                problems
                    .error(&later.place, format!("two mounts on `{b}`"))
                    .label("the second")
                    .related(&earlier.place, "the first")
                    .help("give each mount a target of its own");
            } else if a.is_within(b) || b.is_within(a) {
                let (inner, outer) = if a.is_within(b) { (a, b) } else { (b, a) };
                problems
                    .error(&later.place, format!("the mount on `{inner}` lies inside the mount on `{outer}`"))
                    .related(&earlier.place, "the other mount")
                    .help("mount them side by side, or only the outer one");
            }
        }
    }
}

/// Where a recipe may keep state: it becomes a mount.
pub fn state(text: &str) -> Result<(), Complaint> {
    let becomes = |complaint: Complaint| Complaint {
        message: format!("state becomes a mount, and {}", complaint.message),
        help: "keep state in `/var/lib/<application>`".to_owned(),
    };
    target(text).map(|_| ()).map_err(becomes)
}
