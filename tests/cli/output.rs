//! Where output goes, how it looks, and words on the command line that do not fit.

use std::io::Read as _;
use std::process::Stdio;

use crate::project::{Project, Run, first, program};

#[test]
fn quiet_says_nothing_on_standard_error() {
    let project = Project::new();
    let served = project.serve(first(), 48);
    assert_ne!(project.run(&served, &["update", "--dry-run"]).code(0).err, "");
    for command in [&["lock", "--quiet"][..], &["-q", "check"], &["update", "-q"], &["gc", "-q"]] {
        let run = project.run(&served, command).code(0);
        assert_eq!(run.err, "");
        assert_ne!(run.out, "");
    }
    // Errors are said all the same.
    assert_ne!(project.run(&served, &["show", "nothing", "-q"]).code(2).err, "");
}

#[test]
fn progress_without_a_terminal_is_plain_lines() {
    let project = Project::new();
    let served = project.serve(first(), 48);
    let run = project.run(&served, &["lock"]).code(0);
    insta::assert_snapshot!(run.err, @"
    images.lock: locking packages
    test: fetching indices
    ");
    assert!(!run.err.contains('\x1b') && !run.out.contains('\x1b'));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (project, served) = Project::locked();
    for arguments in [&["show"][..], &["show", "app", "--json"], &["man"], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = project.command(&served, arguments);
        let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{arguments:?}");
    }
    // Nobody reads the progress either.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = project.command(&served, &["update"]).stderr(writer).stdout(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn no_space_for_results_is_an_error() {
    let (project, served) = Project::locked();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = project.command(&served, &["show"]);
    let mut child = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(text.starts_with("error: cannot write to standard output: "), "{text}");
}

/// What the program writes when its output is a terminal, through `script`.
fn on_a_terminal(
    project: &Project,
    served: &crate::support::repository::Served,
    colour: bool,
) -> Option<String> {
    let there = std::path::Path::new("/usr/bin/script").exists();
    if !crate::support::require("script (package bsdutils)", there) {
        return None;
    }
    let program = env!("CARGO_BIN_EXE_build-images");
    let mut command = project.command(served, &[]);
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &format!("{program} show nothing"), "/dev/null"]).stdin(Stdio::null());
    script.env_clear().current_dir(project.path("")).env("TERM", "xterm");
    for (name, value) in command.env("LC_ALL", "C").get_envs() {
        script.env(name, value.unwrap());
    }
    if !colour {
        script.env("NO_COLOR", "1");
    }
    Some(String::from_utf8(script.output().unwrap().stdout).unwrap())
}

#[test]
fn colours_on_a_terminal_unless_told_not_to() {
    let (project, served) = Project::locked();
    let Some(text) = on_a_terminal(&project, &served, true) else { return };
    assert!(text.contains("\x1b[1;31merror\x1b[0m: no image is named"), "{text:?}");
    let text = on_a_terminal(&project, &served, false).unwrap();
    assert!(text.contains("error: no image is named") && !text.contains("\x1b[1;31m"), "{text:?}");
}

#[test]
fn wrong_words_end_with_2() {
    let (project, served) = Project::locked();
    let run = project.run(&served, &["nothing"]).code(2);
    insta::assert_snapshot!(run.err, @"error: no image is named `nothing`; there are: app, bare");
    let run = project.run(&served, &["build", "app", "x", "y"]).code(2);
    insta::assert_snapshot!(run.err, @"error: no image is named `x`, `y`; there are: app, bare");
    for command in [&["show", "x"][..], &["config", "x"], &["why", "x", "y"], &["show", "x", "--plan"]] {
        let run = project.run(&served, command).code(2);
        assert_eq!(run.err, "error: no image is named `x`; there are: app, bare\n");
    }
    let run = project.run(&served, &["app", "check"]).code(2);
    insta::assert_snapshot!(run.err, @"error: `check` is a command, and a command stands first; give images after it");
    let run = project.run(&served, &["lock", "--mirror", "test"]).code(2);
    assert!(run.err.contains("there is no `=`; write ARCHIVE=URI"), "{}", run.err);
    let run = project.run(&served, &["lock", "--mirror", "test=ftp://x/"]).code(2);
    assert!(run.err.contains("begins with none of"), "{}", run.err);
    for command in [&["--jobs", "0"][..], &["lock", "more"], &["config"], &["gc", "--keep-days", "x"]] {
        project.run(&served, command).code(2);
    }
}

#[test]
fn outside_a_project_it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = program();
    command.current_dir(directory.path()).env("HOME", directory.path());
    let run = Run::of(command.output().unwrap()).code(2);
    assert!(run.err.contains("run this inside a project, or say --root DIR"), "{}", run.err);
    let (project, _served) = Project::locked();
    let mut command = program();
    command.current_dir(directory.path()).args(["show", "--root"]).arg(project.path(""));
    // Neither HOME nor XDG_CACHE_HOME.
    let run = Run::of(command.output().unwrap()).code(2);
    assert!(run.err.contains("say --store DIR"), "{}", run.err);
    let mut command = program();
    command.current_dir(project.path("recipes/base")).env("HOME", directory.path()).arg("check");
    Run::of(command.output().unwrap()).code(0);
    assert!(directory.path().join(".cache/build-images/debs").is_dir());
}

#[test]
fn help_schema_completions_and_man_need_no_project() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = [
        &["--help"][..],
        &["--version"],
        &["schema", "recipe"],
        &["schema", "image"],
        &["schema", "site"],
        &["completions", "zsh"],
        &["man"],
    ];
    for arguments in arguments {
        let run = Run::of(program().current_dir(directory.path()).args(arguments).output().unwrap()).code(0);
        assert!(!run.out.is_empty() && run.err.is_empty());
        if arguments[0] == "schema" {
            assert!(run.json()["properties"].is_object());
        }
    }
}
