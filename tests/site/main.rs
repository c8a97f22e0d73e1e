//! The site's own files: as they are for the images of this project, and in use, as far as that needs no container
//! (`tests/boot` has the rest).

#![allow(clippy::unwrap_used, missing_docs)]

mod backup;
mod lint;
mod proxy;
mod schema;
mod shipped;
mod storage;
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "made for containers, which are not needed here")]
#[path = "../boot/traefik.rs"]
mod traefik;
mod verify;
#[allow(dead_code, reason = "made for containers, which are not needed here")]
#[path = "../boot/world.rs"]
mod world;
mod written;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use build_images::model::{self, Project};
use build_images::site::{self, SiteFile};

/// This project.
fn project() -> Project {
    model::load(Path::new(env!("CARGO_MANIFEST_DIR")))
        .unwrap_or_else(|problems| panic!("{}", problems.render(false)))
}

/// The site's files for all images of `project`.
fn files(project: &Project) -> Vec<SiteFile> {
    let images: Vec<_> = project.images.keys().cloned().collect();
    site::files(project, &images)
}

/// Writes `project`'s files to a directory of their own.
fn written(project: &Project) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    build_images::artifact::SiteDirectory::new(directory.path()).put(&files(project)).unwrap();
    directory
}

/// What a command wrote to both outputs, and its exit code.
fn outcome(output: &Output) -> (Option<i32>, String) {
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

/// Runs a script of the site's.
fn run(directory: &tempfile::TempDir, script: &str, arguments: &[&str]) -> (Option<i32>, String) {
    outcome(&Command::new(script_path(directory, script)).args(arguments).output().unwrap())
}

fn script_path(directory: &tempfile::TempDir, script: &str) -> PathBuf {
    directory.path().join("site").join(script)
}
