//! What a stage has to do with other runs: waiting for one that makes the same layer, telling them of damage.

use std::sync::atomic::Ordering;

use super::failure::Failure;
use super::job::StageJob;
use super::outer::{Stage, StageError};
use crate::layer::Layer;
use crate::progress::{Event, Reporter, Unit};
use crate::store::{Damage, Guard, Object, Store};

/// The right to make the layer of `stage`. Whoever waits for it finds the layer made, or makes it if the other died.
pub(super) fn turn(stage: &Stage<'_>, store: &Store, reporter: &dyn Reporter) -> Result<Guard, StageError> {
    let mut told = false;
    let wait = || {
        if !std::mem::replace(&mut told, true) {
            reporter.report(Event::Stage {
                subject: stage.subject.to_owned(),
                action: "waiting for another build of the same packages".to_owned(),
                total: 0,
                unit: Unit::Packages,
            });
        }
        !stage.cancel.load(Ordering::Relaxed)
    };
    let guard = store.lock(format_args!("layer-{}", stage.job.key()), wait);
    if told {
        reporter.report(Event::Finished { subject: stage.subject.to_owned() });
    }
    guard?.ok_or(StageError::Cancelled)
}

/// Notes in the store what the worker found damaged, if that is why it failed.
pub(super) fn note_damage(failure: &Failure, job: &StageJob, parent: Option<&Layer>, store: &Store) {
    match failure {
        Failure::DamagedLayer { content, .. } => {
            if let Some(parent) = parent {
                parent.found_damaged(*content);
            }
        }
        Failure::Mismatch { package, field, expected, found }
            if matches!(field.as_str(), "SHA-256" | "size") =>
        {
            if let Some(package) = job.packages.iter().find(|other| other.name == *package) {
                let reason = format!("expected {field} {expected}, found {found}");
                store.found_damaged(Damage::new(Object::Deb, package.sha256, reason));
            }
        }
        _ => {}
    }
}
