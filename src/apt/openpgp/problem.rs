//! What can be wrong with a signed file, a signature or a key.

use std::fmt;

use jiff::Timestamp;

/// The pinned keys cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// No fingerprint is pinned.
    #[error("no fingerprint is pinned: name at least one key that may sign")]
    NothingPinned,
    /// A key file is not OpenPGP.
    #[error("key {position} is no OpenPGP certificate: {reason}")]
    Unreadable {
        /// Which of the keys, counted from 1.
        position: usize,
        /// What the reader says.
        reason: String,
    },
    /// A certificate is there in two different copies.
    #[error("the pinned key `{fingerprint}` is there in two different copies: keep the newer one")]
    Twice {
        /// The primary key.
        fingerprint: String,
    },
    /// A fingerprint is pinned but its certificate is not there.
    #[error(
        "the pinned key `{fingerprint}` is not among the keys at hand: {}", if .found.is_empty() { "none".to_owned() } else { .found.join(", ") }
    )]
    Missing {
        /// The pinned fingerprint.
        fingerprint: String,
        /// Fingerprints of the certificates at hand.
        found: Vec<String>,
    },
}

/// A file is not what a pinned key signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// It is larger than any Release file.
    #[error("it has {found} bytes, the limit is {limit}")]
    TooLarge {
        /// Most bytes that are read.
        limit: usize,
        /// Its size.
        found: usize,
    },
    /// It is not plain text.
    #[error("it is not plain text: {reason} at byte {offset}")]
    NotText {
        /// Where.
        offset: usize,
        /// What is there.
        reason: &'static str,
    },
    /// It has no clear-signed message.
    #[error("it is not clear-signed: expected `-----BEGIN PGP SIGNED MESSAGE-----`, found `{begins}`")]
    NotClearSigned {
        /// How it begins.
        begins: String,
    },
    /// There is text before the signed message.
    #[error("there is text before the signed part, which nobody signed: `{text}`")]
    LeadingText {
        /// How that text begins.
        text: String,
    },
    /// There is text after the signature.
    #[error("there is text after the signature, which nobody signed: `{text}`")]
    TrailingText {
        /// How that text begins.
        text: String,
    },
    /// The framing or a signature packet is broken.
    #[error("it is not a well-formed signed message: {reason}")]
    Malformed {
        /// What is broken.
        reason: String,
    },
    /// It has a signature block without a signature.
    #[error("it carries no signature")]
    Unsigned,
    /// It has more signatures than anybody makes.
    #[error("it carries {found} signatures, the limit is {limit}")]
    TooManySignatures {
        /// Most signatures that are looked at.
        limit: usize,
        /// Signatures found.
        found: usize,
    },
    /// No signature by a pinned key is good.
    #[error("no signature is good: {}", list(.rejected))]
    NoGoodSignature {
        /// Every signature, in the order of the file.
        rejected: Vec<Rejected>,
    },
}

/// A signature that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Fingerprint or key id that the signature names, upper-case hex; empty when it names none.
    pub signer: String,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.signer.is_empty() {
            write!(f, "one that names no key: {}", self.problem)
        } else {
            write!(f, "by `{}`: {}", self.signer, self.problem)
        }
    }
}

fn list(rejected: &[Rejected]) -> String {
    let parts: Vec<String> = rejected.iter().map(ToString::to_string).collect();
    parts.join("; ")
}

/// Why a signature, or the key behind it, is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The key is none of the pinned ones.
    #[error("not a pinned key, expected one of {}", .pinned.join(", "))]
    UnknownSigner {
        /// The pinned fingerprints.
        pinned: Vec<String>,
    },
    /// The signature is not one over a document.
    #[error("a signature over a document is expected, found one of type {found}")]
    Type {
        /// The type found.
        found: String,
    },
    /// Made with a hash that can be forged.
    #[error("the {what} uses {found}, expected SHA-256 or better")]
    WeakHash {
        /// Which signature.
        what: &'static str,
        /// The hash algorithm found.
        found: String,
    },
    /// Made with a key that can be broken.
    #[error("key `{key}` is {found}, expected RSA of at least 2048 bits or an elliptic curve")]
    WeakKey {
        /// The key.
        key: String,
        /// What it is.
        found: String,
    },
    /// It carries a condition that is not known here.
    #[error("the {what} has a critical part that is not understood: {found}")]
    Critical {
        /// Which signature.
        what: &'static str,
        /// The part.
        found: String,
    },
    /// It does not say when it was made.
    #[error("the {what} does not say when it was made")]
    Undated {
        /// Which signature.
        what: &'static str,
    },
    /// Made in the future, as this machine's clock has it.
    #[error("the {what} was made {created}, after now ({now}): is the clock right?")]
    Future {
        /// Which signature.
        what: &'static str,
        /// When it says it was made.
        created: Timestamp,
        /// The time of verification.
        now: Timestamp,
    },
    /// Made before the key existed.
    #[error("it was made {created}, before its key ({key_created})")]
    OlderThanKey {
        /// When it says it was made.
        created: Timestamp,
        /// When the key was made.
        key_created: Timestamp,
    },
    /// The signature itself has an end, and that has passed.
    #[error("the {what} expired {expired}, now is {now}")]
    Expired {
        /// Which signature.
        what: &'static str,
        /// When it expired.
        expired: Timestamp,
        /// The time of verification.
        now: Timestamp,
    },
    /// The signature does not fit text and key.
    #[error("the signature does not match the text: one of them was changed")]
    Mismatch,
    /// The primary key has no valid signature of its own on it.
    #[error("primary key `{key}` has no valid self-signature")]
    NoSelfSignature {
        /// The primary key.
        key: String,
    },
    /// A key has expired.
    #[error("key `{key}` expired {expired}, now is {now}")]
    KeyExpired {
        /// The primary key or subkey.
        key: String,
        /// When it expired.
        expired: Timestamp,
        /// The time of verification.
        now: Timestamp,
    },
    /// A key is dated in the future.
    #[error("key `{key}` was made {created}, after now ({now}): is the clock right?")]
    KeyFromFuture {
        /// The primary key or subkey.
        key: String,
        /// When it says it was made.
        created: Timestamp,
        /// The time of verification.
        now: Timestamp,
    },
    /// The primary key is revoked.
    #[error("primary key `{key}` is revoked: {reason}")]
    KeyRevoked {
        /// The primary key.
        key: String,
        /// The reason its owner gives.
        reason: String,
    },
    /// The subkey is revoked.
    #[error("subkey `{key}` is revoked: {reason}")]
    SubkeyRevoked {
        /// The subkey.
        key: String,
        /// The reason its owner gives.
        reason: String,
    },
    /// The key may not sign.
    #[error("key `{key}` is not meant for signing: expected the flag `sign`, found {found}")]
    NoSignFlag {
        /// The primary key or subkey.
        key: String,
        /// The flags it has.
        found: String,
    },
    /// The primary key did not bind the subkey.
    #[error("subkey `{key}` has no valid binding signature by primary key `{primary}`")]
    NoBinding {
        /// The subkey.
        key: String,
        /// The primary key.
        primary: String,
    },
    /// The subkey did not bind itself to the primary key.
    #[error("signing subkey `{key}` has no back signature: it may have been taken from another certificate")]
    NoBackSignature {
        /// The subkey.
        key: String,
    },
    /// The back signature is not by this subkey over this primary key.
    #[error("the back signature of subkey `{key}` on primary key `{primary}` is not valid")]
    BadBackSignature {
        /// The subkey.
        key: String,
        /// The primary key.
        primary: String,
    },
}
