//! Private keys in DER, told from certificates by their structure.

/// One element: its tag, its contents, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0x00..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((*tag, contents, rest))
}

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// 1.2.840.113549.1.5, PKCS #5.
const PKCS5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05];
/// 1.2.840.113549.1.12.1, encryption in PKCS #12.
const PKCS12: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01];
/// 1.2.840.113549.1.7.1, data in PKCS #7.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];

/// What private key the bytes are, if they are one and nothing else.
pub fn private_key(bytes: &[u8]) -> Option<&'static str> {
    let (SEQUENCE, inner, rest) = element(bytes)? else { return None };
    if !rest.is_empty() {
        return None;
    }
    let (first, head, after) = element(inner)?;
    let (second, body, after) = element(after)?;
    let object = |sequence| match element(sequence) {
        Some((OBJECT, object, _)) => Some(object),
        _ => None,
    };
    match (first, head, second) {
        // EncryptedPrivateKeyInfo: how it is encrypted, and the octets.
        (SEQUENCE, _, OCTETS) if after.is_empty() => {
            let algorithm = object(head)?;
            (algorithm.starts_with(PKCS5) || algorithm.starts_with(PKCS12))
                .then_some("an encrypted key in PKCS #8")
        }
        // PFX: version 3, the content, and mostly its authentication.
        (INTEGER, [3], SEQUENCE) if object(body) == Some(DATA) => Some("a key store in PKCS #12"),
        // PrivateKeyInfo: version, algorithm, the octets.
        (INTEGER, [0 | 1], SEQUENCE) => {
            object(body)?;
            matches!(element(after), Some((OCTETS, _, _))).then_some("a key in PKCS #8")
        }
        // ECPrivateKey: version 1, a number of one of the usual lengths, the curve.
        (INTEGER, [1], OCTETS) if matches!(body.len(), 24..=72) => {
            let tagged = after.is_empty() || matches!(element(after), Some((0xa0 | 0xa1, _, _)));
            tagged.then_some("an elliptic key in SEC 1")
        }
        // RSAPrivateKey and DSA's: version 0, then five numbers or more.
        (INTEGER, [0], INTEGER) if body.len() >= 64 => {
            let (mut rest, mut numbers) = (after, 0);
            while let Some((INTEGER, _, next)) = element(rest) {
                (rest, numbers) = (next, numbers + 1);
            }
            (rest.is_empty() && numbers >= 4).then_some("an RSA or DSA key in PKCS #1")
        }
        _ => None,
    }
}
