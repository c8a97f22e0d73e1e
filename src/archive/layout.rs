//! In which order members stand, and where frames begin: both decided by paths and packages, hardly by contents.
//!
//! Members stand in sections: those that go first; what belongs to packages, layer by layer, of each the directories that hold
//! something, the rest by package, and empty directories; further directories; large files that no package owns; all else. An
//! update of a package so touches the frames of that package, an edited file of a recipe one small frame near the end, and
//! images on the same layer have its frames in common.
//!
//! What scripts change most often stands late in its layer: packages that are configured by one behind the others, behind those
//! the ones whose script gives files an owner or a mode, and empty directories, which are there to be given to somebody, behind
//! all. So the frames before that, and the tar's hash over them, are what they will be before any script has run.
//!
//! A section that is too long is cut at the boundary whose hash is the smallest, the parts again, until none is too
//! long. Boundaries between packages go before those inside one. Whether a boundary becomes a cut then depends on its
//! neighbourhood only: an edit moves no other cut, an insertion a few around it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::Range;

use rayon::prelude::*;

use super::Parameters;
use super::member::{Member, MemberSource};
use crate::digest::Sha256;
use crate::tree::{Content, Contents, Tree, TreePath};

/// A file that no package owns counts as large from this size on.
const LARGE: u64 = 256 << 10;
/// Loose files are cut finer than the rest: they are what people edit.
const LOOSE_PART: u64 = 8;
/// Longest list of a package's files that is looked into; the rest of the files is then owned by none.
const MAX_LIST: u64 = 64 << 20;
/// What changes owners, modes or capabilities.
const OWNERS: [&str; 5] = ["chown", "chgrp", "chmod", "dpkg-statoverride", "setcap"];
/// Where dpkg keeps its lists.
const INFO: &[u8] = b"var/lib/dpkg/info/";

/// Where a member stands: sections in the order of this enumeration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Head,
    /// What belongs to the packages of the layer with this number; no package's, when it is the highest there is.
    Layer(usize, Within),
    Large,
    Loose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Within {
    Directories,
    Packages,
    /// Directories that hold nothing of this layer or the ones below.
    Empty,
}

/// The layer of packages of which nobody said in which they are, and of directories that no package has.
const LAST: usize = usize::MAX;

/// Which package owns which path, as far as dpkg's lists in the tree say.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// Names, each with its layer, in the order of [`Configured`].
    packages: Vec<(String, usize)>,
    /// Numbers of packages.
    files: HashMap<TreePath, usize>,
    /// The lowest layer that has each directory.
    directories: HashMap<TreePath, usize>,
}

impl Owners {
    /// Reads all lists. `layers` has the layer that brings each package.
    ///
    /// # Errors
    /// When a list cannot be read.
    pub fn read(tree: &Tree, contents: &dyn Contents, layers: &BTreeMap<String, usize>) -> io::Result<Self> {
        let Ok(info) = TreePath::new(INFO) else { return Ok(Self::default()) };
        let inside = tree.range(info.clone()..).take_while(|(path, _)| path.is_within(&info));
        let named: Vec<_> = inside.filter_map(|(path, node)| Some((path, node, named(path)?))).collect();
        let scripts = named.par_iter().filter(|(.., (_, kind))| *kind == Info::Configures);
        let configured = scripts.map(|(_, node, (package, _))| {
            let script = node.content().filter(|content| content.size <= MAX_LIST);
            let script = script.map(|content| contents.read(content)).transpose()?;
            Ok((package.as_str(), Configured::by(&script.unwrap_or_default())))
        });
        let configured = configured.collect::<io::Result<HashMap<_, _>>>()?;
        let names: BTreeSet<_> = named.iter().map(|(.., (package, _))| package.as_str()).collect();
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_by_key(|name| configured.get(name).copied().unwrap_or(Configured::Not));
        let layer = |name: &str| layers.get(name).copied().unwrap_or(LAST);
        let packages: Vec<_> = names.iter().map(|name| ((*name).to_owned(), layer(name))).collect();
        let numbers: HashMap<&str, usize> =
            names.into_iter().enumerate().map(|(number, name)| (name, number)).collect();
        let listed = named.par_iter().map(|(_, node, (_, kind))| match node.content() {
            Some(content) if *kind == Info::List && content.size <= MAX_LIST => {
                contents.read(content).map(|list| listed(tree, &list))
            }
            _ => Ok(Vec::new()),
        });
        let listed = listed.collect::<io::Result<Vec<_>>>()?;
        let mut owners = Self { packages, ..Self::default() };
        for ((path, node, (package, kind)), listed) in named.iter().zip(listed) {
            let Some(number) = numbers.get(package.as_str()).copied() else { continue };
            let layer = owners.packages[number].1;
            for (path, is_directory) in listed {
                if is_directory {
                    let lowest = owners.directories.entry(path).or_insert(layer);
                    *lowest = layer.min(*lowest);
                } else {
                    owners.files.entry(path).or_insert(number);
                }
            }
            if *kind != Info::List || node.content().is_some() {
                owners.files.insert((*path).clone(), number);
            }
        }
        Ok(owners)
    }

    /// The sections of `members` without their first `heads`, in their order, each with the number of the package.
    fn places(&self, members: &[Member], heads: usize) -> Vec<(Section, Option<usize>)> {
        let files = members.iter().filter(|member| matches!(member.source, MemberSource::Content(_)));
        let sizes: HashMap<&TreePath, u64> =
            files.filter_map(|member| Some((member.path.as_ref()?, member.content_size()))).collect();
        let place = |(index, member): (usize, &Member)| {
            if index < heads {
                return (Section::Head, None);
            }
            if member.is_directory {
                let layer = member
                    .path
                    .as_ref()
                    .map_or(0, |path| self.directories.get(path).copied().unwrap_or(LAST));
                return (Section::Layer(layer, Within::Directories), None);
            }
            // All names of a file stand together.
            let anchor = member.anchor();
            let owner = anchor.and_then(|path| self.files.get(path)).copied();
            let size = anchor.and_then(|path| sizes.get(path)).copied().unwrap_or(0);
            match owner {
                Some(number) => (Section::Layer(self.packages[number].1, Within::Packages), owner),
                None if size >= LARGE => (Section::Large, None),
                None => (Section::Loose, None),
            }
        };
        let mut places: Vec<_> = members.par_iter().enumerate().map(place).collect();
        // A directory is not behind what it holds.
        let mut needed: HashMap<&[u8], usize> = HashMap::new();
        for (member, (section, _)) in members.iter().zip(&mut places).skip(heads).rev() {
            let (Section::Layer(layer, within), Some(path)) = (section, &member.path) else { continue };
            let path = path.as_bytes();
            if member.is_directory {
                match needed.remove(path) {
                    Some(needed) if needed <= *layer => *layer = needed,
                    _ => *within = Within::Empty,
                }
            }
            if let Some(slash) = path.iter().rposition(|byte| *byte == b'/') {
                let needed = needed.entry(&path[..slash]).or_insert(*layer);
                *needed = (*needed).min(*layer);
            }
        }
        places
    }
}

/// What the script that configures a package may do to its files: it decides where the package stands in its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Configured {
    /// There is none.
    Not,
    /// Hardly anything.
    Otherwise,
    /// It names a program that changes owners, modes or capabilities.
    Owned,
}

impl Configured {
    fn by(script: &[u8]) -> Self {
        let names = |program: &&str| memchr::memmem::find(script, program.as_bytes()).is_some();
        if OWNERS.iter().any(names) { Self::Owned } else { Self::Otherwise }
    }
}

/// A file that dpkg keeps about a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Info {
    /// The list of its paths.
    List,
    /// The script that configures it.
    Configures,
    Other,
}

/// The package that a file of dpkg's belongs to, and what it is.
fn named(path: &TreePath) -> Option<(String, Info)> {
    let name = String::from_utf8_lossy(path.name());
    let (package, suffix) = name.rsplit_once('.')?;
    // `libc6:amd64.list`; a package has lists even without a field Multi-Arch, then without the architecture.
    let package = package.split(':').next().unwrap_or(package);
    let kind = match suffix {
        "list" => Info::List,
        "postinst" => Info::Configures,
        _ => Info::Other,
    };
    Some((package.to_owned(), kind))
}

/// The paths of `list` that the tree has, and whether they are directories.
fn listed(tree: &Tree, list: &[u8]) -> Vec<(TreePath, bool)> {
    let lines = list.split(|byte| *byte == b'\n').filter(|line| line.len() > 2);
    let found = lines.filter_map(|line| {
        // Lists may name `/lib/…` where the tree has `/usr/lib/…`.
        let spellings = [line.to_vec(), [b"/usr", line].concat()];
        let mut paths = spellings.iter().filter_map(|path| TreePath::new(path).ok());
        paths.find_map(|path| {
            let is_directory = tree.get(&path)?.is_directory();
            Some((path, is_directory))
        })
    });
    found.collect()
}

/// Some members that become one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Which members.
    pub range: Range<usize>,
    /// What an edit, or another layer, does to it.
    pub stability: Stability,
}

/// What becomes of a frame when a recipe's files or further packages come to the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stability {
    /// It stays as it is, and so does everything before it: it goes first or belongs to the packages of a layer.
    InPlace,
    /// Others may come before it, but it stays as it is most of the time.
    Moves,
    /// Nobody knows.
    Changes,
}

/// Sorts `members`, which come in the order of their paths, into archive order and gives the frames.
pub(super) fn arrange(
    members: Vec<Member>,
    owners: &Owners,
    heads: usize,
    parameters: &Parameters,
) -> (Vec<Member>, Vec<Part>) {
    let heads = heads.min(members.len());
    let places = owners.places(&members, heads);
    let mut sorted: Vec<_> = members.into_iter().zip(places).collect();
    sorted[heads..].par_sort_by(|(a, place), (b, other)| {
        // The file comes before its further names.
        let order = place.cmp(other).then_with(|| a.anchor().cmp(&b.anchor()));
        let order = order.then_with(|| a.link_target.is_some().cmp(&b.link_target.is_some()));
        order.then_with(|| a.path.cmp(&b.path))
    });
    let boundary = |index: usize| {
        let (member, place @ (section, owner)) = &sorted[index];
        let same = index.checked_sub(1).is_some_and(|before| sorted[before].1 == *place);
        let inner = same && owner.is_some();
        let name = match owner {
            Some(number) if !inner => owners.packages[*number].0.as_bytes(),
            _ => member.path.as_ref().map_or(&b""[..], TreePath::as_bytes),
        };
        Boundary { section: *section, rank: (inner, Sha256::of(name)), size: member.size() }
    };
    let boundaries: Vec<Boundary> = (0..sorted.len()).into_par_iter().map(boundary).collect();

    let mut frames = Vec::new();
    let mut start = 0;
    while let Some(first) = boundaries.get(start) {
        let length = boundaries[start..].iter().take_while(|other| other.section == first.section).count();
        let part = if first.section == Section::Loose { LOOSE_PART } else { 1 };
        let cutter = Cutter::new(&boundaries, parameters.max_frame / part, parameters.min_frame / part);
        let mut ranges = Vec::new();
        cutter.cut(start..start + length, &mut ranges);
        let stability = match first.section {
            Section::Layer(LAST, _) | Section::Loose => Stability::Changes,
            Section::Head | Section::Layer(..) => Stability::InPlace,
            Section::Large => Stability::Moves,
        };
        frames.extend(ranges.into_iter().map(|range| Part { range, stability }));
        start += length;
    }
    (sorted.into_iter().map(|(member, _)| member).collect(), frames)
}

/// What lies before a member.
struct Boundary {
    section: Section,
    /// Smaller is cut sooner: boundaries between packages, then those inside one, each by a hash of its name.
    rank: (bool, Sha256),
    /// Bytes of the member that follows.
    size: u64,
}

struct Cutter<'a> {
    boundaries: &'a [Boundary],
    /// Bytes of all members before each.
    offsets: Vec<u64>,
    max: u64,
    min: u64,
}

impl<'a> Cutter<'a> {
    fn new(boundaries: &'a [Boundary], max: u64, min: u64) -> Self {
        let mut total = 0;
        let mut offsets = vec![0];
        offsets.extend(boundaries.iter().map(|boundary| {
            total += boundary.size;
            total
        }));
        Self { boundaries, offsets, max, min }
    }

    /// Appends the frames of `range`, in order.
    fn cut(&self, range: Range<usize>, frames: &mut Vec<Range<usize>>) {
        let mut waiting = vec![range];
        while let Some(range) = waiting.pop() {
            match self.best(&range) {
                Some(at) => waiting.extend([at..range.end, range.start..at]),
                None => frames.push(range),
            }
        }
    }

    /// Where to cut `range`; nothing if it is short enough or cannot be cut.
    fn best(&self, range: &Range<usize>) -> Option<usize> {
        let (start, end) = (self.offsets[range.start], self.offsets[range.end]);
        if end - start <= self.max {
            return None;
        }
        let inside =
            |at: &usize| self.offsets[*at] - start >= self.min && end - self.offsets[*at] >= self.min;
        let candidates = (range.start + 1..range.end).filter(inside);
        candidates.min_by_key(|at| (self.boundaries[*at].rank, *at))
    }
}

/// What a frame's content is made of, as a key: headers and content hashes, never the contents themselves.
pub(super) fn identity(members: &[Member]) -> Sha256 {
    let mut text = Vec::new();
    for member in members {
        text.extend_from_slice(&(member.header.len() as u64).to_le_bytes());
        text.extend_from_slice(&member.header);
        let content = match &member.source {
            MemberSource::Nothing => continue,
            MemberSource::Content(content) => *content,
            MemberSource::Bytes(bytes) => Content::of(bytes),
        };
        text.extend_from_slice(content.sha256.as_bytes());
    }
    Sha256::of(&text)
}
