//! The table of mistakes.

use crate::Edit::{self, Append, Large, Link, Remove, Replace, Write};
use crate::said;

const SITE: &str = "images/site.toml";
const QBITTORRENT: &str = "images/qbittorrent.toml";
const JELLYFIN: &str = "images/jellyfin.toml";
const BASE: &str = "recipes/debian-13/recipe.toml";
const RECIPE: &str = "recipes/qbittorrent/recipe.toml";
const OTHER: &str = "recipes/jellyfin/recipe.toml";

/// Runs every case and compares what is said with its snapshot.
pub fn run(cases: &[(&str, &[Edit])]) {
    let mut failures = Vec::new();
    for (name, edits) in cases {
        let text = said(edits);
        let checked = std::panic::catch_unwind(|| insta::assert_snapshot!(*name, text, name));
        if checked.is_err() {
            failures.push(*name);
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn syntax() {
    run(&[
        ("toml_no_value", &[Replace(QBITTORRENT, "vmid = 159", "vmid =")]),
        ("toml_two_errors", &[Replace(QBITTORRENT, "vmid = 159", "vmid ="), Replace(QBITTORRENT, "cores = 2", "cores 2")]),
        ("toml_duplicate_key", &[Replace(QBITTORRENT, "cores = 2", "cores = 2\ncores = 3")]),
        ("toml_duplicate_table", &[Append(QBITTORRENT, "\n[container]\nvmid = 160\n")]),
        ("toml_unclosed_string", &[Replace(QBITTORRENT, "\"2 GiB\"", "\"2 GiB")]),
        ("toml_octal_number", &[Append(RECIPE, "\n[[directory]]\npath = \"/srv/x\"\nmode = 0755\n")]),
        ("unknown_key_typing_error", &[Replace(QBITTORRENT, "memory =", "memroy =")]),
        ("unknown_key_at_top", &[Replace(QBITTORRENT, "recipes =", "recipe =")]),
        ("unknown_key_far_from_any", &[Append(RECIPE, "\n[docker]\nimage = \"x\"\n")]),
        ("unknown_key_in_inline_table", &[Replace(RECIPE, "status =", "statuses =")]),
        ("wrong_type_string_for_number", &[Replace(QBITTORRENT, "vmid = 159", "vmid = \"159\"")]),
        ("wrong_type_number_for_string", &[Replace(SITE, "release = \"9.2\"", "release = 9.2")]),
        ("wrong_type_boolean", &[Replace(QBITTORRENT, "cores = 2", "cores = 2\nonboot = \"yes\"")]),
        ("wrong_type_list", &[Replace(RECIPE, "install = [\"qbittorrent-nox\"]", "install = \"qbittorrent-nox\"")]),
        ("wrong_type_in_list", &[Replace(RECIPE, "[\"qbittorrent-nox\"]", "[\"qbittorrent-nox\", 7]")]),
        ("wrong_type_table_for_list", &[Replace(QBITTORRENT, "[[mount]]", "[mount]")]),
        ("wrong_type_many_at_once", &[Write(JELLYFIN, b"recipes = \"debian-13\"\nname = \"jellyfin\"\n\n[container]\nvmid = 1.5\naddress = true\ncores = \"4\"\nmemory = 2048\nonboot = 1\n")]),
        ("number_too_large", &[Replace(QBITTORRENT, "vmid = 159", "vmid = 99999999999999999999")]),
        ("missing_keys", &[Write(JELLYFIN, b"description = \"Jellyfin\"\n\n[container]\ncores = 4\n")]),
        ("missing_section", &[Write(SITE, b"domain = \"example.org\"\n")]),
        ("not_text", &[Write(QBITTORRENT, b"recipes = [\"\xff\"]\n")]),
        ("toml_too_large", &[Large(QBITTORRENT, (1 << 20) + 1)]),
    ]);
}

#[test]
fn project() {
    run(&[
        ("site_missing", &[Remove(SITE)]),
        ("no_recipes_folder", &[Remove("recipes")]),
        ("no_images", &[Remove(QBITTORRENT), Remove(JELLYFIN)]),
        ("recipe_without_file", &[Remove(RECIPE)]),
        ("recipe_unknown", &[Replace(QBITTORRENT, "\"qbittorrent\"", "\"qbitorrent\"")]),
        ("recipe_unknown_far_from_any", &[Replace(QBITTORRENT, "\"qbittorrent\"", "\"transmission\"")]),
        (
            "recipe_listed_twice",
            &[Replace(QBITTORRENT, "\"qbittorrent\"]", "\"qbittorrent\", \"qbittorrent\"]")],
        ),
        ("recipes_empty", &[Replace(QBITTORRENT, "[\"debian-13\", \"qbittorrent\"]", "[]")]),
        (
            "base_not_first",
            &[Replace(QBITTORRENT, "\"debian-13\", \"qbittorrent\"", "\"qbittorrent\", \"debian-13\"")],
        ),
        ("base_missing", &[Replace(QBITTORRENT, "\"debian-13\", ", "")]),
        ("release_missing", &[Replace(BASE, "release = \"trixie\"\n", "")]),
        ("release_not_a_code_name", &[Replace(BASE, "release = \"trixie\"", "release = \"13\"")]),
        ("release_moving", &[Replace(BASE, "release = \"trixie\"", "release = \"stable\"")]),
        ("image_name", &[Write("images/Media_Box.toml", b"")]),
        ("recipe_name", &[Write("recipes/My Recipe/recipe.toml", b"")]),
        ("recipe_is_a_link", &[Link(RECIPE, "../jellyfin/recipe.toml")]),
        (
            "everything_at_once",
            &[
                Replace(SITE, "172.16.10.1\"\nnameservers", "172.16.11.1\"\nnameservers"),
                Replace(QBITTORRENT, "vmid = 159", "vmid = 59"),
                Replace(QBITTORRENT, "\"2 GiB\"", "\"2 GB\""),
                Replace(QBITTORRENT, "target =", "traget ="),
                Replace(RECIPE, "uid = 959", "uid = 0"),
                Replace(RECIPE, "source = \"categories.json\"", "source = \"category.json\""),
                Replace(OTHER, "\"jellyfin-web\"", "\"Jellyfin-Web\""),
            ],
        ),
    ]);
}

#[test]
fn site() {
    run(&[
        ("site_domain", &[Replace(SITE, "example.org\"\ntime", "https://example.org\"\ntime")]),
        ("site_domain_underscore", &[Replace(SITE, "domain = \"example.org\"", "domain = \"my_site.org\"")]),
        ("site_domain_warning", &[Replace(SITE, "domain = \"example.org\"", "domain = \"lan\"")]),
        ("timezone", &[Replace(SITE, "Europe/Stockholm", "Stockholm")]),
        ("timezone_area", &[Replace(SITE, "Europe/Stockholm", "Europa/Stockholm")]),
        ("bridge", &[Replace(SITE, "vmbr3", "my bridge 0")]),
        ("subnet_is_an_address", &[Replace(SITE, "172.16.10.0/24", "172.16.10.7/24")]),
        ("subnet_without_prefix", &[Replace(SITE, "172.16.10.0/24", "172.16.10.0")]),
        ("subnet_too_small", &[Replace(SITE, "172.16.10.0/24", "172.16.10.0/31")]),
        ("gateway_outside", &[Replace(SITE, "gateway = \"172.16.10.1\"", "gateway = \"172.16.11.1\"")]),
        (
            "gateway_is_broadcast",
            &[Replace(SITE, "gateway = \"172.16.10.1\"", "gateway = \"172.16.10.255\"")],
        ),
        (
            "gateway_with_prefix",
            &[Replace(SITE, "gateway = \"172.16.10.1\"", "gateway = \"172.16.10.1/24\"")],
        ),
        ("proxy_is_a_name", &[Replace(SITE, "172.16.10.102", "traefik.example.org")]),
        (
            "nameserver_is_a_name",
            &[Replace(SITE, "[\"172.16.10.1\"]", "[\"dns.example.org\", \"127.0.0.1\"]")],
        ),
        ("node_host", &[Replace(SITE, "root@192.168.1.3", "root@ 192.168.1.3")]),
        ("node_storage", &[Replace(SITE, "local-lvm", "1-lvm")]),
        ("node_release", &[Replace(SITE, "release = \"9.2\"", "release = \"9\"")]),
        ("node_release_too_old", &[Replace(SITE, "release = \"9.2\"", "release = \"7.4\"")]),
        ("directories_overlap", &[Replace(SITE, "/srv/appdata", "/srv/media/appdata")]),
        ("directory_relative", &[Replace(SITE, "\"/srv/media\"", "\"srv/media/\"")]),
        ("directory_of_the_node", &[Replace(SITE, "\"/srv/appdata\"", "\"/etc/appdata\"")]),
        ("mirror_of_no_archive", &[Replace(SITE, "debian = [", "debain = [")]),
        (
            "mirror_with_password",
            &[Replace(SITE, "http://mirror.example.org", "https://me:secret@mirror.example.org")],
        ),
    ]);
}

#[test]
fn container() {
    run(&[
        ("vmid_59", &[Replace(QBITTORRENT, "vmid = 159", "vmid = 59")]),
        ("vmid_negative", &[Replace(QBITTORRENT, "vmid = 159", "vmid = -1")]),
        ("vmid_too_large", &[Replace(QBITTORRENT, "vmid = 159", "vmid = 1000000000")]),
        ("vmid_collision", &[Replace(QBITTORRENT, "vmid = 159", "vmid = 156")]),
        ("address_collision", &[Replace(QBITTORRENT, "address = 59", "address = 56")]),
        (
            "address_collision_in_two_forms",
            &[Replace(QBITTORRENT, "address = 59", "address = \"172.16.10.56/24\"")],
        ),
        ("address_zero", &[Replace(QBITTORRENT, "address = 59", "address = 0")]),
        ("address_broadcast", &[Replace(QBITTORRENT, "address = 59", "address = 255")]),
        ("address_outside", &[Replace(QBITTORRENT, "address = 59", "address = 300")]),
        ("address_of_gateway", &[Replace(QBITTORRENT, "address = 59", "address = 1")]),
        ("address_of_proxy", &[Replace(QBITTORRENT, "address = 59", "address = 102")]),
        ("address_without_prefix", &[Replace(QBITTORRENT, "address = 59", "address = \"172.16.10.59\"")]),
        ("address_in_another_network", &[Replace(QBITTORRENT, "address = 59", "address = \"10.0.0.5/24\"")]),
        ("address_nonsense", &[Replace(QBITTORRENT, "address = 59", "address = \"172.16.10.590/24\"")]),
        ("address_prefix", &[Replace(QBITTORRENT, "address = 59", "address = \"172.16.10.59/33\"")]),
        ("hostname_underscore", &[Replace(QBITTORRENT, "cores = 2", "hostname = \"q_bittorrent\"")]),
        ("hostname_dot", &[Replace(QBITTORRENT, "cores = 2", "hostname = \"qbittorrent.example.org\"")]),
        (
            "hostname_long",
            &[Replace(
                QBITTORRENT,
                "cores = 2",
                "hostname = \"qbittorrent-qbittorrent-qbittorrent-qbittorrent-qbittorrent-qbittorrent\"",
            )],
        ),
        ("hostname_dash", &[Replace(QBITTORRENT, "cores = 2", "hostname = \"-qbittorrent\"")]),
        ("hostname_collision", &[Replace(QBITTORRENT, "cores = 2", "hostname = \"Jellyfin\"")]),
        (
            "domain_collision",
            &[
                Replace(QBITTORRENT, "cores = 2", "domain = \"media.example.org\""),
                Replace(JELLYFIN, "cores = 4", "domain = \"media.example.org\""),
            ],
        ),
        ("domain_short", &[Replace(QBITTORRENT, "cores = 2", "domain = \"torrents\"")]),
        (
            "cores",
            &[
                Replace(QBITTORRENT, "cores = 2", "cores = 0"),
                Replace(JELLYFIN, "cores = 4", "cores = 10000"),
            ],
        ),
        ("memory_unit", &[Replace(QBITTORRENT, "\"2 GiB\"", "\"2 GB\"")]),
        ("memory_number", &[Replace(QBITTORRENT, "\"2 GiB\"", "2048")]),
        ("memory_without_unit", &[Replace(QBITTORRENT, "\"2 GiB\"", "\"2048\"")]),
        ("memory_too_small", &[Replace(QBITTORRENT, "\"2 GiB\"", "\"8 MiB\"")]),
        ("swap_negative", &[Replace(QBITTORRENT, "\"512 MiB\"", "\"-1 MiB\"")]),
        (
            "disk_fraction",
            &[
                Replace(QBITTORRENT, "\"32 GiB\"", "\"1.5 GiB\""),
                Replace(JELLYFIN, "\"64 GiB\"", "\"1500 MiB\""),
            ],
        ),
        ("disk_zero", &[Replace(QBITTORRENT, "\"32 GiB\"", "\"0\"")]),
        ("startup_negative", &[Replace(QBITTORRENT, "startup = 1", "startup = -1")]),
        ("tag_syntax", &[Replace(QBITTORRENT, "[\"media\"]", "[\"media;download\", \"my tag\"]")]),
        ("tag_twice", &[Replace(QBITTORRENT, "[\"media\"]", "[\"media\", \"Media\"]")]),
        ("vlan", &[Replace(QBITTORRENT, "cores = 2", "vlan = 4095")]),
        ("mac_multicast", &[Replace(QBITTORRENT, "cores = 2", "mac = \"01:00:5E:00:00:01\"")]),
        ("mac_syntax", &[Replace(QBITTORRENT, "cores = 2", "mac = \"BC-24-11-00-00-01\"")]),
        ("gpu_card", &[Replace(JELLYFIN, "cores = 4", "gpu = \"/dev/dri/card0\"")]),
        ("gpu_number", &[Replace(JELLYFIN, "cores = 4", "gpu = \"/dev/dri/renderD12\"")]),
        ("gpu_elsewhere", &[Replace(JELLYFIN, "cores = 4", "gpu = \"/dev/nvidia0\"")]),
        ("gpu_wrong_type", &[Replace(JELLYFIN, "cores = 4", "gpu = true")]),
        ("gpu_without_group", &[Replace(QBITTORRENT, "cores = 2", "gpu = \"/dev/dri/renderD128\"")]),
        (
            "gpu_on_an_old_node",
            &[
                Replace(JELLYFIN, "cores = 4", "gpu = \"/dev/dri/renderD128\""),
                Replace(SITE, "release = \"9.2\"", "release = \"8.0\""),
            ],
        ),
        (
            "mac_collision",
            &[
                Replace(QBITTORRENT, "cores = 2", "mac = \"BC:24:11:00:00:01\""),
                Replace(JELLYFIN, "cores = 4", "mac = \"bc:24:11:00:00:01\""),
            ],
        ),
    ]);
}

#[test]
fn mounts() {
    run(&[
        ("mount_through_link", &[Replace(QBITTORRENT, "\"/srv/downloads\"", "\"/lib/downloads\"")]),
        ("mount_through_var_run", &[Replace(QBITTORRENT, "\"/srv/downloads\"", "\"/var/run/downloads\"")]),
        ("mount_on_system", &[Replace(QBITTORRENT, "\"/srv/downloads\"", "\"/usr\"")]),
        ("mount_on_root", &[Replace(QBITTORRENT, "\"/srv/downloads\"", "\"/\"")]),
        ("mount_on_volatile", &[Replace(QBITTORRENT, "\"/srv/downloads\"", "\"/tmp/downloads\"")]),
        ("mount_with_comma", &[Replace(QBITTORRENT, "\"/srv/downloads\"", "\"/srv/down,loads\"")]),
        (
            "mount_source_with_space",
            &[Replace(QBITTORRENT, "media = \"downloads\"", "media = \"my downloads\"")],
        ),
        ("mount_dots", &[Replace(QBITTORRENT, "\"/srv/downloads\"", "\"/srv/../downloads\"")]),
        ("mount_relative", &[Replace(QBITTORRENT, "\"/srv/downloads\"", "\"srv/downloads\"")]),
        (
            "mount_media_absolute",
            &[Replace(QBITTORRENT, "media = \"downloads\"", "media = \"/srv/media/downloads\"")],
        ),
        ("mount_media_leads_out", &[Replace(QBITTORRENT, "media = \"downloads\"", "media = \"../appdata\"")]),
        (
            "mount_source_repeats_media",
            &[Replace(QBITTORRENT, "media = \"downloads\"", "source = \"/srv/media/downloads\"")],
        ),
        (
            "mount_source_of_the_node",
            &[Replace(QBITTORRENT, "media = \"downloads\"", "source = \"/etc/pve\"")],
        ),
        (
            "mount_both",
            &[Replace(QBITTORRENT, "media = \"downloads\"", "media = \"downloads\"\nsource = \"/srv/x\"")],
        ),
        ("mount_neither", &[Replace(QBITTORRENT, "media = \"downloads\"\n", "")]),
        ("mount_twice", &[Replace(JELLYFIN, "\"/media/tv\"", "\"/media/movies\"")]),
        ("mount_nested", &[Replace(JELLYFIN, "\"/media/tv\"", "\"/media/movies/tv\"")]),
        (
            "mount_inside_state",
            &[Replace(QBITTORRENT, "\"/srv/downloads\"", "\"/var/lib/qbittorrent/downloads\"")],
        ),
        (
            "state_on_read_only_mount",
            &[Append(
                QBITTORRENT,
                "\n[[mount]]\nsource = \"/srv/ssd/qbittorrent\"\ntarget = \"/var/lib/qbittorrent\"\nread-only = true\n",
            )],
        ),
        ("state_shares_a_name", &[Append(RECIPE, "\n[[state]]\npath = \"/srv/qbittorrent\"\n")]),
        (
            "state_shared_by_images",
            &[Append(
                QBITTORRENT,
                "\n[[mount]]\nsource = \"/srv/appdata/jellyfin\"\ntarget = \"/var/lib/qbittorrent\"\n",
            )],
        ),
        (
            "state_path",
            &[Replace(RECIPE, "path = \"/var/lib/qbittorrent\"", "path = \"/usr/lib/qbittorrent\"")],
        ),
    ]);
}

#[test]
fn recipe() {
    run(&[
        ("description_empty", &[Replace(RECIPE, "qBittorrent without a desktop, with its web UI", " ")]),
        (
            "package_name",
            &[Replace(RECIPE, "\"qbittorrent-nox\"", "\"qBittorrent-nox\", \"curl=8.0\", \"x\"")],
        ),
        (
            "package_twice",
            &[Replace(RECIPE, "\"qbittorrent-nox\"", "\"qbittorrent-nox\", \"curl\", \"qbittorrent-nox\"")],
        ),
        (
            "archive_uri",
            &[Replace(OTHER, "https://repo.jellyfin.org/debian", "ftp://repo.jellyfin.org/debian")],
        ),
        (
            "archive_uri_too_deep",
            &[Replace(
                OTHER,
                "https://repo.jellyfin.org/debian",
                "https://repo.jellyfin.org/debian/dists/trixie",
            )],
        ),
        (
            "archive_uri_placeholder",
            &[Replace(OTHER, "https://repo.jellyfin.org/debian", "https://repo.jellyfin.org/{release}/")],
        ),
        (
            "suite_of_another_release",
            &[Replace(OTHER, "suites = [\"trixie\"]", "suites = [\"bookworm-updates\", \"trixiex\"]")],
        ),
        ("suites_empty", &[Replace(OTHER, "suites = [\"trixie\"]", "suites = []")]),
        ("key_missing", &[Replace(OTHER, "[\"jellyfin.asc\"]", "[\"jellyfin.gpg\"]")]),
        (
            "key_is_private",
            &[Write(
                "recipes/jellyfin/keys/jellyfin.asc",
                concat!("-----BEGIN PGP PRI", "VATE KEY BLOCK-----\n").as_bytes(),
            )],
        ),
        ("key_is_something_else", &[Write("recipes/jellyfin/keys/jellyfin.asc", b"<html>404</html>\n")]),
        (
            "fingerprint_key_id",
            &[Replace(OTHER, "4918AABC486CA052358D778D49023CD01DE21A7B", "49023CD01DE21A7B")],
        ),
        (
            "fingerprint_length",
            &[Replace(
                OTHER,
                "4918AABC486CA052358D778D49023CD01DE21A7B",
                "4918AABC486CA052358D778D49023CD01DE21A7",
            )],
        ),
        (
            "fingerprint_digit",
            &[Replace(
                OTHER,
                "4918AABC486CA052358D778D49023CD01DE21A7B",
                "4918AABC486CA052358D778D49023CD01DE21A7O",
            )],
        ),
        (
            "archive_declared_twice",
            &[
                Append(
                    RECIPE,
                    "\n[archive.debian]\nuri = \"https://snapshot.debian.org/archive/debian/\"\nsuites = [\"trixie\"]\ncomponents = [\"main\"]\nkeys = [\"a.asc\"]\nfingerprints = [\"4918AABC486CA052358D778D49023CD01DE21A7B\"]\n",
                ),
                Write("recipes/qbittorrent/keys/a.asc", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n"),
            ],
        ),
        ("uid_root", &[Replace(RECIPE, "uid = 959", "uid = 0")]),
        (
            "uid_of_debian",
            &[Replace(RECIPE, "uid = 959", "uid = 33"), Replace(OTHER, "uid = 956", "uid = 60001")],
        ),
        (
            "uid_nobody",
            &[Replace(RECIPE, "uid = 959", "uid = 65534"), Replace(OTHER, "gid = 950", "gid = 70000")],
        ),
        (
            "user_of_debian",
            &[
                Replace(RECIPE, "name = \"qbittorrent\"", "name = \"www-data\""),
                Replace(RECIPE, "owner = \"qbittorrent\"", "owner = \"www-data\""),
            ],
        ),
        ("user_name", &[Replace(RECIPE, "name = \"qbittorrent\"", "name = \"qBittorrent\"")]),
        ("group_unknown", &[Replace(RECIPE, "groups = [\"media\"]", "groups = [\"medai\", \"render\"]")]),
        ("primary_group_unknown", &[Replace(RECIPE, "groups = [\"media\"]", "group = \"torrents\"")]),
        ("owner_unknown", &[Replace(RECIPE, "owner = \"qbittorrent\"", "owner = \"torrent\"")]),
        (
            "id_collision",
            &[Append(
                RECIPE,
                "\n[[user]]\nname = \"other\"\nuid = 959\n\n[[group]]\nname = \"third\"\ngid = 950\n",
            )],
        ),
        ("account_declared_in_two_recipes", &[Append(BASE, "\n[[group]]\nname = \"media\"\ngid = 951\n")]),
        ("account_id_differs_between_images", &[Replace(OTHER, "gid = 950", "gid = 951")]),
        ("port_zero", &[Replace(RECIPE, "port = 8080", "port = 0")]),
        ("port_collision", &[Append(BASE, "\n[service]\nport = 8080\n")]),
        (
            "probe",
            &[Replace(
                RECIPE,
                "path = \"/api/v2/app/version\", status = [200, 403]",
                "path = \"http://localhost/\", status = [200, 200, 999]",
            )],
        ),
        (
            "probe_body_twice",
            &[
                Replace(OTHER, "body = \"Healthy\"", "body = \"Healthy\"\ncontains = \"Health\""),
                Replace(OTHER, "body = \"Degraded\"", "contains = \"\""),
            ],
        ),
        ("probe_starting_says_nothing", &[Replace(OTHER, "status = [200, 503], body = \"Degraded\", ", "")]),
        (
            "probe_starting_is_good_already",
            &[Replace(OTHER, "body = \"Healthy\"\n", "status = [200, 503]\n")],
        ),
        (
            "probe_starting_is_a_part_of_good",
            &[
                Replace(OTHER, "body = \"Healthy\"", "contains = \"ea\""),
                Replace(
                    OTHER,
                    "status = [200, 503], body = \"Degraded\"",
                    "status = [200], contains = \"Healthy\"",
                ),
            ],
        ),
        (
            "probe_starting_is_a_table",
            &[Replace(
                OTHER,
                "starting = [{ status = [200, 503], body = \"Degraded\", patience = \"12 h\" }]",
                "starting = { body = \"Degraded\" }",
            )],
        ),
        ("probe_patience", &[Replace(OTHER, "\"3 min\"", "180"), Replace(OTHER, "\"12 h\"", "\"12 hours\"")]),
        (
            "probe_patience_too_long",
            &[Replace(OTHER, "\"3 min\"", "\"0 s\""), Replace(OTHER, "\"12 h\"", "\"1000 h\"")],
        ),
        (
            "setup_says_nothing",
            &[Replace(OTHER, "contains = '\"StartupWizardCompleted\":false'", "status = [200, 404]")],
        ),
        ("setup_path", &[Replace(OTHER, "\"/System/Info/Public\"", "\"http://jellyfin/System Info\"")]),
        (
            "space",
            &[
                Replace(
                    OTHER,
                    "path = \"/var/cache/jellyfin\"\nfree = \"2 GiB\"",
                    "path = \"var/cache\"\nfree = \"0\"",
                ),
                Replace(
                    OTHER,
                    "path = \"/var/lib/jellyfin/data\"\nfree = \"2 GiB\"",
                    "path = \"/var/lib/jellyfin\"\nfree = \"2 GB\"",
                ),
            ],
        ),
        ("space_more_than_the_disk", &[Replace(JELLYFIN, "\"64 GiB\"", "\"2 GiB\"")]),
        (
            "space_more_than_the_default_disk",
            &[
                Replace(JELLYFIN, "disk = \"64 GiB\"\n", ""),
                Replace(
                    OTHER,
                    "path = \"/var/cache/jellyfin\"\nfree = \"2 GiB\"",
                    "path = \"/var/cache/jellyfin\"\nfree = \"8 GiB\"",
                ),
            ],
        ),
        (
            "space_on_a_read_only_mount",
            &[Replace(OTHER, "path = \"/var/cache/jellyfin\"", "path = \"/media/tv/cache\"")],
        ),
        (
            "unit_name",
            &[Replace(
                RECIPE,
                "[\"qbittorrent.service\"]",
                "[\"qbittorrent\", \"a/b.service\", \"x.servcie\"]",
            )],
        ),
        (
            "unit_enabled_and_masked",
            &[
                Append(BASE, ""),
                Replace(
                    BASE,
                    "[\"systemd-firstboot.service\"]",
                    "[\"systemd-firstboot.service\", \"qbittorrent.service\"]",
                ),
            ],
        ),
    ]);
}

#[test]
fn files() {
    run(&[
        ("file_without_contents", &[Append(RECIPE, "\n[[file]]\npath = \"/etc/x\"\n")]),
        (
            "file_with_two_contents",
            &[Append(
                RECIPE,
                "\n[[file]]\npath = \"/etc/x\"\nsource = \"categories.json\"\ncontent = \"\"\n",
            )],
        ),
        ("file_missing", &[Replace(RECIPE, "\"categories.json\"", "\"categorys.json\"")]),
        ("file_prefix", &[Replace(RECIPE, "\"categories.json\"", "\"files/categories.json\"")]),
        ("file_leads_out", &[Replace(RECIPE, "\"categories.json\"", "\"../../jellyfin/keys/jellyfin.asc\"")]),
        ("file_absolute", &[Replace(RECIPE, "\"categories.json\"", "\"/etc/passwd\"")]),
        ("file_is_a_link", &[Link("recipes/qbittorrent/files/categories.json", "/etc/passwd")]),
        ("file_too_large", &[Large("recipes/qbittorrent/files/categories.json", (16 << 20) + 1)]),
        ("file_path_relative", &[Append(RECIPE, "\n[[file]]\npath = \"etc/x\"\ncontent = \"\"\n")]),
        (
            "file_path_through_link",
            &[Append(RECIPE, "\n[[file]]\npath = \"/lib/systemd/system/x.service\"\ncontent = \"\"\n")],
        ),
        ("file_path_volatile", &[Append(RECIPE, "\n[[file]]\npath = \"/run/x\"\ncontent = \"\"\n")]),
        (
            "file_that_proxmox_writes",
            &[Append(
                RECIPE,
                "\n[[file]]\npath = \"/etc/resolv.conf\"\ncontent = \"\"\n\n[[file]]\npath = \"/etc/vzdump/pct.conf\"\ncontent = \"\"\n",
            )],
        ),
        (
            "file_in_two_recipes",
            &[Append(
                BASE,
                "\n[[file]]\npath = \"/usr/share/qbittorrent/categories.json\"\ncontent = \"{}\"\n",
            )],
        ),
        (
            "file_and_link",
            &[Append(
                RECIPE,
                "\n[[link]]\npath = \"/usr/share/qbittorrent/categories.json\"\ntarget = \"x\"\n",
            )],
        ),
        (
            "file_below_a_file",
            &[Append(
                RECIPE,
                "\n[[file]]\npath = \"/usr/share/qbittorrent/categories.json/x\"\ncontent = \"\"\n",
            )],
        ),
        (
            "file_below_a_mount",
            &[Append(
                RECIPE,
                "\n[[file]]\npath = \"/var/lib/qbittorrent/qBittorrent.conf\"\ncontent = \"\"\n\n[[directory]]\npath = \"/srv/downloads/complete\"\n",
            )],
        ),
        (
            "directory_in_two_forms",
            &[Append(BASE, "\n[[directory]]\npath = \"/usr/share/qbittorrent\"\nmode = \"0700\"\n")],
        ),
        ("directory_is_state", &[Append(RECIPE, "\n[[directory]]\npath = \"/var/lib/qbittorrent\"\n")]),
        (
            "mode",
            &[Append(
                RECIPE,
                "\n[[file]]\npath = \"/etc/a\"\ncontent = \"\"\nmode = \"0888\"\n\n[[file]]\npath = \"/etc/b\"\ncontent = \"\"\nmode = \"10000\"\n\n[[file]]\npath = \"/etc/c\"\ncontent = \"\"\nmode = \"u=rw\"\n\n[[file]]\npath = \"/etc/d\"\ncontent = \"\"\nmode = 644\n",
            )],
        ),
        (
            "mode_warnings",
            &[Append(
                RECIPE,
                "\n[[file]]\npath = \"/usr/bin/a\"\ncontent = \"\"\nmode = \"4755\"\n\n[[directory]]\npath = \"/srv/x\"\nmode = \"0777\"\n",
            )],
        ),
        (
            "template_variable",
            &[Append(
                "recipes/qbittorrent/files/qBittorrent.conf.tera",
                "Port={{ recipe.prot }}\nName={{ imgae.name }}\n{% if site.network.dns %}x{% endif %}\n",
            )],
        ),
        (
            "template_id",
            &[Append("recipes/qbittorrent/files/qBittorrent.conf.tera", "{{ ids.user.qbitorrent }}\n")],
        ),
        ("template_syntax", &[Append("recipes/qbittorrent/files/qBittorrent.conf.tera", "{{ image.name\n")]),
        ("template_clock", &[Append("recipes/qbittorrent/files/qBittorrent.conf.tera", "{{ now() }}\n")]),
        (
            "template_filter",
            &[Append("recipes/qbittorrent/files/qBittorrent.conf.tera", "{{ image.name | uppercase }}\n")],
        ),
        (
            "template_include",
            &[Append("recipes/qbittorrent/files/qBittorrent.conf.tera", "{% include \"/etc/passwd\" %}\n")],
        ),
        (
            "template_throws",
            &[Append("recipes/qbittorrent/files/qBittorrent.conf.tera", "{{ throw(message=\"no\") }}\n")],
        ),
        (
            "template_grows",
            &[Append(
                "recipes/qbittorrent/files/qBittorrent.conf.tera",
                "{% for a in range(end=50000) %}{% for b in range(end=20) %}twenty-five characters long{% endfor %}{% endfor %}\n",
            )],
        ),
        ("template_is_not_text", &[Write("recipes/qbittorrent/files/qBittorrent.conf.tera", b"\xff\xfe")]),
    ]);
}
