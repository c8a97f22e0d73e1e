//! Measures size and time over levels, frame sizes and windows, for docs/compression.md.
//!
//! ```text
//! mmdebstrap … trixie tree.tar
//! BUILD_IMAGES_TEST_TAR=tree.tar cargo test --release --test archive -- --ignored --nocapture curve
//! ```

#![allow(clippy::print_stdout, reason = "the tables are the result")]

use std::process::Command;

use build_images::archive::Parameters;

use crate::support::{Sample, store};

/// Seconds of processor time that this process (or its children that ended) used; wall time says little on a shared
/// machine.
fn processor_seconds(children: bool) -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let first = if children { 13 } else { 11 };
    fields[first..first + 2].iter().map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

#[test]
#[ignore = "measures for minutes; needs BUILD_IMAGES_TEST_TAR"]
fn curve() {
    let path = std::env::var_os("BUILD_IMAGES_TEST_TAR").expect("BUILD_IMAGES_TEST_TAR names a tar");
    let sample = Sample::from_tar(std::io::BufReader::new(std::fs::File::open(&path).unwrap()));
    let threads = std::env::var("BUILD_IMAGES_TEST_THREADS").map_or(1, |text| text.parse().unwrap());
    let levels = std::env::var("BUILD_IMAGES_TEST_LEVELS").unwrap_or_else(|_| "3 6 9 12".into());
    println!(
        "| level | window | largest frame | frames | bytes | to one `zstd -LEVEL` | seconds | to `zstd -T1` |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for level in levels.split_whitespace().map(|text| text.parse::<i32>().unwrap()) {
        let start = processor_seconds(true);
        let out =
            Command::new("zstd").args(["-q", "-c", "-T1", &format!("-{level}")]).arg(&path).output().unwrap();
        let (one, one_seconds) = (out.stdout.len(), processor_seconds(true) - start);
        println!("| {level} | one stream | | 1 | {one} | | {one_seconds:.1} | |");
        let points =
            std::env::var("BUILD_IMAGES_TEST_POINTS").unwrap_or_else(|_| "22/6 25/4 25/6 25/8 25/12".into());
        for (window, mib) in points.split_whitespace().map(|point| point.split_once('/').unwrap()) {
            let (window_log, mib): (u32, u64) = (window.parse().unwrap(), mib.parse().unwrap());
            let parameters = Parameters {
                level,
                window_log,
                max_frame: mib << 20,
                min_frame: Parameters::default().min_frame,
            };
            let (_directory, store) = store();
            let start = processor_seconds(false);
            let (summary, bytes) = sample.write(&store, &parameters, threads).unwrap();
            let seconds = processor_seconds(false) - start;
            println!(
                "| {level} | {window_log} | {mib} MiB | {} | {} | {:+.2} % | {seconds:.1} | {:.2} |",
                summary.table.frames.len(),
                bytes.len(),
                100.0 * (bytes.len() as f64 / one as f64 - 1.0),
                seconds / one_seconds,
            );
            let start = processor_seconds(false);
            let (again, _) = sample.write(&store, &parameters, threads).unwrap();
            assert_eq!(again.compressed, 0);
            println!("<!-- again, all frames from the store: {:.3} s -->", processor_seconds(false) - start);
        }
    }
}

/// What an update of one package costs: all its files change a little, so do dpkg's status and the linker's cache.
#[test]
#[ignore = "measures for minutes; needs BUILD_IMAGES_TEST_TAR"]
fn updates() {
    let path = std::env::var_os("BUILD_IMAGES_TEST_TAR").expect("BUILD_IMAGES_TEST_TAR names a tar");
    let before = Sample::from_tar(std::io::BufReader::new(std::fs::File::open(&path).unwrap()));
    let parameters = Parameters::default();
    let (_directory, store) = store();
    let (first, bytes) = before.write(&store, &parameters, 2).unwrap();
    let known: std::collections::BTreeSet<_> = first.table.frames.iter().map(|frame| frame.sha256).collect();
    println!("| change | frames | bytes | own bytes | beyond those, of the image | seconds | wall |");
    println!("|---|---|---|---|---|---|---|");
    let packages =
        "libssl3t64 libc6 systemd openssh-server tzdata libpam-modules gpgv sudo libxml2 qbittorrent-nox";
    for package in packages.split_whitespace().chain(["/etc/hosts", "/etc/passwd"]) {
        let mut after = before.clone();
        let lists = ["", ":amd64"].map(|suffix| format!("var/lib/dpkg/info/{package}{suffix}.list"));
        let list =
            lists.iter().find_map(|list| before.tree.get(&build_images::tree::TreePath::new(list).ok()?));
        let mut names: Vec<String> = match list {
            Some(node) => {
                let text = &before.contents[&node.content().unwrap().sha256];
                String::from_utf8_lossy(text).lines().skip(1).map(str::to_owned).collect()
            }
            None if package.starts_with('/') => vec![package.to_owned()],
            None => continue,
        };
        let own: Vec<_> = names.clone();
        if !package.starts_with('/') {
            names.extend(["/var/lib/dpkg/status", "/etc/ld.so.cache"].map(str::to_owned));
        }
        let mut own_bytes = Vec::new();
        for name in &names {
            let path = build_images::tree::TreePath::new(name).unwrap();
            let Some(mut node) = after.tree.get(&path).cloned() else { continue };
            let Some(content) = node.content().copied() else { continue };
            let mut bytes = before.contents[&content.sha256].clone();
            if own.contains(name) {
                own_bytes.extend_from_slice(&bytes);
            }
            bytes.extend_from_slice(b"changed");
            let content = build_images::tree::Content::of(&bytes);
            after.contents.insert(content.sha256, bytes);
            node.kind = build_images::tree::Kind::File { content };
            node.mtime += 1000;
            after.tree.insert(path, node);
        }
        let own_size = zstd::bulk::compress(&own_bytes, parameters.level).unwrap().len();
        let start = (processor_seconds(false), std::time::Instant::now());
        let (second, _) = after.write(&store, &parameters, 2).unwrap();
        let (seconds, wall) = (processor_seconds(false) - start.0, start.1.elapsed().as_secs_f64());
        let changed: Vec<_> =
            second.table.frames.iter().filter(|frame| !known.contains(&frame.sha256)).collect();
        let size: u64 = changed.iter().map(|frame| frame.size).sum();
        let beyond = 100.0 * (size as f64 - own_size as f64) / bytes.len() as f64;
        println!(
            "| `{package}` | {} | {size} | {own_size} | {beyond:.2} % | {seconds:.2} | {wall:.2} |",
            changed.len()
        );
    }
}
