//! Mistakes with archives of recipes, what a site has in their place, and tarballs.

use crate::Edit::{self, Append, Replace, Write};
use crate::cases::run;
use crate::project;
use build_images::model;

const SITE: &str = "images/site.toml";
const RECIPE: &str = "recipes/qbittorrent/recipe.toml";
const OTHER: &str = "recipes/jellyfin/recipe.toml";
const CERTIFICATE: &[u8] = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n";

#[test]
fn archives_of_a_site() {
    run(&[
        (
            "site_archive_unknown",
            &[Append(SITE, "\n[archive.jelyfin]\nuri = \"https://mirror.example.org/jellyfin/\"\n")],
        ),
        (
            "site_archive_without_uri",
            &[Append(SITE, "\n[archive.jellyfin]\nurl = \"https://mirror.example.org/\"\n")],
        ),
        ("site_archive_path", &[Append(SITE, "\n[archive.jellyfin]\nuri = \"/srv/mirror\"\n")]),
        (
            "site_archive_scheme",
            &[Append(SITE, "\n[archive.jellyfin]\nuri = \"ftp://mirror.example.org/\"\n")],
        ),
        ("site_archive_relative", &[Append(SITE, "\n[archive.jellyfin]\nuri = \"file://mirror/../x\"\n")]),
        (
            "site_archive_password",
            &[Append(SITE, "\n[archive.jellyfin]\nuri = \"https://me:secret@mirror.example.org/\"\n")],
        ),
        (
            "site_archive_key_alone",
            &[
                Append(
                    SITE,
                    "\n[archive.jellyfin]\nuri = \"https://mirror.example.org/\"\nkeys = [\"site.asc\"]\n",
                ),
                Write("images/keys/site.asc", CERTIFICATE),
            ],
        ),
        (
            "site_archive_fingerprint_alone",
            &[Append(
                SITE,
                "\n[archive.jellyfin]\nuri = \"https://mirror.example.org/\"\n\
                 fingerprints = [\"4918AABC486CA052358D778D49023CD01DE21A7B\"]\n",
            )],
        ),
        (
            "site_archive_key_missing",
            &[Append(
                SITE,
                "\n[archive.jellyfin]\nuri = \"https://mirror.example.org/\"\nkeys = [\"site.asc\"]\n\
                 fingerprints = [\"49023CD01DE21A7B\"]\n",
            )],
        ),
        (
            "site_mirror_scheme",
            &[Replace(SITE, "http://mirror.example.org/debian/", "rsync://mirror.example.org/debian/")],
        ),
    ]);
}

#[test]
fn archives_of_a_recipe() {
    run(&[
        (
            "suite_typing_error",
            &[Replace(OTHER, "suites = [\"trixie\"]", "suites = [\"trixei\", \"noble\", \"sid/main\"]")],
        ),
        (
            "suite_of_a_base",
            &[Replace(
                "recipes/debian-13/recipe.toml",
                "suites = [\"trixie\", \"trixie-updates\"]",
                "suites = [\"trixie\", \"stable\"]",
            )],
        ),
        (
            "places",
            &[Replace(
                OTHER,
                "[packages]",
                "places = [\n  \"https://repo.jellyfin.org/files/v{upstrem}/{file}\",\n  \"https://repo.jellyfin.org/files/\",\n  \
                 \"https://repo.jellyfin.org/{version}\",\n  \"repo.jellyfin.org/{file}\",\n  \
                 \"https://me:secret@repo.jellyfin.org/{file}\",\n  \"https://{file}\",\n  \
                 \"https://repo.jellyfin.org/{file}?x\",\n  \"https://repo.jellyfin.org/{file\",\n]\n\n[packages]",
            )],
        ),
    ]);
}

#[test]
fn suites_may_have_names_of_their_own() {
    for suite in ["stable", "main", "any-version", "trixie/stable", "trixie-rc", "nodistro"] {
        let text = format!("suites = [\"{suite}\"]");
        let text: &'static str = text.leak();
        let root = project(&[Replace(OTHER, "suites = [\"trixie\"]", text)]);
        let project = model::load(root.path()).unwrap_or_else(|problems| panic!("{suite}: {problems}"));
        let archive = &project.recipes["jellyfin"].archives["jellyfin"];
        assert_eq!(archive.suites, [suite]);
        assert_eq!(archive.releases.iter().collect::<Vec<_>>(), ["trixie"]);
    }
}

#[test]
fn tarballs() {
    const GOOD: &str = "\n[[tarball]]\nname = \"tool\"\nurl = \"https://example.org/tool-1.tar.gz\"\n\
                        sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"\npath = \"/opt/tool\"\n";
    run(&[
        ("tarball_empty", &[Append(RECIPE, "\n[[tarball]]\n")]),
        (
            "tarball_table",
            &[Append(RECIPE, "\n[tarball.tool]\nurl = \"https://example.org/tool-1.tar.gz\"\n")],
        ),
        (
            "tarball_everything",
            &[Append(
                RECIPE,
                "\n[[tarball]]\nname = \"my/tool\"\nurl = \"ftp://example.org/tool-{version}.tar.gz\"\nsha256 = \"SHA256:abc\"\n\
                 path = \"opt/tool\"\nstrip = -1\nonly = [\"/bin\", \"../lib\", \"a//b\"]\nowner = \"tool\"\nmode = \"0755\"\n",
            )],
        ),
        (
            "tarball_url",
            &[
                Append(RECIPE, GOOD),
                Replace(RECIPE, "https://example.org/tool-1.tar.gz", "https://example.org/download/"),
            ],
        ),
        (
            "tarball_url_placeholder",
            &[Append(RECIPE, GOOD), Replace(RECIPE, "tool-1.tar", "tool-{version}.tar")],
        ),
        (
            "tarball_url_password",
            &[Append(RECIPE, GOOD), Replace(RECIPE, "//example.org/tool", "//me:secret@example.org/tool")],
        ),
        (
            "tarball_url_hidden_slash",
            &[Append(RECIPE, GOOD), Replace(RECIPE, "tool-1.tar.gz", "..%2Ftool-1.tar.gz")],
        ),
        (
            "tarball_sha1",
            &[
                Append(RECIPE, GOOD),
                Replace(
                    RECIPE,
                    "0000000000000000000000000000000000000000000000000000000000000000",
                    "0000000000000000000000000000000000000000",
                ),
            ],
        ),
        ("tarball_volatile", &[Append(RECIPE, GOOD), Replace(RECIPE, "\"/opt/tool\"", "\"/run/tool\"")]),
        (
            "tarball_below_a_mount",
            &[Append(RECIPE, GOOD), Replace(RECIPE, "\"/opt/tool\"", "\"/var/lib/qbittorrent/tool\"")],
        ),
        (
            "tarball_over_a_file",
            &[
                Append(RECIPE, GOOD),
                Replace(RECIPE, "\"/opt/tool\"", "\"/usr/share/qbittorrent/categories.json\""),
            ],
        ),
        (
            "tarball_set",
            &[
                Append(RECIPE, GOOD),
                Append(
                    RECIPE,
                    "only = [\"bin\", \"bin\"]\nset = [\n  { path = \"lib/x\" },\n  { path = \"bin/x\", mode = \"4755\" },\n  \
                     { path = \"bin/x\", mode = \"rwx\" },\n  { path = \"bin/y\", owner = \"nobody-else\" },\n  { mode = \"0755\" },\n]\n",
                ),
            ],
        ),
        ("tarball_twice", &[Append(RECIPE, GOOD), Append(OTHER, GOOD)]),
        ("tarball_twice_in_one", &[Append(RECIPE, GOOD), Append(RECIPE, GOOD)]),
        (
            "tarball_named_like_an_archive",
            &[Append(RECIPE, GOOD), Replace(RECIPE, "name = \"tool\"", "name = \"jellyfin\"")],
        ),
        (
            "tarball_is_no_archive",
            &[
                Append(RECIPE, GOOD),
                Append(SITE, "\n[archive.tool]\nuri = \"https://mirror.example.org/\"\n"),
            ],
        ),
    ]);
}

#[test]
fn a_tarball_may_share_its_directory_and_have_a_mirror() {
    let tarball = |name: &str| {
        format!(
            "\n[[tarball]]\nname = \"{name}\"\nurl = \"https://example.org/{name}.tar.gz?raw=1\"\nsha256 = \"{}\"\npath = \"/usr/local\"\n\
             only = [\"bin/\"]\n",
            "AB".repeat(32)
        )
    };
    let text: &'static str =
        format!("{}{}\n[[directory]]\npath = \"/usr/local\"\n", tarball("a"), tarball("b")).leak();
    let root = project(&[
        Edit::Append(RECIPE, text),
        Edit::Replace(SITE, "[mirrors]", "[mirrors]\na = [\"file:///srv/a\"]"),
    ]);
    let project = model::load(root.path()).unwrap_or_else(|problems| panic!("{problems}"));
    let tarballs = &project.recipes["qbittorrent"].tarballs;
    assert_eq!(tarballs.len(), 2);
    assert_eq!(tarballs[0].only[0].to_string(), "/bin");
    assert_eq!(tarballs[0].sha256.to_string(), "ab".repeat(32));
    assert_eq!(project.site.mirrors["a"], ["file:///srv/a/"]);
}
