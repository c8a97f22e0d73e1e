//! Where files of an archive may be, in the order in which the places are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;

/// Mirrors that the environment offers; which bytes they may give is not theirs to decide.
#[derive(Debug, Clone, Default)]
pub struct Mirrors {
    /// Given for this run (`--mirror ARCHIVE=URI`), by archive name.
    pub given: BTreeMap<String, Vec<String>>,
    /// Named by `site.toml`, by archive name.
    pub site: BTreeMap<String, Vec<String>>,
    /// URIs of the build host's own apt sources, from [`host_sources`](crate::apt::sources::host_sources).
    pub host: Vec<String>,
}

/// One place that may carry an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Who names it.
    pub origin: Origin,
    /// Its base URI, ending in `/`.
    pub uri: String,
}

/// Who names a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The command line or the environment.
    Given,
    /// `site.toml`.
    Site,
    /// The build host's apt configuration.
    Host,
    /// The recipe: the archive of record.
    Record,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Given => "given mirror",
            Self::Site => "mirror of the site",
            Self::Host => "apt source of this host",
            Self::Record => "archive of record",
        })
    }
}

impl Mirrors {
    /// The places for `archive`, whose URI of record is `record`; `{timestamp}` there becomes each of `times`.
    pub fn candidates(&self, archive: &str, record: &str, times: &[Timestamp]) -> Vec<Candidate> {
        let named = |map: &BTreeMap<String, Vec<String>>| map.get(archive).cloned().unwrap_or_default();
        let records = if record.contains("{timestamp}") {
            let format = |time: &Timestamp| time.strftime("%Y%m%dT%H%M%SZ").to_string();
            times.iter().map(|time| record.replace("{timestamp}", &format(time))).collect()
        } else {
            vec![record.to_owned()]
        };
        let all = [
            (Origin::Given, named(&self.given)),
            (Origin::Site, named(&self.site)),
            (Origin::Host, carrying(&self.host, record)),
            (Origin::Record, records),
        ];
        let mut seen = BTreeSet::new();
        let all = all.into_iter().flat_map(|(origin, uris)| uris.into_iter().map(move |uri| (origin, uri)));
        all.map(|(origin, uri)| Candidate { origin, uri: if uri.ends_with('/') { uri } else { uri + "/" } })
            .filter(|candidate| seen.insert(candidate.uri.clone()))
            .collect()
    }
}

/// Those of `sources` that carry the archive whose URI of record is `record`.
///
/// A URI of record with `{timestamp}` is one of a service that keeps the past of an archive which mirrors carry under
/// the same name: there the last part of the path has to agree (`…/debian/`, `…/debian-security/`). Any other archive
/// has no mirrors that could be recognised by name, so host and path have to agree.
pub fn carrying(sources: &[String], record: &str) -> Vec<String> {
    let same = |source: &&String| match record.split_once("{timestamp}") {
        Some((before, _)) => last_segment(source) == last_segment(before),
        None => without_scheme(source) == without_scheme(record),
    };
    sources.iter().filter(same).cloned().collect()
}

/// The last part of a URI's path, not counting its host.
fn last_segment(uri: &str) -> Option<&str> {
    let (_, path) = without_scheme(uri).split_once('/')?;
    path.rsplit('/').next().filter(|segment| !segment.is_empty())
}

fn without_scheme(uri: &str) -> &str {
    uri.split_once("://").map_or(uri, |(_, rest)| rest).trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_given_site_host_record() {
        let one = |uri: &str| BTreeMap::from([("debian".to_owned(), vec![uri.to_owned()])]);
        let mirrors = Mirrors {
            given: one("http://given.example/d"),
            site: one("http://site.example/debian/"),
            host: vec!["http://host.example/debian/".into(), "http://host.example/other/".into()],
        };
        let record = "https://snapshot.debian.org/archive/debian/{timestamp}/";
        let times = ["2026-09-12T07:55:41Z", "2026-09-12T19:55:41Z"].map(|time| time.parse().unwrap());
        let found = mirrors.candidates("debian", record, &times);
        let lines: Vec<_> = found.iter().map(|c| format!("{}: {}", c.origin, c.uri)).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        given mirror: http://given.example/d/
        mirror of the site: http://site.example/debian/
        apt source of this host: http://host.example/debian/
        archive of record: https://snapshot.debian.org/archive/debian/20260912T075541Z/
        archive of record: https://snapshot.debian.org/archive/debian/20260912T195541Z/
        ");
    }

    #[test]
    fn a_mirror_is_known_by_the_last_part_of_its_path() {
        let sources = ["http://one.example/debian/", "http://one.example/debian-security/", "http://debian/"];
        let sources = sources.map(str::to_owned);
        let record = |archive: &str| format!("https://snapshot.debian.org/archive/{archive}/{{timestamp}}/");
        assert_eq!(carrying(&sources, &record("debian")), [sources[0].clone()]);
        assert_eq!(carrying(&sources, &record("debian-security")), [sources[1].clone()]);
        assert_eq!(carrying(&sources, "https://other.example/debian/"), Vec::<String>::new());
        assert_eq!(carrying(&sources, "https://one.example/debian/"), [sources[0].clone()]);
    }
}
