//! Rules for systemd units and the service of a recipe.

use std::collections::BTreeSet;

use super::{Scope, offer};
use crate::model::offer::RATE;
use crate::model::probe::{Body, Probe, Service, Setup, Starting};
use crate::model::recipe::Units;
use crate::model::source::Place;
use crate::model::syntax::recipe::{RawProbe, RawService, RawSetup, RawUnits};
use crate::model::syntax::{At, List, Optional, Required, Time};
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

/// How many seconds an application may stay silent when its recipe says nothing of it.
const PATIENCE: u64 = 120;

/// Checks `[service]`.
pub fn service(scope: &mut Scope<'_>, raw: &RawService) -> Option<Service> {
    let port = raw.port.0.as_ref().and_then(|at| scope.within(at, 1, 65535, "the port"));
    let fallback = || Probe {
        path: "/".to_owned(),
        status: vec![200],
        body: Body::Any,
        starting: Vec::new(),
        patience: PATIENCE,
    };
    let probe = raw.probe.0.as_ref().map_or_else(fallback, |at| probe(scope, &at.value));
    let setup = raw.setup.0.as_ref().map(|at| setup(scope, at));
    let ready = offer::ready(scope, raw.ready.0.as_ref(), &probe);
    let login = raw.login.0.as_ref().map(|at| offer::login(scope, at));
    let rate = raw.rate.0.as_ref().and_then(|at| scope.within(at, 1, 100_000, "`rate`")).unwrap_or(RATE);
    Some(Service { port: port?, probe, setup, ready, login, rate })
}

fn probe(scope: &mut Scope<'_>, raw: &RawProbe) -> Probe {
    let mut probe = Probe {
        path: request_path(scope, &raw.path),
        status: status(scope, &raw.status, &[200]),
        body: body(scope, &raw.body, &raw.contains),
        starting: Vec::new(),
        patience: time(scope, &raw.patience).unwrap_or(PATIENCE),
    };
    for at in &raw.starting.0 {
        let raw = &at.value;
        let starting = Starting {
            status: status(scope, &raw.status, &[]),
            body: body(scope, &raw.body, &raw.contains),
            patience: time(scope, &raw.patience).unwrap_or(probe.patience),
        };
        if raw.status.0.is_empty() && raw.body.0.is_none() && raw.contains.0.is_none() {
            scope
                .error(&at.span, "every answer would mean that it is still starting")
                .help("say which, with `status`, `body` or `contains`");
        } else if hidden(&probe, &starting) {
            scope
                .error(&at.span, "an answer like this is good already, so it can never mean starting")
                .help("say with `body` or `contains` of the probe what a good answer has and this has not");
        }
        probe.starting.push(starting);
    }
    probe
}

/// Whether every answer that `starting` describes is good by the probe's own rule.
fn hidden(probe: &Probe, starting: &Starting) -> bool {
    let statuses =
        !starting.status.is_empty() && starting.status.iter().all(|status| probe.status.contains(status));
    let bodies = match (&probe.body, &starting.body) {
        (Body::Any, _) => true,
        (_, Body::Exactly(text)) => probe.body.fits(text),
        (Body::Contains(good), Body::Contains(text)) => text.contains(good.as_str()),
        _ => false,
    };
    statuses && bodies
}

fn setup(scope: &mut Scope<'_>, at: &At<RawSetup>) -> Setup {
    let raw = &at.value;
    if raw.body.0.is_none() && raw.contains.0.is_none() {
        scope
            .error(&at.span, "every answer would mean that it is not set up")
            .help("say with `body` or `contains` what the answer has until it is");
    }
    Setup {
        path: request_path(scope, &raw.path),
        status: status(scope, &raw.status, &[200]),
        body: body(scope, &raw.body, &raw.contains),
        private: offer::private(scope, &raw.private),
    }
}

/// Path and query of a request.
pub fn request_path(scope: &mut Scope<'_>, field: &Required<String>) -> String {
    let Some(at) = &field.0 else { return "/".to_owned() };
    if !at.value.starts_with('/') {
        scope
            .error(&at.span, format!("the probe's path `{}` does not begin with `/`", at.value))
            .help("write path and query alone, as `/api/health`; host and port are known");
    } else if let Some(bad) = at.value.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
        let message = format!("`{}` cannot stand in the path of a request", bad.escape_default());
        scope.error(&at.span, message).help("percent-encode it");
    }
    at.value.clone()
}

fn status(scope: &mut Scope<'_>, list: &List<i64>, default: &[u16]) -> Vec<u16> {
    let mut found = Vec::new();
    for at in &list.0 {
        let Some(status) = scope.within(at, 100, 599, "the status") else { continue };
        if found.contains(&status) {
            scope.error(&at.span, format!("`{status}` is listed twice")).help("leave one out");
        }
        found.push(status);
    }
    if list.0.is_empty() { default.to_vec() } else { found }
}

fn body(scope: &mut Scope<'_>, exactly: &Optional<String>, contains: &Optional<String>) -> Body {
    match (&exactly.0, &contains.0) {
        (Some(exactly), Some(contains)) => {
            let first = scope.place(exactly);
            scope
                .error(&contains.span, "the body cannot be asked for twice")
                .related(&first, "asked for here")
                .help("keep `body` for the whole of it, or `contains` for a part");
            Body::Any
        }
        (None, Some(at)) if at.value.is_empty() => {
            scope
                .error(&at.span, "every body contains the empty text")
                .help("leave it out, or say what it has");
            Body::Any
        }
        (Some(at), None) => Body::Exactly(at.value.clone()),
        (None, Some(at)) => Body::Contains(at.value.clone()),
        (None, None) => Body::Any,
    }
}

fn time(scope: &mut Scope<'_>, field: &Optional<Time>) -> Option<u64> {
    let at = field.0.as_ref()?;
    scope.take(&at.span, words::time(&at.value.0))
}
