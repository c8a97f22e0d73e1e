//! An account file as lines of fields.

use super::{AccountFile, AccountsError};

/// Lines of colon-separated fields. Joining them gives the text that was read, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table(pub(super) Vec<Vec<String>>);

impl Table {
    pub(super) fn parse(file: AccountFile, bytes: &[u8]) -> Result<Self, AccountsError> {
        let malformed = |line: usize, reason: String| AccountsError::Malformed { file, line, reason };
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
            malformed(line, "it is not UTF-8".into())
        })?;
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let fields: Vec<String> = line.split(':').map(str::to_owned).collect();
            // Lines of NIS compatibility and empty ones say nothing about a local account.
            let local = !line.is_empty() && !line.starts_with(['+', '-', '#']);
            if local && fields.len() != file.fields() {
                let reason = format!("expected {} fields, found {}", file.fields(), fields.len());
                return Err(malformed(index + 1, reason));
            }
            if local && matches!(file, AccountFile::Passwd | AccountFile::Group) {
                let ids = if file == AccountFile::Passwd { &fields[2..4] } else { &fields[2..3] };
                if let Some(bad) = ids.iter().find(|id| id.parse::<u32>().is_err()) {
                    return Err(malformed(index + 1, format!("`{bad}` is not an id")));
                }
            }
            lines.push(fields);
        }
        Ok(Self(lines))
    }

    pub(super) fn text(&self) -> String {
        self.0.iter().map(|fields| fields.join(":") + "\n").collect()
    }

    pub(super) fn entry(&self, name: &str) -> Option<&Vec<String>> {
        self.0.iter().find(|fields| fields[0] == name && fields.len() > 1)
    }

    pub(super) fn entry_mut(&mut self, name: &str) -> Option<&mut Vec<String>> {
        self.0.iter_mut().find(|fields| fields[0] == name && fields.len() > 1)
    }

    /// The id in the third field, of users and groups alike.
    pub(super) fn id(&self, name: &str) -> Option<u32> {
        self.entry(name)?.get(2)?.parse().ok()
    }

    /// Everybody but `name` who has `id`.
    pub(super) fn others_with_id<'a>(&'a self, name: &'a str, id: u32) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |fields| fields[0] != name).filter_map(move |fields| {
            let found: u32 = fields.get(2)?.parse().ok()?;
            (found == id).then_some(fields[0].as_str())
        })
    }

    pub(super) fn push<const N: usize>(&mut self, fields: [&str; N]) {
        self.0.push(fields.map(str::to_owned).into());
    }
}

/// Adds `name` to the comma-separated members in the last field.
pub(super) fn join_members(entry: &mut [String], name: &str) {
    if let Some(members) = entry.last_mut()
        && !members.split(',').any(|member| member == name)
    {
        if !members.is_empty() {
            members.push(',');
        }
        members.push_str(name);
    }
}
