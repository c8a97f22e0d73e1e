//! Packages that install in a moment and yet run real maintainer scripts under a real dpkg: this host's dpkg and shell
//! with the libraries they need, and little else.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use build_images::commands::verify_store;
use build_images::digest::Sha256;
use build_images::progress::Silent;
use build_images::sandbox::IdRange;
use build_images::store::Store;
use rustix::process::{Pid, Signal, kill_process};

use crate::project::{Project, Run};
use crate::support::repository::Served;
use crate::support::{require, small};

/// A locked project and what it was locked from.
pub type Quick = (Project, Served);
/// Names and hashes of a result's files.
pub type Hashes = Vec<(String, Sha256)>;

/// A locked project with the images `bare` (one layer) and `app` (another one on it), and what it was locked from; nothing
/// where that cannot be built.
pub fn quick() -> Option<Quick> {
    locked(0)
}

/// As [`quick`], but each layer's scripts count for about a second, which is time enough to stop a build among them.
pub fn slow() -> Option<Quick> {
    locked(700_000)
}

fn locked(count: u32) -> Option<Quick> {
    if !require("a range of subordinate ids", IdRange::discover().is_ok()) {
        return None;
    }
    let packages = small::packages(count);
    if !require("this host's own dpkg and shell", packages.is_some()) {
        return None;
    }
    let project = Project::new();
    let served = project.serve(packages?, 48);
    project.run(&served, &["lock"]).code(0);
    Some((project, served))
}

/// A place for builds of the quick project: its own store, results and scratch directory.
pub struct Corner {
    directory: tempfile::TempDir,
}

impl Corner {
    pub fn new() -> Self {
        Self { directory: tempfile::Builder::new().prefix("build-images-cli-").tempdir().unwrap() }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// The program with this place's store and results.
    pub fn command(&self, (project, served): &Quick, arguments: &[&str]) -> Command {
        let mut command = project.command(served, arguments);
        command.env("BUILD_IMAGES_STORE", self.store());
        command.arg("--result").arg(self.path("result")).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, quick: &Quick, arguments: &[&str]) -> Run {
        Run::of(self.command(quick, arguments).output().unwrap())
    }

    /// Names and hashes of the files of `image`.
    pub fn hashes(&self, image: &str) -> Hashes {
        crate::built::hashes(&self.path("result").join(image))
    }

    /// See [`damaged`].
    pub fn damaged(&self) -> Vec<String> {
        damaged(&self.store())
    }

    /// See [`temporary`].
    pub fn temporary(&self) -> Vec<String> {
        temporary(&self.store(), &self.path("result"), &self.path("scratch"))
    }
}

/// What a check of every byte of a store finds damaged.
pub fn damaged(store: &Path) -> Vec<String> {
    if !store.exists() {
        return Vec::new();
    }
    let no = AtomicBool::new(false);
    let found = verify_store(&Store::open(store).unwrap(), None, (1, false), &Silent, &no).unwrap();
    found.damaged.iter().map(|damaged| damaged.damage.to_string()).collect()
}

/// Temporary files and directories of a store, beside results, and in a scratch directory.
pub fn temporary(store: &Path, result: &Path, scratch: &Path) -> Vec<String> {
    let places = [
        (store.join("tmp"), ""),
        (store.join("running"), ""),
        (result.to_owned(), "."),
        (scratch.to_owned(), "scratch-"),
    ];
    let entries = places.iter().flat_map(|(place, prefix)| {
        let found = fs::read_dir(place).into_iter().flatten().map(|entry| entry.unwrap().path());
        found.filter(move |path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix))
    });
    entries.map(|path| path.display().to_string()).collect()
}

/// A running program whose progress is looked at line by line. It is killed when this is dropped.
pub struct Watched {
    child: Child,
    lines: Receiver<String>,
    /// Everything read so far.
    pub seen: String,
}

impl Watched {
    /// Starts `command`.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let err = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            // Whoever started it may have seen enough.
            err.lines().map(Result::unwrap).try_for_each(|line| sender.send(line)).ok();
        });
        Self { child, lines, seen: String::new() }
    }

    /// The next line; nothing at the end.
    pub fn next(&mut self) -> Option<&str> {
        match self.lines.recv_timeout(Duration::from_secs(300)) {
            Ok(line) => {
                let start = self.seen.len();
                self.seen += &line;
                self.seen.push('\n');
                Some(self.seen[start..].trim_end())
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("nothing comes after\n{}", self.seen),
        }
    }

    /// Reads on until a line contains `text`.
    pub fn reach(&mut self, text: &str) {
        loop {
            match self.next() {
                Some(line) if line.contains(text) => return,
                // It would wait for ever: whom it waits for has been stopped.
                Some(line) if line.contains(": waiting ") => panic!("`{line}` instead of `{text}`"),
                Some(_) => {}
                None => panic!("it ended without `{text}`:\n{}", self.seen),
            }
        }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, which: Signal) {
        kill_process(Pid::from_child(&self.child), which).unwrap();
    }

    /// How it ended, with all that it said.
    pub fn end(mut self) -> Run {
        while self.next().is_some() {}
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        Run { code, out, err: std::mem::take(&mut self.seen) }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // It may be stopped; a killed one is not stopped any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bounded numbers that are the same in every run (SplitMix64).
pub struct Seeded(pub u64);

impl Seeded {
    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
