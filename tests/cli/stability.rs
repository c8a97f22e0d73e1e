//! What a change of this project's image costs, as bytes of frames that the archive did not have before.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::built::Place;
use crate::project::{Run, program};
use crate::support::updates;

/// The frames of an artifact: bytes by hash.
struct Frames(BTreeMap<String, u64>);

impl Frames {
    fn of(result: &Path) -> Self {
        let manifest: Value =
            serde_json::from_slice(&fs::read(result.join("manifest.json")).unwrap()).unwrap();
        let frames = manifest["frames"].as_array().unwrap().iter();
        Self(frames.map(|frame| (frame["sha256"].to_string(), frame["size"].as_u64().unwrap())).collect())
    }

    fn bytes(&self) -> u64 {
        self.0.values().sum()
    }

    /// How many frames are new since `before`, and their bytes.
    fn new_since(&self, before: &Self) -> (usize, u64) {
        let new: Vec<_> = self.0.iter().filter(|(hash, _)| !before.0.contains_key(*hash)).collect();
        (new.len(), new.into_iter().map(|(_, size)| size).sum())
    }
}

/// An edited file under /etc changes at most two frames, an edited template under one percent of the image.
pub fn of_edits(place: &Place, result: &Path) {
    let before = Frames::of(result);
    assert!(before.0.len() > 50 && before.bytes() > 50 << 20, "{} frames", before.0.len());
    let edited = |file: &str| {
        let path = place.path("project/recipes").join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}# edited\n")).unwrap();
        let built = Run::of(place.command(&["--json"]).output().unwrap()).code(0).json();
        let after = Frames::of(result);
        fs::write(&path, text).unwrap();
        assert_eq!((&built[0]["layers_built"], &built[0]["done"]), (&0.into(), &"built".into()), "{built}");
        let (count, bytes) = after.new_since(&before);
        assert_eq!(built[0]["frames_compressed"], count, "{built}");
        (count, bytes)
    };
    // /etc/ssh/sshd_config.d/10-keys-only.conf
    let (count, _) = edited("debian-13/files/sshd-keys-only.conf");
    assert!((1..=2).contains(&count), "{count} frames");
    for template in ["qBittorrent.conf.tera", "prepare.tera", "qbittorrent.service.tera"] {
        let (count, bytes) = edited(&format!("qbittorrent/files/{template}"));
        assert!(count >= 1 && bytes * 100 < before.bytes(), "{template}: {bytes} bytes in {count} frames");
    }
    Run::of(place.command(&[]).output().unwrap()).code(0);
    assert_eq!(Frames::of(result).0, before.0);
}

/// An update that the archives hold since the last point release changes at most the packages' compressed bytes and 2 % of
/// the image.
#[expect(clippy::print_stdout, reason = "the measured figures")]
pub fn of_an_update(place: &Place) {
    let project = place.project("updates");
    let run = |arguments: &[&str]| {
        let mut command = program();
        command.arg("--root").arg(&project).arg("--store").arg(place.path("store")).args(arguments);
        Run::of(command.output().unwrap()).code(0)
    };
    let packages = || updates::packages(&run(&["show", "qbittorrent", "--json"]).json());
    let build = || {
        run(&[]);
        Frames::of(&project.join("result/qbittorrent"))
    };
    let lock = project.join("images/images.lock");
    fs::remove_file(&lock).unwrap();
    run(&["lock"]);
    let newest = packages();
    updates::lock_the_point_release(&project, || drop(run(&["lock"])));

    let (had, before) = (packages(), build());
    // Right after a point release there is none.
    if let Some((name, _)) = newest.iter().find(|(name, hash)| had.get(*name) != Some(hash)) {
        run(&["update", name]);
        let (has, after) = (packages(), build());
        let own = updates::changed(&had, &has, &place.path("store/debs"));
        let (count, bytes) = after.new_since(&before);
        let beyond = bytes.saturating_sub(own.iter().sum());
        println!(
            "update {name}: {} packages; {bytes} bytes in {count} of {} frames, beyond theirs {:.2} % of the image",
            own.len(),
            after.0.len(),
            beyond as f64 * 100.0 / after.bytes() as f64
        );
        assert!(!own.is_empty() && count > 0, "{name}");
        assert!(
            beyond * 50 <= after.bytes(),
            "{name}: {bytes} bytes in {count} frames, {own:?} of the packages"
        );
    }
    // What only this needed goes.
    fs::remove_dir_all(&project).unwrap();
    Run::of(place.command(&["gc"]).output().unwrap()).code(0);
}
