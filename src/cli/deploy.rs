//! How a deployment looks: what stands in its way, what was done, what is next.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::json;

use super::args::{DeployArguments, StateChoice};
use super::run::{print, report};
use super::show::print_json;
use super::table::{bytes, table};
use crate::commands::{self, CommandError, DeployDone, DeployOptions, Deployment, ProxyAnswer, Session};
use crate::deploy::secrets::Source;
use crate::deploy::{Finding, StatePolicy};

pub(super) fn deploy(
    session: &Session,
    arguments: DeployArguments,
    as_json: bool,
) -> Result<u8, CommandError> {
    let images = arguments.images.clone();
    let options = options(arguments)?;
    let outcomes = commands::deploy(session, &options, &images)?;
    let mut code = 0;
    let (mut rows, mut values, mut failures, mut notes) = (Vec::new(), Vec::new(), Vec::new(), String::new());
    for (image, outcome) in &outcomes {
        match outcome {
            Ok(deployment) => {
                rows.push(row(deployment));
                values.push(json!(deployment));
                notes.push_str(&note(deployment, options.dry_run));
            }
            Err(error) => {
                code = code.max(error.exit_code());
                let mut cells = vec![image.clone(), "failed".to_owned()];
                cells.resize(6, String::new());
                rows.push(cells);
                values.push(json!({ "image": image, "done": "failed", "error": error.to_string() }));
                failures.push(error);
            }
        }
    }
    if as_json {
        print_json(&values)?;
    } else if options.dry_run {
        let host = &session.project.site.node.host;
        print(&format!("# on {host}, over ssh; nothing of it was done\n{notes}"))?;
    } else {
        let heading = [
            ("image", false),
            ("done", false),
            ("sent", true),
            ("down", true),
            ("seconds", true),
            ("address", false),
        ];
        print(&(table(&heading, &rows) + &notes))?;
    }
    for error in failures {
        report(error, as_json);
    }
    Ok(code)
}

fn options(arguments: DeployArguments) -> Result<DeployOptions, CommandError> {
    let mut secrets = BTreeMap::new();
    let files = arguments.secret.iter().map(|text| ("--secret", text, false));
    let commands = arguments.secret_command.iter().map(|text| ("--secret-command", text, true));
    for (option, text, command) in files.chain(commands) {
        let parts = text.split_once('=').and_then(|(key, value)| Some((key.split_once('.')?, value)));
        let Some(((image, name), value)) = parts else {
            // What was typed may hold the secret itself, so it is not repeated.
            let form = if command { "COMMAND" } else { "FILE" };
            return Err(CommandError::Usage(format!(
                "{option}: write IMAGE.NAME={form}, as jellyfin.administrator={form}"
            )));
        };
        let source =
            if command { Source::Command(value.to_owned()) } else { Source::File(PathBuf::from(value)) };
        if secrets.insert((image.to_owned(), name.to_owned()), source).is_some() {
            return Err(CommandError::Usage(format!("{option}: `{image}.{name}` is given twice")));
        }
    }
    Ok(DeployOptions {
        dry_run: arguments.dry_run,
        rollback: arguments.rollback,
        recover: arguments.recover,
        state: match arguments.state {
            StateChoice::Auto => StatePolicy::Auto,
            StateChoice::Copy => StatePolicy::Copy,
            StateChoice::Keep => StatePolicy::Keep,
        },
        keep: usize::from(arguments.keep),
        ssh_keys: arguments.ssh_keys,
        secrets,
        ssh: arguments.ssh,
    })
}

fn row(deployment: &Deployment) -> Vec<String> {
    let (done, sent, down) = match &deployment.done {
        DeployDone::Nothing => ("nothing changed".to_owned(), String::new(), String::new()),
        DeployDone::Recovered => ("ended what was cut off".to_owned(), String::new(), String::new()),
        DeployDone::Planned { .. } => ("planned".to_owned(), String::new(), String::new()),
        DeployDone::Changed(changed) => {
            let down = changed.downtime.map(|time| format!("{time:.1} s")).unwrap_or_default();
            (changed.what.done().to_owned(), bytes(changed.sent), down)
        }
    };
    vec![
        deployment.image.clone(),
        done,
        sent,
        down,
        format!("{:.1}", deployment.elapsed.as_secs_f64()),
        deployment.addresses.join(" "),
    ]
}

/// What is next, for one image.
fn note(deployment: &Deployment, dry_run: bool) -> String {
    let Deployment { image, vmid, done, .. } = deployment;
    let mut text = String::new();
    let changed = match done {
        DeployDone::Nothing if dry_run => {
            let _ = writeln!(text, "# {image}: nothing to do");
            return text;
        }
        DeployDone::Planned { commands } => {
            let _ = write!(text, "\n# {image}, container {vmid}\n{commands}");
            return text;
        }
        DeployDone::Nothing | DeployDone::Recovered => return text,
        DeployDone::Changed(changed) => changed,
    };
    for (name, password) in &changed.passwords {
        let _ = writeln!(
            text,
            "{image}: the first {name} is {password} - it is shown this once and kept nowhere"
        );
    }
    if changed.needs_setup {
        let _ = writeln!(text, "{image}: it waits to be set up; until then whoever opens it first owns it");
    }
    if changed.state_put_back {
        let _ = writeln!(
            text,
            "{image}: its state is that of before the upgrade; the newer one is kept beside it"
        );
    }
    for warning in &changed.warnings {
        let _ = writeln!(text, "{image}: {warning}");
    }
    let file = "result/site/traefik/build-images.yml";
    let _ = match &changed.proxy {
        Some(ProxyAnswer { works: true, scheme, .. }) => {
            writeln!(text, "{image}: it works through the proxy, over {scheme}")
        }
        Some(ProxyAnswer { status: 404, .. }) => {
            writeln!(text, "{image}: the proxy does not know its name; its file provider needs {file}")
        }
        Some(ProxyAnswer { status: status @ 502..=504, .. }) => writeln!(
            text,
            "{image}: it works, but the proxy does not reach it (status {status}); compare {file} with what it has"
        ),
        Some(ProxyAnswer { status, scheme, .. }) => {
            writeln!(text, "{image}: it works, but through the proxy it answers {status} over {scheme}")
        }
        None => writeln!(text, "{image}: the proxy does not answer yet"),
    };
    if changed.before.is_some() && changed.what == crate::deploy::What::Upgrade {
        let _ = writeln!(text, "{image}: to go back: build-images deploy --rollback {image}");
    }
    text
}

/// Everything that stands in the way, for people.
pub(super) fn findings(findings: &[Finding], colour: bool) -> String {
    let mut text = String::new();
    for finding in findings {
        let label = if colour { "\x1b[1;31merror\x1b[0m" } else { "error" };
        let subject = finding.image.as_ref().map(|image| format!("{image}: ")).unwrap_or_default();
        let _ = writeln!(text, "{label}: {subject}{}", finding.text);
        match finding.help.as_slice() {
            [line] => {
                let _ = writeln!(text, "  = help: {line}");
            }
            lines => lines.iter().for_each(|line| {
                let _ = writeln!(text, "  {line}");
            }),
        }
        text.push('\n');
    }
    text
}
