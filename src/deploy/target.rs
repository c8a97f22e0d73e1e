//! What is deployed: an image of the project together with its artifact.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::archive::FrameInfo;
use crate::artifact::Manifest;
use crate::digest::Sha256;
use crate::model::image::{Address, NeededSpace, Owner};
use crate::model::probe::Service;
use crate::model::recipe::{Recipe, Secret};
use crate::model::{Image, Project};

/// Everything that a deployment has to know of one image.
#[derive(Debug, Clone)]
pub struct Target {
    /// The image.
    pub image: String,
    /// Proxmox's id of the container.
    pub vmid: u32,
    /// Storage for the root file system.
    pub storage: String,
    /// Its bridge.
    pub bridge: String,
    /// Its address, when it has a fixed one.
    pub address: Option<Ipv4Addr>,
    /// The name it is reached under.
    pub domain: String,
    /// The reverse proxy.
    pub proxy: Ipv4Addr,
    /// What Proxmox shows beside it.
    pub description: String,
    /// Size of the root file system in KiB.
    pub disk: u64,
    /// Release that the node has to run at least.
    pub release: (u32, u32),
    /// Directories of the node that it mounts.
    pub sources: Vec<Source>,
    /// Device of the node that it gets.
    pub device: Option<String>,
    /// Its state.
    pub states: Vec<StateDirectory>,
    /// Space that has to be free.
    pub space: Vec<NeededSpace>,
    /// What it offers, and how to tell that it works.
    pub services: Vec<Service>,
    /// Secrets that it takes.
    pub secrets: Vec<Secret>,
    /// Its artifact; nothing where none is needed.
    pub artifact: Option<Artifact>,
}

/// A directory of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its path.
    pub path: String,
    /// Where the container sees it.
    pub target: String,
    /// Owner, group and permission bits on the node, as `storage.sh` gives them.
    pub owner: Option<Owner>,
    /// Whether the container can only read it.
    pub read_only: bool,
}

/// State of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDirectory {
    /// The directory of the node.
    pub source: String,
    /// Where the container sees it.
    pub target: String,
    /// Where its migrations go one way: the file on the node that has the version that last wrote it, and the version
    /// that this image brings.
    pub mark: Option<(String, String)>,
}

/// What is uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Where it is here.
    pub path: PathBuf,
    /// Its file's name.
    pub file: String,
    /// Hash of the file.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub size: u64,
    /// Size of the tar inside.
    pub tar_size: u64,
    /// Its frames.
    pub frames: Vec<FrameInfo>,
}

impl Artifact {
    /// Name of its directory on the node.
    pub fn id(&self) -> String {
        self.sha256.to_string().chars().take(16).collect()
    }
}

impl Target {
    /// The image `image` of `project`; with the artifact in `directory` that `manifest` describes, if there is one.
    pub fn new(project: &Project, image: &Image, artifact: Option<(&Manifest, PathBuf)>) -> Self {
        let recipes: Vec<&Recipe> =
            image.recipes.iter().filter_map(|name| project.recipes.get(name)).collect();
        let brings = |package: &str| {
            let packages = artifact.iter().flat_map(|(manifest, _)| &manifest.packages);
            packages.into_iter().find(|found| found.name == package).map(|found| found.version.clone())
        };
        // Of all images: one may mount what lies in another's directory.
        let all: Vec<_> = project.images.keys().cloned().collect();
        let directories = crate::site::directories(project, &all);
        let (mut sources, mut states) = (Vec::new(), Vec::new());
        for mount in &image.mounts {
            let state = mount.state.as_ref().and_then(|path| {
                recipes.iter().flat_map(|recipe| &recipe.state).find(|state| state.path == *path)
            });
            if let Some(state) = state {
                let mark = state.migrates.as_ref().map(|migrates| {
                    let file = format!("{}/{}", mount.source, migrates.file);
                    (file, brings(&migrates.package).unwrap_or_default())
                });
                states.push(StateDirectory {
                    source: mount.source.clone(),
                    target: mount.target.to_string(),
                    mark,
                });
            }
            sources.push(Source {
                path: mount.source.clone(),
                target: mount.target.to_string(),
                owner: directories
                    .iter()
                    .find(|known| known.path == mount.source)
                    .and_then(|known| known.owner),
                read_only: mount.read_only,
            });
        }
        let container = &image.container;
        let site = &project.site;
        Self {
            image: image.name.clone(),
            vmid: container.vmid,
            storage: site.node.storage.clone(),
            bridge: site.network.bridge.clone(),
            address: match container.address {
                Address::Static { address, .. } => Some(address),
                Address::Dhcp => None,
            },
            domain: container.domain.clone(),
            proxy: site.network.proxy,
            description: crate::pve::config_for(image, site).description,
            disk: container.disk << 20,
            release: site.node.release,
            sources,
            device: container.gpu.as_ref().map(|gpu| gpu.device.clone()),
            states,
            space: image.space.clone(),
            services: recipes.iter().filter_map(|recipe| recipe.service.clone()).collect(),
            secrets: recipes.iter().flat_map(|recipe| recipe.secrets.clone()).collect(),
            artifact: artifact.map(|(manifest, directory)| Artifact {
                path: directory.join(&manifest.archive.file),
                file: manifest.archive.file.clone(),
                sha256: manifest.archive.sha256,
                size: manifest.archive.size,
                tar_size: manifest.tar.size,
                frames: manifest.frames.iter().map(|entry| entry.frame.clone()).collect(),
            }),
        }
    }

    /// Directory of this container on the node.
    pub fn home(&self) -> String {
        format!("{}/{}", super::facts::ROOT, self.vmid)
    }

    /// Where its secrets are on the node while they are handed over: in memory, and gone afterwards.
    pub fn secrets_directory(&self) -> String {
        format!("/run/build-images/{}", self.vmid)
    }
}
