//! Collects what becomes a layer while the root is made: contents go to the pack as they are placed, and the trees before
//! and after the last scripts are read from the root.

use std::collections::BTreeMap;
use std::fs::File;

use rustix::fs::Stat;

use super::failure::Failure;
use super::known::{Known, Seen};
use super::packing::Packing;
use super::place::Placed;
use super::read_back::{ReadBack, read_back, walk};
use super::root::Root;
use crate::tree::{Content, Tree};

/// Is told what happens to the root.
pub(super) trait Gather {
    /// Packages are placed from now on; no script runs until [`Gather::round`] or [`Gather::unpacked`].
    fn begin(&mut self);

    /// A regular file was placed: `file`, open for reading, which has `stat` and holds what was `seen`.
    ///
    /// # Errors
    /// When its content, or one before, cannot be kept.
    fn file(&mut self, file: File, stat: &Stat, seen: Seen) -> Result<(), Failure>;

    /// A whole package was placed.
    fn package(&mut self);

    /// The packages of a round that is not the last are placed; scripts run next.
    ///
    /// # Errors
    /// When the root cannot be read, or what is in it cannot be kept.
    fn round(&mut self) -> Result<(), Failure>;

    /// All packages are placed; the last scripts run next.
    ///
    /// # Errors
    /// When the root cannot be read, or what is in it cannot be kept.
    fn unpacked(&mut self, placed: &Placed) -> Result<(), Failure>;
}

/// Collects one layer.
pub(super) struct Gatherer<'a, F> {
    pub root: &'a Root,
    pub known: &'a mut Known,
    pub pack: Packing,
    /// What times are clamped to, in seconds since 1970.
    pub epoch: i64,
    /// Gets what the layer will be if the last scripts change nothing, once.
    pub foresee: Option<F>,
}

impl<F: FnOnce(Tree, BTreeMap<Content, u64>)> Gather for Gatherer<'_, F> {
    fn begin(&mut self) {
        self.known.watch().hear();
        self.pack.begin();
    }

    fn file(&mut self, file: File, stat: &Stat, seen: Seen) -> Result<(), Failure> {
        self.pack.add(seen.content, file).map_err(cannot_pack)?;
        self.known.note(stat, seen);
        Ok(())
    }

    fn package(&mut self) {
        self.known.watch().skip();
    }

    fn round(&mut self) -> Result<(), Failure> {
        self.placed()?;
        let (entries, _) = walk(self.root)?;
        self.known.look(self.root.inode(), &entries);
        self.known.wait();
        Ok(())
    }

    fn unpacked(&mut self, placed: &Placed) -> Result<(), Failure> {
        self.placed()?;
        let tree = self.read(placed)?.tree;
        if let Some(foresee) = self.foresee.take() {
            foresee(tree, self.pack.places().map_err(cannot_pack)?);
        }
        self.known.wait();
        Ok(())
    }
}

impl<F> Gatherer<'_, F> {
    /// Waits until all that was placed is in the pack.
    fn placed(&mut self) -> Result<(), Failure> {
        drop(self.pack.writer().map_err(cannot_pack)?);
        // The last files that it was given could be written, and are closed only now.
        self.known.watch().skip();
        Ok(())
    }

    fn read(&mut self, placed: &Placed) -> Result<ReadBack, Failure> {
        let mut pack = self.pack.writer().map_err(cannot_pack)?;
        read_back(self.root, placed, self.known, self.epoch, &mut pack)
    }

    /// Reads the root as the last scripts left it; gives that, and where each content lies in the pack.
    ///
    /// # Errors
    /// As [`Gather::unpacked`].
    pub fn finish(mut self, placed: &Placed) -> Result<(ReadBack, BTreeMap<Content, u64>), Failure> {
        let read = self.read(placed)?;
        Ok((read, self.pack.places().map_err(cannot_pack)?))
    }
}

fn cannot_pack(error: std::io::Error) -> Failure {
    Failure::Worker { reason: format!("cannot write the layer's pack: {error}") }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::FileExt as _;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::layer::PackWriter;
    use crate::tree::TreePath;

    fn place(gatherer: &mut impl Gather, root: &Root, path: &str, text: &str) {
        let (directory, name) = root.parent(path.as_bytes()).unwrap();
        let mut file = directory.create(name).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        let content = Content::of(text.as_bytes());
        gatherer.file(file, &stat, Seen { content, xattrs: BTreeMap::new(), foreign: false }).unwrap();
    }

    /// As a script would: in place, of the same length.
    fn change(path: &Path, text: &str) {
        File::options().write(true).open(path).unwrap().write_all_at(text.as_bytes(), 0).unwrap();
    }

    fn held(tree: &Tree, path: &str) -> Content {
        *tree[&TreePath::new(path).unwrap()].content().unwrap()
    }

    #[test]
    fn what_scripts_of_any_round_change_is_read_again() {
        let memory = Path::new("/dev/shm");
        let directory =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let at = |path: &str| directory.path().join(path);
        fs::create_dir(at("in")).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY;
        let root =
            Root::new(rustix::fs::open(directory.path(), flags, rustix::fs::Mode::empty()).unwrap()).unwrap();
        let (mut known, mut foreseen) = (Known::new(directory.path()), None);
        let (pack, placed) = (tempfile::tempfile().unwrap(), HashMap::new());
        let mut gatherer = Gatherer {
            root: &root,
            known: &mut known,
            pack: Packing::new(PackWriter::new(pack.try_clone().unwrap(), Arc::default())),
            epoch: 7,
            foresee: Some(|tree, packed| foreseen = Some((tree, packed))),
        };
        gatherer.begin();
        for name in ["in/kept", "in/first", "in/twice", "in/opened"] {
            place(&mut gatherer, &root, name, "old");
        }
        gatherer.package();
        gatherer.round().unwrap();
        change(&at("in/first"), "one");
        change(&at("in/twice"), "one");
        // As one who writes through a mapping, which need not move a time.
        drop(File::options().write(true).open(at("in/opened")).unwrap());
        gatherer.begin();
        place(&mut gatherer, &root, "in/late", "old");
        place(&mut gatherer, &root, "in/last", "old");
        gatherer.package();
        gatherer.placed().unwrap();
        let entries = walk(&root).unwrap().0;
        gatherer.known.look(root.inode(), &entries);
        let is_known = |path: &str| gatherer.known.get(&entries[&TreePath::new(path).unwrap()]).is_some();
        assert!(["in/kept", "in/late", "in/last"].into_iter().all(is_known));
        assert!(!["in/first", "in/twice", "in/opened"].into_iter().any(is_known));
        gatherer.unpacked(&placed).unwrap();
        change(&at("in/twice"), "two");
        change(&at("in/late"), "two");
        let (ReadBack { tree, .. }, packed) = gatherer.finish(&placed).unwrap();

        let names = ["in/kept", "in/first", "in/twice", "in/late", "in/last"];
        let texts = |tree: &Tree| names.map(|name| held(tree, name));
        let of = |texts: [&str; 5]| texts.map(|text| Content::of(text.as_bytes()));
        let (early, _) = foreseen.unwrap();
        assert_eq!(texts(&early), of(["old", "one", "one", "old", "old"]));
        assert_eq!(texts(&tree), of(["old", "one", "two", "two", "old"]));
        assert_eq!(packed.len(), 3);
        for (content, offset) in packed {
            let mut bytes = [0; 3];
            pack.read_exact_at(&mut bytes, offset).unwrap();
            assert_eq!(Content::of(&bytes), content);
        }
    }
}
