//! Why a recipe cannot be applied.

use std::io;

use crate::build::accounts::AccountsError;
use crate::build::place::PlaceError;
use crate::build::units::UnitProblem;
use crate::tree::TreePath;

/// Everything that keeps a recipe from being applied.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be applied:{}", list(.problems))]
pub struct ComposeError {
    /// The recipe, or what else was to be applied.
    pub what: String,
    /// What is wrong, in the order of the recipe.
    pub problems: Vec<ComposeProblem>,
}

fn list(problems: &[ComposeProblem]) -> String {
    let lines = problems.iter().flat_map(|problem| {
        problem.to_string().lines().map(|line| format!("\n  {line}")).collect::<Vec<_>>()
    });
    lines.collect()
}

/// One thing of a recipe that does not go with the image.
#[derive(Debug, thiserror::Error)]
pub enum ComposeProblem {
    /// Users or groups.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    /// A unit.
    #[error(transparent)]
    Unit(#[from] UnitProblem),
    /// The owner of an entry does not exist.
    #[error("`{path}`: there is no {what} `{name}` in the image: declare it in the recipe")]
    UnknownOwner {
        /// The entry.
        path: TreePath,
        /// `user` or `group`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Nothing can be put there.
    #[error("`{path}`: nothing of an image can be {place}")]
    Forbidden {
        /// The entry.
        path: TreePath,
        /// Which place, and why.
        place: String,
    },
    /// The path leads nowhere.
    #[error("`{path}`: {source}")]
    Place {
        /// The entry.
        path: TreePath,
        /// Why.
        source: PlaceError,
    },
    /// A tarball does not have what the recipe asks of it.
    #[error("tarball `{name}`: {source}")]
    Tarball {
        /// The tarball.
        name: String,
        /// What does not fit.
        source: crate::build::tarball::SelectProblem,
    },
    /// A tarball was not read.
    #[error("tarball `{0}` is not there")]
    NoTarball(String),
    /// A tarball has what is in the image already.
    #[error(
        "tarball `{name}` has `{path}`, which exists already{}: leave it out with `only`, or unpack elsewhere",
        of_package(.package)
    )]
    Occupied {
        /// The tarball.
        name: String,
        /// The entry.
        path: TreePath,
        /// The package that ships it.
        package: Option<String>,
    },
    /// A tarball has more problems than are told.
    #[error("tarball `{name}`: {count} more entries cannot be put into the image")]
    MoreOfTarball {
        /// The tarball.
        name: String,
        /// How many.
        count: usize,
    },
    /// A mount or state has to be named by its real path.
    #[error("`{path}` leads through a symbolic link to `{real}`: write that")]
    ThroughLink {
        /// What the recipe says.
        path: TreePath,
        /// Where that is.
        real: TreePath,
    },
    /// A package ships the file, and not as a configuration file.
    #[error(
        "`{path}` belongs to package `{package}`, which does not have it as a configuration file: \
             put the file elsewhere"
    )]
    Packaged {
        /// The entry.
        path: TreePath,
        /// The package.
        package: String,
    },
    /// Something is there that may be replaced, but the recipe does not ask for it.
    #[error("`{path}` exists already{}: add `replace = true` if that is meant", of_package(.package))]
    Exists {
        /// The entry.
        path: TreePath,
        /// The package that ships it.
        package: Option<String>,
    },
    /// A directory is in the way of a file or link.
    #[error("`{path}` is a directory in the image")]
    IsDirectory {
        /// The entry.
        path: TreePath,
    },
    /// Something else is in the way of a directory.
    #[error("`{path}` is not a directory in the image")]
    NotDirectory {
        /// The entry.
        path: TreePath,
    },
    /// The mount over a directory would hide files.
    #[error("`{path}` becomes a mount, which would hide what the image has there: {}", .hidden.join(", "))]
    Hidden {
        /// The directory.
        path: TreePath,
        /// Some of the files.
        hidden: Vec<String>,
    },
    /// The dpkg database of the image cannot be read.
    #[error("cannot tell whose `{path}` is: {source}")]
    Database {
        /// The entry.
        path: TreePath,
        /// Why.
        source: io::Error,
    },
}

fn of_package(package: &Option<String>) -> String {
    package.as_ref().map(|package| format!(" from package `{package}`")).unwrap_or_default()
}
