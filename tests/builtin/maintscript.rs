//! `dpkg-maintscript-helper`.

use crate::world::World;

const PROGRAM: &str = "dpkg-maintscript-helper";

#[test]
fn fresh_installations_need_nothing() {
    let Some(mut world) = World::new() else { return };
    let commands: [&[&str]; 10] = [
        &["rm_conffile", "/etc/apt/apt.conf.d/20changelog", "1.2.4~"],
        &["rm_conffile", "/etc/sysctl.conf", "2:4.0.4-7~", "procps"],
        &["rm_conffile", "/etc/apt.conf"],
        &["rm_conffile", "/etc/apt.conf", "", "apt"],
        &["mv_conffile", "/etc/a", "/etc/b", "1.0-1~"],
        &["mv_conffile", "/etc/a", "/etc/b"],
        &["symlink_to_dir", "/usr/share/doc/a", "b", "1.0-1~", "a"],
        &["symlink_to_dir", "/usr/share/doc/a", "/usr/b"],
        &["dir_to_symlink", "/usr/share/doc/a", "/usr/b", "1.0-1~"],
        &["dir_to_symlink", "/etc/apt/", "/usr/b", "1.0-1~"],
    ];
    for (script, words) in [
        ("preinst", &["--", "install"][..]),
        ("preinst", &["--", "install", ""]),
        ("postinst", &["--", "configure", ""]),
        ("postinst", &["--", "configure"]),
    ] {
        world.set("DPKG_MAINTSCRIPT_NAME", script);
        for command in commands {
            world.must(PROGRAM, &[command, words].concat());
        }
    }
    for command in ["rm_conffile", "mv_conffile", "symlink_to_dir", "dir_to_symlink", "other", ""] {
        world.must(PROGRAM, &["supports", command]);
    }
    assert!(world.declined.is_empty());
}

#[test]
fn upgrades_and_mistakes_are_declined() {
    let Some(mut world) = World::new() else { return };
    let odd: [&[&str]; 14] = [
        &[],
        &["--help"],
        &["rm_conffile"],
        &["rm_conffile", "/etc/a", "1.0"],
        &["rm_conffile", "etc/a", "1.0", "--", "configure", ""],
        &["rm_conffile", "/etc/a", "one", "--", "configure", ""],
        &["rm_conffile", "/etc/a", "1.0", "--"],
        &["rm_conffile", "/etc/a", "1.0", "--", "configure", "0.9"],
        &["rm_conffile", "/etc/a", "1.0", "--", "triggered", "x"],
        &["mv_conffile", "/etc/a", "--", "configure", ""],
        &["symlink_to_dir", "/usr/a/", "b", "1.0", "--", "configure", ""],
        &["dir_to_symlink", "/usr/a", "", "1.0", "--", "configure", ""],
        &["dir_to_symlink", "a", "b", "1.0", "--", "configure", ""],
        &["unknown", "--", "configure", ""],
    ];
    for words in odd {
        world.must_not(PROGRAM, words);
    }
    let good = ["symlink_to_dir", "/usr/a", "b", "1.0", "--", "configure", ""];
    world.must(PROGRAM, &good);
    world.link("/usr/a.dpkg-backup", "b");
    world.must_not(PROGRAM, &good);
    for (name, value) in [("DPKG_DEBUG", "all"), ("DPKG_COLORS", "always"), ("DPKG_MAINTSCRIPT_NAME", "")] {
        let Some(mut world) = World::new() else { return };
        world.set(name, value);
        world.must_not(PROGRAM, &["rm_conffile", "/etc/a", "1.0", "--", "configure", ""]);
        world.must_not(
            PROGRAM,
            &["supports", "rm_conffile"]
                .map(|word| if name == "DPKG_MAINTSCRIPT_NAME" { word } else { "--help" }),
        );
    }
}
