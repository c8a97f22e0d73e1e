//! fail2ban on the machine of the reverse proxy: filters, jails, and what makes it see new log files.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::view::{Container, View, Web, networks};
use super::{SiteFile, heading, quote};

/// Containers with a log of failures that the node can read, and that log's path on the node.
fn watched<'a>(view: &'a View<'_>) -> Vec<(&'a Container<'a>, Web<'a>, String)> {
    let containers = view.containers.iter();
    containers
        .flat_map(|container| container.webs().map(move |web| (container, web)))
        .filter_map(|(container, web)| {
            let log = container.on_node(&web.failures()?.log)?;
            Some((container, web, log))
        })
        .collect()
}

/// All of fail2ban's files; none when no image has a log that it could watch.
pub(super) fn files(view: &View<'_>) -> Vec<SiteFile> {
    let watched = watched(view);
    if watched.is_empty() {
        return Vec::new();
    }
    let mut files = vec![SiteFile::text("fail2ban/jail.d/build-images.conf", jails(view, &watched))];
    let filters: BTreeMap<_, _> = watched.iter().map(|(_, web, _)| (&web.recipe.name, *web)).collect();
    for (recipe, web) in filters {
        let Some(failures) = web.failures() else { continue };
        let mut text = heading("#", &[&format!("Failed logins of {recipe}.")]);
        let _ = write!(text, "[Definition]\nfailregex = {}\nignoreregex =\n", quote::ini(&failures.line));
        files.push(SiteFile::text(format!("fail2ban/filter.d/image-{recipe}.conf"), text));
    }
    let dated: Vec<_> = watched.iter().filter(|(.., log)| log.contains('*')).collect();
    if !dated.is_empty() {
        let mut text = heading(
            "#",
            &[
                "fail2ban looks for log files when it loads a jail; these applications begin new ones. Bans stay.",
            ],
        );
        for (container, web, _) in dated {
            let jail = jail(container, *web);
            let _ = writeln!(text, "7 * * * * root fail2ban-client reload {jail} > /dev/null");
        }
        files.push(SiteFile::text("fail2ban/cron.d/build-images", text));
    }
    files
}

fn jail(container: &Container<'_>, web: Web<'_>) -> String {
    match container.webs().count() {
        1 => format!("image-{}", container.name()),
        _ => format!("image-{}-{}", container.name(), web.recipe.name),
    }
}

fn jails(view: &View<'_>, watched: &[(&Container<'_>, Web<'_>, String)]) -> String {
    let site = view.site;
    let mut text = heading(
        "#",
        &["Bans whoever fails to log in, where requests come in: on the machine of the reverse proxy."],
    );
    let known = networks(&site.network.admin).replace(',', " ");
    let subnet = format!("{}/{}", site.network.subnet, site.network.prefix);
    let known = if known.split(' ').any(|one| one == subnet) { known } else { format!("{subnet} {known}") };
    for (container, web, log) in watched {
        let _ = write!(
            text,
            "
[{}]
enabled = true
filter = image-{}
logpath = {}
# Before a container's first start there is no log.
skip_if_nologs = true
backend = polling
port = http,https
banaction = nftables[type=multiport]
# Nobody can have the proxy, the router or an administrator locked out by typing names.
ignoreip = 127.0.0.0/8 ::1 {known}
maxretry = 5
findtime = 10m
bantime = 1h
",
            jail(container, *web),
            web.recipe.name,
            quote::ini(log)
        );
        if matches!(site.timezone.as_str(), "UTC" | "Etc/UTC") {
            text.push_str("logtimezone = UTC\n");
        }
    }
    text
}
