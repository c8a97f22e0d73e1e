//! The order of things: unpack, preinst, configure, in one or two rounds.

use super::configure;
use super::database;
use super::decompress::Feed;
use super::failure::Failure;
use super::gather::Gather;
use super::job::{Limits, StageJob, Task};
use super::loose::Ready;
use super::owners::Owners;
use super::package::Package;
use super::pins::Pins;
use super::place::{Placed, Placer, Unpacked};
use super::preinst;
use super::root::Root;
use super::rounds::first_round;
use super::rules::Rules;
use super::scripts::Scripts;
use crate::progress::{Event, Unit};

/// Seconds that dpkg may take for each package, on top of the limit for one script.
const SECONDS_PER_PACKAGE: u64 = 5;
/// Ships the links `/bin`, `/lib` … that everything else goes through.
const FIRST_UNPACKED: &str = "base-files";
/// Makes passwd and group; its preinst comes before all others.
const MAKES_ACCOUNTS: &str = "base-passwd";

/// Everything that a round needs.
pub(super) struct Installer<'a> {
    pub root: &'a Root,
    pub scripts: &'a mut dyn Scripts,
    pub task: &'a Task,
    pub limits: &'a Limits,
    pub placed: &'a mut Placed,
    pub say: &'a dyn Fn(Event),
    gather: &'a mut dyn Gather,
    pins: Pins<'a>,
    owners: Owners,
    architecture: String,
    dpkg_version: String,
}

/// In which order the packages of a job are unpacked.
pub(super) struct Order<'a> {
    /// What has to be configured before the rest is unpacked; nothing when there is a layer below.
    early: Vec<&'a Package>,
    late: Vec<&'a Package>,
}

impl<'a> Order<'a> {
    /// The order for `packages`, those of `job`.
    pub fn of(job: &StageJob, packages: &'a [Package]) -> Self {
        let first = if job.parent.is_none() { first_round(packages) } else { vec![false; packages.len()] };
        let members = |wanted: bool| {
            packages
                .iter()
                .zip(&first)
                .filter(move |(_, first)| **first == wanted)
                .map(|(package, _)| package)
        };
        let (mut early, late): (Vec<_>, Vec<_>) = (members(true).collect(), members(false).collect());
        // Stable: among the others the job's order stays.
        early.sort_by_key(|package| package.name != FIRST_UNPACKED);
        Self { early, late }
    }

    /// All packages, the first to be unpacked first.
    pub fn all(&self) -> impl Iterator<Item = &'a Package> {
        self.early.iter().chain(&self.late).copied()
    }

    /// How many are unpacked at once; between them scripts run.
    pub fn groups(&self) -> [usize; 2] {
        [self.early.len(), self.late.len()]
    }
}

/// Installs `packages` on the root, which is empty or has the layer below on it; `feed` gives their data archives in
/// `order`, and tells `gather`.
#[expect(clippy::too_many_arguments, reason = "one call site, each argument is a different thing")]
pub(super) fn install(
    root: &Root,
    scripts: &mut dyn Scripts,
    (task, limits): (&Task, &Limits),
    packages: &[Package],
    order: &Order<'_>,
    feed: &mut Feed<'_, '_>,
    placed: &mut Placed,
    say: &dyn Fn(Event),
    gather: &mut dyn Gather,
) -> Result<(), Failure> {
    let installed = database::installed(root)?;
    for package in packages {
        if let Some(found) = installed.iter().find(|owner| owner.stem == package.stem) {
            return Err(Failure::AlreadyInstalled {
                package: package.name.clone(),
                version: package.version.clone(),
                installed: found.version.clone(),
            });
        }
    }
    let native = packages.iter().map(|package| &package.architecture).find(|name| *name != "all");
    let known = root.read_text(&format!("{}/arch", database::ADMIN))?;
    let architecture = match (known, native) {
        (Some(text), _) => text.lines().next().unwrap_or_default().to_owned(),
        (None, Some(native)) => native.clone(),
        (None, None) => return Err(Failure::Database { reason: "no package has an architecture".into() }),
    };
    let dpkg = packages.iter().find(|package| package.name == "dpkg").map(|package| &package.version);
    let dpkg =
        dpkg.or_else(|| installed.iter().find(|owner| owner.name == "dpkg").map(|owner| &owner.version));
    // Scripts get the upstream version, as `dpkg --version` shows it.
    let dpkg_version = dpkg.cloned().unwrap_or_default();
    let mut installer = Installer {
        root,
        scripts,
        task,
        limits,
        placed,
        say,
        gather,
        pins: Pins::new(&task.job),
        owners: Owners::new(installed),
        architecture,
        dpkg_version,
    };
    // The feed's threads go on with later packages while scripts of the first round run.
    if !order.early.is_empty() {
        installer.first(&order.early, order.late.is_empty(), feed)?;
    }
    if !order.late.is_empty() {
        installer.rest(&order.late, feed)?;
    }
    installer.pins.settle(root)?;
    database::mark_automatic(root, packages, &task.job.requested, &installer.architecture)
}

impl Installer<'_> {
    /// The first round of an empty root: nothing can run before all of it is unpacked.
    fn first(
        &mut self,
        packages: &[&Package],
        is_last: bool,
        feed: &mut Feed<'_, '_>,
    ) -> Result<(), Failure> {
        self.unpack(packages, feed)?;
        match is_last {
            true => self.gather.unpacked(self.placed)?,
            false => self.gather.round()?,
        }
        self.stage("running preinst scripts", packages.len());
        let (accounts, others): (Vec<&Package>, Vec<&Package>) =
            packages.iter().partition(|package| package.name == MAKES_ACCOUNTS);
        if !accounts.is_empty() {
            self.preinst(&accounts)?;
            self.pins.pin(self.root)?;
        }
        self.preinst(&others)?;
        self.configure(packages, packages.iter().map(|package| package.name.clone()).collect())
    }

    /// Everything that comes onto a configured system.
    fn rest(&mut self, packages: &[&Package], feed: &mut Feed<'_, '_>) -> Result<(), Failure> {
        self.pins.pin(self.root)?;
        self.stage("running preinst scripts", packages.len());
        self.preinst(packages)?;
        self.unpack(packages, feed)?;
        self.gather.unpacked(self.placed)?;
        self.configure(packages, vec!["-a".into()])
    }

    fn unpack(&mut self, packages: &[&Package], feed: &mut Feed<'_, '_>) -> Result<(), Failure> {
        self.stage("unpacking", packages.len());
        let mut done = 0;
        let (say, task) = (self.say, self.task);
        let gather: &mut dyn Gather = &mut *self.gather;
        unpack(self.root, (&mut self.owners, self.placed, gather), &self.architecture, packages, |package| {
            say(task.progress(done, &package.name));
            done += 1;
            feed.next().ok_or_else(|| Failure::Worker { reason: "no data archive is left".into() })
        })
    }

    fn preinst(&mut self, packages: &[&Package]) -> Result<(), Failure> {
        let seconds = self.limits.script_seconds + SECONDS_PER_PACKAGE * packages.len() as u64;
        preinst::run(self.root, self.scripts, packages, &self.dpkg_version, seconds)
    }

    fn configure(&mut self, packages: &[&Package], what: Vec<String>) -> Result<(), Failure> {
        self.stage("configuring", packages.len());
        if self.root.stat(b"usr/bin/dpkg")?.is_none() {
            let reason = "there is no `/usr/bin/dpkg`: the first recipe has to bring the Essential packages";
            return Err(Failure::Database { reason: reason.into() });
        }
        let seconds = self.limits.script_seconds + SECONDS_PER_PACKAGE * packages.len() as u64;
        let (root, say, task, pins) = (self.root, self.say, self.task, &mut self.pins);
        let mut done = 0;
        configure::run(root, self.scripts, what, seconds, &mut |name| {
            done += 1;
            say(task.progress(done.min(packages.len()), name));
            pins.look(root, name);
        })?;
        self.pins.blame()
    }

    fn stage(&self, action: &str, total: usize) {
        (self.say)(Event::Stage {
            subject: self.task.subject.clone(),
            action: action.to_owned(),
            total: total as u64,
            unit: Unit::Packages,
        });
    }
}

/// Places packages in order and adds them to dpkg's database. `open` gives the members of each one's data archive.
pub(super) fn unpack<'a, R: Iterator<Item = Result<Ready, Failure>>>(
    root: &Root,
    (owners, placed, gather): (&mut Owners, &mut Placed, &mut dyn Gather),
    architecture: &str,
    packages: &[&'a Package],
    mut open: impl FnMut(&'a Package) -> Result<R, Failure>,
) -> Result<(), Failure> {
    let rules = Rules::read(root)?;
    gather.begin();
    let mut placer = Placer::new(root, &rules, owners, (placed, gather));
    let mut unpacked: Vec<(&Package, Unpacked)> = Vec::new();
    for package in packages {
        let data = open(package)?;
        unpacked.push((package, placer.unpack(package, data)?));
        placer.gather.package();
    }
    let lost = placer.lost;
    let pairs: Vec<_> = unpacked.iter().map(|(package, unpacked)| (*package, unpacked)).collect();
    let interests = root.read_text(&format!("{}/triggers/File", database::ADMIN))?;
    database::prepare(root, architecture)?;
    database::add(root, &pairs, placed)?;
    database::drop_paths(root, owners, &lost)?;
    database::activate_file_triggers(root, &interests.unwrap_or_default(), &pairs)
}

impl Task {
    fn progress(&self, done: usize, item: &str) -> Event {
        Event::Progress { subject: self.subject.clone(), done: done as u64, item: item.to_owned() }
    }
}
