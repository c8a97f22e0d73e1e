//! The `[Install]` section of a unit file.

/// What a unit asks for when it is enabled; names as written, specifiers not yet replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Install {
    /// Units whose `.wants` directory gets a link.
    pub wanted_by: Vec<String>,
    /// Units whose `.requires` directory gets a link.
    pub required_by: Vec<String>,
    /// Units whose `.upholds` directory gets a link.
    pub upheld_by: Vec<String>,
    /// Further names of the unit.
    pub alias: Vec<String>,
    /// Units that are enabled and disabled with it.
    pub also: Vec<String>,
    /// The instance that stands for a template enabled without one.
    pub default_instance: Option<String>,
}

impl Install {
    /// Reads the section from a unit file and adds it to what is there; a drop-in is read after its unit.
    /// Lines that are no assignment are passed over, as systemd does.
    pub fn read(&mut self, text: &str) {
        let mut inside = false;
        for line in logical_lines(text) {
            if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                inside = section == "Install";
                continue;
            }
            let Some((key, value)) = line.split_once('=').filter(|_| inside) else { continue };
            let list = match key.trim_end() {
                "WantedBy" => &mut self.wanted_by,
                "RequiredBy" => &mut self.required_by,
                "UpheldBy" => &mut self.upheld_by,
                "Alias" => &mut self.alias,
                "Also" => &mut self.also,
                "DefaultInstance" => {
                    self.default_instance = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
                    continue;
                }
                _ => continue,
            };
            // An empty value takes back what was said before.
            if value.trim().is_empty() {
                list.clear();
            }
            list.extend(value.split_whitespace().map(|name| name.trim_matches(['"', '\'']).to_owned()));
        }
    }

    /// Whether enabling the unit would do nothing.
    pub fn is_empty(&self) -> bool {
        let lists = [&self.wanted_by, &self.required_by, &self.upheld_by, &self.alias, &self.also];
        lists.into_iter().all(Vec::is_empty)
    }
}

/// Lines without comments, with those that end in a backslash joined to the next.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut begun: Option<String> = None;
    for line in text.lines() {
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        let mut whole = begun.take().unwrap_or_default();
        match line.strip_suffix('\\') {
            Some(part) => {
                whole.push_str(part);
                whole.push(' ');
                begun = Some(whole);
            }
            None => {
                whole.push_str(line);
                lines.push(whole.trim().to_owned());
            }
        }
    }
    lines.extend(begun.map(|line| line.trim().to_owned()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_install_section_counts_and_empty_values_reset() {
        let mut install = Install::default();
        install.read(
            "[Unit]\nWantedBy=no.target\n[Install]\n# WantedBy=no.target\nWantedBy = a.target \\\n# between\n b.target\n\
             Alias=x.service\nAlias=\nAlias=y.service\nDefaultInstance=tty1\nnonsense\n[X-Other]\nAlso=no.service\n",
        );
        install.read("[Install]\nAlso=c.socket");
        let expected = Install {
            wanted_by: vec!["a.target".into(), "b.target".into()],
            alias: vec!["y.service".into()],
            also: vec!["c.socket".into()],
            default_instance: Some("tty1".into()),
            ..Install::default()
        };
        assert_eq!(install, expected);
        assert!(Install::default().is_empty() && !install.is_empty());
    }
}
