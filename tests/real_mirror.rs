//! Debian's own archives, through whatever mirror this machine's apt uses.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot be set up has to fail")]

mod support;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use build_images::apt::Present;
use build_images::apt::control::stanzas;
use build_images::apt::lockfile::{LockedArchive, LockedPackage};
use build_images::apt::sources::host_sources;
use build_images::apt::sync::{SyncedArchive, load_archive, sync_archive};
use build_images::digest::Sha256;
use build_images::fetch::{Fetcher, Mirrors, Options, carrying};
use build_images::model::recipe::Archive;
use build_images::progress::Silent;
use build_images::store::Store;

/// Primary keys of Debian 13's archive, security archive and stable release.
const ARCHIVE_KEY: &str = "04B54C3CDCA79751B16BC6B5225629DF75B188BD";
const SECURITY_KEY: &str = "5E04A1E3223A19A20706E20F9904613D4CCE68C6";
const RELEASE_KEY: &str = "41587F7DB8C774BCCF131416762F67A0B2C39DE4";

fn archive(name: &str, suites: &[&str], fingerprints: &[&str]) -> Archive {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/debian-13/keys");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "asc"));
    files.sort();
    Archive {
        name: name.to_owned(),
        uri: format!("https://snapshot.debian.org/archive/{name}/{{timestamp}}/"),
        suites: suites.iter().map(ToString::to_string).collect(),
        components: vec!["main".to_owned()],
        keys: files.iter().map(|path| std::fs::read(path).unwrap()).collect(),
        fingerprints: fingerprints.iter().map(ToString::to_string).collect(),
        ..Archive::default()
    }
}

fn hosts() -> Vec<String> {
    let mut hosts = host_sources(Path::new("/"));
    let record = |name: &str| format!("https://snapshot.debian.org/archive/{name}/{{timestamp}}/");
    let wanted = [carrying(&hosts, &record("debian")), carrying(&hosts, &record("debian-security"))];
    hosts.retain(|uri| wanted.iter().flatten().any(|wanted| wanted == uri));
    hosts
}

fn reachable(uri: &str) -> bool {
    use std::net::{TcpStream, ToSocketAddrs as _};
    let authority = uri.split('/').nth(2).unwrap_or_default();
    let address = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let mut addresses = address.to_socket_addrs().into_iter().flatten();
    addresses.any(|address| TcpStream::connect_timeout(&address, std::time::Duration::from_secs(5)).is_ok())
}

fn packages(synced: &SyncedArchive, names: &[&str]) -> Vec<LockedPackage> {
    let index = &synced.indices[0];
    let stanzas = stanzas(&index.text).map(Result::unwrap);
    let wanted = stanzas.filter(|stanza| names.contains(&stanza.get("Package").unwrap()));
    let locked = wanted.map(|stanza| LockedPackage {
        name: stanza.get("Package").unwrap().to_owned(),
        version: stanza.get("Version").unwrap().to_owned(),
        architecture: stanza.get("Architecture").unwrap().to_owned(),
        archive: synced.locked.name.clone(),
        suite: index.suite.clone(),
        path: stanza.get("Filename").unwrap().to_owned(),
        size: stanza.get("Size").unwrap().parse().unwrap(),
        sha256: stanza.get("SHA256").unwrap().parse().unwrap(),
    });
    locked.collect()
}

#[test]
fn debian_13_is_synced_and_its_packages_fetched() {
    let hosts = hosts();
    let available = hosts.len() >= 2 && hosts.iter().all(|uri| reachable(uri));
    if !support::require("a Debian mirror in this host's apt configuration", available) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let cancel = AtomicBool::new(false);
    let mirrors = Mirrors { host: hosts, ..Mirrors::default() };
    let fetcher = Fetcher::new(&store, mirrors, &Options::default(), &Silent, &cancel).unwrap();
    let now = jiff::Timestamp::now();

    let debian = archive("debian", &["trixie", "trixie-updates"], &[ARCHIVE_KEY, RELEASE_KEY]);
    let synced = sync_archive(&debian, None, &fetcher, now).unwrap();
    assert!(synced.locked.suite[0].signed_by.contains(&ARCHIVE_KEY.to_owned()));
    assert_eq!(synced.locked.suite[1].signed_by, [ARCHIVE_KEY]);
    assert_eq!(synced.indices.len(), 2);
    assert!(stanzas(&synced.indices[0].text).count() > 60_000);

    let security = archive("debian-security", &["trixie-security"], &[SECURITY_KEY]);
    let secure = sync_archive(&security, None, &fetcher, now).unwrap();
    assert_eq!(secure.locked.suite[0].signed_by, [SECURITY_KEY]);
    assert!(secure.locked.suite[0].valid_until.is_some());

    // What the lock pins is had again from the store, and is not refused for being old.
    let again = load_archive(&debian, &synced.locked, &fetcher, now).unwrap();
    assert_eq!(again.locked, synced.locked);
    assert_eq!(again.indices, synced.indices);

    // A plus sign in a path is what some servers stumble over.
    let names = ["base-files", "libstdc++6", "hostname", "tzdata", "adduser"];
    let locked = packages(&synced, &names);
    assert_eq!(locked.len(), names.len());
    let wanted: Vec<&LockedPackage> = locked.iter().collect();
    let archives: Vec<LockedArchive> = vec![synced.locked.clone(), secure.locked.clone()];
    let paths = fetcher.fetch_debs("debian", &wanted, Present::Compared, &archives).unwrap();
    for (path, package) in paths.iter().zip(&locked) {
        assert_eq!(Sha256::of(std::fs::read(path).unwrap()), package.sha256);
    }
}
