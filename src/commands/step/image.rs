//! The step that makes an image of finished layers.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::Workspace;
use super::order::ImageOrder;
use crate::apt::lockfile::Lock;
use crate::commands::session::{Options, Session};
use crate::commands::{CommandError, build};
use crate::plan::Plan;
use crate::progress::{Event, Reporter};
use crate::store::{Kind, Store};

pub(super) fn make(
    order: ImageOrder,
    out: &Path,
    options: &Options,
    reporter: &dyn Reporter,
    cancel: &AtomicBool,
) -> Result<String, CommandError> {
    let ImageOrder { image, project, lock, layers, tarballs } = order;
    let workspace = Workspace::new()?;
    workspace.give_layers(&layers)?;
    for (sha256, path) in &tarballs {
        workspace.give(Kind::Tarball, sha256, path)?;
    }
    let options = Options {
        root: project,
        results: out.to_owned(),
        store: workspace.store.root().to_owned(),
        ..options.clone()
    };
    let session = Session::open_part(options, reporter, cancel)?;
    session.select(std::slice::from_ref(&image))?;
    // Once more from text, for all that makes a lock a good one.
    let lock = Lock::parse(&lock.tidy().to_text())
        .map_err(|source| CommandError::LockFile { path: "the order's lock".to_owned(), source })?;
    let plan = session.plan(&image, &lock)?;
    all_given(&plan, &workspace.store)?;
    let built = build::build_once(&session, &plan);
    for damage in session.store.take_damaged() {
        reporter.report(Event::Warning(format!("{image}: {damage}")));
    }
    let built = built?;
    drop(workspace.directory);
    Ok(format!("image `{image}` with SHA-256 {}", built.sha256))
}

/// A step makes no layer and fetches nothing, so all that the plan needs has to be here.
fn all_given(plan: &Plan, store: &Store) -> Result<(), CommandError> {
    let image = &plan.evaluated.image.name;
    for stage in &plan.stages {
        if !store.contains(Kind::Layer, stage.key) {
            return Err(CommandError::Failed(format!(
                "{image}: it needs the layer {} of {}, and was given none with this key; order and program do not fit \
                 together",
                stage.key,
                stage.recipes.join(" + ")
            )));
        }
    }
    for row in &plan.tarballs {
        if !store.contains(Kind::Tarball, row.sha256) {
            let (name, hash) = (&row.name, row.sha256);
            return Err(CommandError::Failed(format!(
                "{image}: it was not given the tarball `{name}`, {hash}"
            )));
        }
    }
    Ok(())
}
