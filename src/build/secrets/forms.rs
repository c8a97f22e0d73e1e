//! Forms of secrets that are recognised in any file: a literal that they all have, then their whole shape.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, Input, packed};

use super::{Hit, SecretKind, keys, tokens};

/// Says whether the shape that begins with a literal at an offset is there, and what it is.
type Shape = fn(&[u8], usize) -> Option<Hit>;

/// Every literal with its shape.
const FORMS: [(&str, Shape); 52] = [
    ("-----BEGIN ", keys::pem),
    ("---- BEGIN SSH2 ", keys::pem),
    ("PuTTY-User-Key-File-", keys::putty),
    ("AGE-SECRET-KEY-", keys::age),
    ("AGE-PLUGIN-", keys::age),
    ("RWRTY0Iy", keys::minisign),
    ("RWRCS", keys::minisign),
    ("(private-key", keys::gnupg_agent),
    ("(11:private-key", keys::gnupg_agent),
    ("protected-private-key", keys::gnupg_agent),
    ("client-key-data:", keys::kubernetes),
    ("$y$", crypt),
    ("$gy$", crypt),
    ("$7$", crypt),
    ("$6$", crypt),
    ("$5$", crypt),
    ("$1$", crypt),
    ("$apr1$", crypt),
    ("$2a$", bcrypt),
    ("$2b$", bcrypt),
    ("$2y$", bcrypt),
    ("$argon2", argon2),
    ("$pbkdf2-", argon2),
    ("pbkdf2_sha", django),
    ("{SSHA", ldap),
    ("{SHA", ldap),
    ("Password_PBKDF2", qbittorrent),
    ("PrivateKey", wireguard),
    ("PresharedKey", wireguard),
    ("PreSharedKey", wireguard),
    ("private-key", wireguard),
    ("preshared-key", wireguard),
    ("AKIA", tokens::aws),
    ("ASIA", tokens::aws),
    ("AIza", tokens::google),
    ("eyJ", tokens::jwt),
    ("ghp_", tokens::prefixed),
    ("gho_", tokens::prefixed),
    ("ghu_", tokens::prefixed),
    ("ghs_", tokens::prefixed),
    ("ghr_", tokens::prefixed),
    ("github_pat_", tokens::github),
    ("glpat-", tokens::prefixed),
    ("xox", tokens::prefixed),
    ("xapp-", tokens::prefixed),
    ("k_live_", tokens::prefixed),
    ("sk-ant-", tokens::prefixed),
    ("npm_", tokens::prefixed),
    ("pypi-", tokens::prefixed),
    ("hvs.", tokens::prefixed),
    ("tskey-", tokens::prefixed),
    ("AccountKey=", tokens::azure),
];

/// Finds the literals with vector instructions; nothing on a processor without those that so many need.
static VECTORED: LazyLock<Option<packed::Searcher>> =
    LazyLock::new(|| packed::Searcher::new(FORMS.iter().map(|(literal, _)| literal)));
/// Finds them anywhere, at a tenth of the speed.
static PLAIN: LazyLock<Option<AhoCorasick>> =
    LazyLock::new(|| AhoCorasick::new(FORMS.iter().map(|(literal, _)| literal)).ok());

/// Adds every form in `bytes`.
pub fn search(bytes: &[u8], hits: &mut Vec<Hit>) {
    // After a literal the search goes on behind its first byte: another one may begin within it.
    let mut from = 0;
    while let Some(found) = match &*VECTORED {
        Some(searcher) => searcher.find_in(bytes, (from..bytes.len()).into()),
        None => PLAIN.as_ref().and_then(|searcher| searcher.find(Input::new(bytes).range(from..))),
    } {
        hits.extend(FORMS[found.pattern().as_usize()].1(bytes, found.start()));
        from = found.start() + 1;
    }
}

/// The end of the longest run from `start` of bytes that `allowed` accepts.
pub fn run(bytes: &[u8], start: usize, allowed: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    start + rest.iter().position(|byte| !allowed(*byte)).unwrap_or(rest.len())
}

/// The characters of crypt's own base 64.
pub fn crypt_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/')
}

/// The characters of base 64 as in RFC 4648, without padding.
pub fn base64_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

/// The characters of base 64 for URLs.
pub fn url_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn hash(offset: usize, form: &str) -> Option<Hit> {
    Some(Hit::new(offset, SecretKind::PasswordHash, format!("the form of {form}")))
}

/// `$id$` [`rounds=N$`] [`parameters$`] `salt$digest`, the digest of the length that belongs to the id.
fn crypt(bytes: &[u8], at: usize) -> Option<Hit> {
    let id_end = run(bytes, at + 1, |byte| byte != b'$');
    let (segments, digest, form) = match bytes.get(at + 1..id_end)? {
        b"y" => (2, 43, "yescrypt"),
        b"gy" => (2, 43, "gost-yescrypt"),
        b"7" => (1, 43, "scrypt"),
        b"6" => (1, 86, "SHA-512 crypt"),
        b"5" => (1, 43, "SHA-256 crypt"),
        b"1" => (1, 22, "MD5 crypt"),
        b"apr1" => (1, 22, "Apache's MD5"),
        _ => return None,
    };
    let mut position = id_end + 1;
    if bytes.get(position..)?.starts_with(b"rounds=") {
        position = run(bytes, position + 7, |byte| byte.is_ascii_digit()) + 1;
    }
    for _ in 0..segments {
        let end = run(bytes, position, crypt_character);
        if end == position || end - position > 96 || bytes.get(end) != Some(&b'$') {
            return None;
        }
        position = end + 1;
    }
    if run(bytes, position, crypt_character) - position == digest { hash(at, form) } else { None }
}

/// `$2y$` cost `$`, then salt and digest in 53 characters.
fn bcrypt(bytes: &[u8], at: usize) -> Option<Hit> {
    let cost = bytes.get(at + 4..at + 7)?;
    let cost_is_good = cost[0].is_ascii_digit() && cost[1].is_ascii_digit() && cost[2] == b'$';
    if cost_is_good && run(bytes, at + 7, crypt_character) - (at + 7) == 53 {
        hash(at, "bcrypt")
    } else {
        None
    }
}

/// `$argon2id$v=19$m=…,t=…,p=…$salt$digest`, and passlib's `$pbkdf2-sha256$29000$salt$digest`.
fn argon2(bytes: &[u8], at: usize) -> Option<Hit> {
    let end =
        run(bytes, at, |byte| crypt_character(byte) || matches!(byte, b'$' | b'+' | b'=' | b',' | b'-'));
    let text = std::str::from_utf8(&bytes[at..end]).ok()?;
    let parts: Vec<&str> = text.split('$').skip(1).collect();
    let [.., salt, digest] = parts[..] else { return None };
    let parameters =
        parts.len() >= 4 && parts[1..parts.len() - 2].iter().all(|part| part.contains(char::is_numeric));
    let form = if text.starts_with("$argon2") { "Argon2" } else { "PBKDF2" };
    if parameters && salt.len() >= 8 && digest.len() >= 22 { hash(at, form) } else { None }
}

/// `pbkdf2_sha256$600000$salt$digest`, as Django keeps it.
fn django(bytes: &[u8], at: usize) -> Option<Hit> {
    let end = run(bytes, at, |byte| base64_character(byte) || matches!(byte, b'$' | b'_' | b'='));
    let text = std::str::from_utf8(&bytes[at..end]).ok()?;
    let parts: Vec<&str> = text.split('$').collect();
    let [_, iterations, salt, digest] = parts[..] else { return None };
    let numeric = !iterations.is_empty() && iterations.bytes().all(|byte| byte.is_ascii_digit());
    if numeric && !salt.is_empty() && digest.len() >= 27 { hash(at, "PBKDF2") } else { None }
}

/// `{SSHA}` and its kin with at least a SHA-1 in base 64 behind it.
fn ldap(bytes: &[u8], at: usize) -> Option<Hit> {
    let end = run(bytes, at + 1, |byte| byte.is_ascii_alphanumeric());
    let digest = run(bytes, end + 1, base64_character);
    if bytes.get(end) == Some(&b'}') && digest - (end + 1) >= 27 {
        hash(at, "an LDAP password")
    } else {
        None
    }
}

/// `WebUI\Password_PBKDF2="@ByteArray(salt:digest)"`.
fn qbittorrent(bytes: &[u8], at: usize) -> Option<Hit> {
    let value = run(bytes, at + 15, |byte| matches!(byte, b' ' | b'=' | b'"' | b':'));
    let inner = bytes.get(value..)?.strip_prefix(b"@ByteArray(")?;
    let salt = run(inner, 0, |byte| base64_character(byte) || byte == b'=');
    let digest = run(inner, salt + 1, |byte| base64_character(byte) || byte == b'=');
    if salt >= 8 && inner.get(salt) == Some(&b':') && digest > salt + 16 {
        return hash(at, "qBittorrent's PBKDF2");
    }
    None
}

/// A name, `=` or `:`, and 32 bytes in base 64.
fn wireguard(bytes: &[u8], at: usize) -> Option<Hit> {
    let name_end = run(bytes, at, |byte| byte.is_ascii_alphabetic() || byte == b'-');
    let value = run(bytes, name_end, |byte| matches!(byte, b' ' | b'\t' | b'=' | b':' | b'"' | b'\''));
    let separated = bytes[name_end..value].iter().any(|byte| matches!(byte, b'=' | b':'));
    if !separated || !is_wireguard_key(bytes.get(value..)?) {
        return None;
    }
    let name = String::from_utf8_lossy(&bytes[at..name_end]).into_owned();
    Some(Hit::new(at, SecretKind::WireguardKey, format!("`{name}` with 32 bytes in base 64")))
}

/// Whether `bytes` begin with exactly 32 bytes in base 64.
pub fn is_wireguard_key(bytes: &[u8]) -> bool {
    let end = run(bytes, 0, base64_character);
    // The last character has four bits of the key, the two others are nought.
    end == 43 && bytes.get(43) == Some(&b'=') && b"AEIMQUYcgkosw048".contains(&bytes[42])
}
