//! What the flake offers, and that the documents say the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::machine::Machine;
use crate::root::{BUILDER, copy, install_flake, root};

const SYSTEMS: [&str; 2] = ["x86_64-linux", "aarch64-linux"];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

/// Whether `name` is the path of an output, as `packages.x86_64-linux.build-images`.
fn is_shown(shown: &Value, name: &str) -> bool {
    name.split('.').try_fold(shown, |at, part| at.get(part)).is_some()
}

/// The outputs that a document names: `.#NAME`, `build-images#NAME`, `URL#NAME`.
fn named(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let after = text.split('#').skip(1).zip(text.split('#'));
    let mentions = after.filter(|(_, before)| before.ends_with(['.', 's']) && !before.ends_with("..."));
    let names = mentions.map(|(rest, _)| rest.chars().take_while(|c| word(*c)).collect::<String>());
    names.map(|name| name.trim_end_matches('.').to_owned()).filter(|name| !name.is_empty()).collect()
}

#[test]
fn the_outputs_are_those_of_the_documents() {
    let Some(root) = root() else { return };
    let machine = Machine::new(root, "outputs");
    install_flake(root, &machine, BUILDER);
    let flake = |arguments: &[&str]| machine.nix(&[arguments, &["path:/src"]].concat()).good();

    flake(&["flake", "check", "--no-build", "--all-systems"]);
    let shown = flake(&["flake", "show", "--json", "--all-systems"]).out;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let images: BTreeSet<_> = fs::read_dir(repository().join("images"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| Some(name.strip_suffix(".toml")?.to_owned()))
        .filter(|name| name != "site")
        .collect();
    let mut expected: BTreeSet<_> = ["build-images", "default", "images"].map(str::to_owned).into();
    expected.extend(images.iter().map(|name| format!("image-{name}")));
    for system in SYSTEMS {
        assert_eq!(names(&shown["packages"][system]), expected, "{system}");
        let apps = ["build-images", "default"].map(str::to_owned).into();
        assert_eq!(names(&shown["apps"][system]), apps, "{system}");
        assert_eq!(names(&shown["devShells"][system]), BTreeSet::from(["default".to_owned()]), "{system}");
        let checks = names(&shown["checks"][system]);
        assert!(checks.is_superset(&["build-images", "project"].map(str::to_owned).into()), "{checks:?}");
    }
    assert_eq!(names(&shown["templates"]), BTreeSet::from(["default".to_owned()]));
    let version = machine.nix(&["run", "path:/src", "--", "--version"]).good();
    assert_eq!(version.out, format!("build-images {}\n", env!("CARGO_PKG_VERSION")));

    for document in ["README.md", "docs/fleet.md"] {
        let text = fs::read_to_string(repository().join(document)).unwrap();
        let named = named(&text);
        assert!(!named.is_empty(), "{document} names no output");
        let unknown: Vec<_> =
            named.iter().filter(|name| !expected.contains(*name) && !is_shown(&shown, name)).collect();
        assert!(unknown.is_empty(), "{document} names {unknown:?}");
    }
}

/// A flake that uses this one: from the template, with its own images.
#[test]
fn the_template_is_a_project_of_its_own() {
    let shared = repository().join("recipes/debian-13");
    assert_eq!(
        tree(&shared),
        tree(&repository().join("nix/template/recipes/debian-13")),
        "the template's base is not that of this project any more: copy it"
    );
    let Some(root) = root() else { return };
    let machine = Machine::new(root, "template");
    install_flake(root, &machine, BUILDER);
    let init = "mkdir /own && cd /own && nix flake init -t path:/src";
    machine.run("sh", &["-c", init]).good();
    assert!(machine.path("/own/recipes/debian-13/recipe.toml").exists());
    let flake = machine.read("/own/flake.nix");
    let url = flake.lines().find(|line| line.contains("build-images.url = ")).unwrap();
    let replaced = "  inputs.build-images.url = \"path:/src\";\n  \
                    inputs.build-images.inputs.nixpkgs.url = \"path:/stand-in\";";
    machine.write("/own/flake.nix", flake.replace(url, replaced));

    // Without a lock it says so, and the image is there once there is one.
    let path = ["path-info", "--derivation", "--no-write-lock-file", "path:/own#image-first"];
    let refused = machine.nix(&path).bad();
    assert!(
        refused.err.contains("there is no images/images.lock yet; run `build-images lock`"),
        "{}",
        refused.err
    );
    let lock = repository().join("images/images.lock");
    copy(&lock, &machine.path("/own/images/images.lock"));
    machine.nix(&path).good();
    // A change by hand is noticed without running anything.
    let text = fs::read_to_string(&lock).unwrap();
    machine.write("/own/images/images.lock", text.replacen("size = ", "size = 1", 1));
    let refused = machine.nix(&path).bad();
    assert!(refused.err.contains("images/images.lock was changed by hand"), "{}", refused.err);
}

/// Every file below a directory, with its contents.
fn tree(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().display().to_string();
                files.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}
