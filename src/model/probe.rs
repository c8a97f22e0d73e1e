//! Whether an application works, judged by what it answers over HTTP.
//!
//! In: a recipe's `[service]` and answers, status and body. Out: a [`Health`]. Nothing here speaks HTTP or waits; whoever
//! does decides by the same rules. A status alone is not enough: an application that migrates its data may answer 200.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::offer::{Login, Ready};

/// What the container offers over the network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Service {
    /// TCP port of the web interface.
    pub port: u16,
    /// How to tell that it works.
    pub probe: Probe,
    /// How to tell that it works, but that nobody has set it up yet. Asked only once the probe is good: an application
    /// that starts may say of itself that it is not set up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup: Option<Setup>,
    /// What tells a reverse proxy that it is ready.
    #[serde(skip)]
    pub ready: Ready,
    /// Where people log in.
    #[serde(skip)]
    pub login: Option<Login>,
    /// Requests a second that one client may make through the reverse proxy, on average.
    #[serde(skip)]
    pub rate: u32,
}

/// An HTTP request whose answer shows that the application works.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Probe {
    /// Path and query, starting with `/`.
    pub path: String,
    /// Status codes that are good.
    pub status: Vec<u16>,
    /// What the body of a good answer is.
    #[serde(skip_serializing_if = "Body::is_any")]
    pub body: Body,
    /// Answers that mean: still starting.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub starting: Vec<Starting>,
    /// How many seconds to wait while nobody answers.
    pub patience: u64,
}

/// An answer that means: still starting.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Starting {
    /// Its status codes; any when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<u16>,
    /// What its body is.
    #[serde(skip_serializing_if = "Body::is_any")]
    pub body: Body,
    /// How many seconds to wait while it answers so.
    pub patience: u64,
}

/// An HTTP request that tells whether the application is set up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setup {
    /// Path and query, starting with `/`.
    pub path: String,
    /// Status codes that it answers with, set up or not.
    pub status: Vec<u16>,
    /// What the body is until it is set up.
    pub body: Body,
    /// Paths that serve the set-up alone: the reverse proxy passes them, and what is below, to nobody.
    #[serde(skip)]
    pub private: Vec<String>,
}

/// What is asked of the body of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// Nothing.
    Any,
    /// It is this and nothing else; line breaks at the end do not count.
    Exactly(String),
    /// It has this somewhere.
    Contains(String),
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body, as text.
    pub body: String,
}

/// How an application is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It works.
    Healthy,
    /// It is not ready yet. Whoever waits gives up when this has gone on for `patience` without a change of reason.
    Starting {
        /// How long this may go on.
        patience: Duration,
        /// What it said of itself; nothing when nobody answered.
        said: Option<Answer>,
    },
    /// It works, and waits for somebody to set it up.
    NeedsSetup,
    /// It answers something that is neither good nor a sign of starting.
    Failed(Answer),
}

impl Service {
    /// How the application is. `ask` sends a request for a path and gives nothing when no answer comes.
    pub fn judge(&self, mut ask: impl FnMut(&str) -> Option<Answer>) -> Health {
        let health = self.probe.judge(ask(&self.probe.path));
        match &self.setup {
            Some(setup) if health == Health::Healthy => {
                setup.judge(ask(&setup.path), Duration::from_secs(self.probe.patience))
            }
            _ => health,
        }
    }
}

impl Probe {
    /// What one answer, or none, says.
    pub fn judge(&self, answer: Option<Answer>) -> Health {
        let Some(answer) = answer else {
            return Health::Starting { patience: Duration::from_secs(self.patience), said: None };
        };
        if self.status.contains(&answer.status) && self.body.fits(&answer.body) {
            return Health::Healthy;
        }
        match self.starting.iter().find(|starting| starting.fits(&answer)) {
            Some(starting) => {
                let patience = Duration::from_secs(starting.patience);
                Health::Starting { patience, said: Some(answer) }
            }
            None => Health::Failed(answer),
        }
    }
}

impl Starting {
    fn fits(&self, answer: &Answer) -> bool {
        (self.status.is_empty() || self.status.contains(&answer.status)) && self.body.fits(&answer.body)
    }
}

impl Setup {
    /// What the answer of an application says whose probe is good. It may have gone away since, or be about to listen:
    /// anything unexpected is no more than a reason to ask again.
    pub fn judge(&self, answer: Option<Answer>, patience: Duration) -> Health {
        match answer {
            Some(answer) if self.status.contains(&answer.status) => {
                if self.body.fits(&answer.body) {
                    Health::NeedsSetup
                } else {
                    Health::Healthy
                }
            }
            said => Health::Starting { patience, said },
        }
    }
}

/// What many a server puts behind a short answer.
const LINE_BREAKS: [char; 2] = ['\r', '\n'];

impl Body {
    /// Whether nothing is asked.
    pub fn is_any(&self) -> bool {
        *self == Self::Any
    }

    /// Whether `body` is as asked.
    pub fn fits(&self, body: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(text) => body.trim_end_matches(LINE_BREAKS) == text.trim_end_matches(LINE_BREAKS),
            Self::Contains(text) => body.contains(text.as_str()),
        }
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any body"),
            Self::Exactly(text) => write!(f, "the body `{text}`"),
            Self::Contains(text) => write!(f, "a body with `{text}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Option<Answer> {
        Some(Answer { status, body: body.to_owned() })
    }

    fn service() -> Service {
        let body = Body::Exactly("Degraded".to_owned());
        Service {
            port: 8096,
            probe: Probe {
                path: "/health".to_owned(),
                status: vec![200],
                body: Body::Exactly("Healthy".to_owned()),
                starting: vec![Starting { status: Vec::new(), body, patience: 3600 }],
                patience: 60,
            },
            setup: Some(Setup {
                path: "/info".to_owned(),
                status: vec![200],
                body: Body::Contains("\"Completed\":false".to_owned()),
                private: Vec::new(),
            }),
            ready: Ready { path: "/health".to_owned(), status: None },
            login: None,
            rate: 100,
        }
    }

    /// Judges with one answer a path, and gives the paths that were asked.
    fn judged(health: Option<Answer>, info: Option<Answer>) -> (Health, Vec<String>) {
        let mut asked = Vec::new();
        let judged = service().judge(|path| {
            asked.push(path.to_owned());
            if path == "/health" { health.clone() } else { info.clone() }
        });
        (judged, asked)
    }

    #[test]
    fn a_good_status_with_another_body_is_not_healthy() {
        let starting =
            Health::Starting { patience: Duration::from_secs(3600), said: answer(200, "Degraded") };
        // It says of itself that it is not set up, which is true of every application that starts.
        let (health, asked) = judged(answer(200, "Degraded"), answer(200, "{\"Completed\":false}"));
        assert_eq!((health, asked), (starting, vec!["/health".to_owned()]));
        let odd = Answer { status: 200, body: "<html>".to_owned() };
        assert_eq!(judged(Some(odd.clone()), None).0, Health::Failed(odd));
        for body in ["Healthy!", " Healthy", "Healthy\nnot", "healthy", ""] {
            let odd = Answer { status: 200, body: body.to_owned() };
            assert_eq!(judged(Some(odd.clone()), None).0, Health::Failed(odd));
        }
    }

    #[test]
    fn a_good_body_with_another_status_is_not_healthy() {
        let odd = Answer { status: 503, body: "Healthy".to_owned() };
        assert_eq!(judged(Some(odd.clone()), None).0, Health::Failed(odd));
        let odd = Answer { status: 503, body: "Unhealthy".to_owned() };
        assert_eq!(judged(Some(odd.clone()), None).0, Health::Failed(odd));
    }

    #[test]
    fn silence_is_starting_for_a_while() {
        let silence = Health::Starting { patience: Duration::from_secs(60), said: None };
        assert_eq!(judged(None, None).0, silence);
        assert_eq!(judged(answer(200, "Healthy"), None).0, silence);
    }

    #[test]
    fn the_setup_page_is_told_from_a_working_application() {
        assert_eq!(
            judged(answer(200, "Healthy"), answer(200, "{\"Completed\":false}")).0,
            Health::NeedsSetup
        );
        assert_eq!(
            judged(answer(200, "Healthy\r\n"), answer(200, "{\"Completed\":true}")).0,
            Health::Healthy
        );
        let gone = Health::Starting { patience: Duration::from_secs(60), said: answer(503, "") };
        assert_eq!(judged(answer(200, "Healthy"), answer(503, "")).0, gone);
    }

    #[test]
    fn without_rules_any_good_status_is_enough() {
        let probe = Probe {
            path: "/".to_owned(),
            status: vec![200, 403],
            body: Body::Any,
            starting: vec![Starting { status: vec![502], body: Body::Any, patience: 5 }],
            patience: 60,
        };
        assert_eq!(probe.judge(answer(403, "Forbidden")), Health::Healthy);
        let starting = Health::Starting { patience: Duration::from_secs(5), said: answer(502, "x") };
        assert_eq!(probe.judge(answer(502, "x")), starting);
        assert!(matches!(probe.judge(answer(404, "")), Health::Failed(_)));
    }
}
