//! Rules for what only the site's own files need of a recipe: logins, ports, what a reverse proxy asks and hides.

use super::Scope;
use super::image::ImageDraft;
use super::recipe::RecipeDraft;
use super::site::SiteDraft;
use crate::model::offer::{ATTEMPTS, Failures, Login, Port, Protocol, Ready};
use crate::model::probe::Probe;
use crate::model::source::Place;
use crate::model::syntax::image::RawImage;
use crate::model::syntax::recipe::{RawLogin, RawPort, RawReady};
use crate::model::syntax::{At, List, NumberOrText};
use crate::model::words::{self, Complaint};

use super::service::request_path;

/// Checks `[service.ready]`. Without it a proxy asks what the probe asks, for its status if it has only one.
pub fn ready(scope: &mut Scope<'_>, raw: Option<&At<RawReady>>, probe: &Probe) -> Ready {
    let Some(At { value: raw, .. }) = raw else {
        let status = match probe.status.as_slice() {
            [only] if *only != 200 => Some(*only),
            _ => None,
        };
        return Ready { path: probe.path.clone(), status };
    };
    let status = raw.status.0.as_ref().and_then(|at| scope.within(at, 100, 599, "the status"));
    Ready { path: request_path(scope, &raw.path), status }
}

/// Checks `[service.login]`.
pub fn login(scope: &mut Scope<'_>, raw: &At<RawLogin>) -> Login {
    let At { value: raw, span } = raw;
    let mut paths = Vec::new();
    if let Some(list) = &raw.paths.0 {
        scope.unique(&list.value);
        if list.value.is_empty() {
            scope.error(&list.span, "no path to log in").help("name at least one, or leave `login` out");
        }
        for at in &list.value {
            paths.extend(scope.take(&at.span, web_path(&at.value)).map(|()| at.value.clone()));
        }
    }
    let attempts = raw.attempts.0.as_ref().and_then(|at| scope.within(at, 1, 6000, "`attempts`"));
    let failures = match (&raw.log.0, &raw.failure.0) {
        (Some(log), Some(line)) => {
            let log = scope.take(&log.span, log_path(&log.value)).map(|()| log.value.clone());
            let line = scope.take(&line.span, failure(&line.value)).map(|()| line.value.clone());
            log.zip(line).map(|(log, line)| Failures { log, line })
        }
        (None, None) => None,
        (log, _) => {
            let (there, missing) = if log.is_some() { ("log", "failure") } else { ("failure", "log") };
            scope
                .error(span, format!("the login has `{there}` but no `{missing}`"))
                .help("fail2ban needs both: the log, and what a line of it has that tells of a failure");
            None
        }
    };
    Login {
        paths,
        any_case: raw.any_case.0.as_ref().is_some_and(|at| at.value),
        attempts: attempts.unwrap_or(ATTEMPTS),
        failures,
    }
}

/// Checks the paths that serve the set-up alone.
pub fn private(scope: &mut Scope<'_>, raw: &List<String>) -> Vec<String> {
    scope.unique(&raw.0);
    let mut paths = Vec::new();
    for at in &raw.0 {
        if at.value == "/" {
            scope.error(&at.span, "`/` is the whole application").help("name what serves the set-up alone");
        } else {
            paths.extend(scope.take(&at.span, web_path(&at.value)).map(|()| at.value.clone()));
        }
    }
    paths
}

/// Checks one `[[port]]`.
pub fn port(scope: &mut Scope<'_>, raw: &RawPort) -> Option<Port> {
    let name = raw.name.0.as_ref();
    let name = name.and_then(|at| scope.take(&at.span, port_name(&at.value)).map(|()| at.value.clone()));
    let number = raw.number.0.as_ref().and_then(|at| scope.within(at, 1, 65535, "the port"));
    scope.unique(&raw.protocols.0);
    let mut protocols = Vec::new();
    for at in &raw.protocols.0 {
        match Protocol::named(&at.value) {
            Some(protocol) => protocols.push(protocol),
            None => {
                scope
                    .error(&at.span, format!("`{}` is not a protocol with ports", at.value))
                    .help("write `\"tcp\"` or `\"udp\"`, or both");
            }
        }
    }
    if raw.protocols.0.is_empty() {
        protocols.push(Protocol::Tcp);
    }
    protocols.sort();
    protocols.dedup();
    let public = raw.public.0.as_ref().is_some_and(|at| at.value);
    Some(Port { name: name?, number: number?, protocols, public })
}

/// Notes the ports that the site's router forwards, which no two images may share.
pub fn forwarded(
    scope: &mut Scope<'_>,
    raw: &RawImage,
    recipes: &[(&RecipeDraft, Place)],
    draft: &mut ImageDraft,
) {
    let address = raw.container.0.as_ref().and_then(|at| at.value.address.0.as_ref());
    let dhcp = address.filter(|at| at.value == NumberOrText::Text("dhcp".to_owned()));
    for (recipe, _) in recipes {
        for (port, place) in recipe.recipe.ports.iter().zip(&recipe.ports).filter(|(port, _)| port.public) {
            for protocol in &port.protocols {
                draft.unique.push(("public port", format!("{}/{protocol}", port.number), place.clone()));
            }
            if let Some(at) = dhcp {
                scope
                    .warning(
                        &at.span,
                        format!(
                            "the router cannot forward port {} to an address it does not know",
                            port.number
                        ),
                    )
                    .related(place, "to be forwarded from the internet")
                    .help("give the container an address of the site's subnet");
            }
        }
    }
}

/// Whether the reverse proxy asks who is signed in.
pub fn forward_auth(scope: &mut Scope<'_>, raw: &RawImage, site: &SiteDraft) -> bool {
    let Some(at) = raw.forward_auth.0.as_ref().filter(|at| at.value) else { return false };
    if site.site.as_ref().is_some_and(|site| site.proxy.forward_auth.is_none()) {
        scope
            .error(&at.span, "the site names nobody that the reverse proxy could ask")
            .help("add `forward-auth = \"http://…\"` to `[proxy]` of images/site.toml, or leave this out");
    }
    true
}

/// A path as a proxy compares it: decoded, without query.
fn web_path(text: &str) -> Result<(), Complaint> {
    let complain = |message: String, help: &str| Err(Complaint { message, help: help.to_owned() });
    if !text.starts_with('/') {
        return complain(format!("the path `{text}` does not begin with `/`"), &format!("write `/{text}`"));
    }
    let fine = |c: char| c.is_ascii_alphanumeric() || "/-._~@".contains(c);
    if let Some(bad) = text.chars().find(|c| !fine(*c)) {
        return complain(
            format!("`{}` cannot stand in a path that the proxy compares", bad.escape_default()),
            "write the path alone, without query, in letters, digits, `/`, `-`, `.`, `_`, `~` and `@`",
        );
    }
    if text.len() > 1 && text.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
        return complain(
            format!("`{text}` is not a path in its shortest form"),
            "the proxy compares paths without empty, `.` and `..` parts and without `/` at the end",
        );
    }
    Ok(())
}

/// The log's path; only the file's name may have `*` in it.
fn log_path(text: &str) -> Result<(), Complaint> {
    words::absolute(text)?;
    words::mountable(&text.replace('*', ""))?;
    let directory = text.rsplit_once('/').map_or("", |(directory, _)| directory);
    if directory.contains('*') {
        return Err(Complaint {
            message: format!("`{text}` has a `*` in the name of a directory"),
            help: "only the file's name may have one".to_owned(),
        });
    }
    Ok(())
}

/// A line of fail2ban's `failregex`.
fn failure(text: &str) -> Result<(), Complaint> {
    let complain =
        |message: &str, help: &str| Err(Complaint { message: message.to_owned(), help: help.to_owned() });
    if text.chars().any(char::is_control) || text.trim() != text || text.is_empty() {
        return complain(
            "the expression is not one line",
            "write one regular expression, with no blanks around it",
        );
    }
    let addresses = text.matches("<ADDR>").count();
    if addresses != 1 || text.contains("<HOST>") {
        return complain(
            "the expression does not say where the client's address is",
            "write `<ADDR>` once, where it stands; `<HOST>` would look names up",
        );
    }
    if text.starts_with(".*") {
        return complain(
            "the expression begins with `.*`",
            "leave that out: what comes before does not matter, but a name that somebody types could hold all of it",
        );
    }
    balanced(text)
}

/// Whether groups and sets of a regular expression are closed.
fn balanced(text: &str) -> Result<(), Complaint> {
    let (mut open, mut set) = (0_i32, false);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if letters.next().is_none() => open = i32::MIN,
            '\\' => {}
            ']' if set => set = false,
            '[' if !set => set = true,
            '(' if !set => open += 1,
            ')' if !set => open -= 1,
            _ => {}
        }
        if open < 0 {
            break;
        }
    }
    if open != 0 || set {
        return Err(Complaint {
            message: "the expression has a `(`, `[` or `\\` without its other half".to_owned(),
            help: "write `\\(` or `\\[` for the character itself; `fail2ban-regex` tries an expression out"
                .to_owned(),
        });
    }
    Ok(())
}

fn port_name(text: &str) -> Result<(), Complaint> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if text.is_empty()
        || text.len() > 32
        || !text.starts_with(|c: char| c.is_ascii_lowercase())
        || !text.chars().all(fine)
    {
        return Err(Complaint {
            message: format!("`{text}` is no name of a port"),
            help: "begin with a lower-case letter; go on with lower-case letters, digits and `_`; at most 32 in all".to_owned(),
        });
    }
    Ok(())
}
