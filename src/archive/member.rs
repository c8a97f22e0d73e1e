//! Tar members: one per entry of the tree, checked against what Proxmox's extraction can restore.

use std::collections::BTreeMap;

use tar::{EntryType, Header};

use super::acl;
use crate::tree::{Content, Kind, Node, Tree, TreePath};

/// A member that goes before the tree: the pct configuration, perhaps firewall rules.
#[derive(Debug, Clone)]
pub struct Head {
    /// Where it lies in the container.
    pub path: TreePath,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// One member: its header blocks and where its bytes come from.
#[derive(Debug)]
pub(super) struct Member {
    /// What it is called.
    pub path: Option<TreePath>,
    /// What it is a further name of.
    pub link_target: Option<TreePath>,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// The pax header, if it needs one, and its own header: whole blocks.
    pub header: Vec<u8>,
    /// Its contents.
    pub source: MemberSource,
}

/// Where a member's bytes come from.
#[derive(Debug)]
pub(super) enum MemberSource {
    /// It has none.
    Nothing,
    /// The tree's contents.
    Content(Content),
    /// Here.
    Bytes(Vec<u8>),
}

impl Member {
    /// The path under which all names of a file stand: that of the first.
    pub fn anchor(&self) -> Option<&TreePath> {
        self.link_target.as_ref().or(self.path.as_ref())
    }

    /// Bytes of its contents.
    pub fn content_size(&self) -> u64 {
        match &self.source {
            MemberSource::Nothing => 0,
            MemberSource::Content(content) => content.size,
            MemberSource::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Bytes in the archive, all blocks counted.
    pub fn size(&self) -> u64 {
        self.header.len() as u64 + self.content_size().next_multiple_of(BLOCK)
    }
}

/// Size of a tar block.
pub(super) const BLOCK: u64 = 512;
/// Largest content that a ustar header can say.
const MAX_CONTENT: u64 = (1 << 33) - 1;
/// Largest id that an unprivileged container can have.
const MAX_ID: u32 = 65535;

/// An entry that Proxmox would refuse, change or lose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` cannot be in the archive: {fault}")]
pub struct MemberError {
    /// Which entry.
    pub path: TreePath,
    /// What is wrong with it.
    pub fault: MemberFault,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberFault {
    /// A container of 65536 ids has no such owner; extraction fails.
    #[error("its {what} is {id}, the largest id of a container is 65535")]
    Id {
        /// `owner` or `group`.
        what: &'static str,
        /// The number.
        id: u32,
    },
    /// More bits than permissions, set-id and sticky.
    #[error("its mode {0:o} has bits beyond 7777")]
    Mode(u32),
    /// Parents come first, and are directories.
    #[error("there is no directory `{0}` above it")]
    NoParent(TreePath),
    /// A hard link needs a regular file.
    #[error("it is a hard link to `{0}`, which is no regular file of the tree")]
    LinkTarget(TreePath),
    /// Proxmox skips everything below /dev.
    #[error("everything below /dev is skipped when the archive is restored")]
    BelowDev,
    /// It stands there twice; the first one would win.
    #[error("the archive has it already, as one of the members that go first")]
    Twice,
    /// The first members bring this directory into being, and its own attributes are then not applied.
    #[error(
        "it holds a member that goes first, so it must be a directory of root with mode 755 and no attributes"
    )]
    HeadParent,
    /// Proxmox restores `user.*`, `security.capability` and access control lists, nothing else.
    #[error(
        "its extended attribute `{0}` would not be restored; \
         `user.*`, `security.capability` and access control lists are"
    )]
    Attribute(String),
    /// An access control list that is malformed, or names ids that a container does not have.
    #[error("its access control list in `{0}` is malformed or names an id beyond 65535")]
    AccessList(String),
    /// Capabilities of another user namespace are lost silently.
    #[error("its capabilities are not of version 2, nor of version 3 for root")]
    Capability,
    /// A symbolic link without a target.
    #[error("it is a symbolic link to an empty or impossible target")]
    SymlinkTarget,
    /// It is too large for a tar header.
    #[error("it has {0} bytes, more than 8 GiB")]
    Size(u64),
}

/// The members of an archive: those of `head`, the root directory, then the tree in its own order.
///
/// `mtime` is the time of the root directory and of `head`, in seconds since 1970.
pub(super) fn list(head: &[Head], tree: &Tree, mtime: i64) -> Result<Vec<Member>, MemberError> {
    let mut members = Vec::with_capacity(head.len() + 1 + tree.len());
    for first in head {
        check_head(first, tree)?;
        let node = Node::file(Content::of(&first.bytes), 0o644, mtime);
        let size = first.bytes.len() as u64;
        let name = full_name(&first.path);
        let header = blocks(EntryType::Regular, &name, b"", &node, size, BTreeMap::new());
        members.push(Member {
            path: Some(first.path.clone()),
            link_target: None,
            is_directory: false,
            header,
            source: MemberSource::Bytes(first.bytes.clone()),
        });
    }
    members.push(Member {
        path: None,
        link_target: None,
        is_directory: true,
        header: blocks(EntryType::Directory, b"./", b"", &Node::directory(0o755, mtime), 0, BTreeMap::new()),
        source: MemberSource::Nothing,
    });
    for (path, node) in tree {
        members.push(member(path, node, tree)?);
    }
    Ok(members)
}

/// GNU tar makes the directories above the first members itself, with mode 755, and does not touch them again.
fn check_head(head: &Head, tree: &Tree) -> Result<(), MemberError> {
    if tree.contains_key(&head.path) {
        return Err(MemberError { path: head.path.clone(), fault: MemberFault::Twice });
    }
    for parent in head.path.ancestors().skip(1) {
        let Some(node) = tree.get(&parent) else { continue };
        let plain = node.is_directory()
            && node.mode == 0o755
            && (node.uid, node.gid) == (0, 0)
            && node.xattrs.is_empty();
        if !plain {
            return Err(MemberError { path: parent, fault: MemberFault::HeadParent });
        }
    }
    Ok(())
}

fn member(path: &TreePath, node: &Node, tree: &Tree) -> Result<Member, MemberError> {
    let fail = |fault| Err(MemberError { path: path.clone(), fault });
    if let Some(parent) = path.parent() {
        if !tree.get(&parent).is_some_and(Node::is_directory) {
            return fail(MemberFault::NoParent(parent));
        }
        if parent.as_bytes() == b"dev" || parent.as_bytes().starts_with(b"dev/") {
            return fail(MemberFault::BelowDev);
        }
    }
    let (mut link_target, mut source, mut described) = (None, MemberSource::Nothing, node);
    match &node.kind {
        Kind::File { content } => source = MemberSource::Content(*content),
        Kind::Hardlink { target } => {
            // All names of a file share its owner, mode and times; a link's own would be ignored.
            described = match tree.get(target).filter(|node| node.content().is_some()) {
                Some(file) => file,
                None => return fail(MemberFault::LinkTarget(target.clone())),
            };
            link_target = Some(target.clone());
        }
        Kind::Symlink { target } if target.0.is_empty() || target.0.contains(&0) => {
            return fail(MemberFault::SymlinkTarget);
        }
        Kind::Directory | Kind::Symlink { .. } | Kind::Fifo => {}
    }
    let mut name = full_name(path);
    let (entry_type, link) = match (&node.kind, &link_target) {
        (Kind::File { .. }, _) => (EntryType::Regular, Vec::new()),
        (Kind::Directory, _) => (EntryType::Directory, Vec::new()),
        (Kind::Symlink { target }, _) => (EntryType::Symlink, target.0.clone()),
        (Kind::Fifo, _) => (EntryType::Fifo, Vec::new()),
        (Kind::Hardlink { target }, _) => (EntryType::Link, full_name(target)),
    };
    let is_directory = entry_type == EntryType::Directory;
    if is_directory {
        name.push(b'/');
    }
    let records = match check(described, link_target.is_some()) {
        Ok(records) => records,
        Err(fault) => return fail(fault),
    };
    let size = node.content().map_or(0, |content| content.size);
    let header = blocks(entry_type, &name, &link, described, size, records);
    Ok(Member { path: Some(path.clone()), link_target, is_directory, header, source })
}

/// The name in the archive: Proxmox's exclusion of /dev matches only what begins with `./`.
fn full_name(path: &TreePath) -> Vec<u8> {
    [b"./", path.as_bytes()].concat()
}

/// Looks at everything that a header must be able to say, and gives the records of extended attributes.
fn check(node: &Node, is_link: bool) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, MemberFault> {
    for (what, id) in [("owner", node.uid), ("group", node.gid)] {
        if id > MAX_ID {
            return Err(MemberFault::Id { what, id });
        }
    }
    if node.mode > 0o7777 {
        return Err(MemberFault::Mode(node.mode));
    }
    if let Some(content) = node.content().filter(|content| content.size > MAX_CONTENT) {
        return Err(MemberFault::Size(content.size));
    }
    attributes(node, is_link)
}

/// The header blocks of one checked entry.
fn blocks(
    entry_type: EntryType,
    name: &[u8],
    link: &[u8],
    node: &Node,
    size: u64,
    mut records: BTreeMap<Vec<u8>, Vec<u8>>,
) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.set_entry_type(entry_type);
    header.set_mode(node.mode);
    header.set_uid(u64::from(node.uid));
    header.set_gid(u64::from(node.gid));
    header.set_size(size);
    let mtime = u64::try_from(node.mtime).ok().filter(|mtime| *mtime <= MAX_CONTENT);
    header.set_mtime(mtime.unwrap_or(0));
    if mtime.is_none() {
        records.insert(b"mtime".to_vec(), node.mtime.to_string().into_bytes());
    }
    if !put_name(&mut header, name) {
        records.insert(b"path".to_vec(), name.to_vec());
    }
    if !put_link(&mut header, link) {
        records.insert(b"linkpath".to_vec(), link.to_vec());
    }
    header.set_cksum();
    let mut blocks = match records.is_empty() {
        true => Vec::with_capacity(512),
        false => pax_header(&records, mtime.unwrap_or(0)),
    };
    blocks.extend_from_slice(header.as_bytes());
    blocks
}

/// The extended attributes as pax records.
fn attributes(node: &Node, is_link: bool) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, MemberFault> {
    let mut records = BTreeMap::new();
    if is_link {
        return Ok(records);
    }
    let is_file = node.content().is_some();
    for (name, value) in &node.xattrs {
        let plain = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'=' && byte != b'%');
        if let Some(record) = acl::record(name).filter(|_| is_file || node.is_directory()) {
            let text = acl::to_text(value).ok_or_else(|| MemberFault::AccessList(name.clone()))?;
            records.insert(record.into(), text.into_bytes());
            continue;
        }
        let value = match name.as_str() {
            "security.capability" if is_file => capability(value).ok_or(MemberFault::Capability)?,
            _ if name.starts_with("user.") && plain && (is_file || node.is_directory()) => value.clone(),
            _ => return Err(MemberFault::Attribute(name.clone())),
        };
        records.insert(format!("SCHILY.xattr.{name}").into_bytes(), value);
    }
    Ok(records)
}

/// File capabilities as version 2, which the kernel turns into those of the extracting container.
fn capability(value: &[u8]) -> Option<Vec<u8>> {
    let magic = u32::from_le_bytes(*value.first_chunk()?);
    match (magic & 0xff00_0000, value.len()) {
        (0x0200_0000, 20) => Some(value.to_vec()),
        // Version 3 is version 2 with the id of the namespace's root at its end.
        (0x0300_0000, 24) if value[20..] == [0; 4] => {
            let magic = (magic & 0x00ff_ffff) | 0x0200_0000;
            Some([&magic.to_le_bytes(), &value[4..20]].concat())
        }
        _ => None,
    }
}

/// Writes `name` into the header, split at a slash if it is long; says whether it fits.
fn put_name(header: &mut Header, name: &[u8]) -> bool {
    let Some(ustar) = header.as_ustar_mut() else { return false };
    if name.len() <= ustar.name.len() {
        ustar.name[..name.len()].copy_from_slice(name);
        return true;
    }
    let fits = |at: &usize| *at <= ustar.prefix.len() && name.len() - at - 1 <= ustar.name.len();
    // A directory's final slash separates nothing.
    let inner = &name[..name.len() - 1];
    let slashes = inner.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    match slashes.filter(|at| *at > 1).find(fits) {
        Some(at) => {
            ustar.prefix[..at].copy_from_slice(&name[..at]);
            ustar.name[..name.len() - at - 1].copy_from_slice(&name[at + 1..]);
            true
        }
        None => {
            // Readers use the pax record; those that cannot see the beginning.
            let length = ustar.name.len();
            ustar.name.copy_from_slice(&name[..length]);
            false
        }
    }
}

/// Writes a link's target into the header; says whether it fits.
fn put_link(header: &mut Header, link: &[u8]) -> bool {
    let Some(ustar) = header.as_ustar_mut() else { return false };
    let length = link.len().min(ustar.linkname.len());
    ustar.linkname[..length].copy_from_slice(&link[..length]);
    length == link.len()
}

/// A pax extended header with `records`, padded to whole blocks.
fn pax_header(records: &BTreeMap<Vec<u8>, Vec<u8>>, mtime: u64) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        // The length counts its own digits: "LENGTH KEY=VALUE\n".
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        body.extend_from_slice(format!("{length} ").as_bytes());
        body.extend_from_slice(key);
        body.push(b'=');
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(body.len() as u64);
    header.set_mtime(mtime);
    put_name(&mut header, b"./PaxHeader");
    header.set_cksum();
    body.resize(body.len().next_multiple_of(512), 0);
    [header.as_bytes().as_slice(), &body].concat()
}
