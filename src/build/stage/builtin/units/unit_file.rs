//! The `[Install]` section of a unit file, as far as systemd and `deb-systemd-helper` read it alike.

use crate::build::stage::root::Root;

/// Sections that systemd's own reader of `[Install]` passes over without a word.
const OTHER_SECTIONS: [&str; 12] = [
    "Unit",
    "Automount",
    "Device",
    "Mount",
    "Path",
    "Scope",
    "Service",
    "Slice",
    "Socket",
    "Swap",
    "Target",
    "Timer",
];
/// Endings of unit names.
const KINDS: [&str; 11] = [
    "service",
    "socket",
    "target",
    "timer",
    "path",
    "mount",
    "automount",
    "swap",
    "slice",
    "scope",
    "device",
];

/// What the `[Install]` sections of a unit and its drop-ins say, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Install {
    pub wanted_by: Vec<String>,
    pub required_by: Vec<String>,
    pub upheld_by: Vec<String>,
    pub alias: Vec<String>,
    pub also: Vec<String>,
    pub default_instance: Option<String>,
}

/// The type in a unit's name.
pub(super) fn kind(name: &str) -> Option<&str> {
    let (stem, kind) = name.rsplit_once('.')?;
    (!stem.is_empty() && !stem.starts_with('@') && KINDS.contains(&kind)).then_some(kind)
}

/// What stands between `@` and the type; nothing for a plain unit, empty for a template.
pub(super) fn instance(name: &str) -> Option<&str> {
    let (stem, _) = name.rsplit_once('.')?;
    Some(stem.split_once('@')?.1)
}

/// The name with another instance.
pub(super) fn with_instance(name: &str, instance: &str) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    Some(format!("{}@{instance}.{kind}", stem.split_once('@')?.0))
}

impl Install {
    /// Adds what a file says; nothing when systemd would complain of it, or it is not simple.
    pub fn read(&mut self, root: &Root, path: &str) -> Option<()> {
        self.parse(&root.read_text(path).ok()??)
    }

    fn parse(&mut self, text: &str) -> Option<()> {
        if text.contains(['\0', '\r', '\u{feff}']) || text.lines().any(|line| line.len() > 4000) {
            return None;
        }
        let mut section = None;
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let mut line = line.trim_matches([' ', '\t']).to_owned();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if line.ends_with('\\') {
                // Only what is passed over may go on in the next line: the script does not know of that.
                let passed_over = section.is_some_and(|section| section != "Install");
                if !passed_over || line.starts_with('[') || line.ends_with("\\\\") {
                    return None;
                }
                while line.ends_with('\\') {
                    // Comments between do not end it.
                    line = lines.find(|line| !line.trim_start().starts_with(['#', ';']))?.to_owned();
                    if line.ends_with("\\\\") {
                        return None;
                    }
                }
                if script_reads(&line) {
                    return None;
                }
                continue;
            }
            if let Some(name) = line.strip_prefix('[') {
                let name = name.strip_suffix(']')?;
                if name != "Install" && !OTHER_SECTIONS.contains(&name) && !name.starts_with("X-") {
                    return None;
                }
                section = OTHER_SECTIONS.into_iter().chain(["Install"]).find(|known| *known == name);
                section = section.or(Some("X-"));
            } else if section == Some("Install") {
                self.assign(&line)?;
            } else if section.is_none() || script_reads(&line) {
                return None;
            }
        }
        Some(())
    }

    fn assign(&mut self, line: &str) -> Option<()> {
        let (key, value) = line.split_once('=')?;
        let list = match key {
            "WantedBy" => &mut self.wanted_by,
            "RequiredBy" => &mut self.required_by,
            "UpheldBy" => &mut self.upheld_by,
            "Alias" => &mut self.alias,
            "Also" => &mut self.also,
            "DefaultInstance" if self.default_instance.is_none() && simple(value) => {
                self.default_instance = Some(value.to_owned());
                return Some(());
            }
            _ => return None,
        };
        if value.is_empty() || value.starts_with(' ') || value.starts_with('\t') {
            return None;
        }
        for word in value.split([' ', '\t']).filter(|word| !word.is_empty()) {
            if !word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_.@%-".contains(&byte)) {
                return None;
            }
            list.push(word.to_owned());
        }
        Some(())
    }
}

fn simple(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_.-".contains(&byte))
}

/// Whether the script, which knows of no sections, would take a line for one of `[Install]`.
fn script_reads(line: &str) -> bool {
    let key = line.split_once('=').map_or("", |(key, _)| key.trim_start()).to_ascii_lowercase();
    ["wantedby", "requiredby", "also", "alias", "defaultinstance"].contains(&key.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_and_the_script_read_alike_is_taken_and_the_rest_is_not() {
        let mut install = Install::default();
        let text = "[Unit]\nDescription=a\n[Service]\nExecStart=a \\\n  # c\n  b\n[X-Y]\nz\n[Install]\n# c\n \
                    WantedBy=a.target  b.target\nAlias=c.service\nDefaultInstance=x\n";
        install.parse(text).unwrap();
        assert_eq!(install.wanted_by, ["a.target", "b.target"]);
        assert_eq!(
            (install.alias.as_slice(), install.default_instance.as_deref()),
            (&["c.service".to_owned()][..], Some("x"))
        );
        for odd in [
            "[Install]\nwantedby=a.target\n",
            "[Install]\nWantedBy= a.target\n",
            "[Install]\nWantedBy=\n",
            "[Install]\nWantedBy=\"a.target\"\n",
            "[Install]\nWantedBy=a.target \\\n b.target\n",
            "[Install]\nWanted=a.target\n",
            "[Install]\nnonsense\n",
            "[Service]\nAlso=a.service\n",
            "[Service]\nExecStart=a \\\nAlias=b.service\n",
            "[Nonsense]\na=b\n",
            "WantedBy=a.target\n",
        ] {
            assert_eq!(Install::default().parse(odd), None, "{odd}");
        }
    }
}
