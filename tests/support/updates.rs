//! Updates of a project's packages that Debian's archives hold since the last point release, and what they weigh.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use build_images::apt::deb::Deb;
use serde_json::Value;

/// Locks the project at `root` as the point release alone would have it: updates and security updates are declared, but
/// no pin is moved to one of theirs. `lock` runs `build-images lock`.
pub fn lock_the_point_release(root: &Path, lock: impl Fn()) {
    let file = root.join("images/images.lock");
    if file.exists() {
        fs::remove_file(&file).unwrap();
    }
    let recipe = root.join("recipes/debian-13/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    let (head, rest) = text.split_once("[archive.debian-security]").unwrap();
    let (_, rest) = rest.split_once("\n\n").unwrap();
    let alone = format!("{}{rest}", head.replace(r#", "trixie-updates""#, ""));
    assert!(alone.contains(r#"suites = ["trixie"]"#), "{alone}");
    fs::write(&recipe, alone).unwrap();
    lock();
    fs::write(&recipe, text).unwrap();
    lock();
}

/// Names and hashes of the packages in what `show IMAGE --json` says.
pub fn packages(shown: &Value) -> BTreeMap<String, String> {
    let pair = |package: &Value| {
        let field = |name: &str| package[name].as_str().unwrap().to_owned();
        (field("name"), field("sha256"))
    };
    shown["packages"].as_array().unwrap().iter().map(pair).collect()
}

/// The bytes of the files alone of those packages of `has` that `had` has not, compressed as in an image, one by one.
/// `debs` is the store's directory of packages.
pub fn changed(had: &BTreeMap<String, String>, has: &BTreeMap<String, String>, debs: &Path) -> Vec<u64> {
    let changed = has.iter().filter(|(name, hash)| had.get(*name) != Some(hash));
    changed.map(|(_, hash)| compressed(&debs.join(hash))).collect()
}

fn compressed(deb: &Path) -> u64 {
    let deb = Deb::open(fs::File::open(deb).unwrap()).unwrap();
    zstd::encode_all(deb.data().unwrap(), 3).unwrap().len() as u64
}
