//! The links that `openssl rehash` makes in a directory of certificates.

use super::directory::{Directory, Entry};
use super::x509;

/// More certificates of one subject than OpenSSL takes.
const MAX_COLLISIONS: usize = 256;
/// The number of a certificate that has no link yet.
const NO_NUMBER: usize = usize::MAX;

/// Certificates with one subject hash.
#[derive(Default)]
struct Bucket {
    entries: Vec<Link>,
    needed: usize,
}

/// A certificate, or an old link.
struct Link {
    file: String,
    /// Under which number a link is there already.
    number: usize,
    der: Option<Vec<u8>>,
}

/// Adds, keeps and removes the hash links; gives what is said on standard error. Nothing when it is not certain.
pub(super) fn rehash(directory: &mut Directory<'_>) -> Option<String> {
    let mut said = String::new();
    let mut buckets = std::collections::BTreeMap::<u32, Bucket>::new();
    let names: Vec<String> = directory.entries.keys().cloned().collect();
    for name in names {
        if let (Entry::Link(target), Some((hash, number))) = (&directory.entries[&name], hash_link(&name)?) {
            let bucket = buckets.entry(hash).or_default();
            match bucket.entries.iter_mut().find(|entry| entry.file == *target) {
                Some(entry) => entry.number = entry.number.min(number),
                None => bucket.entries.push(Link { file: target.clone(), number, der: None }),
            }
            continue;
        }
        if !has_certificate_name(&name) {
            continue;
        }
        let mut certificates = x509::certificates(&directory.content(&name)?)?;
        let (Some(der), true) = (certificates.pop(), certificates.is_empty()) else {
            said += &format!(
                "rehash: warning: skipping {name}, it does not contain exactly one certificate or CRL\n"
            );
            continue;
        };
        let bucket = buckets.entry(x509::subject_hash(&der)?).or_default();
        if bucket.entries.iter().any(|entry| entry.der.as_ref() == Some(&der)) {
            said += &format!("rehash: warning: skipping duplicate certificate in {name}\n");
            continue;
        }
        if bucket.needed == MAX_COLLISIONS {
            return None;
        }
        match bucket.entries.iter_mut().find(|entry| entry.file == name) {
            Some(entry) => entry.der = Some(der),
            None => bucket.entries.push(Link { file: name, number: NO_NUMBER, der: Some(der) }),
        }
        bucket.needed += 1;
    }
    for (hash, bucket) in buckets {
        settle(directory, hash, bucket);
    }
    Some(said)
}

/// Numbers the certificates of one hash: old links with a number below the count stay, whatever they name; the others
/// get the numbers that are left.
fn settle(directory: &mut Directory<'_>, hash: u32, bucket: Bucket) {
    let Bucket { entries, needed } = bucket;
    let mut taken: Vec<usize> =
        entries.iter().map(|entry| entry.number).filter(|number| *number < needed).collect();
    for Link { file, number, der } in entries {
        if number < needed {
            continue;
        }
        if der.is_some() {
            let free = (0..).find(|number| !taken.contains(number)).unwrap_or_default();
            directory.entries.insert(format!("{hash:08x}.{free}"), Entry::Link(file));
            taken.push(free);
        } else {
            directory.entries.remove(&format!("{hash:08x}.{number}"));
        }
    }
}

/// Hash and number of a link's name; nothing inside for another name, nothing at all for one that OpenSSL would read
/// but not write so.
fn hash_link(name: &str) -> Option<Option<(u32, usize)>> {
    let Some((hash, number)) = name.split_at_checked(8) else { return Some(None) };
    if !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) || !number.starts_with('.') {
        return Some(None);
    }
    let parsed = u32::from_str_radix(hash, 16).ok().zip(number[1..].parse::<usize>().ok());
    match parsed {
        Some((hash, number)) if number < MAX_COLLISIONS && format!("{hash:08x}.{number}") == name => {
            Some(Some((hash, number)))
        }
        _ => None,
    }
}

fn has_certificate_name(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| ["pem", "crt", "cer", "crl"].contains(&ending.as_str()))
}
