//! Two builds at once on one store: they share work, give the same bytes, and one goes on when the other is killed.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::built::hashes;
use crate::quick::{Corner, Hashes, Quick, Watched, quick, slow};

fn start(corner: &Corner, quick: &Quick, image: &str, result: &Path) -> Watched {
    let mut command = quick.0.command(&quick.1, &[image, "--result"]);
    Watched::start(command.arg(result).env("BUILD_IMAGES_STORE", corner.store()))
}

/// Hashes of both images, built one after the other.
fn alone(quick: &Quick) -> [Hashes; 2] {
    let corner = Corner::new();
    corner.run(quick, &[]).code(0);
    assert_eq!(corner.damaged(), [""; 0]);
    ["app", "bare"].map(|image| corner.hashes(image))
}

/// Starts a build of `first` and stops it in the middle of its first layer, then one of `second` that comes to wait for it
/// with the words `waiting`.
fn meet(
    corner: &Corner,
    quick: &Quick,
    [(first, there), (second, here)]: [(&str, &PathBuf); 2],
    waiting: &str,
) -> (Watched, Watched) {
    let mut one = start(corner, quick, first, there);
    one.reach(", base: configuring");
    one.signal(Signal::STOP);
    let mut two = start(corner, quick, second, here);
    two.reach(waiting);
    (one, two)
}

#[test]
fn two_builds_of_one_image_make_each_layer_once() {
    let Some(quick) = slow() else { return };
    let [good, _] = alone(&quick);
    let waiting = "app: waiting for another build of the same image";
    for same_place in [true, false] {
        let corner = Corner::new();
        let results = [corner.path("one"), corner.path(if same_place { "one" } else { "two" })];
        let (one, two) = meet(&corner, &quick, [("app", &results[0]), ("app", &results[1])], waiting);
        one.signal(Signal::CONT);
        let (one, two) = (one.end().code(0), two.end().code(0));
        assert!(one.out.contains("app    built, 2 layers"), "{}", one.out);
        let shared = if same_place { "app    nothing changed" } else { "app    built, 0 of " };
        // How many frames there are depends on their size, and on how what is in them compresses.
        assert!(two.out.contains(shared), "{}", two.out);
        assert_eq!(one.err.matches("configuring").count(), 3, "{}", one.err);
        assert_eq!(two.err.matches("configuring").count(), 0, "{}", two.err);
        for result in &results {
            assert_eq!(hashes(&result.join("app")), good);
        }
        assert_eq!(corner.damaged(), [""; 0]);
        assert_eq!(corner.temporary(), [""; 0]);
    }
}

#[test]
fn builds_of_two_images_share_the_layer_below() {
    let Some(quick) = slow() else { return };
    let [good, other] = alone(&quick);
    let corner = Corner::new();
    let result = corner.path("result");
    let waiting = "bare, base: waiting for another build of the same packages";
    let (one, two) = meet(&corner, &quick, [("app", &result), ("bare", &result)], waiting);
    one.signal(Signal::CONT);
    let (one, two) = (one.end().code(0), two.end().code(0));
    assert_eq!(one.err.matches("base: configuring").count(), 2, "{}", one.err);
    assert_eq!(two.err.matches("configuring").count(), 0, "{}", two.err);
    assert_eq!((corner.hashes("app"), corner.hashes("bare")), (good, other));
    assert_eq!(corner.damaged(), [""; 0]);
    assert_eq!(corner.temporary(), [""; 0]);
}

#[test]
fn when_one_of_two_builds_is_killed_the_other_goes_on() {
    let Some(quick) = slow() else { return };
    let good = alone(&quick);
    let images = [
        ("app", "app: waiting for another build of the same image"),
        ("bare", "bare, base: waiting for another build of the same packages"),
    ];
    for (number, (image, waiting)) in images.into_iter().enumerate() {
        let corner = Corner::new();
        let result = corner.path("result");
        let (one, two) = meet(&corner, &quick, [("app", &result), (image, &result)], waiting);
        one.signal(Signal::KILL);
        let one = one.end();
        assert_eq!(one.code, -1, "{}", one.err);
        let two = two.end().code(0);
        assert_eq!(two.err.matches("base: configuring").count(), 2, "{}", two.err);
        assert_eq!(corner.hashes(image), good[number]);
        assert_eq!(corner.damaged(), [""; 0]);
        // What the killed one left goes with the next run that begins.
        corner.run(&quick, &[]).code(0);
        assert_eq!(corner.temporary(), [""; 0]);
    }
}

#[test]
fn waiting_for_another_build_can_be_interrupted() {
    let Some(quick) = slow() else { return };
    let corner = Corner::new();
    let result = corner.path("result");
    for (image, waiting) in [("app", "of the same image"), ("bare", "of the same packages")] {
        let (one, two) = meet(&corner, &quick, [("app", &result), (image, &result)], waiting);
        two.signal(Signal::INT);
        assert_eq!(two.end().code, 130);
        one.signal(Signal::KILL);
        one.end();
    }
}

#[test]
fn builds_side_by_side_without_any_order_give_the_same_bytes() {
    let Some(quick) = quick() else { return };
    let [good, other] = alone(&quick);
    let corner = Corner::new();
    let results = ["one", "two"].map(|name| corner.path(name));
    let all = [("app", &results[0]), ("app", &results[0]), ("bare", &results[0]), ("app", &results[1])];
    let builds = all.map(|(image, result)| start(&corner, &quick, image, result));
    let runs = builds.map(|build| build.end().code(0));
    let count = |text: &str| runs.iter().map(|run| run.err.matches(text).count()).sum::<usize>();
    // Each layer is read back once, whoever came first.
    assert_eq!(count("reading the tree back"), 2);
    assert_eq!(hashes(&results[0].join("app")), good);
    assert_eq!(hashes(&results[1].join("app")), good);
    assert_eq!(hashes(&results[0].join("bare")), other);
    assert_eq!(corner.damaged(), [""; 0]);
    assert_eq!(corner.temporary(), [""; 0]);
}
