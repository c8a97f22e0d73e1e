//! The step that installs packages.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;

use super::order::{Accounts, GivenPackage, LayerOrder};
use super::{LAYERS, Workspace};
use crate::build::stage::{self, Stage, StageJob, StagePackage};
use crate::commands::{CommandError, Options};
use crate::digest::Sha256;
use crate::model::{self, recipe::Group, recipe::User};
use crate::progress::Reporter;
use crate::sandbox::IdRange;
use crate::store::{Context as _, Kind};

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
    let (key, made) = (layer.key, workspace.store.path(Kind::Layer, layer.key));
    drop(layer);
    let directory = out.join(LAYERS).join(key.to_string());
    fs::create_dir_all(&directory).context("make the directory", &directory)?;
    for file in ["pack", "layer.json"] {
        let (from, to) = (made.join(file), directory.join(file));
        // Another file system, most times.
        if fs::rename(&from, &to).is_err() {
            fs::copy(&from, &to).context("write", &to)?;
        }
    }
    Ok(format!("layer {key}"))
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
