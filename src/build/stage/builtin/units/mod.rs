//! `deb-systemd-helper`: enables units and keeps account of it.
//!
//! The account is kept in `/var/lib/systemd`: for each unit the links that it needs (`NAME.dsh-also`), and an empty file
//! for each link that was once made.
//!
//! Declined: a script that is not the known one, its debugging and purging variables, `DPKG_ROOT`, a running systemd,
//! names with more than letters, digits and `:_.@-`, unit files that are missing or whose `[Install]` is written in a
//! way that the script and systemd read differently, and of presets what [`preset`] says.

mod closure;
mod preset;
mod unit_file;

use closure::Link;

use super::answer::{Answer, Call, Output, Peer};
use super::known;
use super::text::is_plain_locale;
use crate::build::stage::failure::Failure;
use crate::build::stage::root::{Attributes, Root};

const PROGRAM: &str = "/usr/bin/deb-systemd-helper";
/// The script of init-system-helpers 1.69.
const KNOWN: [&str; 1] = ["a895d5f077651960b6ca4ed9c53f8b36eae422ae170f61c972d0c6579e9f8732"];
const STATE: &str = "/var/lib/systemd";
const SCOPES: [Scope; 2] = [Scope::System, Scope::User];
/// Depth of directories that are looked into for empty ones.
const MAX_DEPTH: usize = 16;

/// Whose units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    System,
    User,
}

impl Scope {
    fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
        }
    }

    /// Where links of enabled units are.
    fn configuration(self) -> String {
        format!("/etc/systemd/{}", self.name())
    }

    fn state(self, what: &str) -> String {
        match self {
            Self::System => format!("{STATE}/deb-systemd-helper-{what}"),
            Self::User => format!("{STATE}/deb-systemd-user-helper-{what}"),
        }
    }

    /// Where the link's empty file of account is. A link that is elsewhere accounts for itself, as in the script.
    fn account(self, link: &str, what: &str) -> String {
        match link.strip_prefix(&format!("{}/", self.configuration())) {
            Some(name) => format!("{}/{name}", self.state(what)),
            None => link.to_owned(),
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Enable,
    Disable { purge: bool },
    Mask,
    Unmask,
    IsEnabled,
    WasEnabled,
    DebianInstalled,
    UpdateState,
    Reenable,
}

struct Request<'a> {
    root: &'a Root,
    scope: Scope,
    quiet: bool,
    action: Action,
    /// The units' names.
    units: Vec<&'a str>,
}

/// See the module.
pub(super) fn deb_systemd_helper(call: &Call, root: &Root, _: &mut dyn Peer) -> Answer {
    root.forget();
    let Some(request) = request(call, root) else { return Answer::Decline };
    let mut output = Output { status: request.first_status(), ..Output::default() };
    for (index, unit) in request.units.iter().enumerate() {
        let Some(prepared) = request.prepare(unit) else {
            // A second unit may depend on what the first one did, so one that is odd is met here for the first time.
            // Nothing of it is done, but what was done before stays: only the first can be declined.
            if index == 0 {
                return Answer::Decline;
            }
            let failure = Failure::file("understand", unit.as_bytes(), "it is no simple unit");
            return Answer::failed(call, &failure);
        };
        if let Err(failure) = request.perform(unit, &prepared, &mut output) {
            return Answer::failed(call, &failure);
        }
        root.forget();
    }
    Answer::Done(output)
}

fn request<'a>(call: &'a Call, root: &'a Root) -> Option<Request<'a>> {
    let odd = ["_DEB_SYSTEMD_HELPER_DEBUG", "_DEB_SYSTEMD_HELPER_PURGE", "DPKG_ROOT", "POSIXLY_CORRECT"];
    // debconf sets `PERL_DL_NONLAZY`, which says when symbols are bound.
    let perl =
        |name: &String| name.starts_with("PERL") && name != "PERL_DL_NONLAZY" || name.starts_with("SYSTEMD_");
    if odd.iter().any(|name| !call.variable(name).is_empty())
        || call.environment.keys().any(perl)
        || matches!(call.variable("DPKG_MAINTSCRIPT_PACKAGE"), "" | "0")
        || !is_plain_locale(call)
        || root.is_directory("/run/systemd/system").ok()?
        || !known::is(root, PROGRAM, &KNOWN).ok()?
    {
        return None;
    }
    let (mut scope, mut quiet, mut words) = (Scope::System, false, Vec::new());
    for word in call.words() {
        match word {
            "--quiet" => quiet = true,
            "--user" => scope = Scope::User,
            "--system" => scope = Scope::System,
            _ if word.starts_with('-') => return None,
            _ => words.push(word),
        }
    }
    let (action, units) = words.split_first()?;
    let action = match *action {
        "enable" => Action::Enable,
        "disable" => Action::Disable { purge: false },
        "purge" => Action::Disable { purge: true },
        "mask" => Action::Mask,
        "unmask" => Action::Unmask,
        "is-enabled" => Action::IsEnabled,
        "was-enabled" => Action::WasEnabled,
        "debian-installed" => Action::DebianInstalled,
        "update-state" => Action::UpdateState,
        "reenable" => Action::Reenable,
        _ => return None,
    };
    let known = units.iter().all(|unit| is_unit_name(unit));
    let request = Request { root, scope, quiet, action, units: units.to_vec() };
    // All are looked at before the first is touched.
    let understood = request.units.iter().all(|unit| request.prepare(unit).is_some());
    (known && understood).then_some(request)
}

/// Whether it is a unit's name without anything that Perl, a path or systemd would take for something else.
fn is_unit_name(name: &str) -> bool {
    let characters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_.@-".contains(&byte));
    characters && name.len() < 200 && unit_file::kind(name).is_some()
}

/// What was found out about a unit before anything is done to it.
#[derive(Debug, Default)]
struct Prepared {
    /// The unit's file, or its name when there is none.
    path: String,
    /// The links that it needs.
    links: Vec<Link>,
    /// The links of its account and of those of the units in its `Also=`, by account.
    recorded: Vec<(String, Vec<String>)>,
    /// What `systemctl preset` is to do.
    preset: Option<preset::Plan>,
    make_links: bool,
}

impl Request<'_> {
    fn first_status(&self) -> u8 {
        u8::from(matches!(self.action, Action::IsEnabled | Action::WasEnabled | Action::DebianInstalled))
    }

    /// The unit's account.
    fn account(&self, unit: &str) -> String {
        format!("{}/{unit}.dsh-also", self.scope.state("enabled"))
    }

    /// The links in an account; nothing inside when there is something other in it.
    fn recorded(&self, account: &str) -> Option<Vec<String>> {
        let text = self.root.read_text(account).ok()?.unwrap_or_default();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let whole = text.is_empty() || text.ends_with('\n');
        let place = format!("{}/", self.scope.configuration());
        let plain = lines.iter().all(|line| line.starts_with(&place) && !line.contains("/../"));
        (whole && plain).then_some(lines)
    }

    fn is_link(&self, path: &str) -> Option<bool> {
        Some(self.root.kind(path).ok()? == Some(rustix::fs::FileType::Symlink))
    }

    fn prepare(&self, unit: &str) -> Option<Prepared> {
        let (root, scope) = (self.root, self.scope);
        let path = closure::find(root, scope, unit)?;
        let mut prepared = Prepared { path, ..Prepared::default() };
        let links = matches!(
            self.action,
            Action::Enable | Action::IsEnabled | Action::UpdateState | Action::Reenable
        );
        if links {
            prepared.links = closure::links(root, scope, &prepared.path, &mut Vec::new())?;
        }
        match self.action {
            Action::Enable => {
                let has_systemctl = preset::has_systemctl(root)?;
                prepared.make_links = !has_systemctl;
                if has_systemctl && root.is_file(&self.account(unit)).ok()? {
                    for link in &prepared.links {
                        prepared.make_links |= self.is_link(&link.path)?;
                    }
                } else if has_systemctl {
                    prepared.preset = Some(preset::plan(root, scope, unit)?);
                }
                self.recorded(&self.account(unit))?;
            }
            Action::Disable { .. } | Action::Reenable => {
                self.prepare_removal(&prepared.path, &mut prepared.recorded, 0)?;
                self.recorded(&self.account(unit))?;
            }
            Action::WasEnabled => {
                let account = self.account(unit);
                prepared.recorded.push((account.clone(), self.recorded(&account)?));
            }
            _ => {}
        }
        Some(prepared)
    }

    /// The accounts that removing a unit's links goes through: its own and those of the units in its `Also=`.
    fn prepare_removal(
        &self,
        path: &str,
        found: &mut Vec<(String, Vec<String>)>,
        depth: usize,
    ) -> Option<()> {
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        let account = self.account(name);
        let links = self.recorded(&account)?;
        found.push((account, links));
        // The script would go round in circles.
        if depth == 8 {
            return None;
        }
        if !path.starts_with('/') {
            return Some(());
        }
        for also in closure::also(self.root, path)? {
            // It takes the whole value for one name.
            let next = closure::find(self.root, self.scope, &also)?;
            self.prepare_removal(&next, found, depth + 1)?;
        }
        Some(())
    }

    fn perform(&self, unit: &str, prepared: &Prepared, output: &mut Output) -> Result<(), Failure> {
        let (root, scope) = (self.root, self.scope);
        match self.action {
            Action::Enable => {
                if let Some(plan) = &prepared.preset {
                    plan.apply(root)?;
                    output.stderr.extend(plan.said.as_bytes());
                }
                self.make_links(unit, &prepared.links, prepared.make_links)?;
            }
            Action::Disable { purge } => {
                self.remove_links(&prepared.recorded, purge)?;
                for scope in SCOPES {
                    self.remove_if_empty(&scope.state("enabled"), 0)?;
                }
                for scope in SCOPES {
                    let directory = scope.configuration();
                    for name in self.visible(&directory)? {
                        self.remove_if_empty(&format!("{directory}/{name}"), 0)?;
                    }
                }
            }
            Action::Reenable => {
                self.remove_links(&prepared.recorded, false)?;
                self.make_links(unit, &prepared.links, true)?;
            }
            Action::Mask => self.mask(unit)?,
            Action::Unmask => {
                let link = format!("{}/{unit}", scope.configuration());
                let account = scope.account(&link, "masked");
                let masked = root.read_link(&link)?.is_some_and(|target| target == b"/dev/null");
                if masked && root.follow(&account)?.is_some() {
                    root.remove(&link)?;
                    root.remove(&account)?;
                }
                for scope in SCOPES {
                    self.remove_if_empty(&scope.state("masked"), 0)?;
                }
            }
            Action::IsEnabled => {
                let paths = prepared.links.iter().map(|link| link.path.as_str());
                self.say_enabled(paths, output)?;
            }
            Action::WasEnabled => {
                let paths = prepared.recorded.iter().flat_map(|(_, links)| links).map(String::as_str);
                self.say_enabled(paths, output)?;
            }
            Action::DebianInstalled => {
                if root.is_file(&self.account(unit))? {
                    output.status = 0;
                }
            }
            Action::UpdateState => {
                let lines: Vec<_> = prepared.links.iter().map(|link| format!("{}\n", link.path)).collect();
                self.write_account(&self.account(unit), &lines.concat())?;
            }
        }
        Ok(())
    }

    fn say_enabled<'b>(
        &self,
        links: impl Iterator<Item = &'b str>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let mut enabled = true;
        for link in links {
            enabled &= self.root.kind(link)? == Some(rustix::fs::FileType::Symlink);
        }
        if enabled {
            output.status = 0;
        }
        if !self.quiet {
            output.stderr.extend(if enabled { &b"enabled\n"[..] } else { b"disabled\n" });
        }
        Ok(())
    }

    fn write_account(&self, path: &str, text: &str) -> Result<(), Failure> {
        self.make_parent(path)?;
        self.root.write(path, text.as_bytes(), Attributes::of_root(0o644))
    }

    fn make_parent(&self, path: &str) -> Result<(), Failure> {
        match path.rsplit_once('/') {
            Some((directory, _)) => self.root.make_directory(directory, 0o755),
            None => Ok(()),
        }
    }

    /// Notes the links that a unit needs, and makes those that were never made.
    fn make_links(&self, unit: &str, links: &[Link], make: bool) -> Result<(), Failure> {
        let account = self.account(unit);
        for link in links {
            let mut text = self.root.read_text(&account)?.unwrap_or_default();
            if !text.lines().any(|line| line == link.path) {
                text += &format!("{}\n", link.path);
            }
            self.write_account(&account, &text)?;
            let made = self.scope.account(&link.path, "enabled");
            if self.root.follow(&made)?.is_some() {
                continue;
            }
            if make && self.root.kind(&link.path)? != Some(rustix::fs::FileType::Symlink) {
                self.make_parent(&link.path)?;
                self.root.symlink(link.target.as_bytes(), &link.path)?;
            }
            self.make_parent(&made)?;
            self.root.write(&made, b"", Attributes::of_root(0o644))?;
        }
        Ok(())
    }

    fn remove_links(&self, recorded: &[(String, Vec<String>)], purge: bool) -> Result<(), Failure> {
        for (account, links) in recorded {
            if purge && self.root.follow(account)?.is_some() {
                self.root.remove(account)?;
            }
            for link in links {
                let is_link = self.root.kind(link)? == Some(rustix::fs::FileType::Symlink);
                if purge || is_link {
                    self.root.remove(&self.scope.account(link, "enabled"))?;
                }
                if is_link {
                    self.root.remove(link)?;
                }
            }
        }
        Ok(())
    }

    fn mask(&self, unit: &str) -> Result<(), Failure> {
        let link = format!("{}/{unit}", self.scope.configuration());
        let masked = self.root.read_link(&link)?.is_some_and(|target| target == b"/dev/null");
        if masked || self.root.follow(&link)?.is_some() {
            return Ok(());
        }
        self.make_parent(&link)?;
        self.root.symlink(b"/dev/null", &link)?;
        let account = self.scope.account(&link, "masked");
        self.make_parent(&account)?;
        match self.root.kind(&account)? {
            Some(_) => Ok(()),
            None => self.root.write(&account, b"", Attributes::of_root(0o644)),
        }
    }

    /// The names in a directory that a shell's `*` finds.
    fn visible(&self, directory: &str) -> Result<Vec<String>, Failure> {
        let names = self.root.list(directory)?.unwrap_or_default();
        let names = names.into_iter().filter_map(|name| String::from_utf8(name).ok());
        Ok(names.filter(|name| !name.starts_with('.')).collect())
    }

    /// Removes a directory with those below it as far as they are empty.
    fn remove_if_empty(&self, directory: &str, depth: usize) -> Result<(), Failure> {
        if depth == MAX_DEPTH || !self.root.is_directory(directory)? {
            return Ok(());
        }
        for name in self.visible(directory)? {
            self.remove_if_empty(&format!("{directory}/{name}"), depth + 1)?;
        }
        self.root.remove_empty_directory(directory)?;
        Ok(())
    }
}
