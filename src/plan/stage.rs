//! From a locked image to the stages that build it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Requests, digest_json};
use crate::apt::lockfile::{Lock, LockedArchive, LockedPackage, LockedTarball, Reason};
use crate::archive::Parameters;
use crate::build::stage::{StageJob, StagePackage};
use crate::digest::Sha256;
use crate::model::{Evaluated, Project, RenderedFile};
use crate::tree::TreePath;

/// Version of what this program does with the same inputs. Any change that changes bytes raises it.
const BUILD_FORMAT: u32 = 4;

/// An image, fully evaluated.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The image and its recipes, templates rendered.
    pub evaluated: Evaluated,
    /// Package stages, the lowest first.
    pub stages: Vec<Stage>,
    /// The archives its packages come from.
    pub archives: Vec<LockedArchive>,
    /// The tarballs that its recipes unpack, in their order.
    pub tarballs: Vec<LockedTarball>,
    /// Time that stands for "now" inside the image, in seconds since 1970: the date of the base release's first
    /// suite, so that it does not move with every security update.
    pub epoch: i64,
    /// The newest date of the archives it was locked from; names the archive file.
    pub lock_time: Timestamp,
    /// The container's configuration as Proxmox writes it.
    pub config: String,
    /// How the archive is compressed.
    pub parameters: Parameters,
    /// The hash of all of the above.
    pub key: Sha256,
}

/// The packages that one prefix of the recipes adds, built in the sandbox into one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// The recipes of the prefix.
    pub recipes: Vec<String>,
    /// Where its packages come from, in the job's order.
    pub packages: Vec<LockedPackage>,
    /// What decides the layer's bytes.
    pub job: StageJob,
    /// The layer's key: the hash of the job.
    pub key: Sha256,
}

/// The lock does not answer what the image asks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A list of recipes has no locked set, or a stale one.
    #[error("the lock does not match the recipes of image `{image}`: {stale}")]
    Stale {
        /// The image.
        image: String,
        /// What is missing or different.
        stale: super::Stale,
    },
    /// A date of the lock is no time.
    #[error("the lock has `{0}` as a date")]
    Date(String),
    /// The base recipe brings no archive.
    #[error("image `{0}` has no archive to take packages from")]
    NoArchive(String),
}

/// Evaluates an image against `lock`, of which `stale` says what no longer answers `requests`.
///
/// # Errors
/// See [`PlanError`].
pub fn plan(
    project: &Project,
    requests: &Requests,
    (lock, stale): (&Lock, &[super::Stale]),
    evaluated: Evaluated,
    config: String,
    parameters: Parameters,
) -> Result<Plan, PlanError> {
    let image = &evaluated.image;
    let (epoch, lock_time) = times(project, image, lock)?;
    let mut stages: Vec<Stage> = Vec::new();
    let (mut groups, mut users) = (Vec::new(), Vec::new());
    for (index, name) in image.recipes.iter().enumerate() {
        if let Some(recipe) = project.recipes.get(name) {
            groups.extend(recipe.groups.iter().cloned());
            users.extend(recipe.users.iter().cloned());
        }
        let recipes = &image.recipes[..=index];
        let Some(request) = requests.sets.iter().find(|set| set.recipes == recipes) else { continue };
        if let Some(stale) = stale.iter().find(|stale| concerns(stale, request)) {
            return Err(PlanError::Stale { image: image.name.clone(), stale: stale.clone() });
        }
        // `concerns` has refused a missing set.
        let Some(set) = lock.set(recipes) else { continue };
        if set.alone {
            // Nothing of the layers below fits: everything is built at once, with all accounts so far.
            stages.clear();
            let below = || recipes.iter().filter_map(|name| project.recipes.get(name));
            groups = below().flat_map(|recipe| recipe.groups.iter().cloned()).collect();
            users = below().flat_map(|recipe| recipe.users.iter().cloned()).collect();
        }
        let packages: Vec<_> =
            set.packages.iter().filter_map(|member| lock.package(member)).cloned().collect();
        let requested = set.packages.iter().filter(|member| member.reason <= Reason::Required);
        let job = StageJob {
            packages: packages.iter().map(stage_package).collect(),
            parent: stages.last().map(|stage| stage.key),
            users: std::mem::take(&mut users),
            groups: std::mem::take(&mut groups),
            requested: requested.map(|member| member.name.clone()).collect(),
            epoch,
        };
        stages.push(Stage { recipes: recipes.to_vec(), packages, key: job.key(), job });
    }
    let used = project.recipes.iter().filter(|(name, _)| evaluated.image.recipes.contains(name));
    let archives = used.flat_map(|(_, recipe)| recipe.archives.keys());
    let archives = archives.filter_map(|name| lock.archive(name)).cloned().collect();
    let mut tarballs = Vec::new();
    for recipe in &evaluated.recipes {
        for tarball in &recipe.recipe.tarballs {
            let concerned = |stale: &&super::Stale| match stale {
                super::Stale::NewTarball(name) | super::Stale::ChangedTarball(name) => *name == tarball.name,
                _ => false,
            };
            if let Some(stale) = stale.iter().find(concerned) {
                return Err(PlanError::Stale { image: image.name.clone(), stale: stale.clone() });
            }
            tarballs.extend(lock.tarball(&tarball.name).cloned());
        }
    }
    let key = Sha256::of("");
    let mut plan = Plan { evaluated, stages, archives, tarballs, epoch, lock_time, config, parameters, key };
    plan.key = plan_key(&plan);
    Ok(plan)
}

impl Plan {
    /// The number of the layer that brings each package, counted from the lowest.
    pub fn layer_of_packages(&self) -> BTreeMap<String, usize> {
        let layers = self.stages.iter().enumerate();
        layers
            .flat_map(|(index, stage)| {
                stage.packages.iter().map(move |package| (package.name.clone(), index))
            })
            .collect()
    }
}

fn concerns(stale: &super::Stale, request: &super::SetRequest) -> bool {
    use super::Stale;
    match stale {
        Stale::NewArchive(name) | Stale::ChangedArchive(name) => request.archives.contains_key(name),
        Stale::NewSet(recipes) | Stale::ChangedSet { recipes, .. } | Stale::Unresolved(recipes) => {
            *recipes == request.recipes
        }
        Stale::NewTarball(_) | Stale::ChangedTarball(_) => false,
        Stale::UnusedSet(_) | Stale::UnusedTarball(_) => false,
    }
}

fn stage_package(package: &LockedPackage) -> StagePackage {
    let LockedPackage { name, version, architecture, size, sha256, .. } = package.clone();
    StagePackage { name, version, architecture, sha256, size }
}

fn plan_key(plan: &Plan) -> Sha256 {
    let stages: Vec<_> = plan.stages.iter().map(|stage| stage.key).collect();
    // What a recipe says of its tarballs, hash included, is part of the recipe.
    let Plan { evaluated, stages: _, archives: _, tarballs: _, epoch, lock_time, config, parameters, key: _ } =
        plan;
    let Evaluated { image, recipes, site } = evaluated;
    let files: Vec<_> = recipes.iter().flat_map(|recipe| &recipe.files).map(file_key).collect();
    let recipes: Vec<_> = recipes.iter().map(|recipe| &recipe.recipe).collect();
    // Of the site, what templates and the configuration do not show already.
    let site = (&site.domain, &site.timezone, &site.network.nameservers);
    let times = (epoch, lock_time.as_second());
    digest_json(&(BUILD_FORMAT, stages, image, recipes, files, site, times, config, parameters))
}

fn file_key(file: &RenderedFile) -> (&TreePath, &str, &str, u32, Sha256) {
    (&file.path, &file.owner, &file.group, file.mode, Sha256::of(&file.bytes))
}

fn times(project: &Project, image: &crate::model::Image, lock: &Lock) -> Result<(i64, Timestamp), PlanError> {
    let recipes = image.recipes.iter().filter_map(|name| project.recipes.get(name));
    let names: Vec<_> = recipes.flat_map(|recipe| recipe.archives.keys()).collect();
    let archives = names.iter().filter_map(|name| lock.archive(name));
    let date = |text: &str| text.parse::<Timestamp>().map_err(|_| PlanError::Date(text.to_owned()));
    let dates: Vec<Timestamp> = archives
        .flat_map(|archive| &archive.suite)
        .map(|suite| date(&suite.date))
        .collect::<Result<_, _>>()?;
    // The base recipe's own archives come first; the suite named like its release dates the base.
    let base = image.recipes.first().and_then(|name| project.recipes.get(name));
    let release = base.and_then(|recipe| recipe.release.clone()).unwrap_or_default();
    let suites = names.iter().filter_map(|name| lock.archive(name)).flat_map(|archive| &archive.suite);
    let first = suites.into_iter().find(|suite| suite.name == release).map(|suite| date(&suite.date));
    let missing = || PlanError::NoArchive(image.name.clone());
    let newest = dates.iter().max().copied().ok_or_else(missing)?;
    let epoch = first.transpose()?.unwrap_or(newest);
    Ok((epoch.as_second(), newest))
}
