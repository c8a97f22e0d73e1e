//! What is run around a transaction: beginning, following and ending it; and the arguments of the node's probe.

use super::facts::ROOT;
use super::target::Target;
use crate::model::probe::{Body, Service};

const START: &str = include_str!("node/start.sh");
const GO: &str = include_str!("node/go.sh");
const FOLLOW: &str = include_str!("node/follow.sh");

fn in_home(target: &Target, nonce: &str, script: &str) -> String {
    let (home, secrets) = (target.home(), target.secrets_directory());
    let variables = [("root", ROOT), ("home", &home), ("secrets", &secrets), ("nonce", nonce)];
    super::shell::with_variables(&variables, script)
}

/// The script that takes a transaction from standard input and begins it. `nonce` is a word that no other has.
pub fn start(target: &Target, nonce: &str) -> String {
    in_home(target, nonce, &format!("{START}mode=forward\n{GO}"))
}

/// The script that ends what was cut off, one way or the other.
pub fn recover(target: &Target, nonce: &str) -> String {
    let begin = "cd \"$home\" || exit 4\nprintf '%s\\n' \"$nonce\" > log.id\nmode=recover\n";
    in_home(target, nonce, &format!("{begin}{GO}"))
}

/// The script that waits for a deployment that runs, and says how it ended. With an empty `nonce`, whichever it is.
pub fn follow(target: &Target, nonce: &str) -> String {
    in_home(target, nonce, FOLLOW)
}

/// The command that ends on the node what was cut off.
pub fn by_hand(target: &Target) -> String {
    let home = target.home();
    format!("sh {home}/transaction/run {home}/transaction recover")
}

/// The rules of a recipe's service as the node's probe takes them.
pub fn rules(service: &Service) -> Vec<String> {
    let statuses = |status: &[u16]| {
        let words: Vec<_> = status.iter().map(ToString::to_string).collect();
        (!words.is_empty()).then(|| format!("status={}", words.join(",")))
    };
    let body = |body: &Body| match body {
        Body::Any => None,
        Body::Exactly(text) => Some(format!("body={text}")),
        Body::Contains(text) => Some(format!("contains={text}")),
    };
    let probe = &service.probe;
    let mut rules = vec![format!("port={}", service.port), format!("path={}", probe.path)];
    rules.extend(statuses(&probe.status));
    rules.extend(body(&probe.body));
    rules.push(format!("patience={}", probe.patience));
    for starting in &probe.starting {
        rules.push("starting".to_owned());
        rules.extend(statuses(&starting.status));
        rules.extend(body(&starting.body));
        rules.push(format!("patience={}", starting.patience));
    }
    if let Some(setup) = &service.setup {
        rules.extend(["setup".to_owned(), format!("path={}", setup.path)]);
        rules.extend(statuses(&setup.status));
        rules.extend(body(&setup.body));
    }
    rules
}
