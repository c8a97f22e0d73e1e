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
    /// Further places of single packages that recipes name, with placeholders, by archive name.
    pub places: BTreeMap<String, Vec<String>>,
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
    /// The recipe: a further place of single packages.
    Place,
    /// The recipe: the URL of record of a tarball.
    Url,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Given => "given mirror",
            Self::Site => "mirror of the site",
            Self::Host => "apt source of this host",
            Self::Record => "archive of record",
            Self::Place => "further place of the recipe",
            Self::Url => "URL of record",
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

/// What is filled into a further place of a package.
#[derive(Debug, Clone, Copy)]
pub struct Filling<'a> {
    /// The package's name.
    pub name: &'a str,
    /// Its version, with an epoch if it has one.
    pub version: &'a str,
    /// Its architecture.
    pub architecture: &'a str,
    /// The name of its file in the archive.
    pub file: &'a str,
}

impl Mirrors {
    /// The further places of one package of `archive`: each a host, and a path below it that is not escaped yet.
    pub fn places(&self, archive: &str, package: Filling<'_>) -> Vec<(Candidate, String)> {
        let Filling { name, version, architecture, file } = package;
        let version = version.split_once(':').map_or(version, |(_, version)| version);
        let upstream = version.split(['+', '~', '-']).next().unwrap_or(version);
        let fill = |template: &String| {
            let (scheme, rest) = template.split_once("://")?;
            let (host, path) = rest.split_once('/')?;
            let path = path
                .replace("{name}", name)
                .replace("{version}", version)
                .replace("{upstream}", upstream)
                .replace("{architecture}", architecture)
                .replace("{file}", file);
            Some((Candidate { origin: Origin::Place, uri: format!("{scheme}://{host}/") }, path))
        };
        self.places.get(archive).into_iter().flatten().filter_map(fill).collect()
    }

    /// The places of the tarball `name`, whose URL of record is `url`: mirrors have it under its file name.
    pub fn tarball(&self, name: &str, url: &str) -> Vec<(Candidate, String)> {
        let file = mirror_name(url);
        let mirrors = [(Origin::Given, &self.given), (Origin::Site, &self.site)];
        let mirrors = mirrors.into_iter().flat_map(|(origin, map)| {
            map.get(name)
                .into_iter()
                .flatten()
                .map(move |uri| (origin, uri.trim_end_matches('/').to_owned() + "/"))
        });
        let mirrors = mirrors.map(|(origin, uri)| Some((Candidate { origin, uri }, file.clone()?)));
        let mut places: Vec<_> = mirrors.flatten().collect();
        places.push((Candidate { origin: Origin::Url, uri: url.to_owned() }, String::new()));
        places
    }
}

/// What mirrors have the tarball with this URL under: the file's name, with what is escaped in a URL taken back.
pub fn mirror_name(url: &str) -> Option<String> {
    let name = super::http::decode(file_name(url)?);
    let inside = !matches!(name.as_str(), "." | "..") && !name.contains(|c: char| c == '/' || c.is_control());
    inside.then_some(name)
}

/// The URI of a directory of this machine, ending in `/`. The path has to be absolute.
pub fn directory_uri(path: &str) -> String {
    super::http::join("file://", &format!("{}/", path.trim_end_matches('/')))
}

/// The file's name in the URL of a tarball, as it stands there.
pub fn file_name(url: &str) -> Option<&str> {
    let path = url.split(['?', '#']).next()?.split_once("://")?.1.split_once('/')?.1;
    path.rsplit('/').next().filter(|name| !matches!(*name, "" | "." | ".."))
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
            places: BTreeMap::new(),
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
    fn places_are_filled_with_what_packages_are_called() {
        let template = "https://h.example/deb/v{upstream}/{version}/{name}/{architecture}/{file}";
        let places = BTreeMap::from([("x".to_owned(), vec![template.to_owned()])]);
        let mirrors = Mirrors { places, ..Mirrors::default() };
        let found = |version: &str| {
            let package = Filling { name: "a", version, architecture: "amd64", file: "a_1.deb" };
            let (candidate, path) = mirrors.places("x", package).remove(0);
            assert_eq!(candidate.uri, "https://h.example/");
            path
        };
        assert_eq!(found("1:10.11.11+deb13"), "deb/v10.11.11/10.11.11+deb13/a/amd64/a_1.deb");
        assert_eq!(found("7.1.4-3-trixie"), "deb/v7.1.4/7.1.4-3-trixie/a/amd64/a_1.deb");
        assert!(
            mirrors
                .places("y", Filling { name: "a", version: "1", architecture: "all", file: "f" })
                .is_empty()
        );
    }

    #[test]
    fn mirrors_have_a_tarball_under_its_file_name() {
        let one = |uri: &str| BTreeMap::from([("t".to_owned(), vec![uri.to_owned()])]);
        let mirrors =
            Mirrors { given: one("file:///m/t/"), site: one("http://s.example/t"), ..Mirrors::default() };
        let found = mirrors.tarball("t", "https://h.example/a/b%2B1.tar.gz?raw=1");
        let lines: Vec<_> = found.iter().map(|(c, path)| format!("{}: {}|{path}", c.origin, c.uri)).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        given mirror: file:///m/t/|b+1.tar.gz
        mirror of the site: http://s.example/t/|b+1.tar.gz
        URL of record: https://h.example/a/b%2B1.tar.gz?raw=1|
        ");
    }

    #[test]
    fn the_name_of_a_file_is_the_last_part_of_its_path() {
        assert_eq!(file_name("https://h/a/b-1.tar.gz?x=/y"), Some("b-1.tar.gz"));
        assert_eq!(file_name("https://h/a/"), None);
        assert_eq!(file_name("https://h"), None);
        assert_eq!(mirror_name("https://h/a%2Fb"), None);
        assert_eq!(mirror_name("https://h/a%20b").as_deref(), Some("a b"));
        assert_eq!(directory_uri("/a b/c+%"), "file:///a%20b/c%2B%25/");
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
