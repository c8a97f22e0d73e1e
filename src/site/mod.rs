//! The site's own files: what node, reverse proxy, router, name server and fail2ban need so that the containers work.
//!
//! Pure: a checked project in, paths and texts out. They need the model alone, neither a lock nor a built image, and hold
//! nothing that anybody has to fill in. `result/site/` is their place ([`crate::artifact::SiteDirectory`]).

mod backup;
mod dns;
mod documents;
mod fail2ban;
mod firewall;
mod quote;
mod storage;
mod traefik;
mod verify;
mod view;

pub use storage::{HostDirectory, directories};

use crate::model::Project;
use view::View;

/// What the node adds to the ids of an unprivileged container (`pve-container`, `LXC.pm`: the map `0 100000 65536`).
pub const SHIFT: u32 = 100_000;

/// How many ids an unprivileged container has.
pub const IDS: u32 = 65_536;

/// One of the site's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteFile {
    /// Path below `result/site/`.
    pub path: String,
    /// What it holds.
    pub contents: String,
    /// Whether it is a program.
    pub executable: bool,
}

impl SiteFile {
    fn text(path: impl Into<String>, contents: String) -> Self {
        Self { path: path.into(), contents, executable: false }
    }

    fn script(path: impl Into<String>, contents: String) -> Self {
        Self { path: path.into(), contents, executable: true }
    }
}

/// The site's files for `images` of `project`, in the order of their paths. Names that are not in the project are left out.
pub fn files(project: &Project, images: &[String]) -> Vec<SiteFile> {
    let view = View::new(project, images);
    let mut files = vec![
        SiteFile::script("storage.sh", storage::script(&view)),
        SiteFile::script("verify.sh", verify::script(&view)),
        SiteFile::script("backup.sh", backup::script(&view)),
        SiteFile::text("backup.list", backup::list(&view)),
        SiteFile::text("traefik/build-images.yml", traefik::dynamic(&view)),
        SiteFile::text("dns/zone.txt", dns::zone(&view)),
        SiteFile::text("dns/loopia.yml", dns::loopia(&view)),
        SiteFile::text("firewall/port-forward.nft", firewall::port_forward(&view)),
        SiteFile::text("QUICKSTART.md", documents::quickstart(&view)),
        SiteFile::text("DEPLOYMENT.md", documents::deployment(&view)),
    ];
    files.extend(firewall::containers(&view));
    files.extend(fail2ban::files(&view));
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}

/// The first lines of a file whose comments begin with `mark`.
fn heading(mark: &str, lines: &[&str]) -> String {
    let made = "Made by build-images from images/ and recipes/. Not to be edited: it is written anew.";
    lines.iter().chain(&[made]).map(|line| format!("{mark} {line}\n")).collect()
}
