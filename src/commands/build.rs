//! `build`: from a plan to `result/<image>/`.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde::Serialize;

use super::CommandError;
use super::ahead::Ahead;
use super::lock::lock_for;
use super::search::Search;
use super::session::Session;
use super::{mend, missing, stages, tarballs};
use crate::apt::lockfile::{Lock, LockedPackage};
use crate::archive;
use crate::artifact::{
    self, FileEntry, FrameEntry, Manifest, PackageEntry, ResultDirectory, TarballEntry, sbom,
};
use crate::build::contents::NewContents;
use crate::build::secrets::Searched;
use crate::build::tarball::Base;
use crate::build::{compose, finish};
use crate::digest::Sha256;
use crate::plan::{Plan, digest_json};
use crate::progress::Event;
use crate::store::{Context as _, Kind, TemporaryDirectory};
use crate::tree::{Tree, TreePath, TreePathError};

/// What became of one image.
#[derive(Debug, Serialize)]
pub struct Built {
    /// The image.
    pub image: String,
    /// What was done.
    #[serde(flatten)]
    pub done: Done,
    /// The archive.
    pub archive: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// What it hashes to.
    pub sha256: Sha256,
    /// Number of packages inside.
    pub packages: usize,
    /// Time it took.
    #[serde(serialize_with = "seconds")]
    pub elapsed: Duration,
}

/// What was done for one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "done", rename_all = "kebab-case")]
pub enum Done {
    /// The result was there already.
    Unchanged,
    /// It was made.
    Built {
        /// Package layers that had to be built.
        layers_built: usize,
        /// Package layers that were there.
        layers_reused: usize,
        /// Frames that had to be compressed.
        frames_compressed: usize,
        /// Frames that were there.
        frames_reused: usize,
    },
}

fn seconds<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((elapsed.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// The name of an image and what became of it.
pub type Outcome = (String, Result<Built, CommandError>);

/// Builds `images`, all when none is named; locks first what is not locked. Before that it writes the site's files, of all
/// images of the project: they need none of them built.
///
/// One image's failure does not stop the others: each has its own result. So does an image whose archive cannot be had
/// and is not locked yet.
///
/// # Errors
/// What concerns all images: the project, the lock.
pub fn build(session: &Session, images: &[String]) -> Result<Vec<Outcome>, CommandError> {
    let names = session.select(images)?;
    super::site(session, &[])?;
    ResultDirectory::clear_leftovers(&session.options.results, &names);
    let used = session.store.use_objects()?;
    let wanted = (!images.is_empty()).then(|| names.iter().cloned().collect());
    let locked = lock_for(session, wanted.as_ref())?;
    used.needs(mend::packages(&locked.lock))?;
    let mut built = Vec::new();
    for (name, look) in look(session, &names, &locked.lock) {
        if session.check_cancelled().is_err() {
            built.push((name, Err(CommandError::Interrupted)));
            continue;
        }
        let look = look.map_err(|error| missing::of_image(&name, &locked.missing).unwrap_or(error));
        let outcome = look.and_then(|(needs, current)| {
            used.needs(needs)?;
            match current {
                Some(current) => Ok(current),
                None => build_one(session, &session.plan(&name, &locked.lock)?),
            }
        });
        built.push((name, outcome));
    }
    Ok(built)
}

/// What an image needs of the store, and its result when that is there already.
type Look = Result<(Vec<(Kind, String)>, Option<Built>), CommandError>;

/// Looks at many images at once: mostly there is nothing to do. Plans are made again for those that are to be built, so
/// that not all of them are in memory.
fn look(session: &Session, names: &[String], lock: &Lock) -> Vec<(String, Look)> {
    // Damage of what is to be built is found again, and told, by whoever builds it.
    let earlier = session.store.take_damaged();
    let stale = session.requests.stale(lock);
    let look = |name: &String| {
        let begun = Instant::now();
        let look = session.plan_knowing(name, lock, &stale).map(|plan| {
            let result = ResultDirectory::new(&session.options.results, name);
            let current = result.current(plan.key, &session.store);
            let current = current.map(|manifest| report(&result, &manifest, Done::Unchanged, begun));
            (mend::layers(&plan).collect(), current)
        });
        (name.clone(), look)
    };
    let looks: Vec<_> = names.par_iter().map(look).collect();
    for damage in session.store.take_damaged() {
        let current = looks.iter().find(|(name, look)| {
            let note = ResultDirectory::new(&session.options.results, name).note_path(&session.store);
            note.ends_with(&damage.name) && look.as_ref().is_ok_and(|(_, current)| current.is_some())
        });
        if let Some((name, _)) = current {
            session.reporter.report(Event::Warning(format!("{name}: {damage}; it is made again")));
        }
    }
    earlier.into_iter().for_each(|damage| session.store.found_damaged(damage));
    looks
}

/// Builds one image. What is damaged of the store is made again.
pub(super) fn build_one(session: &Session, plan: &Plan) -> Result<Built, CommandError> {
    mend::mending(session, plan, || build_once(session, plan))
}

/// As [`build_one`], but what is damaged ends it.
pub(super) fn build_once(session: &Session, plan: &Plan) -> Result<Built, CommandError> {
    let begun = Instant::now();
    let image = &plan.evaluated.image.name;
    let result = ResultDirectory::new(&session.options.results, image);
    if let Some(manifest) = result.current(plan.key, &session.store) {
        return Ok(report(&result, &manifest, Done::Unchanged, begun));
    }
    // A place that cannot be written is said before hours of work, not after them.
    let made = result.begin()?;
    let waiting = "waiting for another build of the same image";
    let _turn = session.wait_for(&format!("plan-{}", plan.key), image, waiting)?;
    // That one may have made this very result.
    if let Some(manifest) = result.current(plan.key, &session.store) {
        return Ok(report(&result, &manifest, Done::Unchanged, begun));
    }
    let name = archive_name(plan);
    let path = made.path().join(&name);
    let file = File::create(&path).context("make", &path)?;
    std::thread::scope(|scope| {
        let ahead = Ahead::new(session, plan, file);
        ahead.follow(scope, &result);
        let stages::Layers { top, built, leaving } =
            stages::make(session, plan, &|foreseen| ahead.start(scope, foreseen))?;
        let mut base = Base::new(top);
        tarballs::add(session, plan, &mut base)?;
        let (tree, contents) = compose_all(session, plan, &base)?;
        let search = Search::begin(session, plan, &base.top.tree, (&tree, &contents), ahead.clean())?;
        ahead.end();
        let (manifest, summary) = write(session, plan, (&result, made), (&ahead, search), &tree, &contents)?;
        let ahead = ahead.wait();
        let compressed_ahead = summary.keys.iter().filter(|key| ahead.contains(key)).count();
        let frames_compressed = summary.compressed + compressed_ahead;
        let done = Done::Built {
            layers_built: built,
            layers_reused: plan.stages.len() - built,
            frames_compressed,
            frames_reused: summary.keys.len() - frames_compressed,
        };
        drop(leaving);
        Ok(report(&result, &manifest, done, begun))
    })
}

fn report(result: &ResultDirectory, manifest: &Manifest, done: Done, begun: Instant) -> Built {
    Built {
        image: manifest.image.clone(),
        done,
        archive: result.path().join(&manifest.archive.file),
        size: manifest.archive.size,
        sha256: manifest.archive.sha256,
        packages: manifest.packages.len(),
        elapsed: begun.elapsed(),
    }
}

/// The recipes applied to the packages' tree, finished for Proxmox.
fn compose_all<'a>(
    session: &Session,
    plan: &Plan,
    base: &'a Base,
) -> Result<(Tree, NewContents<'a>), CommandError> {
    let Plan { evaluated, epoch, .. } = plan;
    let image = &evaluated.image.name;
    let failed = |doing: &str, error: &dyn std::error::Error| {
        CommandError::failed(&format!("{image}: {doing}"), error)
    };
    let mut contents = NewContents::over(base);
    let mut tree = base.top.tree.clone();
    for recipe in &evaluated.recipes {
        tree = compose::apply(tree, &mut contents, recipe, &base.tarballs, *epoch)
            .map_err(|error| failed("cannot apply the recipes", &error))?;
    }
    tree = compose::apply_mounts(tree, &mut contents, &evaluated.image.mounts, *epoch)
        .map_err(|error| failed("cannot make the mount points", &error))?;
    let settings = finish::Settings {
        hostname: evaluated.image.container.hostname.clone(),
        domain: evaluated.site.domain.clone(),
        nameservers: evaluated.site.network.nameservers.clone(),
        timezone: evaluated.site.timezone.clone(),
        epoch: *epoch,
    };
    tree = finish::normalise(tree, &mut contents, &settings)
        .map_err(|error| failed("the tree is not fit for a container", &error))?;
    session.check_cancelled()?;
    Ok((tree, contents))
}

/// Writes the artifact's files and puts them in place of what was there.
fn write(
    session: &Session,
    plan: &Plan,
    (result, made): (&ResultDirectory, TemporaryDirectory),
    (ahead, search): (&Ahead<'_>, Search<'_>),
    tree: &Tree,
    contents: &NewContents<'_>,
) -> Result<(Manifest, archive::Summary), CommandError> {
    let image = &plan.evaluated.image;
    let vmid = image.container.vmid;
    let failed = |error: &dyn std::error::Error| {
        CommandError::failed(&format!("{}: cannot write its archive", image.name), error)
    };
    let head = head(plan).map_err(|error| failed(&error))?;
    let layers = plan.layer_of_packages();
    let searched = Searched::new(contents, ahead.clean());
    let source =
        archive::Source { tree, contents: &searched, head: &head, mtime: plan.epoch, layers: &layers };
    let summary = archive::write_on(
        &source,
        &session.store,
        &plan.parameters,
        session.options.jobs,
        (&image.name, session.reporter),
        || ahead.draft(),
    );
    let summary = summary.map_err(|error| failed(&error))?;
    search.finish(tree, contents)?;
    let entry = |file: String, bytes: &str| -> Result<FileEntry, CommandError> {
        let path = made.path().join(&file);
        fs::write(&path, bytes).context("write", &path)?;
        Ok(FileEntry { file, size: bytes.len() as u64, sha256: Sha256::of(bytes) })
    };
    let mut packages: Vec<_> = plan.stages.iter().flat_map(|stage| &stage.packages).collect();
    packages.sort();
    let manifest = Manifest {
        format: artifact::FORMAT,
        tool: format!("build-images {}", env!("CARGO_PKG_VERSION")),
        image: image.name.clone(),
        vmid,
        plan: plan.key,
        lock: lock_digest(plan, &packages),
        locked_at: plan.lock_time.to_string(),
        config: entry(format!("{vmid}.conf"), &plan.config)?,
        space: image.space.clone(),
        sbom: entry("sbom.spdx.json".to_owned(), &sbom(plan))?,
        archive: FileEntry { file: archive_name(plan), size: summary.size, sha256: summary.sha256 },
        tar: FileEntry {
            file: String::new(),
            size: summary.table.tar_size,
            sha256: summary.table.tar_sha256,
        },
        layers: plan.stages.iter().map(|stage| stage.key).chain(tarballs::keys(plan)).collect(),
        packages: packages
            .iter()
            .map(|package| PackageEntry {
                name: package.name.clone(),
                version: package.version.clone(),
                architecture: package.architecture.clone(),
                sha256: package.sha256,
            })
            .collect(),
        tarballs: plan
            .tarballs
            .iter()
            .map(|row| TarballEntry { name: row.name.clone(), url: row.url.clone(), sha256: row.sha256 })
            .collect(),
        frames: frames(&summary),
    };
    mend::stop_if_damaged(session)?;
    session.check_cancelled()?;
    result.commit(made, &manifest, &session.store)?;
    Ok((manifest, summary))
}

/// The archive's name, as `vzdump` names its own.
fn archive_name(plan: &Plan) -> String {
    let time = plan.lock_time.strftime("%Y_%m_%d-%H_%M_%S");
    format!("vzdump-lxc-{}-{time}.tar.zst", plan.evaluated.image.container.vmid)
}

/// What goes before the tree.
pub(super) fn head(plan: &Plan) -> Result<[archive::Head; 1], TreePathError> {
    let path = TreePath::new("etc/vzdump/pct.conf")?;
    Ok([archive::Head { path, bytes: plan.config.clone().into_bytes() }])
}

/// The hash of the lock's rows that the image uses.
fn lock_digest(plan: &Plan, packages: &[&LockedPackage]) -> Sha256 {
    match plan.tarballs.as_slice() {
        [] => digest_json(&(packages, &plan.archives)),
        tarballs => digest_json(&(packages, &plan.archives, tarballs)),
    }
}

/// The frame table with the names under which the store keeps the frames; the end frame has none.
fn frames(summary: &archive::Summary) -> Vec<FrameEntry> {
    let keys = summary.keys.iter().map(|key| Some(*key)).chain(std::iter::repeat(None));
    let frames = summary.table.frames.iter().zip(keys);
    frames.map(|(frame, key)| FrameEntry { key, frame: frame.clone() }).collect()
}
