//! What debconf shows without anyone to answer: errors, and what it says about itself.

use super::format::{Bytes, is_space};

/// Columns of a line.
const COLUMNS: usize = 76;

/// What was said, until it is taken.
#[derive(Debug, Default)]
pub(super) struct Display {
    /// Shown above the next text.
    pub title: Bytes,
    /// Whether Text::WrapI18N is there, which breaks lines elsewhere than Text::Wrap.
    international: bool,
    stdout: Bytes,
    stderr: Bytes,
}

impl Display {
    pub fn new(international: bool) -> Self {
        Self { international, ..Self::default() }
    }

    /// Shows a text.
    pub fn show(&mut self, text: &[u8]) {
        let text = if self.international { wrap_international(text) } else { wrap(text) };
        let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        while lines.last().is_some_and(|line| line.is_empty()) {
            lines.pop();
        }
        if text.ends_with(b"\n") {
            lines.push(b"");
        }
        let title = std::mem::take(&mut self.title);
        if !title.is_empty() {
            let width = if self.international { characters(&title).count() } else { title.len() };
            self.stdout.extend_from_slice(&[&title[..], b"\n", &b"-".repeat(width), b"\n\n"].concat());
        }
        for line in lines {
            self.stdout.extend_from_slice(line);
            self.stdout.push(b'\n');
        }
    }

    /// Says things in debconf's own name.
    pub fn say(&mut self, lines: &[Bytes]) {
        for line in lines {
            self.stderr.extend_from_slice(&[b"debconf: ", &line[..], b"\n"].concat());
        }
    }

    /// What goes to standard output and to standard error.
    pub fn take(&mut self) -> (Bytes, Bytes) {
        (std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr))
    }
}

/// `Text::Wrap` on bytes, its tabs as spaces.
fn wrap(text: &[u8]) -> Bytes {
    let text = expanded(text);
    let (mut out, mut rest) = (Bytes::new(), &text[..]);
    let (mut separator, mut remainder): (&[u8], &[u8]) = (b"", b"");
    let room = COLUMNS - 1;
    while !rest.iter().all(|byte| is_space(*byte)) {
        out.extend_from_slice(separator);
        let line = rest.iter().take(room + 1).position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let fits = rest.len().min(line);
        // The longest beginning of at most `room` bytes that ends before a space or with the text.
        let end = (0..=fits.min(room)).rev().find(|end| rest.get(*end).is_none_or(|byte| is_space(*byte)));
        let (end, skipped) = match end {
            Some(end) => (end, usize::from(end < rest.len())),
            None => (room, 0),
        };
        out.extend_from_slice(&rest[..end]);
        remainder = if skipped == 1 {
            &rest[end..=end]
        } else if end < rest.len() {
            b"\n"
        } else {
            b""
        };
        rest = &rest[end + skipped..];
        separator = b"\n";
    }
    out.extend_from_slice(remainder);
    out
}

/// Replaces tabs by spaces up to the next multiple of eight.
fn expanded(text: &[u8]) -> Bytes {
    let mut out = Bytes::with_capacity(text.len());
    let mut column = 0;
    for byte in text {
        match byte {
            b'\t' => {
                let spaces = 8 - column % 8;
                out.extend(std::iter::repeat_n(b' ', spaces));
                column += spaces;
            }
            b'\n' => {
                out.push(b'\n');
                column = 0;
            }
            byte => {
                out.push(*byte);
                column += 1;
            }
        }
    }
    out
}

/// `Text::WrapI18N` for text whose characters all have one column.
fn wrap_international(text: &[u8]) -> Bytes {
    let end = text.iter().rposition(|byte| *byte != b'\n').map_or(0, |last| last + 1);
    let text = if end < text.len() { &text[..=end] } else { text };
    let mut pending: Vec<&[u8]> = characters(text).collect();
    pending.reverse();
    let (mut out, mut word, mut column, mut width) = (Bytes::new(), Vec::<&[u8]>::new(), 0, 0);
    while let Some(character) = pending.pop() {
        if character == b"\n" {
            out.extend(word.concat());
            out.push(b'\n');
            (word, column, width) = (Vec::new(), 0, 0);
        } else if character[0] < b' ' || character[0] == 0x7f {
            // Control characters are dropped.
        } else if column + width < COLUMNS {
            word.push(character);
            width += 1;
            if character == b" " {
                out.extend(word.concat());
                column += width;
                (word, width) = (Vec::new(), 0);
            }
        } else if character == b" " {
            out.extend(word.concat());
            out.push(b'\n');
            (word, column, width) = (Vec::new(), 0, 0);
        } else if width < COLUMNS {
            // The word goes to the next line.
            out.push(b'\n');
            pending.push(character);
            pending.extend(word.iter().rev());
            (word, column, width) = (Vec::new(), 0, 0);
        } else {
            out.extend(word.concat());
            out.push(b'\n');
            pending.push(character);
            (word, column, width) = (Vec::new(), 0, 0);
        }
    }
    out.extend(word.concat());
    out
}

/// The characters of UTF-8 text. Bytes that are none count as one each.
fn characters(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let chunk = rest[..rest.len().min(4)].utf8_chunks().next()?;
        let length = chunk.valid().chars().next().map_or(1, char::len_utf8);
        let (character, after) = rest.split_at(length);
        rest = after;
        Some(character)
    })
}
