//! Rules for a graphics card of the node that a container uses.

use super::Scope;
use super::recipe::RecipeDraft;
use super::site::SiteDraft;
use crate::model::image::Gpu;
use crate::model::source::Place;
use crate::model::syntax::At;
use crate::model::words::Complaint;

/// The group that may use render nodes, as udev has it.
const GROUP: &str = "render";
/// The first release of Proxmox VE that hands single devices to a container (pve-container 5.0.7).
const RELEASE: (u32, u32) = (8, 1);

/// Checks `gpu`; the id of its group is the one that a recipe pins.
///
/// Unless `all_known`, a recipe could not be read, and nothing is said of a group that it may declare.
pub fn check(
    scope: &mut Scope<'_>,
    at: &At<String>,
    site: &SiteDraft,
    recipes: &[(&RecipeDraft, Place)],
    all_known: bool,
) -> Option<Gpu> {
    let good = scope.take(&at.span, device(&at.value)).is_some();
    let release = site.site.as_ref().map(|site| site.node.release).filter(|release| *release < RELEASE);
    if let Some((major, minor)) = release {
        let message = format!("`gpu` needs Proxmox VE 8.1, the site says {major}.{minor}");
        scope.error(&at.span, message).help("upgrade the node, or leave `gpu` out");
    }
    let mut groups = recipes.iter().flat_map(|(draft, _)| &draft.recipe.groups);
    let group = groups.find(|group| group.name == GROUP);
    if group.is_none() && all_known {
        scope.error(&at.span, format!("no recipe of this image has the group `{GROUP}` for it")).help(format!(
            "pin it in the recipe that transcodes: `[[group]]` with `name = \"{GROUP}\"` and `gid = 944`, and its user in `groups`"
        ));
    }
    let gid = group?.gid;
    (good && release.is_none()).then(|| Gpu { device: at.value.clone(), gid })
}

/// A render node: the part of a graphics card that computes, without the screens.
fn device(text: &str) -> Result<(), Complaint> {
    const HELP: &str = "write `/dev/dri/renderD128`, or what `ls /dev/dri` shows on the node";
    let complain = |message: String| Err(Complaint { message, help: HELP.to_owned() });
    let Some(name) = text.strip_prefix("/dev/dri/") else {
        return complain(format!("`{text}` is not a graphics card's node below `/dev/dri`"));
    };
    if name.starts_with("card") {
        return complain(format!("`{text}` drives the node's screens; transcoding needs the render node"));
    }
    let number =
        name.strip_prefix("renderD").filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    match number.and_then(|number| number.parse::<u32>().ok()) {
        // The kernel numbers the render nodes of 64 cards from 128 on.
        Some(128..=191) => Ok(()),
        _ => complain(format!("`{text}` is not a render node")),
    }
}
