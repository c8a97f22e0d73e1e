//! The system's ssh: one connection a script, with the user's own configuration, agent and jump hosts.
//!
//! The script travels in the command, standard input stays free for data. Nothing is said about host keys or
//! authentication: both are the user's configuration. Only a lost connection is noticed sooner than by default.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::shell::quote;

/// Longest answer of a node that is read, in bytes.
const MAX_OUTPUT: u64 = 64 << 20;
/// Longest complaint of ssh that is kept, in bytes.
const MAX_COMPLAINT: u64 = 64 << 10;

/// How to reach a node.
#[derive(Debug, Clone)]
pub struct Ssh {
    /// The program: `ssh`, or what the user has in its place.
    pub program: PathBuf,
    /// The node as ssh takes it: `root@192.168.1.3`, or a name of the user's configuration.
    pub host: String,
}

/// A script did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// The program cannot be started.
    #[error("cannot run `{program}`: {source}")]
    Program {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// ssh gave up: no connection, no authentication, another host key, or a connection that broke.
    #[error("no connection to {host}: {said}")]
    Connection {
        /// The node.
        host: String,
        /// What ssh said.
        said: String,
    },
    /// The script failed on the node.
    #[error("on {host}, {doing} failed ({status}): {said}")]
    Script {
        /// The node.
        host: String,
        /// What it was for.
        doing: String,
        /// Exit status.
        status: i32,
        /// What it said.
        said: String,
    },
    /// The user interrupted.
    #[error("interrupted")]
    Interrupted,
}

impl Ssh {
    /// The words of the command that runs `script`, as they are passed on.
    pub fn words(&self, script: &str) -> Vec<String> {
        let remote = format!("exec sh -c {}", quote(script));
        let alive = ["-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3"];
        let alive = ["-T"].into_iter().chain(alive).map(str::to_owned);
        alive.chain(["--".to_owned(), self.host.clone(), remote]).collect()
    }

    /// Runs `script`, writes what `input` writes to its standard input, and hands each line of its output to `line`.
    ///
    /// # Errors
    /// See [`SshError`].
    pub fn run(
        &self,
        doing: &str,
        script: &str,
        input: impl FnOnce(&mut ChildStdin) -> io::Result<()> + Send,
        mut line: impl FnMut(&str),
        cancel: &AtomicBool,
    ) -> Result<(), SshError> {
        let program = |source| SshError::Program { program: self.program.display().to_string(), source };
        let mut child = Command::new(&self.program)
            .args(self.words(script))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(program)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut tail = String::new();
        let over = AtomicBool::new(false);
        let (finished, complaint) = std::thread::scope(|scope| {
            scope.spawn(move || {
                // A node that stopped reading says why by itself.
                if let Some(mut stdin) = stdin {
                    drop(input(&mut stdin).and_then(|()| stdin.flush()));
                }
            });
            let complaints =
                scope.spawn(move || stderr.map(|pipe| limited(pipe, MAX_COMPLAINT)).unwrap_or_default());
            let id = child.id();
            let watched = &over;
            scope.spawn(move || {
                while !watched.load(Ordering::Relaxed) {
                    if cancel.load(Ordering::Relaxed) {
                        let id = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
                        if let Some(id) = id {
                            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
                        }
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
            if let Some(stdout) = stdout {
                for read in BufReader::new(stdout.take(MAX_OUTPUT)).split(b'\n') {
                    let Ok(bytes) = read else { break };
                    let text = String::from_utf8_lossy(&bytes);
                    line(&text);
                    if !text.starts_with("@ ") {
                        tail = text.into_owned();
                    }
                }
            }
            let finished = child.wait();
            over.store(true, Ordering::Relaxed);
            (finished, complaints.join().unwrap_or_default())
        });
        if cancel.load(Ordering::Relaxed) {
            return Err(SshError::Interrupted);
        }
        let status = finished.map_err(program)?;
        let said = if complaint.trim().is_empty() { tail } else { complaint.trim().to_owned() };
        match status.code() {
            Some(0) => Ok(()),
            // What ssh itself says; a script of ours never ends so.
            Some(255) | None => Err(SshError::Connection { host: self.host.clone(), said }),
            Some(status) => {
                Err(SshError::Script { host: self.host.clone(), doing: doing.to_owned(), status, said })
            }
        }
    }

    /// Runs `script` and gives its output.
    ///
    /// # Errors
    /// See [`SshError`].
    pub fn ask(&self, doing: &str, script: &str, cancel: &AtomicBool) -> Result<String, SshError> {
        let mut text = String::new();
        self.run(doing, script, |_| Ok(()), |line| text.extend([line, "\n"]), cancel)?;
        Ok(text)
    }
}

fn limited(pipe: impl Read, most: u64) -> String {
    let mut bytes = Vec::new();
    let mut pipe = pipe.take(most);
    drop(pipe.read_to_end(&mut bytes));
    // Whoever writes more must not wait for us.
    drop(io::copy(&mut pipe.into_inner(), &mut io::sink()));
    String::from_utf8_lossy(&bytes).into_owned()
}
