//! Small ones: `update-rc.d` and the host keys of `ssh-keygen`.

use std::fs;

use crate::world::World;

fn without_links() -> Option<World> {
    let world = World::new()?;
    for level in "0123456S".chars() {
        world.remove(&format!("/etc/rc{level}.d"));
    }
    Some(world)
}

#[test]
fn init_scripts_get_their_links() {
    let Some(mut world) = without_links() else { return };
    let program = "update-rc.d";
    for name in ["procps", "networking", "dbus", "ssh"] {
        world.must(program, &[name, "defaults"]);
        world.must(program, &[name, "defaults", "20", "80"]);
    }
    for (name, header) in [
        ("empty", "### BEGIN INIT INFO\n# Default-Start:\n# Default-Stop:   \n### END INIT INFO\n"),
        ("none", "#!/bin/sh\n# Default-Start: 2 3\n"),
        (
            "both",
            "### BEGIN INIT INFO  \n# Default-Start: 2 3\n# Default-Stop:\t0 2 6\n### END INIT INFO\n# Default-Start: 5\n",
        ),
        (
            "with-dots.sh",
            "### BEGIN INIT INFO\n# Default-Start: S\n# Default-Start: 1 S\n### END INIT INFO\n",
        ),
    ] {
        world.write(&format!("/etc/init.d/{name}"), header);
        for action in ["defaults-disabled", "defaults", "remove", "defaults", "-f", "defaults"] {
            match action {
                "-f" => world.must(program, &["-f", name, "remove"]),
                _ => world.must(program, &[name, action]),
            }
        }
    }
    world.must(program, &["gone", "remove"]);
    world.link("/etc/rc2.d/S17ssh", "nowhere");
    world.must(program, &["ssh", "remove"]);
    assert!(world.declined.is_empty());
    world.write("/etc/init.d/odd", "### BEGIN INIT INFO\n# Default-Start: 2 x9\n### END INIT INFO\n");
    for words in [
        &["ssh", "enable"][..],
        &["ssh"],
        &["missing", "defaults"],
        &["odd", "defaults"],
        &["--help"],
        &["a*", "remove"],
    ] {
        world.must_not(program, words);
    }
    world.write("/sbin/insserv", "");
    world.must_not(program, &["ssh", "defaults"]);
}

#[test]
fn host_keys_have_a_file_in_their_place() {
    let Some(world) = World::new() else { return };
    for kind in ["rsa", "ecdsa", "ed25519"] {
        let path = format!("/etc/ssh/ssh_host_{kind}_key");
        world.remove(&path);
        world.remove(&format!("{path}.pub"));
        let ours = world.alone("ssh-keygen", &["-q", "-f", &path, "-N", "", "-t", kind]).unwrap();
        assert_eq!(ours, (0, String::new(), String::new()));
        world.real("ssh-keygen", &["-q", "-f", &path, "-N", "", "-t", kind]);
        // All but what is in it is as with the real one.
        world.same_but_content(&path);
        world.same_but_content(&format!("{path}.pub"));
        let (status, said, _) = world.alone("ssh-keygen", &["-l", "-f", &format!("{path}.pub")]).unwrap();
        assert!(status == 0 && said.lines().count() == 1);
        // It is there now.
        assert_eq!(world.alone("ssh-keygen", &["-q", "-f", &path, "-N", "", "-t", kind]), None);
    }
    for words in [
        &["-A"][..],
        &["-q", "-f", "/root/.ssh/id", "-N", "", "-t", "rsa"],
        &["-q", "-f", "/etc/ssh/ssh_host_rsa_key", "-N", "", "-t", "ed25519"],
        &["-l", "-f", "/etc/ssh/other.pub"],
        &[],
    ] {
        assert_eq!(world.alone("ssh-keygen", words), None, "{words:?}");
    }
    world.change(|root| fs::write(root.join("etc/ssh/ssh_host_rsa_key.pub"), "a real one").unwrap());
    assert_eq!(world.alone("ssh-keygen", &["-l", "-f", "/etc/ssh/ssh_host_rsa_key.pub"]), None);
}
