//! The manual page, from the same definitions as `--help`.

use std::fmt::Write as _;

use clap::{Arg, CommandFactory as _};

use super::args::Cli;
use crate::commands::CommandError;

/// What the definitions do not know.
const END: &[(&str, &[(&str, &str)])] = &[
    (
        "FILES",
        &[
            ("images/site.toml", "What all images share: domain, network, node, directories."),
            ("images/NAME.toml", "One container: its recipes, id, address, limits and mounts."),
            ("recipes/NAME/recipe.toml", "Packages, files, users, units and state of one application."),
            (
                "images/images.lock",
                "What every archive and package resolved to. Written by lock, update and build.",
            ),
            (
                "result/NAME/",
                "The archive for pct restore, its configuration, manifest and bill of materials.",
            ),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            ("BUILD_IMAGES_STORE, BUILD_IMAGES_SCRATCH", "As --store and --scratch."),
            ("BUILD_IMAGES_MIRROR", "As --mirror; several are separated by blanks."),
            ("XDG_CACHE_HOME", "The store is build-images in it; ~/.cache when it is not set."),
            ("http_proxy", "A proxy for fetching over http."),
            ("NO_COLOR", "No colours when it is not empty."),
            ("TERM", "With dumb, progress is plain lines."),
        ],
    ),
    (
        "EXIT STATUS",
        &[
            ("0", "Done."),
            ("1", "Something failed. Other images are built all the same."),
            ("2", "The command line or the project is wrong; nothing was built."),
            ("130", "Interrupted. The next run goes on from there."),
        ],
    ),
];

/// The page in roff.
pub(super) fn page() -> Result<String, CommandError> {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone()).date("").manual("");
    man.render_title(&mut page)
        .and_then(|()| man.render_name_section(&mut page))
        .map_err(|error| CommandError::failed("cannot make the manual page", &error))?;
    let mut page = String::from_utf8(page)
        .map_err(|error| CommandError::failed("cannot make the manual page", &error))?;
    page.push_str(".SH SYNOPSIS\n");
    // The usage has a line for each way to call the program.
    let usage = command.render_usage().to_string();
    for line in usage.lines().map(|line| line.trim_start_matches("Usage:").trim()) {
        let _ = writeln!(page, "{}\n.br", text(line));
    }
    page.push_str(".SH DESCRIPTION\n");
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string);
    paragraphs(&mut page, &about.unwrap_or_default());
    page.push_str(".SH COMMANDS\n");
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let usage = sub.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage:").trim();
        let usage = usage.trim_start_matches("build-images ").replace(" [OPTIONS]", "");
        let _ = writeln!(page, ".SS {}", text(&usage));
        paragraphs(&mut page, &sub.get_about().map(ToString::to_string).unwrap_or_default());
        let own = |arg: &&Arg| !arg.is_global_set() && arg.get_id() != "help";
        options(&mut page, sub.get_arguments().filter(own));
    }
    page.push_str(".SH OPTIONS\n");
    options(&mut page, command.get_arguments().filter(|arg| !arg.is_positional()));
    for (heading, entries) in END {
        let _ = writeln!(page, ".SH \"{heading}\"");
        for (name, meaning) in *entries {
            let _ = writeln!(page, ".TP\n\\fB{}\\fR\n{}", text(name), text(meaning));
        }
    }
    Ok(page)
}

fn paragraphs(page: &mut String, about: &str) {
    for paragraph in about.split("\n\n") {
        let _ = writeln!(page, ".PP\n{}", text(paragraph));
    }
}

fn options<'a>(page: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    for argument in arguments {
        let names: Vec<_> = [
            argument.get_short().map(|short| format!("-{short}")),
            argument.get_long().map(|long| format!("--{long}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        let takes = argument.get_action().takes_values();
        let value = argument.get_value_names().filter(|_| takes).and_then(|names| names.first());
        let value = value.map(|name| format!("\\fI{}\\fR", text(name))).unwrap_or_default();
        let blank = if names.is_empty() || value.is_empty() { "" } else { " " };
        let _ = writeln!(page, ".TP\n\\fB{}\\fR{blank}{value}", text(&names.join(", ")));
        let mut help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let values = argument.get_possible_values();
        if takes && !values.is_empty() {
            let values: Vec<_> = values.iter().map(|value| value.get_name().to_owned()).collect();
            let _ = write!(help, ": {}", values.join(", "));
        }
        let _ = writeln!(page, "{}", text(&help));
    }
}

/// `plain` so that roff prints it as it is.
fn text(plain: &str) -> String {
    let escaped = plain.replace('\\', "\\e").replace('-', "\\-");
    let control = escaped.starts_with(['.', '\'']);
    if control { format!("\\&{escaped}") } else { escaped }
}
