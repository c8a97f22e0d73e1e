//! A project as its site sees it: containers with what they offer.

use std::net::Ipv4Addr;

use crate::model::image::Address;
use crate::model::offer::{Failures, Port};
use crate::model::probe::Service;
use crate::model::{Image, Project, Recipe, Site};

/// The site and its containers.
pub struct View<'a> {
    /// The site.
    pub site: &'a Site,
    /// Containers, by name.
    pub containers: Vec<Container<'a>>,
}

/// One container.
pub struct Container<'a> {
    /// The image.
    pub image: &'a Image,
    /// Its recipes in order.
    pub recipes: Vec<&'a Recipe>,
}

/// A web interface with a name of its own.
#[derive(Clone, Copy)]
pub struct Web<'a> {
    /// The recipe that brings it.
    pub recipe: &'a Recipe,
    /// What it is.
    pub service: &'a Service,
}

impl<'a> View<'a> {
    /// Looks at `images` of `project`.
    pub fn new(project: &'a Project, images: &[String]) -> Self {
        let images = project.images.values().filter(|image| images.contains(&image.name));
        let containers = images.map(|image| Container {
            image,
            recipes: image.recipes.iter().filter_map(|name| project.recipes.get(name)).collect(),
        });
        Self { site: &project.site, containers: containers.collect() }
    }

    /// Containers with a web interface and an address that is known.
    pub fn offered(&self) -> impl Iterator<Item = (&Container<'a>, Web<'a>, Ipv4Addr)> {
        self.containers
            .iter()
            .filter_map(|container| Some((container, container.web()?, container.address()?)))
    }
}

impl<'a> Container<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.image.name
    }

    /// Its address, unless a DHCP server chooses one.
    pub fn address(&self) -> Option<Ipv4Addr> {
        match self.image.container.address {
            Address::Static { address, .. } => Some(address),
            Address::Dhcp => None,
        }
    }

    /// What its domain stands for: the last recipe's web interface, as its description is the image's.
    pub fn web(&self) -> Option<Web<'a>> {
        let services = self.recipes.iter().rev();
        services.filter_map(|recipe| Some(Web { recipe, service: recipe.service.as_ref()? })).next()
    }

    /// Ports beside the web interface, of all recipes.
    pub fn ports(&self) -> impl Iterator<Item = &'a Port> {
        self.recipes.iter().flat_map(|recipe| &recipe.ports)
    }

    /// Every web interface, also those without a name.
    pub fn webs(&self) -> impl Iterator<Item = Web<'a>> {
        self.recipes.iter().filter_map(|recipe| Some(Web { recipe, service: recipe.service.as_ref()? }))
    }

    /// Where a path of the container is on the node, when it is on a mount.
    pub fn on_node(&self, path: &str) -> Option<String> {
        self.image.mounts.iter().find_map(|mount| {
            let rest = path.strip_prefix(&mount.target.to_string())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{}{rest}", mount.source))
        })
    }
}

impl<'a> Web<'a> {
    /// Where failures to log in are told.
    pub fn failures(&self) -> Option<&'a Failures> {
        self.service.login.as_ref()?.failures.as_ref()
    }
}

/// Networks as a list with commas.
pub fn networks(networks: &[(Ipv4Addr, u8)]) -> String {
    let texts: Vec<_> = networks.iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect();
    texts.join(",")
}
