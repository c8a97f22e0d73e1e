//! How programs of the image are started: always the same environment, always in the sandbox.

use super::failure::Failure;

/// A program of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    /// Absolute path in the image.
    pub program: String,
    pub arguments: Vec<String>,
    /// On top of [`environment`].
    pub variables: Vec<(String, String)>,
    /// Longest time it may take.
    pub seconds: u64,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    /// Nothing when it succeeded, else a verb phrase: `returned exit status 1`.
    pub failed: Option<String>,
    /// Its last lines.
    pub tail: Vec<String>,
    /// The package and the script that started what was left running, by the environment that dpkg gave it.
    pub left_by: Option<(String, String)>,
}

/// Starts programs in the root.
pub(super) trait Scripts {
    /// Runs one to its end; `on_line` gets every line it writes.
    fn run(&mut self, command: &Command, on_line: &mut dyn FnMut(&str)) -> Result<Ended, Failure>;
}

/// What every program of the image finds in its environment.
///
/// `first` are directories that are searched for programs before the image's own.
pub(super) fn environment(epoch: i64, first: Option<&str>) -> Vec<(String, String)> {
    let epoch = epoch.to_string();
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let path = first.map_or_else(|| path.to_owned(), |first| format!("{first}:{path}"));
    let variables = [
        ("PATH", path.as_str()),
        ("HOME", "/root"),
        ("LC_ALL", "C.UTF-8"),
        ("TZ", "UTC"),
        ("TERM", "dumb"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        // Tools that write the time (shadow, systemd-sysusers) take this one.
        ("SOURCE_DATE_EPOCH", epoch.as_str()),
    ];
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

/// systemd-tmpfiles and systemctl refuse to work without /proc and still succeed; the image would be quietly wrong.
pub(super) const NO_PROC: &str = "/proc/ is not mounted";
