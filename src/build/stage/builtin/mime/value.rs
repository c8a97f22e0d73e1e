//! Numbers, strings and masks that contents of files are compared with.

/// Longest value: what its length is written into.
const MAX_VALUE: usize = u16::MAX as usize;
/// Digits of an offset at most.
const MAX_DIGITS: usize = 9;

/// A value and its mask as bytes, and how many of them are swapped together.
pub(super) struct Value {
    pub data: Vec<u8>,
    pub mask: Option<Vec<u8>>,
    pub word_size: u8,
}

/// Where a value may begin: the first place, and how many.
pub(super) fn offset(text: &str) -> Option<(u32, u32)> {
    let number = |text: &str| {
        let plain = text.len() <= MAX_DIGITS && is_all(text, |byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<u32>().ok()).flatten()
    };
    let Some((first, last)) = text.split_once(':') else { return Some((number(text)?, 1)) };
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then(|| (first, last - first + 1))
}

/// The value of a rule with the type `kind`; nothing when the program would complain, or might.
pub(super) fn value(kind: &str, text: &str, mask: Option<&str>) -> Option<Value> {
    let (bytes, big) = match kind {
        "string" => {
            let data = unescape(text);
            let mask = match mask {
                Some(mask) => Some(string_mask(mask, data.len())?),
                None => None,
            };
            let fits = !data.is_empty() && data.len() <= MAX_VALUE;
            return fits.then_some(Value { data, mask, word_size: 1 });
        }
        "byte" => (1, false),
        "big16" | "host16" => (2, true),
        "big32" | "host32" => (4, true),
        "little16" => (2, false),
        "little32" => (4, false),
        _ => return None,
    };
    let number = |text: &str| {
        let all = integer(text)?.to_be_bytes();
        let (above, number) = all.split_at(all.len() - bytes);
        let mut number = number.to_vec();
        if !big {
            number.reverse();
        }
        above.iter().all(|byte| *byte == 0).then_some(number)
    };
    let word_size = if kind.starts_with("host") { u8::try_from(bytes).ok()? } else { 1 };
    let mask = match mask {
        Some(mask) => Some(number(mask)?),
        None => None,
    };
    Some(Value { data: number(text)?, mask, word_size })
}

/// A number as C writes it, without blanks and signs.
fn integer(text: &str) -> Option<u32> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = match hexadecimal {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let plain = is_all(digits, |byte| char::from(byte).is_digit(radix));
    plain.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
}

fn is_all(text: &str, good: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(good)
}

/// The mask of a string of `length` bytes.
fn string_mask(text: &str, length: usize) -> Option<Vec<u8>> {
    let digits =
        text.strip_prefix("0x")?.bytes().map(|byte| hexadecimal(Some(byte))).collect::<Option<Vec<_>>>()?;
    let mut mask: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).unwrap_or(&0)).collect();
    let fits = mask.len() <= length;
    mask.resize(length, 0);
    fits.then_some(mask)
}

fn hexadecimal(byte: Option<u8>) -> Option<u8> {
    char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn octal(byte: Option<u8>) -> Option<u8> {
    byte.filter(|byte| matches!(byte, b'0'..=b'7')).map(|byte| byte - b'0')
}

/// A string without the escapes of C. A backslash at its end stands for nothing.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let next = |rest: &mut &[u8]| rest.split_off_first().copied();
    while let Some(byte) = next(&mut rest) {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some(byte) = next(&mut rest) else { break };
        out.push(match byte {
            b'n' => b'\n',
            b'r' => b'\r',
            b'b' => 8,
            b't' => b'\t',
            b'f' => 12,
            b'v' => 11,
            b'0'..=b'7' => {
                let mut value = byte - b'0';
                for _ in 0..2 {
                    let Some(digit) = octal(rest.first().copied()) else { break };
                    next(&mut rest);
                    // Three digits may say more than a byte holds.
                    value = (value << 3) | digit;
                }
                value
            }
            b'x' => {
                let mut value = None;
                for _ in 0..2 {
                    let Some(digit) = hexadecimal(rest.first().copied()) else { break };
                    next(&mut rest);
                    value = Some((value.unwrap_or(0) << 4) | digit);
                }
                value.unwrap_or(b'x')
            }
            other => other,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_those_of_c() {
        assert_eq!(unescape(r"a\n\r\b\t\f\v\\\q\ "), b"a\n\r\x08\t\x0c\x0b\\q ");
        assert_eq!(unescape(r"\0\12\1234\777\8"), b"\0\n\x534\xff8");
        assert_eq!(unescape(r"\x\x4\x41B\xag\"), b"x\x04AB\x0ag");
        assert_eq!(unescape(r"\xzé"), "xzé".as_bytes());
    }

    #[test]
    fn numbers_have_the_order_of_their_type() {
        let bytes =
            |kind, text, mask| value(kind, text, mask).map(|value| (value.data, value.mask, value.word_size));
        assert_eq!(bytes("big16", "0x1234", None), Some((vec![0x12, 0x34], None, 1)));
        assert_eq!(bytes("host16", "10", Some("0xff00")), Some((vec![0, 10], Some(vec![0xff, 0]), 2)));
        assert_eq!(bytes("little32", "017", None), Some((vec![15, 0, 0, 0], None, 1)));
        assert_eq!(bytes("byte", "255", None), Some((vec![255], None, 1)));
        for odd in ["", "256", "-1", "+1", " 1", "1 ", "08", "0x", "one"] {
            assert_eq!(bytes("byte", odd, None), None, "{odd}");
        }
        assert_eq!(bytes("string", "abc", Some("0xff0")), Some((b"abc".to_vec(), Some(vec![0xff, 0, 0]), 1)));
        assert_eq!(bytes("string", "abc", Some("0xff00ff00")), None);
    }

    #[test]
    fn offsets_are_plain_numbers() {
        assert_eq!(
            (offset("0"), offset("3:3"), offset("8:0100")),
            (Some((0, 1)), Some((3, 1)), Some((8, 93)))
        );
        for odd in ["", ":", "1:", ":1", "2:1", "-1", "+1", " 1", "1:2:3", "0x1", "1234567890"] {
            assert_eq!(offset(odd), None, "{odd}");
        }
    }
}
