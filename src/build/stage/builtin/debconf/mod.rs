//! debconf's `/usr/share/debconf/frontend`, as version 1.5.91 does it without anyone to answer.
//!
//! A script that wants debconf becomes this program, which starts the script anew and answers what it asks, after the
//! package's `.config` script. In Perl that takes a fifth of a second each time, besides what the scripts do.
//!
//! ```text
//! frontend /var/lib/dpkg/info/P.postinst configure V
//!    circumstances   is it the debconf, the configuration and the environment that are known here?
//!    database        config.dat, passwords.dat, templates.dat: locked and read          (format)
//!    templates       P.templates goes into them                                         (store)
//!    script          P.config configure V, then P.postinst configure V                  (protocol, frontend, display)
//!    database        written, when anything changed
//! ```

mod certificates;
mod circumstances;
mod database;
#[cfg(test)]
mod differential;
mod display;
mod format;
mod frontend;
mod protocol;
mod script;
mod store;
mod templates;
#[cfg(test)]
mod tests;
mod words;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use self::circumstances::{Circumstances, exists, is_known_version};
use self::database::{Cached, Database, Place};
use self::display::Display;
use self::format::Bytes;
use self::frontend::Frontend;
use self::store::{Died, Store};
use super::{Answer, Call, Output, Peer};
use crate::build::stage::root::Root;

const CONFIG: Place = Place { file: "config.dat", mode: 0o644, backup: true };
const PASSWORDS: Place = Place { file: "passwords.dat", mode: 0o600, backup: false };
const TEMPLATES: Place = Place { file: "templates.dat", mode: 0o644, backup: true };

/// What is kept between the calls of one root.
#[derive(Debug, Default)]
pub(super) struct Debconf {
    is_known: AtomicBool,
    /// The databases as the last call left them, in the order config, passwords, templates.
    cached: Mutex<[Option<Cached>; 3]>,
}

/// A call that is understood.
struct Wanted<'a> {
    /// The script and its arguments.
    script: &'a str,
    arguments: Vec<&'a str>,
    package: Bytes,
    /// What is shown above texts.
    title: Bytes,
    templates: Option<Vec<templates::Template>>,
    /// The package's `.config` script.
    config: Option<String>,
    /// What is said before anything happens.
    said: Vec<Bytes>,
}

impl Debconf {
    /// Does one call of the frontend.
    pub fn frontend(&self, call: &Call, root: &Root, peer: &mut dyn Peer) -> Answer {
        root.forget();
        let Some(circumstances) = Circumstances::of(call, root) else { return Answer::Decline };
        let Some(wanted) = Wanted::of(call, root) else { return Answer::Decline };
        if !self.is_known.load(Ordering::Relaxed) {
            if !is_known_version(root) {
                return Answer::Decline;
            }
            self.is_known.store(true, Ordering::Relaxed);
        }
        let [config, passwords, templates] = match self.cached.lock() {
            Ok(mut cached) => std::mem::take(&mut *cached),
            Err(_) => [None, None, None],
        };
        let (Some(config), Some(passwords), Some(templates)) = (
            Database::open(root, CONFIG, config),
            Database::open(root, PASSWORDS, passwords),
            Database::open(root, TEMPLATES, templates),
        ) else {
            return Answer::Decline;
        };
        let store = Store::new(config, passwords, templates, circumstances.languages);
        let display = Display::new(circumstances.international);
        let (seen, priority) = (circumstances.mark_seen, circumstances.priority);
        let mut frontend = Frontend::new(store, root, &call.directory, display, seen, priority);
        match self.run(&mut frontend, wanted, call, peer) {
            Ok(status) => match status {
                Ended::Unsaved(status) => Answer::status(status),
                Ended::Saved(status) => match self.save(frontend.store) {
                    Ok(()) => Answer::status(status),
                    Err(reason) => failed(1, &reason),
                },
            },
            Err(died) => failed(died.status, &died.reason),
        }
    }

    fn run(
        &self,
        frontend: &mut Frontend<'_>,
        wanted: Wanted<'_>,
        call: &Call,
        peer: &mut dyn Peer,
    ) -> Result<Ended, Died> {
        let store = &mut frontend.store;
        for database in [&mut store.config, &mut store.passwords, &mut store.templates] {
            database
                .begin()
                .map_err(|error| Died { reason: format!("could not open a database: {error}"), status: 1 })?;
        }
        frontend.display.title = wanted.title;
        frontend.display.say(&wanted.said);
        if let Some(templates) = wanted.templates {
            let said = templates::load(&mut frontend.store, templates, &wanted.package)?;
            frontend.display.say(&said);
        }
        let (_, said) = frontend.display.take();
        if !said.is_empty() {
            peer.write(2, &said).map_err(|error| Died::new(error.to_string()))?;
        }
        if let Some(config) = wanted.config {
            let version = wanted.arguments.get(1).copied().unwrap_or_default();
            let status = match certificates::configure(frontend, call, &config, &wanted.package)? {
                Some(status) => status,
                None => script::run(frontend, peer, &config, &["configure", version], &wanted.package)?,
            };
            if status > 0 {
                return Ok(Ended::Unsaved(status));
            }
        }
        script::run(frontend, peer, wanted.script, &wanted.arguments, &wanted.package).map(Ended::Saved)
    }

    fn save(&self, store: Store) -> Result<(), String> {
        let saved =
            [("config", store.config), ("passwords", store.passwords), ("templatedb", store.templates)].map(
                |(name, database)| {
                    database
                        .save()
                        .map_err(|error| format!("debconf: DbDriver \"{name}\": could not save: {error}"))
                },
            );
        let [config, passwords, templates] = saved;
        let saved = [config?, passwords?, templates?];
        if let Ok(mut cached) = self.cached.lock() {
            *cached = saved;
        }
        Ok(())
    }
}

/// How a call ended.
enum Ended {
    /// The package's `.config` script failed, and everything is as it was.
    Unsaved(u8),
    Saved(u8),
}

fn failed(status: u8, reason: &str) -> Answer {
    Answer::Done(Output {
        status,
        stdout: Vec::new(),
        stderr: format!("{}\n", reason.trim_end()).into_bytes(),
    })
}

impl<'a> Wanted<'a> {
    /// Nothing when debconf would end with an error, or would do something that is not known here.
    fn of(call: &'a Call, root: &Root) -> Option<Self> {
        let words = call.words();
        let words = words.strip_prefix(&["--"]).unwrap_or(&words);
        let (script, arguments) = words.split_first()?;
        if !script.starts_with('/') || script.contains('\n') {
            return None;
        }
        let (directory, name) = script.rsplit_once('/')?;
        let mut said = Vec::new();
        let kinds = [".postinst", ".postrm", ".prerm"];
        let of_info = kinds.iter().find_map(|kind| name.strip_suffix(kind));
        let named = call.variable("DEBCONF_PACKAGE");
        let (mut file, mut has_title) = (None, true);
        let package = if store::is_true(named.as_bytes()) {
            named.as_bytes().to_vec()
        } else if let Some(package) = of_info {
            has_title = arguments.first() != Some(&"triggered");
            package.as_bytes().to_vec()
        } else if let Some(control) = root.read("var/lib/dpkg/tmp.ci/control").ok()? {
            let mut lines = control.split(|byte| *byte == b'\n');
            if !store::is_true(call.variable("PERL_DL_NONLAZY").as_bytes()) {
                said.push(
                    b"PERL_DL_NONLAZY is not set, if debconf is running from a preinst script, this is not safe".to_vec(),
                );
            }
            lines.find_map(|line| line.strip_prefix(b"Package: "))?.to_vec()
        } else {
            let beside = script.strip_suffix("config").map(|base| format!("{base}templates"));
            let shared = format!("/usr/share/debconf/templates/{name}.templates");
            let candidates = [Some(format!("{script}.templates")), beside, Some(shared)];
            file = candidates.into_iter().flatten().find(|file| exists(root, file));
            Bytes::new()
        };
        let kinds = ["preinst", "postinst", "prerm", "postrm"];
        let base = kinds.iter().find_map(|kind| name.strip_suffix(kind));
        let base = base.filter(|base| base.is_empty() || base.ends_with('.'));
        let base = base.map(|base| format!("{directory}/{base}"));
        let beside =
            |kind: &str| base.as_ref().map(|base| format!("{base}{kind}")).filter(|file| exists(root, file));
        let templates = match (file, beside("templates")) {
            (None, None) => None,
            (Some(file), None) | (None, Some(file)) => Some(read_templates(root, &file)?),
            // A script in two roles.
            (Some(_), Some(_)) => return None,
        };
        let configured = name.ends_with("preinst") || name.ends_with("postinst");
        let config = beside("config").filter(|_| configured);
        let title = match has_title && !package.is_empty() {
            true => [b"Configuring ".as_slice(), &package].concat(),
            false => Bytes::new(),
        };
        Some(Self { script, arguments: arguments.to_vec(), package, title, templates, config, said })
    }
}

/// The templates of a package. Nothing when debconf would not take them.
fn read_templates(root: &Root, file: &str) -> Option<Vec<templates::Template>> {
    let text = root.read(file).ok()??;
    if text.len() > templates::MAX_SIZE {
        return None;
    }
    let (templates, ended) = templates::parse(&text, file);
    ended.ok()?;
    // Other fields may have the name of a method, which debconf would call.
    let is_plain = |field: &Bytes| {
        let field = field.strip_prefix(b"extended_").unwrap_or(field);
        let known = [&b"template"[..], b"description", b"choices", b"default", b"type", b"indices"];
        known.contains(&field) || field.contains(&b'-')
    };
    let plain = templates.iter().all(|template| template.fields.keys().all(is_plain));
    (plain && templates.iter().all(|template| store::is_true(&template.kind))).then_some(templates)
}
