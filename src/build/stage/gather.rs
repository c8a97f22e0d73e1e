//! Collects what becomes a layer while the root is made: contents go to the pack as they are placed, and the trees before and after the last scripts are read from the root.

use std::collections::BTreeMap;
use std::fs::File;

use rustix::fs::Stat;

use super::failure::Failure;
use super::known::{Known, Seen};
use super::place::Placed;
use super::read_back::{ReadBack, read_back, walk};
use super::root::Root;
use crate::layer::PackWriter;
use crate::tree::{Content, Tree};

/// Is told what happens to the root.
pub(super) trait Gather {
    /// Packages are placed from now on; no script runs until [`Gather::round`] or [`Gather::unpacked`].
    fn begin(&mut self);

    /// A regular file was placed: `file`, open for reading, which has `stat` and holds what was `seen`.
    ///
    /// # Errors
    /// When its content cannot be kept.
    fn file(&mut self, file: &File, stat: &Stat, seen: Seen) -> Result<(), Failure>;

    /// A whole package was placed.
    fn package(&mut self);

    /// The packages of a round that is not the last are placed; scripts run next.
    ///
    /// # Errors
    /// When the root cannot be read.
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
    pub pack: PackWriter<'a, File>,
    /// What times are clamped to, in seconds since 1970.
    pub epoch: i64,
    /// Gets what the layer will be if the last scripts change nothing, once.
    pub foresee: Option<F>,
}

impl<F: FnOnce(Tree, BTreeMap<Content, u64>)> Gather for Gatherer<'_, F> {
    fn begin(&mut self) {
        self.known.watch().hear();
    }

    fn file(&mut self, file: &File, stat: &Stat, seen: Seen) -> Result<(), Failure> {
        self.pack.add_file(seen.content, file).map_err(cannot_pack)?;
        self.known.note(stat, seen);
        Ok(())
    }

    fn package(&mut self) {
        self.known.watch().skip();
    }

    fn round(&mut self) -> Result<(), Failure> {
        let (entries, _) = walk(self.root)?;
        self.known.look(self.root.inode(), &entries);
        self.known.wait();
        Ok(())
    }

    fn unpacked(&mut self, placed: &Placed) -> Result<(), Failure> {
        let ReadBack { tree, .. } = read_back(self.root, placed, self.known, self.epoch, &mut self.pack)?;
        if let Some(foresee) = self.foresee.take() {
            foresee(tree, self.pack.flush().map_err(cannot_pack)?.clone());
        }
        self.known.wait();
        Ok(())
    }
}

impl<F> Gatherer<'_, F> {
    /// Reads the root as the last scripts left it; gives that, and where each content lies in the pack.
    ///
    /// # Errors
    /// As [`Gather::unpacked`].
    pub fn finish(mut self, placed: &Placed) -> Result<(ReadBack, BTreeMap<Content, u64>), Failure> {
        let read = read_back(self.root, placed, self.known, self.epoch, &mut self.pack)?;
        Ok((read, self.pack.finish().map_err(cannot_pack)?))
    }
}

fn cannot_pack(error: std::io::Error) -> Failure {
    Failure::Worker { reason: format!("cannot write the layer's pack: {error}") }
}
