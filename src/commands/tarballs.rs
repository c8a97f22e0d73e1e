//! The tarballs of a plan: fetched, and read into layers.

use super::CommandError;
use super::lock::fetcher;
use super::session::Session;
use crate::apt::lockfile::LockedTarball;
use crate::build::tarball::{self, Base};
use crate::digest::Sha256;
use crate::fetch::{FetchError, Fetcher, Wanted};
use crate::layer::{Layer, LayerError};
use crate::plan::Plan;
use crate::progress::{Event, Over, Unit};
use crate::store::Kind;

/// Keys of the layers that the tarballs of `plan` become.
pub(super) fn keys(plan: &Plan) -> impl Iterator<Item = Sha256> {
    plan.tarballs.iter().map(|row| tarball::key(row.sha256))
}

/// Adds the tarballs of `plan` to `base`. Each is read once; no package layer depends on it.
pub(super) fn add(session: &Session, plan: &Plan, base: &mut Base) -> Result<(), CommandError> {
    for row in &plan.tarballs {
        let layer = layer(session, plan, row)?;
        base.add(row.name.clone(), layer);
    }
    Ok(())
}

fn layer(session: &Session, plan: &Plan, row: &LockedTarball) -> Result<Layer, CommandError> {
    let image = &plan.evaluated.image.name;
    let key = tarball::key(row.sha256);
    match Layer::open(&session.store, key) {
        Ok(layer) => return Ok(layer),
        Err(LayerError::Missing(_)) => {}
        // What is damaged is dropped, and the build begins again.
        Err(error) => return Err(CommandError::failed(&format!("{image}: cannot use a layer"), &error)),
    }
    let fetched = fetch(&fetcher(session)?, row);
    session.check_cancelled()?;
    let path = fetched
        .map_err(|error| CommandError::failed(&format!("{image}: cannot fetch its tarballs"), &error))?;
    let layer = tarball::unpack(&session.store, &path, row.sha256);
    layer.map_err(|error| {
        CommandError::failed(&format!("{image}: cannot unpack tarball `{}`", row.name), &error)
    })
}

/// The tarball in the store, checked against the lock.
pub(super) fn fetch(fetcher: &Fetcher<'_>, row: &LockedTarball) -> Result<std::path::PathBuf, FetchError> {
    let LockedTarball { name, url, size, sha256 } = row;
    let wanted = Wanted { kind: Kind::Tarball, sha256: *sha256, size: *size };
    let action = "fetching a tarball".to_owned();
    fetcher.report(Event::Stage { subject: name.clone(), action, total: *size, unit: Unit::Bytes });
    let _over = Over { reporter: fetcher.reporter(), subject: name };
    let done = std::cell::Cell::new(0);
    let on_bytes = |bytes: u64| {
        done.set((done.get() + bytes).min(*size));
        let (subject, item) = (name.clone(), String::new());
        fetcher.report(Event::Progress { subject, done: done.get(), item });
    };
    fetcher.fetch(&format!("tarball `{name}`"), &wanted, &fetcher.tarball_sources(name, url), &on_bytes)
}
