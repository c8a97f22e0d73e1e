//! Mistakes in what only the site's own files need.

use crate::Edit::{Append, Replace};
use crate::cases::run;

const SITE: &str = "images/site.toml";
const QBITTORRENT: &str = "images/qbittorrent.toml";
const JELLYFIN: &str = "images/jellyfin.toml";
const BASE: &str = "recipes/debian-13/recipe.toml";
const RECIPE: &str = "recipes/qbittorrent/recipe.toml";
const OTHER: &str = "recipes/jellyfin/recipe.toml";

/// A good login of the recipe, to be spoiled.
const LOGIN: &str = "
[service.login]
paths = [\"/login\"]
log = \"/var/lib/qbittorrent/log/*.log\"
failure = 'denied \\(IP: <ADDR>\\)'
";

#[test]
fn logins() {
    run(&[
        ("login_good", &[Append(RECIPE, LOGIN)]),
        ("login_without_paths", &[Append(RECIPE, "\n[service.login]\nany-case = true\nattempts = 0\n")]),
        (
            "login_paths",
            &[Append(
                RECIPE,
                "\n[service.login]\npaths = [\"login\", \"/a?b=c\", \"/a//b\", \"/a/\", \"/a/../b\", \"/ok\", \"/ok\"]\n",
            )],
        ),
        ("login_paths_empty", &[Append(RECIPE, "\n[service.login]\npaths = []\n")]),
        (
            "login_log_without_failure",
            &[Append(RECIPE, "\n[service.login]\npaths = [\"/l\"]\nlog = \"/var/lib/qbittorrent/x.log\"\n")],
        ),
        (
            "login_failure_without_log",
            &[Append(RECIPE, "\n[service.login]\npaths = [\"/l\"]\nfailure = \"from <ADDR>\"\n")],
        ),
        (
            "login_log_is_not_on_a_mount",
            &[
                Append(RECIPE, LOGIN),
                Replace(
                    RECIPE,
                    "[[state]]\npath = \"/var/lib/qbittorrent\"",
                    "[[state]]\npath = \"/var/lib/other\"",
                ),
            ],
        ),
        (
            "login_log_path",
            &[Append(
                RECIPE,
                "\n[service.login]\npaths = [\"/l\"]\nlog = \"/var/lib/*/x.log\"\nfailure = 'from <ADDR>'\n",
            )],
        ),
        (
            "login_log_relative",
            &[Append(
                RECIPE,
                "\n[service.login]\npaths = [\"/l\"]\nlog = \"logs/x.log\"\nfailure = 'from <ADDR>'\n",
            )],
        ),
        (
            "login_failure_without_address",
            &[Append(
                RECIPE,
                "\n[service.login]\npaths = [\"/l\"]\nlog = \"/var/lib/qbittorrent/l\"\nfailure = 'from <HOST>'\n",
            )],
        ),
        (
            "login_failure_with_two",
            &[Append(
                RECIPE,
                "\n[service.login]\npaths = [\"/l\"]\nlog = \"/var/lib/qbittorrent/l\"\nfailure = '<ADDR> <ADDR>'\n",
            )],
        ),
        (
            "login_failure_begins_with_anything",
            &[Append(
                RECIPE,
                "\n[service.login]\npaths = [\"/l\"]\nlog = \"/var/lib/qbittorrent/l\"\nfailure = '.*from <ADDR>'\n",
            )],
        ),
        (
            "login_failure_unclosed",
            &[Append(
                RECIPE,
                "\n[service.login]\npaths = [\"/l\"]\nlog = \"/var/lib/qbittorrent/l\"\nfailure = 'denied (IP: <ADDR>\\)'\n",
            )],
        ),
        (
            "login_failure_lines",
            &[Append(
                RECIPE,
                "\n[service.login]\npaths = [\"/l\"]\nlog = \"/var/lib/qbittorrent/l\"\nfailure = \"a\\nb <ADDR>\"\n",
            )],
        ),
        (
            "service_limits",
            &[Replace(
                RECIPE,
                "port = 8080\n",
                "port = 8080\nrate = 0\nready = { path = \"ready\", status = 99 }\n",
            )],
        ),
        (
            "setup_private",
            &[Replace(
                OTHER,
                "contains = '\"StartupWizardCompleted\":false'",
                "contains = '\"StartupWizardCompleted\":false'\nprivate = [\"/\", \"setup\", \"/x y\"]",
            )],
        ),
    ]);
}

#[test]
fn ports() {
    run(&[
        (
            "port_good",
            &[Append(
                RECIPE,
                "\n[[port]]\nname = \"peers\"\nnumber = 6881\nprotocols = [\"tcp\", \"udp\"]\npublic = true\n",
            )],
        ),
        ("port_without_keys", &[Append(RECIPE, "\n[[port]]\npublic = true\n")]),
        (
            "port_values",
            &[Append(
                RECIPE,
                "\n[[port]]\nname = \"Peers 1\"\nnumber = 70000\nprotocols = [\"tcp\", \"TCP\", \"tcp\"]\n",
            )],
        ),
        ("port_of_the_web_interface", &[Append(RECIPE, "\n[[port]]\nname = \"web\"\nnumber = 8080\n")]),
        (
            "port_twice",
            &[
                Append(RECIPE, "\n[[port]]\nname = \"peers\"\nnumber = 6881\nprotocols = [\"udp\"]\n"),
                Append(BASE, "\n[[port]]\nname = \"peers\"\nnumber = 6881\nprotocols = [\"tcp\", \"udp\"]\n"),
            ],
        ),
        (
            "port_same_number_other_protocol",
            &[
                Append(RECIPE, "\n[[port]]\nname = \"peers\"\nnumber = 6881\nprotocols = [\"udp\"]\n"),
                Append(BASE, "\n[[port]]\nname = \"other\"\nnumber = 6881\nprotocols = [\"tcp\"]\n"),
            ],
        ),
        (
            "port_public_in_two_images",
            &[Append(BASE, "\n[[port]]\nname = \"peers\"\nnumber = 6881\npublic = true\n")],
        ),
        (
            "port_public_with_dhcp",
            &[
                Append(RECIPE, "\n[[port]]\nname = \"peers\"\nnumber = 6881\npublic = true\n"),
                Replace(QBITTORRENT, "address = 59", "address = \"dhcp\""),
                Replace("recipes/qbittorrent/files/qBittorrent.conf.tera", ";{{ image.address }}", ""),
            ],
        ),
    ]);
}

#[test]
fn owners_and_the_proxy() {
    run(&[
        (
            "mount_owner",
            &[Replace(
                QBITTORRENT,
                "target = \"/srv/downloads\"",
                "target = \"/srv/downloads\"\nowner = \"qbitorrent\"\ngroup = \"films\"\nmode = \"0888\"",
            )],
        ),
        (
            "mount_owner_of_state",
            &[Append(
                QBITTORRENT,
                "\n[[mount]]\nmedia = \"state\"\ntarget = \"/var/lib/qbittorrent\"\nmode = \"0755\"\n",
            )],
        ),
        (
            "mount_owners_differ",
            &[
                Replace(
                    QBITTORRENT,
                    "media = \"downloads\"\ntarget = \"/srv/downloads\"",
                    "media = \"tv\"\ntarget = \"/srv/tv\"\nowner = \"qbittorrent\"\ngroup = \"media\"\nmode = \"2775\"",
                ),
                Replace(
                    JELLYFIN,
                    "media = \"downloads/complete/tv\"\n",
                    "media = \"tv\"\ngroup = \"media\"\n",
                ),
            ],
        ),
        (
            "mount_mode_for_everybody",
            &[Replace(
                QBITTORRENT,
                "target = \"/srv/downloads\"",
                "target = \"/srv/downloads\"\nmode = \"0777\"",
            )],
        ),
        ("forward_auth_of_nobody", &[Replace(QBITTORRENT, "recipes =", "forward-auth = true\nrecipes =")]),
        (
            "site_proxy",
            &[Append(
                SITE,
                "\n[proxy]\nentry-point = \"web secure\"\nresolver = \"dns@file\"\nforward-auth = \"172.16.10.103:4180\"\n",
            )],
        ),
        (
            "site_proxy_with_a_password",
            &[Append(SITE, "\n[proxy]\nforward-auth = \"http://me:word@172.16.10.103/\"\n")],
        ),
        (
            "site_admin_and_public",
            &[Replace(
                SITE,
                "proxy = \"172.16.10.102\"",
                "proxy = \"172.16.10.102\"\nadmin = [\"192.168.1.3\", \"192.168.1.3/24\"]\npublic = \"192.168.1.1\"",
            )],
        ),
        (
            "site_public_is_a_name",
            &[Replace(
                SITE,
                "proxy = \"172.16.10.102\"",
                "proxy = \"172.16.10.102\"\npublic = \"example.org\"",
            )],
        ),
    ]);
}
