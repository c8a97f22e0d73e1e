//! `verify --store`: every byte of the store compared with what it should be.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use super::CommandError;
use super::stored::{Owners, Stored, list};
use crate::apt::lockfile::Lock;
use crate::progress::{Event, Over, Reporter, Unit};
use crate::store::{Context as _, Damage, Kind, Object, Store, Unusable, remove};

/// What a check of a store found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreVerified {
    /// Objects checked.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that are not as they were written.
    pub damaged: Vec<DamagedObject>,
}

/// An object that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedObject {
    /// What it is and how that was noticed.
    #[serde(flatten)]
    pub damage: Damage,
    /// Where it is, or was.
    pub path: PathBuf,
    /// Whose it is, as far as that is known: packages, recipes, images.
    pub belongs_to: Vec<String>,
    /// Whether it was dropped.
    pub dropped: bool,
}

impl StoreVerified {
    /// Whether the store is as it should be, by now.
    pub fn good(&self) -> bool {
        self.damaged.iter().all(|damaged| damaged.dropped)
    }

    /// The same for people, but for the last line.
    pub fn text(&self) -> String {
        let line = |damaged: &DamagedObject| {
            let of = match &damaged.belongs_to[..] {
                [] => String::new(),
                owners => format!(" ({})", owners.join(", ")),
            };
            let Damage { object, name, reason } = &damaged.damage;
            let dropped = if damaged.dropped { "; dropped" } else { "" };
            format!("BAD   {} {name}{of}: {reason}{dropped}\n", object.noun())
        };
        self.damaged.iter().map(line).collect()
    }
}

/// Checks every object of `store`, in `threads` threads. `lock` helps to name what is damaged. With `repair`, drops that;
/// the next build makes it anew.
///
/// # Errors
/// When the store cannot be listed, or a damaged object cannot be dropped.
pub fn verify_store(
    store: &Store,
    lock: Option<&Lock>,
    (threads, repair): (usize, bool),
    reporter: &dyn Reporter,
    cancel: &AtomicBool,
) -> Result<StoreVerified, CommandError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| CommandError::failed("cannot start threads", &error))?;
    let objects: Vec<_> = list(store)?.into_iter().map(|object| (object.size(), object)).collect();
    let total = objects.iter().map(|(size, _)| size).sum();
    let subject = "store";
    let action = "comparing objects with their hashes".to_owned();
    reporter.report(Event::Stage { subject: subject.to_owned(), action, total, unit: Unit::Bytes });
    let over = Over { reporter, subject };
    let done = AtomicU64::new(0);
    let check = |(size, object): &(u64, Stored)| {
        if cancel.load(Ordering::Relaxed) {
            return None;
        }
        let checked = object.check(store);
        let done = done.fetch_add(*size, Ordering::Relaxed) + size;
        let (subject, item) = (subject.to_owned(), object.name.clone());
        reporter.report(Event::Progress { subject, done, item });
        Some(checked)
    };
    let checked: Vec<_> = pool.install(|| objects.par_iter().map(check).collect());
    drop(over);
    let mut verified = StoreVerified { objects: 0, bytes: 0, damaged: Vec::new() };
    let mut owners = None;
    for ((size, object), checked) in objects.into_iter().zip(checked) {
        let reason = match checked {
            None => return Err(CommandError::Interrupted),
            // Dropped by somebody else since the store was listed.
            Some(Err(Unusable::Missing)) => continue,
            Some(Ok(())) => None,
            Some(Err(Unusable::Damaged(reason))) => Some(reason),
        };
        verified.objects += 1;
        verified.bytes += size;
        let Some(reason) = reason else { continue };
        if owners.is_none() {
            owners = Some(Owners::of(store, lock)?);
        }
        let belongs_to = owners.as_ref().map(|owners| owners.of_object(object.object, &object.name));
        if repair {
            drop_object(store, &object)?;
        }
        verified.damaged.push(DamagedObject {
            damage: Damage { object: object.object, name: object.name, reason },
            path: object.path,
            belongs_to: belongs_to.unwrap_or_default(),
            dropped: repair,
        });
    }
    Ok(verified)
}

/// Removes an object, unless a good one has taken its place by now.
fn drop_object(store: &Store, object: &Stored) -> Result<(), CommandError> {
    // The lock under which layers are made.
    let _turn = match object.object {
        Object::Layer => store.lock(format_args!("layer-{}", object.name), || true)?,
        _ => None,
    };
    match object.check(store) {
        Ok(()) | Err(Unusable::Missing) => Ok(()),
        Err(Unusable::Damaged(_)) if object.object == Object::Layer => {
            Ok(store.remove(Kind::Layer, &object.name)?)
        }
        Err(Unusable::Damaged(_)) => match remove(&object.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => Ok(removed.context("remove", &object.path)?),
        },
    }
}
