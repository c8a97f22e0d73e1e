//! Copies of what this project ships, `recipes/` and `images/`, for a test to change.

use std::fs;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;

use build_images::apt::sources::host_sources;

use super::keys::Key;

/// Jellyfin's archive as the recipe has it: the fingerprint of its key, and its URI.
const JELLYFIN: (&str, &str) =
    ("4918AABC486CA052358D778D49023CD01DE21A7B", "https://repo.jellyfin.org/debian/");

/// Makes the directory `root` a project with the recipes and images of this one.
pub fn project(root: &Path) {
    for part in ["recipes", "images"] {
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join(part), &root.join(part));
    }
}

/// Copies a directory; modes are those of new files.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::write(&to, fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

/// Replaces a text of a project's file, which has to be there.
pub fn change(root: &Path, file: &str, old: &str, new: &str) {
    let path = root.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(old), "no `{old}` in {file}");
    fs::write(path, text.replace(old, new)).unwrap();
}

/// Lets a project's Jellyfin come from an archive that `key` signs and that has to be given as a mirror: its own URI is
/// a place where nobody listens.
pub fn jellyfin_signed_by(root: &Path, key: &Key) {
    let recipe = "recipes/jellyfin/recipe.toml";
    change(root, recipe, JELLYFIN.0, &key.fingerprint());
    change(root, recipe, JELLYFIN.1, "http://127.0.0.1:1/jellyfin/");
    fs::write(root.join("recipes/jellyfin/keys/jellyfin-team.asc"), key.certificate()).unwrap();
}

/// Whether the Debian mirrors of this host's apt configuration answer.
pub fn mirrors() -> bool {
    let sources = host_sources(Path::new("/"));
    ["/debian/", "/debian-security/"].iter().all(|end| {
        let uri = sources.iter().find(|uri| uri.ends_with(end));
        let authority = uri.and_then(|uri| uri.split('/').nth(2)).unwrap_or_default();
        let address = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        let mut addresses = address.to_socket_addrs().into_iter().flatten();
        let timeout = std::time::Duration::from_secs(5);
        addresses.any(|address| TcpStream::connect_timeout(&address, timeout).is_ok())
    })
}
