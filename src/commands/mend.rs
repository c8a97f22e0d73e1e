//! Damage of the store that a build meets: told, dropped, made again, once.
//!
//! Whoever reads an object and finds that it is not as it was written notes that in the store ([`Damage`]). Of a frame, a
//! list or a note the reader then makes another, and nothing is left to do but to tell. A layer that turns out damaged
//! while it is read ends the build; here it is dropped and the build begins again, with everything else at hand.

use std::collections::BTreeSet;

use super::CommandError;
use super::session::Session;
use crate::apt::lockfile::Lock;
use crate::digest::Sha256;
use crate::layer::{self, LayerError};
use crate::plan::Plan;
use crate::progress::Event;
use crate::store::{Damage, Kind, Object, Store};

/// The .debs and tarballs of `lock`, there or still to come, for saying that a run needs them.
pub(super) fn packages(lock: &Lock) -> impl Iterator<Item = (Kind, String)> {
    let both = |kind: Kind, sha256: &Sha256| [kind, Kind::Partial].map(|kind| (kind, sha256.to_string()));
    let debs = lock.package.iter().flat_map(move |package| both(Kind::Deb, &package.sha256));
    debs.chain(lock.tarball.iter().flat_map(move |tarball| both(Kind::Tarball, &tarball.sha256)))
}

/// The layers of `plan`, for the same.
pub(super) fn layers(plan: &Plan) -> impl Iterator<Item = (Kind, String)> {
    let keys = plan.stages.iter().map(|stage| stage.key).chain(super::tarballs::keys(plan));
    keys.map(|key| (Kind::Layer, key.to_string()))
}

/// Does `build`, and again each time it fails by an object of the store that was not dropped before. Tells of all damage
/// that was found.
///
/// # Errors
/// The last error of `build`; an object that cannot be dropped.
pub(super) fn mending<T>(
    session: &Session,
    plan: &Plan,
    build: impl Fn() -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    let mut dropped = BTreeSet::new();
    loop {
        let outcome = build();
        let found = session.store.take_damaged();
        let stopped = outcome.is_err();
        let mut again = false;
        for damage in found {
            let mendable = matches!(damage.object, Object::Layer | Object::Deb | Object::Tarball);
            let renewed = match damage.object {
                Object::Deb | Object::Tarball => "it is fetched again",
                _ => "it is made again",
            };
            let first = dropped.insert((damage.object, damage.name.clone()));
            let then = match (mendable && stopped, first) {
                (true, false) => "once more; is this machine's disk or memory failing?",
                _ => renewed,
            };
            let text = format!("{}{damage}; {then}", belongs(plan, &damage));
            session.reporter.report(Event::Warning(text));
            if mendable && stopped && first {
                discard(&session.store, &damage)?;
                again = true;
            }
        }
        // Bounded: each time around, at least one object has been dropped for the first time.
        if !again || session.check_cancelled().is_err() {
            return outcome;
        }
    }
}

/// Fails when a layer was found damaged, be it that whoever read it went on without: then what was made is not to be
/// trusted.
///
/// # Errors
/// When there was.
pub(super) fn stop_if_damaged(session: &Session) -> Result<(), CommandError> {
    if session.store.has_damaged_layer() {
        return Err(CommandError::Failed("a layer is damaged".to_owned()));
    }
    Ok(())
}

/// Whose the object is, to stand before a damage.
fn belongs(plan: &Plan, damage: &Damage) -> String {
    let image = &plan.evaluated.image.name;
    let stage = plan.stages.iter().find(|stage| damage.name.starts_with(&stage.key.to_string()));
    let mut packages = plan.stages.iter().flat_map(|stage| &stage.packages);
    let package = packages.find(|package| package.sha256.to_string() == damage.name);
    match (stage, package) {
        (Some(stage), _) => format!("{image}, packages of {}: ", stage.recipes.join(" + ")),
        (_, Some(package)) => format!("{image}, `{}` {}: ", package.name, package.version),
        _ => format!("{image}: "),
    }
}

/// Removes a layer or .deb that is damaged, unless somebody else has done that and put a good one there.
fn discard(store: &Store, damage: &Damage) -> Result<(), CommandError> {
    let Ok(name) = damage.name.parse::<Sha256>() else { return Ok(()) };
    match damage.object {
        Object::Layer => {
            // The same lock under which layers are made.
            let Some(_turn) = store.lock(format_args!("layer-{name}"), || true)? else { return Ok(()) };
            if let Err(LayerError::Damaged { .. }) = layer::check(store, name) {
                store.remove(Kind::Layer, name)?;
            }
        }
        Object::Deb => store.remove(Kind::Deb, name)?,
        Object::Tarball => store.remove(Kind::Tarball, name)?,
        _ => {}
    }
    Ok(())
}
