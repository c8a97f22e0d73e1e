//! The grammars of names, ids, sizes and paths, and what to say when a text does not fit.

use std::collections::BTreeSet;

mod paths;
mod uris;
mod values;

pub use paths::{absolute, mountable, relative};
pub use uris::{PLACEHOLDERS, mirror_uri, place_uri, release_of, service_uri, tarball_url};
pub use values::{fingerprint, mac, mode, size, time};

/// Why a text is not what it should be, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// What is wrong.
    pub message: String,
    /// What to write instead; may be empty.
    pub help: String,
}

fn complain<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, Complaint> {
    Err(Complaint { message: message.into(), help: help.into() })
}

/// The candidate that `word` most likely stands for.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    let near = candidates.into_iter().map(|known| (distance(word, known), known)).min()?;
    let related =
        near.1.len() >= 4 && word.len() >= 4 && (near.1.starts_with(word) || word.starts_with(near.1));
    (near.0 <= limit || related).then_some(near.1)
}

/// Levenshtein's distance, exchanged neighbours counted once.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(80).collect(), b.chars().take(80).collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// `` `a`, `b` `` in order, at most twenty.
pub fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: BTreeSet<_> = words.into_iter().collect();
    let mut shown: Vec<_> = words.iter().take(20).map(|word| format!("`{word}`")).collect();
    if words.len() > shown.len() {
        shown.push("…".to_owned());
    }
    if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") }
}

fn only(text: &str, allowed: impl Fn(char) -> bool) -> Option<char> {
    text.chars().find(|found| !allowed(*found))
}

/// A single label of a DNS name: the host name of a container.
pub fn host_label(text: &str) -> Result<(), Complaint> {
    if let Some((first, rest)) = text.split_once('.') {
        let help =
            format!("write `{first}` here; `{rest}` belongs into `domain`, or is the site's domain already");
        return complain("the host name has a dot", help);
    }
    dns_label(text)
}

fn dns_label(text: &str) -> Result<(), Complaint> {
    let fixed = text.to_lowercase().replace(['_', ' '], "-");
    let fixed = fixed.trim_matches('-');
    if text.is_empty() {
        return complain("a part of the name is empty", "use letters, digits and `-`");
    }
    if text.len() > 63 {
        return complain(
            format!("`{text}` has {} characters", text.len()),
            "a part of a DNS name has at most 63 characters",
        );
    }
    if let Some(bad) = only(text, |c| c.is_ascii_alphanumeric() || c == '-') {
        let help = if only(fixed, |c| c.is_ascii_alphanumeric() || c == '-').is_none() {
            format!("write `{fixed}`; a DNS name has only letters, digits and `-`")
        } else {
            "a DNS name has only letters, digits and `-`".to_owned()
        };
        return complain(format!("`{}` is not allowed in a DNS name", bad.escape_default()), help);
    }
    if text.starts_with('-') || text.ends_with('-') {
        return complain("a part of a DNS name begins or ends with `-`", format!("write `{fixed}`"));
    }
    Ok(())
}

/// A DNS name of several labels, at most 253 bytes.
pub fn domain(text: &str) -> Result<(), Complaint> {
    if let Some(bare) = text.strip_suffix('.').filter(|bare| !bare.is_empty()) {
        return complain("the name ends in a dot", format!("write `{bare}`"));
    }
    if text.contains("://") {
        let host =
            text.split("://").nth(1).and_then(|rest| rest.split(['/', ':']).next()).unwrap_or_default();
        return complain("this is a URI, not a DNS name", format!("write `{host}`"));
    }
    if text.len() > 253 {
        return complain(format!("the name has {} characters", text.len()), "a DNS name has at most 253");
    }
    text.split('.').try_for_each(dns_label)
}

/// Name of an image or a recipe.
pub fn project_name(text: &str) -> Result<(), Complaint> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty()
        || text.len() > 63
        || only(text, fine).is_some()
        || text.starts_with('-')
        || text.ends_with('-')
    {
        return complain(
            format!("`{text}` is no name"),
            "use lower-case letters, digits and `-`, at most 63 characters, no `-` at either end",
        );
    }
    Ok(())
}

/// Name of a user or group.
pub fn account(text: &str) -> Result<(), Complaint> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let begins = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if !begins || text.len() > 32 || only(text, fine).is_some() {
        let lower = text.to_lowercase();
        if lower != text && account(&lower).is_ok() {
            return complain(format!("`{text}` is no name of a user or group"), format!("write `{lower}`"));
        }
        return complain(
            format!("`{text}` is no name of a user or group"),
            "begin with a lower-case letter; go on with lower-case letters, digits, `_` and `-`; at most 32 in all",
        );
    }
    Ok(())
}

/// Debian package name.
pub fn package(text: &str) -> Result<(), Complaint> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '+' | '-' | '.');
    let begins = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if begins && text.len() >= 2 && only(text, fine).is_none() {
        return Ok(());
    }
    let help = if let Some((name, _)) = text.split_once(['=', '/', ' ', ':', '(']) {
        format!("write the name alone: `{name}`; versions and architectures are chosen by the lock")
    } else if text != text.to_lowercase() && package(&text.to_lowercase()).is_ok() {
        format!("write `{}`", text.to_lowercase())
    } else {
        "Debian's names have lower-case letters, digits, `+`, `-` and `.`, at least two of them".to_owned()
    };
    complain(format!("`{text}` is not the name of a Debian package"), help)
}

/// Full name of a systemd unit.
pub fn unit(text: &str) -> Result<(), Complaint> {
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
        "device",
        "scope",
    ];
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
    let Some((stem, kind)) = text.rsplit_once('.') else {
        return complain(
            format!("`{text}` is not the full name of a unit"),
            format!("write the kind too: `{text}.service`"),
        );
    };
    if stem.is_empty() || text.len() > 255 || only(text, fine).is_some() {
        return complain(
            format!("`{text}` is not the name of a systemd unit"),
            "use letters, digits and `:`, `-`, `_`, `.`, `\\`, `@`; no directories",
        );
    }
    if !KINDS.contains(&kind) {
        let help = match nearest(kind, KINDS) {
            Some(near) => format!("did you mean `{stem}.{near}`?"),
            None => format!("did you mean `{text}.service`? systemd's kinds are {}", list(KINDS)),
        };
        return complain(format!("systemd knows no unit of kind `.{kind}`"), help);
    }
    Ok(())
}

/// Proxmox tag.
pub fn tag(text: &str) -> Result<(), Complaint> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '.');
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if begins && only(text, fine).is_none() {
        return Ok(());
    }
    complain(
        format!("Proxmox refuses the tag `{text}`"),
        "begin with a letter, digit or `_`; go on with letters, digits, `_`, `-`, `+` and `.`",
    )
}

/// Name of a network bridge.
pub fn bridge(text: &str) -> Result<(), Complaint> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !text.is_empty() && text.len() <= 15 && only(text, fine).is_none() && !matches!(text, "." | "..") {
        return Ok(());
    }
    complain(
        format!("`{text}` is not the name of a bridge"),
        "at most 15 letters, digits, `-`, `_` and `.`, as `ip link` on the node shows it (`vmbr0`)",
    )
}

/// Name of `what` in the reverse proxy's own configuration.
pub fn proxy_name(text: &str, what: &str) -> Result<(), Complaint> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if text.is_empty() || text.len() > 63 || only(text, fine).is_some() {
        return complain(
            format!("`{text}` is no name of {what}"),
            "write it as in Traefik's static configuration: letters, digits, `-` and `_`",
        );
    }
    Ok(())
}

/// Name of a Proxmox storage.
pub fn storage(text: &str) -> Result<(), Complaint> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let ends = text.len() >= 2 && text.ends_with(|c: char| c.is_ascii_alphanumeric());
    if begins && ends && only(text, fine).is_none() {
        return Ok(());
    }
    complain(
        format!("`{text}` is not the name of a storage"),
        "as `pvesm status` on the node shows it (`local-lvm`)",
    )
}

/// What ssh takes as destination: `user@host`.
pub fn ssh_host(text: &str) -> Result<(), Complaint> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    let (user, host) = text.split_once('@').unwrap_or(("root", text));
    let bad = |part: &str| part.is_empty() || part.starts_with('-') || only(part, fine).is_some();
    if bad(user) || bad(host) {
        return complain(
            format!("`{text}` is not a host for ssh"),
            "write `root@192.168.1.3` or a name of your ssh configuration",
        );
    }
    Ok(())
}

/// Time zone by its area and place.
pub fn timezone(text: &str) -> Result<(), Complaint> {
    const AREAS: [&str; 12] = [
        "Africa",
        "America",
        "Antarctica",
        "Arctic",
        "Asia",
        "Atlantic",
        "Australia",
        "Etc",
        "Europe",
        "Indian",
        "Pacific",
        "UTC",
    ];
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+');
    let area = text.split('/').next().unwrap_or_default();
    let parts_fine = text.split('/').all(|part| !part.is_empty() && only(part, fine).is_none());
    if parts_fine && AREAS.contains(&area) && (text == "UTC" || (text.contains('/') && area != "UTC")) {
        return Ok(());
    }
    let help = match nearest(area, AREAS) {
        Some(near) if near != area => format!("did you mean `{}`?", text.replacen(area, near, 1)),
        _ => "write area and place, as `Europe/Stockholm`, or `Etc/UTC`".to_owned(),
    };
    complain(format!("`{text}` is not a time zone"), help)
}

/// Name of an apt archive, suite or component.
pub fn archive_word(text: &str, what: &str) -> Result<(), Complaint> {
    let fine = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, '-' | '.' | '_' | '+' | '~')
            || (c == '/' && what != "archive")
    };
    let clean = text.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if clean && only(text, fine).is_none() && !text.starts_with('-') {
        return Ok(());
    }
    let help = if text.ends_with('/') && what == "suite" {
        "archives without suites (flat ones) are not supported".to_owned()
    } else {
        "use letters, digits, `-`, `.`, `_` and `+`".to_owned()
    };
    complain(format!("`{text}` is no name of a{} {what}", if what == "archive" { "n" } else { "" }), help)
}

/// URI of an archive: http or https, no credentials; ends in `/` when handed back.
pub fn archive_uri(text: &str) -> Result<String, Complaint> {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return complain(format!("`{text}` is not a http or https URI"), "write `https://host/path/`");
    };
    let host = rest.split('/').next().unwrap_or_default();
    if host.contains('@') {
        return complain(
            "the URI holds credentials",
            "nothing secret may stand in a recipe, the site or the lock",
        );
    }
    if host.is_empty() {
        return complain("the URI names no host", "write `https://host/path/`");
    }
    let plain = rest.replace("{timestamp}", "");
    if let Some(bad) = plain.find(['{', '}']) {
        let word: String = plain[bad..].chars().take(20).collect();
        return complain(
            format!("`{word}` in the URI stands for nothing"),
            "only `{timestamp}` is filled in",
        );
    }
    if let Some(bad) = only(&plain, |c| {
        c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '|' | '?' | '#')
    }) {
        return complain(
            format!("`{}` is not allowed in the URI of an archive", bad.escape_default()),
            "write the directory that has `dists/`",
        );
    }
    if rest.contains("/dists/") || rest.ends_with("/dists") {
        return complain("the URI goes too deep", "end it before `dists/`; the suites say the rest");
    }
    Ok(if text.ends_with('/') { text.to_owned() } else { format!("{text}/") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_typing_errors_and_nothing_far_away() {
        let known = ["install", "recommends", "uri"];
        assert_eq!(nearest("instal", known), Some("install"));
        assert_eq!(nearest("urI", known), Some("uri"));
        assert_eq!(nearest("recomends", known), Some("recommends"));
        assert_eq!(nearest("zebra", known), None);
        assert_eq!(nearest("rui", known), Some("uri"));
    }

    #[test]
    fn sizes_are_in_mebibytes() {
        assert_eq!(size("2 GiB"), Ok(2048));
        assert_eq!(size("512MiB"), Ok(512));
        assert_eq!(size("1 TiB"), Ok(1 << 20));
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("2 GB").unwrap_err().help, "write `\"2 GiB\"`");
        for bad in
            ["", "2", "GiB", "-1 GiB", "1.5 GiB", "99999999999999999999 GiB", "18446744073709551615 TiB"]
        {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_in_seconds() {
        assert_eq!(time("90 s"), Ok(90));
        assert_eq!(time("5min"), Ok(300));
        assert_eq!(time("12 h"), Ok(43_200));
        for bad in ["", "5", "h", "-1 s", "1.5 h", "0 s", "169 h", "5 m", "99999999999999999999 s"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(mode("0644"), Ok(0o644));
        assert_eq!(mode("2775"), Ok(0o2775));
        for bad in ["", "0888", "17777", "64", "0o644", "+644", "u=rw"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hardware_addresses_are_unicast() {
        assert_eq!(mac("bc:24:11:00:00:01"), Ok("BC:24:11:00:00:01".to_owned()));
        assert!(mac("bd:24:11:00:00:01").is_err());
        assert!(mac("bc-24-11-00-00-01").is_err());
    }

    #[test]
    fn units_need_a_kind() {
        assert!(unit("getty@tty1.service").is_ok());
        assert!(unit("ssh").unwrap_err().help.contains("ssh.service"));
        assert!(unit("a/b.service").is_err());
        assert!(unit("x.servcie").unwrap_err().help.contains("x.service"));
    }

    #[test]
    fn archive_uris_end_in_a_slash_and_hold_no_secret() {
        assert_eq!(archive_uri("https://host/debian"), Ok("https://host/debian/".to_owned()));
        assert!(archive_uri("https://host/{timestamp}/").is_ok());
        for bad in [
            "ftp://host/",
            "https://user:word@host/",
            "https:///x",
            "https://host/{time}/",
            "https://h/dists/x",
        ] {
            assert!(archive_uri(bad).is_err(), "{bad}");
        }
    }
}
