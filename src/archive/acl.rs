//! POSIX access control lists: the kernel's form in an extended attribute, and the text in a pax record.
//!
//! Debian's /var/log/journal has one. GNU tar restores `SCHILY.acl.access` and `SCHILY.acl.default`, with ids mapped.

/// Version of the kernel's form.
const VERSION: u32 = 2;
/// Tags of the kernel's form and the words for them; the second of a pair names its user or group.
const TAGS: [(u16, &str, bool); 6] = [
    (0x01, "user", false),
    (0x02, "user", true),
    (0x04, "group", false),
    (0x08, "group", true),
    (0x10, "mask", false),
    (0x20, "other", false),
];
/// What stands for an id in entries that have none.
const NO_ID: u32 = u32::MAX;

/// The pax record for the extended attribute `name`, if it is a list.
pub(super) fn record(name: &str) -> Option<&'static str> {
    match name {
        "system.posix_acl_access" => Some("SCHILY.acl.access"),
        "system.posix_acl_default" => Some("SCHILY.acl.default"),
        _ => None,
    }
}

/// The extended attribute for the pax record `key`, if it is a list.
pub(super) fn attribute(key: &[u8]) -> Option<&'static str> {
    match key {
        b"SCHILY.acl.access" => Some("system.posix_acl_access"),
        b"SCHILY.acl.default" => Some("system.posix_acl_default"),
        _ => None,
    }
}

/// The text of a list in the kernel's form; nothing when it is malformed or has an id beyond 65535.
pub(super) fn to_text(value: &[u8]) -> Option<String> {
    let (version, entries) = value.split_at_checked(4)?;
    if u32::from_le_bytes(*version.first_chunk()?) != VERSION || entries.is_empty() || entries.len() % 8 != 0
    {
        return None;
    }
    let texts = entries.chunks_exact(8).map(|entry| {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let permissions = u16::from_le_bytes([entry[2], entry[3]]);
        let id = u32::from_le_bytes(*entry[4..].first_chunk()?);
        let (_, word, named) = TAGS.iter().find(|(number, ..)| *number == tag)?;
        if permissions > 7 || (*named && id > 65535) {
            return None;
        }
        let id = if *named { id.to_string() } else { String::new() };
        let letters = [(4, 'r'), (2, 'w'), (1, 'x')];
        let letters = letters.map(|(bit, letter)| if permissions & bit == 0 { '-' } else { letter });
        Some(format!("{word}:{id}:{}", letters.iter().collect::<String>()))
    });
    Some(texts.collect::<Option<Vec<_>>>()?.join(","))
}

/// The kernel's form of a list's text; nothing when it is malformed.
pub(super) fn from_text(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut value = VERSION.to_le_bytes().to_vec();
    for entry in text.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty()) {
        // A fourth field repeats the id for readers that know the name.
        let fields: Vec<_> = entry.split(':').collect();
        let (word, name, letters) = (*fields.first()?, *fields.get(1)?, *fields.get(2)?);
        let id = match (name, fields.get(3)) {
            ("", _) => NO_ID,
            (name, repeated) => repeated.unwrap_or(&name).parse().ok()?,
        };
        let (tag, ..) = TAGS.iter().find(|(_, other, named)| *other == word && *named == (id != NO_ID))?;
        let bit = |letter| match letter {
            'r' => Some(4_u16),
            'w' => Some(2),
            'x' => Some(1),
            '-' => Some(0),
            _ => None,
        };
        if letters.len() != 3 {
            return None;
        }
        let permissions = letters.chars().try_fold(0, |sum, letter| Some(sum | bit(letter)?))?;
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    (value.len() > 4).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_survives_as_text() {
        let text = "user::rwx,user:959:rw-,group::r-x,group:4:r-x,mask::r-x,other::---";
        let value = from_text(text.as_bytes()).unwrap();
        assert_eq!(value.len(), 4 + 6 * 8);
        assert_eq!(to_text(&value).as_deref(), Some(text));
        assert_eq!(from_text(b"user::rwx\ngroup:adm:r-x:4\n"), from_text(b"user::rwx,group:4:r-x"));
        for bad in [&b"user:::rwx"[..], b"", b"user:me:r--", b"all::rwx", b"user::rwz", b"mask:1:r--"] {
            assert_eq!(from_text(bad), None, "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(to_text(&value[..11]), None);
        assert_eq!(to_text(&from_text(b"user:65536:r--").unwrap()), None);
    }
}
