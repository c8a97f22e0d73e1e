//! The image in use: the archive is restored as Proxmox restores it and booted as an unprivileged container.
//!
//! Everything a test makes lives in namespaces of its own (`world`): it needs root, LXC and nothing of the host.

#![allow(clippy::unwrap_used)]

mod application;
mod boot;
mod container;
mod jellyfin;
mod jellyfin_stand_in;
mod one_base;
mod pct;
mod proxy;
mod restore;
#[path = "../support/mod.rs"]
mod support;
mod torrent;
mod traefik;
mod transfer;
mod web;
mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};
use std::time::Duration;

use pct::Config;
use world::World;

/// What every test here needs; `None` when this machine has it not. Three tests boot containers at a time: mostly they wait.
fn prepared() -> Option<MutexGuard<'static, ()>> {
    static TURNS: [Mutex<()>; 3] = [Mutex::new(()), Mutex::new(()), Mutex::new(())];
    let root = rustix::process::geteuid().is_root();
    let ready = support::require("root", root)
        && support::require("LXC (package lxc)", world::has_program("lxc-start"))
        && support::require(
            "debian.common.conf (package lxc-templates)",
            Path::new("/usr/share/lxc/config/debian.common.conf").exists(),
        )
        && support::require("newuidmap (package uidmap)", world::has_program("newuidmap"))
        && support::require("ip (package iproute2)", world::has_program("ip"))
        && support::require("zstd (package zstd)", world::has_program("zstd"));
    ready.then(|| {
        loop {
            for turn in &TURNS {
                match turn.try_lock() {
                    Ok(guard) => return guard,
                    Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                    Err(TryLockError::WouldBlock) => {}
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    })
}

/// The image's archive, built from this project unless `BUILD_IMAGES_TEST_ARCHIVE` names one.
fn archive() -> &'static Path {
    static ARCHIVE: OnceLock<PathBuf> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        if let Some(path) = std::env::var_os("BUILD_IMAGES_TEST_ARCHIVE") {
            return PathBuf::from(path);
        }
        let project = env!("CARGO_MANIFEST_DIR");
        let output = Command::new(env!("CARGO_BIN_EXE_build-images"))
            .args(["--root", project, "qbittorrent"])
            .output()
            .unwrap();
        world::expect_success("build-images qbittorrent", &output);
        archive_in(&Path::new(project).join("result/qbittorrent"), 159)
    })
}

/// The newest archive of a container in a result's directory.
fn archive_in(result: &Path, vmid: u32) -> PathBuf {
    fs::read_dir(result)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&format!("vzdump-lxc-{vmid}-")) && name.ends_with(".tar.zst")
        })
        .max()
        .unwrap_or_else(|| panic!("no archive in {}", result.display()))
}

/// One of the site's own files, as a build writes them.
fn site_file(path: &str) -> String {
    let project = build_images::model::load(Path::new(env!("CARGO_MANIFEST_DIR")));
    let project = project.unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    let images: Vec<_> = project.images.keys().cloned().collect();
    let files = build_images::site::files(&project, &images);
    let file = files.into_iter().find(|file| file.path == path);
    file.unwrap_or_else(|| panic!("no file {path}")).contents
}

/// What `images/site.toml` says, as far as tests need it.
struct Site {
    domain: String,
    bridge: String,
    prefix: String,
    gateway: String,
    proxy: String,
}

impl Site {
    fn read() -> Site {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/site.toml");
        let site: toml::Table = world::read(&path).parse().unwrap();
        let network = |key: &str| site["network"][key].as_str().unwrap().to_owned();
        Site {
            domain: site["domain"].as_str().unwrap().to_owned(),
            bridge: network("bridge"),
            prefix: network("subnet").split_once('/').unwrap().1.to_owned(),
            gateway: network("gateway"),
            proxy: network("proxy"),
        }
    }
}

/// A node for containers of the site, with its bridge and the router and the proxy on it; and the archive's
/// configuration.
fn node() -> (World, Config) {
    node_for(archive())
}

/// The same for an archive that is not qBittorrent's.
fn node_for(archive: &Path) -> (World, Config) {
    let site = Site::read();
    let addresses = [&site.gateway, &site.proxy].map(|address| format!("{address}/{}", site.prefix));
    let world = World::new(&site.bridge, &addresses);
    let config = restore::embedded_configuration(&world, archive);
    (world, config)
}
