//! Packages that install in a moment and yet run real maintainer scripts under a real dpkg: this host's dpkg and shell
//! with the libraries they need, and little else.

use std::fs;
use std::process::Command;

use build_images::digest::Sha256;

use super::deb::{Compression, Deb};

/// Programs that dpkg wants to be there, whether it starts them or not.
const WANTED: [&str; 7] = [
    "/usr/bin/diff",
    "/usr/bin/dpkg-deb",
    "/usr/bin/dpkg-split",
    "/usr/bin/rm",
    "/usr/bin/tar",
    "/usr/sbin/ldconfig",
    "/usr/sbin/start-stop-daemon",
];

/// Text that looks like a program's: compressible, but not to nothing.
fn text(seed: &str, lines: usize) -> String {
    (0..lines).map(|line| format!("{seed} {line} {}\n", Sha256::of(format!("{seed}{line}")))).collect()
}

/// The packages; scripts of `app` and `extra` count to `count`. Nothing where this host has no dpkg or dash.
pub fn packages(count: u32) -> Option<Vec<Deb>> {
    let mut base = deb("base-files").field("Essential", "yes");
    for name in ["bin", "lib", "lib64", "sbin"] {
        base = base.link(&format!("/{name}"), &format!("usr/{name}"));
    }
    for name in ["dev", "proc", "sys", "tmp", "run", "usr/lib64", "var/lib", "var/log"] {
        base = base.directory(&format!("/{name}"), 0o755, (0, 0));
    }
    base = base
        .file("/etc/debian_version", "13.1\n")
        .file("/usr/lib/os-release", "ID=debian\n")
        .link("/etc/os-release", "../usr/lib/os-release")
        .file("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
        .file("/etc/group", "root:x:0:\n")
        .file_with("/etc/shadow", "root:*:20000:0:99999:7:::\n", 0o640, (0, 0))
        .file_with("/etc/gshadow", "root:*::\n", 0o640, (0, 0))
        .file("/usr/share/zoneinfo/Etc/UTC", "TZif2")
        .link("/usr/sbin/init", "/usr/bin/dash");
    let mut dpkg = deb("dpkg").field("Essential", "yes");
    for path in ["/usr/bin/dpkg", "/bin/dash"] {
        let name = path.rsplit('/').next()?;
        dpkg = dpkg.file_with(&format!("/usr/bin/{name}"), fs::read(path).ok()?, 0o755, (0, 0));
        let output = Command::new("ldd").arg(path).output().ok().filter(|output| output.status.success())?;
        for line in String::from_utf8(output.stdout).ok()?.lines() {
            let Some(library) = line.split_whitespace().find(|word| word.starts_with('/')) else { continue };
            let name = library.rsplit('/').next()?;
            let directory = if name.starts_with("ld-") { "lib64" } else { "lib/x86_64-linux-gnu" };
            let bytes = fs::read(library).ok()?;
            dpkg = dpkg.file_with(&format!("/usr/{directory}/{name}"), bytes, 0o755, (0, 0));
        }
    }
    dpkg = dpkg.link("/usr/bin/sh", "dash");
    for path in WANTED {
        dpkg = dpkg.link(path, "/usr/bin/dash");
    }
    Some(vec![
        base,
        dpkg,
        scripted("tool", 0),
        scripted("extra", count),
        scripted("engine", 0).control_file("triggers", "interest /usr/share/app\n"),
        scripted("app", count).field("Depends", "engine"),
    ])
}

fn deb(name: &str) -> Deb {
    Deb::new(name, "1").field("Priority", "optional").compression(Compression::Zstd)
}

/// A package with a file, a conffile and scripts; `postinst` counts to `count`, some 700,000 in a second.
pub fn scripted(name: &str, count: u32) -> Deb {
    scripted_with(name, &format!("i=0\nwhile [ $i -lt {count} ]; do i=$((i+1)); done\n"))
}

/// As [`scripted`], with `postinst` doing `more` at its end.
pub fn scripted_with(name: &str, more: &str) -> Deb {
    let script = |script: &str| {
        let more = if script == "postinst" { more } else { "" };
        format!("#!/bin/sh\nset -e\necho \"{script} $1\" >>/var/lib/{name}\necho {name}: {script}\n{more}")
    };
    deb(name)
        .script("preinst", &script("preinst"))
        .script("postinst", &script("postinst"))
        .file(&format!("/usr/share/{name}/text"), text(name, 2000))
        .conffile(&format!("/etc/{name}.conf"), format!("{name}\n"))
}

/// This host's `sleep`, for scripts that take time without taking a core.
pub fn sleep() -> Option<Deb> {
    Some(deb("sleep").file_with("/usr/bin/sleep", fs::read("/usr/bin/sleep").ok()?, 0o755, (0, 0)))
}
