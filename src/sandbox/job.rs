//! One program to run in the root, and what can come of it.

use std::io;
use std::time::Duration;

use super::Calls;

/// A program to run in the root directory, and what it may use.
#[derive(Debug, Clone)]
pub struct Job<'a> {
    /// Its path inside the root.
    pub program: &'a str,
    /// Its arguments, without its name.
    pub args: &'a [&'a str],
    /// Its whole environment.
    pub env: &'a [(&'a str, &'a str)],
    /// The directory inside the root that it starts in.
    pub cwd: &'a str,
    /// How long it may take, by the wall's clock.
    pub timeout: Duration,
    /// How many processes and threads there may be at once.
    pub max_processes: u64,
    /// How many bytes of memory all of them together may use; also what each one alone may map for writing.
    pub memory: u64,
    /// How many bytes it may write to standard output and error together.
    pub max_output: u64,
    /// How large a file may become, in bytes.
    pub max_file: u64,
    /// Whether it stays on the processor where it begins, and sees no other.
    pub one_processor: bool,
    /// Calls of its programs that this process answers.
    pub calls: Option<Calls<'a>>,
}

impl Default for Job<'_> {
    /// No program, in `/`, with limits that suit a maintainer script: ten minutes, 512 processes, 2 GiB of memory,
    /// 16 MiB of output, files of 4 GiB, any processor.
    fn default() -> Self {
        Self {
            program: "",
            args: &[],
            env: &[],
            cwd: "/",
            timeout: Duration::from_secs(600),
            max_processes: 512,
            memory: 2 << 30,
            max_output: 16 << 20,
            max_file: 4 << 30,
            one_processor: false,
            calls: None,
        }
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit status {code}"),
            Self::Killed(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// A program ended by itself and left nothing behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// The last 20 lines that it wrote, made harmless for a terminal.
    pub tail: Vec<String>,
}

impl Outcome {
    /// Whether the program says that it did its work.
    pub fn success(&self) -> bool {
        self.status == Status::Exited(0)
    }
}

/// A program could not be run, or had to be ended. Nothing of it runs any more.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The sandbox could not be set up around it, or the program does not start.
    #[error("cannot {step} for `{program}`: {source}{advice}")]
    Setup {
        /// What was tried.
        step: &'static str,
        /// The program.
        program: String,
        /// Why it failed.
        source: io::Error,
        /// What to change on the host, beginning with `; `, or nothing.
        advice: String,
    },
    /// It took too long.
    #[error("`{program}` did not end within {seconds} s")]
    TimedOut {
        /// The program.
        program: String,
        /// Its limit.
        seconds: u64,
        /// The last lines that it wrote.
        tail: Vec<String>,
    },
    /// Its processes used too much memory together.
    #[error("`{program}` used more than {limit} bytes of memory")]
    Memory {
        /// The program.
        program: String,
        /// Its limit.
        limit: u64,
        /// The last lines that it wrote.
        tail: Vec<String>,
    },
    /// It left too little free space on the disk that holds the root.
    #[error("`{program}` left less than {limit} bytes free on the file system of the scratch directory")]
    Disk {
        /// The program.
        program: String,
        /// What has to stay free.
        limit: u64,
        /// The last lines that it wrote.
        tail: Vec<String>,
    },
    /// It wrote too much to standard output and error.
    #[error("`{program}` wrote more than {limit} bytes to standard output and error")]
    Output {
        /// The program.
        program: String,
        /// Its limit.
        limit: u64,
        /// The last lines that it wrote.
        tail: Vec<String>,
    },
    /// It ended and left processes running.
    #[error("`{program}` ended with {status} and left a process running: {}", commands(.left))]
    LeftBehind {
        /// The program.
        program: String,
        /// How it ended.
        status: Status,
        /// What it left.
        left: Vec<LeftProcess>,
        /// The last lines that it wrote.
        tail: Vec<String>,
    },
}

/// A process that outlived its job, before it was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftProcess {
    /// Its command line.
    pub command: String,
    /// What it found in its environment, unless it changed that: `NAME=value`.
    pub environment: Vec<String>,
}

impl LeftProcess {
    /// The value of a variable of its environment.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find_map(|variable| variable.strip_prefix(name)?.strip_prefix('='))
    }
}

fn commands(left: &[LeftProcess]) -> String {
    left.iter().map(|process| process.command.as_str()).collect::<Vec<_>>().join(", ")
}

impl JobError {
    /// The last lines that the program wrote, if it ran.
    pub fn tail(&self) -> &[String] {
        match self {
            Self::Setup { .. } => &[],
            Self::TimedOut { tail, .. }
            | Self::Memory { tail, .. }
            | Self::Disk { tail, .. }
            | Self::Output { tail, .. }
            | Self::LeftBehind { tail, .. } => tail,
        }
    }
}
