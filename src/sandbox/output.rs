//! What a job writes: bytes in, bounded and harmless lines out.

use std::collections::VecDeque;

/// How many of the last lines are kept for error messages.
pub(super) const TAIL_LINES: usize = 20;
/// Longer lines are cut here, in bytes.
const LONGEST_LINE: usize = 1024;

/// Splits output into lines as it comes.
pub(super) struct Lines {
    line: Vec<u8>,
    cut: bool,
    tail: VecDeque<String>,
    total: u64,
}

impl Lines {
    pub fn new() -> Self {
        Self { line: Vec::new(), cut: false, tail: VecDeque::new(), total: 0 }
    }

    /// Takes what was read; calls `on_line` for each line that it completes.
    pub fn push(&mut self, bytes: &[u8], on_line: &mut dyn FnMut(&str)) {
        self.total += bytes.len() as u64;
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.extend(&rest[..end]);
            self.end_line(on_line);
            rest = &rest[end + 1..];
        }
        self.extend(rest);
    }

    /// How many bytes came so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The last lines, the latest last; a line without an end counts.
    pub fn finish(mut self, on_line: &mut dyn FnMut(&str)) -> Vec<String> {
        if !self.line.is_empty() {
            self.end_line(on_line);
        }
        self.tail.into()
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = LONGEST_LINE - self.line.len();
        self.cut |= bytes.len() > room;
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self, on_line: &mut dyn FnMut(&str)) {
        let mut text = printable(&self.line);
        if self.cut {
            text.push('…');
        }
        self.line.clear();
        self.cut = false;
        on_line(&text);
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(text);
    }
}

/// The line as text that does nothing to a terminal: control characters and what is not UTF-8 become `\x1b`, tabs
/// spaces, and of text overwritten by carriage returns only the last state remains.
pub(super) fn printable(line: &[u8]) -> String {
    let line = line.trim_ascii_end();
    let start = line.iter().rposition(|byte| *byte == b'\r').map_or(0, |at| at + 1);
    let mut text = String::with_capacity(line.len() - start);
    for chunk in line[start..].utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\t' => text.push(' '),
                // Controls, and what changes the direction or order in which the rest is shown.
                character
                    if character.is_control()
                        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
                {
                    match u32::from(character) {
                        code @ ..=0xff => text.push_str(&format!("\\x{code:02x}")),
                        code => text.push_str(&format!("\\u{{{code:x}}}")),
                    }
                }
                character => text.push(character),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> (Vec<String>, Vec<String>) {
        let mut seen = Vec::new();
        let mut lines = Lines::new();
        for piece in pieces {
            lines.push(piece, &mut |line| seen.push(line.to_owned()));
        }
        let tail = lines.finish(&mut |line| seen.push(line.to_owned()));
        (seen, tail)
    }

    #[test]
    fn lines_are_joined_over_reads() {
        let (seen, tail) = lines(&[b"Setting ", b"up libc6\nSetting up", b" dpkg\n", b"no end"]);
        assert_eq!(seen, ["Setting up libc6", "Setting up dpkg", "no end"]);
        assert_eq!(tail, seen);
    }

    #[test]
    fn only_the_last_twenty_are_kept() {
        let text: String = (0..30).map(|number| format!("{number}\n")).collect();
        let (seen, tail) = lines(&[text.as_bytes()]);
        assert_eq!(seen.len(), 30);
        assert_eq!((tail.len(), tail[0].as_str(), tail[19].as_str()), (20, "10", "29"));
    }

    #[test]
    fn long_lines_are_cut() {
        let (seen, _) = lines(&[&[b'a'; 5000], &[b'b'; 5000], b"\nnext\n"]);
        assert_eq!(seen[0].len(), LONGEST_LINE + '…'.len_utf8());
        assert_eq!(seen[1], "next");
    }

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        let (seen, _) = lines(&[
            b"\x1b]0;title\x07\x1b[2J red\xff\tdone\x7f\n50%\r100%\r\nsafe \xe2\x80\xae txt\xc2\x9b\n",
        ]);
        assert_eq!(seen, [r"\x1b]0;title\x07\x1b[2J red\xff done\x7f", "100%", r"safe \u{202e} txt\x9b"]);
    }
}
