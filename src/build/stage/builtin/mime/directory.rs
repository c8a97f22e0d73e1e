//! What is in `/usr/share/mime`, and what becomes of it.

use std::collections::{BTreeMap, BTreeSet};

use rustix::fs::{FileType, Mode};

use super::MIME;
use crate::build::stage::failure::Failure;
use crate::build::stage::root::{Attributes, Root};

/// The directories in which files of types that are gone are looked for.
const MEDIA: [&str; 17] = [
    "all",
    "uri",
    "print",
    "text",
    "application",
    "image",
    "audio",
    "inode",
    "video",
    "message",
    "model",
    "multipart",
    "x-content",
    "x-epoc",
    "x-scheme-handler",
    "font",
    "chemical",
];

/// Files by name.
type Files = BTreeMap<String, Vec<u8>>;

/// What is to be done.
pub(super) struct Directory<'a> {
    root: &'a Root,
    /// Paths of files that go.
    old: Vec<String>,
    /// Paths of directories that are missing.
    new: Vec<String>,
    /// By path, in the order of writing.
    files: Vec<(String, Vec<u8>)>,
}

impl<'a> Directory<'a> {
    /// Looks at what is there; nothing when any of it is odd. `types` are by directory; whether there is still a type is
    /// asked by its name.
    pub fn plan<const N: usize>(
        root: &'a Root,
        lists: [(&str, Vec<u8>); N],
        types: BTreeMap<String, Files>,
        is_type: impl Fn(&str) -> bool,
    ) -> Option<Self> {
        let mut plan = Self { root, old: Vec::new(), new: Vec::new(), files: Vec::new() };
        let top = plan.names("")?;
        let taken = |media: &str| {
            let media = media.strip_suffix(".new").unwrap_or(media);
            media == "packages" || lists.iter().any(|(name, _)| *name == media)
        };
        if types.keys().any(|media| taken(media)) {
            return None;
        }
        let mut inside = BTreeMap::new();
        for media in
            MEDIA.into_iter().chain(types.keys().map(String::as_str)).filter(|media| top.contains(*media))
        {
            inside.insert(media.to_owned(), plan.names(&format!("/{media}"))?);
        }
        for media in MEDIA {
            let stems = inside.get(media).into_iter().flatten().filter_map(|name| name.strip_suffix(".xml"));
            let gone = stems.filter(|stem| !stem.is_empty() && !is_type(&format!("{media}/{stem}")));
            plan.old.extend(gone.map(|stem| format!("{MIME}/{media}/{stem}.xml")));
        }
        if !plan.old.iter().all(|path| plan.is_file(path) == Some(true)) {
            return None;
        }
        let none = BTreeSet::new();
        for (media, files) in types {
            let there = inside.get(&media);
            if there.is_none() {
                plan.new.push(format!("{MIME}/{media}"));
            }
            for (name, bytes) in files {
                plan.add(there.unwrap_or(&none), format!("{MIME}/{media}"), &name, bytes)?;
            }
        }
        for (name, bytes) in lists {
            plan.add(&top, MIME.to_owned(), name, bytes)?;
        }
        Some(plan)
    }

    /// The names in a directory that new files can be put into.
    fn names(&self, below: &str) -> Option<BTreeSet<String>> {
        let path = format!("{MIME}{below}");
        let stat = self.root.stat(path.as_bytes()).ok()??;
        let plain = FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            // What is made there would be of its group.
            && !Mode::from_raw_mode(stat.st_mode).contains(Mode::SGID);
        if !plain {
            return None;
        }
        self.root.list(&path).ok()??.into_iter().map(|name| String::from_utf8(name).ok()).collect()
    }

    /// Whether there is something that a file can take the place of.
    fn is_file(&self, path: &str) -> Option<bool> {
        let kind = self.root.kind(path).ok()??;
        Some(matches!(kind, FileType::RegularFile | FileType::Symlink))
    }

    /// Adds a file in a directory that has the names `there`.
    fn add(&mut self, there: &BTreeSet<String>, directory: String, name: &str, bytes: Vec<u8>) -> Option<()> {
        let path = format!("{directory}/{name}");
        // What an interrupted run left would be written into as it is.
        let left = there.contains(&format!("{name}.new"));
        if left || there.contains(name) && self.is_file(&path) != Some(true) {
            return None;
        }
        self.files.push((path, bytes));
        Some(())
    }

    /// Makes the directory so.
    pub fn commit(&self) -> Result<(), Failure> {
        self.old.iter().try_for_each(|path| self.root.remove(path))?;
        self.new.iter().try_for_each(|path| self.root.make_directory(path, 0o755))?;
        self.files
            .iter()
            .try_for_each(|(path, bytes)| self.root.write(path, bytes, Attributes::of_root(0o644)))
    }
}
