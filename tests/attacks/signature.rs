//! Who signed a Release file, and whether that counts.

use build_images::apt::openpgp::{Keyring, KeyringError, MESSAGE_LIMIT, Problem, Rejected, VerifyError};
use insta::assert_snapshot;
use jiff::Timestamp;
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::SignatureType;

use crate::support::keys::{Algorithm, By, Defect, Key, Signing, clear_sign};
use crate::support::repository::{NOW, SIGNED, redact_hex, time};

const TEXT: &str = "Origin: Test\n- a dash\nSuite: trixie\n";

fn verify(message: &str, pinned: &[&Key]) -> Result<Vec<String>, VerifyError> {
    let keys: Vec<Vec<u8>> = pinned.iter().map(|key| key.certificate()).collect();
    let fingerprints: Vec<String> = pinned.iter().map(|key| key.fingerprint()).collect();
    let verified = Keyring::new(&keys, &fingerprints).unwrap().verify(message.as_bytes(), time(NOW))?;
    assert_eq!(verified.text, TEXT);
    Ok(verified.signed_by)
}

fn signing() -> Signing {
    Signing::at(time(SIGNED))
}

fn signed(key: &Key) -> String {
    clear_sign(TEXT, &[(key, signing())])
}

/// What is wrong with the only signature of a message by `key`, and the whole message of it.
fn problem(key: &Key, signing: Signing) -> (Problem, String) {
    only_problem(verify(&clear_sign(TEXT, &[(key, signing)]), &[key]).unwrap_err())
}

fn only_problem(error: VerifyError) -> (Problem, String) {
    let text = redact_hex(&error.to_string());
    let VerifyError::NoGoodSignature { rejected } = error else { panic!("{error}") };
    let [Rejected { problem, .. }] = rejected.as_slice() else { panic!("{rejected:?}") };
    (problem.clone(), text)
}

fn defect(defect: Defect) -> (Problem, String) {
    problem(&Key::with(defect, Algorithm::Ed25519), signing())
}

#[test]
fn good_signatures_count() {
    let key = Key::generate();
    assert_eq!(verify(&signed(&key), &[&key]).unwrap(), [key.fingerprint()]);
    let by_primary = clear_sign(TEXT, &[(&key, Signing { by: By::Primary, ..signing() })]);
    assert_eq!(verify(&by_primary, &[&key]).unwrap(), [key.fingerprint()]);
    let text = Signing { kind: SignatureType::Text, hash: HashAlgorithm::Sha512, ..signing() };
    assert_eq!(verify(&clear_sign(TEXT, &[(&key, text)]), &[&key]).unwrap(), [key.fingerprint()]);
    let crlf = signed(&key).replace('\n', "\r\n");
    assert_eq!(verify(&crlf, &[&key]).unwrap(), [key.fingerprint()]);
}

#[test]
fn one_pinned_signature_among_others_is_enough() {
    let (pinned, stranger, second) = (Key::generate(), Key::generate(), Key::generate());
    let message = clear_sign(TEXT, &[(&stranger, signing()), (&pinned, signing())]);
    assert_eq!(verify(&message, &[&pinned]).unwrap(), [pinned.fingerprint()]);
    let message = clear_sign(TEXT, &[(&second, signing()), (&pinned, signing())]);
    let mut both = [pinned.fingerprint(), second.fingerprint()];
    both.sort();
    assert_eq!(verify(&message, &[&pinned, &second]).unwrap(), both);
}

#[test]
fn every_rejected_signature_is_named() {
    let (stranger, revoked) = (Key::generate(), Key::with(Defect::PrimaryRevoked, Algorithm::Ed25519));
    let message = clear_sign(TEXT, &[(&stranger, signing()), (&revoked, signing())]);
    let error = verify(&message, &[&revoked]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&stranger.subkey_fingerprint()) && text.contains(&revoked.fingerprint()), "{text}");
    assert_snapshot!(redact_hex(&text), @"no signature is good: by `FINGERPRINT`: not a pinned key, expected one of FINGERPRINT; by `FINGERPRINT`: primary key `FINGERPRINT` is revoked: KeyCompromised, `for a test`");
}

#[test]
fn changed_text() {
    let key = Key::generate();
    let message = signed(&key).replace("Suite: trixie", "Suite: sid");
    let (problem, text) = only_problem(verify(&message, &[&key]).unwrap_err());
    assert_eq!(problem, Problem::Mismatch);
    assert_snapshot!(text, @"no signature is good: by `FINGERPRINT`: the signature does not match the text: one of them was changed");
}

#[test]
fn text_outside_the_signed_part() {
    let key = Key::generate();
    let good = signed(&key);
    let error = verify(&format!("Suite: sid\n\n{good}"), &[&key]).unwrap_err();
    assert!(matches!(error, VerifyError::LeadingText { .. }));
    assert_snapshot!(error, @"there is text before the signed part, which nobody signed: `Suite: sid`");
    let error = verify(&format!("{good}\nSuite: sid\n"), &[&key]).unwrap_err();
    assert!(matches!(error, VerifyError::TrailingText { .. }));
    assert_snapshot!(error, @"there is text after the signature, which nobody signed: `Suite: sid`");
    // A second message, well signed or not, is text after the first.
    assert!(matches!(verify(&(good.clone() + &good), &[&key]), Err(VerifyError::TrailingText { .. })));
    // A header that only some readers take for one.
    let header = good.replacen("Hash: SHA256\n", "Hash: SHA256\nSuite: sid\n", 1);
    let error = verify(&header, &[&key]).unwrap_err();
    assert!(matches!(error, VerifyError::Malformed { .. }), "{error}");
    // Text between the signed part and the signature block is within the signed part, and not signed.
    let inside = good.replacen("-----BEGIN PGP SIGNATURE", "Suite: sid\n-----BEGIN PGP SIGNATURE", 1);
    assert_eq!(only_problem(verify(&inside, &[&key]).unwrap_err()).0, Problem::Mismatch);
    assert_snapshot!(verify(TEXT, &[&key]).unwrap_err(), @"it is not clear-signed: expected `-----BEGIN PGP SIGNED MESSAGE-----`, found `Origin: Test`");
    let error = verify(&good.replacen("Origin", "Ori\0gin", 1), &[&key]).unwrap_err();
    assert_snapshot!(error, @"it is not plain text: a control character at byte 52");
    let error = verify(&good.replacen("-----END PGP SIGNATURE-----", "", 1), &[&key]).unwrap_err();
    assert_snapshot!(error, @"it is not a well-formed signed message: there is no line `-----END PGP SIGNATURE-----`");
}

#[test]
fn a_message_that_is_too_large() {
    let key = Key::generate();
    let error = verify(&" ".repeat(MESSAGE_LIMIT + 1), &[&key]).unwrap_err();
    assert_snapshot!(error, @"it has 16777217 bytes, the limit is 16777216");
}

#[test]
fn unknown_signer() {
    let (pinned, stranger) = (Key::generate(), Key::generate());
    let (problem, text) = only_problem(verify(&signed(&stranger), &[&pinned]).unwrap_err());
    assert_eq!(problem, Problem::UnknownSigner { pinned: vec![pinned.fingerprint()] });
    assert_snapshot!(text, @"no signature is good: by `FINGERPRINT`: not a pinned key, expected one of FINGERPRINT");
    // A certificate that is there but not pinned is no better.
    let keys = [stranger.certificate(), pinned.certificate()];
    let keyring = Keyring::new(&keys, &[pinned.fingerprint()]).unwrap();
    let error = keyring.verify(signed(&stranger).as_bytes(), time(NOW)).unwrap_err();
    assert!(matches!(only_problem(error).0, Problem::UnknownSigner { .. }));
}

#[test]
fn a_signature_that_names_nobody() {
    let (problem, text) = problem(&Key::generate(), Signing { names_issuer: false, ..signing() });
    assert!(matches!(problem, Problem::UnknownSigner { .. }));
    assert_snapshot!(text, @"no signature is good: one that names no key: not a pinned key, expected one of FINGERPRINT");
}

#[test]
fn expired_key() {
    let (problem, text) = defect(Defect::PrimaryExpired);
    assert!(matches!(problem, Problem::KeyExpired { .. }));
    assert_snapshot!(text, @"no signature is good: by `FINGERPRINT`: key `FINGERPRINT` expired 2026-01-11T00:00:00Z, now is 2026-11-02T00:00:00Z");
}

#[test]
fn expired_subkey() {
    let (problem, text) = defect(Defect::SubkeyExpired);
    assert!(matches!(problem, Problem::KeyExpired { .. }));
    assert_snapshot!(text, @"no signature is good: by `FINGERPRINT`: key `FINGERPRINT` expired 2026-01-11T00:00:00Z, now is 2026-11-02T00:00:00Z");
    // Good as long as the key was: what decides is the time of verification.
    let key = Key::with(Defect::SubkeyExpired, Algorithm::Ed25519);
    let created: Timestamp = time("2026-01-05T00:00:00Z");
    let message = clear_sign(TEXT, &[(&key, Signing::at(created))]);
    let keyring = Keyring::new(&[key.certificate()], &[key.fingerprint()]).unwrap();
    assert!(keyring.verify(message.as_bytes(), time("2026-01-06T00:00:00Z")).is_ok());
}

#[test]
fn revoked_key() {
    let (problem, text) = defect(Defect::PrimaryRevoked);
    assert!(matches!(problem, Problem::KeyRevoked { .. }));
    assert_snapshot!(text, @"no signature is good: by `FINGERPRINT`: primary key `FINGERPRINT` is revoked: KeyCompromised, `for a test`");
    // A revocation that cannot be checked counts too.
    assert!(matches!(defect(Defect::PrimaryRevokedByOther).0, Problem::KeyRevoked { .. }));
}

#[test]
fn revoked_subkey() {
    let (problem, text) = defect(Defect::SubkeyRevoked);
    assert!(matches!(problem, Problem::SubkeyRevoked { .. }));
    assert_snapshot!(text, @"no signature is good: by `FINGERPRINT`: subkey `FINGERPRINT` is revoked: KeyRetired, `for a test`");
    // The primary key of such a certificate is still good.
    let key = Key::with(Defect::SubkeyRevoked, Algorithm::Ed25519);
    let message = clear_sign(TEXT, &[(&key, Signing { by: By::Primary, ..signing() })]);
    assert!(verify(&message, &[&key]).is_ok());
}

#[test]
fn key_without_the_signing_flag() {
    let (found, text) = defect(Defect::NoSignFlag);
    assert!(matches!(found, Problem::NoSignFlag { .. }));
    assert_snapshot!(text, @"no signature is good: by `FINGERPRINT`: key `FINGERPRINT` is not meant for signing: expected the flag `sign`, found `encrypt`");
    let key = Key::with(Defect::NoSignFlag, Algorithm::Ed25519);
    let (found, text) = problem(&key, Signing { by: By::Primary, ..signing() });
    assert!(matches!(found, Problem::NoSignFlag { .. }));
    assert_snapshot!(text, @"no signature is good: by `FINGERPRINT`: key `FINGERPRINT` is not meant for signing: expected the flag `sign`, found `certify`, `encrypt`");
}

#[test]
fn subkey_without_back_signature() {
    let (problem, text) = defect(Defect::NoBackSignature);
    assert!(matches!(problem, Problem::NoBackSignature { .. }));
    assert_snapshot!(text, @"no signature is good: by `FINGERPRINT`: signing subkey `FINGERPRINT` has no back signature: it may have been taken from another certificate");
}

#[test]
fn subkey_with_a_back_signature_by_another_key() {
    let (problem, text) = defect(Defect::ForeignBackSignature);
    assert!(matches!(problem, Problem::BadBackSignature { .. }));
    assert_snapshot!(text, @"no signature is good: by `FINGERPRINT`: the back signature of subkey `FINGERPRINT` on primary key `FINGERPRINT` is not valid");
}

#[test]
fn subkey_that_the_primary_key_did_not_bind() {
    let (problem, text) = defect(Defect::ForeignBinding);
    assert!(matches!(problem, Problem::NoBinding { .. }));
    assert_snapshot!(text, @"no signature is good: by `FINGERPRINT`: subkey `FINGERPRINT` has no valid binding signature by primary key `FINGERPRINT`");
}

#[test]
fn primary_key_that_did_not_sign_itself() {
    let (problem, text) = defect(Defect::NoSelfSignature);
    assert!(matches!(problem, Problem::NoSelfSignature { .. }));
    assert_snapshot!(text, @"no signature is good: by `FINGERPRINT`: primary key `FINGERPRINT` has no valid self-signature");
}

#[test]
fn sha1_and_md5() {
    let key = Key::with(Defect::None, Algorithm::Rsa);
    assert!(verify(&signed(&key), &[&key]).is_ok());
    let (found, text) = problem(&key, Signing { hash: HashAlgorithm::Sha1, ..signing() });
    assert!(matches!(found, Problem::WeakHash { .. }));
    assert_snapshot!(text, @"no signature is good: by `FINGERPRINT`: the signature uses SHA1, expected SHA-256 or better");
    let (found, text) = problem(&key, Signing { hash: HashAlgorithm::Md5, ..signing() });
    assert!(matches!(found, Problem::WeakHash { .. }));
    assert_snapshot!(text, @"no signature is good: by `FINGERPRINT`: the signature uses MD5, expected SHA-256 or better");
}

#[test]
fn sha1_in_the_certificate() {
    let key = Key::with(Defect::Sha1Binding, Algorithm::Rsa);
    let (found, text) = problem(&key, signing());
    assert!(matches!(found, Problem::WeakHash { .. }));
    assert_snapshot!(text, @"no signature is good: by `FINGERPRINT`: the self-signature uses SHA1, expected SHA-256 or better");
}

#[test]
fn signature_from_the_future_past_its_end_or_older_than_its_key() {
    let key = Key::generate();
    let (found, text) = problem(&key, Signing::at(time("2026-11-02T00:00:01Z")));
    assert!(matches!(found, Problem::Future { .. }));
    assert_snapshot!(text, @"no signature is good: by `FINGERPRINT`: the signature was made 2026-11-02T00:00:01Z, after now (2026-11-02T00:00:00Z): is the clock right?");
    let (found, text) = problem(&key, Signing { lifetime: 3600, ..signing() });
    assert!(matches!(found, Problem::Expired { .. }));
    assert_snapshot!(text, @"no signature is good: by `FINGERPRINT`: the signature expired 2026-11-01T01:00:00Z, now is 2026-11-02T00:00:00Z");
    let (found, text) = problem(&key, Signing::at(time("2025-12-31T00:00:00Z")));
    assert!(matches!(found, Problem::OlderThanKey { .. }));
    assert_snapshot!(text, @"no signature is good: by `FINGERPRINT`: it was made 2025-12-31T00:00:00Z, before its key (2026-01-01T00:00:00Z)");
}

#[test]
fn signature_of_another_type() {
    let (found, text) = problem(&Key::generate(), Signing { kind: SignatureType::Standalone, ..signing() });
    assert!(matches!(found, Problem::Type { .. }));
    assert_snapshot!(text, @"no signature is good: by `FINGERPRINT`: a signature over a document is expected, found one of type Standalone");
}

#[test]
fn pinned_keys_that_cannot_be_used() {
    let key = Key::generate();
    let error = Keyring::new(&[key.certificate()], &[]).unwrap_err();
    assert_eq!(error, KeyringError::NothingPinned);
    assert_snapshot!(error, @"no fingerprint is pinned: name at least one key that may sign");
    let error = Keyring::new(&[b"no key".to_vec()], &[key.fingerprint()]).unwrap_err();
    assert!(matches!(error, KeyringError::Unreadable { .. }));
    assert_snapshot!(error, @"key 1 is no OpenPGP certificate: not enough bytes in buffer: armor header");
    // The same certificate with and without its revocation.
    let (with, without) = Key::generate().revoked_copy();
    let pinned = [key.fingerprint()];
    assert!(Keyring::new(&[key.certificate(), key.certificate()], &pinned).is_ok());
    let error =
        Keyring::new(&[with.certificate(), without.certificate()], &[with.fingerprint()]).unwrap_err();
    assert!(matches!(error, KeyringError::Twice { .. }));
    let error = Keyring::new(&[Key::generate().certificate()], &[key.fingerprint()]).unwrap_err();
    assert!(matches!(error, KeyringError::Missing { .. }));
    assert_snapshot!(redact_hex(&error.to_string()), @"the pinned key `FINGERPRINT` is not among the keys at hand: FINGERPRINT");
}
