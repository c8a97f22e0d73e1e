//! Runs `preinst install` as dpkg does: from `tmp.ci`, with the package's control file beside it.

use super::database::ADMIN;
use super::failure::Failure;
use super::package::Package;
use super::root::{Attributes, Root};
use super::scripts::{Command, Scripts};

/// Runs the preinst of one package, if it has one.
pub(super) fn run(
    root: &Root,
    scripts: &mut dyn Scripts,
    package: &Package,
    dpkg_version: &str,
    seconds: u64,
) -> Result<(), Failure> {
    if !package.has_script("preinst") {
        return Ok(());
    }
    // debconf reads the package's name from `tmp.ci/control`; from `info/` it would note an unknown owner.
    let directory = format!("{ADMIN}/tmp.ci");
    root.make_directory(&directory, 0o755)?;
    let control = &package.control;
    let mut names = vec!["control".to_owned()];
    root.write(&format!("{directory}/control"), control.text.as_bytes(), Attributes::of_root(0o644))?;
    for file in &control.files {
        root.write(&format!("{directory}/{}", file.name), &file.bytes, Attributes::of_root(file.mode))?;
        names.push(file.name.clone());
    }
    let variables = [
        ("DPKG_MAINTSCRIPT_PACKAGE", package.name.as_str()),
        ("DPKG_MAINTSCRIPT_ARCH", &package.architecture),
        ("DPKG_MAINTSCRIPT_NAME", "preinst"),
        ("DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT", "1"),
        ("DPKG_MAINTSCRIPT_DEBUG", "0"),
        ("DPKG_RUNNING_VERSION", dpkg_version),
        ("DPKG_ADMINDIR", "/var/lib/dpkg"),
        ("DPKG_ROOT", ""),
    ];
    let command = Command {
        program: format!("/{directory}/preinst"),
        arguments: vec!["install".into()],
        variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        seconds,
    };
    let ended = scripts.run(&command, &mut |_| {})?;
    if let Some(outcome) = ended.failed {
        let script = "preinst".to_owned();
        return Err(Failure::Script { package: package.name.clone(), script, outcome, tail: ended.tail });
    }
    // A script may have exchanged directories.
    root.forget();
    for name in names {
        root.remove(&format!("{directory}/{name}"))?;
    }
    let removed = root
        .parent(directory.as_bytes())
        .and_then(|(parent, name)| rustix::fs::unlinkat(&parent.fd, name, rustix::fs::AtFlags::REMOVEDIR));
    root.forget();
    removed.map_err(|error| Failure::file("remove", directory.as_bytes(), error))
}
