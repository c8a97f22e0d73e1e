//! The apt sources of the build host: mirrors that an administrator already chose.
//!
//! In: the root below which `etc/apt` is. Out: the URIs of binary package sources. What such a mirror serves is checked
//! like everything else, so nothing is trusted here; a file that cannot be read is passed over.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::control::stanzas;

/// The largest sources file that is read, in bytes.
const FILE_LIMIT: u64 = 1 << 20;

/// Base URIs of the host's enabled `deb` sources below `root`, each with a `/` at the end, in the order in which apt
/// reads them, without repetitions.
pub fn host_sources(root: &Path) -> Vec<String> {
    let directory = root.join("etc/apt");
    let mut files = vec![directory.join("sources.list")];
    files.extend(parts(&directory.join("sources.list.d")));
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for file in files {
        let Some(text) = read(&file) else { continue };
        let deb822 = file.extension().is_some_and(|extension| extension == "sources");
        let uris = if deb822 { uris_of_stanzas(&text) } else { uris_of_lines(&text) };
        found.extend(uris.into_iter().filter(|uri| seen.insert(uri.clone())));
    }
    found
}

/// The sources files in a directory, sorted by name as apt does.
fn parts(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let wanted = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "list" || extension == "sources")
    };
    let mut files: Vec<_> = entries.filter(wanted).collect();
    files.sort();
    files
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(FILE_LIMIT).read_to_string(&mut text).ok()?;
    Some(text)
}

/// `deb [options] URI suite component…`
fn uris_of_lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let uri = |line: &str| {
        let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        with_slash(rest.split_whitespace().next()?)
    };
    lines.filter_map(uri).collect()
}

/// deb822 stanzas with `Types`, `URIs` and perhaps `Enabled: no`.
fn uris_of_stanzas(text: &str) -> Vec<String> {
    let enabled = stanzas(text).flatten().filter(|stanza| {
        let types = stanza.get("Types").unwrap_or_default();
        let off = ["no", "false", "0", "off", "without", "disable"];
        types.split_whitespace().any(|name| name == "deb")
            && !stanza.get("Enabled").is_some_and(|value| off.contains(&value.to_lowercase().as_str()))
    });
    let uris = enabled.flat_map(|stanza| {
        let uris = stanza.get("URIs").unwrap_or_default();
        uris.split_whitespace().filter_map(with_slash).collect::<Vec<_>>()
    });
    uris.collect()
}

/// A URI that can be fetched from, with a `/` at its end. apt knows more schemes (`cdrom:`, `mirror+file:`).
fn with_slash(uri: &str) -> Option<String> {
    let uri = uri.strip_prefix("copy:").map_or_else(|| uri.to_owned(), |path| format!("file://{path}"));
    // apt also takes `file:/path`.
    let uri = match uri.strip_prefix("file:") {
        Some(path) if !path.starts_with("//") => format!("file://{path}"),
        _ => uri,
    };
    let known = ["http://", "https://", "file://"].iter().any(|scheme| uri.starts_with(scheme));
    known.then(|| if uri.ends_with('/') { uri } else { uri + "/" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_formats_in_apts_order() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("etc/apt/sources.list.d");
        fs::create_dir_all(&directory).unwrap();
        let write = |name: &str, text: &str| fs::write(root.path().join("etc/apt").join(name), text).unwrap();
        write(
            "sources.list",
            "# deb http://off.example/debian a main\n\
             deb [arch=amd64 signed-by=/k.gpg] http://one.example/debian trixie main # why\n\
             deb-src http://source.example/debian trixie main\n\
             deb cdrom:[Debian]/ trixie main\n",
        );
        write("sources.list.d/b.list", "deb\tfile:/srv/mirror/debian trixie main\n");
        write(
            "sources.list.d/a.sources",
            "Types: deb deb-src\nURIs: http://one.example/debian/ https://two.example/debian-security\nSuites: x\n\n\
             Types: deb\nEnabled: no\nURIs: http://disabled.example/debian\n\n\
             Types: deb-src\nURIs: http://source.example/debian\n",
        );
        write("sources.list.d/ignored.save", "deb http://ignored.example/debian x main\n");
        insta::assert_snapshot!(host_sources(root.path()).join("\n"), @r"
        http://one.example/debian/
        https://two.example/debian-security/
        file:///srv/mirror/debian/
        ");
        assert_eq!(host_sources(&root.path().join("nowhere")), Vec::<String>::new());
    }
}
