//! Secrets arrive, and nowhere else than where they belong.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::prepared;
use crate::project::{Project, Run, STATE, VMID, Version, node, running};

/// Every command line that was seen while `work` ran, of every process of this machine.
fn watched<T>(work: impl FnOnce() -> T) -> (T, BTreeSet<String>) {
    let (over, seen) = (AtomicBool::new(false), Mutex::new(BTreeSet::new()));
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
                    let mut text = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                    text.extend(fs::read(entry.path().join("environ")).unwrap_or_default());
                    seen.lock().unwrap().insert(String::from_utf8_lossy(&text).into_owned());
                }
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        });
        let result = work();
        over.store(true, Ordering::Relaxed);
        result
    });
    (result, seen.into_inner().unwrap())
}

#[test]
fn secrets_are_handed_over_and_show_nowhere() {
    if !prepared() {
        return;
    }
    let (node, first, second) = (
        node(),
        Project::new(&Version { number: 1, ..Version::default() }),
        Project::new(&Version { number: 2, ..Version::default() }),
    );
    let place = node.directory.path();
    fs::write(place.join("admin"), "chief\nhunter-secret-2\n").unwrap();
    fs::write(place.join("keys"), "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPublicPublic me@home\n").unwrap();
    let admin = format!("app.administrator=echo ran >> {0}/ran; cat {0}/admin", place.display());
    let keys = place.join("keys").display().to_string();
    let arguments = ["deploy", "--secret-command", &admin, "--ssh-keys", &keys];

    let dry: Vec<_> = arguments.iter().copied().chain(["--dry-run"]).collect();
    let dry = first.run(&node, &dry).code(0);
    assert!(!place.join("ran").exists(), "a dry run runs no command of the user's");
    assert!(
        dry.out.contains("/run/build-images/159/administrator gets its contents over the connection"),
        "{}",
        dry.out
    );

    let (run, seen) = watched(|| Run::of(first.command(&node, &arguments).output().unwrap()));
    let run = run.code(0);
    let line = run.out.lines().find(|line| line.starts_with("app: the first password is ")).unwrap();
    let password = line.split(' ').nth(5).unwrap().to_owned();
    assert_eq!(password.len(), 20, "{line}");
    assert!(!run.out.contains("waits to be set up"), "{}", run.out);
    assert_eq!(node.read(&format!("{STATE}/admin")), "chief\n");
    let stored = node.read(&format!("{STATE}/config"));
    assert!(fits(&password, stored.trim().strip_prefix("password=").unwrap()), "{stored}");
    assert!(
        !node.exists(&format!("{STATE}/.password")) && !node.exists(&format!("/run/build-images/{VMID}"))
    );
    let authorized = format!("/mnt/storage/images/{VMID}/vm-{VMID}-disk-0/root/.ssh/authorized_keys");
    assert!(node.read(&authorized).contains("me@home"));
    assert_eq!(node.owner(&authorized), (100_000, 100_000, 0o600));

    for secret in [password.as_str(), "hunter-secret-2"] {
        assert!(!run.err.contains(secret), "{}", run.err);
        assert!(seen.iter().all(|line| !line.contains(secret)), "on a command line or in an environment");
        let found = node.try_run(&format!(
            "grep -rlF {secret} /var/lib/build-images /var/lib/vz /srv /run /mnt/storage /mnt/pct.log /etc/pve; true"
        ));
        assert_eq!(found.1, "", "on the node");
        let log = fs::read_to_string(place.join("sshd.log")).unwrap();
        assert!(!log.contains(secret));
    }
    let hash = stored.trim().trim_start_matches("password=");
    assert!(seen.iter().all(|line| !line.contains(hash)));
    assert!(!run.out.contains("hunter-secret-2"));

    // The keys come along, the password is the user's by now.
    let run = second.deploy(&node).code(0);
    assert!(!run.out.contains("the first password"), "{}", run.out);
    assert_eq!(running(&node), Some(2));
    let authorized = node.run(&format!("cat /mnt/storage/images/{VMID}/*/root/.ssh/authorized_keys"));
    assert!(authorized.contains("me@home"));
}

/// Whether `salt:hash` is of the password, by another implementation.
fn fits(password: &str, stored: &str) -> bool {
    let script =
        "use strict; use MIME::Base64; use Digest::SHA qw(hmac_sha512); my ($password, $stored) = @ARGV;
        my ($salt, $hash) = map { decode_base64($_) } split /:/, $stored;
        my $block = hmac_sha512($salt . pack('N', 1), $password); my $sum = $block;
        for (2 .. 100_000) { $block = hmac_sha512($block, $password); $sum ^= $block }
        exit($sum eq $hash ? 0 : 1)";
    let status = std::process::Command::new("perl").args(["-e", script, password, stored]).status();
    status.unwrap().success()
}

#[test]
fn secrets_that_cannot_be_had_stop_everything_before_it_begins() {
    if !prepared() {
        return;
    }
    let (node, first) = (node(), Project::new(&Version { number: 1, ..Version::default() }));
    let private = node.directory.path().join("client").display().to_string();
    let cases: [&[&str]; 6] = [
        &["--secret", "app.administrator=/nowhere"],
        &["--secret-command", "app.administrator=echo hunter-secret-9; false"],
        &["--secret-command", "app.administrator=true"],
        &["--secret", "app.other=/nowhere"],
        &["--secret", "hunter-secret-9"],
        &["--ssh-keys", &private],
    ];
    for case in cases {
        let arguments: Vec<_> = ["deploy"].into_iter().chain(case.iter().copied()).collect();
        let run = first.run(&node, &arguments).code(2);
        assert!(!run.err.contains("hunter-secret-9"), "{}", run.err);
        assert!(!node.exists(&format!("/var/lib/build-images/{VMID}")), "{}", run.err);
    }
}
