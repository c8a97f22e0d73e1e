//! A deployment's steps as data, and how they are sent to the node.

use std::fmt::Write as _;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name in the node's notes.
    pub name: &'static str,
    /// The shell lines.
    pub lines: Vec<String>,
    /// Of a step back: it is taken when this step forward was begun.
    pub after: Option<&'static str>,
    /// Of a step back: it is taken only when this step forward was done.
    pub only_if_done: Option<&'static str>,
}

/// Everything that is done on the node for one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// In order.
    pub forward: Vec<Step>,
    /// In order.
    pub back: Vec<Step>,
    /// What is done when all of `forward` is.
    pub commit: Vec<String>,
    /// Files that the steps read.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Transaction {
    /// What is sent to the node: for each file a line with its length and path, and its bytes.
    pub fn payload(&self, secrets: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut files = Vec::new();
        for (name, bytes) in &self.files {
            files.push((format!("transaction.new/{name}"), bytes.clone()));
        }
        for (directory, steps) in [("forward", &self.forward), ("back", &self.back)] {
            for (number, step) in (10..).zip(steps) {
                files.push((
                    format!("transaction.new/{directory}/{number}-{}", step.name),
                    step.text().into_bytes(),
                ));
            }
        }
        files.push(("transaction.new/commit".to_owned(), (self.commit.join("\n") + "\n").into_bytes()));
        files.extend(secrets.iter().cloned());
        let mut payload = Vec::new();
        for (path, bytes) in files {
            payload.extend_from_slice(format!("{} {path}\n", bytes.len()).as_bytes());
            payload.extend_from_slice(&bytes);
        }
        payload.extend_from_slice(b"end end\n");
        payload
    }
}

impl Step {
    /// The file that the node runs.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Some(after) = self.after {
            let _ = writeln!(text, "# after: {after}");
            let _ = writeln!(text, "# only if done: {}", self.only_if_done.unwrap_or_default());
        }
        for line in &self.lines {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}
