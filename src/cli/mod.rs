//! The command line: arguments, terminal, exit codes. The only module that prints, reads the environment or the
//! clock.

mod args;
mod deploy;
mod diff;
mod man;
mod progress;
mod run;
mod show;
mod table;

pub use args::{Cli, Command, Global, SchemaKind};
pub use run::main;
