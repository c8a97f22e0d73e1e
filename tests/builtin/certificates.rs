//! `update-ca-certificates`.

use std::process::Command;

use crate::support::require;
use crate::world::World;

const PROGRAM: &str = "update-ca-certificates";

/// Subjects that are named in odd ways; each with how `openssl req` is to write its strings.
const SUBJECTS: [(&str, &str); 12] = [
    ("/C=DE/O=Plain/CN=One", "utf8only"),
    ("/C=DE/O=  Plain /CN=one", "utf8only"),
    ("/C=DE/O=Two   Blanks  Inside/CN=x", "default"),
    ("/C=DE/O=Főtanúsítvány Ünïcode/CN=Œuvre", "utf8only"),
    ("/C=DE/O=Főtanúsítvány Ünïcode/CN=Œuvre", "default"),
    ("/C=DE/O=Größe/CN=latin", "pkix"),
    ("/C=DE/O=a*b&c/CN=not printable @", "default"),
    ("/C=DE/O=A+CN=both+OU=Z/CN=many", "utf8only"),
    ("/DC=org/DC=Example/CN=Domain", "utf8only"),
    ("/emailAddress=Who@Example.ORG/CN=Mail", "utf8only"),
    ("/CN=", "utf8only"),
    ("/C=DE/O=\u{10348} gothic/CN=wide", "default"),
];

fn certificate(subject: &str, mask: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let configuration = directory.path().join("c");
    let text = format!("[req]\nstring_mask={mask}\ndistinguished_name=d\n[d]\n");
    std::fs::write(&configuration, text).unwrap();
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-utf8"])
        .args(["-multivalue-rdn", "-days", "9", "-keyout", "/dev/null", "-subj", subject, "-config"])
        .arg(&configuration)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn the_whole_set_from_nothing_and_again() {
    let Some(mut world) = World::new() else { return };
    world.remove("/etc/ssl/certs");
    world.change(|root| std::fs::create_dir(root.join("etc/ssl/certs")).unwrap());
    world.must(PROGRAM, &["--hooksdir", ""]);
    world.must(PROGRAM, &[]);
    world.must(PROGRAM, &["--fresh"]);
    // Some are taken back, some are missing, some are said in ways of their own.
    let conf = world.read("/etc/ca-certificates.conf").unwrap();
    let first = conf.lines().find(|line| line.starts_with("mozilla/")).unwrap();
    let changed = conf.replacen(first, &format!("!{first}"), 1) + "mozilla/no-such.crt\n\n# end\n";
    world.write("/etc/ca-certificates.conf", &changed);
    world.must(PROGRAM, &[]);
    world.must(PROGRAM, &["--hooksdir", ""]);
    world.write("/etc/ca-certificates.conf", &conf);
    world.must(PROGRAM, &[]);
    world.write("/etc/ca-certificates.conf", "");
    world.must(PROGRAM, &[]);
    world.must(PROGRAM, &[]);
    assert_eq!(world.done, 8);
}

#[test]
fn odd_subjects_collisions_and_old_links() {
    if !require("openssl", Command::new("openssl").arg("version").output().is_ok()) {
        return;
    }
    let Some(mut world) = World::new() else { return };
    world.write("/etc/ca-certificates.conf", "mozilla/ISRG_Root_X1.crt\n");
    for (number, (subject, mask)) in SUBJECTS.iter().enumerate() {
        let name = format!("/usr/local/share/ca-certificates/{number} (odd, {mask}).crt");
        world.write(&name, certificate(subject, mask));
        world.must(PROGRAM, &[]);
    }
    // The same subject three times, the same certificate twice, one without its last newline.
    for number in 0..3 {
        let bytes = certificate("/CN=Collides", "utf8only");
        world.write(&format!("/usr/local/share/ca-certificates/sub/c{number}.crt"), &bytes);
        world.write("/usr/local/share/ca-certificates/twice.crt", bytes.trim_ascii_end());
        world.must(PROGRAM, &[]);
    }
    world.remove("/usr/local/share/ca-certificates/sub/c1.crt");
    world.must(PROGRAM, &[]);
    world.must(PROGRAM, &["--fresh"]);
    // Links that name nothing, or another certificate than their number says.
    world.link("/etc/ssl/certs/00000000.0", "ISRG_Root_X1.pem");
    world.link("/etc/ssl/certs/4042bcee.3", "ISRG_Root_X1.pem");
    world.link("/etc/ssl/certs/gone.pem", "/usr/share/ca-certificates/gone.crt");
    world.must(PROGRAM, &["--fresh"]);
    world.remove("/usr/local/share/ca-certificates/sub");
    world.must(PROGRAM, &[]);
    assert!(world.declined.is_empty());
}

#[test]
fn what_is_not_understood_is_declined() {
    let Some(mut world) = World::new() else { return };
    world.must_not(PROGRAM, &["--verbose"]);
    world.must_not(PROGRAM, &["--help"]);
    world.must_not(PROGRAM, &["--certsconf", "/etc/other"]);
    world.write("/etc/ca-certificates/update.d/hook", "#!/bin/sh\n");
    world.must_not(PROGRAM, &[]);
    world.remove("/etc/ca-certificates/update.d/hook");
    world.must(PROGRAM, &[]);
    world.write("/etc/ssl/certs/other.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    world.must_not(PROGRAM, &["--fresh"]);
    world.remove("/etc/ssl/certs/other.pem");
    world.write("/usr/local/share/ca-certificates/two words\n.crt", "x");
    world.must_not(PROGRAM, &[]);
    world.remove("/usr/local/share/ca-certificates/two words\n.crt");
    world.write("/etc/ca-certificates.conf", "mozilla/ISRG_Root_X1.crt");
    world.must_not(PROGRAM, &[]);
    world.write("/etc/ca-certificates.conf", "mozilla/../mozilla/ISRG_Root_X1.crt\n");
    world.must_not(PROGRAM, &[]);
    world.write("/etc/ca-certificates.conf", "mozilla/ISRG_Root_X1.crt\n");
    world.write("/usr/sbin/update-ca-certificates", "#!/bin/sh\n");
    world.must_not(PROGRAM, &[]);
}
