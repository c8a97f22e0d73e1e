//! Makes a .deb in memory: an `ar` of `debian-binary`, `control.tar` and `data.tar`.

use std::collections::BTreeMap;
use std::io::Write as _;

use tar::{EntryType, Header};

/// How the two tar files inside are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// `control.tar`, `data.tar`.
    None,
    /// `.gz`.
    Gzip,
    /// `.xz`, what Debian uses.
    Xz,
    /// `.zst`.
    Zstd,
}

/// A package being described. Directories above a file are added by themselves, as root's with mode 0755.
#[derive(Debug, Clone)]
pub struct Deb {
    pub name: String,
    pub version: String,
    pub architecture: String,
    fields: Vec<(String, String)>,
    control: BTreeMap<String, (Vec<u8>, u32)>,
    conffiles: Vec<String>,
    entries: BTreeMap<String, Entry>,
    raw: Vec<(Header, Vec<u8>)>,
    compression: Compression,
    mtime: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    kind: EntryType,
    bytes: Vec<u8>,
    link: String,
    mode: u32,
    owner: (u64, u64),
}

/// A finished package.
#[derive(Debug, Clone)]
pub struct Built {
    /// The .deb.
    pub bytes: Vec<u8>,
    /// Its control file, with a line feed at the end.
    pub control: String,
}

impl Deb {
    /// An empty package for amd64.
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            fields: Vec::new(),
            control: BTreeMap::new(),
            conffiles: Vec::new(),
            entries: BTreeMap::new(),
            raw: Vec::new(),
            compression: Compression::Xz,
            mtime: 1_700_000_000,
        }
    }

    pub fn architecture(mut self, architecture: &str) -> Self {
        self.architecture = architecture.to_owned();
        self
    }

    /// Adds a field to the control file: `.field("Depends", "b (>= 1)")`.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A maintainer script (`preinst`, `postinst`, `prerm`, `postrm`, `config`), mode 0755.
    pub fn script(mut self, name: &str, text: &str) -> Self {
        self.control.insert(name.to_owned(), (text.as_bytes().to_vec(), 0o755));
        self
    }

    /// Another file of the control part (`triggers`, `md5sums`, `templates`), mode 0644.
    pub fn control_file(mut self, name: &str, text: &str) -> Self {
        self.control.insert(name.to_owned(), (text.as_bytes().to_vec(), 0o644));
        self
    }

    /// A file of root's with mode 0644.
    pub fn file(self, path: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.file_with(path, bytes, 0o644, (0, 0))
    }

    /// A file with a mode and an owner (uid, gid).
    pub fn file_with(self, path: &str, bytes: impl AsRef<[u8]>, mode: u32, owner: (u64, u64)) -> Self {
        let bytes = bytes.as_ref().to_vec();
        self.entry(path, Entry { kind: EntryType::Regular, bytes, link: String::new(), mode, owner })
    }

    /// A file that dpkg keeps when the administrator changed it.
    pub fn conffile(mut self, path: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.conffiles.push(path.to_owned());
        self.file(path, bytes)
    }

    pub fn directory(self, path: &str, mode: u32, owner: (u64, u64)) -> Self {
        let kind = EntryType::Directory;
        self.entry(path, Entry { kind, bytes: Vec::new(), link: String::new(), mode, owner })
    }

    /// A symbolic link.
    pub fn link(self, path: &str, target: &str) -> Self {
        let (kind, link) = (EntryType::Symlink, target.to_owned());
        self.entry(path, Entry { kind, bytes: Vec::new(), link, mode: 0o777, owner: (0, 0) })
    }

    /// A second name of the file `target`. It has to sort behind that.
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        let (kind, link) = (EntryType::Link, format!(".{target}"));
        self.entry(path, Entry { kind, bytes: Vec::new(), link, mode: 0o644, owner: (0, 0) })
    }

    /// A member exactly as given, behind all others: for what no honest package has. The header's size and checksum are
    /// filled in.
    pub fn raw(mut self, header: Header, bytes: impl AsRef<[u8]>) -> Self {
        self.raw.push((header, bytes.as_ref().to_vec()));
        self
    }

    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    fn entry(mut self, path: &str, entry: Entry) -> Self {
        self.entries.insert(path.trim_matches('/').to_owned(), entry);
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its file in a pool.
    pub fn file_name(&self) -> String {
        let version = self.version.split_once(':').map_or(self.version.as_str(), |(_, rest)| rest);
        format!("{}_{version}_{}.deb", self.name, self.architecture)
    }

    pub fn build(&self) -> Built {
        let mut control = format!(
            "Package: {}\nVersion: {}\nArchitecture: {}\n",
            self.name, self.version, self.architecture
        );
        let given = |name: &str| self.fields.iter().any(|(field, _)| field == name);
        if !given("Maintainer") {
            control += "Maintainer: Nobody <nobody@example.org>\n";
        }
        if !given("Description") {
            control += "Description: made for a test\n";
        }
        for (name, value) in &self.fields {
            control += &format!("{name}: {value}\n");
        }
        let bytes = ar(&[
            ("debian-binary".to_owned(), b"2.0\n".to_vec()),
            self.compressed("control.tar", self.control_tar(&control)),
            self.compressed("data.tar", self.data_tar()),
        ]);
        Built { bytes, control }
    }

    fn control_tar(&self, control: &str) -> Vec<u8> {
        let mut files = self.control.clone();
        files.insert("control".to_owned(), (control.as_bytes().to_vec(), 0o644));
        if !self.conffiles.is_empty() {
            let list: String = self.conffiles.iter().map(|path| format!("{path}\n")).collect();
            files.insert("conffiles".to_owned(), (list.into_bytes(), 0o644));
        }
        let mut builder = tar::Builder::new(Vec::new());
        let header = self.header("./", EntryType::Directory, 0o755, (0, 0));
        append(&mut builder, header, &[]);
        for (name, (bytes, mode)) in files {
            let header = self.header(&format!("./{name}"), EntryType::Regular, mode, (0, 0));
            append(&mut builder, header, &bytes);
        }
        builder.into_inner().unwrap()
    }

    fn data_tar(&self) -> Vec<u8> {
        let mut entries = self.entries.clone();
        for path in self.entries.keys() {
            let mut rest = path.as_str();
            while let Some((parent, _)) = rest.rsplit_once('/') {
                entries.entry(parent.to_owned()).or_insert(Entry {
                    kind: EntryType::Directory,
                    bytes: Vec::new(),
                    link: String::new(),
                    mode: 0o755,
                    owner: (0, 0),
                });
                rest = parent;
            }
        }
        let mut builder = tar::Builder::new(Vec::new());
        append(&mut builder, self.header("./", EntryType::Directory, 0o755, (0, 0)), &[]);
        for (path, entry) in entries {
            let slash = if entry.kind == EntryType::Directory { "/" } else { "" };
            let mut header = self.header(&format!("./{path}{slash}"), entry.kind, entry.mode, entry.owner);
            if !entry.link.is_empty() {
                header.set_link_name_literal(&entry.link).unwrap();
            }
            append(&mut builder, header, &entry.bytes);
        }
        for (header, bytes) in &self.raw {
            append(&mut builder, header.clone(), bytes);
        }
        builder.into_inner().unwrap()
    }

    fn header(&self, path: &str, kind: EntryType, mode: u32, (uid, gid): (u64, u64)) -> Header {
        let mut header = Header::new_gnu();
        // `set_path` would take the leading `./` away.
        let name = &mut header.as_gnu_mut().unwrap().name;
        assert!(path.len() < name.len(), "the test package's path `{path}` is too long");
        name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_mtime(self.mtime);
        header
    }

    fn compressed(&self, name: &str, bytes: Vec<u8>) -> (String, Vec<u8>) {
        match self.compression {
            Compression::None => (name.to_owned(), bytes),
            Compression::Gzip => (format!("{name}.gz"), gzip(&bytes)),
            Compression::Xz => (format!("{name}.xz"), xz(&bytes)),
            Compression::Zstd => (format!("{name}.zst"), zstd::encode_all(bytes.as_slice(), 3).unwrap()),
        }
    }
}

fn append(builder: &mut tar::Builder<Vec<u8>>, mut header: Header, bytes: &[u8]) {
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    builder.append(&header, bytes).unwrap();
}

/// An `ar` archive of `members`, as dpkg-deb writes it.
pub fn ar(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, contents) in members {
        writeln!(bytes, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, "100644", contents.len()).unwrap();
        bytes.extend_from_slice(contents);
        if contents.len() % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}

pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
