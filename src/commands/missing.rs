//! What could not be had for the lock, in two lines: what is missing, and what can be done.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::CommandError;
use crate::apt::locking::{Lacking, Missing};
use crate::apt::sync::SyncError;
use crate::fetch::file_name;

/// The error of `image`, when something in `missing` keeps it from being built.
pub(super) fn of_image(image: &str, missing: &[Missing]) -> Option<CommandError> {
    let concerned: Vec<_> = missing.iter().filter(|one| one.images.contains(image)).collect();
    if concerned.is_empty() {
        return None;
    }
    let lines: Vec<_> = concerned.iter().map(|one| format!("{image}: {}", said(one))).collect();
    Some(CommandError::Missing(lines.join("\n")))
}

impl Missing {
    /// Says what is missing and what can be done, in two lines.
    pub fn to_error(&self) -> CommandError {
        CommandError::Missing(said(self))
    }

    /// The same for programs.
    pub fn to_json(&self) -> Value {
        let Self { name, locked, images, .. } = self;
        match self.lacking {
            Lacking::Fit(_) => {
                json!({ "recipes": name, "images": images, "error": self.error().to_string() })
            }
            Lacking::Tarball(_) => {
                json!({ "tarball": name, "locked": locked, "images": images, "tried": self.tried() })
            }
            Lacking::Archive(_) | Lacking::Newer(_) => {
                json!({ "archive": name, "locked": locked, "images": images, "tried": self.tried() })
            }
        }
    }
}

fn said(missing: &Missing) -> String {
    let Missing { name, locked, lacking, .. } = missing;
    if let Lacking::Fit(error) = lacking {
        return CommandError::failed("cannot lock", error.as_ref()).to_string();
    }
    let (what, state) = match (lacking, locked) {
        (Lacking::Newer(_), _) => ("archive", "stays as it is locked"),
        (Lacking::Archive(_), true) => ("archive", "has to be read again to lock the rest"),
        (Lacking::Tarball(_), true) => ("tarball", "is another one than was locked"),
        (Lacking::Archive(_), false) => ("archive", "is not locked yet"),
        (Lacking::Tarball(_), false) => ("tarball", "is not locked yet"),
        (Lacking::Fit(_), _) => ("recipes", "do not fit together"),
    };
    let part = match lacking {
        Lacking::Archive(SyncError::Suite { suite, .. }) => format!("its suite `{suite}` cannot be had"),
        Lacking::Newer(SyncError::Suite { suite, .. }) => {
            format!("the newest state of its suite `{suite}` cannot be had")
        }
        _ => "it cannot be had".to_owned(),
    };
    let mut text = format!("{what} `{name}` {state}, and {part}: ");
    let tried = missing.tried();
    if tried.is_empty() {
        let error = missing.error().to_string();
        text += error.lines().map(str::trim).collect::<Vec<_>>().join(" ").as_str();
    }
    for (position, place) in tried.iter().enumerate() {
        let separator = if position == 0 { "" } else { "; " };
        // Writing to a string cannot fail.
        _ = write!(text, "{separator}{} ({}) {}", place.uri, place.origin, place.reason);
    }
    text += match lacking {
        Lacking::Tarball(_) => "\nhelp: give the URI of a directory that has ",
        _ => "\nhelp: name a mirror, ",
    };
    match lacking {
        Lacking::Tarball(_) => {
            let uri = tried.last().map(|place| place.uri.as_str()).unwrap_or_default();
            let file = file_name(uri).unwrap_or("the file");
            _ = write!(
                text,
                "`{file}`, with `--mirror {name}=URI` or under `[mirrors]` in images/site.toml, or correct `url` and \
                 `sha256` in its recipe"
            );
        }
        _ => {
            _ = write!(
                text,
                "with `[archive.{name}]` and its `uri` in images/site.toml or with `--mirror {name}=URI`; \
                 `build-images vendor DIR` makes one where the archive can be reached"
            );
        }
    }
    text
}
