//! The rules of Proxmox for archives, on the real one, read with GNU tar and zstd.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use crate::world::{Member, Tar, shipped};

/// What can stand in a tar that Proxmox restores without losing or refusing it.
const ALLOWED_TYPES: [u8; 5] = *b"-dhlp";

fn text(command: &mut Command) -> (String, String) {
    let output = command.env("LC_ALL", "C").output().unwrap();
    let [out, error] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{error}");
    (out, error)
}

fn name(member: &Member) -> &str {
    member.name.trim_end_matches('/')
}

#[test]
fn proxmox_finds_the_configuration_first_and_by_its_name() {
    let Some(shipped) = shipped() else { return };
    // `tar tf ARCHIVE` without an option finds out the compression; the first line that matches is taken.
    let (list, _) = text(Command::new("tar").arg("tf").arg(&shipped.archive));
    assert_eq!(list.lines().next(), Some("./etc/vzdump/pct.conf"));
    let mut tar = Command::new("tar");
    let (inside, _) =
        text(tar.arg("-xpOf").arg(&shipped.archive).args(["./etc/vzdump/pct.conf", "--occurrence"]));
    let result = shipped.archive.parent().unwrap();
    assert_eq!(inside, fs::read_to_string(result.join("159.conf")).unwrap());
    // A snapshot, or a configuration of a firewall, would be kept.
    assert!(!list.lines().any(|line| line.ends_with("/pct.fw")));
    let file = shipped.archive.file_name().unwrap().to_str().unwrap();
    let digits = |text: &str, pattern: &str| {
        text.len() == pattern.len()
            && text
                .chars()
                .zip(pattern.chars())
                .all(|(c, p)| if p == '0' { c.is_ascii_digit() } else { c == p })
    };
    let date = file.strip_prefix("vzdump-lxc-159-").and_then(|rest| rest.strip_suffix(".tar.zst")).unwrap();
    assert!(digits(date, "0000_00_00-00_00_00"), "{file}");
}

#[test]
fn names_order_and_types_are_what_proxmox_can_restore() {
    let Some(shipped) = shipped() else { return };
    let members = Tar::of(&shipped.archive).list();
    assert!(members.len() > 5000, "{}", members.len());
    let mut seen: BTreeMap<&str, &Member> = BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        let Member { mode, owner, name: full, target } = member;
        let path = name(member);
        assert!(full == "./" || full.starts_with("./"), "`{full}` does not begin with `./`");
        assert!(!path.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")), "{full}");
        assert!(ALLOWED_TYPES.contains(&mode.as_bytes()[0]), "{member:?}");
        assert_eq!(mode.starts_with('d'), full.ends_with('/'), "{member:?}");
        assert!(!full.starts_with("./dev/") || full == "./dev/", "{full} is below /dev");
        for id in owner.split('/') {
            assert!(id.parse::<u32>().unwrap() <= 65_535, "{member:?}");
        }
        // Only the configuration comes before its directories.
        if let Some((parent, _)) = path.rsplit_once('/').filter(|_| index != 0) {
            let parent = seen.get(parent).unwrap_or_else(|| panic!("`{full}` comes before its directory"));
            assert!(parent.mode.starts_with('d'), "`{full}` is below something else");
        }
        if mode.starts_with('h') {
            let target = seen.get(target.as_deref().unwrap()).unwrap_or_else(|| panic!("{member:?}"));
            assert!(target.mode.starts_with('-'), "{member:?}");
        }
        assert!(seen.insert(path, member).is_none(), "`{full}` is there twice");
    }
    assert_eq!(members[1].name, "./");
    // These exist before their entries come, so that nothing else would be applied.
    for directory in [".", "./etc"] {
        assert_eq!(seen[directory].access(), "drwxr-xr-x 0/0", "{directory}");
    }
    // Without these, a container does not start or the test sees nothing of interest.
    assert_eq!(seen["./bin"].target.as_deref(), Some("usr/bin"));
    assert_eq!(seen["./usr/bin/passwd"].mode, "-rwsr-xr-x");
    assert_eq!(seen["./srv/downloads"].access(), "drwxrwsr-x 959/950");
    assert!(members.iter().any(|member| member.mode.starts_with('h')));
}

#[test]
fn only_xattrs_that_proxmox_restores_are_there() {
    let Some(shipped) = shipped() else { return };
    let tar = Tar::of(&shipped.archive);
    let mut archive = tar::Archive::new(fs::File::open(tar.file.path()).unwrap());
    let (mut keys, mut capabilities) = (BTreeSet::new(), BTreeMap::new());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        for record in entry.pax_extensions().unwrap().into_iter().flatten() {
            let record = record.unwrap();
            let key = record.key().unwrap().to_owned();
            if key == "SCHILY.xattr.security.capability" {
                capabilities.insert(name.clone(), record.value_bytes().to_vec());
            }
            keys.insert(key);
        }
    }
    for key in keys {
        let plain = ["path", "linkpath", "mtime", "size"].contains(&key.as_str());
        let kept = ["SCHILY.xattr.user.", "SCHILY.xattr.security.capability", "SCHILY.acl."];
        assert!(plain || kept.iter().any(|kept| key.starts_with(kept)), "{key}");
    }
    assert!(capabilities.values().all(|value| value.len() == 20 && value[3] == 2), "{capabilities:?}");
}

#[test]
fn zstd_reads_it_with_the_memory_that_proxmox_gives() {
    let Some(shipped) = shipped() else { return };
    // `-M` is the most that zstd allows by itself, which is what tar starts.
    text(Command::new("zstd").args(["-t", "-M128MiB"]).arg(&shipped.archive));
    let (listed, _) = text(Command::new("zstd").arg("-lv").arg(&shipped.archive));
    let window = listed.lines().find_map(|line| line.strip_prefix("Window Size: ")).unwrap();
    let bytes = window.split_once('(').unwrap().1.split(' ').next().unwrap().parse::<u64>().unwrap();
    assert!(bytes <= 128 << 20, "{listed}");
    // That tells of one frame; here is each.
    for (at, window) in windows(&shipped.archive) {
        assert!(window <= 128 << 20, "the frame at {at} needs a window of {window} bytes");
    }
}

/// Offset and window of every frame, by RFC 8878.
fn windows(archive: &Path) -> Vec<(usize, u64)> {
    let mut bytes = Vec::new();
    fs::File::open(archive).unwrap().read_to_end(&mut bytes).unwrap();
    let (mut at, mut windows) = (0, Vec::new());
    while at < bytes.len() {
        let frame = &bytes[at..];
        let magic = u32::from_le_bytes(frame[..4].try_into().unwrap());
        if magic == 0xfd2f_b528 {
            let descriptor = frame[4];
            let single = descriptor & 0x20 != 0;
            let window = if single {
                let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
                let size = [1, 2, 4, 8][usize::from(descriptor >> 6)];
                let mut field = [0; 8];
                field[..size].copy_from_slice(&frame[5 + dictionary..][..size]);
                u64::from_le_bytes(field) + if size == 2 { 256 } else { 0 }
            } else {
                let base = 1 << (10 + (frame[5] >> 3));
                base + base / 8 * u64::from(frame[5] & 7)
            };
            windows.push((at, window));
        } else {
            assert_eq!(magic & 0xffff_fff0, 0x184d_2a50, "at {at} there is neither a frame nor one to skip");
        }
        at += zstd::zstd_safe::find_frame_compressed_size(frame).unwrap();
    }
    assert!(windows.len() > 10, "{}", windows.len());
    windows
}

#[test]
fn proxmox_command_line_restores_it() {
    let Some(shipped) = shipped() else { return };
    let root = tempfile::tempdir().unwrap();
    // As Proxmox calls it, but for the user namespace.
    let mut tar = Command::new("tar");
    tar.args([
        "xpf",
        "-",
        "--zstd",
        "--totals",
        "--one-file-system",
        "-p",
        "--sparse",
        "--numeric-owner",
        "--acls",
    ])
    .args(["--xattrs", "--xattrs-include=user.*", "--xattrs-include=security.capability"])
    .args(["--warning=no-file-ignored", "--warning=no-xattr-write", "-C"])
    .arg(root.path())
    .args(["--skip-old-files", "--anchored", "--exclude", "./dev/*"])
    .stdin(fs::File::open(&shipped.archive).unwrap());
    let (_, said) = text(&mut tar);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("Total bytes read: "), "{said}");
    let found =
        text(Command::new("find").arg(root.path()).arg("-mindepth").arg("1").args(["-printf", "%P\\n"])).0;
    let found: BTreeSet<_> = found.lines().collect();
    let members = Tar::of(&shipped.archive).list();
    let expected: BTreeSet<_> =
        members.iter().map(|member| name(member).trim_start_matches('.').trim_start_matches('/')).collect();
    let missing: Vec<_> = expected.difference(&found).filter(|name| !name.is_empty()).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // `pct create` leaves the configuration in the image; a unit or rule has to remove it at the first boot.
    let rules = text(
        Command::new("grep")
            .args(["-rl", "vzdump"])
            .arg(root.path().join("usr/lib/tmpfiles.d"))
            .arg(root.path().join("etc/tmpfiles.d")),
    );
    assert!(!rules.0.is_empty());
}
