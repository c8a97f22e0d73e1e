//! Pinned users and groups against packages that want the same names or ids.

use crate::support::deb::Deb;
use crate::world::World;

const ACCOUNTS: &str = r#"
[[group]]
name = "app"
gid = 941
[[user]]
name = "app"
uid = 942
group = "app"
home = "/var/lib/app"
"#;

fn postinst(name: &str, script: &str) -> Deb {
    Deb::new(name, "1.0").script("postinst", &format!("#!/bin/sh\nset -e\n{script}\n"))
}

#[test]
fn pins_hold_over_what_packages_make_by_themselves() {
    let packages = vec![
        postinst("by-adduser", "adduser --quiet --system --group --home /var/lib/app --no-create-home app"),
        postinst(
            "by-useradd",
            "getent group app || groupadd --system app\ngetent passwd app || useradd --system app\n\
             install -d -o app -g app -m 0750 /var/lib/app/data",
        ),
        postinst("other", "adduser --quiet --system --group --no-create-home other"),
    ];
    let Some(world) = World::new(packages, ACCOUNTS) else { return };
    let tar = world.tar(&world.build());
    let line = |file: &str, name: &str| {
        let text = tar.text(file);
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with(&format!("{name}:"))).collect();
        assert_eq!(lines.len(), 1, "{text}");
        lines[0].to_owned()
    };
    assert_eq!(line("./etc/passwd", "app"), "app:x:942:941::/var/lib/app:/usr/sbin/nologin");
    assert_eq!(line("./etc/group", "app"), "app:x:941:");
    assert!(line("./etc/shadow", "app").starts_with("app:!"));
    assert_eq!(tar.member("./var/lib/app/data/").access(), "drwxr-x--- 942/941");
    let other = line("./etc/passwd", "other");
    assert!(!other.contains(":942:") && !other.contains(":941:"), "{other}");
}

/// Builds with one package and gives the message.
#[track_caller]
fn failing(script: &str) -> Option<String> {
    let world = World::new(vec![postinst("taker", script), postinst("zz-innocent", "true")], ACCOUNTS)?;
    let before = world.layers();
    let run = world.build();
    let error = run.error().to_owned();
    world.expect_nothing_left(&before);
    Some(error)
}

#[test]
fn a_package_that_takes_a_pinned_id_fails_the_build() {
    let attacks = [
        ("groupadd --non-unique --gid 941 thief", "941"),
        ("useradd --non-unique --uid 942 thief", "942"),
        ("echo 'thief:x:942:100::/:/bin/sh' >>/etc/passwd", "942"),
        ("sed -i 's/^app:x:942:/app:x:943:/' /etc/passwd", "942"),
    ];
    for (script, names) in attacks {
        let Some(error) = failing(script) else { return };
        assert!(error.contains("pinned users and groups do not hold"), "{script}: {error}");
        assert!(error.contains(names), "{script}: {error}");
    }
}

#[test]
fn a_package_that_removes_a_pinned_account_fails_the_build() {
    for (script, names) in
        [("groupdel -f app", "group `app` was pinned to id 941"), ("userdel app", "user `app` ")]
    {
        let Some(error) = failing(script) else { return };
        assert!(error.contains("pinned users and groups do not hold"), "{script}: {error}");
        assert!(error.contains(names), "{script}: {error}");
    }
}

/// The tools themselves refuse when they are asked for an id that is taken.
#[test]
fn a_package_that_asks_for_a_pinned_id_fails_by_itself() {
    let Some(error) = failing("groupadd --gid 941 thief") else { return };
    assert!(error.contains("package `taker`: its `postinst` script failed"), "{error}");
    assert!(error.contains("941"), "{error}");
}
