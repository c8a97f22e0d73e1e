//! Package indices that are not what the signed Release file describes.

use build_images::apt::sync::SuiteError;
use build_images::digest::Sha256;
use build_images::fetch::{Failure, FetchError};
use insta::assert_snapshot;

use crate::Bench;
use crate::release::{refusal, refusal_on, sync};
use crate::support::deb::{Deb, gzip, xz};
use crate::support::repository::{Repository, Served};
use crate::support::server::Fault;

fn repository() -> Repository {
    Repository::new().compressions(&[".xz"]).package(Deb::new("a", "1.0"))
}

/// Answers every request for the index like this.
fn spoil(served: &Served, fault: &Fault) {
    for path in served.index_paths(".xz") {
        served.server.fault(&path, fault.clone());
    }
}

/// Why the places did not give the index.
fn failures(error: &SuiteError) -> Vec<Failure> {
    let SuiteError::Fetch(FetchError::Exhausted { attempts, .. }) = error else { panic!("{error}") };
    attempts.iter().map(|attempt| attempt.failure.clone()).collect()
}

#[test]
fn other_packages() {
    let served = repository().serve();
    let mut other = served.server.file(&served.index_paths(".xz")[0]);
    let last = other.len() - 1;
    other[last] ^= 1;
    spoil(&served, &Fault::Wrong(other));
    let (error, text) = refusal(&served, None);
    assert!(matches!(failures(&error)[..], [Failure::Mismatch { .. }, Failure::Mismatch { .. }]));
    assert_snapshot!(text, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): cannot fetch index `main/binary-amd64/Packages.xz` of `trixie`:
        http://127.0.0.1:PORT/test/dists/trixie/main/binary-amd64/by-hash/SHA256/HASH (archive of record) gave other contents: expected SHA-256 HASH, found HASH
        http://127.0.0.1:PORT/test/dists/trixie/main/binary-amd64/Packages.xz (archive of record) gave other contents: expected SHA-256 HASH, found HASH
    ");
}

#[test]
fn packages_of_another_size() {
    let served = repository().serve();
    spoil(&served, &Fault::Wrong(xz(b"Package: evil\n")));
    let (error, text) = refusal(&served, None);
    assert!(matches!(failures(&error)[..], [Failure::Size { .. }, Failure::Size { .. }]), "{text}");
}

#[test]
fn endless_index() {
    let served = repository().serve();
    spoil(&served, &Fault::Endless);
    let (error, text) = refusal(&served, None);
    assert!(matches!(failures(&error)[..], [Failure::TooLong { .. }, Failure::TooLong { .. }]));
    assert_snapshot!(text, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): cannot fetch index `main/binary-amd64/Packages.xz` of `trixie`:
        http://127.0.0.1:PORT/test/dists/trixie/main/binary-amd64/by-hash/SHA256/HASH (archive of record) sent more than the 268 bytes that are expected
        http://127.0.0.1:PORT/test/dists/trixie/main/binary-amd64/Packages.xz (archive of record) sent more than the 268 bytes that are expected
    ");
}

#[test]
fn index_that_never_comes() {
    let served = repository().serve();
    spoil(&served, &Fault::Stall);
    let (error, text) = refusal_on(&Bench::impatient(), &served, None);
    assert!(matches!(failures(&error)[..], [Failure::CutOff { .. }, Failure::CutOff { .. }]), "{text}");
}

#[test]
fn bombs() {
    for (suffix, compress) in [(".xz", xz as fn(&[u8]) -> Vec<u8>), (".gz", gzip)] {
        let bomb = "\n".repeat(8 << 20);
        // The Release vouches for the compressed file, and names a small size for what is in it.
        let served = Repository::new()
            .compressions(if suffix == ".xz" { &[".xz"] } else { &[".gz"] })
            .index(&bomb)
            .listed("main/binary-amd64/Packages", Sha256::of("x"), 1000)
            .serve();
        assert!(compress(bomb.as_bytes()).len() < 1 << 16);
        let (error, text) = refusal(&served, None);
        assert!(matches!(error, SuiteError::Bomb { expected: 1000, .. }));
        if suffix == ".xz" {
            assert_snapshot!(text, @r"
            cannot get suite `trixie` of archive `test`:
              http://127.0.0.1:PORT/test/ (archive of record): `main/binary-amd64/Packages.xz` unpacks to more than the 1000 bytes that the Release file names
            ");
        }
    }
}

#[test]
fn index_of_a_size_that_nobody_has() {
    let served = repository().listed("main/binary-amd64/Packages", Sha256::of("x"), 1 << 40).serve();
    let (error, text) = refusal(&served, None);
    assert!(matches!(error, SuiteError::IndexSize { .. }));
    assert_snapshot!(text, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): the Release file gives `main/binary-amd64/Packages` 1099511627776 bytes, the limit is 1073741824
    ");
}

#[test]
fn index_that_unpacks_to_something_else() {
    let served = repository().listed("main/binary-amd64/Packages", Sha256::of("x"), 100_000).serve();
    let (error, text) = refusal(&served, None);
    assert!(matches!(error, SuiteError::Unpacked { .. }));
    assert_snapshot!(text, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): `main/binary-amd64/Packages` unpacks to other contents: expected 100000 bytes with SHA-256 HASH, found 228 bytes with HASH
    ");
}

#[test]
fn index_that_does_not_unpack() {
    let served = repository().serve();
    let broken = b"this is no xz".to_vec();
    let name = "main/binary-amd64/Packages.xz";
    let served_again = repository().listed(name, Sha256::of(&broken), broken.len() as u64).serve();
    for path in served_again.index_paths(".xz") {
        served_again.server.put(&path, broken.clone());
    }
    drop(served);
    let (error, text) = refusal(&served_again, None);
    assert!(matches!(error, SuiteError::Compression { .. }), "{text}");
    assert_snapshot!(text, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): `main/binary-amd64/Packages.xz` cannot be decompressed: stream/file format not recognized
    ");
}

#[test]
fn packages_of_another_architecture() {
    let served = repository().index("Package: a\nVersion: 1\nArchitecture: i386\n").serve();
    let (error, text) = refusal(&served, None);
    assert!(matches!(error, SuiteError::OtherArchitecture { .. }));
    assert_snapshot!(text, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): `main/binary-amd64/Packages` has a package for `i386`, expected `amd64` or `all`
    ");
}

#[test]
fn index_that_is_no_text() {
    let latin1 = "Package: \u{e9}\n";
    let served = repository().index(latin1).serve();
    assert!(sync(&Bench::new(), &served.archive(), None).is_ok());
    let bytes = b"Package: \xe9\n".to_vec();
    let packed = xz(&bytes);
    let served = repository()
        .listed("main/binary-amd64/Packages", Sha256::of(&bytes), bytes.len() as u64)
        .listed("main/binary-amd64/Packages.xz", Sha256::of(&packed), packed.len() as u64)
        .serve();
    for path in served.index_paths(".xz") {
        served.server.put(&path, packed.clone());
    }
    let (error, text) = refusal(&served, None);
    assert!(matches!(error, SuiteError::NotText { .. }));
    assert_snapshot!(text, @r"
    cannot get suite `trixie` of archive `test`:
      http://127.0.0.1:PORT/test/ (archive of record): `main/binary-amd64/Packages` is not UTF-8 at byte 9
    ");
}

#[test]
fn gzip_serves_where_xz_is_missing() {
    let served = Repository::new().package(Deb::new("a", "1.0")).serve();
    spoil(&served, &Fault::Status(404));
    assert!(sync(&Bench::new(), &served.archive(), None).is_ok());
}

#[test]
fn stored_index_that_changed_is_fetched_again() {
    let served = repository().serve();
    let bench = Bench::new();
    let synced = sync(&bench, &served.archive(), None).unwrap();
    let hash = Sha256::of(served.server.file(&served.index_paths(".xz")[0]));
    let path = bench.store.path(build_images::store::Kind::Index, hash);
    std::fs::write(&path, xz(b"Package: evil\n")).unwrap();
    assert_eq!(sync(&bench, &served.archive(), None).unwrap().indices, synced.indices);
    let warning = bench.warnings().join("\n").replace(&bench.directory.path().display().to_string(), "STORE");
    assert_snapshot!(served.redact(&warning), @"`STORE/indices/HASH` changed after it was stored: expected 268 bytes with SHA-256 HASH, found 72 bytes with HASH; it is removed and fetched again");
}
