//! What could not be had for the lock, in two lines: what is missing, and what can be done.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::CommandError;
use crate::apt::locking::{Lacking, Missing, Tried};
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
        Lacking::Archive(SyncError::Keys { .. }) => "it cannot be used".to_owned(),
        Lacking::Newer(SyncError::Suite { suite, .. }) => {
            format!("the newest state of its suite `{suite}` cannot be had")
        }
        _ => "it cannot be had".to_owned(),
    };
    let mut text = match lacking {
        Lacking::Archive(SyncError::Index { .. }) => format!("{what} `{name}` {state}, since "),
        _ => format!("{what} `{name}` {state}, and {part}: "),
    };
    let tried = missing.tried();
    if tried.is_empty() {
        let error = missing.error();
        let mut causes = vec![error.to_string()];
        causes.extend(std::iter::successors(error.source(), |error| error.source()).map(ToString::to_string));
        let causes = causes.join(": ");
        text += causes.lines().map(str::trim).collect::<Vec<_>>().join(" ").as_str();
    }
    for (position, place) in tried.iter().enumerate() {
        let separator = if position == 0 { "" } else { "; " };
        // Writing to a string cannot fail.
        _ = write!(text, "{separator}{} ({}) {}", place.uri, place.origin, place.reason);
    }
    text + "\nhelp: " + &help(missing, &tried)
}

/// What can be done.
fn help(missing: &Missing, tried: &[Tried]) -> String {
    let Missing { name, locked, lacking, .. } = missing;
    let mirror = format!(
        "name a mirror, with `[archive.{name}]` and its `uri` in images/site.toml or with `--mirror {name}=URI`; \
         `build-images vendor DIR` makes one where the archive can be reached"
    );
    match lacking {
        Lacking::Tarball(_) => {
            let uri = tried.last().map(|place| place.uri.as_str()).unwrap_or_default();
            let file = file_name(uri).unwrap_or("the file");
            format!(
                "give the URI of a directory that has `{file}`, with `--mirror {name}=URI` or under `[mirrors]` in \
                 images/site.toml, or correct `url` and `sha256` in its recipe"
            )
        }
        Lacking::Archive(SyncError::Index { .. }) => {
            "whoever runs the archive has to mend it; until then leave it and what comes from it out"
                .to_owned()
        }
        Lacking::Archive(SyncError::Keys { .. }) => {
            "`keys` and `fingerprints` of the archive have to fit one another".to_owned()
        }
        Lacking::Archive(_) if *locked => {
            format!("`build-images update {name}` moves on to its newest state; or {mirror}")
        }
        _ => mirror,
    }
}
