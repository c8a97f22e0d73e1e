//! `adduser` and `addgroup`, with the image's own `groupadd`, `useradd` and `usermod`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::world::World;

/// What Debian's packages call.
const PACKAGED: &[(&str, &[&str])] = &[
    ("addgroup", &["--system", "--quiet", "_sample"]),
    ("addgroup", &["--quiet", "--system", "sample"]),
    (
        "adduser",
        &["--force-badname", "--system", "--home", "/nonexistent", "--no-create-home", "--quiet", "_fetch"],
    ),
    ("adduser", &["--system", "--quiet", "--group", "bus"]),
    (
        "adduser",
        &[
            "--system",
            "--no-create-home",
            "--home",
            "/usr/lib/sample",
            "--gecos",
            "Sample, of a user",
            "client",
        ],
    ),
    ("addgroup", &["--system", "tss-sample"]),
    (
        "adduser",
        &[
            "--system",
            "--ingroup",
            "tss-sample",
            "--shell",
            "/bin/false",
            "--home",
            "/var/lib/tpm",
            "--no-create-home",
            "--gecos",
            "TPM software stack",
            "tss-sample",
        ],
    ),
    ("adduser", &["--quiet", "--system", "--group", "--home", "/var/lib", "--disabled-login", "there"]),
    ("adduser", &["--system", "--comment=", "odd"]),
    ("adduser", &["--system", "--home=/run", "--shell=/bin/sh", "--disabled-password", "equals"]),
    ("adduser", &["named-first", "--system", "--group", "--no-create-home"]),
];

#[test]
fn system_users_and_groups_are_made() {
    let Some(mut world) = World::new() else { return };
    for round in 0..2 {
        for (program, words) in PACKAGED {
            match words.last() {
                // An empty comment is not understood.
                Some(&"odd") => _ = world.call(program, words),
                _ => world.must(program, words),
            }
        }
        if round == 0 {
            world.must("adduser", &["--system", "--group", "sample"]);
            assert!(world.read("/etc/passwd").unwrap().contains("\ntss-sample:x:"));
        }
    }
    // The program's lock was there already, and is not now.
    world.remove("/run/adduser");
    world.must("addgroup", &["--system", "later"]);
    world.same_but_content("/run/adduser");
}

#[test]
fn ids_are_the_first_that_are_free() {
    let Some(mut world) = World::new() else { return };
    for seed in 0..12 {
        let random = &mut StdRng::seed_from_u64(seed);
        for (file, fields) in
            [("/etc/passwd", "sample-N:x:N:65534::/:/bin/sh"), ("/etc/group", "sample-N:x:N:")]
        {
            let mut text = world.read(file).unwrap();
            for id in 100..115 {
                if random.random_bool(0.5) {
                    text += &format!(
                        "{}\n",
                        fields.replace("sample-N", &format!("s{seed}-{id}")).replace('N', &id.to_string())
                    );
                }
            }
            world.write(file, text);
        }
        let name = format!("user{seed}");
        let group = ["--group", "--quiet", "--ingroup=nogroup"].choose(random).unwrap();
        world.must("adduser", &["--system", "--no-create-home", group, &name]);
        world.must("addgroup", &["--system", &format!("group{seed}")]);
    }
    let mut all = world.read("/etc/group").unwrap();
    for id in 100..1000 {
        all += &format!("full{id}:x:{id}:\n");
    }
    world.write("/etc/group", all);
    world.must_not("addgroup", &["--system", "none-is-left"]);
    world.must_not("adduser", &["--system", "--group", "none-is-left"]);
    world.must("adduser", &["--system", "without-a-group"]);
}

#[test]
fn a_program_that_fails_ends_it() {
    let Some(mut world) = World::new() else { return };
    for script in ["exit 3", "echo said; echo cried >&2; exit 19", "kill -9 $$", "cat; exit 1"] {
        for program in ["groupadd", "useradd", "usermod"] {
            let path = format!("/usr/sbin/{program}");
            let whole = world.read_bytes(&path);
            world.write(&path, format!("#!/bin/sh\n{script}\n"));
            world.change(|root| {
                let path = root.join(&path[1..]);
                fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
            });
            // The program's name says what failed, not the user's.
            let name = format!("usermod{}", world.done);
            world.must("adduser", &["--system", "--group", "--gecos", "x", "--no-create-home", &name]);
            world.must("addgroup", &["--system", &format!("g{name}")]);
            world.write(&path, whole);
            world.change(|root| {
                let path = root.join(&path[1..]);
                fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
            });
        }
    }
}

#[test]
fn what_is_not_understood_is_declined() {
    let Some(mut world) = World::new() else { return };
    for (program, words) in [
        ("adduser", &["--version"][..]),
        ("adduser", &["--disabled-password", "--gecos", "", "--no-create-home", "person"]),
        ("adduser", &["--system", "--uid", "150", "numbered"]),
        ("adduser", &["--system", "--gid", "65534", "numbered"]),
        ("adduser", &["--system", "--group", "--ingroup", "nogroup", "both"]),
        ("adduser", &["--system", "--ingroup", "missing", "user"]),
        ("adduser", &["--system", "--home", "/var/lib/new-home", "with-a-home"]),
        ("adduser", &["--system", "--home", "relative", "--no-create-home", "user"]),
        ("adduser", &["--system", "--syst", "abbreviated"]),
        ("adduser", &["--system", "--force-badname", "Bad.Name"]),
        ("adduser", &["--system", "7up"]),
        ("adduser", &["--system", "a", "b"]),
        ("adduser", &["--system", "--quiet=1", "valued"]),
        ("adduser", &["--system"]),
        ("adduser", &["root", "adm"]),
        // No system user.
        ("adduser", &["--system", "root"]),
        ("adduser", &["--system", "--gecos", "a:b", "colon"]),
        ("addgroup", &["--system", "root"]),
        ("addgroup", &["plain-group"]),
        ("addgroup", &["--system", "--gid", "150", "numbered"]),
        ("addgroup", &["--system", "--shell", "/bin/sh", "of-a-user"]),
    ] {
        world.must_not(program, words);
    }
    let words = &["--system", "--group", "sample"];
    world.must("adduser", words);
    for (path, text) in [
        ("/etc/adduser.conf", "# nothing\nFIRST_SYSTEM_UID=300\n"),
        ("/etc/nsswitch.conf", "passwd: files systemd\ngroup: files\n"),
        ("/etc/passwd", "root:x:0:0::/root:/bin/sh\n+::::::\nnobody:x:65534:65534::/:/bin/sh\n"),
        ("/etc/group", "root:x:0:\nnogroup:x:65534:\nodd:x:\n"),
        ("/usr/share/perl5/Debian/AdduserCommon.pm", "die 'another one';\n"),
    ] {
        let Some(mut world) = World::new() else { return };
        world.write(path, text);
        world.must_not("adduser", words);
    }
    for (name, value) in [("ADDUSER_LOGTRACE", "1"), ("PERL5LIB", "/x"), ("LC_ALL", "de_DE.UTF-8")] {
        let Some(mut world) = World::new() else { return };
        world.set(name, value);
        world.must_not("adduser", words);
    }
}
