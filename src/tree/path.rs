//! Paths inside a root file system.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::TreeText;

/// A path below the root: no leading or trailing slash, no empty, `.` or `..` component, no NUL, never empty.
///
/// Serialised as a string in which `%` and every byte that is not part of valid UTF-8 stand as `%XX`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(Box<[u8]>);

/// Longest path that Linux takes in one piece (`PATH_MAX`), without the final NUL and a leading slash.
const MAX_LENGTH: usize = 4094;
/// Longest file name that Linux takes (`NAME_MAX`).
const MAX_NAME: usize = 255;

/// The bytes are no path below a root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is not a path below the root: {reason}")]
pub struct TreePathError {
    path: String,
    reason: &'static str,
}

impl TreePath {
    /// Takes `/usr/bin`, `usr/bin`, `./usr/bin` and `usr/bin/` alike.
    ///
    /// # Errors
    /// The root itself, `..`, empty components, NUL and over-long names.
    pub fn new(path: impl AsRef<[u8]>) -> Result<Self, TreePathError> {
        let path = path.as_ref();
        let fail = |reason| {
            let path = String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned();
            Err(TreePathError { path, reason })
        };
        let mut rest = path;
        rest = rest.strip_prefix(b"./").unwrap_or(rest);
        rest = rest.strip_prefix(b"/").unwrap_or(rest);
        rest = rest.strip_suffix(b"/").unwrap_or(rest);
        if rest.len() > MAX_LENGTH {
            return fail("longer than 4094 bytes");
        }
        for name in rest.split(|byte| *byte == b'/') {
            match name {
                b"" => return fail("it has an empty component"),
                b"." | b".." => return fail("it has a `.` or `..` component"),
                _ if name.len() > MAX_NAME => return fail("a name is longer than 255 bytes"),
                _ if name.contains(&0) => return fail("it has a NUL byte"),
                _ => {}
            }
        }
        Ok(Self(rest.into()))
    }

    /// The bytes, without a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as the standard library's type, relative to the root.
    pub fn as_path(&self) -> &std::path::Path {
        use std::os::unix::ffi::OsStrExt as _;
        std::path::Path::new(std::ffi::OsStr::from_bytes(&self.0))
    }

    /// The last component.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == b'/').next().unwrap_or(&self.0)
    }

    /// Everything before the last component; nothing for an entry of the root.
    pub fn parent(&self) -> Option<Self> {
        let end = self.0.iter().rposition(|byte| *byte == b'/')?;
        Some(Self(self.0[..end].into()))
    }

    /// The path and every directory above it, the path itself first.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.clone()), Self::parent)
    }

    /// The components, the outermost first.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// Whether this is `directory` or lies below it.
    pub fn is_within(&self, directory: &Self) -> bool {
        match self.0.strip_prefix(&*directory.0) {
            Some(rest) => rest.is_empty() || rest[0] == b'/',
            None => false,
        }
    }

    /// The path of `name` in this directory.
    ///
    /// # Errors
    /// As [`TreePath::new`].
    pub fn join(&self, name: impl AsRef<[u8]>) -> Result<Self, TreePathError> {
        let mut joined = self.0.to_vec();
        joined.push(b'/');
        joined.extend_from_slice(name.as_ref());
        Self::new(joined)
    }
}

impl fmt::Display for TreePath {
    /// With a leading slash, as people write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for TreeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('%', "%25"));
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    Some(bytes)
}

fn deserialize_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    unescape(&text).ok_or_else(|| serde::de::Error::custom(format!("bad escape in `{text}`")))
}

impl Serialize for TreePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&escape(&self.0))
    }
}

impl<'de> Deserialize<'de> for TreePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(deserialize_bytes(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Serialize for TreeText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&escape(&self.0))
    }
}

impl<'de> Deserialize<'de> for TreeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_bytes(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_path_are_equal() {
        let path = TreePath::new("usr/bin").unwrap();
        for spelling in ["/usr/bin", "./usr/bin", "usr/bin/"] {
            assert_eq!(TreePath::new(spelling).unwrap(), path);
        }
        assert_eq!(path.to_string(), "/usr/bin");
        assert_eq!(path.name(), b"bin");
        assert_eq!(path.parent().unwrap().parent(), None);
    }

    #[test]
    fn escapes_out_of_the_root_are_refused() {
        for bad in ["", "/", ".", "..", "usr/../etc", "usr//bin", "a/./b", "a\0b"] {
            assert!(TreePath::new(bad).is_err(), "{bad:?}");
        }
        assert!(TreePath::new("x".repeat(256)).is_err());
    }

    #[test]
    fn within_stops_at_component_borders() {
        let lib = TreePath::new("usr/lib").unwrap();
        assert!(TreePath::new("usr/lib/x").unwrap().is_within(&lib));
        assert!(lib.is_within(&lib));
        assert!(!TreePath::new("usr/lib64").unwrap().is_within(&lib));
    }

    #[test]
    fn any_bytes_survive_serialisation() {
        for bytes in [&b"a%b"[..], b"caf\xe9/\xff", "f\u{151}".as_bytes()] {
            let path = TreePath::new(bytes).unwrap();
            let json = serde_json::to_string(&path).unwrap();
            assert_eq!(serde_json::from_str::<TreePath>(&json).unwrap(), path);
        }
    }
}
