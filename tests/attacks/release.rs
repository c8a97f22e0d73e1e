//! A Release file that is signed, but is not the one that was asked for or not the newest.

use build_images::apt::lockfile::LockedArchive;
use build_images::apt::sync::{SuiteError, SyncError, SyncedArchive, sync_archive};
use build_images::model::recipe::Archive;
use insta::assert_snapshot;

use crate::Bench;
use crate::support::deb::Deb;
use crate::support::keys::{Algorithm, Defect, Key};
use crate::support::repository::{NOW, Repository, Served, time};

pub fn sync(
    bench: &Bench,
    archive: &Archive,
    previous: Option<&LockedArchive>,
) -> Result<SyncedArchive, SyncError> {
    sync_archive(archive, previous, &bench.fetcher(), time(NOW))
}

/// What is wrong with the suite at the only place that has it, and the whole message.
pub fn refusal(served: &Served, previous: Option<&LockedArchive>) -> (SuiteError, String) {
    refusal_on(&Bench::new(), served, previous)
}

/// The same, with a bench of one's own.
pub fn refusal_on(bench: &Bench, served: &Served, previous: Option<&LockedArchive>) -> (SuiteError, String) {
    let error = sync(bench, &served.archive(), previous).unwrap_err();
    let text = served.redact(&error.to_string());
    let SyncError::Suite { mut attempts, .. } = error else { panic!("{error}") };
    assert_eq!(attempts.len(), 1, "{text}");
    (attempts.remove(0).error, text)
}

fn repository() -> Repository {
    Repository::new().package(Deb::new("a", "1.0").file("/usr/share/a", "a"))
}

#[test]
fn an_honest_repository_is_taken() {
    let served = repository().serve();
    let bench = Bench::new();
    let synced = sync(&bench, &served.archive(), None).unwrap();
    assert_eq!(synced.locked, served.locked());
    assert!(synced.indices[0].text.starts_with("Package: a\n"));
    // The same again is no rollback, and nothing but InRelease is asked for.
    let before = served.server.requests().len();
    assert_eq!(sync(&bench, &served.archive(), Some(&synced.locked)).unwrap().indices, synced.indices);
    assert_eq!(served.server.requests().len(), before + 1);
}

#[test]
fn changed_in_release() {
    let served = repository().tamper(|text| text.replace("Components: main", "Components: evil")).serve();
    let (error, text) = refusal(&served, None);
    assert!(matches!(error, SuiteError::Signature(_)));
    assert_snapshot!(text, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): InRelease is refused: no signature is good: by `FINGERPRINT`: the signature does not match the text: one of them was changed
    ");
}

#[test]
fn text_before_and_after_the_signed_part() {
    let served = repository().tamper(|text| format!("Suite: evil\n{text}")).serve();
    assert_snapshot!(refusal(&served, None).1, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): InRelease is refused: there is text before the signed part, which nobody signed: `Suite: evil`
    ");
    let served = repository().tamper(|text| format!("{text}Suite: evil\n")).serve();
    assert_snapshot!(refusal(&served, None).1, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): InRelease is refused: there is text after the signature, which nobody signed: `Suite: evil`
    ");
}

#[test]
fn key_that_is_revoked() {
    let served = repository().signer(Key::with(Defect::PrimaryRevoked, Algorithm::Ed25519)).serve();
    assert_snapshot!(refusal(&served, None).1, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): InRelease is refused: no signature is good: by `FINGERPRINT`: primary key `FINGERPRINT` is revoked: KeyCompromised, `for a test`
    ");
}

#[test]
fn freeze() {
    let served = repository().valid_until(Some("2026-11-02T00:00:00Z")).serve();
    let (error, text) = refusal(&served, None);
    assert!(matches!(error, SuiteError::Stale { .. }));
    assert_snapshot!(text, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): it was valid until 2026-11-02T00:00:00Z, now is 2026-11-02T00:00:00Z: the mirror is behind, or holds updates back
    ");
    // Without an end, as in Debian's stable suites, nothing can be said.
    let served = repository().valid_until(None).serve();
    assert!(sync(&Bench::new(), &served.archive(), None).is_ok());
}

#[test]
fn rollback() {
    let key = Key::generate();
    let newer = Repository::new().date("2026-11-01T12:00:00Z").signer(key).serve();
    let older = repository().serve();
    let (error, text) = refusal(&older, Some(&newer.locked()));
    assert!(matches!(error, SuiteError::Rollback { .. }));
    assert_snapshot!(text, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): it is dated 2026-11-01T00:00:00Z, older than the locked one of 2026-11-01T12:00:00Z: the mirror is behind, or plays back an old state
    ");
}

#[test]
fn release_from_the_future() {
    let served = repository().release_field("Date", "Mon, 02 Nov 2026 00:00:01 UTC").serve();
    let (error, text) = refusal(&served, None);
    assert!(matches!(error, SuiteError::FutureDate { .. }));
    assert_snapshot!(text, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): it is dated 2026-11-02T00:00:01Z, after now (2026-11-02T00:00:00Z): is the clock right?
    ");
}

#[test]
fn another_suite() {
    let served =
        repository().release_field("Suite", "oldstable").release_field("Codename", "bookworm").serve();
    let (error, text) = refusal(&served, None);
    assert!(matches!(error, SuiteError::OtherSuite { .. }));
    assert_snapshot!(text, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): it is another suite: expected `trixie`, found suite `oldstable` with code name `bookworm`
    ");
}

#[test]
fn another_architecture() {
    let served = repository().release_field("Architectures", "i386 arm64").serve();
    let (error, text) = refusal(&served, None);
    assert!(matches!(error, SuiteError::NoArchitecture { .. }));
    assert_snapshot!(text, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): it has no architecture `amd64`, only i386, arm64
    ");
}

#[test]
fn another_component() {
    let served = repository().release_field("Components", "contrib").serve();
    let (error, text) = refusal(&served, None);
    assert!(matches!(error, SuiteError::NoComponent { .. }));
    assert_snapshot!(text, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): it has no component `main`, only contrib
    ");
}

#[test]
fn release_that_cannot_be_read() {
    let served = repository().release_field("Date", "yesterday").serve();
    let (error, text) = refusal(&served, None);
    assert!(matches!(error, SuiteError::Release(_)));
    assert_snapshot!(text, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): the Release file has `Date: yesterday`, expected a date like `Sat, 12 Sep 2026 07:55:41 UTC`
    ");
}

#[test]
fn endless_in_release() {
    let served = repository().serve();
    served.server.fault(&served.in_release(), crate::support::server::Fault::Endless);
    let (error, text) = refusal(&served, None);
    assert!(matches!(error, SuiteError::Fetch(_)));
    assert_snapshot!(text, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): cannot fetch `dists/trixie/InRelease`:
        http://127.0.0.1:PORT/test/dists/trixie/InRelease (archive of record) sent more than the 16777216 bytes that are expected
    ");
}

#[test]
fn a_lock_with_a_date_that_is_none() {
    let served = repository().serve();
    let mut locked = served.locked();
    locked.suite[0].date = "2026-13-01".to_owned();
    let (error, text) = refusal(&served, Some(&locked));
    assert!(matches!(error, SuiteError::LockedDate { .. }));
    assert_snapshot!(text, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): the lock dates it `2026-13-01`, expected a date like `2026-09-12T07:55:41Z`: was it edited by hand?
    ");
}

#[test]
fn a_bad_place_is_passed_over_with_a_warning() {
    let good = repository().serve();
    let bad = repository().serve();
    let mut bench = Bench::new();
    bench.mirrors.given.insert("test".to_owned(), vec![bad.archive().uri]);
    let synced = sync(&bench, &good.archive(), None).unwrap();
    assert_eq!(synced.locked, good.locked());
    let warnings = bench.warnings().join("\n");
    assert_snapshot!(good.redact(&bad.redact(&warnings)), @"passed over http://127.0.0.1:PORT/test/ (given mirror) for `trixie` of `test`: InRelease is refused: no signature is good: by `FINGERPRINT`: not a pinned key, expected one of FINGERPRINT");
}

#[test]
fn a_suite_of_another_release_than_the_base() {
    let served = repository().release_field("Suite", "trixie").release_field("Codename", "bookworm").serve();
    let archive = Archive { releases: ["trixie".to_owned()].into(), ..served.archive() };
    let error = sync(&Bench::new(), &archive, None).unwrap_err();
    assert_snapshot!(served.redact(&error.to_string()), @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): it is for another release: its signed Release file has `Codename: bookworm`, the base is `trixie`
    ");
    // Names that are nobody's release say nothing.
    let served = repository().release_field("Codename", "stable").serve();
    let archive = Archive { releases: ["trixie".to_owned()].into(), ..served.archive() };
    assert!(sync(&Bench::new(), &archive, None).is_ok());
}

#[test]
fn a_release_that_does_not_say_which_suite_it_is() {
    let served = repository().without("Suite").without("Codename").serve();
    let (error, text) = refusal(&served, None);
    assert!(matches!(error, SuiteError::Nameless { .. }));
    assert_snapshot!(text, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): its signed Release file has neither `Suite` nor `Codename`, so nothing says that it is `trixie`; whoever runs the archive has to add one
    ");
    // One of the two is enough.
    for field in ["Suite", "Codename"] {
        assert!(sync(&Bench::new(), &repository().without(field).serve().archive(), None).is_ok());
    }
}

#[test]
fn archives_as_small_makers_have_them() {
    // Neither an end of validity, nor indices by hash, nor lists of what is in it, and one compression.
    let served = repository()
        .valid_until(None)
        .without("Acquire-By-Hash")
        .without("Architectures")
        .without("Components")
        .without("Origin")
        .compressions(&[".gz"])
        .unlisted("/Packages")
        .serve();
    let synced = sync(&Bench::new(), &served.archive(), None).unwrap();
    assert!(synced.indices[0].text.starts_with("Package: a\n"));
    assert_eq!(synced.locked.suite[0].valid_until, None);
    let paths: Vec<_> = synced.files.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["dists/trixie/InRelease", "dists/trixie/main/binary-amd64/Packages.gz"]);
    // Nothing but plain text.
    let served = repository().valid_until(None).without("Acquire-By-Hash").compressions(&[]).serve();
    assert!(sync(&Bench::new(), &served.archive(), None).is_ok());
    // What the indices do not say is missing all the same.
    let served = repository().without("Components").serve();
    let archive = Archive { components: vec!["contrib".to_owned()], ..served.archive() };
    let error = sync(&Bench::new(), &archive, None).unwrap_err();
    assert!(error.to_string().contains("it has no component `contrib`, only main"), "{error}");
}

#[test]
fn an_index_that_is_listed_compressed_only_and_was_changed() {
    let served = repository().compressions(&[".gz"]).unlisted("/Packages").serve();
    for path in served.index_paths(".gz") {
        served.server.put(&path, crate::support::deb::gzip(b"Package: evil\n"));
    }
    let error = sync(&Bench::new(), &served.archive(), None).unwrap_err();
    assert!(error.to_string().contains("expected"), "{error}");
    // Its bomb is none of its size: a hundred times what was sent, and some megabytes.
    let zeros = vec![b'\n'; 64 << 20];
    let served = repository().index(std::str::from_utf8(&zeros).unwrap());
    let served = served.compressions(&[".gz"]).unlisted("/Packages").serve();
    let (error, text) = refusal(&served, None);
    assert!(matches!(error, SuiteError::Unlisted { .. }), "{error}");
    assert!(text.contains("unpacks to more than 16777216 bytes"), "{text}");
}

#[test]
fn a_copy_that_the_site_signs_itself() {
    use build_images::model::recipe::Keys;
    let (makers, own) = (Key::generate(), Key::generate());
    let record = Repository::new().signer(makers.clone()).package(Deb::new("a", "1")).serve();
    let copy = Repository::new().signer(own.clone()).package(Deb::new("a", "1")).serve();
    let keys = Keys { certificates: vec![own.certificate()], fingerprints: vec![own.fingerprint()] };
    let archive = Archive { resigned: Some(keys), ..record.archive() };
    // Without the copy nothing counts, the archive of record least of all.
    let error = sync(&Bench::new(), &archive, None).unwrap_err();
    assert_snapshot!(error, @"cannot get suite `trixie` of archive `test`: there is no place to ask");
    assert!(record.server.requests().is_empty());
    let mut bench = Bench::new();
    bench.mirrors.site.insert("test".to_owned(), vec![record.archive().uri]);
    let error = sync(&bench, &archive, None).unwrap_err();
    assert!(error.to_string().contains("not a pinned key"), "{error}");
    bench.mirrors.site.insert("test".to_owned(), vec![copy.archive().uri]);
    let synced = sync(&bench, &archive, None).unwrap();
    assert_eq!(synced.locked.uri, record.archive().uri);
    assert_eq!(synced.locked.definition, record.locked().definition);
    assert_eq!(synced.locked.suite[0].signed_by, [own.fingerprint()]);
    // What is locked by either key can be read again.
    for locked in [record.locked(), synced.locked] {
        let locked =
            build_images::apt::lockfile::LockedArchive { definition: record.locked().definition, ..locked };
        let mut bench = Bench::new();
        bench.mirrors.site.insert("test".to_owned(), vec![copy.archive().uri]);
        let (now, fetcher) =
            (crate::support::repository::time(crate::support::repository::NOW), bench.fetcher());
        build_images::apt::sync::load_archive(&archive, &locked, &fetcher, now).unwrap();
    }
}
