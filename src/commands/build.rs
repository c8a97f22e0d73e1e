//! `build`: from a plan to `result/<image>/`.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::CommandError;
use super::layers::note;
use super::lock::{ensure, fetcher};
use super::session::Session;
use crate::archive;
use crate::artifact::{self, FileEntry, FrameEntry, Manifest, PackageEntry, ResultDirectory, sbom};
use crate::build::contents::NewContents;
use crate::build::secrets::{self, CleanContents};
use crate::build::{compose, finish, stage};
use crate::digest::Sha256;
use crate::layer::{Layer, LayerError};
use crate::plan::{Plan, Stage, digest_json};
use crate::progress::Event;
use crate::sandbox::IdRange;
use crate::store::Context as _;
use crate::tree::{Tree, TreePath};

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

/// Builds `images`, all when none is named; locks first what is not locked.
///
/// One image's failure does not stop the others: each has its own result.
///
/// # Errors
/// What concerns all images: the project, the lock.
pub fn build(session: &Session, images: &[String]) -> Result<Vec<Outcome>, CommandError> {
    let names = session.select(images)?;
    let _used = session.store.use_objects()?;
    let lock = ensure(session)?;
    let mut built = Vec::new();
    for name in names {
        if session.check_cancelled().is_err() {
            built.push((name, Err(CommandError::Interrupted)));
            continue;
        }
        let outcome = session.plan(&name, &lock).and_then(|plan| build_one(session, &plan));
        built.push((name, outcome));
    }
    Ok(built)
}

pub(super) fn build_one(session: &Session, plan: &Plan) -> Result<Built, CommandError> {
    let begun = Instant::now();
    let image = &plan.evaluated.image.name;
    let result = ResultDirectory::new(&session.options.results, image);
    if let Some(manifest) = result.current(plan.key, &session.store) {
        return Ok(report(&result, &manifest, Done::Unchanged, begun));
    }
    // A place that cannot be written is said before hours of work, not after them.
    let made = result.begin()?;
    let mut layers_built = 0;
    let mut top = None;
    for stage in &plan.stages {
        let (layer, fresh) = layer(session, plan, stage)?;
        note(session, stage)?;
        layers_built += usize::from(fresh);
        top = Some(layer);
    }
    let top = top.ok_or_else(|| CommandError::Failed(format!("image `{image}` installs no packages")))?;
    let (tree, contents) = compose_all(session, plan, &top)?;
    let (manifest, summary) = write(session, plan, (&result, made), &tree, &contents)?;
    let done = Done::Built {
        layers_built,
        layers_reused: plan.stages.len() - layers_built,
        frames_compressed: summary.compressed,
        frames_reused: summary.keys.len() - summary.compressed,
    };
    Ok(report(&result, &manifest, done, begun))
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

/// The layer of `stage` from the store, or built; and whether it was built.
fn layer(session: &Session, plan: &Plan, stage: &Stage) -> Result<(Layer, bool), CommandError> {
    let image = &plan.evaluated.image.name;
    match Layer::open(&session.store, stage.key) {
        Ok(layer) => return Ok((layer, false)),
        Err(LayerError::Missing(_)) => {}
        Err(error) => {
            session.reporter.report(Event::Warning(format!("{error}; it is built again")));
            let path = session.store.path(crate::store::Kind::Layer, stage.key);
            fs::remove_dir_all(&path).context("remove", &path)?;
        }
    }
    session.check_cancelled()?;
    let failed = |doing: &str, error: &dyn std::error::Error| {
        CommandError::failed(&format!("{image}: {doing}"), error)
    };
    let range = IdRange::discover().map_err(|error| failed("cannot build in a sandbox", &error))?;
    // A recipe is often named like its image.
    let subject = match stage.recipes.last().filter(|recipe| *recipe != image) {
        Some(recipe) => format!("{image}, {recipe}"),
        None => image.clone(),
    };
    let packages: Vec<_> = stage.packages.iter().collect();
    let fetched = fetcher(session)?.fetch_debs(&subject, &packages, &plan.archives);
    session.check_cancelled()?;
    fetched.map_err(|error| failed("cannot fetch its packages", &error))?;
    if let Some(scratch) = &session.options.scratch {
        fs::create_dir_all(scratch).context("make the directory", scratch)?;
    }
    let work = stage::Stage {
        job: &stage.job,
        subject: &subject,
        limits: &session.options.limits,
        executable: &session.options.program,
        range: &range,
        scratch: session.options.scratch.as_deref(),
        cancel: session.cancel,
    };
    let layer = stage::build(&work, &session.store, session.reporter);
    session.check_cancelled()?;
    Ok((layer.map_err(|error| failed("cannot build its packages", &error))?, true))
}

/// The recipes applied to the packages' tree, finished for Proxmox and searched for secrets.
fn compose_all<'a>(
    session: &Session,
    plan: &Plan,
    top: &'a Layer,
) -> Result<(Tree, NewContents<'a>), CommandError> {
    let Plan { evaluated, epoch, .. } = plan;
    let image = &evaluated.image.name;
    let failed = |doing: &str, error: &dyn std::error::Error| {
        CommandError::failed(&format!("{image}: {doing}"), error)
    };
    let mut contents = NewContents::over(top);
    let mut tree = top.tree.clone();
    for recipe in &evaluated.recipes {
        tree = compose::apply(tree, &mut contents, recipe, *epoch)
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
    search_secrets(session, image, &tree, &contents, top)?;
    Ok((tree, contents))
}

/// Fails when a file of the image holds a secret. Contents of the layers are searched once.
fn search_secrets(
    session: &Session,
    image: &str,
    tree: &Tree,
    contents: &NewContents<'_>,
    top: &Layer,
) -> Result<(), CommandError> {
    let known = CleanContents::of(&session.store, top.key);
    let report = secrets::scan(tree, contents, &known.read());
    let report = report
        .map_err(|error| CommandError::failed(&format!("{image}: cannot search for secrets"), &error))?;
    if !report.findings.is_empty() {
        let lines: Vec<_> = report.findings.iter().map(|found| format!("  {found}")).collect();
        return Err(CommandError::Failed(format!(
            "{image}: it would hold secrets; they belong into its state, at deployment\n{}",
            lines.join("\n")
        )));
    }
    Ok(known.keep(&report.clean)?)
}

/// Writes the artifact's files and puts them in place of what was there.
fn write(
    session: &Session,
    plan: &Plan,
    (result, made): (&ResultDirectory, tempfile::TempDir),
    tree: &Tree,
    contents: &NewContents<'_>,
) -> Result<(Manifest, archive::Summary), CommandError> {
    let image = &plan.evaluated.image;
    let vmid = image.container.vmid;
    let name = format!("vzdump-lxc-{vmid}-{}.tar.zst", plan.lock_time.strftime("%Y_%m_%d-%H_%M_%S"));
    let path = made.path().join(&name);
    let failed = |error: &dyn std::error::Error| {
        CommandError::failed(&format!("{}: cannot write its archive", image.name), error)
    };
    let configuration = TreePath::new("etc/vzdump/pct.conf").map_err(|error| failed(&error))?;
    let head = [archive::Head { path: configuration, bytes: plan.config.clone().into_bytes() }];
    let source = archive::Source { tree, contents, head: &head, mtime: plan.epoch };
    let file = File::create(&path).context("make", &path)?;
    let summary = archive::write(
        &source,
        &session.store,
        &plan.parameters,
        session.options.jobs,
        (&image.name, session.reporter),
        file,
    );
    let summary = summary.map_err(|error| failed(&error))?;
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
        lock: digest_json(&(&packages, &plan.archives)),
        locked_at: plan.lock_time.to_string(),
        config: entry(format!("{vmid}.conf"), &plan.config)?,
        space: image.space.clone(),
        sbom: entry("sbom.spdx.json".to_owned(), &sbom(plan))?,
        archive: FileEntry { file: name, size: summary.size, sha256: summary.sha256 },
        tar: FileEntry {
            file: String::new(),
            size: summary.table.tar_size,
            sha256: summary.table.tar_sha256,
        },
        layers: plan.stages.iter().map(|stage| stage.key).collect(),
        packages: packages
            .iter()
            .map(|package| PackageEntry {
                name: package.name.clone(),
                version: package.version.clone(),
                architecture: package.architecture.clone(),
                sha256: package.sha256,
            })
            .collect(),
        frames: frames(&summary),
    };
    session.check_cancelled()?;
    result.commit(made, &manifest, &session.store)?;
    Ok((manifest, summary))
}

/// The frame table with the names under which the store keeps the frames; the end frame has none.
fn frames(summary: &archive::Summary) -> Vec<FrameEntry> {
    let keys = summary.keys.iter().map(|key| Some(*key)).chain(std::iter::repeat(None));
    let frames = summary.table.frames.iter().zip(keys);
    frames.map(|(frame, key)| FrameEntry { key, frame: frame.clone() }).collect()
}
