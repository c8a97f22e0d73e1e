//! OpenPGP keys made at run time, good ones and ones with a defect, and clear-signed messages.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, KeyType, SignedKeyDetails, SignedPublicKey, SignedPublicSubKey,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{
    KeyFlags, PubKeyInner, PublicKey, PublicSubkey, RevocationCode, SecretKey, SecretSubkey, Signature,
    SignatureConfig, SignatureType, Subpacket, SubpacketData, UserId,
};
use pgp::ser::Serialize as _;
use pgp::types::{Duration, KeyDetails, KeyVersion, Password, SignedUser, SigningKey, Tag};
use rand_08::rngs::OsRng;

use super::repository::time;

/// When every key and self-signature is made, unless a defect says otherwise.
pub const KEY_CREATED: &str = "2026-01-01T00:00:00Z";

/// What is wrong with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// Nothing: primary key for certifying and signing, subkey for signing, both directions bound.
    None,
    /// The primary key lives ten days from [`KEY_CREATED`] on.
    PrimaryExpired,
    /// The subkey lives ten days from [`KEY_CREATED`] on.
    SubkeyExpired,
    /// The primary key revokes itself.
    PrimaryRevoked,
    /// The primary key carries a revocation that does not verify.
    PrimaryRevokedByOther,
    /// The primary key revokes the subkey.
    SubkeyRevoked,
    /// Subkey and primary key are for encryption and certification, not for signing.
    NoSignFlag,
    /// The binding of the subkey has no signature by the subkey.
    NoBackSignature,
    /// The binding of the subkey has a back signature by another key.
    ForeignBackSignature,
    /// The subkey's binding is signed by another primary key.
    ForeignBinding,
    /// Self-signature and binding are made with SHA-1. Needs [`Algorithm::Rsa`].
    Sha1Binding,
    /// Nothing but the user id says that the primary key owns itself, and that signature is another key's.
    NoSelfSignature,
}

/// What kind of key. RSA takes a second to make; SHA-1 can only be signed with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Ed25519,
    Rsa,
}

/// A signing key with its secret.
#[derive(Clone)]
pub struct Key {
    primary: SecretKey,
    subkey: SecretSubkey,
    certificate: SignedPublicKey,
}

/// Which key signs a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Primary,
    Subkey,
}

/// How a message is signed.
#[derive(Debug, Clone, Copy)]
pub struct Signing {
    pub by: By,
    pub hash: HashAlgorithm,
    pub kind: SignatureType,
    pub created: Timestamp,
    /// Seconds until the signature itself ends; 0 for never.
    pub lifetime: u32,
    /// Whether the signature says who made it.
    pub names_issuer: bool,
}

impl Signing {
    /// By the subkey with SHA-256, made at `created`.
    pub fn at(created: Timestamp) -> Self {
        Self {
            by: By::Subkey,
            hash: HashAlgorithm::Sha256,
            kind: SignatureType::Binary,
            created,
            lifetime: 0,
            names_issuer: true,
        }
    }
}

impl Key {
    /// A good Ed25519 key.
    pub fn generate() -> Self {
        Self::with(Defect::None, Algorithm::Ed25519)
    }

    /// A key with a defect.
    pub fn with(defect: Defect, algorithm: Algorithm) -> Self {
        let (primary, subkey) = (secret_key(algorithm), secret_subkey(algorithm));
        let (other, other_subkey) = (secret_key(Algorithm::Ed25519), secret_subkey(Algorithm::Ed25519));
        let public = primary.public_key().clone();
        let public_subkey = subkey.public_key().clone();
        let hash = if defect == Defect::Sha1Binding { HashAlgorithm::Sha1 } else { HashAlgorithm::Sha256 };
        let days = |expires: bool| if expires { 10 } else { 0 };

        let flags = key_flags(defect != Defect::NoSignFlag, true);
        let id = UserId::from_str(Default::default(), "Test <test@example.org>").unwrap();
        let mut config = config(&primary, SignatureType::CertPositive, hash, time(KEY_CREATED), true);
        config.hashed_subpackets.push(packet(SubpacketData::KeyFlags(flags)));
        expires(&mut config, days(defect == Defect::PrimaryExpired));
        let self_signature = if defect == Defect::NoSelfSignature {
            config.sign_certification(&other, &public, &no_password(), Tag::UserId, &id).unwrap()
        } else {
            config.sign_certification(&primary, &public, &no_password(), Tag::UserId, &id).unwrap()
        };

        let mut config = self::config(&primary, SignatureType::SubkeyBinding, hash, time(KEY_CREATED), true);
        let flags = key_flags(defect != Defect::NoSignFlag, false);
        config.hashed_subpackets.push(packet(SubpacketData::KeyFlags(flags)));
        expires(&mut config, days(defect == Defect::SubkeyExpired));
        if defect != Defect::NoBackSignature {
            let back = if defect == Defect::ForeignBackSignature {
                back_signature(&other_subkey, &public, hash)
            } else {
                back_signature(&subkey, &public, hash)
            };
            config.hashed_subpackets.push(packet(SubpacketData::EmbeddedSignature(Box::new(back))));
        }
        let binding = if defect == Defect::ForeignBinding {
            config.sign_subkey_binding(&other, other.public_key(), &no_password(), &public_subkey).unwrap()
        } else {
            config.sign_subkey_binding(&primary, &public, &no_password(), &public_subkey).unwrap()
        };

        let mut subkey_signatures = vec![binding];
        if defect == Defect::SubkeyRevoked {
            let config = revocation(&primary, SignatureType::SubkeyRevocation, RevocationCode::KeyRetired);
            subkey_signatures
                .push(config.sign_subkey_binding(&primary, &public, &no_password(), &public_subkey).unwrap());
        }
        let mut revocations = Vec::new();
        if let Defect::PrimaryRevoked | Defect::PrimaryRevokedByOther = defect {
            let by = if defect == Defect::PrimaryRevoked { &primary } else { &other };
            let config = revocation(&primary, SignatureType::KeyRevocation, RevocationCode::KeyCompromised);
            revocations.push(config.sign_key(by, &no_password(), &public).unwrap());
        }

        let users = vec![SignedUser::new(id, vec![self_signature])];
        let details = SignedKeyDetails::new(revocations, Vec::new(), users, Vec::new());
        let subkeys = vec![SignedPublicSubKey::new(public_subkey, subkey_signatures)];
        let certificate = SignedPublicKey::new(public, details, subkeys);
        Self { primary, subkey, certificate }
    }

    /// The same key twice: with its revocation, and as it was before.
    pub fn revoked_copy(self) -> (Self, Self) {
        let config = revocation(&self.primary, SignatureType::KeyRevocation, RevocationCode::KeyRetired);
        let public = self.primary.public_key();
        let revocation = config.sign_key(&self.primary, &no_password(), public).unwrap();
        let mut certificate = self.certificate.clone();
        certificate.details.revocation_signatures.push(revocation);
        let (primary, subkey) = (self.primary.clone(), self.subkey.clone());
        (Self { primary, subkey, certificate }, self)
    }

    /// The primary key's fingerprint as a recipe pins it.
    pub fn fingerprint(&self) -> String {
        format!("{:X}", self.primary.fingerprint())
    }

    /// The subkey's fingerprint.
    pub fn subkey_fingerprint(&self) -> String {
        format!("{:X}", self.subkey.fingerprint())
    }

    /// The public certificate, ASCII-armoured.
    pub fn certificate(&self) -> Vec<u8> {
        self.certificate.to_armored_bytes(ArmorOptions::default()).unwrap()
    }

    /// The public certificate without armour, as `gpgv` wants it.
    pub fn keyring(&self) -> Vec<u8> {
        self.certificate.to_bytes().unwrap()
    }

    /// A signature over `text`, which has CRLF line ends.
    fn sign(&self, text: &str, signing: &Signing) -> Signature {
        fn with(key: &impl SigningKey, text: &str, signing: &Signing) -> Signature {
            let Signing { hash, kind, created, lifetime, names_issuer, .. } = *signing;
            let mut config = config(key, kind, hash, created, names_issuer);
            if lifetime != 0 {
                let end = SubpacketData::SignatureExpirationTime(Duration::from_secs(lifetime));
                config.hashed_subpackets.push(packet(end));
            }
            if let SignatureType::Binary | SignatureType::Text = kind {
                return config.sign(key, &no_password(), text.as_bytes()).unwrap();
            }
            // Nobody signs a document with another type; such a signature is one over something else.
            let other = SignatureConfig { typ: SignatureType::Binary, ..config.clone() };
            let other = other.sign(key, &no_password(), text.as_bytes()).unwrap();
            Signature::from_config(config, [0; 2], other.signature().unwrap().clone()).unwrap()
        }
        match signing.by {
            By::Primary => with(&self.primary, text, signing),
            By::Subkey => with(&self.subkey, text, signing),
        }
    }
}

/// `text` as one clear-signed message with a signature of each key.
pub fn clear_sign(text: &str, signers: &[(&Key, Signing)]) -> String {
    let sign = |text: &str| Ok(signers.iter().map(|(key, signing)| key.sign(text, signing)).collect());
    let message = CleartextSignedMessage::new_many(text, sign).unwrap();
    message
        .to_armored_string(ArmorOptions { headers: None::<&BTreeMap<_, _>>, ..Default::default() })
        .unwrap()
}

fn no_password() -> Password {
    Password::empty()
}

fn key_type(algorithm: Algorithm) -> KeyType {
    match algorithm {
        Algorithm::Ed25519 => KeyType::Ed25519Legacy,
        Algorithm::Rsa => KeyType::Rsa(2048),
    }
}

fn inner(algorithm: Algorithm) -> (PubKeyInner, pgp::types::SecretParams) {
    let kind = key_type(algorithm);
    let (public, secret) = kind.generate(OsRng).unwrap();
    let created = pgp_time(time(KEY_CREATED));
    (PubKeyInner::new(KeyVersion::V4, kind.to_alg(), created, None, public).unwrap(), secret)
}

fn secret_key(algorithm: Algorithm) -> SecretKey {
    let (public, secret) = inner(algorithm);
    SecretKey::new(PublicKey::from_inner(public).unwrap(), secret).unwrap()
}

fn secret_subkey(algorithm: Algorithm) -> SecretSubkey {
    let (public, secret) = inner(algorithm);
    SecretSubkey::new(PublicSubkey::from_inner(public).unwrap(), secret).unwrap()
}

fn key_flags(sign: bool, certify: bool) -> KeyFlags {
    let mut flags = KeyFlags::default();
    flags.set_sign(sign);
    flags.set_certify(certify);
    flags.set_encrypt_comms(!sign);
    flags
}

fn back_signature(subkey: &SecretSubkey, primary: &PublicKey, hash: HashAlgorithm) -> Signature {
    let config = config(subkey, SignatureType::KeyBinding, hash, time(KEY_CREATED), true);
    config.sign_primary_key_binding(subkey, subkey.public_key(), &no_password(), primary).unwrap()
}

fn revocation(key: &SecretKey, kind: SignatureType, code: RevocationCode) -> SignatureConfig {
    let mut config = config(key, kind, HashAlgorithm::Sha256, time("2026-02-01T00:00:00Z"), true);
    let reason = SubpacketData::RevocationReason(code, "for a test".into());
    config.hashed_subpackets.push(packet(reason));
    config
}

fn expires(config: &mut SignatureConfig, days: u32) {
    if days != 0 {
        let lifetime = SubpacketData::KeyExpirationTime(Duration::from_secs(days * 86_400));
        config.hashed_subpackets.push(packet(lifetime));
    }
}

fn config(
    key: &impl KeyDetails,
    kind: SignatureType,
    hash: HashAlgorithm,
    created: Timestamp,
    names_issuer: bool,
) -> SignatureConfig {
    let mut config = SignatureConfig::v4(kind, key.algorithm(), hash);
    config.hashed_subpackets.push(packet(SubpacketData::SignatureCreationTime(pgp_time(created))));
    if names_issuer {
        config.hashed_subpackets.push(packet(SubpacketData::IssuerFingerprint(key.fingerprint())));
        // GnuPG does not find the maker of a self-signature without this.
        config.unhashed_subpackets.push(packet(SubpacketData::IssuerKeyId(key.legacy_key_id())));
    }
    config
}

fn packet(data: SubpacketData) -> Subpacket {
    Subpacket::regular(data).unwrap()
}

fn pgp_time(time: Timestamp) -> pgp::types::Timestamp {
    pgp::types::Timestamp::from_secs(u32::try_from(time.as_second()).unwrap())
}
