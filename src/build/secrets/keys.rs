//! Private keys: PEM and its kin as text anywhere, binary formats as whole files.

use super::forms::{base64_character, run};
use super::{Hit, SecretKind, der};

/// Least number of characters in a key's text: an Ed25519 key in PKCS #8 has 64.
const LEAST_BODY: usize = 60;
/// Furthest that the body of a key is looked for behind its first line, in bytes.
const FURTHEST: usize = 4096;

fn key(offset: usize, why: impl Into<String>) -> Option<Hit> {
    Some(Hit::new(offset, SecretKind::PrivateKey, why))
}

/// A private key of PEM, OpenSSH, OpenPGP or OpenVPN: its first line, and below it a body. The first line alone stands
/// in every program that reads or writes keys.
pub fn pem(bytes: &[u8], at: usize) -> Option<Hit> {
    let label_start = run(bytes, at, |byte| byte == b'-');
    let label_start = run(bytes, label_start, |byte| byte == b' ') + "BEGIN ".len();
    let label_end = run(bytes, label_start, |byte| byte.is_ascii_alphanumeric() || byte == b' ');
    let label = std::str::from_utf8(bytes.get(label_start..label_end)?).ok()?.trim_end();
    let private = label.ends_with("PRIVATE KEY") || label.ends_with("PRIVATE KEY BLOCK");
    if !private && label != "OpenVPN Static key V1" {
        return None;
    }
    let body = run(bytes, label_end, |byte| byte == b'-');
    if body == label_end || !has_body(&bytes[body..bytes.len().min(body + FURTHEST)]) {
        return None;
    }
    key(at, format!("`{label}` in PEM or its like"))
}

/// Whether the text of a key follows: base 64 in lines, between header fields, quotes, comment signs and written line
/// ends as they stand in JSON, YAML or source code.
fn has_body(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text).replace("\\n", "\n").replace("\\r", "\n");
    let mut lines = text.lines();
    // The rest of the first line is empty, or the closing quote of a string.
    let first_is_bare =
        lines.next().is_some_and(|rest| rest.trim_matches([' ', '"', '\'', ',', '+', '\\']).is_empty());
    let mut found = 0;
    for line in lines {
        let line = line.trim_matches([' ', '\t', '"', '\'', ',', '+', '#', ';', '>', '*', '\\']);
        if line.contains(": ") || line.is_empty() {
            continue;
        }
        if !line.bytes().all(|byte| base64_character(byte) || byte == b'=') {
            break;
        }
        found += line.len();
        if found >= LEAST_BODY {
            return first_is_bare;
        }
    }
    false
}

/// PuTTY's own format with its private part.
pub fn putty(bytes: &[u8], at: usize) -> Option<Hit> {
    let text = String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 4 * FURTHEST)]);
    let mut lines = text.lines();
    let (head, algorithm) = lines.next()?.split_once(": ")?;
    let private = lines.any(|line| {
        line.strip_prefix("Private-Lines: ").is_some_and(|count| count.trim().parse::<u32>().is_ok())
    });
    if head.ends_with(|c: char| c.is_ascii_digit()) && !algorithm.contains('%') && private {
        return key(at, "PuTTY's format");
    }
    None
}

/// `AGE-SECRET-KEY-1` or `AGE-PLUGIN-NAME-1` and the key in Bech32.
pub fn age(bytes: &[u8], at: usize) -> Option<Hit> {
    let end = run(bytes, at, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-');
    let data = bytes[at..end].rsplit(|byte| *byte == b'-').next()?;
    if data.first() == Some(&b'1') && data.len() >= 40 { key(at, "an identity of age") } else { None }
}

/// Secret keys of minisign and signify: a comment line, then one line of base 64 with the algorithm's mark.
pub fn minisign(bytes: &[u8], at: usize) -> Option<Hit> {
    let before = bytes[..at].strip_suffix(b"\n")?;
    let comment = before.rsplit(|byte| *byte == b'\n').next()?;
    let end = run(bytes, at, |byte| base64_character(byte) || byte == b'=');
    let commented = comment.starts_with(b"untrusted comment:");
    if commented && end - at >= 130 { key(at, "minisign's or signify's format") } else { None }
}

/// What gpg-agent keeps: an S-expression.
pub fn gnupg_agent(bytes: &[u8], at: usize) -> Option<Hit> {
    // It is the whole file, or follows `Key:` and perhaps other fields of the newer text form.
    let start = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let before = &bytes[start..at];
    let alone = at < 8 && before.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'(' | b':'));
    let field = before.starts_with(b"Key: ") && before.len() < 8;
    let has_key = bytes[at..]
        .windows(4)
        .take(200)
        .any(|window| window == b"(3:n" || window == b"(n #" || window == b"(1:n")
        || bytes[at..]
            .windows(6)
            .take(200)
            .any(|window| window == b"(curve" || window == b"5:curv" || window == b"(rsa\n ");
    if (alone || field) && has_key { key(at, "gpg-agent's format") } else { None }
}

/// `client-key-data:` of a kubeconfig, with a key in base 64.
pub fn kubernetes(bytes: &[u8], at: usize) -> Option<Hit> {
    let start = run(bytes, at + "client-key-data:".len(), |byte| matches!(byte, b' ' | b'"' | b'\''));
    if run(bytes, start, base64_character) - start >= LEAST_BODY {
        key(at, "`client-key-data` of Kubernetes")
    } else {
        None
    }
}

/// Formats that are a file of their own.
pub fn whole_file(bytes: &[u8]) -> Vec<Hit> {
    let found = der::private_key(bytes)
        .or_else(|| java_key_store(bytes).then_some("a Java key store with a private key"))
        .or_else(|| openpgp(bytes).then_some("a secret key in OpenPGP's binary form"));
    found.into_iter().filter_map(|why| key(0, why)).collect()
}

/// Reads big-endian fields of a key store.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, length: usize) -> Option<usize> {
        Some(self.take(length)?.iter().fold(0, |number, digit| number << 8 | usize::from(*digit)))
    }
}

/// A key store of Java (JKS, JCEKS) with an entry that is no certificate: the system's own holds only those.
fn java_key_store(bytes: &[u8]) -> bool {
    let mut reader = Reader(bytes);
    if !matches!(reader.number(4), Some(0xfeed_feed | 0xcece_cece))
        || !matches!(reader.number(4), Some(1 | 2))
    {
        return false;
    }
    let entries = reader.number(4).unwrap_or_default();
    for _ in 0..entries {
        if matches!(reader.number(4), Some(1 | 3)) {
            return true;
        }
        // A certificate: alias, date, type, and the certificate itself.
        let read = (|| {
            let alias = reader.number(2)?;
            reader.take(alias + 8)?;
            let kind = reader.number(2)?;
            reader.take(kind)?;
            let certificate = reader.number(4)?;
            reader.take(certificate)
        })();
        if read.is_none() {
            return false;
        }
    }
    false
}

/// Packets of OpenPGP of which the first is a secret key.
fn openpgp(bytes: &[u8]) -> bool {
    let Some((5, body, rest)) = openpgp_packet(bytes) else { return false };
    let [version, _, _, _, _, algorithm, ..] = body else { return false };
    // What follows a key is a user id, a signature or a subkey.
    let follows =
        rest.is_empty() || openpgp_packet(rest).is_some_and(|(tag, _, _)| matches!(tag, 2 | 7 | 13 | 17));
    matches!(version, 4..=6)
        && matches!(algorithm, 1..=3 | 16..=19 | 22 | 25..=28)
        && body.len() >= 40
        && follows
}

/// One packet: its tag, its body, and what follows.
fn openpgp_packet(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let mut reader = Reader(bytes);
    let head = reader.number(1)? as u8;
    let (tag, length) = match head {
        0xc0..=0xff => {
            let length = match reader.number(1)? {
                short @ 0..=191 => short,
                long @ 192..=223 => (long - 192) * 256 + reader.number(1)? + 192,
                255 => reader.number(4)?,
                _ => return None,
            };
            (head & 0x3f, length)
        }
        0x80..=0xbf => (head >> 2 & 0x0f, reader.number(*[1, 2, 4].get(usize::from(head & 3))?)?),
        _ => return None,
    };
    Some((tag, reader.take(length)?, reader.0))
}
