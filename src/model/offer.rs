//! What a container offers, as far as only the site's own files need it: proxy, router, firewall, fail2ban.
//!
//! None of it is in the image, so none of it is in a plan: an edit here builds nothing anew.

use std::fmt;

/// Requests a second that one client may make through the reverse proxy when a recipe says nothing of it. A page of an
/// application with many pictures asks for a hundred things at once.
pub const RATE: u32 = 100;

/// Attempts to log in that one client may make in a minute when a recipe says nothing of it.
pub const ATTEMPTS: u32 = 10;

/// A request whose status alone tells that an application is ready. Traefik looks at no body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Path and query, starting with `/`.
    pub path: String,
    /// The one status that is good; any from 200 to 399 without.
    pub status: Option<u16>,
}

/// Where people log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Paths that take names and passwords, as a whole.
    pub paths: Vec<String>,
    /// Whether the application takes them in any mixture of upper and lower case.
    pub any_case: bool,
    /// Requests to them that one client may make in a minute.
    pub attempts: u32,
    /// Where failures are told.
    pub failures: Option<Failures>,
}

/// Where an application tells of failures to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failures {
    /// Absolute path of the log in the container; the file's name may have `*` in it.
    pub log: String,
    /// What a line has: a regular expression of Python's with `<ADDR>` for the client's address.
    pub line: String,
}

/// A port beside the web interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// What it is for.
    pub name: String,
    /// Its number.
    pub number: u16,
    /// Protocols, at least one, in order.
    pub protocols: Vec<Protocol>,
    /// Whether the site's router forwards it from the internet.
    pub public: bool,
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The protocol of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}
