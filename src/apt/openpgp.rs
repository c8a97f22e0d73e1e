//! Verifies a clear-signed Release file (`InRelease`) against pinned certificates.
//!
//! In: the file's bytes, the certificates a recipe pins, the time. Out: the signed text and who signed it, or why no
//! signature is good. rPGP does the mathematics; every rule of policy is here and in [`certificate`]: which signature
//! types and hashes count, when keys expire, what a revocation means, what a signing subkey needs.

mod certificate;
mod problem;

use std::collections::BTreeSet;

use jiff::Timestamp;
use pgp::composed::{CleartextSignedMessage, Deserializable as _, SignedPublicKey};
use pgp::packet::{Signature, SignatureType};
use pgp::types::KeyDetails as _;

pub use problem::{KeyringError, Problem, Rejected, VerifyError};

/// The largest signed file that is read, in bytes. Debian's is 140 kB.
pub const MESSAGE_LIMIT: usize = 16 << 20;

/// The most signatures that one message may carry. Debian's has three; each costs a public-key operation.
const SIGNATURE_LIMIT: usize = 32;

const BEGIN_MESSAGE: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const END_SIGNATURE: &str = "-----END PGP SIGNATURE-----";

/// The certificates that may sign an archive.
#[derive(Debug, Clone)]
pub struct Keyring {
    certificates: Vec<SignedPublicKey>,
}

/// A message with at least one good signature by a pinned key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Exactly the text that was signed, with line feeds only.
    pub text: String,
    /// Fingerprints of the primary keys whose signatures are good: upper-case hex, sorted.
    pub signed_by: Vec<String>,
}

impl Keyring {
    /// Reads `keys` (armoured or binary, one or more certificates each) and keeps the pinned ones.
    ///
    /// # Errors
    /// When a key cannot be read, nothing is pinned, or a pinned fingerprint (upper-case hex) has no certificate.
    pub fn new(keys: &[Vec<u8>], fingerprints: &[String]) -> Result<Self, KeyringError> {
        if fingerprints.is_empty() {
            return Err(KeyringError::NothingPinned);
        }
        let mut certificates: Vec<SignedPublicKey> = Vec::new();
        for (position, bytes) in keys.iter().enumerate() {
            let unreadable =
                |source| KeyringError::Unreadable { position: position + 1, reason: short(&source) };
            let (found, _) = SignedPublicKey::from_reader_many(bytes.as_slice()).map_err(unreadable)?;
            for certificate in found {
                certificates.push(certificate.map_err(unreadable)?);
            }
        }
        let found: BTreeSet<String> = certificates.iter().map(certificate::fingerprint).collect();
        if let Some(missing) = fingerprints.iter().find(|wanted| !found.contains(*wanted)) {
            let found = found.into_iter().collect();
            return Err(KeyringError::Missing { fingerprint: missing.clone(), found });
        }
        certificates.retain(|certificate| fingerprints.contains(&certificate::fingerprint(certificate)));
        certificates.sort_by_key(certificate::fingerprint);
        certificates.dedup();
        // One copy may be revoked and the other not: which one counts is not for chance to decide.
        let same = |pair: &[SignedPublicKey]| {
            certificate::fingerprint(&pair[0]) == certificate::fingerprint(&pair[1])
        };
        if let Some(pair) = certificates.windows(2).find(|pair| same(pair)) {
            return Err(KeyringError::Twice { fingerprint: certificate::fingerprint(&pair[0]) });
        }
        Ok(Self { certificates })
    }

    /// Fingerprints of the pinned primary keys, sorted.
    pub fn fingerprints(&self) -> Vec<String> {
        self.certificates.iter().map(certificate::fingerprint).collect()
    }

    /// The text of `message`, when at least one pinned key signed it and that signature is good at `now`.
    ///
    /// # Errors
    /// When the framing is wrong (anything before or after the signed message included), or no signature is good:
    /// then every signature is named with what is wrong with it.
    pub fn verify(&self, message: &[u8], now: Timestamp) -> Result<Verified, VerifyError> {
        let message = check_framing(message)?;
        let malformed = |error| VerifyError::Malformed { reason: short(&error) };
        let (message, _) = CleartextSignedMessage::from_string(message).map_err(malformed)?;
        let signatures = message.signatures();
        if signatures.is_empty() {
            return Err(VerifyError::Unsigned);
        }
        if signatures.len() > SIGNATURE_LIMIT {
            let found = signatures.len();
            return Err(VerifyError::TooManySignatures { limit: SIGNATURE_LIMIT, found });
        }
        let text = message.signed_text();
        let mut signed_by = BTreeSet::new();
        let mut rejected = Vec::new();
        for signature in signatures {
            match self.check(signature, &text, now) {
                Ok(fingerprint) => _ = signed_by.insert(fingerprint),
                Err(problem) => {
                    rejected.push(Rejected { signer: certificate::issuer(signature), problem });
                }
            }
        }
        if signed_by.is_empty() {
            return Err(VerifyError::NoGoodSignature { rejected });
        }
        Ok(Verified { text: text.replace("\r\n", "\n"), signed_by: signed_by.into_iter().collect() })
    }

    /// The fingerprint of the pinned primary key behind `signature`, when everything about it is good.
    fn check(&self, signature: &Signature, text: &str, now: Timestamp) -> Result<String, Problem> {
        let certificate = self
            .certificates
            .iter()
            .find(|certificate| certificate::made(certificate, signature))
            .ok_or_else(|| Problem::UnknownSigner { pinned: self.fingerprints() })?;
        match signature.typ() {
            Some(SignatureType::Binary | SignatureType::Text) => {}
            other => return Err(Problem::Type { found: certificate::type_name(other) }),
        }
        certificate::check_made_well(signature, "signature", now)?;
        let primary = &certificate.primary_key;
        if certificate::is_issuer(signature, primary) {
            certificate::check_primary(certificate, now, true)?;
            signature.verify(primary, text.as_bytes()).map_err(|_| Problem::Mismatch)?;
            certificate::check_older(signature, primary.created_at())?;
        } else {
            let subkey = certificate
                .public_subkeys
                .iter()
                .find(|subkey| certificate::is_issuer(signature, &subkey.key))
                .ok_or_else(|| Problem::UnknownSigner { pinned: self.fingerprints() })?;
            certificate::check_primary(certificate, now, false)?;
            certificate::check_subkey(certificate, subkey, now)?;
            signature.verify(&subkey.key, text.as_bytes()).map_err(|_| Problem::Mismatch)?;
            certificate::check_older(signature, subkey.key.created_at())?;
        }
        Ok(certificate::fingerprint(certificate))
    }
}

/// That `message` is one clear-signed message and nothing else, so what follows cannot read unsigned text.
fn check_framing(message: &[u8]) -> Result<&str, VerifyError> {
    if message.len() > MESSAGE_LIMIT {
        return Err(VerifyError::TooLarge { limit: MESSAGE_LIMIT, found: message.len() });
    }
    let message = std::str::from_utf8(message)
        .map_err(|error| VerifyError::NotText { offset: error.valid_up_to(), reason: "it is not UTF-8" })?;
    // Another reader could take such a character for the end of a line or of the file.
    let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if let Some(offset) = message.find(odd) {
        return Err(VerifyError::NotText { offset, reason: "a control character" });
    }
    match message.find(BEGIN_MESSAGE) {
        None => return Err(VerifyError::NotClearSigned { begins: excerpt(message) }),
        Some(0) => {}
        Some(offset) => return Err(VerifyError::LeadingText { text: excerpt(&message[..offset]) }),
    }
    // A signed line never begins with a dash: clear-signing escapes it.
    let lines = message.split_inclusive('\n').scan(0, |offset, line| {
        *offset += line.len();
        Some((*offset, line))
    });
    let end = lines.into_iter().find(|(_, line)| line.trim_end() == END_SIGNATURE);
    let Some((end, _)) = end else {
        return Err(VerifyError::Malformed { reason: format!("there is no line `{END_SIGNATURE}`") });
    };
    if !message[end..].trim().is_empty() {
        return Err(VerifyError::TrailingText { text: excerpt(message[end..].trim_start()) });
    }
    Ok(message)
}

/// The first words of `text`, for a message.
fn excerpt(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(60).collect()
}

/// An error of rPGP in one line.
fn short(error: &pgp::errors::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing that this key signed can be had where this runs, but the key itself can be looked at.
    #[test]
    fn the_key_of_jellyfin_may_sign_by_these_rules() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/jellyfin/keys/jellyfin-team.asc");
        let fingerprint = "4918AABC486CA052358D778D49023CD01DE21A7B".to_owned();
        let keyring = Keyring::new(&[std::fs::read(path).unwrap()], &[fingerprint]).unwrap();
        let now: Timestamp = "2026-11-26T00:00:00Z".parse().unwrap();
        certificate::check_primary(&keyring.certificates[0], now, true).unwrap();
        // Its subkey encrypts, so that an InRelease can only be signed by the primary key.
        for subkey in &keyring.certificates[0].public_subkeys {
            assert!(certificate::check_subkey(&keyring.certificates[0], subkey, now).is_err());
        }
    }
}
