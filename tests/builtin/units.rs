//! `deb-systemd-helper`, with and without systemctl.

use std::fs;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::world::World;

const PROGRAM: &str = "deb-systemd-helper";
const UNITS: &str = "/usr/lib/systemd/system";

/// A root in which nothing is enabled yet.
fn world() -> Option<World> {
    let world = World::new()?;
    for path in ["/etc/systemd/system", "/etc/systemd/user", "/var/lib/systemd"] {
        world.remove(path);
        world.change(|root| fs::create_dir_all(root.join(&path[1..])).unwrap());
    }
    Some(world)
}

/// What debhelper makes postinst, prerm and postrm do.
fn lifecycle(world: &mut World, scope: &[&str], unit: &str) {
    let mut call = |words: &[&str]| {
        world.call(PROGRAM, &[words, scope, &[unit]].concat());
    };
    call(&["unmask"]);
    call(&["--quiet", "was-enabled"]);
    call(&["enable"]);
    call(&["was-enabled"]);
    call(&["is-enabled"]);
    call(&["debian-installed"]);
    call(&["update-state"]);
    call(&["enable"]);
    call(&["mask"]);
    call(&["unmask"]);
    call(&["reenable"]);
    call(&["disable"]);
    call(&["was-enabled"]);
    call(&["enable"]);
    call(&["mask"]);
    call(&["purge"]);
    call(&["unmask"]);
    call(&["debian-installed"]);
}

/// Every unit with an `[Install]` section of the root.
fn with_install(world: &World, directory: &str) -> Vec<String> {
    let found = std::cell::RefCell::new(Vec::new());
    world.change(|root| {
        let mut names = Vec::new();
        for entry in fs::read_dir(root.join(directory)).unwrap().map(Result::unwrap) {
            let regular = entry.file_type().unwrap().is_file();
            if regular && fs::read_to_string(entry.path()).is_ok_and(|text| text.contains("[Install]")) {
                names.push(entry.file_name().into_string().unwrap());
            }
        }
        names.sort();
        *found.borrow_mut() = names;
    });
    found.into_inner()
}

#[test]
fn the_units_of_packages_with_systemctl() {
    let Some(mut world) = world() else { return };
    let units = with_install(&world, "usr/lib/systemd/system");
    assert!(units.len() > 30, "{units:?}");
    for unit in &units {
        lifecycle(&mut world, &[], unit);
    }
    for unit in with_install(&world, "usr/lib/systemd/user") {
        lifecycle(&mut world, &["--user"], &unit);
    }
    println!("{} done; declined: {:#?}", world.done, world.declined);
    assert!(world.done > world.declined.len() * 10);
}

#[test]
fn the_units_of_packages_that_are_not_installed() {
    let Some(mut world) = world() else { return };
    for scope in ["system", "user"] {
        let samples = format!("usr/share/sample-units/{scope}");
        world.change(|root| {
            for entry in fs::read_dir(root.join(&samples)).unwrap().map(Result::unwrap) {
                let place = root.join("usr/lib/systemd").join(scope).join(entry.file_name());
                fs::copy(entry.path(), place).unwrap();
            }
        });
        let option = format!("--{scope}");
        for unit in with_install(&world, &samples) {
            for words in
                [&["unmask"][..], &["--quiet", "was-enabled"], &["enable"], &["update-state"], &["purge"]]
            {
                world.call(PROGRAM, &[words, &[&option, &unit]].concat());
            }
        }
    }
    println!("{} done; declined: {:#?}", world.done, world.declined);
    assert!(world.done > 200 && world.done > world.declined.len() * 8);
}

#[test]
fn the_units_of_packages_without_systemctl() {
    let Some(mut world) = world() else { return };
    world.remove("/usr/bin/systemctl");
    // All of them with systemctl, above; here every third.
    for unit in with_install(&world, "usr/lib/systemd/system").iter().step_by(3) {
        lifecycle(&mut world, &["--system"], unit);
    }
    println!("{} done; declined: {:#?}", world.done, world.declined);
    assert!(world.done > world.declined.len() * 10);
}

/// A unit that may be odd.
fn unit(random: &mut StdRng) -> String {
    let mut text = "[Unit]\nDescription=x\n".to_owned();
    if random.random_bool(0.3) {
        text += "[Service]\nExecStart=/bin/a \\\n  b\n";
    }
    text += "[Install]\n";
    for _ in 0..random.random_range(0..4) {
        let lines = [
            "WantedBy=multi-user.target",
            "WantedBy=multi-user.target graphical.target",
            "WantedBy=no-such.target",
            "WantedBy=b@%i.service",
            "WantedBy=default.target\n# comment\n; and another",
            "RequiredBy=b.service",
            "RequiredBy=e@.service",
            "UpheldBy=a.service",
            "Alias=other.service",
            "Alias=other.service more.service",
            "Alias=a.service",
            "Alias=d@x.service",
            "Also=a.service",
            "Also=b.socket c.timer",
            "Also=b.socket",
            "Also=missing.service",
            "DefaultInstance=one",
            "WantedBy=%p.target %j.target",
            "WantedBy=%n.target",
            "WantedBy=\"quoted.target\"",
            "WantedBy= spaced.target",
            "wantedby=small.target",
            "WantedBy=",
            "Unknown=x",
            "X-Other=x",
        ];
        text += &format!("{}\n", lines.choose(random).unwrap());
    }
    text
}

#[test]
fn generated_units_with_presets_drop_ins_and_masks() {
    let names = ["a.service", "b.socket", "c.timer", "d@.service", "e@.service", "f-g.path", "h.mount"];
    let called = [
        "a.service",
        "b.socket",
        "c.timer",
        "d@.service",
        "d@i.service",
        "e@x.service",
        "f-g.path",
        "h.mount",
        "no.service",
    ];
    let presets = [
        "enable a.service\ndisable *\n",
        "# nothing\n\ndisable *.timer\n",
        "enable d@.service one two\nignore b.*\n",
        "enable *\n",
        "disable ?.service\n",
        "",
    ];
    let (mut done, mut declined) = (0, 0);
    let Some(mut world) = world() else { return };
    for seed in 0..60 {
        let random = &mut StdRng::seed_from_u64(seed);
        for path in ["/etc/systemd/system", "/var/lib/systemd", "/etc/systemd/system-preset", "/run/systemd"]
        {
            world.remove(path);
        }
        world.change(|root| fs::create_dir_all(root.join("etc/systemd/system")).unwrap());
        for name in names {
            world.write(&format!("{UNITS}/{name}"), unit(random));
            world.remove(&format!("{UNITS}/{name}.d"));
        }
        if random.random_bool(0.4) {
            world.write("/etc/systemd/system-preset/10-a.preset", presets.choose(random).unwrap());
        }
        if random.random_bool(0.2) {
            world.write("/etc/systemd/system-preset/90-systemd.preset", presets.choose(random).unwrap());
        }
        if random.random_bool(0.2) {
            world.write(&format!("{UNITS}/a.service.d/x.conf"), "[Install]\nWantedBy=drop.target\n");
        }
        if random.random_bool(0.2) {
            world.link("/etc/systemd/system/a.service", "/dev/null");
        }
        if random.random_bool(0.1) {
            world.write("/etc/systemd/system/c.timer", unit(random));
        }
        if random.random_bool(0.2) {
            world.link("/etc/systemd/system/other.service", "/usr/lib/systemd/system/a.service");
        }
        if random.random_bool(0.2) {
            world.link(
                "/etc/systemd/system/multi-user.target.wants/a.service",
                "/lib/systemd/system/a.service",
            );
        }
        for _ in 0..3 {
            let unit = called.choose(random).unwrap();
            world.call(PROGRAM, &["enable", unit]);
            let action =
                ["disable", "purge", "mask", "unmask", "is-enabled", "update-state", "reenable", "enable"];
            for _ in 0..3 {
                world.call(PROGRAM, &[action.choose(random).unwrap(), unit]);
            }
            world.call(PROGRAM, &["was-enabled", unit, "a.service"]);
        }
        done += std::mem::take(&mut world.done);
        declined += std::mem::take(&mut world.declined).len();
    }
    println!("{done} done, {declined} declined");
    assert!(done > 300, "{done} done, {declined} declined");
}

#[test]
fn what_is_not_understood_is_declined() {
    let Some(mut world) = world() else { return };
    for words in [
        &[][..],
        &["--help"],
        &["--q", "enable", "a.service"],
        &["start", "ssh.service"],
        &["enable", "../x.service"],
        &["enable", "no-such.service"],
        &["enable", "x\\x2d.service"],
    ] {
        world.must_not(PROGRAM, words);
    }
    world.must(PROGRAM, &["unmask", "ssh.service"]);
    for (name, value) in [
        ("_DEB_SYSTEMD_HELPER_DEBUG", "1"),
        ("DPKG_ROOT", "/x"),
        ("SYSTEMD_LOG_LEVEL", "debug"),
        ("DPKG_MAINTSCRIPT_PACKAGE", ""),
    ] {
        let Some(mut world) = crate::units::world() else { return };
        world.set(name, value);
        world.must_not(PROGRAM, &["unmask", "ssh.service"]);
    }
    world.change(|root| fs::create_dir_all(root.join("run/systemd/system")).unwrap());
    world.must_not(PROGRAM, &["unmask", "ssh.service"]);
    world.remove("/run/systemd/system");
    world.write("/usr/bin/deb-systemd-helper", "#!/bin/sh\n");
    world.must_not(PROGRAM, &["unmask", "ssh.service"]);
}
