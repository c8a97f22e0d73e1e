//! What is done on the node, as a list of steps: the commands that `--dry-run` prints are the ones that run.
//!
//! A [`Transaction`] has steps forward, steps that go back over them, and what makes the new state the one of record.
//! The node's own runner (`node/run.sh`) takes them, and notes each on disk before and after it. Steps back can be
//! taken any number of times, and any of them may have been cut off before: each looks at what is there.

use super::facts::{Deployed, Facts};
use super::scripts::rules;
use super::shell::{command, quote};
use super::target::{StateDirectory, Target};
use super::transaction::{Step, Transaction};
use crate::model::recipe::SecretUse;

const RUN: &str = include_str!("node/run.sh");
const PROBE: &str = include_str!("node/probe.pl");

/// Seconds that a container has to shut down before it is stopped.
const SHUTDOWN: &str = "180";

/// What is to be on the node afterwards, and before.
#[derive(Debug, Clone)]
pub struct Change<'a> {
    /// The image.
    pub target: &'a Target,
    /// What it becomes.
    pub new: Deployed,
    /// What it is, when it is ours.
    pub old: Option<Deployed>,
    /// The description that it has now.
    pub old_description: String,
    /// Whether it runs now.
    pub running: bool,
    /// State that is copied before anything else writes it.
    pub copied: Vec<StateDirectory>,
    /// State that is replaced by the copy that belongs to `new`.
    pub put_back: Vec<StateDirectory>,
    /// Whether secrets' hashes are put into empty state.
    pub hashes: Vec<String>,
    /// Whether an administrator's secret is there, for each program that takes one.
    pub programs: Vec<String>,
    /// Whether public keys are put into it.
    pub keys: bool,
    /// What the record of deployments says afterwards.
    pub history: Vec<Deployed>,
    /// How many earlier archives are kept.
    pub keep: usize,
}

/// The marker in the description by which a container is known to be ours.
pub fn marker(sha256: &impl std::fmt::Display) -> String {
    format!("Deployed archive {sha256}")
}

impl Change<'_> {
    fn archive(&self, deployed: &Deployed) -> String {
        format!("{}/{}/{}", self.target.home(), deployed.id, deployed.file)
    }

    fn check(&self, deployed: &Deployed) -> String {
        let line = format!("{}  {}", deployed.sha256, self.archive(deployed));
        format!("printf '%s\\n' {} | sha256sum --check --quiet", quote(&line))
    }

    fn restore(&self, deployed: &Deployed, description: &str, force: bool) -> String {
        let vmid = self.target.vmid.to_string();
        let archive = self.archive(deployed);
        let mut words = vec!["pct", "restore", &vmid, &archive, "--storage", &self.target.storage];
        if force {
            words.extend(["--force", "1"]);
        }
        words.extend(["--description", description]);
        command(words)
    }

    /// The steps.
    pub fn transaction(&self) -> Transaction {
        let target = self.target;
        let vmid = target.vmid;
        let home = target.home();
        let step = |name, lines: Vec<String>| Step { name, lines, after: None, only_if_done: None };
        let same = self.old.as_ref().is_some_and(|old| old.sha256 == self.new.sha256);
        let running = format!("pct status {vmid} | grep -q running");
        let mut forward = Vec::new();
        if !same {
            let checked = [Some(&self.new), self.old.as_ref()].into_iter().flatten();
            forward.push(step("check", checked.map(|deployed| self.check(deployed)).collect()));
        }
        if self.running {
            let shutdown = format!("pct shutdown {vmid} --timeout {SHUTDOWN} --forceStop 1");
            forward.push(step("stop", vec![format!("if {running}; then {shutdown}; fi")]));
        }
        if let Some(old) = self.old.as_ref().filter(|_| !self.copied.is_empty()) {
            let lines = self.copied.iter().flat_map(|state| copy(state, &old.id));
            forward.push(step("copy-state", lines.collect()));
        }
        if !self.put_back.is_empty() {
            let lines = self.put_back.iter().flat_map(|state| put_back(state, &self.new.id));
            forward.push(step("put-state", lines.collect()));
        }
        if !same {
            let description = format!("{}\n\n{}", target.description, marker(&self.new.sha256));
            let mut lines = self.remember_volumes();
            lines.push(self.restore(&self.new, &description, self.old.is_some()));
            forward.push(step("restore", lines));
        }
        if !self.hashes.is_empty() {
            forward.push(step("secrets", self.hash_lines()));
        }
        forward.push(step("start", vec![format!("pct start {vmid}")]));
        let keys = self.key_lines();
        if self.keys {
            forward.push(step("keys", keys.clone()));
        }
        let mut probe = self.probe_lines("transaction");
        probe.extend(self.program_lines());
        forward.push(step("probe", probe));

        Transaction {
            back: self.back(same, &running, &keys),
            commit: self.commit(&home),
            files: self.files(),
            forward,
        }
    }

    fn back(&self, same: bool, running: &str, keys: &[String]) -> Vec<Step> {
        let vmid = self.target.vmid;
        let step =
            |name, after, lines: Vec<String>| Step { name, lines, after: Some(after), only_if_done: None };
        let mut back = Vec::new();
        let first = if same { "start" } else { "restore" };
        if self.running || !same {
            back.push(step(
                "stop",
                first,
                vec![
                    // A restore that was cut off leaves it locked.
                    format!("if [ -e /etc/pve/lxc/{vmid}.conf ]; then"),
                    format!("    if pct config {vmid} | grep -q '^lock:'; then pct unlock {vmid}; fi"),
                    format!("    if {running}; then pct stop {vmid}; fi"),
                    "fi".to_owned(),
                ],
            ));
        }
        if let Some(old) = &self.old {
            // Only what the new image may have written.
            let after = if self.put_back.is_empty() { "start" } else { "put-state" };
            let lines: Vec<_> = self.copied.iter().flat_map(|state| put_back(state, &old.id)).collect();
            if !lines.is_empty() {
                back.push(Step { only_if_done: Some("copy-state"), ..step("put-state", after, lines) });
            }
            if !same {
                let mut lines = self.forget_lost_volume();
                lines.push(self.restore(old, &self.old_description, true));
                back.push(step("restore", "restore", lines));
            }
            if self.running {
                back.push(step("start", "stop", vec![format!("if ! {running}; then pct start {vmid}; fi")]));
                if self.keys {
                    back.push(step("keys", first, keys.to_vec()));
                }
                back.push(step("probe", first, self.probe_lines("transaction")));
            }
        } else {
            let destroy = format!("if [ -e /etc/pve/lxc/{vmid}.conf ]; then pct destroy {vmid}; fi");
            back.push(step("destroy", "restore", vec![destroy]));
        }
        if !same {
            back.push(step("tidy", "restore", self.free_new_volumes()));
        }
        back
    }

    fn volumes(&self) -> String {
        command(["pvesm", "list", &self.target.storage, "--vmid", &self.target.vmid.to_string()])
    }

    /// Notes which volumes there are, so that those that a restore makes can be told from them.
    fn remember_volumes(&self) -> Vec<String> {
        let file = format!("{}/transaction/volumes", self.target.home());
        vec![format!("{} > {file}.new", self.volumes()), format!("mv -T {file}.new {file}")]
    }

    /// A restore that was cut off may have destroyed the old volume and left a configuration that names it. The next
    /// restore would give its new volume the same name, and then destroy it for the old one's sake.
    fn forget_lost_volume(&self) -> Vec<String> {
        let vmid = self.target.vmid;
        let volume = format!(
            "volume=$(sed -n 's/^rootfs: *\\([^,]*\\).*/\\1/p' /etc/pve/lxc/{vmid}.conf | head -n 1)"
        );
        vec![
            format!("if [ -e /etc/pve/lxc/{vmid}.conf ]; then"),
            format!("    {volume}"),
            format!("    {} | grep -qF \"$volume \" || rm -f /etc/pve/lxc/{vmid}.conf", self.volumes()),
            "fi".to_owned(),
        ]
    }

    /// What a restore that did not end well has made.
    fn free_new_volumes(&self) -> Vec<String> {
        let (vmid, file) = (self.target.vmid, format!("{}/transaction/volumes", self.target.home()));
        vec![
            format!("[ -e {file} ] || exit 0"),
            format!("for volume in $({} | awk 'NR > 1 {{ print $1 }}'); do", self.volumes()),
            format!("    if grep -qF \"$volume \" {file}; then continue; fi"),
            format!("    if grep -qsF \" $volume,\" /etc/pve/lxc/{vmid}.conf; then continue; fi"),
            "    pvesm free \"$volume\"".to_owned(),
            "done".to_owned(),
        ]
    }

    fn hash_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for secret in self.target.secrets.iter().filter(|secret| self.hashes.contains(&secret.name)) {
            let SecretUse::Hash(path) = &secret.purpose else { continue };
            let Some((directory, owner)) = self.target.sources.iter().find_map(|source| {
                let inside = format!("/{}", path.to_string().trim_start_matches('/'));
                let below = inside.strip_prefix(&source.target)?.strip_prefix('/')?.to_owned();
                Some((format!("{}/{below}", source.path), source.owner?))
            }) else {
                continue;
            };
            let from = format!("{}/{}", self.target.secrets_directory(), secret.name);
            lines.push(command([
                "install",
                "-m",
                "0600",
                "-o",
                &owner.uid.to_string(),
                "-g",
                &owner.gid.to_string(),
                &from,
                &directory,
            ]));
        }
        lines
    }

    fn program_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for secret in self.target.secrets.iter().filter(|secret| self.programs.contains(&secret.name)) {
            let SecretUse::Run(program) = &secret.purpose else { continue };
            let from = format!("{}/{}", self.target.secrets_directory(), secret.name);
            let run = command(["pct", "exec", &self.target.vmid.to_string(), "--", program]);
            lines.push("if [ \"$health\" = 3 ]; then".to_owned());
            let failed = quote(&format!("@ warning {} failed, so it is not set up", secret.name));
            lines
                .push(format!("    if {run} < {from}; then echo '@ health healthy'; else echo {failed}; fi"));
            lines.push("fi".to_owned());
        }
        lines
    }

    fn key_lines(&self) -> Vec<String> {
        let vmid = self.target.vmid;
        let keys = format!("{}/authorized_keys", self.target.home());
        vec![
            format!("pct exec {vmid} -- install -d -m 0700 /root/.ssh"),
            format!("pct push {vmid} {keys} /root/.ssh/authorized_keys --user 0 --group 0 --perms 0600"),
        ]
    }

    fn probe_lines(&self, place: &str) -> Vec<String> {
        let target = self.target;
        let mut lines = vec!["health=0".to_owned()];
        for service in &target.services {
            let address = match target.address {
                Some(address) => format!("address={address}"),
                None => format!("container={}", target.vmid),
            };
            let rules: Vec<_> = rules(service).iter().map(|rule| quote(rule)).collect();
            let program = format!("{}/{place}/probe", target.home());
            lines.push(format!("perl {program} {address} {} || health=$?", rules.join(" ")));
            lines.push("[ \"$health\" = 0 ] || [ \"$health\" = 3 ]".to_owned());
        }
        if target.services.is_empty() {
            lines.push(format!("pct status {} | grep -q running", target.vmid));
        }
        lines
    }

    fn commit(&self, home: &str) -> Vec<String> {
        // What a rollback leaves stays as well, with the state that belongs to it.
        let kept = self.history.iter().rev().take(self.keep + 1).chain(&self.old);
        let kept: Vec<_> = kept.map(|deployed| deployed.id.clone()).collect();
        let copies = self.target.states.iter().map(|state| format!("rm -rf {}", copy_of(state, "$id")));
        let mut lines = vec![
            format!("cp {home}/transaction/history {home}/history.new"),
            format!("sync {home}/history.new"),
            format!("mv -T {home}/history.new {home}/history"),
            format!("for frames in {home}/*/frames; do"),
            format!("    [ -e \"$frames\" ] || continue"),
            "    id=$(basename \"${frames%/frames}\")".to_owned(),
            format!("    case ' {} ' in *\" $id \"*) continue ;; esac", kept.join(" ")),
        ];
        lines.extend(copies.map(|line| format!("    {line}")));
        lines.push(format!("    rm -rf \"{home}/$id\""));
        lines.push("done".to_owned());
        lines
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let history: String =
            self.history.iter().rev().take(self.keep + 1).rev().map(Deployed::line).collect();
        vec![
            ("run".to_owned(), RUN.into()),
            ("probe".to_owned(), PROBE.into()),
            ("history".to_owned(), history.into_bytes()),
        ]
    }
}

/// Where the copy of a state is that belongs to the archive `id`.
pub fn copy_of(state: &StateDirectory, id: &str) -> String {
    let (parent, name) = state.source.rsplit_once('/').unwrap_or(("", &state.source));
    format!("{parent}/.{name}.{id}")
}

fn copy(state: &StateDirectory, id: &str) -> Vec<String> {
    let (source, copy) = (&state.source, copy_of(state, id));
    vec![
        format!("rm -rf {copy}.part"),
        format!("cp -a --reflink=auto {source} {copy}.part"),
        format!("sync -f {copy}.part"),
        format!("rm -rf {copy}"),
        format!("mv -T {copy}.part {copy}"),
    ]
}

fn put_back(state: &StateDirectory, id: &str) -> Vec<String> {
    let (source, copy) = (&state.source, copy_of(state, id));
    vec![
        format!("find {source} -mindepth 1 -delete"),
        format!("cp -a --reflink=auto {copy}/. {source}/"),
        format!("sync -f {source}"),
    ]
}

/// Whether the facts know a copy of each state of `target` for the archive `id`.
pub fn has_copies(states: &[StateDirectory], id: &str, facts: &Facts) -> bool {
    states.iter().all(|state| facts.paths.contains_key(&copy_of(state, id)))
}
