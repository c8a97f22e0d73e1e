//! URIs of mirrors, of single packages and of tarballs; code names of releases.

use super::{Complaint, archive_uri, complain, list, nearest, only};
use crate::fetch::mirror_name;

/// What stands for a part of a package in a further place of an archive.
pub const PLACEHOLDERS: [&str; 5] = ["name", "version", "upstream", "architecture", "file"];

/// Code names of Debian's and Ubuntu's releases that archives have suites for.
const RELEASES: [&str; 18] = [
    "stretch", "buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid", "xenial", "bionic",
    "focal", "jammy", "kinetic", "lunar", "mantic", "noble", "plucky", "questing",
];

/// The release that a suite or code name is of, when it is one of Debian's or Ubuntu's: `bookworm` for
/// `bookworm-updates` and `bookworm/updates`.
pub fn release_of(text: &str) -> Option<&'static str> {
    let first = text.split(['-', '/']).next().unwrap_or_default();
    RELEASES.into_iter().find(|release| *release == first)
}

/// URI of a mirror: http, https or a directory of this machine; ends in `/` when handed back.
pub fn mirror_uri(text: &str) -> Result<String, Complaint> {
    let Some(path) = text.strip_prefix("file://") else {
        return archive_uri(text).map_err(|mut complaint| {
            if !text.starts_with("http") {
                complaint.message = format!("`{text}` is not a http, https or file URI");
                complaint.help = if text.starts_with('/') {
                    format!("write `file://{text}`")
                } else {
                    "write `https://host/path/`, or `file:///directory/` for a directory of this machine"
                        .to_owned()
                };
            }
            complaint
        });
    };
    let parts = || path.split('/').filter(|part| !part.is_empty());
    if !path.starts_with('/') || parts().any(|part| part == "." || part == "..") {
        return complain(
            format!("`{text}` names no directory of this machine"),
            "write `file:///` and the rest of an absolute path",
        );
    }
    Ok(if text.ends_with('/') { text.to_owned() } else { format!("{text}/") })
}

/// The part of an http or https URI behind the scheme, when it names a host and holds nothing secret.
fn after_scheme<'a>(text: &'a str, form: &str) -> Result<&'a str, Complaint> {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return complain(format!("`{text}` is not a http or https URI"), format!("write `{form}`"));
    };
    let host = rest.split('/').next().unwrap_or_default();
    if host.contains('@') {
        return complain(
            "the URI holds credentials",
            "nothing secret may stand in a recipe, the site or the lock",
        );
    }
    if host.is_empty() {
        return complain("the URI names no host", format!("write `{form}`"));
    }
    Ok(rest)
}

/// Where single packages of an archive may be: a URI with [`PLACEHOLDERS`] in braces.
pub fn place_uri(text: &str) -> Result<(), Complaint> {
    const FORM: &str = "https://host/path/v{upstream}/{file}";
    let rest = after_scheme(text, FORM)?;
    let mut plain = String::new();
    let mut filled = 0;
    for (index, piece) in rest.split('{').enumerate() {
        if index == 0 {
            plain.push_str(piece);
            continue;
        }
        let Some((word, tail)) = piece.split_once('}') else {
            return complain(
                "a `{` in the place has no `}`",
                format!("these are filled in: {}", list(PLACEHOLDERS)),
            );
        };
        if !PLACEHOLDERS.contains(&word) {
            let help = match nearest(word, PLACEHOLDERS) {
                Some(near) => format!("did you mean `{{{near}}}`?"),
                None => format!("these are filled in: {}", list(PLACEHOLDERS)),
            };
            return complain(format!("`{{{word}}}` in the place stands for nothing"), help);
        }
        filled += usize::from(plain.contains('/') && matches!(word, "name" | "file"));
        plain.push_str(tail);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~/:@!$&'()*,;=+".contains(c);
    if let Some(bad) = only(&plain, allowed) {
        return complain(
            format!("`{}` is not allowed in the place of a package", bad.escape_default()),
            format!("write `{FORM}`"),
        );
    }
    if filled == 0 {
        return complain(
            "the place is the same for every package",
            "have `{file}` or `{name}` in its path; a whole copy of the archive is a mirror, which the site names",
        );
    }
    Ok(())
}

/// URL of a tarball: its last part is the name of a file.
pub fn tarball_url(text: &str) -> Result<(), Complaint> {
    const FORM: &str = "https://host/path/name-1.0.tar.gz";
    let rest = after_scheme(text, FORM)?;
    if let Some(bad) = only(rest, |c| {
        c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' | '#')
    }) {
        return complain(
            format!("`{}` is not allowed in the URL of a tarball", bad.escape_default()),
            "nothing is filled in: write the URL of one version, escaped as in a browser",
        );
    }
    if mirror_name(text).is_none() {
        return complain("the URL ends in no file name", format!("write `{FORM}`"));
    }
    Ok(())
}

/// URI of a service that the reverse proxy asks: http or https.
pub fn service_uri(text: &str) -> Result<(), Complaint> {
    const FORM: &str = "http://172.16.10.103:4180/";
    let rest = after_scheme(text, FORM)?;
    let fine = |c: char| c.is_ascii_alphanumeric() || "-._~/:[]".contains(c);
    if let Some(bad) = only(rest, fine) {
        return complain(
            format!("`{}` is not allowed here", bad.escape_default()),
            format!("write `{FORM}`"),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_of_the_release_they_are_named_after() {
        assert_eq!(release_of("bookworm-updates"), Some("bookworm"));
        assert_eq!(release_of("noble/stable"), Some("noble"));
        assert_eq!(release_of("stable"), None);
        assert_eq!(release_of("trixiex"), None);
    }
}
