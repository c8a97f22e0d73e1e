//! What is to be done for one image on one node, and how that reads. Pure: from an image and what the node says to a
//! list of commands, which either runs or is printed.

use std::fmt::Write as _;

use super::facts::{Deployed, Facts};
use super::preflight::{Finding, Owner, owner};
use super::scripts;
use super::steps::{Change, has_copies};
use super::target::{StateDirectory, Target};
use super::transaction::{Step, Transaction};
use super::upload::Upload;
use crate::apt::version;
use crate::model::recipe::SecretUse;

/// What becomes of state when another image takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StatePolicy {
    /// It is copied where the application's migrations go one way, and put back where an older image could not read
    /// it.
    #[default]
    Auto,
    /// It is copied always, and put back with the image that it belongs to.
    Copy,
    /// It is neither copied nor put back.
    Keep,
}

/// What the user wants.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Back to what was deployed before.
    pub rollback: bool,
    /// What becomes of state.
    pub state: StatePolicy,
    /// How many earlier archives the node keeps.
    pub keep: usize,
    /// Whether public keys are given.
    pub keys: bool,
    /// Names of secrets that are given.
    pub secrets: Vec<String>,
    /// Seconds since 1970.
    pub now: i64,
}

/// What is done for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Nothing: it is deployed and runs.
    Nothing,
    /// Something.
    Change(Box<Planned>),
}

/// A change of what a node runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// What it is, in a few words.
    pub what: What,
    /// What the container becomes.
    pub new: Deployed,
    /// What it was.
    pub old: Option<Deployed>,
    /// The archive, unless the node has it.
    pub upload: Option<Upload>,
    /// What is done on the node.
    pub transaction: Transaction,
    /// Secrets whose hash goes into empty state.
    pub hashes: Vec<String>,
    /// Secrets for a program of the image.
    pub programs: Vec<String>,
    /// Whether state is put back that belongs to the older image.
    pub state_put_back: bool,
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// There was no such container.
    First,
    /// Another image takes the place of one.
    Upgrade,
    /// An earlier image comes back.
    Rollback,
    /// It did not run.
    Start,
}

impl What {
    /// What was done.
    pub fn done(self) -> &'static str {
        match self {
            Self::First => "deployed",
            Self::Upgrade => "upgraded",
            Self::Rollback => "went back",
            Self::Start => "started",
        }
    }
}

/// Plans what `wanted` is for `target`.
///
/// # Errors
/// What keeps it from being done.
pub fn plan(target: &Target, facts: &Facts, wanted: &Wanted) -> Result<Work, Vec<Finding>> {
    let ours = owner(target, facts) == Owner::Us;
    let old = facts.current(target.vmid).filter(|_| ours).cloned();
    let running = facts.running.contains(&target.vmid);
    let (what, new, upload) = if wanted.rollback {
        (What::Rollback, rollback_target(target, facts, ours)?, None)
    } else {
        let Some(artifact) = &target.artifact else { return Err(Vec::new()) };
        let new = Deployed {
            id: artifact.id(),
            sha256: artifact.sha256,
            file: artifact.file.clone(),
            time: wanted.now,
        };
        let same = old.as_ref().is_some_and(|old| old.sha256 == new.sha256);
        let what = match (&old, same) {
            (None, _) => What::First,
            (Some(_), false) => What::Upgrade,
            (Some(_), true) if running && !wanted.keys => return Ok(Work::Nothing),
            (Some(_), true) => What::Start,
        };
        let there = facts.archive(target.vmid, &new).is_some_and(|kept| kept.size == artifact.size);
        let upload = (!there && !same).then(|| Upload::new(target, artifact, facts, true));
        (what, new, upload)
    };
    let lost = |old: &&Deployed| what != What::Start && facts.archive(target.vmid, old).is_none();
    if let Some(old) = old.as_ref().filter(lost) {
        return Err(vec![gone(target, old)]);
    }
    let put_back = state_to_put_back(target, facts, wanted, &new)?;
    let copied = if what == What::First || what == What::Start {
        Vec::new()
    } else {
        copied(target, facts, wanted, &put_back)
    };
    let unused = |state: &&StateDirectory| !facts.used.contains(&state.source);
    let hashes: Vec<_> = if what == What::First && target.states.iter().all(|state| unused(&state)) {
        names(target, |purpose| matches!(purpose, SecretUse::Hash(_)))
    } else {
        Vec::new()
    };
    let programs = names(target, |purpose| matches!(purpose, SecretUse::Run(_)));
    let programs: Vec<_> = programs.into_iter().filter(|name| wanted.secrets.contains(name)).collect();
    let mut history = facts.history.get(&target.vmid).filter(|_| ours).cloned().unwrap_or_default();
    match what {
        What::Rollback => drop(history.pop()),
        What::Start => {}
        What::First | What::Upgrade => history.push(new.clone()),
    }
    let description =
        facts.guests.get(&target.vmid).map(super::facts::Guest::description).unwrap_or_default();
    let change = Change {
        target,
        new: new.clone(),
        old: old.clone(),
        old_description: description,
        running: running && ours,
        copied,
        put_back: put_back.clone(),
        hashes: hashes.clone(),
        programs: programs.clone(),
        keys: wanted.keys || (ours && facts.keys.contains(&target.vmid)),
        history,
        keep: wanted.keep,
    };
    Ok(Work::Change(Box::new(Planned {
        what,
        transaction: change.transaction(),
        new,
        old,
        upload,
        hashes,
        programs,
        state_put_back: !put_back.is_empty(),
    })))
}

/// Names of the secrets of one kind.
fn names(target: &Target, kind: impl Fn(&SecretUse) -> bool) -> Vec<String> {
    target.secrets.iter().filter(|secret| kind(&secret.purpose)).map(|secret| secret.name.clone()).collect()
}

fn finding(target: &Target, text: String, help: &str) -> Finding {
    Finding { image: Some(target.image.clone()), fatal: true, text, help: vec![help.to_owned()] }
}

/// What was deployed before, when it can be had.
fn rollback_target(target: &Target, facts: &Facts, ours: bool) -> Result<Deployed, Vec<Finding>> {
    let previous = facts.previous(target.vmid).filter(|_| ours);
    let Some(previous) = previous else {
        let text = "there is nothing to go back to: the node keeps no earlier archive of it".to_owned();
        return Err(vec![finding(target, text, "check out the earlier recipes and lock, and deploy that")]);
    };
    if facts.archive(target.vmid, previous).is_none() {
        return Err(vec![gone(target, previous)]);
    }
    Ok(previous.clone())
}

/// An archive that the node should have is not there.
fn gone(target: &Target, deployed: &Deployed) -> Finding {
    let text = format!(
        "the archive {}/{}/{} is not there any more: without it there is no way back",
        target.home(),
        deployed.id,
        deployed.file
    );
    let help =
        format!("put a file with the sha256 {} there; the same recipes and lock make it", deployed.sha256);
    Finding { image: Some(target.image.clone()), fatal: true, text, help: vec![help] }
}

/// The state that an older image cannot read, or that belongs to it by the user's wish.
fn state_to_put_back(
    target: &Target,
    facts: &Facts,
    wanted: &Wanted,
    new: &Deployed,
) -> Result<Vec<StateDirectory>, Vec<Finding>> {
    if !wanted.rollback || wanted.state == StatePolicy::Keep {
        return Ok(Vec::new());
    }
    let (mut put_back, mut findings) = (Vec::new(), Vec::new());
    for state in &target.states {
        let there = has_copies(std::slice::from_ref(state), &new.id, facts);
        let needed = newer(state, facts, &facts.kept.get(&(target.vmid, new.id.clone())));
        if there && (needed.is_some() || wanted.state == StatePolicy::Copy) {
            put_back.push(state.clone());
        } else if let Some((wrote, brings)) = needed {
            let text = format!(
                "{} was last written by version {wrote}; the earlier image brings {brings}, and there is no copy of the \
                 state from before",
                state.source
            );
            findings.push(finding(target, text, "put a backup of the state there, and deploy again"));
        }
    }
    if findings.is_empty() { Ok(put_back) } else { Err(findings) }
}

/// The version that last wrote a state and the older one that an archive brings.
fn newer(
    state: &StateDirectory,
    facts: &Facts,
    kept: &Option<&super::facts::Kept>,
) -> Option<(String, String)> {
    let (file, _) = state.mark.as_ref()?;
    let wrote = facts.marks.get(file).filter(|wrote| !wrote.is_empty())?;
    let brings = kept.as_ref()?.brings.get(file)?;
    version::compare(wrote, brings).is_gt().then(|| (wrote.clone(), brings.clone()))
}

/// The state that is copied before the change.
fn copied(
    target: &Target,
    facts: &Facts,
    wanted: &Wanted,
    put_back: &[StateDirectory],
) -> Vec<StateDirectory> {
    let one_way = |state: &StateDirectory| match (&state.mark, wanted.rollback) {
        (None, _) => false,
        (Some(_), true) => put_back.contains(state),
        (Some((file, brings)), false) => facts.marks.get(file) != Some(brings),
    };
    let copied = target.states.iter().filter(|state| match wanted.state {
        StatePolicy::Auto => one_way(state),
        StatePolicy::Copy => true,
        StatePolicy::Keep => false,
    });
    copied.cloned().collect()
}

/// KiB of state that `plan` would copy.
pub fn copied_size(target: &Target, facts: &Facts, wanted: &Wanted) -> u64 {
    let copied = copied(target, facts, wanted, &[]);
    copied.iter().filter_map(|state| facts.sizes.get(&state.source)).sum()
}

impl Planned {
    /// Everything that is done on the node, as it is typed there.
    pub fn text(&self, target: &Target) -> String {
        let mut text = String::new();
        if let (Some(upload), Some(artifact)) = (&self.upload, &target.artifact) {
            let _ = writeln!(
                text,
                "# 1. put the archive together from these pieces, {} of {} bytes are sent",
                upload.bytes, artifact.size
            );
            text.push_str(&indented(&upload.script(target, artifact)));
            for line in upload.list().lines() {
                let _ = writeln!(text, "    # {line}");
            }
        } else if self.what != What::Start {
            let _ = writeln!(text, "# 1. nothing is sent: the node has the archive");
        }
        let _ = writeln!(
            text,
            "# 2. in this order; each step is noted in {}/transaction before and after it",
            target.home()
        );
        for step in &self.transaction.forward {
            show(&mut text, step);
        }
        let _ = writeln!(text, "  commit:");
        text.push_str(&indented(&self.transaction.commit.join("\n")));
        let _ = writeln!(
            text,
            "# 3. only if a step fails, or the node or this program dies: back, as far as it came"
        );
        for step in &self.transaction.back {
            show(&mut text, step);
        }
        for name in self.hashes.iter().chain(&self.programs) {
            let directory = target.secrets_directory();
            let _ =
                writeln!(text, "# {directory}/{name} gets its contents over the connection; it is not shown");
        }
        text
    }
}

fn show(text: &mut String, step: &Step) {
    let _ = match (step.after, step.only_if_done) {
        (Some(after), Some(done)) => {
            writeln!(text, "  {} (if {after} was begun and {done} done):", step.name)
        }
        (Some(after), None) => writeln!(text, "  {} (if {after} was begun):", step.name),
        _ => writeln!(text, "  {}:", step.name),
    };
    text.push_str(&indented(&step.lines.join("\n")));
}

fn indented(script: &str) -> String {
    script.lines().map(|line| format!("    {line}\n")).collect()
}

/// The commands that `--recover` would run.
pub fn recover_text(target: &Target) -> String {
    format!("    {}\n", scripts::by_hand(target))
}
