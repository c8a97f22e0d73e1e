//! In which order members stand, and where frames begin: both decided by paths and packages, hardly by contents.
//!
//! Members stand in sections: those that go first; all directories; what belongs to packages, layer by layer and in
//! each by package; large files that no package owns; all else. An update of a package so touches the frames of that
//! package, an edited file of a recipe one small frame near the end, and images on the same layer have its frames in common.
//!
//! A section that is too long is cut at the boundary whose hash is the smallest, the parts again, until none is too
//! long. Boundaries between packages go before those inside one. Whether a boundary becomes a cut then depends on its
//! neighbourhood only: an edit moves no other cut, an insertion a few around it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

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
/// Where dpkg keeps its lists.
const INFO: &[u8] = b"var/lib/dpkg/info/";

/// Where a member stands: sections in the order of this enumeration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Head,
    Directories,
    /// Of the layer with this number.
    Packages(usize),
    Large,
    Loose,
}

/// Which package owns which path, as far as dpkg's lists in the tree say.
///
/// # Errors
/// When a list cannot be read.
pub(super) fn owners(tree: &Tree, contents: &dyn Contents) -> io::Result<BTreeMap<TreePath, String>> {
    let mut owners = BTreeMap::new();
    let (Ok(first), Ok(prefix)) = (TreePath::new(INFO), TreePath::new(INFO)) else { return Ok(owners) };
    for (path, node) in tree.range(first..).take_while(|(path, _)| path.is_within(&prefix)) {
        let name = String::from_utf8_lossy(path.name());
        let Some((package, suffix)) = name.rsplit_once('.') else { continue };
        // `libc6:amd64.list`; a package has lists even without a field Multi-Arch, then without the architecture.
        let package = package.split(':').next().unwrap_or(package).to_owned();
        if let Some(content) = node.content().filter(|content| suffix == "list" && content.size <= MAX_LIST) {
            own_listed(&mut owners, tree, &package, &contents.read(content)?);
        }
        if suffix != "list" || node.content().is_some() {
            owners.insert(path.clone(), package);
        }
    }
    Ok(owners)
}

fn own_listed(owners: &mut BTreeMap<TreePath, String>, tree: &Tree, package: &str, list: &[u8]) {
    for line in list.split(|byte| *byte == b'\n').filter(|line| line.len() > 2) {
        // Lists may name `/lib/…` where the tree has `/usr/lib/…`.
        let spellings = [line.to_vec(), [b"/usr", line].concat()];
        let mut paths = spellings.iter().filter_map(|path| TreePath::new(path).ok());
        if let Some(path) = paths.find(|path| tree.contains_key(path)) {
            owners.entry(path).or_insert_with(|| package.to_owned());
        }
    }
}

/// Some members that become one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Which members.
    pub range: Range<usize>,
    /// The layer whose packages they belong to.
    pub layer: Option<usize>,
}

/// Sorts `members` into archive order and gives the frames. `layers` has the layer that brings each package; one that is
/// not named there comes after all others.
pub(super) fn arrange(
    members: &mut [Member],
    owners: &BTreeMap<TreePath, String>,
    layers: &BTreeMap<String, usize>,
    heads: usize,
    parameters: &Parameters,
) -> Vec<Part> {
    let sizes: BTreeMap<TreePath, u64> =
        members.iter().filter_map(|member| Some((member.path.clone()?, member.content_size()))).collect();
    let place = |member: &Member| {
        // All names of a file stand together, the file first.
        let anchor = member.link_target.as_ref().or(member.path.as_ref());
        let owner = anchor.and_then(|path| owners.get(path));
        let size = anchor.and_then(|path| sizes.get(path)).copied().unwrap_or(0);
        let section = match owner {
            _ if member.is_directory => Section::Directories,
            Some(package) => Section::Packages(layers.get(package).copied().unwrap_or(usize::MAX)),
            None if size >= LARGE => Section::Large,
            None => Section::Loose,
        };
        let owner = owner.filter(|_| matches!(section, Section::Packages(_)));
        (section, owner.cloned(), anchor.cloned(), member.link_target.is_some(), member.path.clone())
    };
    let heads = heads.min(members.len());
    members[heads..].sort_by_cached_key(place);

    let boundaries: Vec<Boundary> = members
        .iter()
        .enumerate()
        .scan(None, |previous, (index, member)| {
            let (section, owner, ..) = place(member);
            let section = if index < heads { Section::Head } else { section };
            let same = previous.as_ref() == Some(&(section, owner.clone()));
            let inner = same && owner.is_some();
            let name = match &owner {
                Some(package) if !inner => package.as_bytes(),
                _ => member.path.as_ref().map_or(&b""[..], TreePath::as_bytes),
            };
            let boundary = Boundary { section, rank: (inner, Sha256::of(name)), size: member.size() };
            *previous = Some((section, owner));
            Some(boundary)
        })
        .collect();

    let mut frames = Vec::new();
    let mut start = 0;
    while let Some(first) = boundaries.get(start) {
        let length = boundaries[start..].iter().take_while(|other| other.section == first.section).count();
        let part = if first.section == Section::Loose { LOOSE_PART } else { 1 };
        let cutter = Cutter::new(&boundaries, parameters.max_frame / part, parameters.min_frame / part);
        let mut ranges = Vec::new();
        cutter.cut(start..start + length, &mut ranges);
        let layer = match first.section {
            Section::Packages(layer) => Some(layer),
            _ => None,
        };
        frames.extend(ranges.into_iter().map(|range| Part { range, layer }));
        start += length;
    }
    frames
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
