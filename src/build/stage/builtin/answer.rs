//! What is asked of a builtin and what it answers.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream;

use crate::build::stage::failure::Failure;

/// One call of a program by a maintainer script.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::build::stage) struct Call {
    /// The name under which the program was called, without directories.
    pub program: String,
    /// Its arguments, without its name. A call with one that is not UTF-8 never gets here.
    pub arguments: Vec<String>,
    /// Its environment. Variables that are not UTF-8 are left out.
    pub environment: BTreeMap<String, String>,
    /// Its working directory, absolute, as the image sees it.
    pub directory: String,
}

impl Call {
    /// The arguments as borrowed strings, to match on.
    pub fn words(&self) -> Vec<&str> {
        self.arguments.iter().map(String::as_str).collect()
    }

    /// The value of a variable; unset is empty.
    pub fn variable(&self, name: &str) -> &str {
        self.environment.get(name).map_or("", String::as_str)
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::build::stage) enum Answer {
    /// The image's own program is to run. Nothing has happened yet.
    Decline,
    /// It is done.
    Done(Output),
}

/// What the caller sees of a program that is done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::build::stage) struct Output {
    /// The exit status.
    pub status: u8,
    /// What goes to standard output.
    pub stdout: Vec<u8>,
    /// What goes to standard error.
    pub stderr: Vec<u8>,
}

impl Answer {
    /// Success without a word.
    pub fn success() -> Self {
        Self::Done(Output::default())
    }

    /// An exit status without a word.
    pub fn status(status: u8) -> Self {
        Self::Done(Output { status, ..Output::default() })
    }

    /// An effect that could not be finished: the caller is told why and fails.
    pub fn failed(call: &Call, failure: &Failure) -> Self {
        let stderr = format!("{}: {failure}\n", call.program).into_bytes();
        Self::Done(Output { status: 1, stdout: Vec::new(), stderr })
    }
}

/// The process that made the call, for builtins that start programs in its place.
pub(in crate::build::stage) trait Peer {
    /// Lets the caller start a program as its child, with the caller's environment and `environment` on top, standard
    /// input and output both connected to the returned stream, standard error as the caller's.
    ///
    /// # Errors
    /// When it cannot be started. One program at a time.
    fn start(
        &mut self,
        program: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> io::Result<UnixStream>;

    /// Waits for the program's end: its exit status, or 128 and the number of the signal.
    ///
    /// # Errors
    /// When nothing was started or the caller went away.
    fn wait(&mut self) -> io::Result<u8>;

    /// Writes to the caller's standard output (1) or standard error (2) right away, before the end.
    ///
    /// # Errors
    /// When the caller went away.
    fn write(&mut self, descriptor: u8, bytes: &[u8]) -> io::Result<()>;
}
