//! Traefik 3's dynamic configuration, for its file provider.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::heading;
use super::quote::{pattern, yaml};
use super::view::{Container, View, Web};
use crate::model::Site;
use crate::model::offer::Login;

/// An address that no client has: what lets only it pass lets nobody pass.
const NOBODY: &str = "255.255.255.255/32";

/// The file. Names begin with what they are, so that no two images, and hardly another file, can have the same.
pub(super) fn dynamic(view: &View<'_>) -> String {
    let mut text = heading(
        "#",
        &[
            "Traefik 3: routers, services and middlewares of the containers. Put it into the directory of its file provider.",
        ],
    );
    let offered: Vec<_> = view.offered().collect();
    for container in &view.containers {
        if let (Some(_), None) = (container.web(), container.address()) {
            let _ = writeln!(
                text,
                "# `{}` gets its address by DHCP: the proxy cannot know it, so there is no router for it.",
                container.name()
            );
        }
    }
    if offered.is_empty() {
        // Traefik refuses empty sections.
        text.push_str("{}\n");
        return text;
    }
    text.push_str("http:\n  routers:\n");
    for (container, web, _) in &offered {
        routers(&mut text, view.site, container, *web);
    }
    text.push_str("  middlewares:\n");
    middlewares(&mut text, view.site, &offered);
    text.push_str("  services:\n");
    for (container, web, address) in &offered {
        service(&mut text, container, *web, *address);
    }
    if let Some(uri) = asked(view.site, &offered) {
        let _ = write!(
            text,
            "    sign-in:\n      loadBalancer:\n        servers:\n          - url: {}\n",
            yaml(origin(uri))
        );
    }
    text.push_str(
        "  serversTransports:
    containers:
      forwardingTimeouts:
        # A stopped container answers nothing at all: say so soon.
        dialTimeout: 5s
        # Applications close connections that nobody uses after some seconds; one that they just closed is of no use.
        idleConnTimeout: 5s
",
    );
    text
}

/// Whom the proxy asks, when an image wants that.
fn asked<'a>(site: &'a Site, offered: &[(&Container<'_>, Web<'_>, Ipv4Addr)]) -> Option<&'a str> {
    let wanted = offered.iter().any(|(container, ..)| container.image.forward_auth);
    site.proxy.forward_auth.as_deref().filter(|_| wanted)
}

/// Scheme, host and port of a URI.
fn origin(uri: &str) -> &str {
    let host = uri.find("://").map_or(0, |at| at + 3);
    let end = uri[host..].find('/').map_or(uri.len(), |at| host + at);
    &uri[..end]
}

/// A rule for some paths of a domain, as a whole or with everything below.
fn paths(domain: &str, paths: &[String], any_case: bool, end: &str) -> String {
    let paths: Vec<_> = paths.iter().map(|path| pattern(path)).collect();
    let case = if any_case { "(?i)" } else { "" };
    format!("Host(`{domain}`) && PathRegexp(`{case}^({}){end}$`)", paths.join("|"))
}

fn routers(text: &mut String, site: &Site, container: &Container<'_>, web: Web<'_>) {
    let name = container.name();
    let domain = &container.image.container.domain;
    let mut router = |kind: &str, rule: &str, middlewares: &[String], service: &str| {
        let _ = write!(
            text,
            "    {kind}-{name}:\n      rule: {}\n      entryPoints:\n        - {}\n      service: {service}\n",
            yaml(rule),
            yaml(&site.proxy.entry_point)
        );
        text.push_str("      middlewares:\n");
        for middleware in middlewares {
            let _ = writeln!(text, "        - {middleware}");
        }
        match &site.proxy.resolver {
            Some(resolver) => {
                let _ = write!(text, "      tls:\n        certResolver: {}\n", yaml(resolver));
            }
            None => text.push_str("      tls: {}\n"),
        }
    };
    let service = format!("image-{name}");
    let sign_in = container.image.forward_auth && site.proxy.forward_auth.is_some();
    let guards = |limit: String| {
        let mut list = vec!["https-only".to_owned(), limit];
        list.extend(sign_in.then(|| "sign-in".to_owned()));
        list
    };
    router("image", &format!("Host(`{domain}`)"), &guards(format!("rate-{name}")), &service);
    if let Some(Login { paths: list, any_case, .. }) = &web.service.login {
        let rule = paths(domain, list, *any_case, "/?");
        router("login", &rule, &guards(format!("attempts-{name}")), &service);
    }
    let private = web.service.setup.as_ref().map(|setup| setup.private.as_slice()).unwrap_or_default();
    if !private.is_empty() {
        let rule = paths(domain, private, true, "(/.*)?");
        router("private", &rule, &["nobody".to_owned()], &service);
    }
    if sign_in {
        let rule = format!("Host(`{domain}`) && PathPrefix(`/oauth2/`)");
        router("sign-in", &rule, &["https-only".to_owned(), format!("attempts-{name}")], "sign-in");
    }
}

fn middlewares(text: &mut String, site: &Site, offered: &[(&Container<'_>, Web<'_>, Ipv4Addr)]) {
    text.push_str(
        "    https-only:
      headers:
        # Half a year, for this name alone.
        stsSeconds: 15552000
",
    );
    for (container, web, _) in offered {
        let (name, rate) = (container.name(), web.service.rate);
        let login = web.service.login.as_ref();
        let mut limit = |kind: &str, average: u32, period: &str, burst: u32| {
            let _ = write!(
                text,
                "    {kind}-{name}:\n      rateLimit:\n        average: {average}\n        period: {period}\n        burst: {burst}\n"
            );
        };
        limit("rate", rate, "1s", rate.saturating_mul(2));
        let signs_in = container.image.forward_auth && site.proxy.forward_auth.is_some();
        if login.is_some() || signs_in {
            let attempts = login.map_or(crate::model::offer::ATTEMPTS, |login| login.attempts);
            limit("attempts", attempts, "1m", attempts.div_ceil(2));
        }
    }
    let private = |web: &Web<'_>| web.service.setup.as_ref().is_some_and(|setup| !setup.private.is_empty());
    if offered.iter().any(|(_, web, _)| private(web)) {
        let _ = write!(
            text,
            "    nobody:\n      ipAllowList:\n        sourceRange:\n          - {}\n",
            yaml(NOBODY)
        );
    }
    if let Some(uri) = asked(site, offered) {
        let _ = write!(text, "    sign-in:\n      forwardAuth:\n        address: {}\n", yaml(uri));
    }
}

fn service(text: &mut String, container: &Container<'_>, web: Web<'_>, address: Ipv4Addr) {
    let name = container.name();
    let ready = &web.service.ready;
    let _ = write!(
        text,
        "    image-{name}:
      loadBalancer:
        serversTransport: containers
        servers:
          - url: {}
        # Traefik looks at the status alone.
        healthCheck:
          path: {}
          hostname: {}
          interval: 5s
          timeout: 3s
          followRedirects: false
",
        yaml(&format!("http://{address}:{}", web.service.port)),
        yaml(&ready.path),
        yaml(&container.image.container.domain)
    );
    if let Some(status) = ready.status {
        let _ = writeln!(text, "          status: {status}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_comes_before_the_path() {
        assert_eq!(origin("http://172.16.10.103:4180/oauth2/auth"), "http://172.16.10.103:4180");
        assert_eq!(origin("https://auth.example.org"), "https://auth.example.org");
    }

    #[test]
    fn paths_are_compared_as_a_whole() {
        let list = ["/a.b".to_owned(), "/login".to_owned()];
        assert_eq!(paths("h", &list, true, "/?"), r"Host(`h`) && PathRegexp(`(?i)^(/a\.b|/login)/?$`)");
    }
}
