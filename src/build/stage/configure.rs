//! Lets the image's own dpkg configure what was unpacked, and says which script failed when it does not.

use std::collections::VecDeque;

use super::database::ADMIN;
use super::failure::Failure;
use super::root::{Attributes, Root};
use super::scripts::{Command, Ended, NO_PROC, Scripts};
use crate::apt::control::stanzas;

/// Keeps scripts from starting services; they ask it through `invoke-rc.d`.
const POLICY: &str = "usr/sbin/policy-rc.d";

/// Starts dpkg with its status lines among its other output. dpkg closes the descriptor of status lines for scripts,
/// so it cannot be standard output itself.
const WITH_STATUS: &str = "exec dpkg \"$@\" 3>&1";
/// How many lines an error shows.
const TAIL_LINES: usize = 20;
/// dpkg writes its whole database after 250 changes.
const MAX_UPDATES: u32 = 1000;

/// What is going on inside dpkg, from its status lines.
#[derive(Debug, Default)]
struct Progress {
    /// The package whose script runs, and which script.
    current: Option<(String, &'static str)>,
    /// The package that dpkg named in its first error, and the script if it was one.
    failed: Option<(String, Option<&'static str>)>,
    no_proc: bool,
    /// The last lines that are meant for people; dpkg's status lines would push them out.
    tail: VecDeque<String>,
    /// The last line that dpkg began an error with, when the next one says what was wrong.
    error_of: Option<String>,
}

/// Runs `dpkg --configure` with `what` (package names, or `-a`). `on_configured` is called with the name of each
/// package that has just been configured.
pub(super) fn run(
    root: &Root,
    scripts: &mut dyn Scripts,
    what: Vec<String>,
    seconds: u64,
    on_configured: &mut dyn FnMut(&str),
) -> Result<(), Failure> {
    let own_policy = root.stat(POLICY.as_bytes())?.is_none();
    if own_policy {
        root.write(POLICY, b"#!/bin/sh\nexit 101\n", Attributes::of_root(0o755))?;
    }
    let arguments = ["-c", WITH_STATUS, "dpkg", "--force-unsafe-io", "--status-fd=3", "--configure"];
    let mut arguments = arguments.map(str::to_owned).to_vec();
    let shown = if what == ["-a"] { "dpkg --configure -a" } else { "dpkg --configure" };
    arguments.extend(what);
    let command = Command { program: "/bin/sh".into(), arguments, variables: Vec::new(), seconds };
    let mut progress = Progress::default();
    let ended = scripts.run(&command, &mut |line| {
        if let Some(package) = progress.line(line) {
            on_configured(package);
        }
    });
    root.forget();
    if own_policy {
        root.remove(POLICY)?;
    }
    let ended = ended?;
    let broken = if ended.failed.is_some() { half_configured(root)? } else { Vec::new() };
    progress.judge(ended, &broken, shown)
}

/// The packages whose scripts began and did not succeed, by dpkg's own notes. What it prints is not enough to name
/// one: scripts write to the same output.
fn half_configured(root: &Root) -> Result<Vec<String>, Failure> {
    let mut texts: Vec<String> = root.read_text(&format!("{ADMIN}/status"))?.into_iter().collect();
    // What changed since dpkg last wrote the whole database, when it did not come to do that.
    for number in 0..MAX_UPDATES {
        let Some(text) = root.read_text(&format!("{ADMIN}/updates/{number:04}"))? else { break };
        texts.push(text);
    }
    let mut broken = Vec::new();
    for stanza in texts.iter().flat_map(|text| stanzas(text)).filter_map(Result::ok) {
        let Some(name) = stanza.get("Package") else { continue };
        broken.retain(|known| known != name);
        if stanza.get("Status").is_some_and(|status| status.ends_with(" half-configured")) {
            broken.push(name.to_owned());
        }
    }
    Ok(broken)
}

impl Progress {
    /// Takes a line; gives the name of a package that is configured now.
    fn line<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        self.no_proc |= line.contains(NO_PROC);
        if !is_status(line) {
            if self.tail.len() == TAIL_LINES {
                self.tail.pop_front();
            }
            self.tail.push_back(line.to_owned());
        }
        if let Some(package) = line.strip_prefix("processing: configure: ") {
            self.current = Some((bare(package), "postinst"));
        } else if let Some(package) = line.strip_prefix("processing: trigproc: ") {
            self.current = Some((bare(package), "postinst triggered"));
        } else if let Some(rest) = line.strip_prefix("dpkg: error processing package ") {
            self.error_of = Some(bare(rest.split(' ').next().unwrap_or_default()));
        } else if let Some(package) = self.error_of.take() {
            let script = line.contains("script subprocess").then_some("postinst");
            self.failed.get_or_insert((package, script));
        } else if let Some(rest) = line.strip_prefix("status: ") {
            let mut parts = rest.rsplitn(2, ": ");
            if parts.next() == Some("installed") {
                return parts.next();
            }
        }
        None
    }

    /// `broken` are the packages that dpkg noted as half configured.
    fn judge(mut self, ended: Ended, broken: &[String], command: &str) -> Result<(), Failure> {
        let tail: Vec<String> = self.tail.into();
        if let Some(outcome) = ended.failed {
            if let Some((package, script)) = ended.left_by {
                return Err(Failure::Script { package, script, outcome, tail });
            }
            if let Some(first) = broken.first() {
                self.failed = self.failed.filter(|(package, _)| broken.contains(package));
                self.current = self.current.filter(|(package, _)| broken.contains(package));
                if self.failed.is_none() && self.current.is_none() {
                    self.current = Some((first.clone(), "postinst"));
                }
            }
            return Err(match (self.failed, self.current) {
                (Some((package, Some(script))), _) => {
                    Failure::Script { package, script: script.into(), outcome: "failed".into(), tail }
                }
                (None, Some((package, script))) => {
                    Failure::Script { package, script: script.into(), outcome, tail }
                }
                _ => Failure::Dpkg { command: command.to_owned(), outcome, tail },
            });
        }
        if self.no_proc {
            let outcome = format!("had scripts that found that {NO_PROC}");
            return Err(Failure::Dpkg { command: command.to_owned(), outcome, tail });
        }
        Ok(())
    }
}

/// A package's name without its architecture, and without the punctuation around it.
fn bare(package: &str) -> String {
    package.trim().split(':').next().unwrap_or_default().to_owned()
}

/// Whether dpkg wrote the line for programs, not for people.
fn is_status(line: &str) -> bool {
    line.starts_with("status: ") || line.starts_with("processing: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(lines: &[&str], failed: Option<&str>) -> Result<(), Failure> {
        let mut progress = Progress::default();
        for line in lines {
            progress.line(line);
        }
        let ended = Ended { failed: failed.map(str::to_owned), tail: Vec::new(), left_by: None };
        progress.judge(ended, &[], "dpkg --configure -a")
    }

    #[test]
    fn the_failing_package_and_script_are_named() {
        let lines = [
            "processing: configure: bad:amd64",
            "Setting up bad (1) ...",
            "status: bad: half-configured",
            "oh no",
            "dpkg: error processing package bad:amd64 (--configure):",
            " installed bad package post-installation script subprocess returned error exit status 3",
            "processing: configure: other",
        ];
        insta::assert_snapshot!(judged(&lines, Some("returned exit status 1")).unwrap_err(), @r"
        package `bad`: its `postinst` script failed; its last lines:
          Setting up bad (1) ...
          oh no
          dpkg: error processing package bad:amd64 (--configure):
           installed bad package post-installation script subprocess returned error exit status 3
        ");
        let error = judged(&lines[..4], Some("did not end within 5 s")).unwrap_err();
        insta::assert_snapshot!(error, @r"
        package `bad`: its `postinst` script did not end within 5 s; its last lines:
          Setting up bad (1) ...
          oh no
        ");
    }

    #[test]
    fn a_script_that_imitates_dpkg_is_named_itself() {
        let mut progress = Progress::default();
        for line in [
            "processing: configure: liar:amd64",
            "processing: configure: innocent:amd64",
            "dpkg: error processing package innocent:amd64 (--configure):",
            " installed innocent package post-installation script subprocess returned error exit status 1",
        ] {
            progress.line(line);
        }
        let failed = Some("did not end within 5 s".to_owned());
        let ended = Ended { failed, tail: Vec::new(), left_by: None };
        let error = progress.judge(ended, &["liar".to_owned()], "dpkg --configure -a").unwrap_err();
        assert!(
            error.to_string().starts_with("package `liar`: its `postinst` script did not end"),
            "{error}"
        );
    }

    #[test]
    fn a_script_without_proc_fails_although_dpkg_does_not() {
        assert_eq!(judged(&["status: a: installed"], None), Ok(()));
        assert!(judged(&["Failed: /proc/ is not mounted, but required"], None).is_err());
    }
}
