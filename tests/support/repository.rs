//! An apt repository in memory, signed and served.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use build_images::apt::lockfile::{LockedArchive, LockedPackage, LockedSuite};
use build_images::apt::sync::definition;
use build_images::digest::Sha256;
use build_images::model::recipe::Archive;
use jiff::Timestamp;

use super::deb::{Built, Deb, gzip, xz};
use super::keys::{Key, Signing, clear_sign};
use super::server::Server;

/// The time of the tests: a day after the Release was signed, six before it ends.
pub const NOW: &str = "2026-11-02T00:00:00Z";

/// When the Release is signed, unless said otherwise.
pub const SIGNED: &str = "2026-11-01T00:00:00Z";

/// Until when the Release is good, unless said otherwise.
pub const VALID_UNTIL: &str = "2026-11-08T00:00:00Z";

/// `text` as a time.
pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A repository being described: one suite, one component, architecture amd64.
pub struct Repository {
    name: String,
    suite: String,
    component: String,
    packages: Vec<Deb>,
    signers: Vec<(Key, Signing)>,
    date: Timestamp,
    valid_until: Option<Timestamp>,
    fields: BTreeMap<String, String>,
    index: Option<String>,
    listed: BTreeMap<String, (Sha256, u64)>,
    compressions: Vec<&'static str>,
    omitted: Vec<&'static str>,
    unlisted: Vec<&'static str>,
    edit: Vec<Edit>,
}

/// A change to InRelease after it was signed.
type Edit = Box<dyn Fn(String) -> String>;

/// A repository that answers on the loopback interface until dropped.
pub struct Served {
    /// The server, for faults and for what was asked.
    pub server: Server,
    /// Fingerprints of the signers' primary keys, in order.
    pub fingerprints: Vec<String>,
    archive: Archive,
    locked: LockedArchive,
    packages: Vec<LockedPackage>,
}

impl Default for Repository {
    fn default() -> Self {
        Self::new()
    }
}

impl Repository {
    /// An empty archive `test` with suite `trixie` and component `main`, signed by a good key unless
    /// [`signer`](Self::signer) names others.
    pub fn new() -> Self {
        Self {
            name: "test".to_owned(),
            suite: "trixie".to_owned(),
            component: "main".to_owned(),
            packages: Vec::new(),
            signers: Vec::new(),
            date: time(SIGNED),
            valid_until: Some(time(VALID_UNTIL)),
            fields: BTreeMap::new(),
            index: None,
            listed: BTreeMap::new(),
            compressions: vec![".xz", ".gz"],
            omitted: Vec::new(),
            unlisted: Vec::new(),
            edit: Vec::new(),
        }
    }

    /// The archive's name in recipe and lock.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// The suite, as `Suite`, `Codename` and directory.
    pub fn suite(mut self, suite: &str) -> Self {
        self.suite = suite.to_owned();
        self
    }

    pub fn package(mut self, package: Deb) -> Self {
        self.packages.push(package);
        self
    }

    /// Adds a signature by `key`'s subkey, made when the Release is dated.
    pub fn signer(self, key: Key) -> Self {
        let created = self.date;
        self.signer_with(key, Signing::at(created))
    }

    /// Adds a signature.
    pub fn signer_with(mut self, key: Key, signing: Signing) -> Self {
        self.signers.push((key, signing));
        self
    }

    /// `Date` of the Release. Give it before any signer.
    pub fn date(mut self, date: &str) -> Self {
        self.date = time(date);
        self
    }

    /// `Valid-Until` of the Release; none leaves it out.
    pub fn valid_until(mut self, valid_until: Option<&str>) -> Self {
        self.valid_until = valid_until.map(time);
        self
    }

    /// Sets a field of the Release to something else, before signing: `.release_field("Codename", "bookworm")`.
    pub fn release_field(mut self, name: &str, value: &str) -> Self {
        self.fields.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Leaves a field out of the Release.
    pub fn without(mut self, name: &'static str) -> Self {
        self.omitted.push(name);
        self
    }

    /// Leaves indices whose names end so out of the Release's list: `/Packages` for those that are not compressed.
    pub fn unlisted(mut self, end: &'static str) -> Self {
        self.unlisted.push(end);
        self
    }

    /// The text of the Packages file instead of the one made from the packages.
    pub fn index(mut self, text: &str) -> Self {
        self.index = Some(text.to_owned());
        self
    }

    /// What the Release says of `path` (below `dists/SUITE/`) instead of the truth, before signing.
    pub fn listed(mut self, path: &str, sha256: Sha256, size: u64) -> Self {
        self.listed.insert(path.to_owned(), (sha256, size));
        self
    }

    /// The compressed forms of the index that exist, `.xz` and `.gz` by default.
    pub fn compressions(mut self, suffixes: &[&'static str]) -> Self {
        self.compressions = suffixes.to_vec();
        self
    }

    /// Changes InRelease after it was signed.
    pub fn tamper(mut self, edit: impl Fn(String) -> String + 'static) -> Self {
        self.edit.push(Box::new(edit));
        self
    }

    /// Signs everything and answers requests for it.
    pub fn serve(self) -> Served {
        let built: Vec<Built> = self.packages.iter().map(Deb::build).collect();
        let packages: Vec<LockedPackage> =
            self.packages.iter().zip(&built).map(|(deb, built)| self.locked_package(deb, built)).collect();
        let index = self.index.clone().unwrap_or_else(|| {
            let stanza = |(built, locked): (&Built, &LockedPackage)| {
                format!(
                    "{}Filename: {}\nSize: {}\nSHA256: {}\n\n",
                    built.control, locked.path, locked.size, locked.sha256
                )
            };
            built.iter().zip(&packages).map(stanza).collect()
        });

        let directory = format!("{}/binary-amd64", self.component);
        let mut indices = BTreeMap::from([(format!("{directory}/Packages"), index.clone().into_bytes())]);
        for suffix in &self.compressions {
            let bytes = match *suffix {
                ".xz" => xz(index.as_bytes()),
                ".gz" => gzip(index.as_bytes()),
                other => panic!("no index is compressed with `{other}`"),
            };
            indices.insert(format!("{directory}/Packages{suffix}"), bytes);
        }
        let release = self.release(&indices);
        let generated = [(Key::generate(), Signing::at(self.date))];
        let signers: &[(Key, Signing)] = if self.signers.is_empty() { &generated } else { &self.signers };
        let by: Vec<(&Key, Signing)> = signers.iter().map(|(key, signing)| (key, *signing)).collect();
        let in_release = clear_sign(&release, &by);
        let in_release = self.edit.iter().fold(in_release, |text, edit| edit(text));

        let mut files = BTreeMap::new();
        let suite = &self.suite;
        let in_release_hash = Sha256::of(&in_release);
        files.insert(format!("{}/dists/{suite}/InRelease", self.name), in_release.into_bytes());
        for (path, bytes) in indices {
            // As in Debian, the uncompressed index is listed but not there.
            if !path.ends_with("/Packages") || self.compressions.is_empty() {
                let by_hash =
                    format!("{}/dists/{suite}/{directory}/by-hash/SHA256/{}", self.name, Sha256::of(&bytes));
                files.insert(by_hash, bytes.clone());
                files.insert(format!("{}/dists/{suite}/{path}", self.name), bytes);
            }
        }
        for (built, locked) in built.into_iter().zip(&packages) {
            files.insert(format!("{}/{}", self.name, locked.path), built.bytes);
        }
        let server = Server::start(files);
        let fingerprints: Vec<String> = signers.iter().map(|(key, _)| key.fingerprint()).collect();
        let archive = Archive {
            name: self.name.clone(),
            uri: format!("{}{}/", server.uri(), self.name),
            suites: vec![self.suite.clone()],
            components: vec![self.component.clone()],
            keys: signers.iter().map(|(key, _)| key.certificate()).collect(),
            fingerprints: fingerprints.clone(),
            ..Archive::default()
        };
        let locked = LockedArchive {
            name: self.name.clone(),
            uri: archive.uri.clone(),
            definition: definition(&archive),
            suite: vec![LockedSuite {
                name: self.suite.clone(),
                date: self.date.to_string(),
                valid_until: self.valid_until.map(|until| until.to_string()),
                inrelease: in_release_hash,
                signed_by: fingerprints.clone(),
            }],
        };
        Served { server, fingerprints, archive, locked, packages }
    }

    fn locked_package(&self, deb: &Deb, built: &Built) -> LockedPackage {
        LockedPackage {
            name: deb.name.clone(),
            version: deb.version.clone(),
            architecture: deb.architecture.clone(),
            archive: self.name.clone(),
            suite: self.suite.clone(),
            path: format!("pool/{}", deb.file_name()),
            size: built.bytes.len() as u64,
            sha256: Sha256::of(&built.bytes),
        }
    }

    fn release(&self, indices: &BTreeMap<String, Vec<u8>>) -> String {
        let date = |time: &Timestamp| time.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string();
        let mut fields = vec![
            ("Origin", "Test".to_owned()),
            ("Suite", self.suite.clone()),
            ("Codename", self.suite.clone()),
            ("Date", date(&self.date)),
            ("Acquire-By-Hash", "yes".to_owned()),
            ("Architectures", "amd64".to_owned()),
            ("Components", self.component.clone()),
        ];
        fields.extend(self.valid_until.as_ref().map(|until| ("Valid-Until", date(until))));
        let mut text = String::new();
        for (name, value) in fields.into_iter().filter(|(name, _)| !self.omitted.contains(name)) {
            let value = self.fields.get(name).unwrap_or(&value);
            writeln!(text, "{name}: {value}").unwrap();
        }
        text += "SHA256:\n";
        let listed = |path: &&String| !self.unlisted.iter().any(|end| path.ends_with(end));
        for (path, bytes) in indices.iter().filter(|(path, _)| listed(path)) {
            let truth = (Sha256::of(bytes), bytes.len() as u64);
            let (sha256, size) = self.listed.get(path).copied().unwrap_or(truth);
            writeln!(text, " {sha256} {size} {path}").unwrap();
        }
        text
    }
}

impl Served {
    /// The archive as a recipe declares it.
    pub fn archive(&self) -> Archive {
        self.archive.clone()
    }

    /// The archive as a lock holds it.
    pub fn locked(&self) -> LockedArchive {
        self.locked.clone()
    }

    /// The packages as a lock holds them, in the order in which they were added.
    pub fn locked_packages(&self) -> Vec<LockedPackage> {
        self.packages.clone()
    }

    /// The path of InRelease on the server.
    pub fn in_release(&self) -> String {
        format!("{}/dists/{}/InRelease", self.archive.name, self.archive.suites[0])
    }

    /// The path of a package's .deb on the server.
    pub fn deb(&self, name: &str) -> String {
        let package = self.packages.iter().find(|package| package.name == name).unwrap();
        format!("{}/{}", self.archive.name, package.path)
    }

    /// Paths on the server that hold the index with this end (`.xz`, `.gz`): by hash and by name.
    pub fn index_paths(&self, suffix: &str) -> Vec<String> {
        let named = format!(
            "{}/dists/{}/{}/binary-amd64/Packages{suffix}",
            self.archive.name, self.archive.suites[0], self.archive.components[0]
        );
        let bytes = self.server.file(&named);
        let hash = Sha256::of(&bytes).to_string();
        let by_hash = self.server.paths().into_iter().find(|path| path.ends_with(&hash)).unwrap();
        vec![by_hash, named]
    }

    /// `text` with the port and every key of this repository replaced, for snapshots.
    pub fn redact(&self, text: &str) -> String {
        let text = text.replace(&format!(":{}/", self.server.port()), ":PORT/");
        redact_hex(&text)
    }
}

/// `text` with every fingerprint, key id and hash shortened to what it is.
pub fn redact_hex(text: &str) -> String {
    let mut redacted = String::new();
    let mut run = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_hexdigit() {
            run.push(c);
            continue;
        }
        match run.len() {
            64 => redacted += "HASH",
            40 => redacted += "FINGERPRINT",
            16 => redacted += "KEYID",
            _ => redacted += &run,
        }
        run.clear();
        redacted.push(c);
    }
    redacted.pop();
    redacted
}
