//! Runs `preinst install` as dpkg does: from `tmp.ci`, with the package's control files beside it.
//!
//! All scripts of a round run in one job, one after the other: a job costs more than most of these scripts. Each
//! package's files wait in a directory of their own and are moved to `tmp.ci` when it is their turn. In a root without
//! the programs for that each script has a job of its own.

use std::fmt::Write as _;

use super::database::ADMIN;
use super::failure::Failure;
use super::package::Package;
use super::root::{Attributes, Root};
use super::scripts::{Command, Scripts};

/// Where files wait, below [`ADMIN`]; each package's in a directory named by its number.
const WAITING: &str = "tmp.ci.d";

/// Programs of the image that move the files from script to script.
const TOOLS: [&str; 3] = ["/bin/sh", "/bin/mv", "/bin/rm"];

/// Runs the preinst of each package that has one, in order.
pub(super) fn run(
    root: &Root,
    scripts: &mut dyn Scripts,
    packages: &[&Package],
    dpkg_version: &str,
    seconds: u64,
) -> Result<(), Failure> {
    let packages: Vec<_> = packages.iter().copied().filter(|package| package.has_script("preinst")).collect();
    let mut together = packages.len() > 1;
    for tool in TOOLS {
        together &= root.is_file(tool)?;
    }
    if together {
        return run_together(root, scripts, &packages, dpkg_version, seconds);
    }
    packages.iter().try_for_each(|package| run_alone(root, scripts, package, dpkg_version, seconds))
}

/// Runs one preinst in a job of its own.
fn run_alone(
    root: &Root,
    scripts: &mut dyn Scripts,
    package: &Package,
    dpkg_version: &str,
    seconds: u64,
) -> Result<(), Failure> {
    let directory = format!("{ADMIN}/tmp.ci");
    put(root, package, &directory)?;
    let command = Command {
        program: format!("/{directory}/preinst"),
        arguments: vec!["install".into()],
        variables: variables(package, dpkg_version)
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        seconds,
    };
    let ended = scripts.run(&command, &mut |_| {})?;
    if let Some(outcome) = ended.failed {
        let script = "preinst".to_owned();
        return Err(Failure::Script { package: package.name.clone(), script, outcome, tail: ended.tail });
    }
    // A script may have exchanged directories.
    root.forget();
    for name in package.control.files.iter().map(|file| file.name.as_str()).chain(["control"]) {
        root.remove(&format!("{directory}/{name}"))?;
    }
    remove_directory(root, &directory)
}

/// Runs them all in one job.
fn run_together(
    root: &Root,
    scripts: &mut dyn Scripts,
    packages: &[&Package],
    dpkg_version: &str,
    seconds: u64,
) -> Result<(), Failure> {
    let mut text = String::new();
    for (number, package) in packages.iter().enumerate() {
        put(root, package, &format!("{ADMIN}/{WAITING}/{number}"))?;
        add(&mut text, package, number, dpkg_version)?;
    }
    let command = Command {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), text],
        variables: Vec::new(),
        seconds,
    };
    let ended = scripts.run(&command, &mut |_| {})?;
    root.forget();
    let Some(outcome) = ended.failed else {
        return remove_directory(root, &format!("{ADMIN}/{WAITING}"));
    };
    let (package, script) = match ended.left_by {
        Some(by) => by,
        // The one before the first that still waits.
        None => {
            let mut waits = Vec::new();
            for number in 0..packages.len() {
                waits.push(root.stat(format!("{ADMIN}/{WAITING}/{number}").as_bytes())?.is_some());
            }
            let next = waits.iter().position(|waits| *waits).unwrap_or(packages.len());
            (packages[next.saturating_sub(1)].name.clone(), "preinst".to_owned())
        }
    };
    Err(Failure::Script { package, script, outcome, tail: ended.tail })
}

/// Puts a package's control files into a new directory.
fn put(root: &Root, package: &Package, directory: &str) -> Result<(), Failure> {
    root.make_directory(directory, 0o755)?;
    let control = &package.control;
    // debconf reads the package's name from `tmp.ci/control`; from `info/` it would note an unknown owner.
    root.write(&format!("{directory}/control"), control.text.as_bytes(), Attributes::of_root(0o644))?;
    for file in &control.files {
        root.write(&format!("{directory}/{}", file.name), &file.bytes, Attributes::of_root(file.mode))?;
    }
    Ok(())
}

/// Appends what runs one script to the shell's text.
fn add(text: &mut String, package: &Package, number: usize, dpkg_version: &str) -> Result<(), Failure> {
    let variables = variables(package, dpkg_version);
    if let Some((name, value)) = variables.iter().find(|(_, value)| value.contains('\'')) {
        let reason = format!("`{name}` cannot be `{value}`");
        return Err(Failure::BadPackage { package: package.name.clone(), reason });
    }
    let _ = writeln!(text, "mv /{ADMIN}/{WAITING}/{number} /{ADMIN}/tmp.ci || exit");
    for (name, value) in variables {
        let _ = write!(text, "{name}='{value}' ");
    }
    let _ = writeln!(text, "/{ADMIN}/tmp.ci/preinst install || exit");
    let _ = writeln!(text, "rm -rf /{ADMIN}/tmp.ci || exit");
    Ok(())
}

/// What dpkg tells a preinst.
fn variables<'a>(package: &'a Package, dpkg_version: &'a str) -> [(&'static str, &'a str); 8] {
    [
        ("DPKG_MAINTSCRIPT_PACKAGE", package.name.as_str()),
        ("DPKG_MAINTSCRIPT_ARCH", &package.architecture),
        ("DPKG_MAINTSCRIPT_NAME", "preinst"),
        ("DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT", "1"),
        ("DPKG_MAINTSCRIPT_DEBUG", "0"),
        ("DPKG_RUNNING_VERSION", dpkg_version),
        ("DPKG_ADMINDIR", "/var/lib/dpkg"),
        ("DPKG_ROOT", ""),
    ]
}

fn remove_directory(root: &Root, directory: &str) -> Result<(), Failure> {
    let removed = root
        .parent(directory.as_bytes())
        .and_then(|(parent, name)| rustix::fs::unlinkat(&parent.fd, name, rustix::fs::AtFlags::REMOVEDIR));
    root.forget();
    removed.map_err(|error| Failure::file("remove", directory.as_bytes(), error))
}
