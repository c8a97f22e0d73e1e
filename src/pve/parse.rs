//! Reading the text of a configuration.

use super::check::Release;
use super::problem::{Fault, Problem};
use super::settings::Config;
use super::text::{self, ENVIRONMENT};

/// Longest text that is read, in bytes; Proxmox's own cluster file system stops at 1 MiB.
const MAX_TEXT: usize = 1 << 20;

impl Config {
    /// Reads the text of a configuration: types and formats, as Proxmox reads a file.
    ///
    /// Every spelling that Proxmox takes is taken (`unprivileged: yes`, any order of keys); [`Config::to_text`]
    /// writes the canonical one. Sections (snapshots, pending changes) are problems: an image has none.
    ///
    /// # Errors
    /// All problems found, in the order of their lines.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        if text.len() > MAX_TEXT {
            let fault = Fault::value("at most 1 MiB of text", format!("{} bytes", text.len()));
            return Err(vec![Problem { line: None, key: String::new(), fault }]);
        }
        let mut reader = Reader { config: Self::default(), description: None, problems: Vec::new() };
        for (index, line) in text.lines().enumerate() {
            if line.trim_start().starts_with('[') {
                reader.problem(index, "", Fault::Section(line.to_owned()));
                break;
            }
            reader.line(index, line);
        }
        reader.finish()
    }

    /// As [`Config::parse`], and checks the limits of an image for `release` too; problems carry their lines.
    ///
    /// # Errors
    /// All problems of form or, when there are none, all limits that are not kept.
    pub fn parse_and_check(text: &str, release: Release) -> Result<Self, Vec<Problem>> {
        let config = Self::parse(text)?;
        let mut problems = config.check(release);
        for problem in &mut problems {
            let key = &problem.key;
            let holds = |line: &str| match key.as_str() {
                "description" => line.starts_with('#') || line.starts_with("description:"),
                "env" => line.starts_with(ENVIRONMENT),
                _ => key_and_value(line).is_some_and(|(found, _)| found == key),
            };
            problem.line = text.lines().position(holds).map(|index| index + 1);
        }
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }
}

/// Splits `key: value`; for keys of LXC also `key = value`.
fn key_and_value(line: &str) -> Option<(&str, &str)> {
    let is_key = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(byte);
    let end = line.bytes().position(|byte| !is_key(&byte))?;
    let (key, rest) = line.split_at(end);
    let value = match rest.strip_prefix(':') {
        Some(value) => value,
        None if key.starts_with("lxc.") => rest.trim_start().strip_prefix('=')?,
        None => return None,
    };
    (!key.is_empty()).then_some((key, value.trim()))
}

struct Reader {
    config: Config,
    description: Option<String>,
    problems: Vec<Problem>,
}

impl Reader {
    fn problem(&mut self, index: usize, key: &str, fault: Fault) {
        self.problems.push(Problem { line: Some(index + 1), key: key.to_owned(), fault });
    }

    fn line(&mut self, index: usize, line: &str) {
        if let Some(comment) = line.strip_prefix('#') {
            self.describe(index, comment);
            return;
        }
        if line.trim().is_empty() {
            return;
        }
        // An empty value clears what LXC has by default (`lxc.cap.drop:`); elsewhere it is an error.
        let complete = |(key, value): &(&str, &str)| !value.is_empty() || key.starts_with("lxc.");
        let Some((key, value)) = key_and_value(line).filter(complete) else {
            let shown = line.chars().take(80).collect();
            return self.problem(index, "", Fault::NotALine(shown));
        };
        match key {
            "description" => self.describe(index, value),
            "digest" | "snapstate" => {
                self.problem(index, key, Fault::Forbidden("Proxmox makes it itself"));
            }
            ENVIRONMENT => self.environment(index, key, value),
            _ if key.starts_with("lxc.") => match super::lxc::fault(key) {
                Some(fault) => self.problem(index, key, fault),
                None => self.config.lxc.push((key.to_owned(), value.to_owned())),
            },
            _ => match self.config.set(key, value) {
                None => self.problem(index, key, Fault::UnknownKey),
                Some(Err(fault)) => self.problem(index, key, fault),
                Some(Ok(true)) => self.problem(index, key, Fault::Duplicate),
                Some(Ok(false)) => {}
            },
        }
    }

    /// Adds a line to the description; all comments of a file are one.
    fn describe(&mut self, index: usize, encoded: &str) {
        let Some(line) = text::decode(encoded) else {
            let fault = Fault::value("UTF-8 with other bytes as `%XX`", encoded);
            return self.problem(index, "description", fault);
        };
        let description = self.description.get_or_insert_default();
        description.push_str(&line);
        description.push('\n');
    }

    fn environment(&mut self, index: usize, key: &str, value: &str) {
        match value.split_once('=') {
            Some((name, value)) => self.config.environment.push((name.to_owned(), value.to_owned())),
            None => self.problem(index, key, Fault::value("`NAME=value`", value)),
        }
    }

    fn finish(mut self) -> Result<Config, Vec<Problem>> {
        if let Some(description) = self.description {
            // Proxmox drops empty lines at the end when it writes the file.
            self.config.description = description.trim_end_matches('\n').to_owned();
        }
        if self.problems.is_empty() { Ok(self.config) } else { Err(self.problems) }
    }
}
