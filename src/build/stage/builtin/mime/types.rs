//! What is gathered from all packages' files before anything is written.

use super::table::Table;
use super::xml::Elements;

/// Types at most that have one pattern.
const MAX_SHARED: usize = 1024;

/// A type by its place in [`Database::types`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TypeId(usize);

/// One MIME type.
pub(super) struct Type {
    name: String,
    /// The elements of its own file.
    pub elements: Elements,
}

impl Type {
    /// Its name, with both halves.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// One file name pattern of a type.
pub(super) struct Glob {
    pub kind: TypeId,
    pub weight: u8,
    pub case_sensitive: bool,
    /// Whether it stands for the deletion of all that was said before of the type.
    pub deletes: bool,
}

/// Rules for the contents of a type's files.
pub(super) struct Magic {
    pub kind: TypeId,
    pub priority: u8,
    /// Whether they stand for the deletion of all that was said before of the type.
    pub deletes: bool,
    pub matches: Vec<Match>,
}

/// One rule for the contents of a file.
pub(super) struct Match {
    pub start: u32,
    pub length: u32,
    pub word_size: u8,
    pub data: Vec<u8>,
    pub mask: Option<Vec<u8>>,
    pub matches: Vec<Match>,
}

/// Rules for the contents of a directory.
pub(super) struct TreeMagic {
    pub kind: TypeId,
    pub priority: u8,
    pub matches: Vec<TreeMatch>,
}

/// One rule for the contents of a directory.
pub(super) struct TreeMatch {
    pub path: String,
    /// What is wanted of the file, as it is written.
    pub conditions: String,
    pub matches: Vec<TreeMatch>,
}

/// Everything that is known of all types.
pub(super) struct Database {
    types: Vec<Type>,
    /// By name.
    pub names: Table<TypeId>,
    /// By pattern, each in the order of reading.
    pub globs: Table<Vec<Glob>>,
    pub magic: Vec<Magic>,
    pub tree_magic: Vec<TreeMagic>,
    /// By namespace, a space and the local name.
    pub namespaces: Table<TypeId>,
    /// The names that types are subclasses of, by the name of the type.
    pub parents: Table<Vec<String>>,
    pub aliases: Table<TypeId>,
    /// By the name of the type.
    pub icons: Table<String>,
    pub generic_icons: Table<String>,
}

impl Database {
    /// Nothing is known.
    pub fn new() -> Self {
        Self {
            types: Vec::new(),
            names: Table::new(),
            globs: Table::new(),
            magic: Vec::new(),
            tree_magic: Vec::new(),
            namespaces: Table::new(),
            parents: Table::new(),
            aliases: Table::new(),
            icons: Table::new(),
            generic_icons: Table::new(),
        }
    }

    /// The type with a name, which is new when there was none; nothing when the name is odd.
    pub fn type_named(&mut self, name: &str) -> Option<TypeId> {
        split(name)?;
        let types = &mut self.types;
        let id = self.names.get_or_insert_with(name, || {
            types.push(Type { name: name.to_owned(), elements: Elements::default() });
            TypeId(types.len() - 1)
        });
        Some(*id)
    }

    /// What is known of one type.
    pub fn kind(&self, id: TypeId) -> &Type {
        &self.types[id.0]
    }

    /// Adds a pattern; nothing when too many types have it.
    pub fn add_glob(&mut self, pattern: &str, glob: Glob) -> Option<()> {
        let globs = self.globs.get_or_insert_with(pattern, Vec::new);
        globs.push(glob);
        (globs.len() <= MAX_SHARED).then_some(())
    }

    /// The elements of a type's own file.
    pub fn elements(&mut self, id: TypeId) -> &mut Elements {
        &mut self.types[id.0].elements
    }

    /// Puts the rules for contents into the order in which they are tried.
    pub fn sort(&mut self) {
        let types = &self.types;
        let name = |id: TypeId| split(&types[id.0].name);
        self.magic.sort_by(|a, b| {
            // Deletions come first, as they were read.
            let names = || b.priority.cmp(&a.priority).then_with(|| name(a.kind).cmp(&name(b.kind)));
            b.deletes
                .cmp(&a.deletes)
                .then_with(|| if a.deletes { std::cmp::Ordering::Equal } else { names() })
        });
        self.tree_magic
            .sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| name(a.kind).cmp(&name(b.kind))));
    }
}

/// The two halves of a type's name, if they are good for names of files as they are.
pub(super) fn split(name: &str) -> Option<(&str, &str)> {
    let (media, subtype) = name.split_once('/')?;
    let plain = |part: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte);
        !part.is_empty() && part.len() <= 127 && !part.starts_with('.') && part.bytes().all(known)
    };
    (plain(media) && plain(subtype)).then_some((media, subtype))
}
