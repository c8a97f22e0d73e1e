//! What a recipe declares reaches the archive without a process being started.

use std::process::Command;

use crate::support::deb::Deb;
use crate::world::{PROGRAM, Run, World};

const RECIPE: &str = r#"
[[group]]
name = "media"
gid = 950
[[user]]
name = "app"
uid = 941
groups = ["media"]
home = "/var/lib/app"
[[directory]]
path = "/srv/app"
owner = "app"
group = "media"
mode = "2775"
[[file]]
path = "/etc/app/plain.conf"
source = "plain.conf"
group = "app"
mode = "0640"
[[file]]
path = "/usr/lib/app/start"
content = "\#!/bin/sh\n"
mode = "0755"
[[file]]
path = "/etc/app/by-template.conf"
template = "by-template.tera"
owner = "app"
mode = "0600"
[[file]]
path = "/usr/lib/systemd/system/app.service"
template = "app.service.tera"
[[link]]
path = "/usr/bin/app"
target = "../lib/app/start"
[units]
enable = ["app.service"]
disable = ["ssh.service"]
mask = ["tmp.mount"]
"#;

const UNIT: &str = "[Unit]\nDescription=Made for a test\n[Service]\nExecStart=/usr/lib/app/start\n\
                    User={{ ids.user.app }}\n[Install]\nWantedBy=multi-user.target\n";

fn world(packages: Vec<Deb>) -> Option<World> {
    let world = World::new(packages, "")?;
    world.file("plain.conf", "a = 1\n");
    world.file("by-template.tera", "name = {{ image.hostname }}.{{ site.domain }}\n");
    world.file("app.service.tera", UNIT);
    world.recipe(&RECIPE.replace("\\#", "#"));
    Some(world)
}

/// Without capabilities nobody can map the ids of an image: a build that needs the sandbox fails.
fn build_without_capabilities(world: &World) -> Run {
    Run::of(Command::new("setpriv").args(["--bounding-set=-all", "--", PROGRAM]).args(world.arguments()))
}

#[test]
fn everything_declared_is_in_the_archive_as_declared() {
    let script = "#!/bin/sh\nset -e\nsetcap cap_net_bind_service+ep /usr/bin/server\n";
    let package = Deb::new("server", "1.0").file_with("/usr/bin/server", "\x7fELF", 0o755, (0, 0));
    let Some(world) = world(vec![package.script("postinst", script)]) else { return };
    let tar = world.tar(&world.build());
    let expected = [
        ("./srv/app/", "drwxrwsr-x 941/950", None),
        ("./etc/app/", "drwxr-xr-x 0/0", None),
        ("./etc/app/plain.conf", "-rw-r----- 0/941", Some("a = 1\n")),
        ("./usr/lib/app/start", "-rwxr-xr-x 0/0", Some("#!/bin/sh\n")),
        ("./etc/app/by-template.conf", "-rw------- 941/941", Some("name = hostile.viljo.se\n")),
        ("./usr/lib/systemd/system/app.service", "-rw-r--r-- 0/0", None),
    ];
    for (name, access, text) in expected {
        assert_eq!(tar.member(name).access(), access, "{name}");
        if let Some(text) = text {
            assert_eq!(tar.text(name), text, "{name}");
        }
    }
    assert!(tar.text("./usr/lib/systemd/system/app.service").contains("User=941\n"));
    let links = [
        ("./usr/bin/app", "../lib/app/start"),
        ("./etc/systemd/system/multi-user.target.wants/app.service", "/usr/lib/systemd/system/app.service"),
        ("./etc/systemd/system/tmp.mount", "/dev/null"),
    ];
    for (name, target) in links {
        let member = tar.member(name);
        assert_eq!((member.mode.as_str(), member.target.as_deref()), ("lrwxrwxrwx", Some(target)), "{name}");
    }
    assert!(
        !tar.list()
            .iter()
            .any(|member| member.name == "./etc/systemd/system/multi-user.target.wants/ssh.service")
    );
    assert!(tar.text("./etc/passwd").contains("\napp:x:941:941::/var/lib/app:/usr/sbin/nologin\n"));
    assert!(tar.text("./etc/group").contains("\nmedia:x:950:app\n"));
    // A capability that a script set, as GNU tar puts it back.
    let root = tempfile::tempdir().unwrap();
    tar.extract(root.path());
    let capability = Command::new("getfattr")
        .args(["--only-values", "-n", "security.capability"])
        .arg(root.path().join("usr/bin/server"))
        .output();
    let mut list = Command::new("tar");
    list.args(["--xattrs", "--xattrs-include=*", "-tvvvf"]).arg(tar.file.path()).arg("./usr/bin/server");
    let list = String::from_utf8(list.output().unwrap().stdout).unwrap();
    assert!(list.contains("x: 20 security.capability"), "{list}");
    if let Ok(capability) = capability {
        // Version 2, effective, CAP_NET_BIND_SERVICE.
        assert_eq!(capability.stdout[..8], [1, 0, 0, 2, 0, 4, 0, 0]);
    }
}

#[test]
fn a_change_of_a_template_builds_no_layer_and_starts_no_worker() {
    let Some(world) = world(Vec::new()) else { return };
    let first = build_without_capabilities(&world);
    let report = first.built();
    assert_eq!((&report["done"], &report["layers_built"]), (&"built".into(), &0.into()), "{report}");
    assert_eq!(report["layers_reused"], 1);
    world.file("by-template.tera", "other = {{ image.name }}\n");
    let second = build_without_capabilities(&world);
    let report = second.built();
    assert_eq!((&report["done"], &report["layers_built"]), (&"built".into(), &0.into()), "{report}");
    // Only what holds the file is compressed again.
    let count = |name: &str| report[name].as_u64().unwrap();
    assert!(count("frames_compressed") <= 3, "{report}");
    assert!(count("frames_reused") > 20, "{report}");
    assert_eq!(world.tar(&second).text("./etc/app/by-template.conf"), "other = hostile\n");
    assert_eq!(build_without_capabilities(&world).built()["done"], "unchanged");
    // And it is true that no worker can start like this.
    std::fs::remove_dir_all(world.store().join("layers")).unwrap();
    world.file("by-template.tera", "third = {{ image.name }}\n");
    let error = build_without_capabilities(&world).error().to_owned();
    assert!(error.contains("cannot build its packages: "), "{error}");
}
