//! A lock that was edited by hand.

use build_images::apt::Present;
use build_images::apt::lockfile::LockedArchive;
use build_images::apt::sync::{SuiteError, SyncError, load_archive};
use build_images::digest::Sha256;
use build_images::fetch::{Failure, FetchError};
use insta::assert_snapshot;

use crate::Bench;
use crate::support::deb::Deb;
use crate::support::repository::{NOW, Repository, Served, time};

fn served() -> Served {
    Repository::new().package(Deb::new("a", "1.0")).serve()
}

#[test]
fn another_hash() {
    let served = served();
    let mut package = served.locked_packages().remove(0);
    package.sha256 = Sha256::of("evil");
    let error = Bench::new().fetcher().fetch_deb(&package, &served.locked()).unwrap_err();
    assert!(matches!(error.attempts()[0].failure, Failure::Mismatch { .. }));
    assert_snapshot!(served.redact(&error.to_string()), @r"
    cannot fetch `a` 1.0 (amd64):
      http://127.0.0.1:PORT/test/pool/a_1.0_amd64.deb (archive of record) gave other contents: expected SHA-256 HASH, found HASH
    ");
}

#[test]
fn another_size() {
    let served = served();
    let mut package = served.locked_packages().remove(0);
    package.size += 1;
    let bench = Bench::new();
    let error = bench.fetcher().fetch_deb(&package, &served.locked()).unwrap_err();
    assert!(matches!(error.attempts()[0].failure, Failure::Size { .. }));
    // Nor does the file in the store agree with it.
    let honest = served.locked_packages().remove(0);
    bench.fetcher().fetch_deb(&honest, &served.locked()).unwrap();
    assert!(bench.fetcher().fetch_deb(&package, &served.locked()).is_err());
}

#[test]
fn a_path_out_of_the_archive() {
    let served = served();
    for path in ["../secret", "/etc/passwd", "pool//a", "pool/./a", "", "pool/a\n", "pool\\a"] {
        let mut package = served.locked_packages().remove(0);
        package.path = path.to_owned();
        let error = Bench::new().fetcher().fetch_deb(&package, &served.locked()).unwrap_err();
        assert!(matches!(error, FetchError::Path { .. }), "{path}: {error}");
        if path == "../secret" {
            assert_snapshot!(error, @"`a` 1.0 (amd64) has the path `../secret`, expected one inside its archive: was the lock edited by hand?");
        }
    }
    assert!(served.server.requests().is_empty());
}

#[test]
fn an_archive_that_is_not_there() {
    let served = served();
    let mut package = served.locked_packages().remove(0);
    package.archive = "evil".to_owned();
    let errors = Bench::new()
        .fetcher()
        .fetch_debs("test", &[&package], Present::Compared, &[served.locked()])
        .unwrap_err();
    assert!(matches!(errors.0[..], [FetchError::Archive { .. }]));
    assert_snapshot!(errors, @"`a` 1.0 (amd64) comes from the archive `evil`, which the lock does not have: was it edited by hand?");
}

#[test]
fn a_pinned_release() {
    let served = served();
    let bench = Bench::new();
    let fetcher = bench.fetcher();
    // Years later, when every date in it has passed, it is still the one that is pinned.
    let load = |locked: &LockedArchive| {
        load_archive(&served.archive(), locked, &fetcher, time("2027-11-02T00:00:00Z"))
    };
    let loaded = load(&served.locked()).unwrap();
    assert_eq!(loaded.locked, served.locked());

    let mut locked = served.locked();
    locked.suite[0].inrelease = Sha256::of("evil");
    let error = load(&locked).unwrap_err();
    let SyncError::Suite { attempts, .. } = &error else { panic!("{error}") };
    assert!(matches!(attempts[0].error, SuiteError::OtherRelease { .. }));
    assert_snapshot!(served.redact(&error.to_string()), @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): it has moved on: expected InRelease with SHA-256 HASH, found HASH
    ");

    locked.suite.clear();
    let error = load_archive(&served.archive(), &locked, &fetcher, time(NOW)).unwrap_err();
    assert!(matches!(error, SyncError::NotLocked { .. }));
    assert_snapshot!(error, @"suite `trixie` of archive `test` is not in the lock: `build-images update test` adds it");
}
