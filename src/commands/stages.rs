//! The package layers of a plan: from the store, or built by one worker.

use std::fs;

use super::CommandError;
use super::layers::note;
use super::lock::fetcher;
use super::session::Session;
use crate::apt::Present;
use crate::build::stage::{self, Foreseen, News};
use crate::layer::{Layer, LayerError};
use crate::plan::{Plan, Stage};
use crate::sandbox::IdRange;
use crate::store::Context as _;

/// The layers of a plan.
pub(super) struct Layers {
    /// The topmost, with those below it.
    pub top: Layer,
    /// How many were built.
    pub built: usize,
    /// The worker that built them.
    pub leaving: stage::Leaving,
}

/// Finds or makes all layers of `plan`. `on_foreseen` gets each layer that is made before its last scripts run.
///
/// # Errors
/// When packages cannot be fetched or a layer cannot be built.
pub(super) fn make(
    session: &Session,
    plan: &Plan,
    on_foreseen: &dyn Fn(Foreseen),
) -> Result<Layers, CommandError> {
    let image = &plan.evaluated.image.name;
    let failed = |doing: &str, error: &dyn std::error::Error| {
        CommandError::failed(&format!("{image}: {doing}"), error)
    };
    let last = plan.stages.last();
    let last = last.ok_or_else(|| CommandError::Failed(format!("image `{image}` installs no packages")))?;
    let open = |stage: &Stage| match Layer::open(&session.store, stage.key) {
        Ok(layer) => Ok(Some(layer)),
        Err(LayerError::Missing(_)) => Ok(None),
        Err(error) => Err(failed("cannot use a layer", &error)),
    };
    if let Some(top) = open(last)? {
        plan.stages.iter().try_for_each(|stage| note(session, stage))?;
        return Ok(Layers { top, built: 0, leaving: stage::Leaving::default() });
    }
    let mut missing = Vec::new();
    for (index, stage) in plan.stages.iter().enumerate() {
        match open(stage)? {
            Some(_) => note(session, stage)?,
            None => missing.push((index, stage)),
        }
    }
    let leaving = build(session, plan, &missing, on_foreseen)?;
    let gone = || CommandError::Failed(format!("{image}: a layer that was just made is gone from the store"));
    Ok(Layers { top: open(last)?.ok_or_else(gone)?, built: missing.len(), leaving })
}

/// Builds `missing`, the lowest first; each with its number.
fn build(
    session: &Session,
    plan: &Plan,
    missing: &[(usize, &Stage)],
    on_foreseen: &dyn Fn(Foreseen),
) -> Result<stage::Leaving, CommandError> {
    let image = &plan.evaluated.image.name;
    let failed = |doing: &str, error: &dyn std::error::Error| {
        CommandError::failed(&format!("{image}: {doing}"), error)
    };
    session.check_cancelled()?;
    let range = IdRange::discover().map_err(|error| failed("cannot build in a sandbox", &error))?;
    let subjects: Vec<_> = missing.iter().map(|(_, stage)| subject(image, stage)).collect();
    for ((_, stage), subject) in missing.iter().zip(&subjects) {
        let packages: Vec<_> = stage.packages.iter().collect();
        // The worker compares them with the lock, just before it unpacks them.
        let fetched = fetcher(session)?.fetch_debs(subject, &packages, Present::Taken, &plan.archives);
        session.check_cancelled()?;
        fetched.map_err(|error| failed("cannot fetch its packages", &error))?;
    }
    if let Some(scratch) = &session.options.scratch {
        fs::create_dir_all(scratch).context("make the directory", scratch)?;
    }
    let works: Vec<_> = missing
        .iter()
        .zip(&subjects)
        .map(|((_, stage), subject)| stage::Stage {
            job: &stage.job,
            subject,
            limits: &session.options.limits,
            executable: &session.options.program,
            range: &range,
            scratch: session.options.scratch.as_deref(),
            cancel: session.cancel,
        })
        .collect();
    let mut noted = Ok(());
    let mut on_news = |news: News| match news {
        News::Foreseen(foreseen) => on_foreseen(foreseen),
        News::Made(place) => {
            let result = note(session, missing[place].1);
            if noted.is_ok() {
                noted = result;
            }
        }
    };
    let built = stage::build_all(&works, &session.store, session.reporter, &mut on_news);
    session.check_cancelled()?;
    let leaving = built.map_err(|error| failed("cannot build its packages", &error))?;
    noted.map(|()| leaving)
}

/// How events name a stage. A recipe is often named like its image.
fn subject(image: &str, stage: &Stage) -> String {
    match stage.recipes.last().filter(|recipe| *recipe != image) {
        Some(recipe) => format!("{image}, {recipe}"),
        None => image.to_owned(),
    }
}
