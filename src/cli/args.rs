//! The command line as typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum, ValueHint};

/// Compile recipes and a lock into LXC images for Proxmox VE.
///
/// Without a command, builds the images named, or all of them; whatever is not locked yet is locked first.
#[derive(Debug, Parser)]
#[command(
    name = "build-images",
    version,
    max_term_width = 100,
    subcommand_negates_reqs = true,
    override_usage = "build-images [OPTIONS] [IMAGE]...\n       build-images [OPTIONS] <COMMAND>"
)]
pub struct Cli {
    /// What to do; builds when there is none
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Images to build; all by default
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Options of every command
    #[command(flatten)]
    pub global: Global,
}

impl Cli {
    /// Reads a command line, the program's name first. Ends the program when it is wrong or asks for help.
    ///
    /// `verify` has an option `--store` of its own, whose directory may be left out. clap puts what a command was given in
    /// the place of the global option of that name, which would forget the store that was said before the command, or in the
    /// environment. So the line is read once more with the two apart, and a directory given to `verify` counts for both.
    #[must_use]
    pub fn read(line: &[OsString]) -> Self {
        let cli = Self::parse_from(line);
        if !matches!(cli.command, Some(Command::Verify { store: Some(_), .. })) {
            return cli;
        }
        let apart = Self::command().mut_arg("store", |store| store.global(false));
        let matches = apart.get_matches_from(line);
        let mut cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        if let Some(Command::Verify { store: Some(Some(directory)), .. }) = &cli.command {
            cli.global.store = Some(directory.clone());
        }
        cli
    }
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The project: the directory with `recipes/` and `images/` [default: the nearest one upward from here]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub root: Option<PathBuf>,
    /// Where results go [default: `result` in the project]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub result: Option<PathBuf>,
    /// The cache of packages, layers and frames [default: `build-images` in the user's cache directory]
    #[arg(long, global = true, value_name = "DIR", env = "BUILD_IMAGES_STORE", hide_env_values = true, value_hint = ValueHint::DirPath)]
    pub store: Option<PathBuf>,
    /// Ask this mirror first for that archive; may be given more than once
    #[arg(
        long,
        global = true,
        value_name = "ARCHIVE=URI",
        env = "BUILD_IMAGES_MIRROR",
        hide_env_values = true
    )]
    pub mirror: Vec<String>,
    /// Threads for unpacking and compressing [default: one per core]
    #[arg(long, short, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Build trees in this directory instead of in memory
    #[arg(long, global = true, value_name = "DIR", env = "BUILD_IMAGES_SCRATCH", hide_env_values = true, value_hint = ValueHint::DirPath)]
    pub scratch: Option<PathBuf>,
    /// Longest time that one script of a package may take [default: 600]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub script_timeout: Option<u32>,
    /// Largest size of a tree that is built in memory [default: 16384]
    #[arg(long, global = true, value_name = "MIB", value_parser = clap::value_parser!(u32).range(64..))]
    pub tree_size: Option<u32>,
    /// Print no progress, only results and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Print results as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build images, the default
    Build {
        /// Images to build; all by default
        #[arg(value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Write the files of the site itself, as each build does
    Site {
        /// Images that they are for; all by default
        #[arg(value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Check everything that can be known without network and without building
    Check,
    /// Lock what is not locked yet; moves nothing that is
    Lock,
    /// Move pins forward and print what changed
    Update {
        /// Archives and packages to move; everything by default
        #[arg(value_name = "ARCHIVE|PACKAGE")]
        names: Vec<String>,
        /// Print what would change, write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Show the images, or one of them in full
    Show {
        /// The image
        image: Option<String>,
        /// Name each layer, its key, whether it is there, and what made it stale
        #[arg(long, requires = "image")]
        plan: bool,
    },
    /// Print the container configuration of an image, nothing else
    Config {
        /// The image
        image: String,
    },
    /// Compare two locks, or two artifacts
    Diff {
        /// A lock, or an artifact's directory or archive
        #[arg(value_hint = ValueHint::AnyPath)]
        old: PathBuf,
        /// The other one
        #[arg(value_hint = ValueHint::AnyPath)]
        new: PathBuf,
    },
    /// Explain which chain of dependencies brings a package into an image
    Why {
        /// The image
        image: String,
        /// The package
        package: String,
    },
    /// Deploy images to the site's node over ssh; goes back when something fails
    Deploy(DeployArguments),
    /// Check an artifact against its manifest, or every object of the store
    Verify {
        /// An artifact's directory or archive
        #[arg(value_hint = ValueHint::AnyPath)]
        path: Option<PathBuf>,
        /// Build it again from nothing and compare every byte
        #[arg(long, requires = "path")]
        rebuild: bool,
        /// Without PATH: check the store instead, this one or the one that other commands use
        #[arg(long, value_name = "DIR", num_args = 0..=1, value_hint = ValueHint::DirPath)]
        store: Option<Option<PathBuf>>,
        /// Drop from the store what is damaged; the next build makes it anew
        #[arg(long, conflicts_with = "path")]
        repair: bool,
    },
    /// Copy everything that the lock names into a directory that serves as a mirror
    Vendor {
        /// The directory; made when it is not there
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        directory: PathBuf,
    },
    /// Drop from the store what no result and no running build refers to
    Gc {
        /// Print what would be dropped, drop nothing
        #[arg(long)]
        dry_run: bool,
        /// Also keep what was used in the last N days
        #[arg(long, value_name = "N", default_value_t = 0)]
        keep_days: u32,
    },
    /// Do one step of a build for another build system, offline, as the Nix flake does
    Step {
        /// What to do: a file with one JSON object
        #[arg(value_name = "ORDER", env = "orderPath", hide_env_values = true, value_hint = ValueHint::FilePath)]
        order: PathBuf,
        /// Where the result goes; nothing may be there
        #[arg(value_name = "OUT", env = "out", hide_env_values = true, value_hint = ValueHint::AnyPath)]
        out: PathBuf,
    },
    /// Print the JSON Schema of a kind of file, for editors
    Schema {
        /// Which file
        kind: SchemaKind,
    },
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Files that have a JSON Schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaKind {
    /// `recipes/<name>/recipe.toml`
    Recipe,
    /// `images/<name>.toml`
    Image,
    /// `images/site.toml`
    Site,
}

/// Arguments of `deploy`.
#[derive(Debug, Args)]
pub struct DeployArguments {
    /// Images to deploy; all by default
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Print the commands that would run on the node, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Go back to what was deployed before
    #[arg(long, conflicts_with = "recover")]
    pub rollback: bool,
    /// Only end a deployment that was cut off
    #[arg(long)]
    pub recover: bool,
    /// What becomes of state when another image takes over
    #[arg(long, value_name = "HOW", value_enum, default_value_t = StateChoice::Auto)]
    pub state: StateChoice,
    /// How many earlier archives the node keeps
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=50))]
    pub keep: u8,
    /// Public keys that let root in, as a file like ~/.ssh/authorized_keys
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ssh_keys: Option<PathBuf>,
    /// A secret from a file
    #[arg(long, value_name = "IMAGE.NAME=FILE")]
    pub secret: Vec<String>,
    /// A secret from what a command prints
    #[arg(long, value_name = "IMAGE.NAME=COMMAND")]
    pub secret_command: Vec<String>,
    /// The program to reach the node with, in place of ssh
    #[arg(long, value_name = "PROGRAM", env = "BUILD_IMAGES_SSH", hide_env_values = true, default_value = "ssh", value_hint = ValueHint::CommandName)]
    pub ssh: PathBuf,
}

/// What becomes of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StateChoice {
    /// Copied where migrations go one way, put back where an older image could not read it
    Auto,
    /// Copied always, and put back with its image
    Copy,
    /// Neither copied nor put back
    Keep,
}
