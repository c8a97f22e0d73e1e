//! `verify.sh`: asks node, containers, proxy and DNS whether all is as declared, by the recipes' own rules.

use std::fmt::Write as _;

use super::heading;
use super::quote::shell;
use super::view::{Container, View, Web};
use crate::model::probe::{Body, Probe, Service, Setup};

/// The script.
pub(super) fn script(view: &View<'_>) -> String {
    let mut functions = String::new();
    let mut checks = String::new();
    let mut judged: Vec<&str> = Vec::new();
    for container in &view.containers {
        for web in container.webs() {
            if !judged.contains(&web.recipe.name.as_str()) {
                judged.push(&web.recipe.name);
                judge(&mut functions, &web.recipe.name, web.service);
            }
        }
        check(&mut checks, container);
    }
    let about =
        ["Says whether the containers work, one line a check. Run it on the node, beside storage.sh."];
    let names: Vec<_> = view.containers.iter().map(Container::name).collect();
    include_str!("text/verify.sh")
        .replace("@HEADING@\n", &heading("#", &about))
        .replace("@JUDGES@\n", &functions)
        .replace("@CHECKS@\n", &checks)
        .replace("@PROXY@", &view.site.network.proxy.to_string())
        .replace("@IMAGES@", &names.join(" "))
}

/// A name of a shell function.
fn function(recipe: &str) -> String {
    format!("judge_{}", recipe.replace('-', "_"))
}

/// A call of the script's function that compares the last answer.
fn is(statuses: &[u16], body: &Body) -> String {
    let statuses: Vec<_> = statuses.iter().map(u16::to_string).collect();
    let (kind, text) = match body {
        Body::Any => ("any", ""),
        Body::Exactly(text) => ("exactly", text.trim_end_matches(['\r', '\n'])),
        Body::Contains(text) => ("contains", text.as_str()),
    };
    format!("is {} {kind} {}", shell(&statuses.join(" ")), shell(text))
}

/// The function that says how an application is: what [`Service::judge`] does.
fn judge(text: &mut String, recipe: &str, service: &Service) {
    let Probe { path, status, body, starting, .. } = &service.probe;
    let _ = writeln!(text, "{}() {{", function(recipe));
    let _ = writeln!(text, "    ask {} || {{ echo silent; return; }}", shell(path));
    let _ = writeln!(text, "    if {}; then", is(status, body));
    match &service.setup {
        Some(Setup { path, status, body, .. }) => {
            let _ = writeln!(text, "        ask {} || {{ echo silent; return; }}", shell(path));
            let known: Vec<_> = status.clone();
            let _ = writeln!(text, "        if {}; then echo unset; return; fi", is(&known, body));
            let _ = writeln!(
                text,
                "        if {}; then echo healthy; else echo starting; fi",
                is(&known, &Body::Any)
            );
        }
        None => text.push_str("        echo healthy\n"),
    }
    for starting in starting {
        let _ =
            writeln!(text, "    elif {}; then\n        echo starting", is(&starting.status, &starting.body));
    }
    text.push_str("    else\n        echo failed\n    fi\n}\n\n");
}

fn check(text: &mut String, container: &Container<'_>) {
    let settings = &container.image.container;
    let _ = writeln!(text, "if wanted {}; then", container.name());
    let _ = writeln!(text, "    running {} {}", container.name(), settings.vmid);
    for Web { recipe, service } in container.webs() {
        let Some(address) = container.address() else {
            let _ = writeln!(
                text,
                "    todo {} {}",
                container.name(),
                shell("its address comes by DHCP and is not known here")
            );
            break;
        };
        let _ = writeln!(
            text,
            "    direct {} {} http://{address}:{}",
            container.name(),
            function(&recipe.name),
            service.port
        );
    }
    if let (Some(Web { recipe, service }), Some(_)) = (container.web(), container.address()) {
        let (name, domain) = (container.name(), &settings.domain);
        let _ = writeln!(text, "    resolves {name} {domain}");
        match container.image.forward_auth {
            // Whoever is not signed in gets no farther.
            true => {
                let _ = writeln!(text, "    guarded {name} {domain}");
            }
            false => {
                let _ = writeln!(text, "    proxied {name} {} {domain}", function(&recipe.name));
            }
        }
        let private = service.setup.as_ref().map(|setup| setup.private.as_slice()).unwrap_or_default();
        for path in private {
            let _ = writeln!(text, "    hidden {name} {domain} {}", shell(path));
        }
    }
    text.push_str("fi\n");
}
