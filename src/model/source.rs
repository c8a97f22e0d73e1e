//! Files of a project, read with a size limit, and places in them.

use std::fmt;
use std::fs;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Largest TOML file that is read.
pub const MAX_TOML: u64 = 1 << 20;
/// Largest file below `files/` or `keys/` that is read, and largest rendered template.
pub const MAX_FILE: u64 = 16 << 20;

/// A text of the project, shared by everything that points into it.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Path below the project's root, with `/`.
    pub path: Arc<str>,
    /// The whole text.
    pub text: Arc<str>,
}

impl SourceFile {
    /// A text under the name messages give it.
    pub fn new(path: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// The bytes `span` of this text.
    pub fn place(&self, span: Range<usize>) -> Place {
        Place { file: self.clone(), span }
    }
}

impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceFile({})", self.path)
    }
}

/// A run of bytes in a text, for a caret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The text.
    pub file: SourceFile,
    /// Byte offsets into it.
    pub span: Range<usize>,
}

impl Place {
    /// Line and column of the first byte, both counted from 1, the column in characters.
    pub fn position(&self) -> (usize, usize) {
        position(&self.file.text, self.span.start)
    }

    /// Line and column just after the last byte.
    pub fn end(&self) -> (usize, usize) {
        position(&self.file.text, self.span.end)
    }
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    (line, String::from_utf8_lossy(&before[start..]).chars().count() + 1)
}

/// Why a file of the project could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is none.
    #[error("there is no file `{path}`")]
    Missing {
        /// Path below the project's root.
        path: String,
    },
    /// A directory, device, socket or the like.
    #[error("`{path}` is not a regular file")]
    NotAFile {
        /// Path below the project's root.
        path: String,
    },
    /// A symbolic link, in the last component or on the way to it.
    #[error("`{path}` is a symbolic link; the project must hold the file itself")]
    Link {
        /// Path below the project's root.
        path: String,
    },
    /// Larger than the limit.
    #[error("`{path}` is larger than {limit} MiB, the most that is read")]
    TooLarge {
        /// Path below the project's root.
        path: String,
        /// The limit in MiB.
        limit: u64,
    },
    /// Not text.
    #[error("`{path}` is not valid UTF-8: the byte at offset {offset} is wrong")]
    NotText {
        /// Path below the project's root.
        path: String,
        /// Offset of the first bad byte.
        offset: usize,
    },
    /// The operating system says no.
    #[error("cannot read `{path}`: {error}")]
    System {
        /// Path below the project's root.
        path: String,
        /// What it says.
        error: std::io::Error,
    },
}

/// Reads `path`, relative to `root`, at most `limit` bytes, through no symbolic link.
///
/// # Errors
/// As [`ReadError`] says.
pub fn read(root: &Path, path: &str, limit: u64) -> Result<Vec<u8>, ReadError> {
    let system = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            ReadError::Missing { path: path.to_owned() }
        }
        _ => ReadError::System { path: path.to_owned(), error },
    };
    let mut so_far = root.to_path_buf();
    let mut kind = None;
    for component in path.split('/') {
        so_far.push(component);
        let found = fs::symlink_metadata(&so_far).map_err(system)?.file_type();
        if found.is_symlink() {
            let shown = so_far.strip_prefix(root).unwrap_or(&so_far).display().to_string();
            return Err(ReadError::Link { path: shown });
        }
        kind = Some(found);
    }
    if !kind.is_some_and(|kind| kind.is_file()) {
        return Err(ReadError::NotAFile { path: path.to_owned() });
    }
    let file = fs::File::open(&so_far).map_err(system)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(system)?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::TooLarge { path: path.to_owned(), limit: limit >> 20 });
    }
    Ok(bytes)
}

/// As [`read`], for text.
///
/// # Errors
/// As [`ReadError`] says.
pub fn read_text(root: &Path, path: &str, limit: u64) -> Result<SourceFile, ReadError> {
    let text = String::from_utf8(read(root, path, limit)?).map_err(|error| ReadError::NotText {
        path: path.to_owned(),
        offset: error.utf8_error().valid_up_to(),
    })?;
    Ok(SourceFile::new(path, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters() {
        let file = SourceFile::new("a", "ab\ncö d\n");
        assert_eq!(file.place(0..1).position(), (1, 1));
        assert_eq!(file.place(7..8).position(), (2, 4));
        assert_eq!(file.place(99..99).position(), (3, 1));
    }

    #[test]
    fn limits_and_links_hold() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), "abc").unwrap();
        std::os::unix::fs::symlink("a", root.path().join("b")).unwrap();
        fs::create_dir(root.path().join("d")).unwrap();
        assert_eq!(read(root.path(), "a", 3).unwrap(), b"abc");
        assert!(matches!(read(root.path(), "a", 2), Err(ReadError::TooLarge { .. })));
        assert!(matches!(read(root.path(), "b", 9), Err(ReadError::Link { .. })));
        assert!(matches!(read(root.path(), "d", 9), Err(ReadError::NotAFile { .. })));
        assert!(matches!(read(root.path(), "a/b", 9), Err(ReadError::Missing { .. })));
    }
}
