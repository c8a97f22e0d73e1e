//! Values written as text: fingerprints, modes, sizes, hardware addresses.

use super::{Complaint, complain, only};

/// OpenPGP fingerprint, in upper case and without blanks when handed back.
pub fn fingerprint(text: &str) -> Result<String, Complaint> {
    let digits: String = text.split_whitespace().collect();
    let length = digits.len();
    if let Some(bad) = only(&digits, |c| c.is_ascii_hexdigit()) {
        return complain(
            format!("`{}` is no hex digit", bad.escape_default()),
            "write all 40 hex digits, as `gpg --show-keys` prints them (64 for a version 6 key)",
        );
    }
    match length {
        40 | 64 => Ok(digits.to_uppercase()),
        8 | 16 => complain(
            "this is a key id, which anybody can forge",
            "write the whole fingerprint, 40 hex digits, as `gpg --show-keys` prints it",
        ),
        _ => complain(
            format!("a fingerprint has 40 hex digits (64 for a version 6 key), this has {length}"),
            "write what `gpg --show-keys` prints",
        ),
    }
}

/// Permission bits.
pub fn mode(text: &str) -> Result<u32, Complaint> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let found = u32::from_str_radix(digits, 8).ok().filter(|_| !digits.starts_with('+'));
    match found {
        Some(mode) if mode <= 0o7777 && (3..=4).contains(&text.len()) => Ok(mode),
        Some(mode) if mode <= 0o7777 => {
            complain(format!("`{text}` is no mode"), format!("write `\"{mode:04o}\"`"))
        }
        Some(_) => complain(
            format!("`{text}` is more than 7777"),
            "permission bits are three or four octal digits, as `\"0644\"`",
        ),
        None => complain(
            format!("`{text}` is not octal"),
            "permission bits are three or four octal digits, as `\"0644\"`",
        ),
    }
}

/// A size with its unit, in MiB.
pub fn size(text: &str) -> Result<u64, Complaint> {
    const FORM: &str = "write a whole number and `MiB`, `GiB` or `TiB`, as `\"2 GiB\"`";
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if text == "0" {
        return Ok(0);
    }
    let factor = match unit.trim() {
        "MiB" => 1,
        "GiB" => 1 << 10,
        "TiB" => 1 << 20,
        other => {
            let lower = other.to_lowercase();
            let near = ["MiB", "GiB", "TiB"].into_iter().find(|known| {
                lower.starts_with(&known[..1].to_lowercase())
                    && matches!(lower.as_str(), "m" | "g" | "t" | "mb" | "gb" | "tb" | "mib" | "gib" | "tib")
            });
            return match near {
                _ if number.is_empty() => complain(format!("`{text}` is not a size"), FORM),
                Some(unit) => {
                    complain(format!("`{text}` is not a size"), format!("write `\"{number} {unit}\"`"))
                }
                None if other.is_empty() => complain(format!("`{text}` has no unit"), FORM),
                None => complain(format!("`{text}` is not a size"), FORM),
            };
        }
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(size) => Ok(size),
        None => complain(format!("`{text}` is not a size"), FORM),
    }
}

/// A length of time with its unit, in seconds; from one second to a week.
pub fn time(text: &str) -> Result<u64, Complaint> {
    const FORM: &str = "write a whole number and `s`, `min` or `h`, as `\"5 min\"`";
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "s" => Some(1),
        "min" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    let found =
        number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    match found {
        Some(seconds @ 1..=604_800) => Ok(seconds),
        Some(_) => complain(format!("`{text}` is not between one second and a week"), FORM),
        None => complain(format!("`{text}` is not a length of time"), FORM),
    }
}

/// Hardware address: unicast; upper case when handed back.
pub fn mac(text: &str) -> Result<String, Complaint> {
    let parts: Vec<_> = text.split(':').collect();
    let hex = |part: &&str| part.len() == 2 && only(part, |c| c.is_ascii_hexdigit()).is_none();
    if parts.len() != 6 || !parts.iter().all(hex) {
        return complain(
            format!("`{text}` is not a hardware address"),
            "write six pairs of hex digits, as `BC:24:11:0A:0B:0C`",
        );
    }
    if u8::from_str_radix(parts[0], 16).is_ok_and(|first| first & 1 == 1) {
        return complain(
            format!("`{text}` is a multicast address"),
            "the first pair must be even; Proxmox's own prefix is `BC:24:11`",
        );
    }
    Ok(text.to_uppercase())
}
