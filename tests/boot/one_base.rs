//! Both images of this project in one run: the packages of the base are installed, compressed and kept once.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::jellyfin::built;
use crate::prepared;
use crate::support::jellyfin::{NEW, OLD};
use crate::world::{expect_success, read};

/// The frames of an artifact: bytes by hash.
fn frames(result: &Path) -> BTreeMap<String, u64> {
    let manifest: Value = serde_json::from_str(&read(&result.join("manifest.json"))).unwrap();
    let frames = manifest["frames"].as_array().unwrap().iter();
    frames.map(|frame| (frame["sha256"].to_string(), frame["size"].as_u64().unwrap())).collect()
}

#[test]
fn both_images_in_one_run_share_the_base() {
    let Some(_turn) = prepared() else { return };
    let (project, _) = built();
    let _alone = project.alone();
    let (store, result) = (project.path("store-of-both"), project.path("result-of-both"));
    let [store_text, result_text] = [&store, &result].map(|path| path.to_str().unwrap());
    let arguments = ["--json", "--store", store_text, "--result", result_text];
    // Another test moves the project to the second generation; whatever is not served then fails.
    let mut outputs = [OLD, NEW].into_iter().map(|generation| {
        for directory in [&store, &result] {
            let _ = std::fs::remove_dir_all(directory);
        }
        project.output(&generation.serve(&project.key, 48), &arguments)
    });
    let first = outputs.next().unwrap();
    let output = if first.status.success() { first } else { outputs.next().unwrap() };
    let text = expect_success("build-images", &output);
    let said: Value = serde_json::from_str(&text).unwrap();
    let of = |image: &str| said.as_array().unwrap().iter().find(|row| row["image"] == image).unwrap();
    let layers =
        |image: &str| [&of(image)["layers_built"], &of(image)["layers_reused"]].map(|n| n.as_u64().unwrap());
    assert_eq!([layers("jellyfin"), layers("qbittorrent")], [[2, 0], [1, 1]], "{said}");
    // The base, one layer on it for each.
    assert_eq!(std::fs::read_dir(store.join("layers")).unwrap().count(), 3);

    let [jellyfin, qbittorrent] = ["jellyfin", "qbittorrent"].map(|image| frames(&result.join(image)));
    let shared: Vec<u64> =
        qbittorrent.iter().filter(|(hash, _)| jellyfin.contains_key(*hash)).map(|(_, size)| *size).collect();
    // More than half of the image is the base, and hardly a byte of that is there twice.
    assert!(shared.iter().sum::<u64>() * 2 > qbittorrent.values().sum(), "{shared:?}");
    let reused = of("qbittorrent")["frames_reused"].as_u64().unwrap();
    // Some are of both by their bytes alone, not by what they were made from.
    assert!(reused * 10 >= shared.len() as u64 * 9, "{said}");
    for directory in [store, result] {
        std::fs::remove_dir_all(directory).unwrap();
    }
}
