//! What people get wrong, and what they are told: every message of the model as a snapshot.
//!
//! Each case is an edit or two to the project in `base/`. After a change of words:
//! `INSTA_UPDATE=always cargo test --test wrong_input`, then read the diff as somebody who made that mistake.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare its project must fail")]

mod archives;
mod cases;
mod handover;
mod offers;
mod valid;

use std::fs;
use std::path::{Path, PathBuf};

use build_images::model;

/// One change to the valid project.
pub enum Edit {
    /// Replaces the only occurrence of a text in a file.
    Replace(&'static str, &'static str, &'static str),
    /// Adds to the end of a file, which may be a new one.
    Append(&'static str, &'static str),
    /// Writes a file, with the bytes as they are.
    Write(&'static str, &'static [u8]),
    /// Writes a file of so many bytes.
    Large(&'static str, usize),
    /// Makes a symbolic link.
    Link(&'static str, &'static str),
    /// Takes away a file or directory.
    Remove(&'static str),
}

fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong_input/base")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The valid project with edits, in a directory of its own.
pub fn project(edits: &[Edit]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    copy(&base(), root.path());
    for edit in edits {
        apply(root.path(), edit);
    }
    root
}

fn apply(root: &Path, edit: &Edit) {
    let at = |path: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    match edit {
        Edit::Replace(path, old, new) => {
            let text = fs::read_to_string(at(path)).unwrap();
            assert_eq!(text.matches(old).count(), 1, "`{old}` in {path}");
            fs::write(at(path), text.replace(old, new)).unwrap();
        }
        Edit::Append(path, text) => {
            let old = fs::read_to_string(at(path)).unwrap_or_default();
            fs::write(at(path), old + text).unwrap();
        }
        Edit::Write(path, bytes) => fs::write(at(path), bytes).unwrap(),
        Edit::Large(path, size) => fs::write(at(path), vec![b'#'; *size]).unwrap(),
        Edit::Link(path, target) => {
            let _ = fs::remove_file(at(path));
            std::os::unix::fs::symlink(target, at(path)).unwrap();
        }
        Edit::Remove(path) => {
            let path = root.join(path);
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
    }
}

/// What is said about the valid project with edits, without colour.
pub fn said(edits: &[Edit]) -> String {
    let root = project(edits);
    match model::load(root.path()) {
        Ok(project) => format!("accepted\n\n{}", project.warnings.render(false)),
        Err(problems) => problems.render(false),
    }
}
