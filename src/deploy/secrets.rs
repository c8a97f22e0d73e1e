//! Secrets that are handed over: made here or given by the user, hashed before they leave.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha512};

/// Longest secret and longest list of keys, in bytes.
const MAX_LENGTH: u64 = 64 << 10;
/// Rounds of PBKDF2, as qBittorrent has them.
const ROUNDS: u32 = 100_000;
/// Letters and digits that are not taken for one another.
const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz23456789A";
/// Letters of a password that is made here: 100 bits.
const LENGTH: usize = 20;

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(std::path::PathBuf),
    /// What a command of the user's shell prints.
    Command(String),
}

/// A secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read `{0}`: {1}")]
    File(String, io::Error),
    /// The command failed; what it printed is not repeated.
    #[error("the command for the secret `{0}` failed: {1}")]
    Command(String, String),
    /// There is nothing in it, or too much.
    #[error("the secret `{0}` is {1}")]
    Form(String, &'static str),
    /// No random numbers.
    #[error("cannot make a password: {0}")]
    Random(io::Error),
}

/// Reads the secret `name` from its source. A line break at its end is none of it.
///
/// # Errors
/// See [`SecretError`].
pub fn read(name: &str, source: &Source) -> Result<Vec<u8>, SecretError> {
    let mut bytes = match source {
        Source::File(path) => read_file(path)?,
        Source::Command(command) => {
            let failed = |what: String| SecretError::Command(name.to_owned(), what);
            let child =
                Command::new("sh").args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
            let mut child = child.map_err(|error| failed(error.to_string()))?;
            let mut bytes = Vec::new();
            if let Some(pipe) = child.stdout.take() {
                let read = pipe.take(MAX_LENGTH + 1).read_to_end(&mut bytes);
                read.map_err(|error| failed(error.to_string()))?;
            }
            let status = child.wait().map_err(|error| failed(error.to_string()))?;
            if !status.success() {
                return Err(failed(status.to_string()));
            }
            bytes
        }
    };
    while bytes.last().is_some_and(|byte| b"\r\n".contains(byte)) {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Err(SecretError::Form(name.to_owned(), "empty"));
    }
    if bytes.len() as u64 > MAX_LENGTH {
        return Err(SecretError::Form(name.to_owned(), "longer than 64 KiB"));
    }
    Ok(bytes)
}

/// Reads a file of at most 64 KiB.
///
/// # Errors
/// When it cannot be read or is longer.
pub fn read_file(path: &Path) -> Result<Vec<u8>, SecretError> {
    let failed = |error| SecretError::File(path.display().to_string(), error);
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_LENGTH + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > MAX_LENGTH {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "longer than 64 KiB")));
    }
    Ok(bytes)
}

fn random<const N: usize>() -> Result<[u8; N], SecretError> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(SecretError::Random)?;
    Ok(bytes)
}

/// A password that nobody has seen before.
///
/// # Errors
/// When the system has no random numbers.
pub fn password() -> Result<String, SecretError> {
    // 32 letters, so that each byte gives one without a bias.
    let bytes: [u8; LENGTH] = random()?;
    Ok(bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect())
}

/// `salt:hash` of a password in base64, PBKDF2 with HMAC-SHA512 and 100,000 rounds: what is in qBittorrent's
/// `WebUI\Password_PBKDF2`.
///
/// # Errors
/// When the system has no random numbers.
pub fn hash(password: &[u8]) -> Result<String, SecretError> {
    let salt: [u8; 16] = random()?;
    Ok(format!("{}:{}", base64(&salt), base64(&pbkdf2(password, &salt, ROUNDS))))
}

/// The first block of PBKDF2 (RFC 8018, 5.2) with HMAC-SHA512, 64 bytes.
fn pbkdf2(password: &[u8], salt: &[u8], rounds: u32) -> [u8; 64] {
    let mut key = [0_u8; 128];
    if password.len() > key.len() {
        key[..64].copy_from_slice(&Sha512::digest(password));
    } else {
        key[..password.len()].copy_from_slice(password);
    }
    let padded = |pad: u8| Sha512::new_with_prefix(key.map(|byte| byte ^ pad));
    let (inner, outer) = (padded(0x36), padded(0x5c));
    let hmac = |text: &[u8]| -> [u8; 64] {
        let inside = inner.clone().chain_update(text).finalize();
        outer.clone().chain_update(inside).finalize().into()
    };
    let mut block = hmac(&[salt, &1_u32.to_be_bytes()].concat());
    let mut result = block;
    for _ in 1..rounds {
        block = hmac(&block);
        result.iter_mut().zip(block).for_each(|(result, byte)| *result ^= byte);
    }
    result
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0_usize, |number, byte| number << 8 | usize::from(*byte))
            << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let index = number >> (18 - 6 * digit) & 63;
            text.push(if digit <= chunk.len() { char::from(DIGITS[index]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let encoded = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(encoded, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }

    /// Computed with Python's `hashlib.pbkdf2_hmac("sha512", …)`.
    #[test]
    fn pbkdf2_is_that_of_another_implementation() {
        let start = |password: &[u8], rounds| base64(&pbkdf2(password, b"0123456789abcdef", rounds));
        assert_eq!(
            start(b"secret", 1),
            "I8S4XzpTUI5OjNFX0ShCWKEDxBL+NnmoISpyV56bFk+rqwpGJeeeYTBJSMsgNdphIPyym6u/M/ZP0oTp9LAoMA=="
        );
        assert_eq!(
            start(&[b'x'; 200], 3),
            "NpvHjJH3ZUzwWd+sWLN4Mtx6aa2XylPFk753/4lRJTMyT59IqddqzF9/FRJLvq6S+FI0+hIpjbJMA70HfN50ow=="
        );
    }

    #[test]
    fn passwords_are_long_and_never_the_same() {
        let (one, other) = (password().unwrap(), password().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), LENGTH);
        assert_ne!(hash(one.as_bytes()).unwrap(), hash(one.as_bytes()).unwrap(), "each has its own salt");
    }
}
