//! Mistakes in what a deployment has to know: one-way migrations and secrets.

use crate::Edit::{Append, Replace};
use crate::cases::run;

const RECIPE: &str = "recipes/qbittorrent/recipe.toml";

#[test]
fn migrations() {
    let state = "path = \"/var/lib/qbittorrent\"";
    run(&[
        (
            "migrates_good",
            &[Replace(
                RECIPE,
                state,
                "path = \"/var/lib/qbittorrent\"\nmigrates = { package = \"qbittorrent-nox\" }",
            )],
        ),
        (
            "migrates_without_package",
            &[Replace(RECIPE, state, "path = \"/var/lib/qbittorrent\"\nmigrates = { file = \"version\" }")],
        ),
        (
            "migrates_no_package_name",
            &[Replace(
                RECIPE,
                state,
                "path = \"/var/lib/qbittorrent\"\nmigrates = { package = \"qBittorrent\" }",
            )],
        ),
        (
            "migrates_file_elsewhere",
            &[Replace(
                RECIPE,
                state,
                "path = \"/var/lib/qbittorrent\"\nmigrates = { package = \"qbittorrent-nox\", file = \"../version\" }",
            )],
        ),
    ]);
}

#[test]
fn secrets() {
    run(&[
        (
            "secret_good",
            &[Append(
                RECIPE,
                "\n[[secret]]\nname = \"password\"\nhash = \"/var/lib/qbittorrent/.password\"\n",
            )],
        ),
        ("secret_without_use", &[Append(RECIPE, "\n[[secret]]\nname = \"password\"\n")]),
        (
            "secret_with_both",
            &[Append(
                RECIPE,
                "\n[[secret]]\nname = \"password\"\nhash = \"/var/lib/qbittorrent/.password\"\nrun = \"/usr/bin/x\"\n",
            )],
        ),
        (
            "secret_in_the_image",
            &[Append(RECIPE, "\n[[secret]]\nname = \"password\"\nhash = \"/etc/password\"\n")],
        ),
        ("secret_relative", &[Append(RECIPE, "\n[[secret]]\nname = \"password\"\nrun = \"bin/x\"\n")]),
        (
            "secret_twice",
            &[Append(
                RECIPE,
                "\n[[secret]]\nname = \"a\"\nrun = \"/usr/bin/x\"\n\n[[secret]]\nname = \"a\"\nrun = \"/usr/bin/y\"\n",
            )],
        ),
    ]);
}
