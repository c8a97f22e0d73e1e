//! Maintainer scripts that attack the host: each fails its build by name and leaves nothing; and where a script
//! goes on as if nothing had happened, nothing has.

use crate::host::Host;
use crate::support::deb::Deb;
use crate::world::World;

/// A shell function `attack` that succeeds when anything at all of it did.
struct Attack {
    name: &'static str,
    body: &'static str,
}

const NETWORK: Attack = Attack {
    name: "network",
    body: r#"
        for address in $addresses; do
            (exec 3<>"/dev/tcp/$address/$port") && return
            (echo hello >"/dev/udp/$address/$port") && return
        done
        return 1"#,
};
const READ: Attack = Attack {
    name: "read",
    body: r#"
        for file in $files; do
            for root in '' /proc/*/root /proc/self/cwd/../../../.. /proc/*/fd/*/../../../.. /proc/1/task/1/root; do
                cat "$root$file" >>/etc/stolen && return
            done
        done
        return 1"#,
};
const WRITE: Attack = Attack {
    name: "write",
    body: r#"
        for file in $files; do
            for root in '' /proc/*/root /proc/self/cwd/../../../.. /proc/*/fd/*/../../../..; do
                echo owned >"$root$file" && return
            done
        done
        return 1"#,
};
const PROCESSES: Attack = Attack {
    name: "processes",
    body: r#"
        for one in /proc/[0-9]*; do
            case "$(tr '\0' ' ' <"$one/cmdline")" in "sleep $mark"*) return ;; esac
        done
        kill -9 "$pid" && return
        kill -STOP "$pid" && return
        grep -q . "/proc/$pid/status" && return
        return 1"#,
};
const MOUNT: Attack = Attack {
    name: "mount",
    body: r#"
        mount -t tmpfs none /mnt && return
        mount -t proc proc /mnt && return
        mount --bind /etc /mnt && return
        mount -o remount,rw /proc && return
        umount /proc && return
        unshare --mount true && return
        unshare --user --map-root-user mount -t tmpfs none /mnt && return
        chroot /proc/1/root mount -t tmpfs none /mnt && return
        return 1"#,
};
const NODES: Attack = Attack {
    name: "nodes",
    body: r#"
        mknod /root/disk b 8 0 && return
        mknod /root/memory c 1 1 && return
        mknod /root/null c 1 3 && return
        mknod /root/whiteout c 0 0 && return
        mknod /dev/disk b 8 0 && return
        return 1"#,
};
const REFUSED: [Attack; 6] = [NETWORK, READ, WRITE, PROCESSES, MOUNT, NODES];

fn package(host: &Host, attack: &str) -> String {
    format!("evil-{attack}-{}", host.mark)
}

/// A package with one script, in bash.
fn deb(host: &Host, name: &str, script: &str, text: &str) -> Deb {
    Deb::new(&package(host, name), "1.0")
        .script(script, &format!("#!/bin/bash\n{}{text}\n", host.variables()))
}

/// Builds packages of which one must fail, and gives the message from the package's name on.
#[track_caller]
fn failing(host: &mut Host, packages: Vec<Deb>, options: &[&str]) -> Option<String> {
    let world = World::new(packages, "")?.with(options);
    let before = world.layers();
    let run = world.build();
    let error = run.error();
    assert!(!run.stderr.contains('\x1b'), "{}", run.stderr);
    world.expect_nothing_left(&before);
    host.expect_unchanged();
    let start = error.find("package `").unwrap_or_else(|| panic!("no package is named in\n{error}"));
    let lines = error.lines().filter(|line| line.starts_with("  ")).count();
    assert!((1..=20).contains(&lines), "{error}");
    Some(error[start..].replace(&host.mark, "MARK"))
}

#[track_caller]
fn assert_begins(message: &str, begin: &str) {
    assert!(message.starts_with(begin), "expected\n{begin}\nfound\n{message}");
}

/// In `script`, the attack is refused, the script gives up, and the build with it.
#[track_caller]
fn refused(attack: &Attack, script: &str) {
    let mut host = Host::new();
    let text = format!(
        "attack() {{{}\n}}\nif attack; then exit 0; fi\necho the attack was refused\nexit 9",
        attack.body
    );
    let packages = vec![deb(&host, attack.name, script, &text)];
    let Some(message) = failing(&mut host, packages, &[]) else { return };
    assert_begins(&message, &format!("package `evil-{}-MARK`: its `{script}` script ", attack.name));
    assert!(message.contains("\n  the attack was refused"), "{message}");
}

#[test]
fn the_network_is_out_of_reach() {
    refused(&NETWORK, "preinst");
    refused(&NETWORK, "postinst");
}

#[test]
fn files_of_the_host_cannot_be_read() {
    refused(&READ, "preinst");
    refused(&READ, "postinst");
}

#[test]
fn files_of_the_host_cannot_be_written() {
    refused(&WRITE, "postinst");
}

#[test]
fn processes_of_the_host_are_neither_seen_nor_ended() {
    refused(&PROCESSES, "postinst");
}

#[test]
fn signals_to_everybody_reach_nobody_outside() {
    for signal in ["TERM", "KILL", "STOP"] {
        let mut host = Host::new();
        let text = format!("trap '' TERM\necho everybody\nkill -{signal} -1\nexit 1");
        let packages = vec![deb(&host, "kill", "postinst", &text)];
        let Some(message) = failing(&mut host, packages, &["--script-timeout=2"]) else { return };
        assert_begins(&message, "package `evil-kill-MARK`: its `postinst` script ");
    }
}

#[test]
fn nothing_can_be_mounted() {
    refused(&MOUNT, "postinst");
}

#[test]
fn device_nodes_cannot_be_made() {
    refused(&NODES, "preinst");
}

#[test]
fn attacks_whose_failure_is_swallowed_have_no_effect() {
    let mut host = Host::new();
    let mut packages = Vec::new();
    for attack in &REFUSED {
        let text = format!("attack() {{{}\n}}\nattack && echo success >>/etc/stolen\nexit 0", attack.body);
        let deb = deb(&host, attack.name, "postinst", &text);
        packages.push(deb.script("preinst", &format!("#!/bin/bash\n{}{text}\n", host.variables())));
    }
    let Some(world) = World::new(packages, "") else { return };
    let run = world.build();
    let tar = world.tar(&run);
    host.expect_unchanged();
    // A redirection makes its file before it is known whether there is something to write.
    let stolen = tar.list().iter().any(|member| member.name == "./etc/stolen");
    assert!(!stolen || tar.text("./etc/stolen").is_empty(), "{}", tar.text("./etc/stolen"));
    assert!(tar.find(&[&host.secret]).is_empty(), "a file of the host is in the image");
    assert!(tar.list().iter().all(|member| !member.mode.starts_with(['b', 'c'])));
}

#[test]
fn forking_without_end_is_ended() {
    let mut host = Host::new();
    let text = "bomb() { bomb | bomb & wait; }\nbomb\nwhile :; do sleep \"${mark}2\" & done";
    let packages = vec![deb(&host, "fork", "postinst", text)];
    let Some(message) = failing(&mut host, packages, &["--script-timeout=4"]) else { return };
    assert_begins(&message, "package `evil-fork-MARK`: its `postinst` script ");
}

#[test]
fn the_disk_cannot_be_filled() {
    let mut host = Host::new();
    let text = "set -e\nfor i in 1 2 3 4; do dd if=/dev/zero of=/var/fill$i bs=1M status=none; done";
    let packages = vec![deb(&host, "fill", "preinst", text)];
    let Some(message) = failing(&mut host, packages, &["--tree-size=600"]) else { return };
    assert_begins(&message, "package `evil-fill-MARK`: its `preinst` script ");
    assert!(message.contains("No space left on device"), "{message}");
}

#[test]
fn running_for_ever_is_ended() {
    for script in ["preinst", "postinst"] {
        let mut host = Host::new();
        let text = "echo for ever and ever\nwhile :; do sleep \"${mark}2\"; done";
        let packages = vec![deb(&host, "forever", script, text)];
        let Some(message) = failing(&mut host, packages, &["--script-timeout=2"]) else { return };
        assert_begins(
            &message,
            &format!("package `evil-forever-MARK`: its `{script}` script did not end within "),
        );
        assert!(message.contains("\n  for ever and ever"), "{message}");
    }
}

#[test]
fn a_process_left_behind_is_found_and_ended() {
    for script in ["preinst", "postinst"] {
        let mut host = Host::new();
        let text = "echo starting a daemon\nsetsid sleep \"${mark}2\" </dev/null >/dev/null 2>&1 &\nexit 0";
        let packages = vec![deb(&host, "daemon", script, text)];
        let Some(message) = failing(&mut host, packages, &[]) else { return };
        let expected = format!("package `evil-daemon-MARK`: its `{script}` script left a process running: ");
        assert_begins(&message, &expected);
        assert!(message.contains("sleep MARK2"), "{message}");
    }
}

/// All packages are configured by one dpkg, and only at its end is anything left behind.
#[test]
fn a_process_left_behind_is_told_of_the_package_that_started_it() {
    let mut host = Host::new();
    let text = "setsid sleep \"${mark}2\" </dev/null >/dev/null 2>&1 &\nexit 0";
    let packages =
        vec![deb(&host, "a-daemon", "postinst", text), deb(&host, "b-innocent", "postinst", "exit 0")];
    let Some(message) = failing(&mut host, packages, &[]) else { return };
    assert_begins(&message, "package `evil-a-daemon-MARK`: its `postinst` script left a process running: ");
}

/// Scripts write where dpkg writes its status lines.
#[test]
fn a_script_cannot_put_the_blame_on_another_package() {
    let imitation = "echo 'processing: configure: innocent:amd64'\necho 'status: innocent: installed'\n\
                     echo 'dpkg: error processing package innocent:amd64 (--configure):'\n\
                     echo ' installed innocent package post-installation script subprocess returned error exit status 1'";
    for end in ["exit 3", "while :; do sleep \"${mark}2\"; done"] {
        let mut host = Host::new();
        let packages = vec![deb(&host, "liar", "postinst", &format!("{imitation}\n{end}"))];
        let Some(message) = failing(&mut host, packages, &["--script-timeout=2"]) else { return };
        assert_begins(&message, "package `evil-liar-MARK`: its `postinst` script ");
    }
}

#[test]
fn a_noisy_script_leaves_the_terminal_alone_and_the_message_short() {
    for script in ["preinst", "postinst"] {
        let mut host = Host::new();
        let text = r"for i in $(seq 1 40); do echo line $i; done
            printf '\033]0;owned\007\033[2J\033[31mred\r\n\233 \302\233 \342\200\256\n'
            head -c 100000 /dev/zero | tr '\0' x; echo
            echo the last line; exit 1";
        let packages = vec![deb(&host, "noisy", script, text)];
        let Some(message) = failing(&mut host, packages, &[]) else { return };
        assert_begins(&message, &format!("package `evil-noisy-MARK`: its `{script}` script "));
        assert!(message.contains("\n  the last line"), "{message}");
        assert!(!message.contains("line 20\n"), "{message}");
        let control = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!message.contains(control), "{message:?}");
        assert!(message.len() < 20_000, "{}", message.len());
    }
}
