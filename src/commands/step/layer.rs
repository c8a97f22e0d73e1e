//! The step that installs packages.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;

use super::order::{Accounts, GivenPackage, LayerOrder};
use super::{LAYERS, Workspace};
use crate::build::contents::NewContents;
use crate::build::finish;
use crate::build::stage::{self, Stage, StageJob, StagePackage};
use crate::commands::{CommandError, Options};
use crate::digest::Sha256;
use crate::layer::{INDEX, Layer, LayerIndex, PACK, PackWriter};
use crate::model::{self, recipe::Group, recipe::User};
use crate::progress::Reporter;
use crate::sandbox::IdRange;
use crate::store::{Context as _, Kind};
use crate::tree::{Contents as _, Node};

pub(super) fn make(
    order: &LayerOrder,
    out: &Path,
    options: &Options,
    reporter: &dyn Reporter,
    cancel: &AtomicBool,
) -> Result<String, CommandError> {
    let failed = |doing: &str, error: &dyn std::error::Error| CommandError::failed(doing, error);
    let workspace = Workspace::new()?;
    let below = workspace.give_layers(&order.below)?;
    let job = job(order, below.last().copied())?;
    for GivenPackage { sha256, deb, .. } in &order.packages {
        workspace.give(Kind::Deb, sha256, deb)?;
    }
    let range = IdRange::discover().map_err(|error| failed("cannot build in a sandbox", &error))?;
    let subject = order.recipes.join(" + ");
    let stage = Stage {
        job: &job,
        subject: &subject,
        limits: &options.limits,
        executable: &options.program,
        range: &range,
        scratch: options.scratch.as_deref(),
        cancel,
    };
    let layer = stage::build(&stage, &workspace.store, reporter)
        .map_err(|error| failed(&format!("cannot build the packages of {subject}"), &error))?;
    let directory = out.join(LAYERS).join(layer.key.to_string());
    fs::create_dir_all(&directory).context("make the directory", &directory)?;
    save(&layer, job.parent, &directory)
        .map_err(|error| failed(&format!("cannot keep the packages of {subject}"), &error))?;
    Ok(format!("layer {}", layer.key))
}

/// Writes the layer into `directory` so that whoever makes it again writes the same: what keeps it may have one layer from
/// here and the next from elsewhere.
fn save(layer: &Layer, parent: Option<Sha256>, directory: &Path) -> io::Result<()> {
    let mut contents = NewContents::over(layer);
    let tree = finish::settle(&layer.tree, &mut contents)?;
    let below: BTreeSet<Sha256> =
        layer.offsets().skip(1).flat_map(|offsets| offsets.keys().copied()).collect();
    let mut written = below.clone();
    let mut pack = PackWriter::new(File::create(directory.join(PACK))?, Arc::new(below));
    for content in tree.values().filter_map(Node::content) {
        if written.insert(content.sha256) {
            pack.add_hashed(*content, &contents.read(content)?)?;
        }
    }
    let index = LayerIndex::new(parent, tree, pack.finish()?);
    index.write(File::create(directory.join(INDEX))?)
}

/// What decides the layer's bytes, as a plan says it.
fn job(order: &LayerOrder, parent: Option<Sha256>) -> Result<StageJob, CommandError> {
    let (mut groups, mut users) = (Vec::new(), Vec::new());
    for accounts in &order.accounts {
        let (more_groups, more_users) = declared(accounts)?;
        groups.extend(more_groups);
        users.extend(more_users);
    }
    let package = |given: &GivenPackage| StagePackage {
        name: given.name.clone(),
        version: given.version.clone(),
        architecture: given.architecture.clone(),
        sha256: given.sha256,
        size: given.size,
    };
    let mut packages: Vec<_> = order.packages.iter().map(package).collect();
    packages.sort_by(|a, b| (&a.name, &a.architecture).cmp(&(&b.name, &b.architecture)));
    let epoch = order.epoch.parse::<Timestamp>();
    let epoch =
        epoch.map_err(|_| CommandError::Usage(format!("the order has `{}` as a date", order.epoch)))?;
    let (requested, epoch) = (order.requested.clone(), epoch.as_second());
    Ok(StageJob { packages, parent, users, groups, requested, epoch })
}

/// Groups and users with all that a recipe leaves to its defaults, by the rules of recipes.
fn declared(accounts: &Accounts) -> Result<(Vec<Group>, Vec<User>), CommandError> {
    let mut table = toml::Table::new();
    table.insert("description".to_owned(), "accounts".into());
    for (name, rows) in [("group", &accounts.group), ("user", &accounts.user)] {
        let rows = rows.iter().cloned().map(toml::Value::Table).collect();
        table.insert(name.to_owned(), toml::Value::Array(rows));
    }
    let text = toml::to_string(&table)
        .map_err(|error| CommandError::failed(&format!("recipe `{}`", accounts.recipe), &error))?;
    let place = format!("accounts of {} in the order", accounts.recipe);
    Ok(model::load::accounts(&accounts.recipe, &place, &text)?)
}
