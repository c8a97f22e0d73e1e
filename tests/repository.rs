//! The tests' own repository against the tools that everybody uses: what we take for good has to be good for them too.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use build_images::apt::openpgp::Keyring;
use pgp::crypto::hash::HashAlgorithm;

use support::deb::{Compression, Deb};
use support::keys::{Algorithm, By, Defect, Key, Signing, clear_sign};
use support::repository::{NOW, SIGNED, time};

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn dpkg_deb(arguments: &[&str], file: &Path) -> String {
    let Output { status, stdout, stderr } =
        Command::new("dpkg-deb").args(arguments).arg(file).env("TZ", "UTC").output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

#[test]
fn dpkg_deb_reads_the_packages() {
    if !support::require("dpkg-deb", has("dpkg-deb")) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for compression in [Compression::None, Compression::Gzip, Compression::Xz, Compression::Zstd] {
        let deb = Deb::new("a", "1:2-3")
            .field("Depends", "b (>= 1), c | d")
            .file("/usr/share/a/file", "contents")
            .file_with("/usr/bin/a", "#!/bin/sh\n", 0o4755, (0, 50))
            .conffile("/etc/a.conf", "x=1\n")
            .directory("/var/lib/a", 0o2775, (33, 33))
            .link("/usr/share/a/link", "file")
            .hard_link("/usr/share/a/twin", "/usr/share/a/file")
            .script("postinst", "#!/bin/sh\nexit 0\n")
            .compression(compression);
        let file = directory.path().join(deb.file_name());
        std::fs::write(&file, deb.build().bytes).unwrap();
        assert_eq!(file.file_name().unwrap(), "a_2-3_amd64.deb");
        insta::allow_duplicates! {
            insta::assert_snapshot!(dpkg_deb(&["--contents"], &file), @r"
            drwxr-xr-x 0/0               0 2023-11-14 22:13 ./
            drwxr-xr-x 0/0               0 2023-11-14 22:13 ./etc/
            -rw-r--r-- 0/0               4 2023-11-14 22:13 ./etc/a.conf
            drwxr-xr-x 0/0               0 2023-11-14 22:13 ./usr/
            drwxr-xr-x 0/0               0 2023-11-14 22:13 ./usr/bin/
            -rwsr-xr-x 0/50             10 2023-11-14 22:13 ./usr/bin/a
            drwxr-xr-x 0/0               0 2023-11-14 22:13 ./usr/share/
            drwxr-xr-x 0/0               0 2023-11-14 22:13 ./usr/share/a/
            -rw-r--r-- 0/0               8 2023-11-14 22:13 ./usr/share/a/file
            lrwxrwxrwx 0/0               0 2023-11-14 22:13 ./usr/share/a/link -> file
            hrw-r--r-- 0/0               0 2023-11-14 22:13 ./usr/share/a/twin link to ./usr/share/a/file
            drwxr-xr-x 0/0               0 2023-11-14 22:13 ./var/
            drwxr-xr-x 0/0               0 2023-11-14 22:13 ./var/lib/
            drwxrwsr-x 33/33             0 2023-11-14 22:13 ./var/lib/a/
            ");
        }
        assert!(dpkg_deb(&["--field"], &file).contains("Depends: b (>= 1), c | d\n"));
        assert!(dpkg_deb(&["--info"], &file).contains("postinst"));
        assert_eq!(dpkg_deb(&["--info"], &file).matches("/etc/a.conf").count(), 0);
    }
}

/// Whether `gpgv` takes `message` for signed by `key`. Like apt, it asks for the status: the exit code is also good for
/// keys that are expired or revoked.
fn gpgv(key: &Key, message: &str) -> bool {
    let directory = tempfile::tempdir().unwrap();
    let (ring, file) = (directory.path().join("ring.gpg"), directory.path().join("InRelease"));
    std::fs::write(&ring, key.keyring()).unwrap();
    std::fs::write(&file, message).unwrap();
    let mut command = Command::new("gpgv");
    command.arg("--homedir").arg(directory.path()).arg("--keyring").arg(&ring);
    let output = command.args(["--status-fd", "1"]).arg(&file).output().unwrap();
    let goods = |line: &str| line.starts_with("[GNUPG:] GOODSIG");
    output.status.success() && String::from_utf8(output.stdout).unwrap().lines().any(goods)
}

#[test]
fn what_counts_here_counts_for_gpgv() {
    if !support::require("gpgv", has("gpgv")) {
        return;
    }
    let good = Signing::at(time(SIGNED));
    let ours = |key: &Key, message: &str| {
        let keyring = Keyring::new(&[key.certificate()], &[key.fingerprint()]).unwrap();
        keyring.verify(message.as_bytes(), time(NOW)).is_ok()
    };
    let defects = [
        Defect::None,
        Defect::PrimaryExpired,
        Defect::SubkeyExpired,
        Defect::PrimaryRevoked,
        Defect::PrimaryRevokedByOther,
        Defect::SubkeyRevoked,
        Defect::NoSignFlag,
        Defect::NoBackSignature,
        Defect::ForeignBackSignature,
        Defect::ForeignBinding,
        Defect::NoSelfSignature,
    ];
    let mut verdicts = Vec::new();
    for defect in defects {
        let key = Key::with(defect, Algorithm::Ed25519);
        for by in [By::Primary, By::Subkey] {
            for hash in [HashAlgorithm::Sha256, HashAlgorithm::Sha512] {
                let message = clear_sign("Suite: trixie\n- x\n", &[(&key, Signing { by, hash, ..good })]);
                let changed = message.replace("trixie", "sid");
                assert!(!ours(&key, &changed) && !gpgv(&key, &changed));
                if hash == HashAlgorithm::Sha256 {
                    let word = |good: bool| if good { "good" } else { "bad" };
                    let (ours, theirs) = (ours(&key, &message), gpgv(&key, &message));
                    verdicts.push(format!(
                        "{defect:?} {by:?}: {} here, {} for gpgv",
                        word(ours),
                        word(theirs)
                    ));
                    assert!(!ours || theirs, "{defect:?} {by:?} is good here, bad for gpgv");
                }
            }
        }
    }
    insta::assert_snapshot!(verdicts.join("\n"), @r"
    None Primary: good here, good for gpgv
    None Subkey: good here, good for gpgv
    PrimaryExpired Primary: bad here, bad for gpgv
    PrimaryExpired Subkey: bad here, bad for gpgv
    SubkeyExpired Primary: good here, good for gpgv
    SubkeyExpired Subkey: bad here, bad for gpgv
    PrimaryRevoked Primary: bad here, bad for gpgv
    PrimaryRevoked Subkey: bad here, bad for gpgv
    PrimaryRevokedByOther Primary: bad here, good for gpgv
    PrimaryRevokedByOther Subkey: bad here, good for gpgv
    SubkeyRevoked Primary: good here, good for gpgv
    SubkeyRevoked Subkey: bad here, bad for gpgv
    NoSignFlag Primary: bad here, bad for gpgv
    NoSignFlag Subkey: bad here, bad for gpgv
    NoBackSignature Primary: good here, good for gpgv
    NoBackSignature Subkey: bad here, bad for gpgv
    ForeignBackSignature Primary: good here, good for gpgv
    ForeignBackSignature Subkey: bad here, bad for gpgv
    ForeignBinding Primary: good here, good for gpgv
    ForeignBinding Subkey: bad here, bad for gpgv
    NoSelfSignature Primary: bad here, bad for gpgv
    NoSelfSignature Subkey: bad here, bad for gpgv
    ");
}
