//! `update-mime-database`: the lists, the cache and the file of each type that are made from `/usr/share/mime/packages`.
//!
//! Some of these are written in the order of GLib's hash tables, the files of types as libxml2 writes them; so these two
//! have to be the known ones as well as the program.
//!
//! Declined: every directory but the image's, XML with anything that is not known, whatever the program would complain
//! of, odd things where files are to be written.

mod cache;
mod directory;
mod packages;
mod pattern;
mod table;
mod text;
mod types;
mod value;
mod xml;

use std::collections::BTreeMap;

use rustix::fs::FileType;

use directory::Directory;
use types::{Database, split};

use super::answer::{Answer, Call, Peer};
use super::known;
use crate::build::stage::root::Root;

const PROGRAM: &str = "/usr/bin/update-mime-database";
/// The program of shared-mime-info 2.4-5+b2 for amd64.
const KNOWN: [&str; 1] = ["33f5ce2d4f529ea3d433dce6f5378eb7620a6c029367dc5e76b3e3ca541c7923"];
/// The libraries that it is linked with: links, and what they have to begin with. Security updates leave these alone.
const LIBRARIES: [(&str, &str); 2] = [
    ("/usr/lib/x86_64-linux-gnu/libglib-2.0.so.0", "libglib-2.0.so.0.8400."),
    ("/usr/lib/x86_64-linux-gnu/libxml2.so.2", "libxml2.so.2.9.14"),
];
/// What the program writes into `version`.
const VERSION: &str = "2.4\n";
const MIME: &str = "/usr/share/mime";
const PACKAGES: &str = "/usr/share/mime/packages";
/// What is read last.
const OVERRIDE: &str = "Override.xml";
/// Bytes of one file of packages, and of all, that are read at most.
const MAX_FILE: i64 = 4 << 20;
const MAX_TOTAL: i64 = 8 << 20;

/// See the module.
pub(super) fn update_mime_database(call: &Call, root: &Root, _: &mut dyn Peer) -> Answer {
    root.forget();
    match plan(call, root).map(|directory| directory.commit()) {
        None => Answer::Decline,
        Some(Ok(())) => Answer::success(),
        Some(Err(failure)) => Answer::failed(call, &failure),
    }
}

fn plan<'a>(call: &Call, root: &'a Root) -> Option<Directory<'a>> {
    let odd = ["XDG_DATA_DIRS", "XDG_DATA_HOME", "LD_LIBRARY_PATH", "LD_PRELOAD"];
    if call.words() != [MIME]
        || odd.iter().any(|name| call.environment.contains_key(*name))
        || !known::is(root, PROGRAM, &KNOWN).ok()?
    {
        return None;
    }
    for (link, begins) in LIBRARIES {
        if !root.read_link(link).ok()??.starts_with(begins.as_bytes()) {
            return None;
        }
    }
    let mut database = read(root)?;
    database.sort();
    let [globs, globs2] = text::globs(&database);
    let lists = [
        ("globs", globs),
        ("globs2", globs2),
        ("magic", text::magic(&database)),
        ("XMLnamespaces", text::namespaces(&database)),
        ("subclasses", text::subclasses(&database)),
        ("aliases", text::aliases(&database)),
        ("types", text::types(&database)),
        ("generic-icons", text::icons(&database.generic_icons)),
        ("icons", text::icons(&database.icons)),
        ("treemagic", text::tree_magic(&database)),
        ("mime.cache", cache::file(&database)),
        ("version", VERSION.into()),
    ];
    let mut types = BTreeMap::new();
    for (name, id) in database.names.iter() {
        let (media, subtype) = split(name)?;
        let files: &mut BTreeMap<_, _> = types.entry(media.to_ascii_lowercase()).or_default();
        // Of two that differ only by case the one that is written last stays.
        files.insert(format!("{}.xml", subtype.to_ascii_lowercase()), xml::file(database.kind(*id)));
    }
    Directory::plan(root, lists, types, |name| database.names.get(name).is_some())
}

/// Reads all files of packages.
fn read(root: &Root) -> Option<Database> {
    let mut names = Vec::new();
    for name in root.list(PACKAGES).ok()?? {
        let name = String::from_utf8(name).ok()?;
        if name.ends_with(".xml") && name.len() > ".xml".len() {
            names.push(name);
        }
    }
    names.sort_by_key(|name| name == OVERRIDE);
    let mut database = Database::new();
    let mut total = 0;
    for name in names {
        let path = format!("{PACKAGES}/{name}");
        let stat = root.stat(path.as_bytes()).ok()??;
        total += stat.st_size;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !regular || stat.st_size > MAX_FILE || total > MAX_TOTAL {
            return None;
        }
        packages::read(&root.read_text(&path).ok()??, &mut database)?;
    }
    Some(database)
}
