//! Whether a key of a certificate may sign: self-signatures, expiry, revocation, flags, bindings.
//!
//! Fails closed: a revocation counts even when its own signature cannot be checked, since certificates are pinned and
//! nobody but the project can add one. Only what a signature needs is checked, so a broken user id or an unused subkey
//! does no harm.

use jiff::Timestamp;
use pgp::composed::{SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType, SubpacketData};
use pgp::ser::Serialize as _;
use pgp::types::{KeyDetails, PublicParams, RsaPublicParams, Tag};

use super::problem::Problem;

/// The smallest RSA modulus that is accepted, in bits.
const RSA_BITS: u16 = 2048;

/// The primary key's fingerprint, upper-case hex.
pub(super) fn fingerprint(certificate: &SignedPublicKey) -> String {
    key_name(&certificate.primary_key)
}

/// A key's fingerprint, upper-case hex.
fn key_name(key: &impl KeyDetails) -> String {
    format!("{:X}", key.fingerprint())
}

/// The fingerprint or key id that `signature` names, upper-case hex.
pub(super) fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(|fingerprint| format!("{fingerprint:X}"));
    let key_id = || {
        signature
            .issuer_key_id()
            .first()
            .map(|id| id.as_ref().iter().map(|byte| format!("{byte:02X}")).collect())
    };
    fingerprint.or_else(key_id).unwrap_or_default()
}

/// Whether `signature` names `key` as its maker. A signature that names nobody matches no key.
pub(super) fn is_issuer(signature: &Signature, key: &impl KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        return signature.issuer_key_id().contains(&&key.legacy_key_id());
    }
    fingerprints.contains(&&key.fingerprint())
}

/// Whether `signature` names a key of `certificate` as its maker.
pub(super) fn made(certificate: &SignedPublicKey, signature: &Signature) -> bool {
    is_issuer(signature, &certificate.primary_key)
        || certificate.public_subkeys.iter().any(|subkey| is_issuer(signature, &subkey.key))
}

/// A signature type for a message.
pub(super) fn type_name(found: Option<SignatureType>) -> String {
    found.map_or_else(|| "unknown".to_owned(), |found| format!("{found:?}"))
}

/// Rules for every signature, on a document or a key: hash, date, end. `what` names it in messages.
pub(super) fn check_made_well(
    signature: &Signature,
    what: &'static str,
    now: Timestamp,
) -> Result<Timestamp, Problem> {
    match signature.hash_alg() {
        Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512) => {}
        Some(HashAlgorithm::Sha3_256 | HashAlgorithm::Sha3_512) => {}
        other => {
            let found = other.map_or_else(|| "an unknown hash".to_owned(), |hash| hash.to_string());
            return Err(Problem::WeakHash { what, found });
        }
    }
    // A part that its maker calls critical must be understood, or the signature does not mean what it seems to mean.
    let mut parts = signature.config().into_iter().flat_map(|config| config.hashed_subpackets());
    if let Some(part) = parts.find(|part| part.is_critical && !is_understood(&part.data)) {
        return Err(Problem::Critical { what, found: format!("{:?}", part.typ()) });
    }
    let created = signature.created().map(|created| timestamp(created.as_secs()));
    let created = created.ok_or(Problem::Undated { what })?;
    if created > now {
        return Err(Problem::Future { what, created, now });
    }
    if let Some(lifetime) = signature.signature_expiration_time().filter(|life| life.as_secs() != 0) {
        let expired = end(created, lifetime.as_secs());
        if expired <= now {
            return Err(Problem::Expired { what, expired, now });
        }
    }
    Ok(created)
}

/// Whether a part of a signature is one that is known here, if only known not to matter.
fn is_understood(data: &SubpacketData) -> bool {
    !matches!(
        data,
        SubpacketData::Notation(_)
            | SubpacketData::Experimental(..)
            | SubpacketData::Other(..)
            | SubpacketData::RegularExpression(_)
    )
}

/// That `signature` is not older than the key that made it.
pub(super) fn check_older(signature: &Signature, key_created: pgp::types::Timestamp) -> Result<(), Problem> {
    let key_created = timestamp(key_created.as_secs());
    match signature.created().map(|created| timestamp(created.as_secs())) {
        Some(created) if created < key_created => Err(Problem::OlderThanKey { created, key_created }),
        _ => Ok(()),
    }
}

/// That the primary key is strong, not revoked, not expired, and (when it `signs` documents itself) has the flag.
pub(super) fn check_primary(
    certificate: &SignedPublicKey,
    now: Timestamp,
    signs: bool,
) -> Result<(), Problem> {
    let primary = &certificate.primary_key;
    check_strength(primary)?;
    if let Some(revocation) = certificate.details.revocation_signatures.first() {
        return Err(Problem::KeyRevoked { key: key_name(primary), reason: reason(revocation) });
    }
    let newest = newest_self_signature(certificate, now)?;
    check_lifetime(primary, newest, now)?;
    if signs && !newest.key_flags().sign() {
        return Err(Problem::NoSignFlag { key: key_name(primary), found: flags(newest) });
    }
    Ok(())
}

/// The newest valid signature of the primary key on itself or on one of its user ids that is not revoked.
fn newest_self_signature(certificate: &SignedPublicKey, now: Timestamp) -> Result<&Signature, Problem> {
    let primary = &certificate.primary_key;
    let direct = certificate.details.direct_signatures.iter().filter(|signature| {
        signature.typ() == Some(SignatureType::Key) && signature.verify_key(primary).is_ok()
    });
    let users = certificate.details.users.iter().flat_map(|user| {
        let own =
            |signature: &&Signature| signature.verify_certification(primary, Tag::UserId, &user.id).is_ok();
        let own: Vec<&Signature> = user.signatures.iter().filter(own).collect();
        let revoked = own.iter().any(|signature| signature.typ() == Some(SignatureType::CertRevocation));
        own.into_iter().filter(move |_| !revoked)
    });
    newest(direct.chain(users), "self-signature", now)?
        .ok_or_else(|| Problem::NoSelfSignature { key: key_name(primary) })
}

/// The newest of `signatures` that follows the rules for all; their first fault when none does.
fn newest<'a>(
    signatures: impl Iterator<Item = &'a Signature>,
    what: &'static str,
    now: Timestamp,
) -> Result<Option<&'a Signature>, Problem> {
    let mut newest: Option<(Timestamp, &Signature)> = None;
    let mut fault = None;
    for signature in signatures {
        match check_made_well(signature, what, now) {
            Ok(created) if newest.is_none_or(|(best, _)| created >= best) => {
                newest = Some((created, signature));
            }
            Ok(_) => {}
            Err(problem) => fault = fault.or(Some(problem)),
        }
    }
    match (newest, fault) {
        (Some((_, signature)), _) => Ok(Some(signature)),
        (None, Some(problem)) => Err(problem),
        (None, None) => Ok(None),
    }
}

/// That the subkey is strong, bound to the primary key in both directions, not revoked, not expired, and may sign.
pub(super) fn check_subkey(
    certificate: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    now: Timestamp,
) -> Result<(), Problem> {
    let primary = &certificate.primary_key;
    let (key, primary_name) = (key_name(&subkey.key), key_name(primary));
    check_strength(&subkey.key)?;
    let revocation = |signature: &&Signature| signature.typ() == Some(SignatureType::SubkeyRevocation);
    if let Some(revocation) = subkey.signatures.iter().find(revocation) {
        return Err(Problem::SubkeyRevoked { key, reason: reason(revocation) });
    }
    let bindings = subkey.signatures.iter().filter(|signature| {
        signature.typ() == Some(SignatureType::SubkeyBinding)
            && signature.verify_subkey_binding(primary, &subkey.key).is_ok()
    });
    let binding = newest(bindings, "binding signature", now)?;
    let binding =
        binding.ok_or_else(|| Problem::NoBinding { key: key.clone(), primary: primary_name.clone() })?;
    check_lifetime(&subkey.key, binding, now)?;
    if !binding.key_flags().sign() {
        return Err(Problem::NoSignFlag { key, found: flags(binding) });
    }
    let back = binding.embedded_signature().ok_or_else(|| Problem::NoBackSignature { key: key.clone() })?;
    if back.verify_primary_key_binding(&subkey.key, primary).is_err() {
        return Err(Problem::BadBackSignature { key, primary: primary_name });
    }
    check_made_well(back, "back signature", now)?;
    Ok(())
}

/// That `key`, whose lifetime the self-signature or binding gives, has begun and not ended.
fn check_lifetime(key: &impl KeyDetails, given_by: &Signature, now: Timestamp) -> Result<(), Problem> {
    let created = timestamp(key.created_at().as_secs());
    if created > now {
        return Err(Problem::KeyFromFuture { key: key_name(key), created, now });
    }
    // Zero means that the key does not expire.
    if let Some(lifetime) = given_by.key_expiration_time().filter(|life| life.as_secs() != 0) {
        let expired = end(created, lifetime.as_secs());
        if expired <= now {
            return Err(Problem::KeyExpired { key: key_name(key), expired, now });
        }
    }
    Ok(())
}

fn check_strength(key: &impl KeyDetails) -> Result<(), Problem> {
    let found = match key.public_params() {
        PublicParams::RSA(rsa) => match modulus_bits(rsa) {
            RSA_BITS.. => return Ok(()),
            bits => format!("RSA of {bits} bits"),
        },
        PublicParams::ECDSA(_)
        | PublicParams::EdDSALegacy(_)
        | PublicParams::Ed25519(_)
        | PublicParams::Ed448(_) => return Ok(()),
        _ => format!("{:?}", key.algorithm()),
    };
    Err(Problem::WeakKey { key: key_name(key), found })
}

/// The length of an RSA modulus: the parameters are serialised as OpenPGP integers, each behind its length in bits.
fn modulus_bits(rsa: &RsaPublicParams) -> u16 {
    let mut bytes = Vec::new();
    match rsa.to_writer(&mut bytes) {
        Ok(()) => bytes.first_chunk().map_or(0, |length| u16::from_be_bytes(*length)),
        Err(_) => 0,
    }
}

/// The flags a self-signature or binding gives its key.
fn flags(signature: &Signature) -> String {
    let flags = signature.key_flags();
    let known = [
        (flags.certify(), "certify"),
        (flags.sign(), "sign"),
        (flags.encrypt_comms() || flags.encrypt_storage(), "encrypt"),
        (flags.authentication(), "authenticate"),
    ];
    let found: Vec<String> =
        known.iter().filter(|(set, _)| *set).map(|(_, name)| format!("`{name}`")).collect();
    if found.is_empty() { "none".to_owned() } else { found.join(", ") }
}

/// The reason that a revocation gives, for people.
fn reason(revocation: &Signature) -> String {
    let code = revocation.revocation_reason_code().map(|code| format!("{code:?}"));
    let code = code.unwrap_or_else(|| "no reason given".to_owned());
    let text = revocation.revocation_reason_string().map(|text| String::from_utf8_lossy(text).into_owned());
    match text.filter(|text| !text.is_empty()) {
        Some(text) => format!("{code}, `{}`", text.escape_debug()),
        None => code,
    }
}

fn timestamp(seconds: u32) -> Timestamp {
    // Every u32 is within jiff's range, which ends in the year 9999.
    Timestamp::from_second(i64::from(seconds)).unwrap_or(Timestamp::MAX)
}

fn end(created: Timestamp, lifetime: u32) -> Timestamp {
    Timestamp::from_second(created.as_second() + i64::from(lifetime)).unwrap_or(Timestamp::MAX)
}
