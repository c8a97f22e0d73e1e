//! `dpkg-divert` and `dpkg-statoverride --list`.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::world::World;

const PROGRAM: &str = "dpkg-divert";

#[test]
fn the_calls_of_packages() {
    let Some(mut world) = World::new() else { return };
    world.remove("/var/lib/dpkg/diversions");
    world.remove("/var/lib/dpkg/diversions-old");
    for library in ["lib32", "libo32", "libx32", "libq32"] {
        let to = format!("/.{library}.usr-is-merged");
        let from = format!("/{library}");
        let words = ["--quiet", "--package", "base-files", "--add", "--no-rename", "--divert", &to, &from];
        world.must(PROGRAM, &words);
        world.must(PROGRAM, &words);
    }
    let to = "/lib/x86_64-linux-gnu/libtirpc.so.3.usr-is-merged";
    let from = "/lib/x86_64-linux-gnu/libtirpc.so.3";
    world.must(PROGRAM, &["--package", "libtirpc3t64", "--no-rename", "--divert", to, from]);
    world.must(
        PROGRAM,
        &["--quiet", "--add", "--no-rename", "--divert", "/lib64/ld.usr-is-merged", "/lib64/ld"],
    );
    for path in ["/bin/sh", "/usr/bin/zcat", "/lib32", "/.lib32.usr-is-merged", from, to] {
        for action in ["--truename", "--listpackage", "--list"] {
            world.must(PROGRAM, &[action, path]);
        }
    }
    world.must(PROGRAM, &["--list"]);
    world.must(PROGRAM, &["--list", "*usr-is*", "lib?irpc3t64"]);
    for (package, name) in [("base-files", "lib64"), ("base-files", "lib32"), ("libtirpc3t64", "none")] {
        let to = format!("/.{name}.usr-is-merged");
        let from = format!("/{name}");
        world.must(PROGRAM, &["--package", package, "--remove", "--no-rename", "--divert", &to, &from]);
    }
    assert!(world.declined.is_empty());
}

#[test]
fn generated_calls() {
    let Some(mut world) = World::new() else { return };
    let random = &mut StdRng::seed_from_u64(3);
    let paths = [
        "/etc/a",
        "/usr/bin/b",
        "/usr/bin/b.distrib",
        "/opt/c d",
        "/usr/share/doc/e/f",
        "/etc/passwd",
        "/usr/bin",
    ];
    let places = ["/etc/a.x", "/usr/bin/b.distrib", "/etc/a", "/opt/c d.y"];
    for _ in 0..250 {
        let mut words = Vec::new();
        let action =
            *["--add", "--add", "--remove", "--truename", "--listpackage", "--list"].choose(random).unwrap();
        words.extend((action != "--add" || random.random_bool(0.5)).then_some(action));
        words.extend(random.random_bool(0.3).then_some("--quiet"));
        if random.random_bool(0.9) {
            words.push("--no-rename");
        }
        match random.random_range(0..4) {
            0 => words.extend(["--package", "one"]),
            1 => words.push("--package=two"),
            2 => words.push("--local"),
            _ => {}
        }
        if random.random_bool(0.5) {
            words.extend(["--divert", places.choose(random).unwrap()]);
        }
        words.push(paths.choose(random).unwrap());
        world.call(PROGRAM, &words);
    }
    println!("{} done, {} declined", world.done, world.declined.len());
    assert!(world.done > 120, "{} done", world.done);
    for words in [
        &["--rename", "--add", "/etc/z"][..],
        &["--add", "/etc/z"],
        &["--test", "--no-rename", "--add", "/etc/z"],
        &["--no-rename", "--add", "etc/z"],
        &["--no-rename", "--add", "//etc/z"],
        &["--no-rename", "--package", "Upper", "--add", "/etc/z"],
        &["--list", "[a]"],
        &["--help"],
        &["--truename", "/a", "/b"],
    ] {
        world.must_not(PROGRAM, words);
    }
}

#[test]
fn what_a_package_ships_is_left_to_dpkg() {
    let Some(mut world) = World::new() else { return };
    world.set("DPKG_MAINTSCRIPT_PACKAGE", "coreutils");
    let divert = ["--no-rename", "--divert", "/usr/bin/ls.x", "/usr/bin/ls"];
    world.must(PROGRAM, &[&["--add"], &divert[..]].concat());
    world.must_not(PROGRAM, &[&["--remove"], &divert[..]].concat());
    world.set("LC_ALL", "de_DE.UTF-8");
    world.must_not(PROGRAM, &["--truename", "/bin/sh"]);
}

#[test]
fn overrides_are_looked_up() {
    let Some(mut world) = World::new() else { return };
    let program = "dpkg-statoverride";
    world.must(program, &["--list", "/usr/local/share/ca-certificates"]);
    world.must_not(program, &["--list"]);
    world.must_not(program, &["--list", "/usr/*"]);
    world.write("/var/lib/dpkg/statoverride", "root root 4754 /usr/bin/a\n");
    world.must(program, &["--list", "/usr/bin/ab"]);
    world.must_not(program, &["--list", "/usr/bin/a"]);
    world.must_not(program, &["--update", "--add", "root", "root", "755", "/usr/bin/b"]);
    world.write("/var/lib/dpkg/statoverride", "root root /usr/bin/a\n");
    world.must_not(program, &["--list", "/usr/bin/c"]);
    world.remove("/var/lib/dpkg/statoverride");
    world.must(program, &["--list", "/usr/bin/c"]);
}
