//! Words and numbers as Perl takes them.

use super::format::{Bytes, is_space};

/// How much a priority is; nothing when it is none.
pub(super) fn rank(priority: &[u8]) -> Option<usize> {
    [&b"low"[..], b"medium", b"high", b"critical"].iter().position(|known| *known == priority)
}

/// What Perl takes a text for where it needs a number.
pub(super) fn number(text: &[u8]) -> f64 {
    let text = String::from_utf8_lossy(text);
    let text = text.trim_start();
    let end = (0..=text.len()).rev().find(|end| {
        let numeric = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
        text.as_bytes()[..*end].iter().all(|byte| numeric(*byte)) && text[..*end].parse::<f64>().is_ok()
    });
    end.and_then(|end| text[..end].parse().ok()).unwrap_or(0.0)
}

/// The words of a line.
pub(super) fn words(line: &[u8]) -> Vec<Bytes> {
    line.split(|byte| is_space(*byte)).filter(|word| !word.is_empty()).map(<[u8]>::to_vec).collect()
}

/// The words of a line of a script that escapes.
pub(super) fn unescaped_words(line: &[u8]) -> Vec<Bytes> {
    let (mut words, mut word) = (Vec::new(), Bytes::new());
    let mut rest = line;
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after.split_first()) {
            (b'\\', Some((next, after))) => {
                word.push(if *next == b'n' { b'\n' } else { *next });
                after
            }
            (byte, _) if is_space(*byte) => {
                words.push(std::mem::take(&mut word));
                &after[after.iter().take_while(|byte| is_space(**byte)).count()..]
            }
            (byte, _) => {
                word.push(*byte);
                after
            }
        };
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// A value as `DATA` gives it.
pub(super) fn unescaped_value(value: &[u8]) -> Bytes {
    let mut out = Bytes::new();
    let mut rest = value;
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after.split_first()) {
            (b'\\', Some((next @ (b'n' | b'"' | b'\\'), after))) => {
                out.push(if *next == b'n' { b'\n' } else { *next });
                after
            }
            _ => {
                out.push(*first);
                after
            }
        };
    }
    out
}
