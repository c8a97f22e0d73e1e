//! The manual page, from the same definitions as `--help`.

use clap::CommandFactory as _;

use super::args::Cli;
use crate::commands::CommandError;

/// The page in roff: the program's own, then one section a command.
pub(super) fn page() -> Result<String, CommandError> {
    let fail = |error: std::io::Error| CommandError::failed("cannot make the manual page", &error);
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone()).date("");
    man.render(&mut page).map_err(fail)?;
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        page.extend(format!(".SH \"COMMAND {}\"\n", sub.get_name().to_uppercase()).bytes());
        let man = clap_mangen::Man::new(sub.clone().name(format!("build-images {}", sub.get_name())));
        man.render_description_section(&mut page).map_err(fail)?;
        man.render_synopsis_section(&mut page).map_err(fail)?;
        man.render_options_section(&mut page).map_err(fail)?;
    }
    String::from_utf8(page).map_err(|error| CommandError::failed("cannot make the manual page", &error))
}
