//! From arguments to a command, and from its outcome to the screen and an exit code.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::CommandFactory as _;
use jiff::Timestamp;

use super::args::{Cli, Command, Global, SchemaKind};
use super::progress::{Bars, Lines, Quiet};
use super::{diff, show};
use crate::build::stage::Limits;
use crate::commands::{self, CommandError, Options, Session};
use crate::fetch::directory_uri;
use crate::model;
use crate::progress::Reporter;
use crate::store::Store;

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::read(&env::args_os().collect::<Vec<_>>());
    let json = cli.global.json;
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report(&error, json);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Writes to standard output; a reader that went away ends the program without a complaint.
pub(super) fn print(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(CommandError::failed("cannot write to standard output", &error)),
        Ok(()) => Ok(()),
    }
}

fn warn(text: &str) {
    // Nobody is left to tell when standard error is closed.
    drop(writeln!(io::stderr(), "{text}"));
}

/// Whether standard error takes colours.
fn colour() -> bool {
    io::stderr().is_terminal()
        && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

pub(super) fn report(error: &CommandError, json: bool) {
    match error {
        CommandError::Project(diagnostics) if json => {
            warn(&serde_json::to_string_pretty(diagnostics).unwrap_or_else(|error| error.to_string()));
        }
        CommandError::Project(diagnostics) => {
            // Ends with how many there are.
            warn(diagnostics.render(colour()).trim_end());
        }
        CommandError::Preflight(findings) if json => {
            warn(&serde_json::to_string_pretty(findings).unwrap_or_else(|error| error.to_string()));
        }
        error => {
            if let CommandError::Preflight(findings) = error {
                warn(super::deploy::findings(findings, colour()).trim_end_matches('\n'));
                warn("");
            }
            let label = if colour() { "\x1b[1;31merror\x1b[0m" } else { "error" };
            let text = error.to_string();
            warn(&format!("{label}: {text}"));
            if text.contains("No space left on device") {
                warn(
                    "help: make room, or put it elsewhere: --store, --result, and --scratch for trees that memory \
                     cannot hold; the next run goes on from here",
                );
            }
        }
    }
}

fn run(cli: Cli) -> Result<u8, CommandError> {
    let Cli { command, images, global } = cli;
    match command {
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "build-images", &mut script);
            // clap_complete 4.6 calls the functions' cases one name where it sets it and another where it looks for it,
            // when the program's name has a hyphen.
            let script = String::from_utf8_lossy(&script).replace("build__subcmd__images", "build__images");
            return print(&script).map(|()| 0);
        }
        Some(Command::Man) => {
            return print(&super::man::page()?).map(|()| 0);
        }
        Some(Command::Schema { kind }) => {
            let kind = match kind {
                SchemaKind::Recipe => model::Kind::Recipe,
                SchemaKind::Image => model::Kind::Image,
                SchemaKind::Site => model::Kind::Site,
            };
            return print(&format!("{:#}\n", model::schema(kind))).map(|()| 0);
        }
        Some(Command::Diff { old, new }) => return diff::diff(&old, &new, global.json),
        // Whoever was given an artifact has no project.
        Some(Command::Verify { path: Some(path), rebuild: false, .. }) => {
            return show::verify(&commands::verify(&path)?, global.json);
        }
        Some(Command::Step { order, out }) => return step(&global, &order, &out),
        Some(Command::Verify { path: None, store, repair, .. }) => {
            return verify_store(&global, store.is_some(), repair);
        }
        _ => {}
    }
    let cancel = Arc::new(AtomicBool::new(false));
    watch_signals(&cancel)?;
    let reporter = reporter(&global);
    let session = Session::open(options(&global)?, reporter.as_ref(), &cancel)?;
    let unknown = |name: &&String| !session.project.images.contains_key(*name);
    if let Some(name) =
        images.iter().filter(unknown).find(|name| Cli::command().find_subcommand(name).is_some())
    {
        let message = format!("`{name}` is a command, and a command stands first; give images after it");
        return Err(CommandError::Usage(message));
    }
    match command {
        None => show::build(&session, &images, global.json).map_err(|error| meant_command(error, &images)),
        Some(Command::Build { images }) => show::build(&session, &images, global.json),
        Some(Command::Site { images }) => show::site(&session, &images, global.json),
        Some(Command::Check) => show::check(&session, global.json),
        Some(Command::Lock) => show::lock(commands::lock(&session)?, "nothing to lock", global.json),
        Some(Command::Update { names, dry_run }) => {
            show::lock(commands::update(&session, &names, dry_run)?, "everything is up to date", global.json)
        }
        Some(Command::Show { image: None, .. }) => show::images(&session, global.json),
        Some(Command::Show { image: Some(image), plan }) => show::image(&session, &image, plan, global.json),
        Some(Command::Config { image }) => show::config(&session, &image, global.json),
        Some(Command::Why { image, package }) => show::why(&session, &image, &package, global.json),
        Some(Command::Verify { path: Some(path), .. }) => {
            show::verify(&commands::rebuild(&session, &path)?, global.json)
        }
        Some(Command::Deploy(arguments)) => super::deploy::deploy(&session, arguments, global.json),
        Some(Command::Vendor { directory }) => show::vendor(&session, &directory, global.json),
        Some(Command::Gc { dry_run, keep_days }) => show::gc(&session, dry_run, keep_days, global.json),
        Some(
            Command::Completions { .. }
            | Command::Man
            | Command::Schema { .. }
            | Command::Step { .. }
            | Command::Diff { .. }
            | Command::Verify { path: None, .. },
        ) => Ok(0),
    }
}

/// Does one step. Neither project nor store are those of other commands.
fn step(global: &Global, order: &Path, out: &Path) -> Result<u8, CommandError> {
    let cancel = Arc::new(AtomicBool::new(false));
    watch_signals(&cancel)?;
    let reporter = reporter(global);
    let (root, results, store) = (PathBuf::new(), PathBuf::new(), PathBuf::new());
    let options = Options { mirrors: BTreeMap::new(), ..machine(global, root, results, store)? };
    let stepped = commands::step(order, out, &options, reporter.as_ref(), &cancel)?;
    if global.json {
        show::print_json(&stepped)?;
    } else {
        print(&format!("{} in {}\n", stepped.made, stepped.out.display()))?;
    }
    Ok(0)
}

/// Checks the store. Needs no project; one helps to name packages that were never built.
fn verify_store(global: &Global, asked: bool, repair: bool) -> Result<u8, CommandError> {
    if !asked {
        let message = "say what to check: an artifact's directory or archive, or `--store` for the store";
        return Err(CommandError::Usage(message.to_owned()));
    }
    let here = here()?;
    let directory = match &global.store {
        Some(store) => here.join(store),
        None => default_store()?,
    };
    if !directory.is_dir() {
        return Err(CommandError::Usage(format!("there is no store in `{}`", directory.display())));
    }
    let root = global.root.as_ref().map(|root| here.join(root)).or_else(|| find_project(&here));
    let lock = root.and_then(|root| commands::read_lock(&root.join("images/images.lock")).ok().flatten());
    let cancel = Arc::new(AtomicBool::new(false));
    watch_signals(&cancel)?;
    let reporter = reporter(global);
    let store = Store::open(directory)?;
    let how = (threads(global), repair);
    let verified = commands::verify_store(&store, lock.as_ref(), how, reporter.as_ref(), &cancel)?;
    show::verify_store(&verified, global.json)
}

fn here() -> Result<PathBuf, CommandError> {
    env::current_dir().map_err(|error| CommandError::failed("cannot tell the current directory", &error))
}

fn threads(global: &Global) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    global.jobs.map_or_else(cores, usize::from)
}

/// `build-images chek` is more likely a command than an image.
fn meant_command(error: CommandError, images: &[String]) -> CommandError {
    let cli = Cli::command();
    let commands: Vec<_> = cli.get_subcommands().map(clap::Command::get_name).collect();
    let near = images.first().and_then(|first| model::words::nearest(first, commands));
    match (&error, near) {
        (CommandError::UnknownImage { .. }, Some(near)) => {
            CommandError::Usage(format!("{error}; or is it the command `{near}`?"))
        }
        _ => error,
    }
}

/// The first signal asks the work to stop, a second one ends the program at once; the sandbox dies with it.
fn watch_signals(cancel: &Arc<AtomicBool>) -> Result<(), CommandError> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let watched = signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(cancel))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(cancel)));
        watched.map_err(|error| CommandError::failed("cannot watch for signals", &error))?;
    }
    Ok(())
}

fn reporter(global: &Global) -> Box<dyn Reporter> {
    if global.quiet {
        Box::new(Quiet)
    } else if io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb") {
        Box::new(Bars::new(colour()))
    } else {
        Box::new(Lines::default())
    }
}

fn options(global: &Global) -> Result<Options, CommandError> {
    let here = here()?;
    let root = match &global.root {
        Some(root) => here.join(root),
        None => find_project(&here).ok_or_else(|| {
            CommandError::Usage(format!(
                "there is no `images/` directory in `{}` or above it; run this inside a project, or say --root DIR",
                here.display()
            ))
        })?,
    };
    if !root.join("images").is_dir() {
        return Err(CommandError::Usage(format!("`{}` has no directory `images/`", root.display())));
    }
    let results = global.result.as_ref().map_or_else(|| root.join("result"), |path| here.join(path));
    let store = match &global.store {
        Some(store) => here.join(store),
        None => default_store()?,
    };
    machine(global, root, results, store)
}

/// The options that the command line and this machine decide, for a project and a store.
fn machine(
    global: &Global,
    root: PathBuf,
    results: PathBuf,
    store: PathBuf,
) -> Result<Options, CommandError> {
    let fail = |what: &str, error: io::Error| CommandError::failed(what, &error);
    let here = here()?;
    Ok(Options {
        root,
        results,
        store,
        mirrors: mirrors(&global.mirror, &here)?,
        host: PathBuf::from("/"),
        jobs: threads(global),
        scratch: global.scratch.as_ref().map(|path| here.join(path)),
        limits: limits(global),
        proxy: ["http_proxy", "HTTP_PROXY"]
            .iter()
            .find_map(|name| env::var(name).ok())
            .filter(|p| !p.is_empty()),
        now: Timestamp::now(),
        program: env::current_exe().map_err(|error| fail("cannot tell where this program is", error))?,
    })
}

fn limits(global: &Global) -> Limits {
    let default = Limits::default();
    Limits {
        script_seconds: global.script_timeout.map_or(default.script_seconds, u64::from),
        root_bytes: global.tree_size.map_or(default.root_bytes, |mebibytes| u64::from(mebibytes) << 20),
        ..default
    }
}

fn find_project(here: &Path) -> Option<PathBuf> {
    let project = |directory: &&Path| directory.join("images").is_dir() && directory.join("recipes").is_dir();
    here.ancestors().find(project).map(Path::to_owned)
}

fn default_store() -> Result<PathBuf, CommandError> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    let cache = cache.ok_or_else(|| {
        CommandError::Usage("neither XDG_CACHE_HOME nor HOME is set; say --store DIR".to_owned())
    })?;
    Ok(cache.join("build-images"))
}

/// The mirrors in one text: the environment variable has several, with blanks between. A blank that no `ARCHIVE=` follows
/// belongs to a path.
fn separate(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let begins = word.split_once('=').is_some_and(|(name, _)| !name.is_empty() && !name.contains('/'));
        match found.last_mut() {
            Some(last) if !begins => {
                last.push(' ');
                last.push_str(word);
            }
            _ => found.push(word.to_owned()),
        }
    }
    found.iter().map(|one| one.trim_end().to_owned()).filter(|one| !one.is_empty()).collect()
}

fn mirrors(given: &[String], here: &Path) -> Result<BTreeMap<String, Vec<String>>, CommandError> {
    let mut mirrors: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for text in given.iter().flat_map(|text| separate(text)) {
        let usage = |why: &str| CommandError::Usage(format!("--mirror {text}: {why}; write ARCHIVE=URI"));
        let (archive, uri) = text.split_once('=').ok_or_else(|| usage("there is no `=`"))?;
        let uri = if ["http://", "https://", "file:///"].iter().any(|scheme| uri.starts_with(scheme)) {
            if uri.ends_with('/') { uri.to_owned() } else { format!("{uri}/") }
        } else if ["/", "./", "../"].iter().any(|start| uri.starts_with(start)) {
            directory_uri(&here.join(uri).to_string_lossy())
        } else {
            return Err(usage("the URI begins with none of http://, https://, file:///, / and ./"));
        };
        mirrors.entry(archive.to_owned()).or_default().push(uri);
    }
    Ok(mirrors)
}
