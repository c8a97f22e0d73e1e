//! Packages that are not what the lock says, and places that misbehave.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use build_images::apt::Present;
use build_images::digest::Sha256;
use build_images::fetch::{Failure, FetchError, Fetcher, Options};
use build_images::progress::Event;
use build_images::store::Kind;
use insta::assert_snapshot;

use crate::Bench;
use crate::support::deb::Deb;
use crate::support::repository::{Repository, Served};
use crate::support::server::Fault;

/// A package of about 300 kB that does not compress.
fn repository() -> Repository {
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(300_000)
    .collect();
    Repository::new().package(Deb::new("a", "1:2.0+b1-3").file("/usr/share/a", noise))
}

fn fetch(bench: &Bench, served: &Served) -> Result<std::path::PathBuf, FetchError> {
    bench.fetcher().fetch_deb(&served.locked_packages()[0], &served.locked())
}

/// Why the only place did not give the package, and the whole message.
fn refusal(served: &Served) -> (Failure, String) {
    refusal_on(&Bench::new(), served)
}

fn refusal_on(bench: &Bench, served: &Served) -> (Failure, String) {
    let error = fetch(bench, served).unwrap_err();
    let text = served.redact(&error.to_string());
    let [attempt] = error.attempts() else { panic!("{text}") };
    let stored = std::fs::read_dir(bench.directory.path().join("debs")).unwrap().count();
    assert_eq!(stored, 0, "nothing that was refused is in the store");
    (attempt.failure.clone(), text)
}

#[test]
fn an_honest_package_is_taken_once() {
    let served = repository().serve();
    let bench = Bench::new();
    let path = fetch(&bench, &served).unwrap();
    assert_eq!(Sha256::of(std::fs::read(&path).unwrap()), served.locked_packages()[0].sha256);
    assert_eq!(fetch(&bench, &served).unwrap(), path);
    assert_eq!(served.server.requests().len(), 1);
    assert_eq!(std::fs::read_dir(bench.directory.path().join("partial")).unwrap().count(), 0);
}

#[test]
fn other_contents() {
    let served = repository().serve();
    let mut bytes = served.server.file(&served.deb("a"));
    bytes[200] ^= 1;
    served.server.put(&served.deb("a"), bytes);
    let (failure, text) = refusal(&served);
    assert!(matches!(failure, Failure::Mismatch { .. }));
    assert_snapshot!(text, @r"
    cannot fetch `a` 1:2.0+b1-3 (amd64):
      http://127.0.0.1:PORT/test/pool/a_2.0%2Bb1-3_amd64.deb (archive of record) gave other contents: expected SHA-256 HASH, found HASH
    ");
}

#[test]
fn endless_package() {
    let served = repository().serve();
    served.server.fault(&served.deb("a"), Fault::Endless);
    let (failure, text) = refusal(&served);
    assert!(matches!(failure, Failure::TooLong { .. }));
    assert_snapshot!(text, @r"
    cannot fetch `a` 1:2.0+b1-3 (amd64):
      http://127.0.0.1:PORT/test/pool/a_2.0%2Bb1-3_amd64.deb (archive of record) sent more than the 302280 bytes that are expected
    ");
}

#[test]
fn package_that_announces_another_size() {
    let served = repository().serve();
    served.server.fault(&served.deb("a"), Fault::Announce(1 << 40));
    let (failure, text) = refusal(&served);
    assert!(matches!(failure, Failure::Size { .. }));
    assert_snapshot!(text, @r"
    cannot fetch `a` 1:2.0+b1-3 (amd64):
      http://127.0.0.1:PORT/test/pool/a_2.0%2Bb1-3_amd64.deb (archive of record) announces 1099511627776 bytes, expected 302280
    ");
}

#[test]
fn package_that_breaks_off_is_resumed() {
    let served = repository().serve();
    served.server.fault(&served.deb("a"), Fault::CutOff(100_000)).once();
    let bench = Bench::new();
    fetch(&bench, &served).unwrap();
    let from: Vec<_> = served.server.requests().iter().map(|request| request.from).collect();
    assert!(matches!(from[..], [None, Some(from)] if from > 0 && from <= 100_000), "{from:?}");
}

#[test]
fn package_that_always_breaks_off_is_resumed_by_the_next_run() {
    let served = repository().serve();
    let bench = Bench::new();
    served.server.fault(&served.deb("a"), Fault::CutOff(50_000)).times(3);
    let error = fetch(&bench, &served).unwrap_err();
    assert!(matches!(error.attempts()[0].failure, Failure::CutOff { .. }));
    fetch(&bench, &served).unwrap();
    assert!(served.server.requests().last().unwrap().from.unwrap() > 100_000);
}

#[test]
fn a_partial_file_that_is_wrong_is_fetched_anew() {
    let served = repository().serve();
    let bench = Bench::new();
    let package = &served.locked_packages()[0];
    // As a crash may leave it: the right length, the wrong bytes.
    for length in [1000, package.size, package.size + 1] {
        let partial = bench.store.path(Kind::Partial, package.sha256);
        std::fs::write(&partial, vec![0; usize::try_from(length).unwrap()]).unwrap();
        let path = fetch(&bench, &served).unwrap();
        assert_eq!(Sha256::of(std::fs::read(&path).unwrap()), package.sha256);
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn servers_that_do_not_know_ranges_or_answer_the_wrong_one() {
    for fault in [Fault::NoRange, Fault::WrongRange] {
        let served = repository().serve();
        let bench = Bench::new();
        let package = &served.locked_packages()[0];
        let bytes = served.server.file(&served.deb("a"));
        std::fs::write(bench.store.path(Kind::Partial, package.sha256), &bytes[..1000]).unwrap();
        served.server.fault(&served.deb("a"), fault.clone());
        let result = fetch(&bench, &served);
        if fault == Fault::NoRange {
            result.unwrap();
        } else {
            let error = result.unwrap_err();
            assert!(matches!(error.attempts()[0].failure, Failure::Range { expected: 1000, found: 1001 }));
        }
    }
}

#[test]
fn package_changed_in_the_store() {
    let served = repository().serve();
    let bench = Bench::new();
    let path = fetch(&bench, &served).unwrap();
    let good = std::fs::read(&path).unwrap();
    let mut flipped = good.clone();
    flipped[1000] ^= 1;
    for bad in [&good[1..], b"evil", b"", &flipped] {
        std::fs::write(&path, bad).unwrap();
        assert_eq!(fetch(&bench, &served).unwrap(), path);
        assert_eq!(std::fs::read(&path).unwrap(), good);
    }
    let warning = bench.warnings()[1].replace(&bench.directory.path().display().to_string(), "STORE");
    assert_snapshot!(served.redact(&warning), @"`STORE/debs/HASH` changed after it was stored: expected 302280 bytes with SHA-256 HASH, found 4 bytes with HASH; it is removed and fetched again");
}

#[test]
fn a_version_that_nobody_has() {
    let served = repository().serve();
    served.server.remove(&served.deb("a"));
    let bench = Bench::new();
    let error = fetch(&bench, &served).unwrap_err();
    assert!(matches!(error, FetchError::Gone { .. }));
    assert_snapshot!(served.redact(&error.to_string()), @r"
    no place has `a` 1:2.0+b1-3 (amd64) any more:
      http://127.0.0.1:PORT/test/pool/a_2.0%2Bb1-3_amd64.deb (archive of record) does not have it (status 404)
      `build-images update` moves on to versions that are there
    ");
}

#[test]
fn the_next_place_helps_and_what_is_there_is_kept() {
    let served = repository().serve();
    let mirror = repository().serve();
    let empty = Repository::new().serve();
    mirror.server.fault(&mirror.deb("a"), Fault::CutOff(80_000));
    let mut bench = Bench::new();
    let unreachable = "http://127.0.0.1:1/".to_owned();
    let uris = vec![unreachable, empty.archive().uri, mirror.archive().uri];
    bench.mirrors.given.insert("test".to_owned(), uris);
    // Three times the mirror breaks off; what it gave is not asked for again.
    fetch(&bench, &served).unwrap();
    assert_eq!(empty.server.requests().len(), 1);
    assert!(served.server.requests()[0].from.unwrap() > 0);
}

#[test]
fn a_connection_that_was_closed_meanwhile_is_opened_again() {
    let served = repository().serve();
    served.server.fault(&served.deb("a"), Fault::Hangup).once();
    fetch(&Bench::new(), &served).unwrap();
    served.server.fault(&served.deb("a"), Fault::Hangup);
    assert!(matches!(refusal(&served).0, Failure::NoAnswer { .. }));
}

#[test]
fn a_place_that_is_down_is_asked_twice_at_most() {
    let names: Vec<String> = (0..10).map(|number| format!("p{number}")).collect();
    let served =
        names.iter().map(|name| Deb::new(name, "1")).fold(Repository::new(), Repository::package).serve();
    let mirror = repository().serve();
    for package in served.locked_packages() {
        mirror.server.fault(&format!("test/{}", package.path), Fault::Hangup);
    }
    let mut bench = Bench::new();
    bench.mirrors.given.insert("test".to_owned(), vec![mirror.archive().uri]);
    let fetcher = bench.fetcher();
    for package in served.locked_packages() {
        fetcher.fetch_deb(&package, &served.locked()).unwrap();
    }
    assert_eq!(mirror.server.requests().len(), 2);
}

#[test]
fn a_place_without_tls_is_no_https() {
    let served = repository().serve();
    let mut locked = served.locked();
    locked.uri = locked.uri.replace("http://", "https://");
    let error = Bench::new().fetcher().fetch_deb(&served.locked_packages()[0], &locked).unwrap_err();
    let failure = &error.attempts()[0].failure;
    assert!(matches!(failure, Failure::Unreachable { .. } | Failure::NoAnswer { .. }), "{error}");
}

#[test]
fn several_at_once_fetch_a_package_once() {
    let served = repository().serve();
    served.server.fault(&served.deb("a"), Fault::Slow(Duration::from_millis(1)));
    let bench = Bench::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| fetch(&bench, &served).unwrap());
        }
    });
    assert_eq!(served.server.requests().len(), 1);
}

#[test]
fn every_place_is_named() {
    let served = repository().serve();
    let mirror = repository().serve();
    served.server.fault(&served.deb("a"), Fault::Status(503));
    mirror.server.fault(&mirror.deb("a"), Fault::Status(403));
    let mut bench = Bench::new();
    bench.mirrors.given.insert("test".to_owned(), vec!["ftp://mirror.example/debian".to_owned()]);
    bench.mirrors.site.insert("test".to_owned(), vec![mirror.archive().uri]);
    let error = fetch(&bench, &served).unwrap_err();
    assert_snapshot!(served.redact(&mirror.redact(&error.to_string())), @r"
    cannot fetch `a` 1:2.0+b1-3 (amd64):
      ftp://mirror.example/debian/pool/a_2.0%2Bb1-3_amd64.deb (given mirror) is neither http, https nor file
      http://127.0.0.1:PORT/test/pool/a_2.0%2Bb1-3_amd64.deb (mirror of the site) answered with status 403
      http://127.0.0.1:PORT/test/pool/a_2.0%2Bb1-3_amd64.deb (archive of record) answered with status 503
    ");
}

#[test]
fn a_local_mirror_is_checked_like_any_other() {
    let served = repository().serve();
    let local = tempfile::tempdir().unwrap();
    let package = &served.locked_packages()[0];
    let path = local.path().join(&package.path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let good = served.server.file(&served.deb("a"));
    let mut bench = Bench::new();
    let uri = format!("file://{}", local.path().display());
    bench.mirrors.given.insert("test".to_owned(), vec![uri]);
    served.server.remove(&served.deb("a"));
    std::fs::write(&path, &good[1..]).unwrap();
    let error = fetch(&bench, &served).unwrap_err();
    assert!(matches!(error.attempts()[0].failure, Failure::Size { .. }));
    std::fs::write(&path, &good).unwrap();
    fetch(&bench, &served).unwrap();
}

#[test]
fn a_slow_place_is_given_up() {
    let served = repository().serve();
    served.server.fault(&served.deb("a"), Fault::Stall);
    let start = Instant::now();
    let (failure, _) = refusal_on(&Bench::impatient(), &served);
    assert!(matches!(failure, Failure::CutOff { .. }));
    assert!(start.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_stop_is_noticed_and_what_came_is_kept() {
    let served = repository().serve();
    served.server.fault(&served.deb("a"), Fault::Slow(Duration::from_millis(10)));
    let bench = Bench::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while served.server.requests().is_empty() {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(100));
            bench.cancel.store(true, Ordering::Relaxed);
        });
        assert!(matches!(fetch(&bench, &served), Err(FetchError::Cancelled)));
    });
    let package = &served.locked_packages()[0];
    let kept = std::fs::metadata(bench.store.path(Kind::Partial, package.sha256)).unwrap().len();
    assert!(kept > 0 && kept < package.size);
}

#[test]
fn many_packages_over_few_connections() {
    let names: Vec<String> = (0..40).map(|number| format!("p{number}")).collect();
    let packages = names.iter().map(|name| Deb::new(name, "1").file("/usr/share/doc/x", name));
    let served = packages.fold(Repository::new(), Repository::package).serve();
    let bench = Bench::new();
    let options = Options { workers: 3, ..Options::default() };
    let fetcher =
        Fetcher::new(&bench.store, bench.mirrors.clone(), &options, &bench.events, &bench.cancel).unwrap();
    let locked = served.locked_packages();
    let wanted: Vec<_> = locked.iter().collect();
    let paths = fetcher.fetch_debs("test", &wanted, Present::Compared, &[served.locked()]).unwrap();
    let expected: Vec<_> = locked.iter().map(|p| bench.store.path(Kind::Deb, p.sha256)).collect();
    assert_eq!(paths, expected);
    assert!(served.server.connections() <= 3, "{}", served.server.connections());
    let total: u64 = locked.iter().map(|package| package.size).sum();
    let events = bench.events.0.lock().unwrap();
    let most = events.iter().filter_map(|event| match event {
        Event::Progress { done, .. } => Some(*done),
        _ => None,
    });
    assert_eq!(most.max(), Some(total));
}

#[test]
fn all_missing_packages_are_named() {
    let served = ["a", "b", "c", "d", "e"]
        .iter()
        .fold(Repository::new(), |repository, name| repository.package(Deb::new(name, "1")))
        .serve();
    for name in ["a", "c", "d", "e"] {
        served.server.remove(&served.deb(name));
    }
    let bench = Bench::new();
    let locked = served.locked_packages();
    let wanted: Vec<_> = locked.iter().collect();
    let errors =
        bench.fetcher().fetch_debs("test", &wanted, Present::Compared, &[served.locked()]).unwrap_err();
    assert_eq!(errors.0.len(), 4);
    assert!(bench.store.contains(Kind::Deb, locked[1].sha256));
    assert_snapshot!(served.redact(&errors.to_string()), @r"
    no place has `a` 1 (amd64) any more:
      http://127.0.0.1:PORT/test/pool/a_1_amd64.deb (archive of record) does not have it (status 404)
      `build-images update` moves on to versions that are there
    no place has `c` 1 (amd64) any more:
      http://127.0.0.1:PORT/test/pool/c_1_amd64.deb (archive of record) does not have it (status 404)
      `build-images update` moves on to versions that are there
    no place has `d` 1 (amd64) any more:
      http://127.0.0.1:PORT/test/pool/d_1_amd64.deb (archive of record) does not have it (status 404)
      `build-images update` moves on to versions that are there
    and 1 more packages cannot be fetched
    ");
}
