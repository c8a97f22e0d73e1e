//! Rules for systemd units and the service of a recipe.

use std::collections::BTreeSet;

use super::Scope;
use crate::model::recipe::{Probe, Service, Units};
use crate::model::source::Place;
use crate::model::syntax::recipe::{RawService, RawUnits};
use crate::model::words;

/// Checks `[units]`; notes where each unit stands.
pub fn units(
    scope: &mut Scope<'_>,
    raw: &RawUnits,
    places: &mut Vec<(String, &'static str, Place)>,
) -> Units {
    let mut lists = Vec::new();
    for (verb, list) in [("enable", &raw.enable), ("disable", &raw.disable), ("mask", &raw.mask)] {
        scope.unique(&list.0);
        let mut names = BTreeSet::new();
        for at in &list.0 {
            if scope.take(&at.span, words::unit(&at.value)).is_some() {
                names.insert(at.value.clone());
                places.push((at.value.clone(), verb, scope.place(at)));
            }
        }
        lists.push(names.into_iter().collect());
    }
    let mut lists = lists.into_iter();
    let mut next = || lists.next().unwrap_or_default();
    Units { enable: next(), disable: next(), mask: next() }
}

/// Checks `[service]`.
pub fn service(scope: &mut Scope<'_>, raw: &RawService) -> Option<Service> {
    let port = raw.port.0.as_ref().and_then(|at| scope.within(at, 1, 65535, "the port"));
    let mut probe = Probe { path: "/".to_owned(), status: vec![200], body: None };
    if let Some(at) = &raw.probe.0 {
        let raw = &at.value;
        if let Some(at) = &raw.path.0 {
            if !at.value.starts_with('/') {
                scope
                    .error(&at.span, format!("the probe's path `{}` does not begin with `/`", at.value))
                    .help("write path and query alone, as `/api/health`; host and port are known");
            } else if let Some(bad) = at.value.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
                let message = format!("`{}` cannot stand in the path of a request", bad.escape_default());
                scope.error(&at.span, message).help("percent-encode it");
            }
            probe.path.clone_from(&at.value);
        }
        if !raw.status.0.is_empty() {
            probe.status.clear();
        }
        for at in &raw.status.0 {
            let Some(status) = scope.within(at, 100, 599, "the status") else { continue };
            if probe.status.contains(&status) {
                scope.error(&at.span, format!("`{status}` is listed twice")).help("leave one out");
            }
            probe.status.push(status);
        }
        probe.body = raw.body.0.as_ref().map(|at| at.value.clone());
    }
    Some(Service { port: port?, probe })
}
