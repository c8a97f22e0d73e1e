//! Runs what was planned, over ssh.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::facts::{self, Facts};
use super::plan::Planned;
use super::scripts;
use super::ssh::{Ssh, SshError};
use super::target::{Artifact, Target};
use super::upload::Upload;
use crate::progress::{Event, Over, Reporter, Unit};

const PROXY: &str = include_str!("node/proxy.pl");
/// How often a lost connection is made again, with twice the time between each.
const TRIES: u32 = 7;
/// Time before the first of these.
const PAUSE: Duration = Duration::from_millis(250);
/// Seconds in which a proxy finds out that what is behind it works again: more than two of the site's health checks.
const PROXY_PATIENCE: u32 = 12;
/// Lines of what a failed step said that are kept.
const SAID: usize = 12;

/// Why something that was planned was not done.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The connection.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// No random numbers.
    #[error(transparent)]
    Secret(super::secrets::SecretError),
    /// The archive did not arrive as it was sent.
    #[error(
        "the archive that the node put together is not the one that was sent, even when all of it was sent"
    )]
    Differs,
    /// Another deployment of the same container.
    #[error("another deployment of container {0} is under way on the node")]
    Busy(u32),
    /// One that was cut off has to be ended first.
    #[error("an earlier deployment of container {vmid} was cut off; end it first: {command}")]
    CutOff {
        /// The container.
        vmid: u32,
        /// The command.
        command: String,
    },
    /// A step failed, and the way back was gone.
    #[error("{step} failed{}; {before}", colon(.said))]
    Back {
        /// The step.
        step: String,
        /// What it said.
        said: String,
        /// What is so now.
        before: String,
    },
    /// A step failed, and so did the way back.
    #[error("{step} failed{}; the way back is not at its end: when the reason is gone, this ends it: {command}", colon(.said))]
    Stuck {
        /// The step.
        step: String,
        /// What it said.
        said: String,
        /// The command.
        command: String,
    },
    /// The connection was lost before anything began.
    #[error("the connection was lost before anything was begun on the node; nothing is changed")]
    NotBegun,
    /// Nobody knows how it ended.
    #[error(
        "the connection is lost ({reason}); the node goes on by itself, and goes back when a step fails. To see how it ended, and to go back if the node died: {command}"
    )]
    Unknown {
        /// Why.
        reason: String,
        /// The command.
        command: String,
    },
}

fn colon(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(":\n{said}\n") }
}

/// How it went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ending {
    /// Bytes of the archive that were sent.
    pub sent: u64,
    /// Time for which it did not work.
    pub downtime: Option<Duration>,
    /// Whether the application waits for somebody to set it up.
    pub needs_setup: bool,
    /// What deserves a look.
    pub warnings: Vec<String>,
}

/// Runs plans.
pub struct Runner<'a> {
    /// How to reach the node.
    pub ssh: Ssh,
    /// Who is told of progress.
    pub reporter: &'a dyn Reporter,
    /// Set when the user wants it to stop.
    pub cancel: &'a AtomicBool,
}

/// What a transaction said so far.
#[derive(Debug, Default)]
struct Log {
    result: Option<String>,
    failed: Option<String>,
    said: Vec<String>,
    handed_over: bool,
    ending: Ending,
}

impl Log {
    /// Takes a line; gives the step that begins with it.
    fn take(&mut self, line: &str) -> Option<String> {
        let Some(rest) = line.strip_prefix("@ ") else {
            // What the step that failed first said is what matters.
            if self.failed.is_none() && !line.trim().is_empty() {
                if self.said.len() == SAID {
                    self.said.remove(0);
                }
                self.said.push(line.chars().take(400).collect());
            }
            return None;
        };
        match rest.split_once(' ').unwrap_or((rest, "")) {
            ("begin", step) => {
                self.handed_over |= step == "secrets";
                if self.failed.is_none() {
                    self.said.clear();
                }
                return Some(step.to_owned());
            }
            ("fail", step) => self.failed = Some(step.to_owned()),
            ("result", result) => self.result = Some(result.to_owned()),
            ("downtime", time) => self.ending.downtime = time.parse().ok().map(Duration::from_millis),
            ("health", health) => self.ending.needs_setup = health == "needs-setup",
            ("warning", text) => self.ending.warnings.push(text.to_owned()),
            _ => {}
        }
        None
    }
}

/// A step as people read it.
fn doing(step: &str) -> String {
    let (back, step) = match step.strip_prefix("back-") {
        Some(step) => ("going back: ", step),
        None => ("", step),
    };
    let doing = match step {
        "check" => "checking the archives",
        "stop" => "stopping",
        "copy-state" => "copying the state",
        "put-state" => "putting the state back",
        "restore" => "restoring",
        "secrets" => "handing over secrets",
        "start" => "starting",
        "keys" => "handing over keys",
        "probe" => "waiting until it works",
        "destroy" => "removing the container",
        "tidy" => "freeing what is left over",
        other => other,
    };
    format!("{back}{doing}")
}

/// A word that no other deployment has.
fn nonce() -> Result<String, RunError> {
    super::secrets::password().map_err(RunError::Secret)
}

impl Runner<'_> {
    /// Asks the node for everything that `targets` need.
    ///
    /// # Errors
    /// No connection, or a node that cannot say.
    pub fn facts(&self, targets: &[Target]) -> Result<Facts, RunError> {
        let text = self.ssh.ask("looking at the node", &facts::script(targets), self.cancel)?;
        Ok(Facts::parse(&text))
    }

    /// Gets the archive to the node; gives the number of its bytes that were sent.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn upload(&self, target: &Target, artifact: &Artifact, upload: &Upload) -> Result<u64, RunError> {
        match self.upload_once(target, artifact, upload) {
            // Something that the node has is damaged. Everything is sent then.
            Err(RunError::Ssh(SshError::Script { status: 6, .. })) => {}
            done => return done.map(|()| upload.bytes),
        }
        let text = format!("{}: what the node kept is damaged; all of the archive is sent", target.image);
        self.reporter.report(Event::Warning(text));
        let all = Upload::new(target, artifact, &Facts::default(), false);
        match self.upload_once(target, artifact, &all) {
            Err(RunError::Ssh(SshError::Script { status: 6, .. })) => Err(RunError::Differs),
            done => done.map(|()| upload.bytes + all.bytes),
        }
    }

    fn upload_once(&self, target: &Target, artifact: &Artifact, upload: &Upload) -> Result<(), RunError> {
        let subject = &target.image;
        let action = "uploading".to_owned();
        self.reporter.report(Event::Stage {
            subject: subject.clone(),
            action,
            total: upload.bytes,
            unit: Unit::Bytes,
        });
        let _over = Over { reporter: self.reporter, subject };
        let sent = |done| {
            self.reporter.report(Event::Progress { subject: subject.clone(), done, item: String::new() });
        };
        let script = upload.script(target, artifact);
        let input = |stdin: &mut std::process::ChildStdin| upload.write(artifact, stdin, sent);
        match self.ssh.run("putting the archive together", &script, input, |_| {}, self.cancel) {
            Err(SshError::Script { status: 4, .. }) => Err(RunError::Busy(target.vmid)),
            done => Ok(done?),
        }
    }

    /// Runs a transaction to its end. `handed_over` says afterwards whether secrets may have reached the state.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn change(
        &self,
        target: &Target,
        planned: &Planned,
        files: &[(String, Vec<u8>)],
        handed_over: &mut bool,
    ) -> Result<Ending, RunError> {
        let payload = planned.transaction.payload(files);
        let mut log = Log::default();
        let nonce = nonce()?;
        let first = self.follow(target, &scripts::start(target, &nonce), Some(&payload), &mut log);
        let ended = self.ending(target, &nonce, first, &mut log);
        *handed_over = log.handed_over || matches!(ended, Err(RunError::Unknown { .. }));
        ended
    }

    /// Ends what was cut off, or waits for what still runs.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn recover(&self, target: &Target, running: bool) -> Result<Ending, RunError> {
        let nonce = if running { String::new() } else { nonce()? };
        let script = if running { scripts::follow(target, &nonce) } else { scripts::recover(target, &nonce) };
        let mut log = Log::default();
        let first = self.follow(target, &script, None, &mut log);
        self.ending(target, &nonce, first, &mut log)
    }

    fn follow(
        &self,
        target: &Target,
        script: &str,
        payload: Option<&[u8]>,
        log: &mut Log,
    ) -> Result<(), SshError> {
        let subject = &target.image;
        let _over = Over { reporter: self.reporter, subject };
        let line = |line: &str| {
            if let Some(step) = log.take(line) {
                let (action, unit) = (doing(&step), Unit::Bytes);
                self.reporter.report(Event::Stage { subject: subject.clone(), action, total: 0, unit });
            }
        };
        let input = |stdin: &mut std::process::ChildStdin| {
            std::io::Write::write_all(stdin, payload.unwrap_or_default())
        };
        self.ssh.run("deploying", script, input, line, self.cancel)
    }

    /// What the end of a transaction means; a connection that broke is made again to learn it.
    fn ending(
        &self,
        target: &Target,
        nonce: &str,
        mut last: Result<(), SshError>,
        log: &mut Log,
    ) -> Result<Ending, RunError> {
        let command = format!("build-images deploy --recover {}", target.image);
        let mut pause = PAUSE;
        let mut tries = 0;
        while log.result.is_none() {
            match last {
                Err(SshError::Interrupted) => {
                    let reason = "interrupted".to_owned();
                    return Err(RunError::Unknown { reason, command });
                }
                Err(SshError::Connection { .. }) | Ok(()) if tries < TRIES => {
                    std::thread::sleep(pause);
                    (pause, tries) = (pause * 2, tries + 1);
                    *log = Log::default();
                    last = self.follow(target, &scripts::follow(target, nonce), None, log);
                }
                Err(SshError::Connection { said, .. }) => {
                    return Err(RunError::Unknown { reason: said, command });
                }
                Err(error) => return Err(error.into()),
                Ok(()) => return Err(RunError::Unknown { reason: "no answer".to_owned(), command }),
            }
        }
        let result = log.result.take().unwrap_or_default();
        let said = log.said.join("\n");
        let step = log.failed.clone().map_or_else(|| "the deployment".to_owned(), |step| doing(&step));
        match result.split_once(' ').unwrap_or((&result, "")) {
            ("done" | "nothing", _) => Ok(log.ending.clone()),
            ("back", _) => {
                let before = "what was there before is there again, with its state".to_owned();
                Err(RunError::Back { step, said, before })
            }
            ("stuck", at) => {
                let step = if log.failed.is_none() { doing(at) } else { step };
                Err(RunError::Stuck { step, said, command })
            }
            ("not-begun" | "cut", _) => Err(RunError::NotBegun),
            ("busy", _) => Err(RunError::Busy(target.vmid)),
            ("interrupted", _) => Err(RunError::CutOff { vmid: target.vmid, command }),
            _ => Err(RunError::Unknown { reason: format!("the node said `{result}`"), command }),
        }
    }

    /// What the proxy answers for the image's name, over http or https; nothing when it does not answer.
    pub fn through_proxy(&self, target: &Target) -> Option<(u16, String)> {
        let path = target.services.first()?.probe.path.clone();
        let (proxy, patience) = (target.proxy.to_string(), PROXY_PATIENCE.to_string());
        let words = ["perl", "-e", PROXY, "--", &proxy, &target.domain, &path, &patience];
        let script = super::shell::command(words);
        let text = self.ssh.ask("asking the proxy", &script, self.cancel).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("@ proxy "))?;
        let (status, scheme) = line.split_once(' ')?;
        Some((status.parse().ok()?, scheme.to_owned()))
    }
}
