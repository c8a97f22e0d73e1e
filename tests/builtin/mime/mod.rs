//! `update-mime-database`.

mod elements;
mod odd;

use std::fs;
use std::path::Path;

use crate::world::World;

const PROGRAM: &str = "update-mime-database";
const MIME: &str = "/usr/share/mime";
const WORDS: &[&str] = &[MIME];
/// Where the sample of packages' files is.
const SAMPLES: &str = "/usr/share/sample-types";
/// What the program writes beside the files of types.
const LISTS: [&str; 12] = [
    "XMLnamespaces",
    "aliases",
    "generic-icons",
    "globs",
    "globs2",
    "icons",
    "magic",
    "mime.cache",
    "subclasses",
    "treemagic",
    "types",
    "version",
];

/// Two roots with nothing in `/usr/share/mime` but shared-mime-info's own file.
fn unmade() -> Option<World> {
    let world = World::new()?;
    world.change(|root| {
        for entry in fs::read_dir(root.join("usr/share/mime")).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true if entry.file_name() == "packages" => {}
                true => fs::remove_dir_all(entry.path()).unwrap(),
                false => fs::remove_file(entry.path()).unwrap(),
            }
        }
    });
    Some(world)
}

/// As [`unmade`], without any packages.
fn bare() -> Option<World> {
    let world = unmade()?;
    world
        .list("/usr/share/mime/packages")
        .iter()
        .for_each(|name| world.remove(&format!("{MIME}/packages/{name}")));
    Some(world)
}

/// A file of packages with these elements.
fn document(inside: &str) -> String {
    let namespace = "http://www.freedesktop.org/standards/shared-mime-info";
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<mime-info xmlns=\"{namespace}\">\n{inside}</mime-info>\n"
    )
}

fn put(world: &World, name: &str, inside: &str) {
    world.write(&format!("{MIME}/packages/{name}.xml"), document(inside));
}

/// Whether everything is there that the program makes.
fn is_made(world: &World) -> bool {
    LISTS.iter().all(|name| world.has(&format!("{MIME}/{name}")))
}

#[test]
fn the_whole_set_from_nothing_and_again() {
    let Some(mut world) = unmade() else { return };
    assert!(!world.has("/usr/share/mime/mime.cache"));
    world.must(PROGRAM, WORDS);
    assert!(is_made(&world) && world.has("/usr/share/mime/application/x-bittorrent.xml"));
    world.must(PROGRAM, WORDS);
    world.set("PKGSYSTEM_ENABLE_FSYNC", "0");
    // Types that are gone, in directories that are looked into and in one that is not.
    for stale in
        ["application/x-gone.xml", "chemical/Gone.xml", "other/x-gone.xml", "text/notes.txt", "font/.xml"]
    {
        world.write(&format!("{MIME}/{stale}"), "stale");
    }
    world.link("/usr/share/mime/image/x-gone.xml", "png.xml");
    world.link("/usr/share/mime/image/png.xml", "gif.xml");
    world.link("/usr/share/mime/aliases", "nowhere");
    world.must(PROGRAM, WORDS);
    assert!(
        !world.has("/usr/share/mime/application/x-gone.xml") && world.has("/usr/share/mime/other/x-gone.xml")
    );
    put(&world, "Override", "<mime-type type='text/plain'><comment>Said last</comment></mime-type>");
    world.must(PROGRAM, WORDS);
    world.remove(&format!("{MIME}/packages/freedesktop.org.xml"));
    world.must(PROGRAM, WORDS);
    world.remove(&format!("{MIME}/packages/Override.xml"));
    world.must(PROGRAM, WORDS);
    assert!(is_made(&world) && !world.has("/usr/share/mime/text/plain.xml"));
}

#[test]
fn types_of_other_packages() {
    let Some(world) = World::new() else { return };
    let names = world.list(SAMPLES);
    assert!(names.len() > 10, "{names:?}");
    let mut understood = Vec::new();
    for name in &names {
        let Some(mut world) = bare() else { return };
        take(&world, name);
        if world.call(PROGRAM, WORDS) {
            understood.push(name.as_str());
        }
    }
    println!("{} of {} are understood: {understood:?}", understood.len(), names.len());
    assert!(understood.len() * 10 > names.len() * 7);
    let Some(mut world) = unmade() else { return };
    understood.iter().for_each(|name| take(&world, name));
    world.must(PROGRAM, WORDS);
    for name in understood.iter().step_by(2) {
        world.remove(&format!("{MIME}/packages/{name}"));
    }
    world.must(PROGRAM, WORDS);
}

/// Makes one of the samples a file of packages.
fn take(world: &World, name: &str) {
    let copy = |root: &Path| {
        let to = root.join("usr/share/mime/packages").join(name);
        fs::copy(root.join(SAMPLES.trim_start_matches('/')).join(name), to).unwrap();
    };
    world.change(copy);
}
