//! What people and shells see: help, manual page, completions, schemas, documents, and progress on a terminal.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

#[path = "../support/mod.rs"]
mod support;

mod documents;
mod terminal;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The commands that `--help` lists.
const COMMANDS: [&str; 17] = [
    "build",
    "site",
    "check",
    "lock",
    "update",
    "show",
    "config",
    "diff",
    "why",
    "deploy",
    "verify",
    "vendor",
    "gc",
    "step",
    "schema",
    "completions",
    "man",
];

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The program, undisturbed by the environment of whoever runs the tests.
fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_build-images"));
    command.args(arguments).current_dir(repository()).env("COLUMNS", "100");
    for name in ["BUILD_IMAGES_STORE", "BUILD_IMAGES_MIRROR", "BUILD_IMAGES_SCRATCH", "NO_COLOR"] {
        command.env_remove(name);
    }
    command
}

fn prints(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = program(arguments).output().unwrap();
    assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    assert!(stderr.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The words before the meaning in a list of `--help`: `  name  meaning`.
fn listed(help: &str, heading: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != heading).skip(1);
    let lines = lines.take_while(|line| line.starts_with(' '));
    lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn help_of_the_program_and_of_each_command() {
    let help = prints(&["--help"]);
    let mut commands = listed(&help, "Commands:");
    assert_eq!(commands.pop().as_deref(), Some("help"));
    assert_eq!(commands, COMMANDS);
    insta::assert_snapshot!("help", help);
    for command in COMMANDS {
        let help = prints(&[command, "--help"]);
        // The options of every command are in the program's own help.
        let own = help.split("\nOptions of every command:").next().unwrap_or_default();
        insta::assert_snapshot!(format!("help_{command}"), own.trim_end());
        assert!(help.contains("--json"), "{help}");
    }
}

#[test]
fn the_manual_page_has_its_sections_commands_and_options() {
    let page = prints(&["man"]);
    let sections: Vec<_> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
    insta::assert_snapshot!(sections.join("\n"));
    for command in COMMANDS {
        let named = page.lines().any(|line| {
            let name = line.strip_prefix(".SS ").and_then(|line| line.split(' ').next());
            name == Some(command)
        });
        assert!(named, "the manual page has no section for {command}");
    }
    for option in documents::options() {
        let escaped = option.replace('-', "\\-");
        assert!(page.contains(&escaped), "the manual page does not name {option}");
    }
}

#[test]
fn man_finds_nothing_wrong_with_the_page() {
    let there = Command::new("man").arg("--version").output().is_ok_and(|output| output.status.success());
    if !support::require("man", there) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("build-images.1");
    std::fs::write(&page, prints(&["man"])).unwrap();
    let output =
        Command::new("man").args(["--warnings", "-l"]).arg(&page).env("MANWIDTH", "80").output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    // Lines are filled and justified.
    let text = String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("Print the manual page") && text.contains("EXIT STATUS 0 Done."), "{text}");
}

#[test]
fn completions_of_each_shell_know_every_command_and_option() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = prints(&["completions", shell]);
        for command in COMMANDS {
            assert!(script.contains(command), "the completions for {shell} do not know {command}");
        }
        for option in documents::options() {
            let name = option.trim_start_matches('-');
            assert!(script.contains(name), "the completions for {shell} do not know {option}");
        }
    }
}

#[test]
fn bash_completes_commands_options_and_values() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("completions");
    std::fs::write(&script, prints(&["completions", "bash"])).unwrap();
    let there = Command::new("bash").arg("--version").output().is_ok_and(|output| output.status.success());
    if !support::require("bash", there) {
        return;
    }
    let complete = |words: &[&str]| {
        let program = r#"source "$1"; shift
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            "$(complete -p build-images | grep -o -- '-F [^ ]*' | cut -c 4-)" build-images "${!#}" "${@:$#-1:1}"; echo "${COMPREPLY[@]}""#;
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", program, "bash"]).arg(&script).args(words);
        String::from_utf8(bash.output().unwrap().stdout).unwrap().trim().to_owned()
    };
    assert_eq!(complete(&["build-images", "upd"]), "update");
    assert_eq!(complete(&["build-images", "show", "--pl"]), "--plan");
    assert!(complete(&["build-images", "schema", ""]).contains("recipe"));
}

#[test]
fn schemas_of_the_repository_are_those_of_the_program() {
    for kind in ["recipe", "image", "site"] {
        let file = repository().join("schema").join(format!("{kind}.json"));
        let printed = prints(&["schema", kind]);
        assert!(read(&file) == printed, "run `build-images schema {kind} > schema/{kind}.json`");
    }
}

#[test]
fn a_word_that_is_nearly_a_command_is_taken_for_one() {
    let store = tempfile::tempdir().unwrap();
    let output = program(&["chek", "--store"]).arg(store.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no image is named `chek`") && said.contains("the command `check`"), "{said}");
}

/// The store can be said before the command, after it and in the environment; only with that one may anything happen.
#[test]
fn verify_checks_the_store_that_was_said() {
    let home = tempfile::tempdir().unwrap();
    let damaged = |name: &str| {
        let deb = home.path().join(name).join("debs").join("0".repeat(64));
        std::fs::create_dir_all(deb.parent().unwrap()).unwrap();
        std::fs::write(&deb, name).unwrap();
        deb
    };
    let cases: [(&[&str], &str); 7] = [
        (&["verify", "--store"], ""),
        (&["verify", "--store"], "variable"),
        (&["verify", "--store", "own"], "variable"),
        (&["--store", "before", "verify", "--store"], ""),
        (&["--store", "before", "verify", "--store"], "variable"),
        (&["--store", "before", "verify", "--store", "own"], "variable"),
        (&["verify", "--store=own"], ""),
    ];
    for (arguments, variable) in cases {
        let stores = ["default/build-images", "variable", "before", "own"].map(damaged);
        let meant = if arguments.iter().any(|word| word.ends_with("own")) {
            3
        } else if arguments.contains(&"before") {
            2
        } else {
            usize::from(!variable.is_empty())
        };
        let mut command = program(arguments);
        command.arg("--repair").current_dir(home.path()).env("XDG_CACHE_HOME", home.path().join("default"));
        if !variable.is_empty() {
            command.env("BUILD_IMAGES_STORE", variable);
        }
        let output = command.output().unwrap();
        let dropped = stores.iter().map(|deb| !deb.exists()).collect::<Vec<_>>();
        let expected = (0..4).map(|store| store == meant).collect::<Vec<_>>();
        assert_eq!(
            dropped,
            expected,
            "{arguments:?} {variable}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success());
    }
}
