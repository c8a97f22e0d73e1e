//! Tokens and keys of services, by the form their makers gave them.

use super::forms::{base64_character, run, url_character};
use super::{Hit, SecretKind};

/// Beginnings of tokens, which must not follow a letter or digit, with the least number of characters behind them.
const PREFIXES: [(&str, usize, &str); 19] = [
    ("ghp_", 36, "GitHub"),
    ("gho_", 36, "GitHub"),
    ("ghu_", 36, "GitHub"),
    ("ghs_", 36, "GitHub"),
    ("ghr_", 36, "GitHub"),
    ("glpat-", 20, "GitLab"),
    ("xoxb-", 20, "Slack"),
    ("xoxp-", 20, "Slack"),
    ("xoxa-", 20, "Slack"),
    ("xoxr-", 20, "Slack"),
    ("xoxs-", 20, "Slack"),
    ("xapp-", 20, "Slack"),
    ("sk_live_", 16, "Stripe"),
    ("rk_live_", 16, "Stripe"),
    ("sk-ant-", 24, "Anthropic"),
    ("npm_", 36, "npm"),
    ("pypi-", 60, "PyPI"),
    ("hvs.", 24, "Vault"),
    ("tskey-", 20, "Tailscale"),
];

fn token(offset: usize, of: &str) -> Option<Hit> {
    Some(Hit::new(offset, SecretKind::Token, format!("the form of a token of {of}")))
}

fn begins(bytes: &[u8], at: usize) -> bool {
    at == 0 || !(bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

/// Whether a run is more than one word: identifiers in programs have no digits in their middle, tokens have.
fn looks_random(bytes: &[u8]) -> bool {
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    digits >= 2 && digits < bytes.len()
}

/// Tokens with a prefix of their own. The literal `k_live_` is only a part of it: `sk_live_`, `rk_live_`.
pub fn prefixed(bytes: &[u8], at: usize) -> Option<Hit> {
    let start = if bytes[at..].starts_with(b"k_live_") { at.checked_sub(1)? } else { at };
    if !begins(bytes, start) {
        return None;
    }
    let rest = &bytes[start..];
    let (prefix, least, of) = PREFIXES.iter().find(|(prefix, ..)| rest.starts_with(prefix.as_bytes()))?;
    let end = run(rest, prefix.len(), url_character);
    if end - prefix.len() >= *least && looks_random(&rest[prefix.len()..end]) {
        token(start, of)
    } else {
        None
    }
}

/// GitHub's fine-grained tokens.
pub fn github(bytes: &[u8], at: usize) -> Option<Hit> {
    let start = at + "github_pat_".len();
    if begins(bytes, at) && run(bytes, start, url_character) - start >= 22 {
        token(at, "GitHub")
    } else {
        None
    }
}

/// An id of an access key of Amazon Web Services: 20 upper-case letters and digits.
pub fn aws(bytes: &[u8], at: usize) -> Option<Hit> {
    let end = run(bytes, at, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let alone = begins(bytes, at) && bytes.get(end).is_none_or(|byte| !byte.is_ascii_alphanumeric());
    let key = &bytes[at..end];
    // The manuals' own sample ends in that word.
    if end - at == 20 && alone && looks_random(key) && !key.ends_with(b"EXAMPLE") {
        token(at, "AWS")
    } else {
        None
    }
}

/// A key of Google's interfaces: 39 characters.
pub fn google(bytes: &[u8], at: usize) -> Option<Hit> {
    let end = run(bytes, at, url_character);
    if end - at == 39 && begins(bytes, at) && looks_random(&bytes[at..end]) {
        token(at, "Google")
    } else {
        None
    }
}

/// A JSON web token: three parts, of which the first two are JSON objects.
pub fn jwt(bytes: &[u8], at: usize) -> Option<Hit> {
    let head = run(bytes, at, url_character);
    let body = run(bytes, head + 1, url_character);
    let seal = run(bytes, body + 1, url_character);
    let dots = bytes.get(head) == Some(&b'.') && bytes.get(body) == Some(&b'.');
    let is_object = bytes.get(head + 1..).is_some_and(|rest| rest.starts_with(b"eyJ"));
    if begins(bytes, at) && dots && is_object && head - at >= 12 && seal - body > 20 {
        return Some(Hit::new(at, SecretKind::Token, "the form of a JSON web token"));
    }
    None
}

/// The key of an Azure storage account: 64 bytes in base 64.
pub fn azure(bytes: &[u8], at: usize) -> Option<Hit> {
    let start = at + "AccountKey=".len();
    if run(bytes, start, base64_character) - start == 86 { token(at, "Azure") } else { None }
}
