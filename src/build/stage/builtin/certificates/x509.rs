//! As much of X.509 as names a certificate in a directory of hashes: PEM, the structure, the canonical subject.
//!
//! What is not strictly DER, or has a part that is not understood, gives nothing: OpenSSL is left to judge it.

use pgp::crypto::hash::HashAlgorithm;

/// Longest line of PEM that is taken; OpenSSL reads longer ones in pieces.
const MAX_LINE: usize = 200;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The certificates of a PEM file, each as DER; nothing when it has anything else between dashes or a damaged one.
pub(super) fn certificates(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let text = std::str::from_utf8(text).ok().filter(|text| !text.contains('\0'))?;
    let mut found = Vec::new();
    let mut body: Option<String> = None;
    for line in text.lines() {
        if line.len() > MAX_LINE {
            return None;
        }
        let line = line.trim_end();
        match &mut body {
            None if line == BEGIN => body = Some(String::new()),
            None if line.contains("-----") => return None,
            None => {}
            Some(digits) if line == END => {
                let der = base64(digits)?;
                subject(&der)?;
                found.push(der);
                body = None;
            }
            Some(digits) => {
                // Lines are full up to the last.
                if line.is_empty() || line.len() > 64 || !digits.len().is_multiple_of(64) {
                    return None;
                }
                digits.push_str(line);
            }
        }
    }
    body.is_none().then_some(found)
}

/// Decodes strict base64.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if text.is_empty() || !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    (bits & ((1 << count) - 1) == 0).then_some(bytes)
}

/// The name of a certificate's link: the hash of its canonical subject.
pub(super) fn subject_hash(der: &[u8]) -> Option<u32> {
    let canonical = canonical(subject(der)?)?;
    let hash = HashAlgorithm::Sha1.digest(&canonical).ok()?;
    Some(u32::from_le_bytes(hash.first_chunk::<4>().copied()?))
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const OBJECT: u8 = 0x06;
const UTF8: u8 = 0x0c;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// One element in front of `bytes`: tag, contents, rest. Lengths are definite and as short as can be.
fn element<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0x00..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
            let shortest = match first {
                0x81 => 0x80,
                0x82 => 0x100,
                _ => 0x1_0000,
            };
            (Some(length).filter(|length| *length >= shortest)?, rest)
        }
        _ => return None,
    };
    // Tags of more than one byte do not occur here.
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (contents, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some((tag, contents))
}

/// The contents of the element in front, which has to have this tag.
fn expect<'a>(bytes: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    element(bytes).and_then(|(found, contents)| (found == tag).then_some(contents))
}

/// An integer of DER: no empty one and no needless first byte.
fn integer(bytes: &mut &[u8]) -> Option<()> {
    let contents = expect(bytes, INTEGER)?;
    let needless = matches!(contents, [0, next, ..] if next & 0x80 == 0)
        || matches!(contents, [0xff, next, ..] if next & 0x80 != 0);
    (!contents.is_empty() && !needless).then_some(())
}

/// An object identifier: numbers that begin without padding, the last one complete.
fn object<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let contents = expect(bytes, OBJECT)?;
    let mut begins = true;
    for byte in contents {
        if begins && *byte == 0x80 {
            return None;
        }
        begins = byte & 0x80 == 0;
    }
    (begins && !contents.is_empty() && contents.len() <= 40).then_some(contents)
}

fn algorithm(bytes: &mut &[u8]) -> Option<()> {
    let mut inner = expect(bytes, SEQUENCE)?;
    object(&mut inner)?;
    if !inner.is_empty() {
        element(&mut inner)?;
    }
    inner.is_empty().then_some(())
}

fn bits(bytes: &mut &[u8]) -> Option<()> {
    let contents = expect(bytes, BITS)?;
    matches!(contents, [0, ..]).then_some(())
}

fn time(bytes: &mut &[u8]) -> Option<()> {
    let (tag, contents) = element(bytes)?;
    let (digits, zone) = contents.split_at_checked(contents.len().checked_sub(1)?)?;
    let length = match tag {
        0x17 => 12,
        0x18 => 14,
        _ => return None,
    };
    (zone == b"Z" && digits.len() == length && digits.iter().all(u8::is_ascii_digit)).then_some(())
}

fn extensions(mut bytes: &[u8]) -> Option<()> {
    let mut list = expect(&mut bytes, SEQUENCE)?;
    while !list.is_empty() {
        let mut extension = expect(&mut list, SEQUENCE)?;
        object(&mut extension)?;
        if extension.first() == Some(&BOOLEAN) && expect(&mut extension, BOOLEAN)? != [0xff] {
            return None;
        }
        expect(&mut extension, OCTETS)?;
        if !extension.is_empty() {
            return None;
        }
    }
    bytes.is_empty().then_some(())
}

/// The subject of a certificate whose whole structure is sound.
fn subject(mut der: &[u8]) -> Option<&[u8]> {
    let mut certificate = expect(&mut der, SEQUENCE)?;
    let mut signed = expect(&mut certificate, SEQUENCE)?;
    algorithm(&mut certificate)?;
    bits(&mut certificate)?;
    if !der.is_empty() || !certificate.is_empty() {
        return None;
    }
    if signed.first() == Some(&0xa0) {
        let mut version = expect(&mut signed, 0xa0)?;
        integer(&mut version)?;
        if !version.is_empty() {
            return None;
        }
    }
    integer(&mut signed)?;
    algorithm(&mut signed)?;
    canonical(expect(&mut signed, SEQUENCE)?)?;
    let mut validity = expect(&mut signed, SEQUENCE)?;
    time(&mut validity)?;
    time(&mut validity)?;
    let subject = expect(&mut signed, SEQUENCE)?;
    canonical(subject)?;
    let mut key = expect(&mut signed, SEQUENCE)?;
    algorithm(&mut key)?;
    bits(&mut key)?;
    if !validity.is_empty() || !key.is_empty() {
        return None;
    }
    if signed.first() == Some(&0xa3) {
        extensions(expect(&mut signed, 0xa3)?)?;
    }
    signed.is_empty().then_some(subject)
}

/// A name as OpenSSL hashes it: each text in UTF-8, ASCII letters small, blanks at the ends gone and one elsewhere;
/// without the header of the outer sequence.
fn canonical(mut name: &[u8]) -> Option<Vec<u8>> {
    let mut result = Vec::new();
    while !name.is_empty() {
        let mut set = expect(&mut name, SET)?;
        let mut attributes = Vec::new();
        while !set.is_empty() {
            let mut attribute = expect(&mut set, SEQUENCE)?;
            let object = object(&mut attribute)?;
            let (tag, value) = element(&mut attribute)?;
            if !attribute.is_empty() {
                return None;
            }
            let text = text(tag, value)?;
            let mut contents = encoded(OBJECT, object);
            contents.extend(encoded(UTF8, fold(&text).as_bytes()));
            attributes.push(encoded(SEQUENCE, &contents));
        }
        if attributes.is_empty() {
            return None;
        }
        attributes.sort_unstable();
        result.extend(encoded(SET, &attributes.concat()));
    }
    Some(result)
}

/// The text of a string type that OpenSSL takes to UTF-8. Other types it hashes as they are, which does not occur.
fn text(tag: u8, value: &[u8]) -> Option<String> {
    match tag {
        UTF8 => String::from_utf8(value.to_vec()).ok(),
        // PrintableString, IA5String, VisibleString.
        0x13 | 0x16 | 0x1a => value.is_ascii().then(|| value.iter().map(|byte| char::from(*byte)).collect()),
        // T61String, which OpenSSL takes for Latin-1.
        0x14 => Some(value.iter().map(|byte| char::from(*byte)).collect()),
        // BMPString.
        0x1e => {
            let (pairs, rest) = value.as_chunks::<2>();
            let units = pairs.iter().map(|pair| char::from_u32(u32::from(u16::from_be_bytes(*pair))));
            units.collect::<Option<String>>().filter(|_| rest.is_empty())
        }
        // UniversalString.
        0x1c => {
            let (quads, rest) = value.as_chunks::<4>();
            let units = quads.iter().map(|quad| char::from_u32(u32::from_be_bytes(*quad)));
            units.collect::<Option<String>>().filter(|_| rest.is_empty())
        }
        _ => None,
    }
    .filter(|text| !text.contains('\0'))
}

fn fold(text: &str) -> String {
    let blank = |c: char| matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r');
    let words: Vec<_> = text.split(blank).filter(|word| !word.is_empty()).collect();
    words.join(" ").to_ascii_lowercase()
}

fn encoded(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len().to_be_bytes();
    let digits = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut result = vec![tag];
    match digits {
        [] => result.push(0),
        [small @ ..=0x7f] => result.push(*small),
        _ => {
            result.push(0x80 | u8::try_from(digits.len()).unwrap_or(0x7f));
            result.extend(digits);
        }
    }
    result.extend(contents);
    result
}
