//! Progress on a terminal, and what an interrupt leaves of it.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::{program, repository, support};

/// Ended and waited for when the test ends, however it ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A copy of the project without its lock.
fn project(at: &Path) {
    for part in ["recipes", "images"] {
        let from = repository();
        for entry in walkdir::WalkDir::new(from.join(part)) {
            let entry = entry.unwrap();
            let to = at.join(entry.path().strip_prefix(&from).unwrap());
            match entry.file_type().is_dir() {
                true => std::fs::create_dir_all(to).unwrap(),
                false => drop(std::fs::copy(entry.path(), to).unwrap()),
            }
        }
    }
    std::fs::remove_file(at.join("images/images.lock")).unwrap();
    // Its archive has no mirror here.
    std::fs::remove_file(at.join("images/jellyfin.toml")).unwrap();
}

/// A mirror that takes connections and never answers, for as long as the test runs.
fn silent_mirror() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for connection in listener.incoming() {
            held.push(connection);
        }
    });
    uri
}

fn arriving(mut from: impl std::io::Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if send.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    receive
}

/// Adds to `seen` what arrives until it contains `wanted`, or until the end when that is empty.
fn until(arriving: &Receiver<Vec<u8>>, seen: &mut String, wanted: &str) {
    let end = Instant::now() + Duration::from_secs(30);
    while wanted.is_empty() || !seen.contains(wanted) {
        match arriving.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(bytes) => seen.push_str(&String::from_utf8_lossy(&bytes)),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) if wanted.is_empty() => return,
            Err(error) => panic!("{error} while waiting for `{wanted}`; seen:\n{seen}"),
        }
    }
}

#[test]
fn an_interrupt_clears_the_bars_and_shows_the_cursor() {
    let there = Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success());
    if !support::require("script (util-linux)", there) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    project(directory.path());
    let (root, store) = (directory.path().display(), directory.path().join("store"));
    let (mirror, own) = (silent_mirror(), env!("CARGO_BIN_EXE_build-images"));
    // A terminal that is exactly so wide, whatever the tests run in.
    let command = format!(
        "stty cols 60 rows 20; exec {own} --root {root} --store {} --mirror debian={mirror} \
         --mirror debian-security={mirror}",
        store.display()
    );
    let mut script = Command::new("script");
    script.args(["--quiet", "--flush", "--return", "--command", &command, "/dev/null"]);
    script.env("TERM", "xterm").env("SHELL", "/bin/sh").env_remove("NO_COLOR").env_remove("http_proxy");
    script.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = Ended(script.spawn().unwrap());
    let output = arriving(child.0.stdout.take().unwrap());
    let mut keys = child.0.stdin.take().unwrap();
    let mut seen = String::new();
    until(&output, &mut seen, "fetching indices");
    keys.write_all(b"\x03").unwrap();
    until(&output, &mut seen, "");
    let status = child.0.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{seen}");

    let said = "error";
    let (progress, rest) = seen.split_once(said).unwrap_or_else(|| panic!("no error in:\n{seen}"));
    assert!(rest.contains("interrupted; the next run goes on from here"), "{rest}");
    assert!(!rest.contains("fetching"), "bars after the last message:\n{seen}");
    // Bars are taken away before the message: the last thing written to their line clears it.
    let last = progress.trim_end_matches(['\r', '\n']).rsplit("\x1b[2K").next().unwrap_or_default();
    assert!(!last.contains("fetching"), "a bar is left in:\n{seen:?}");
    assert_eq!(seen.matches("\x1b[?25l").count(), seen.matches("\x1b[?25h").count(), "the cursor is hidden");
    assert!(std::fs::read_dir(store.join("tmp")).unwrap().next().is_none(), "half-made files are left");
    assert!(!directory.path().join("images/images.lock").exists());
}

#[test]
fn without_a_terminal_there_are_lines_and_with_quiet_nothing() {
    let directory = tempfile::tempdir().unwrap();
    project(directory.path());
    let (root, store) = (directory.path(), directory.path().join("store"));
    let mirror = silent_mirror();
    for quiet in [false, true] {
        let mut command = program(&["lock", "--root"]);
        command.arg(root).arg("--store").arg(&store);
        command.args([format!("--mirror=debian={mirror}"), format!("--mirror=debian-security={mirror}")]);
        command.args(quiet.then_some("--quiet")).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Ended(command.spawn().unwrap());
        let mut seen = String::new();
        let output = arriving(child.0.stderr.take().unwrap());
        if quiet {
            // Its store has been opened by then, and the signal is watched for.
            std::thread::sleep(Duration::from_secs(1));
        } else {
            until(&output, &mut seen, "fetching indices");
        }
        let id = rustix::process::Pid::from_child(&child.0);
        rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
        until(&output, &mut seen, "");
        assert_eq!(child.0.wait().unwrap().code(), Some(130), "{seen}");
        assert!(!seen.contains('\x1b') && !seen.contains('\r'), "{seen:?}");
        let mut results = String::new();
        child.0.stdout.take().unwrap().read_to_string(&mut results).unwrap();
        assert_eq!(results, "", "nothing was done");
        if quiet {
            assert_eq!(seen, "error: interrupted; the next run goes on from here\n");
        } else {
            insta::assert_snapshot!(seen, @r"
            images.lock: locking packages
            debian: fetching indices
            error: interrupted; the next run goes on from here
            ");
        }
    }
}
