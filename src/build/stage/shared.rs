//! What a stage has to do with other runs: waiting for one that makes the same layer, telling them of damage.

use std::fs::File;
use std::sync::atomic::Ordering;

use super::failure::Failure;
use super::job::{StageJob, StagePackage};
use super::outer::{Stage, StageError};
use crate::digest::Sha256;
use crate::layer::Layer;
use crate::progress::{Event, Reporter, Unit};
use crate::store::{Damage, Guard, Kind, Object, Store};

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
            // One damage seldom comes alone, and the next attempt is to find none.
            let read = |package: &StagePackage| {
                let file = File::open(store.path(Kind::Deb, package.sha256)).ok()?;
                let (found, _) = Sha256::of_reader(file).ok()?;
                (found != package.sha256).then_some((package.sha256, found))
            };
            for (expected, found) in job.packages.iter().filter_map(read) {
                let reason = format!("expected SHA-256 {expected}, found {found}");
                store.found_damaged(Damage::new(Object::Deb, expected, reason));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn where_one_package_is_damaged_all_that_are_get_noted() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let package = |name: &str, held: &str| {
            let sha256 = Sha256::of(name);
            fs::write(store.path(Kind::Deb, sha256), held).unwrap();
            let text = |text: &str| text.to_owned();
            let (version, architecture, size) = (text("1"), text("all"), name.len() as u64);
            StagePackage { name: text(name), version, architecture, sha256, size }
        };
        let packages = vec![package("one", "eno"), package("two", "two"), package("three", "eerht")];
        let (one, three) = (packages[0].sha256, packages[2].sha256);
        let (users, groups, requested) = Default::default();
        let job = StageJob { packages, parent: None, users, groups, requested, epoch: 0 };
        let mismatch = |package: &str, field: &str| Failure::Mismatch {
            package: package.to_owned(),
            field: field.to_owned(),
            expected: "good".to_owned(),
            found: "bad".to_owned(),
        };
        // The bytes are what they were.
        note_damage(&mismatch("one", "Version"), &job, None, &store);
        assert_eq!(store.take_damaged(), []);
        note_damage(&mismatch("one", "SHA-256"), &job, None, &store);
        let reason = format!("expected SHA-256 {three}, found {}", Sha256::of("eerht"));
        let first = Damage::new(Object::Deb, one, "expected SHA-256 good, found bad");
        assert_eq!(store.take_damaged(), [first, Damage::new(Object::Deb, three, reason)]);
        // Also where it is one of another job.
        note_damage(&mismatch("four", "SHA-256"), &job, None, &store);
        assert_eq!(store.take_damaged().len(), 2);
    }
}
