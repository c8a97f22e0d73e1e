//! The images of this project as they are declared: what Proxmox is told of them, and what their first start finds.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Command;

use build_images::digest::Sha256;
use build_images::model::image::Gpu;
use build_images::model::{self, Project};
use build_images::pve::config_for;

fn project() -> Project {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    model::load(root).unwrap_or_else(|problems| panic!("{}", problems.render(false)))
}

/// What a rendered file of an image holds.
fn file(project: &Project, image: &str, path: &str) -> String {
    let evaluated = model::evaluate(project, image).unwrap();
    let mut files = evaluated.recipes.into_iter().flat_map(|recipe| recipe.files);
    let file = files.find(|file| file.path.to_string() == path);
    String::from_utf8(file.unwrap_or_else(|| panic!("no `{path}`")).bytes).unwrap()
}

#[test]
fn every_image_fits_the_nodes_of_the_site() {
    let project = project();
    assert!(project.warnings.is_empty(), "{}", project.warnings.render(false));
    for image in project.images.values() {
        assert_eq!(
            config_for(image, &project.site).check(project.site.node.release.into()),
            [],
            "{}",
            image.name
        );
    }
}

#[test]
fn the_configuration_of_jellyfin() {
    let project = project();
    let text = config_for(&project.images["jellyfin"], &project.site).to_text();
    insta::assert_snapshot!("jellyfin_conf", text);
}

#[test]
fn the_seeds_of_jellyfin() {
    let project = project();
    let seed = |name: &str| file(&project, "jellyfin", &format!("/usr/share/jellyfin-image/seed/{name}"));
    insta::assert_snapshot!("jellyfin_network_xml", seed("network.xml"));
    insta::assert_snapshot!("jellyfin_encoding_xml", seed("encoding.xml"));
    insta::assert_snapshot!(
        "jellyfin_environment",
        file(&project, "jellyfin", "/etc/default/jellyfin-image")
    );
    let logging: serde_json::Value = serde_json::from_str(&seed("logging.json")).unwrap();
    let limits = &logging["Serilog"]["WriteTo"][1]["Args"]["configure"][0]["Args"];
    assert_eq!(
        (limits["fileSizeLimitBytes"].as_u64(), limits["retainedFileCountLimit"].as_u64()),
        (Some(20_000_000), Some(5))
    );
}

#[test]
fn a_graphics_card_changes_the_device_and_the_seed_and_nothing_else() {
    let without = project();
    let mut with = without.clone();
    let gpu = Gpu { device: "/dev/dri/renderD128".to_owned(), gid: 944 };
    with.images.get_mut("jellyfin").unwrap().container.gpu = Some(gpu);
    let config = |project: &Project| config_for(&project.images["jellyfin"], &project.site).to_text();
    let added: Vec<_> =
        config(&with).lines().filter(|line| !config(&without).contains(line)).map(str::to_owned).collect();
    assert_eq!(added, ["dev0: /dev/dri/renderD128,gid=944,mode=0660"]);
    let seed = "/usr/share/jellyfin-image/seed/encoding.xml";
    insta::assert_snapshot!("jellyfin_encoding_xml_gpu", file(&with, "jellyfin", seed));
    let other = "/usr/share/jellyfin-image/seed/network.xml";
    assert_eq!(file(&with, "jellyfin", other), file(&without, "jellyfin", other));
}

/// The archive of record and its key are the real ones; the resolver chooses the ffmpeg.
#[test]
fn jellyfin_comes_from_its_own_archive_with_the_key_that_debian_ships() {
    let project = project();
    let recipe = &project.recipes["jellyfin"];
    let archive = &recipe.archives["jellyfin"];
    assert_eq!(archive.uri, "https://repo.jellyfin.org/debian/");
    assert_eq!(
        (archive.suites.as_slice(), archive.components.as_slice()),
        (["trixie".to_owned()].as_slice(), ["main".to_owned()].as_slice())
    );
    assert_eq!(archive.fingerprints, ["4918AABC486CA052358D778D49023CD01DE21A7B"]);
    let hash = "a0cde241ae297fa6f0265c0bf15ce9eb9ee97c008904a59ab367a67d59532839";
    assert_eq!(archive.keys.iter().map(|key| Sha256::of(key).to_string()).collect::<Vec<_>>(), [hash]);
    assert_eq!(recipe.packages.install, ["jellyfin", "libicu76"]);
}

/// Rendered, not as templates: what a value makes of a script is part of it.
#[test]
fn scripts_of_images_have_nothing_that_shellcheck_warns_of() {
    let available = Command::new("shellcheck").arg("--version").output().is_ok();
    if !support::require("shellcheck", available) {
        return;
    }
    let mut project = project();
    let gpu = Gpu { device: "/dev/dri/renderD128".to_owned(), gid: 944 };
    project.images.get_mut("jellyfin").unwrap().container.gpu = Some(gpu);
    let mut checked = 0;
    for image in project.images.keys() {
        let evaluated = model::evaluate(&project, image).unwrap();
        let files = evaluated.recipes.into_iter().flat_map(|recipe| recipe.files);
        for file in files.filter(|file| file.bytes.starts_with(b"#!/bin/sh\n")) {
            let directory = tempfile::tempdir().unwrap();
            let script = directory.path().join("script");
            std::fs::write(&script, &file.bytes).unwrap();
            // That `mkdir -p -m` sets the mode of the last directory only is what they mean.
            let output = Command::new("shellcheck").arg("--exclude=SC2174").arg(&script).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{} of {image}:\n{said}", file.path);
            checked += 1;
        }
    }
    assert_eq!(checked, 2);
}
