//! `deploy`: images of the project on the site's node.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::handover::{Secrets, check_secrets, given};
use super::session::Session;
use super::{CommandError, build};
use crate::artifact::ResultDirectory;
use crate::deploy::secrets::{self, Source};
use crate::deploy::target::Target;
use crate::deploy::{
    Ending, Facts, Finding, Planned, Runner, Ssh, StatePolicy, Wanted, What, Work, plan, preflight,
};
use crate::model::recipe::SecretUse;
use crate::progress::Event;

/// What the command line decides.
#[derive(Debug, Clone, Default)]
pub struct DeployOptions {
    /// Print what would be done.
    pub dry_run: bool,
    /// Go back to what was deployed before.
    pub rollback: bool,
    /// Only end what was cut off.
    pub recover: bool,
    /// What becomes of state.
    pub state: StatePolicy,
    /// How many earlier archives the node keeps.
    pub keep: usize,
    /// File with public keys for root.
    pub ssh_keys: Option<PathBuf>,
    /// Where secrets come from, by image and name.
    pub secrets: BTreeMap<(String, String), Source>,
    /// The program that reaches the node.
    pub ssh: PathBuf,
}

/// What became of one image.
#[derive(Debug, Clone, Serialize)]
pub struct Deployment {
    /// The image.
    pub image: String,
    /// The container.
    pub vmid: u32,
    /// What was done.
    #[serde(flatten)]
    pub done: DeployDone,
    /// Where it is reached.
    pub addresses: Vec<String>,
    /// Time it took.
    #[serde(serialize_with = "seconds")]
    pub elapsed: Duration,
}

/// What was done for one image.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "done", rename_all = "kebab-case")]
pub enum DeployDone {
    /// It is deployed and runs.
    Nothing,
    /// What was cut off is ended.
    Recovered,
    /// What would be done.
    Planned {
        /// The commands.
        commands: String,
    },
    /// It was changed.
    Changed(Box<Changed>),
}

/// A change that was made.
#[derive(Debug, Clone, Serialize)]
pub struct Changed {
    /// Which.
    pub what: What,
    /// Hash of the archive.
    pub archive: crate::digest::Sha256,
    /// Hash of the archive that it was before.
    pub before: Option<crate::digest::Sha256>,
    /// Bytes of the archive that were sent.
    pub sent: u64,
    /// Seconds for which it did not work.
    pub downtime: Option<f64>,
    /// Whether somebody has to set it up.
    pub needs_setup: bool,
    /// Whether state of before was put back.
    pub state_put_back: bool,
    /// What the proxy answers for its name; nothing when it is silent.
    pub proxy: Option<ProxyAnswer>,
    /// Passwords that were made, by the secret's name. They are kept nowhere.
    pub passwords: BTreeMap<String, String>,
    /// What deserves a look.
    pub warnings: Vec<String>,
}

/// What the proxy answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProxyAnswer {
    /// `https`, or `http` where the node has no Perl module for the other.
    pub scheme: String,
    /// The status.
    pub status: u16,
    /// Whether it is one that the application gives when it works.
    pub works: bool,
}

fn seconds<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((elapsed.as_secs_f64() * 100.0).round() / 100.0)
}

/// What became of the image that has this name.
pub type Deployed = (String, Result<Deployment, CommandError>);

/// Deploys `images`, all when none is named; builds first what is not built.
///
/// # Errors
/// What concerns all images: the project, the node. Nothing is changed then.
pub fn deploy(
    session: &Session,
    options: &DeployOptions,
    images: &[String],
) -> Result<Vec<Deployed>, CommandError> {
    let names = session.select(images)?;
    let secrets = check_secrets(session, options, &names)?;
    let mut failed: Vec<Deployed> = Vec::new();
    let targets = if options.rollback || options.recover {
        names
            .iter()
            .filter_map(|name| session.project.images.get(name))
            .map(|image| Target::new(&session.project, image, None))
            .collect()
    } else {
        built(session, options, images, &names, &mut failed)?
    };
    let runner = Runner {
        ssh: Ssh { program: options.ssh.clone(), host: session.project.site.node.host.clone() },
        reporter: session.reporter,
        cancel: session.cancel,
    };
    let mut outcomes = if targets.is_empty() {
        Vec::new()
    } else {
        deploy_all(session, options, &runner, &targets, &secrets)?
    };
    outcomes.append(&mut failed);
    outcomes.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(outcomes)
}

fn deploy_all(
    session: &Session,
    options: &DeployOptions,
    runner: &Runner<'_>,
    targets: &[Target],
    secrets: &Secrets,
) -> Result<Vec<Deployed>, CommandError> {
    let begun = Instant::now();
    let mut facts = look(runner, targets)?;
    let cut_off: Vec<_> =
        targets.iter().filter(|target| facts.transactions.contains_key(&target.vmid)).collect();
    let mut recovered = Vec::new();
    for target in &cut_off {
        if options.dry_run {
            recovered.push((target.image.clone(), Ok(planned(target, recover_text(target), begun))));
            continue;
        }
        let running = facts.transactions.get(&target.vmid).copied().unwrap_or(false);
        let ended = runner.recover(target, running);
        if options.recover {
            let ended = match ended {
                // That it went back is what was asked for.
                Ok(_) | Err(crate::deploy::RunError::Back { .. }) => {
                    Ok(outcome(target, DeployDone::Recovered, begun))
                }
                Err(error) => Err(error.into()),
            };
            recovered.push((target.image.clone(), ended));
        } else {
            match ended {
                Ok(_) | Err(crate::deploy::RunError::Back { .. }) => {
                    let text =
                        format!("{}: an earlier deployment was cut off; it is ended now", target.image);
                    session.reporter.report(Event::Warning(text));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    if options.recover {
        let others = targets.iter().filter(|target| !facts.transactions.contains_key(&target.vmid));
        recovered.extend(
            others.map(|target| (target.image.clone(), Ok(outcome(target, DeployDone::Nothing, begun)))),
        );
        return Ok(recovered);
    }
    if options.dry_run && !recovered.is_empty() {
        return Ok(recovered);
    }
    if !cut_off.is_empty() {
        facts = look(runner, targets)?;
    }
    let works = preflight_all(session, options, targets, &facts)?;
    let mut outcomes = Vec::new();
    for (target, work) in targets.iter().zip(works) {
        let begun = Instant::now();
        let done = match work {
            _ if session.check_cancelled().is_err() => Err(CommandError::Interrupted),
            Work::Nothing => Ok(outcome(target, DeployDone::Nothing, begun)),
            Work::Change(change) if options.dry_run => Ok(planned(target, change.text(target), begun)),
            Work::Change(change) => change_one(runner, target, &change, secrets, begun),
        };
        outcomes.push((target.image.clone(), done));
    }
    Ok(outcomes)
}

fn recover_text(target: &Target) -> String {
    format!(
        "# an earlier deployment was cut off; it is ended first, and then everything is looked at again\n{}",
        plan::recover_text(target)
    )
}

fn look(runner: &Runner<'_>, targets: &[Target]) -> Result<Facts, CommandError> {
    let subject = runner.ssh.host.clone();
    let (action, unit) = ("looking at the node".to_owned(), crate::progress::Unit::Bytes);
    runner.reporter.report(Event::Stage { subject: subject.clone(), action, total: 0, unit });
    let _over = crate::progress::Over { reporter: runner.reporter, subject: &subject };
    Ok(runner.facts(targets)?)
}

/// Everything that stands in the way, at once; what is to be done when nothing does.
fn preflight_all(
    session: &Session,
    options: &DeployOptions,
    targets: &[Target],
    facts: &Facts,
) -> Result<Vec<Work>, CommandError> {
    let now = session.options.now.as_second();
    let mut findings = preflight::node(targets, facts, now);
    let mut works = Vec::new();
    for target in targets {
        let wanted = Wanted {
            rollback: options.rollback,
            state: options.state,
            keep: options.keep,
            keys: options.ssh_keys.is_some(),
            secrets: given(options, &target.image),
            now,
        };
        findings.extend(preflight::image(target, facts, plan::copied_size(target, facts, &wanted)));
        if !options.rollback {
            findings.extend(preflight::newer_state(target, facts));
        }
        match plan::plan(target, facts, &wanted) {
            Ok(work) => works.push(work),
            Err(more) => findings.extend(more),
        }
    }
    let (fatal, warnings): (Vec<_>, Vec<_>) =
        findings.into_iter().partition(|finding: &Finding| finding.fatal);
    for warning in warnings {
        session.reporter.report(Event::Warning(text(&warning)));
    }
    if fatal.is_empty() { Ok(works) } else { Err(CommandError::Preflight(fatal)) }
}

fn text(finding: &Finding) -> String {
    let subject = finding.image.as_ref().map(|image| format!("{image}: ")).unwrap_or_default();
    let help: String = finding.help.iter().map(|line| format!("\n  {line}")).collect();
    format!("{subject}{}{help}", finding.text)
}

fn outcome(target: &Target, done: DeployDone, begun: Instant) -> Deployment {
    let mut addresses = vec![format!("https://{}/", target.domain)];
    let port = target.services.first().map(|service| service.port);
    if let (Some(address), Some(port)) = (target.address, port) {
        addresses.push(format!("http://{address}:{port}/"));
    }
    Deployment { image: target.image.clone(), vmid: target.vmid, done, addresses, elapsed: begun.elapsed() }
}

fn planned(target: &Target, commands: String, begun: Instant) -> Deployment {
    outcome(target, DeployDone::Planned { commands }, begun)
}

/// The images with their artifacts, built where they are not.
fn built(
    session: &Session,
    options: &DeployOptions,
    images: &[String],
    names: &[String],
    failed: &mut Vec<Deployed>,
) -> Result<Vec<Target>, CommandError> {
    let mut bad = BTreeMap::new();
    if options.dry_run {
        let lock = session.read_lock()?.ok_or(CommandError::NoLock)?;
        for name in names {
            let plan = session.plan(name, &lock)?;
            if ResultDirectory::new(&session.options.results, name)
                .current(plan.key, &session.store)
                .is_none()
            {
                let message = format!("{name} is not built; a dry run builds nothing: build-images {name}");
                bad.insert(name.clone(), CommandError::Failed(message));
            }
        }
    } else {
        for (name, outcome) in build(session, images)? {
            if let Err(error) = outcome {
                bad.insert(name, error);
            }
        }
    }
    let mut targets = Vec::new();
    for name in names {
        if let Some(error) = bad.remove(name) {
            failed.push((name.clone(), Err(error)));
            continue;
        }
        let Some(image) = session.project.images.get(name) else { continue };
        let result = ResultDirectory::new(&session.options.results, name);
        let Some(manifest) = result.manifest()? else {
            failed.push((name.clone(), Err(CommandError::Failed(format!("{name} has no result")))));
            continue;
        };
        let artifact = Some((&manifest, result.path().to_owned()));
        targets.push(Target::new(&session.project, image, artifact));
    }
    Ok(targets)
}

/// Uploads and changes one image.
fn change_one(
    runner: &Runner<'_>,
    target: &Target,
    planned: &Planned,
    secrets: &Secrets,
    begun: Instant,
) -> Result<Deployment, CommandError> {
    let mut sent = 0;
    if let (Some(upload), Some(artifact)) = (&planned.upload, &target.artifact) {
        sent = runner.upload(target, artifact, upload)?;
    }
    let (mut files, mut passwords) = (Vec::new(), BTreeMap::new());
    let directory = target.secrets_directory();
    for secret in &target.secrets {
        let given = secrets.given.get(&(target.image.clone(), secret.name.clone()));
        let bytes = match &secret.purpose {
            SecretUse::Hash(_) if planned.hashes.contains(&secret.name) => {
                let failed = |error: secrets::SecretError| CommandError::Failed(error.to_string());
                let hash = match given {
                    Some(given) => secrets::hash(given),
                    None => {
                        let password = secrets::password().map_err(failed)?;
                        let hash = secrets::hash(password.as_bytes());
                        passwords.insert(secret.name.clone(), password);
                        hash
                    }
                };
                hash.map_err(failed)?.into_bytes()
            }
            SecretUse::Run(_) if planned.programs.contains(&secret.name) => {
                given.cloned().unwrap_or_default()
            }
            _ => continue,
        };
        files.push((format!("{directory}/{}", secret.name), bytes));
    }
    if let Some(keys) = &secrets.keys {
        files.push(("authorized_keys".to_owned(), keys.clone()));
    }
    let mut handed_over = false;
    let ended = runner.change(target, planned, &files, &mut handed_over);
    let Ending { downtime, needs_setup, warnings, .. } = match ended {
        Ok(ending) => ending,
        Err(error) => {
            // The state has its hash now, and nobody else knows it.
            let made = passwords
                .iter()
                .filter(|_| handed_over)
                .map(|(name, password)| format!("\n{}.{name}: {password}", target.image));
            let made: String = made.collect();
            let note = if made.is_empty() {
                made
            } else {
                format!("\nthe state may have this password now, which is shown this once:{made}")
            };
            return Err(CommandError::Failed(format!("{}: {error}{note}", target.image)));
        }
    };
    let works =
        |status| target.services.first().is_some_and(|service| service.probe.status.contains(&status));
    let proxy = runner.through_proxy(target);
    let proxy = proxy.map(|(status, scheme)| ProxyAnswer { scheme, status, works: works(status) });
    let changed = Changed {
        what: planned.what,
        archive: planned.new.sha256,
        before: planned.old.as_ref().map(|old| old.sha256),
        sent,
        downtime: downtime.filter(|_| planned.what != What::First).map(|time| time.as_secs_f64()),
        needs_setup,
        state_put_back: planned.state_put_back,
        proxy,
        passwords,
        warnings,
    };
    Ok(outcome(target, DeployDone::Changed(Box::new(changed)), begun))
}
