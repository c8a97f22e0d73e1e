//! `step`: one step of a build, for a build system that decides itself what is built where and keeps the results, as
//! Nix does.
//!
//! An [`Order`] names files only; nothing is fetched, no user's store is looked at, and nothing but `out` is written:
//! a step is a function of its order. The keys of layers are computed here from the inputs, as in any other build, so
//! whoever writes orders cannot get them wrong: an image whose plan asks for another layer than it is given fails.

mod image;
mod layer;
mod order;

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::Serialize;

pub use order::{
    Accounts, CheckOrder, CollectOrder, GivenPackage, ImageOrder, LayerOrder, Order, VerifyOrder,
};

use super::session::{Options, Session};
use super::{CommandError, verify};
use crate::digest::Sha256;
use crate::model;
use crate::progress::{Event, Reporter};
use crate::store::{Context as _, Kind, Store};

/// Longest order that is read, in bytes: some hundred times that of a full desktop.
const MAX_ORDER: u64 = 64 << 20;

/// What a step made.
#[derive(Debug, Serialize)]
pub struct Stepped {
    /// What was made, in a few words: `layer KEY`.
    pub made: String,
    /// Where it is.
    pub out: PathBuf,
}

/// Does what the order in the file `order` says and puts the result at `out`, where nothing may be yet.
///
/// Of `options` the project, the store and the place of results are not used.
///
/// # Errors
/// An order that cannot be read or has something else than an order has; whatever keeps the step from being done.
pub fn step(
    order: &Path,
    out: &Path,
    options: &Options,
    reporter: &dyn Reporter,
    cancel: &AtomicBool,
) -> Result<Stepped, CommandError> {
    let order = read(order)?;
    if fs::symlink_metadata(out).is_ok() {
        return Err(CommandError::Usage(format!("`{}` is there already", out.display())));
    }
    let made = match order {
        Order::Layer(order) => layer::make(&order, out, options, reporter, cancel),
        Order::Image(order) => image::make(*order, out, options, reporter, cancel),
        Order::Check(order) => check(&order, out, options, reporter, cancel),
        Order::Verify(order) => verify_image(&order, out),
        Order::Collect(order) => collect(&order, out),
    };
    if made.is_err() {
        // Nothing was there before, so all that is there now is half a result.
        let _ = if out.is_dir() { fs::remove_dir_all(out) } else { fs::remove_file(out) };
    }
    Ok(Stepped { made: made?, out: out.to_owned() })
}

fn read(path: &Path) -> Result<Order, CommandError> {
    let mut text = String::new();
    let file = File::open(path).context("open", path)?;
    file.take(MAX_ORDER + 1).read_to_string(&mut text).context("read", path)?;
    let bad = |reason: String| CommandError::Usage(format!("the order `{}`: {reason}", path.display()));
    if text.len() as u64 > MAX_ORDER {
        return Err(bad(format!("it has more than {MAX_ORDER} bytes")));
    }
    // The message ends with line and column.
    serde_json::from_str(&text).map_err(|error| bad(error.to_string()))
}

/// A store of this step alone, that goes with `Workspace`.
struct Workspace {
    store: Store,
    directory: tempfile::TempDir,
}

impl Workspace {
    fn new() -> Result<Self, CommandError> {
        let directory = tempfile::Builder::new().prefix("build-images-step-").tempdir();
        let directory = directory.context("make a directory in", &std::env::temp_dir())?;
        let store = Store::open(directory.path().join("store"))?;
        Ok(Self { store, directory })
    }

    /// Makes the object at `path` the one named `name`.
    fn give(&self, kind: Kind, name: impl std::fmt::Display, path: &Path) -> Result<(), CommandError> {
        let target = self.store.path(kind, name);
        if fs::symlink_metadata(&target).is_ok() {
            return Ok(());
        }
        let path = std::path::absolute(path).context("find", path)?;
        Ok(std::os::unix::fs::symlink(&path, &target).context("make", &target)?)
    }

    /// Gives the layers that earlier steps put into `outputs`. The keys, in that order.
    fn give_layers(&self, outputs: &[PathBuf]) -> Result<Vec<Sha256>, CommandError> {
        let mut keys = Vec::new();
        for output in outputs {
            let directory = output.join(LAYERS);
            for entry in fs::read_dir(&directory).context("read", &directory)? {
                let path = entry.context("read", &directory)?.path();
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let key: Sha256 = name.parse().map_err(|_| {
                    CommandError::Usage(format!("`{}` is no layer: its name is no key", path.display()))
                })?;
                self.give(Kind::Layer, key, &path)?;
                keys.push(key);
            }
        }
        Ok(keys)
    }
}

/// Where the result of a layer's step has the layer.
const LAYERS: &str = "layers";

/// Checks a whole project as `check` does, and writes what was found.
fn check(
    order: &CheckOrder,
    out: &Path,
    options: &Options,
    reporter: &dyn Reporter,
    cancel: &AtomicBool,
) -> Result<String, CommandError> {
    let workspace = Workspace::new()?;
    let options =
        Options { root: order.project.clone(), store: workspace.store.root().to_owned(), ..options.clone() };
    let session = Session::open(options, reporter, cancel)?;
    for image in session.project.images.keys() {
        session.evaluate(image)?;
    }
    let lock = session.read_lock()?.unwrap_or_default();
    let stale: Vec<_> = session.requests.stale(&lock).iter().map(ToString::to_string).collect();
    for stale in &stale {
        reporter.report(Event::Warning(format!("images.lock: {stale}")));
    }
    let images: Vec<_> = session.project.images.keys().collect();
    let report = serde_json::json!({ "images": images, "stale": stale });
    fs::write(out, format!("{report:#}\n")).context("write", out)?;
    Ok(format!("a check of {} images", images.len()))
}

/// Compares an artifact with its manifest, and writes what was compared.
fn verify_image(order: &VerifyOrder, out: &Path) -> Result<String, CommandError> {
    let verified = verify(&order.artifact)?;
    if !verified.good() {
        return Err(CommandError::Failed(format!(
            "`{}` is not as its manifest says",
            order.artifact.display()
        )));
    }
    let text = serde_json::to_string_pretty(&verified).unwrap_or_default();
    fs::write(out, text + "\n").context("write", out)?;
    Ok(format!("a check of image `{}`", verified.image))
}

/// Puts links to images into one directory, as `result/` has them.
fn collect(order: &CollectOrder, out: &Path) -> Result<String, CommandError> {
    fs::create_dir_all(out).context("make the directory", out)?;
    for (name, output) in &order.images {
        if let Err(complaint) = model::words::project_name(name) {
            return Err(CommandError::Usage(format!("image `{name}`: {}", complaint.message)));
        }
        let (image, link) = (output.join(name), out.join(name));
        fs::metadata(&image).context("find", &image)?;
        std::os::unix::fs::symlink(&image, &link).context("make", &link)?;
    }
    Ok(format!("links to {} images", order.images.len()))
}
