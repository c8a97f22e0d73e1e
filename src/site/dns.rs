//! DNS records, as a zone file has them and as the list that roles for Loopia's DNS take.

use std::fmt::Write as _;

use super::view::View;
use super::{heading, quote};

/// How long a resolver may keep a record, in seconds. Short: addresses of homes change.
const TTL: u32 = 600;

/// Names of web interfaces below the site's domain, and those elsewhere.
fn names<'a>(view: &View<'a>) -> (Vec<&'a str>, Vec<&'a str>) {
    let mut own = Vec::new();
    let mut foreign = Vec::new();
    for (container, ..) in view.offered() {
        let domain = container.image.container.domain.as_str();
        match domain.strip_suffix(&view.site.domain).and_then(|rest| rest.strip_suffix('.')) {
            Some(name) => own.push(name),
            None if domain == view.site.domain => own.push("@"),
            None => foreign.push(domain),
        }
    }
    (own, foreign)
}

fn elsewhere(text: &mut String, mark: &str, foreign: &[&str], domain: &str) {
    for name in foreign {
        let _ = writeln!(text, "{mark} `{name}` is not below {domain}: its own zone needs a record for it.");
    }
}

/// The records as lines of a zone file, to be included in it.
pub(super) fn zone(view: &View<'_>) -> String {
    let domain = &view.site.domain;
    let (own, foreign) = names(view);
    let mut text = heading(";", &["Records for the zone of the site's domain: `$INCLUDE` this file in it."]);
    if view.site.network.public.is_none() {
        let _ = writeln!(
            text,
            "; The site has no fixed address on the internet: names refer to the domain's own record."
        );
    }
    elsewhere(&mut text, ";", &foreign, domain);
    let _ = writeln!(text, "$ORIGIN {domain}.");
    for name in own {
        match view.site.network.public {
            Some(address) => {
                let _ = writeln!(text, "{name} {TTL} IN A {address}");
            }
            // A domain cannot be another name of itself.
            None if name == "@" => {}
            None => {
                let _ = writeln!(text, "{name} {TTL} IN CNAME {domain}.");
            }
        }
    }
    text
}

/// The records as a list of hosts, for what keeps Loopia's records with the site's present address.
pub(super) fn loopia(view: &View<'_>) -> String {
    let domain = &view.site.domain;
    let (own, foreign) = names(view);
    let mut text = heading("#", &[&format!("Records below {domain} for Loopia, as a list of hosts.")]);
    elsewhere(&mut text, "#", &foreign, domain);
    if own.is_empty() {
        text.push_str("loopia_dns_records: []\n");
        return text;
    }
    text.push_str("loopia_dns_records:\n");
    for name in own {
        let _ = write!(text, "  - host: {}\n    ttl: {TTL}\n", quote::yaml(name));
        if let Some(address) = view.site.network.public {
            let _ = write!(text, "    type: A\n    priority: 0\n    rdata: {address}\n");
        }
    }
    text
}
