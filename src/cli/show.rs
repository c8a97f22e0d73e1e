//! How the outcome of each command looks.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;
use serde_json::json;

use super::diff::diff_text;
use super::run::{print, report};
use super::table::{bytes, table};
use crate::apt::lockfile::{Lock, LockedPackage, LockedTarball};
use crate::apt::locking::Missing;
use crate::artifact::ResultDirectory;
use crate::commands::{
    self, Built, CommandError, Done, Dropped, LayerState, Locked, Presence, Session, StoreVerified, Vendored,
    Verified,
};
use crate::model::image::{Address, Image};
use crate::model::probe::Service;

pub(super) fn print_json(value: &impl Serialize) -> Result<(), CommandError> {
    let text = serde_json::to_string_pretty(value);
    print(&(text.map_err(|error| CommandError::failed("cannot print JSON", &error))? + "\n"))
}

/// `path` as seen from where the user is, when that is shorter.
fn nearby(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

pub(super) fn build(session: &Session, images: &[String], as_json: bool) -> Result<u8, CommandError> {
    let outcomes = commands::build(session, images)?;
    let mut code = 0;
    let mut rows = Vec::new();
    let mut values = Vec::new();
    let mut failures = Vec::new();
    for (image, outcome) in &outcomes {
        match outcome {
            Ok(built) => {
                rows.push(row(built));
                values.push(json!(built));
            }
            Err(error) => {
                code = code.max(error.exit_code());
                let failed =
                    if matches!(error, CommandError::Interrupted) { "interrupted" } else { "failed" };
                let mut cells = vec![image.clone(), failed.to_owned()];
                cells.resize(6, String::new());
                rows.push(cells);
                values.push(json!({ "image": image, "done": failed, "error": error.to_string() }));
                failures.push(error);
            }
        }
    }
    if as_json {
        print_json(&values)?;
    } else {
        let heading = [
            ("image", false),
            ("done", false),
            ("size", true),
            ("packages", true),
            ("seconds", true),
            // Last: it is long, and a narrow terminal wraps it.
            ("archive", false),
        ];
        print(&table(&heading, &rows))?;
    }
    let mut interrupted = false;
    for error in failures {
        // An interrupt is said once, however many images it stopped.
        if !(matches!(error, CommandError::Interrupted) && std::mem::replace(&mut interrupted, true)) {
            report(error, as_json);
        }
    }
    Ok(code)
}

pub(super) fn site(session: &Session, images: &[String], as_json: bool) -> Result<u8, CommandError> {
    let written = commands::site(session, images)?;
    if as_json {
        print_json(&written)?;
        return Ok(0);
    }
    let place = nearby(&written.directory);
    let mut text = String::new();
    for path in &written.changed {
        let done = if written.files.contains(path) { "written" } else { "removed" };
        let _ = writeln!(text, "{done}  {place}/{path}");
    }
    let count = written.files.len();
    if written.changed.is_empty() {
        let _ = writeln!(text, "nothing changed: {count} files in {place}");
    }
    print(&text).map(|()| 0)
}

fn row(built: &Built) -> Vec<String> {
    let done = match &built.done {
        Done::Unchanged => "nothing changed".to_owned(),
        Done::Built { layers_built: 0, frames_compressed, frames_reused, .. } => {
            format!("built, {frames_compressed} of {} frames new", frames_compressed + frames_reused)
        }
        Done::Built { layers_built, layers_reused: 0, .. } => format!("built, {layers_built} layers"),
        Done::Built { layers_built, layers_reused, .. } => {
            format!("built, {layers_built} of {} layers", layers_built + layers_reused)
        }
    };
    vec![
        built.image.clone(),
        done,
        bytes(built.size),
        built.packages.to_string(),
        format!("{:.2}", built.elapsed.as_secs_f64()),
        nearby(&built.archive),
    ]
}

pub(super) fn check(session: &Session, as_json: bool) -> Result<u8, CommandError> {
    let lock = session.read_lock()?;
    let stale = session.requests.stale(&lock.clone().unwrap_or_default());
    for image in session.project.images.keys() {
        session.evaluate(image)?;
    }
    let (images, recipes) = (session.project.images.len(), session.project.recipes.len());
    if as_json {
        print_json(&json!({ "images": images, "recipes": recipes, "stale": stale }))?;
        return Ok(0);
    }
    let count = |number, what| if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") };
    let mut text = format!("checked {} and {}\n", count(images, "image"), count(recipes, "recipe"));
    if lock.is_none() {
        text.push_str("nothing is locked yet: `build-images lock` or the first build does it\n");
    } else if stale.is_empty() {
        text.push_str("the lock matches the recipes\n");
    } else {
        text.push_str("the lock is stale; `build-images lock` or the next build mends it:\n");
        for stale in &stale {
            let _ = writeln!(text, "  {stale}");
        }
    }
    print(&text)?;
    Ok(0)
}

pub(super) fn lock(locked: Locked, unchanged: &str, as_json: bool) -> Result<u8, CommandError> {
    let Locked { lock, diff, stale, missing } = locked;
    let code = u8::from(!missing.is_empty());
    if as_json {
        let mut value = json!({ "stale": stale, "diff": diff, "packages": lock.package.len() });
        if !missing.is_empty() {
            value["missing"] = missing.iter().map(Missing::to_json).collect();
        }
        print_json(&value)?;
        return Ok(code);
    }
    let mut text = String::new();
    for stale in &stale {
        let _ = writeln!(text, "was stale: {stale}");
    }
    if diff.is_empty() && stale.is_empty() {
        let _ = writeln!(text, "{unchanged}: {} packages locked", lock.package.len());
    } else {
        text.push_str(&diff_text(&diff));
        let _ = writeln!(text, "{} packages locked", lock.package.len());
    }
    print(&text)?;
    for missing in &missing {
        report(&missing.to_error(), as_json);
    }
    Ok(code)
}

pub(super) fn vendor(session: &Session, directory: &Path, as_json: bool) -> Result<u8, CommandError> {
    let vendored = commands::vendor(session, directory)?;
    if as_json {
        print_json(&vendored)?;
        return Ok(0);
    }
    let Vendored { packages, tarballs, new, size, mirrors, unsigned } = vendored;
    let mut text =
        format!("{} packages and {} tarballs, {}; {new} files are new\n", packages, tarballs, bytes(size));
    for archive in unsigned {
        let _ = writeln!(
            text,
            "archive `{archive}` has moved on: its copy has the packages that the lock names, but cannot be locked from"
        );
    }
    text.push_str("to build from it: BUILD_IMAGES_MIRROR='");
    let pairs: Vec<_> = mirrors.iter().map(|(name, uri)| format!("{name}={uri}")).collect();
    text.push_str(&pairs.join(" "));
    text.push_str("'\n");
    print(&text)?;
    Ok(0)
}

fn address(image: &Image) -> String {
    match &image.container.address {
        Address::Static { address, prefix, .. } => format!("{address}/{prefix}"),
        Address::Dhcp => "dhcp".to_owned(),
    }
}

/// Everything that is known of an image without building it.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    image: &'a Image,
    /// Whether the lock answers all that the image asks for.
    locked: bool,
    services: Vec<&'a Service>,
    packages: Vec<LockedPackage>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tarballs: Vec<LockedTarball>,
    archive: Option<PathBuf>,
    size: Option<u64>,
    sha256: Option<String>,
}

fn shown<'a>(session: &'a Session, image: &'a Image, lock: Option<&Lock>) -> Result<Shown<'a>, CommandError> {
    let mut packages: Vec<LockedPackage> = Vec::new();
    let mut tarballs = Vec::new();
    let only = BTreeSet::from([image.name.clone()]);
    let stale = session.requests.stale(lock.unwrap_or(&Lock::default()));
    let locked = session.requests.concerning(&stale, Some(&only)).is_empty();
    if let Some(lock) = lock {
        let recipes = image.recipes.iter().filter_map(|name| session.project.recipes.get(name));
        let named = recipes.flat_map(|recipe| &recipe.tarballs);
        tarballs = named.filter_map(|tarball| lock.tarball(&tarball.name)).cloned().collect();
        for length in (1..=image.recipes.len()).rev() {
            let Some(set) = lock.set(&image.recipes[..length]) else { continue };
            packages.extend(set.packages.iter().filter_map(|member| lock.package(member)).cloned());
            if set.alone {
                break;
            }
        }
    }
    packages.sort();
    let result = ResultDirectory::new(&session.options.results, &image.name);
    let manifest = result.manifest()?;
    let recipes = image.recipes.iter().filter_map(|name| session.project.recipes.get(name));
    Ok(Shown {
        image,
        locked,
        services: recipes.filter_map(|recipe| recipe.service.as_ref()).collect(),
        packages,
        tarballs,
        archive: manifest.as_ref().map(|manifest| result.path().join(&manifest.archive.file)),
        size: manifest.as_ref().map(|manifest| manifest.archive.size),
        sha256: manifest.as_ref().map(|manifest| manifest.archive.sha256.to_string()),
    })
}

pub(super) fn images(session: &Session, as_json: bool) -> Result<u8, CommandError> {
    let lock = session.read_lock()?;
    let shown: Vec<_> = session
        .project
        .images
        .values()
        .map(|image| shown(session, image, lock.as_ref()))
        .collect::<Result<_, _>>()?;
    if as_json {
        print_json(&shown)?;
        return Ok(0);
    }
    let rows: Vec<_> = shown
        .iter()
        .map(|shown| {
            let container = &shown.image.container;
            vec![
                shown.image.name.clone(),
                container.vmid.to_string(),
                address(shown.image),
                container.domain.clone(),
                shown.image.recipes.join(" + "),
                if shown.locked { shown.packages.len().to_string() } else { "-".to_owned() },
                shown.size.map_or_else(|| "-".to_owned(), bytes),
            ]
        })
        .collect();
    let heading = [
        ("image", false),
        ("vmid", true),
        ("address", false),
        ("domain", false),
        ("recipes", false),
        ("packages", true),
        ("size", true),
    ];
    print(&table(&heading, &rows))?;
    Ok(0)
}

fn find<'a>(session: &'a Session, image: &str) -> Result<&'a Image, CommandError> {
    let name = session.select(&[image.to_owned()])?;
    let found = name.first().and_then(|name| session.project.images.get(name));
    found.ok_or_else(|| CommandError::Usage(format!("there is no image `{image}`")))
}

pub(super) fn image(session: &Session, name: &str, plan: bool, as_json: bool) -> Result<u8, CommandError> {
    let image = find(session, name)?;
    let lock = session.read_lock()?;
    if plan {
        return show_plan(session, name, lock.as_ref().ok_or(CommandError::NoLock)?, as_json);
    }
    let shown = shown(session, image, lock.as_ref())?;
    if as_json {
        print_json(&shown)?;
        return Ok(0);
    }
    let container = &image.container;
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "{label:<12} {value}");
    };
    line("image", &image.name);
    line("description", &image.description);
    line("recipes", &image.recipes.join(" + "));
    line("vmid", &container.vmid.to_string());
    line("address", &address(image));
    line("domain", &container.domain);
    line("cores", &container.cores.to_string());
    line("memory", &format!("{} MiB, swap {} MiB", container.memory, container.swap));
    line("disk", &format!("{} GiB", container.disk));
    for mount in &image.mounts {
        let how = if mount.read_only { " (read-only)" } else { "" };
        line("mount", &format!("{} on {}{how}", mount.source, mount.target));
    }
    if let Some(gpu) = &container.gpu {
        line("gpu", &format!("{} for group {}", gpu.device, gpu.gid));
    }
    for space in &image.space {
        let place = match &space.source {
            Some(source) => format!("{source} on the node"),
            None => "the root file system".to_owned(),
        };
        line("needs free", &format!("{} MiB for {}, in {place}", space.free, space.path));
    }
    for service in &shown.services {
        line("probe", &probe(service));
    }
    if let (Some(archive), Some(size)) = (&shown.archive, shown.size) {
        line("archive", &format!("{} ({})", nearby(archive), bytes(size)));
    }
    for tarball in &shown.tarballs {
        line("tarball", &format!("{} {} ({})", tarball.name, tarball.url, bytes(tarball.size)));
    }
    let unlocked = if shown.locked { "" } else { ", not all locked: `build-images lock`" };
    line("packages", &format!("{}{unlocked}", shown.packages.len()));
    for package in &shown.packages {
        let _ = writeln!(text, "  {} {} {}", package.name, package.version, package.architecture);
    }
    print(&text)?;
    Ok(0)
}

/// One line that says what a good answer is.
fn probe(service: &Service) -> String {
    let statuses: Vec<_> = service.probe.status.iter().map(ToString::to_string).collect();
    let mut text = format!("port {} {}: {}", service.port, service.probe.path, statuses.join(" or "));
    if !service.probe.body.is_any() {
        let _ = write!(text, " with {}", service.probe.body);
    }
    for starting in &service.probe.starting {
        let _ = write!(text, "; starting with {}", starting.body);
    }
    if let Some(setup) = &service.setup {
        let _ = write!(text, "; not set up when {} has {}", setup.path, setup.body);
    }
    text
}

fn show_plan(session: &Session, name: &str, lock: &Lock, as_json: bool) -> Result<u8, CommandError> {
    let plan = session.plan(name, lock)?;
    let layers = commands::layers(session, &plan);
    if as_json {
        print_json(&json!({ "image": name, "plan": plan.key, "layers": layers }))?;
        return Ok(0);
    }
    let row = |layer: &LayerState| {
        let state = match &layer.presence {
            Presence::There => "there",
            Presence::NeverBuilt => "never built here",
            Presence::Removed => "removed from the store",
            Presence::Changed { .. } => "to build",
        };
        let recipes = layer.recipes.join(" + ");
        vec![recipes, layer.packages.to_string(), state.to_owned(), layer.key.to_string()]
    };
    let heading = [("layer", false), ("packages", true), ("state", false), ("key", false)];
    let rows: Vec<_> = layers.iter().map(row).collect();
    let mut text = format!("plan {}\n{}", plan.key, table(&heading, &rows));
    for layer in &layers {
        let Presence::Changed { changes } = &layer.presence else { continue };
        let _ = writeln!(text, "{}: since it was last there", layer.recipes.join(" + "));
        for change in changes {
            let _ = writeln!(text, "  {change}");
        }
    }
    print(&text)?;
    Ok(0)
}

pub(super) fn config(session: &Session, name: &str, as_json: bool) -> Result<u8, CommandError> {
    let image = find(session, name)?;
    let text = crate::pve::config_for(image, &session.project.site).to_text();
    if as_json {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let settings: serde_json::Map<_, _> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(key, value)| (key.to_owned(), json!(value)))
            .collect();
        print_json(
            &json!({ "image": name, "vmid": image.container.vmid, "settings": settings, "text": text }),
        )?;
    } else {
        print(&text)?;
    }
    Ok(0)
}

pub(super) fn why(session: &Session, name: &str, package: &str, as_json: bool) -> Result<u8, CommandError> {
    let image = find(session, name)?;
    let lock = session.read_lock()?.ok_or(CommandError::NoLock)?;
    let chain = commands::why(&lock, name, &image.recipes, package)
        .map_err(|error| CommandError::Usage(error.to_string()))?;
    if as_json {
        print_json(&chain)?;
        return Ok(0);
    }
    let mut text = String::new();
    for (depth, link) in chain.iter().enumerate() {
        let indent = "  ".repeat(depth);
        let _ = match &link.by {
            Some(by) => {
                writeln!(text, "{indent}{} {}: {} of {by}", link.package, link.version, link.reason)
            }
            None => {
                writeln!(
                    text,
                    "{indent}{} {}: {} by recipe {}",
                    link.package, link.version, link.reason, link.recipe
                )
            }
        };
    }
    print(&text)?;
    Ok(0)
}

pub(super) fn verify(verified: &Verified, as_json: bool) -> Result<u8, CommandError> {
    if as_json {
        print_json(verified)?;
    } else {
        print(&verified.text())?;
    }
    Ok(if verified.good() { 0 } else { 1 })
}

pub(super) fn verify_store(verified: &StoreVerified, as_json: bool) -> Result<u8, CommandError> {
    if as_json {
        print_json(verified)?;
    } else {
        let count = verified.damaged.len();
        let result = match (count, verified.good()) {
            (0, _) => "all are good".to_owned(),
            (1, false) => {
                "1 is damaged; the next build that meets it makes it anew, `--repair` drops it".to_owned()
            }
            (_, false) => {
                format!(
                    "{count} are damaged; the next build that meets them makes them anew, `--repair` drops them"
                )
            }
            (1, true) => "1 was damaged and is dropped; the next build makes it anew".to_owned(),
            (_, true) => format!("{count} were damaged and are dropped; the next build makes them anew"),
        };
        let StoreVerified { objects, bytes: size, .. } = verified;
        print(&format!("{}checked {objects} objects, {}: {result}\n", verified.text(), bytes(*size)))?;
    }
    Ok(if verified.good() { 0 } else { 1 })
}

pub(super) fn gc(
    session: &Session,
    dry_run: bool,
    keep_days: u32,
    as_json: bool,
) -> Result<u8, CommandError> {
    let swept = commands::gc(session, dry_run, keep_days, SystemTime::now())?;
    if as_json {
        print_json(&swept)?;
        return Ok(0);
    }
    if dry_run && !swept.dropped.is_empty() {
        let row = |dropped: &Dropped| {
            let path = dropped.path.display().to_string();
            vec![dropped.what.to_owned(), bytes(dropped.bytes), path, dropped.belongs_to.join(", ")]
        };
        let heading = [("would drop", false), ("size", true), ("path in the store", false), ("of", false)];
        print(&table(&heading, &swept.dropped.iter().map(row).collect::<Vec<_>>()))?;
    }
    let verb = if dry_run { "would drop" } else { "dropped" };
    print(&format!("{verb} {} objects, {}; {} are in use\n", swept.objects, bytes(swept.bytes), swept.kept))?;
    Ok(0)
}
