//! The same calls by Debian 13's own debconf and by this one, each in a Debian 13 root of its own.
//!
//! The root is made once, from the mirror of the host's apt, and kept in the temporary directory of the system.

mod pair;

use std::fs;

use self::pair::{Pair, debian};

/// Packages of the shipped images whose scripts ask, and others with every type of template.
const PACKAGES: &[&str] = &[
    "adduser",
    "base-passwd",
    "ca-certificates",
    "console-setup",
    "cups-bsd",
    "dash",
    "davfs2",
    "debconf",
    "dictionaries-common",
    "exim4-config",
    "fontconfig-config",
    "grub-pc",
    "iperf3",
    "iproute2",
    "iptables-persistent",
    "keyboard-configuration",
    "krb5-config",
    "libc6",
    "libpam-modules",
    "libpam-runtime",
    "libpam0g",
    "locales",
    "man-db",
    "mariadb-server",
    "mdadm",
    "msmtp",
    "nslcd",
    "openssh-server",
    "popularity-contest",
    "postfix",
    "samba-common",
    "slapd",
    "tzdata",
    "ucf",
    "unattended-upgrades",
    "wireshark-common",
    "x11-common",
];
/// What breaks lines in another way.
const WRAPPING: &[&str] = &["libtext-charwidth-perl", "libtext-wrapi18n-perl"];
/// How many of [`PACKAGES`] debconf has to be asked for, so that the test is not about nothing.
const LEAST_ASKING: usize = 25;

#[test]
fn packages_of_debian() {
    let Some(debian) = debian() else { return };
    let mut pair = Pair::new(&debian);
    let mut asking = Vec::new();
    for package in PACKAGES {
        let (name, version, asks) = pair.unpack(package);
        if !asks {
            continue;
        }
        let info = format!("/var/lib/dpkg/info/{name}");
        let first = pair.roots()[0].clone();
        let has = |kind: &str| first.join(format!("{}.{kind}", &info[1..])).exists();
        if has("preinst") {
            for root in pair.roots() {
                let ci = root.join("var/lib/dpkg/tmp.ci");
                fs::create_dir_all(&ci).unwrap();
                for kind in ["control", "preinst", "config", "templates"] {
                    let file = root.join(format!("{}.{kind}", &info[1..]));
                    if file.exists() {
                        fs::copy(file, ci.join(kind)).unwrap();
                    }
                }
            }
            pair.call(&["/var/lib/dpkg/tmp.ci/preinst", "install"]);
            for root in pair.roots() {
                fs::remove_dir_all(root.join("var/lib/dpkg/tmp.ci")).unwrap();
            }
        }
        if has("postinst") {
            let postinst = format!("{info}.postinst");
            let started = pair.call(&[&postinst, "configure", ""]);
            if *package == "ca-certificates" {
                assert_eq!(
                    started,
                    [postinst.as_str()],
                    "the configuration has to be done without its script"
                );
            }
            pair.call(&[&postinst, "configure", &version]);
            if has("triggers") {
                pair.call(&[&postinst, "triggered", "/usr/share/man"]);
            }
        }
        asking.push((name, version));
    }
    pair.call(&["/usr/sbin/pam-auth-update", "--package"]);
    pair.report("whole scripts");
    // A script that does nothing, with all those databases: what debconf itself takes.
    pair.write("var/lib/dpkg/info/none.postinst", "#!/bin/sh\nexit 0\n", 0o755);
    pair.write(
        "var/lib/dpkg/info/none.templates",
        "Template: none/q\nType: note\nDescription: None\n",
        0o644,
    );
    for _ in 0..5 {
        pair.call(&["/var/lib/dpkg/info/none.postinst", "configure", ""]);
    }
    pair.report("a script that does nothing");
    for (name, _) in &asking {
        // A root without its C library is of no more use.
        let purge = format!("/var/lib/dpkg/info/{name}.postrm");
        let kept = ["libc6:amd64", "base-passwd", "debconf", "dash"].contains(&name.as_str());
        if !kept && pair.roots()[0].join(&purge[1..]).exists() {
            pair.call(&[&purge, "purge"]);
        }
    }
    pair.report("what packages leave behind");
    assert!(asking.len() >= LEAST_ASKING, "only {} packages ask: {asking:?}", asking.len());
}

const TEMPLATES_OF_ALL_TYPES: &str = include_str!("../fixtures/all.templates");
const LINES: &str = include_str!("../fixtures/lines.txt");

/// A script that says lines and writes down what it hears, until nobody answers.
fn talking(lines: &str, status: u8) -> String {
    let mut script = String::from("#!/bin/sh\nexec 3>&1 1>&2\n");
    for line in lines.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        script.push_str("cat >&3 <<'END'\n");
        script.push_str(line);
        script.push_str("\nEND\nIFS= read -r heard || exit 9; printf '%s\\n' \"$heard\" >>/heard\n");
    }
    script.push_str(&format!("exit {status}\n"));
    script
}

#[test]
fn every_command() {
    let Some(debian) = debian() else { return };
    for international in [false, true] {
        let mut pair = Pair::new(&debian);
        if international {
            WRAPPING.iter().for_each(|package| drop(pair.unpack(package)));
        }
        let info = "var/lib/dpkg/info/all";
        pair.write(&format!("{info}.templates"), TEMPLATES_OF_ALL_TYPES, 0o644);
        pair.write(
            "extra.templates",
            "Template: all/extra\nType: string\nDefault: x\nDescription: Extra\n",
            0o644,
        );
        pair.write("bad.templates", "Template: all/good\nType: note\n\nType: note\n\n", 0o644);
        pair.write(&format!("{info}.config"), &talking("VERSION 2.0\nINPUT high all/select\nGO\n", 0), 0o755);
        let postinst = format!("/{info}.postinst");
        for (seen, priority) in [("true", None), ("false", Some("critical")), ("true", Some("low"))] {
            pair.environment.insert("DEBCONF_NONINTERACTIVE_SEEN".into(), seen.into());
            priority.map(|value: &str| pair.environment.insert("DEBIAN_PRIORITY".into(), value.into()));
            pair.write(&postinst[1..], &talking(LINES, 0), 0o755);
            pair.call(&[&postinst, "configure", ""]);
            pair.write(&postinst[1..], &talking("GET all/string\n", 7), 0o755);
            pair.call(&["--", &postinst, "configure", "1.0"]);
        }
        // What fails: the script that configures, in the middle, and one that says what nothing can be made of.
        pair.write(&format!("{info}.config"), &talking("SET all/string lost\n", 5), 0o755);
        pair.call(&[&postinst, "configure", "1.0"]);
        pair.write(&format!("{info}.config"), &talking("SET all/string kept\n", 0), 0o755);
        pair.write(&postinst[1..], &talking("INPUT high all/title\n", 0), 0o755);
        pair.call(&[&postinst, "configure", "1.0"]);
        pair.write(&postinst[1..], &talking("PROGRESS STEP 1\n", 0), 0o755);
        pair.call(&[&postinst, "configure", "1.0"]);
        pair.write(&postinst[1..], "#!/bin/sh\necho STOP\nexit 3\n", 0o755);
        pair.call(&[&postinst, "configure", "1.0"]);
        pair.write(&postinst[1..], "#!/bin/sh\nprintf 'SET all/string the last line'\n", 0o755);
        pair.call(&[&postinst, "triggered", "x"]);
        pair.write("opt/tool", &talking("SET all/string tool\nGET tool/own\n", 0), 0o755);
        pair.write("opt/tool.templates", "Template: tool/own\nType: password\nDescription: Own\n", 0o644);
        pair.call(&["/opt/tool", "x"]);
        pair.write(&format!("{info}.postrm"), &talking("PURGE\n", 0), 0o755);
        pair.call(&[&format!("/{info}.postrm"), "purge"]);
        pair.report("every command");
    }
}
