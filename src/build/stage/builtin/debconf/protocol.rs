//! The protocol between scripts and debconf: `Debconf::ConfModule`.

use super::format::{Bytes, replace};
use super::frontend::{Element, Frontend};
use super::store::{Died, Store};
use super::templates;
use super::words::{number, rank, unescaped_value, unescaped_words, words};

const SUCCESS: &str = "0";
const ESCAPED: &str = "1";
const BAD_PARAMETERS: &str = "10";
const SYNTAX_ERROR: &str = "20";
const INVISIBLE: &str = "30";
const INTERNAL_ERROR: &str = "100";

/// One script that talks to debconf.
pub(super) struct Module<'a> {
    owner: &'a [u8],
    escape: bool,
    busy: Vec<Bytes>,
    seen: Vec<Bytes>,
}

/// What comes of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// A line to send, without its end.
    Line(Bytes),
    /// The script will not talk any more.
    Stop,
}

/// A code and what follows it.
type Said = Result<(&'static str, Option<Bytes>), Died>;

fn only(code: &'static str) -> Said {
    Ok((code, None))
}

fn say(code: &'static str, text: impl AsRef<[u8]>) -> Said {
    Ok((code, Some(text.as_ref().to_vec())))
}

fn wrong_number() -> Said {
    say(SYNTAX_ERROR, "Incorrect number of arguments")
}

fn missing(name: &[u8]) -> Said {
    say(BAD_PARAMETERS, [name, b" doesn't exist"].concat())
}

fn missing_quoted(name: &[u8]) -> Said {
    say(BAD_PARAMETERS, [b"\"", name, b"\" doesn't exist"].concat())
}

impl<'a> Module<'a> {
    /// A script is about to start; what others asked is forgotten.
    pub fn new(frontend: &mut Frontend<'_>, owner: &'a [u8]) -> Self {
        frontend.elements.clear();
        Self { owner, escape: false, busy: Vec::new(), seen: Vec::new() }
    }

    /// The script has ended.
    pub fn finish(self, frontend: &mut Frontend<'_>) {
        for question in self.seen {
            if frontend.store.question(&question) {
                frontend.store.set_flag(&question, b"seen", b"true");
            }
        }
    }

    /// Does what a line says.
    pub fn line(&mut self, frontend: &mut Frontend<'_>, line: &[u8]) -> Result<Reply, Died> {
        let words = if self.escape { unescaped_words(line) } else { words(line) };
        let Some((command, parameters)) = words.split_first() else {
            let text =
                [SYNTAX_ERROR.as_bytes(), b" Bad line \"", line, b"\" received from confmodule."].concat();
            return Ok(Reply::Line(text));
        };
        let command = command.to_ascii_lowercase();
        if command == b"stop" {
            return Ok(Reply::Stop);
        }
        let parameters: Vec<&[u8]> = parameters.iter().map(Vec::as_slice).collect();
        let Some((code, text)) = self.command(frontend, &command, &parameters)? else {
            // The only reply that may have more than one line.
            let known = [b" Unsupported command \"", &command[..], b"\" (full line was \"", line].concat();
            return Ok(Reply::Line(
                [SYNTAX_ERROR.as_bytes(), &known, b"\") received from confmodule."].concat(),
            ));
        };
        let mut reply = code.as_bytes().to_vec();
        if let Some(text) = text {
            reply.push(b' ');
            reply.extend(text);
        }
        if let Some(end) = memchr::memchr(b'\n', &reply) {
            reply.truncate(end);
        }
        Ok(Reply::Line(reply))
    }

    /// Nothing for a command that is not known.
    fn command(
        &mut self,
        frontend: &mut Frontend<'_>,
        command: &[u8],
        parameters: &[&[u8]],
    ) -> Result<Option<(&'static str, Option<Bytes>)>, Died> {
        let store = &mut frontend.store;
        let said = match (command, parameters) {
            (b"version", [] | [_]) => version(parameters),
            (b"capb", _) => {
                self.escape = parameters.contains(&&b"escape"[..]);
                say(SUCCESS, "multiselect escape ")
            }
            (b"title", _) => {
                frontend.display.title = parameters.join(&b' ');
                only(SUCCESS)
            }
            (b"settitle", [name]) => {
                if !store.question(name) {
                    return missing_quoted(name).map(Some);
                }
                frontend.display.title = store.text(name, b"description", true)?;
                only(SUCCESS)
            }
            (b"beginblock" | b"endblock", _) => only(SUCCESS),
            (b"input", [priority, name]) => self.input(frontend, priority, name),
            (b"clear", []) => {
                frontend.elements.clear();
                self.busy.clear();
                only(SUCCESS)
            }
            (b"go", []) => self.go(frontend),
            (b"get", [name]) if store.question(name) => {
                let value = store.value(name);
                self.value(value)
            }
            (b"set", [name, words @ ..]) if store.question(name) => {
                store.set_value(name, words.join(&b' '));
                say(SUCCESS, "value set")
            }
            (b"reset", [name]) if store.question(name) => {
                let default = store.any_field(name, b"default");
                store.set_value(name, default);
                store.set_flag(name, b"seen", b"false");
                only(SUCCESS)
            }
            (b"subst", [name, variable, words @ ..]) if store.question(name) => {
                if store.set_variable(name, variable, words.join(&b' ')) {
                    only(SUCCESS)
                } else {
                    say(INTERNAL_ERROR, "Substitution failed")
                }
            }
            (b"register", [template, name]) => self.register(store, template, name),
            (b"unregister", [name]) if store.question(name) => {
                if self.busy.iter().any(|busy| busy == name) {
                    return say(
                        BAD_PARAMETERS,
                        [name, &b" is busy, cannot unregister right now"[..]].concat(),
                    )
                    .map(Some);
                }
                store.remove_owner(name, self.owner);
                only(SUCCESS)
            }
            (b"purge", []) => {
                for name in store.passwords.names().into_iter().chain(store.config.names()) {
                    store.remove_owner(&name, self.owner);
                }
                only(SUCCESS)
            }
            (b"metaget", [name, field]) if store.question(name) => {
                match metaget(frontend, name, &field.to_ascii_lowercase())? {
                    Some(value) => self.value(value),
                    None => say(BAD_PARAMETERS, [field, &b" does not exist"[..]].concat()),
                }
            }
            (b"fget", [name, flag]) if store.question(name) => say(SUCCESS, store.flag(name, flag)),
            (b"fset", [name, flag, words @ ..]) if !words.is_empty() && store.question(name) => {
                if *flag == b"seen" {
                    self.seen.retain(|seen| seen != name);
                }
                store.set_flag(name, flag, &words.join(&b' '));
                // The answer to the old flag is the old way round.
                say(SUCCESS, store.flag(name, flag))
            }
            (b"info", [] | [_]) => match parameters {
                [name] if !store.question(name) => missing_quoted(name),
                _ => only(SUCCESS),
            },
            (b"progress", [subcommand, rest @ ..]) => {
                progress(frontend, &subcommand.to_ascii_lowercase(), rest)
            }
            (b"data", [template, item, words @ ..]) if !words.is_empty() => {
                self.data(store, template, item, &words.join(&b' '))
            }
            // The noninteractive frontend keeps what it is asked about, and so finds it visible.
            (b"visible", [_, name]) if store.question(name) => say(SUCCESS, "true"),
            (b"exist", [name]) => say(SUCCESS, if store.question(name) { "true" } else { "false" }),
            (b"x_loadtemplatefile", [file]) => load_file(frontend, file, self.owner),
            (b"x_loadtemplatefile", [file, owner]) => load_file(frontend, file, owner),
            // Here a question is missing, or the number of parameters is another.
            (b"get" | b"reset" | b"unregister", [name]) => missing(name),
            (b"set", [name, ..]) | (b"subst", [name, _, ..]) => missing(name),
            (b"metaget" | b"fget", [name, _]) | (b"visible", [_, name]) => missing(name),
            (b"fset", [name, _, _, ..]) => missing(name),
            (
                b"version"
                | b"settitle"
                | b"input"
                | b"clear"
                | b"go"
                | b"get"
                | b"set"
                | b"reset"
                | b"subst"
                | b"register"
                | b"unregister"
                | b"purge"
                | b"metaget"
                | b"fget"
                | b"fset"
                | b"info"
                | b"progress"
                | b"data"
                | b"visible"
                | b"exist"
                | b"x_loadtemplatefile",
                _,
            ) => wrong_number(),
            _ => return Ok(None),
        };
        said.map(Some)
    }

    fn value(&self, value: Bytes) -> Said {
        if !self.escape {
            return say(SUCCESS, value);
        }
        say(ESCAPED, replace(&replace(&value, b"\\", b"\\\\"), b"\n", b"\\n"))
    }

    fn input(&mut self, frontend: &mut Frontend<'_>, priority: &[u8], name: &[u8]) -> Said {
        if !frontend.store.question(name) {
            return missing_quoted(name);
        }
        if rank(priority).is_none() {
            return say(SYNTAX_ERROR, [b"\"", priority, b"\" is not a valid priority"].concat());
        }
        let is_error = frontend.store.any_field(name, b"type") == b"error";
        let unseen =
            is_error || (frontend.high_enough(priority) && frontend.store.flag(name, b"seen") != b"true");
        frontend.store.set_priority(name, priority);
        let kind = frontend.kind(name)?;
        let mark_seen = unseen && frontend.mark_seen;
        self.busy.push(name.to_vec());
        if !frontend.elements.iter().any(|element| element.question == name) {
            frontend.elements.push(Element { question: name.to_vec(), kind, mark_seen });
        }
        say(INVISIBLE, "question skipped")
    }

    fn go(&mut self, frontend: &mut Frontend<'_>) -> Said {
        let elements = std::mem::take(&mut frontend.elements);
        let mut answers = Vec::with_capacity(elements.len());
        for element in &elements {
            answers.push(frontend.answer(&element.question, element.kind)?);
        }
        for (element, answer) in elements.into_iter().zip(answers) {
            frontend.store.set_value(&element.question, answer);
            if element.mark_seen {
                self.seen.push(element.question);
            }
        }
        self.busy.clear();
        say(SUCCESS, "ok")
    }

    fn register(&mut self, store: &mut Store, template: &[u8], name: &[u8]) -> Said {
        if !store.question(template) {
            return say(BAD_PARAMETERS, [b"No such template, \"", template, b"\""].concat());
        }
        let kind = store.any_field(template, b"type");
        if !store.question(name) {
            store.new_question(name, self.owner, &kind)?;
        }
        store.add_owner(name, self.owner, &kind);
        store.set_template(name, template);
        match store.template(name) {
            Some(_) => only(SUCCESS),
            None => say(INTERNAL_ERROR, "Internal error setting template"),
        }
    }

    fn data(&mut self, store: &mut Store, template: &[u8], item: &[u8], value: &[u8]) -> Said {
        match (store.has_template(template), item == b"type") {
            (false, false) => say(
                BAD_PARAMETERS,
                [b"Template data field '", item, b"' received before type field"].concat(),
            ),
            (false, true) => {
                let value = unescaped_value(value);
                store.new_template(template, self.owner, &value)?;
                only(SUCCESS)
            }
            (true, true) => say(BAD_PARAMETERS, "Template type already set"),
            // Without Text::Iconv, the value is lost.
            (true, false) => only(SUCCESS),
        }
    }
}

fn version(parameters: &[&[u8]]) -> Said {
    let Some(version) = parameters.first() else { return say(SUCCESS, "2.0") };
    let wrong =
        |what: &str| say(INVISIBLE, [b"Version too ", what.as_bytes(), b" (", version, b")"].concat());
    match number(version).trunc() {
        low if low < 2.0 => wrong("low"),
        high if high > 2.0 => wrong("high"),
        _ => say(SUCCESS, "2.0"),
    }
}

fn progress(frontend: &mut Frontend<'_>, subcommand: &[u8], rest: &[&[u8]]) -> Said {
    let ok = || say(SUCCESS, "OK");
    let bar = |frontend: &Frontend<'_>, method: &str| match frontend.has_progress_bar {
        true => Ok(()),
        false => Err(Died::new(format!("Can't call method \"{method}\" on an undefined value"))),
    };
    match (subcommand, rest) {
        (b"start", [min, max, name]) => {
            if number(min) > number(max) {
                return say(SYNTAX_ERROR, [b"min (", *min, b") > max (", max, b")"].concat());
            }
            if !frontend.store.question(name) {
                return missing(name);
            }
            frontend.has_progress_bar = true;
            ok()
        }
        (b"set", [_]) => bar(frontend, "set").and_then(|()| ok()),
        (b"step", [_]) => bar(frontend, "progress_cur").and_then(|()| ok()),
        (b"info", [name]) if !frontend.store.question(name) => missing(name),
        (b"info", [_]) => bar(frontend, "info").and_then(|()| ok()),
        (b"stop", []) => {
            bar(frontend, "stop")?;
            frontend.has_progress_bar = false;
            ok()
        }
        (b"start" | b"set" | b"step" | b"info" | b"stop", _) => wrong_number(),
        _ => say(SYNTAX_ERROR, "Unknown subcommand"),
    }
}

/// A field of a question by the name of a method of `Debconf::Question`.
fn metaget(frontend: &mut Frontend<'_>, name: &[u8], field: &[u8]) -> Result<Option<Bytes>, Died> {
    let store = &mut frontend.store;
    Ok(Some(match field {
        b"description" | b"extended_description" | b"choices" => store.text(name, field, true)?,
        b"value" => store.value(name),
        b"owners" => store.owners(name),
        b"name" => name.to_vec(),
        b"template" => match store.template(name) {
            Some(template) => template,
            None => return Ok(None),
        },
        b"priority" => return Ok(store.priority(name)),
        _ => store.any_field(name, field),
    }))
}

/// Loads a file of templates that a script names.
fn load_file(frontend: &mut Frontend<'_>, file: &[u8], owner: &[u8]) -> Said {
    let shown = String::from_utf8_lossy(file).into_owned();
    let failed = |reason: &str| say(BAD_PARAMETERS, format!("failed to open {shown}: {reason}"));
    // Perl's `open` would take some of the rest for programs to start.
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._+-:~%@,=".contains(byte);
    if file.is_empty() || file == b"-" || !file.iter().all(plain) {
        return failed("No such file or directory");
    }
    let path = if shown.starts_with('/') { shown.clone() } else { format!("{}/{shown}", frontend.directory) };
    frontend.root.forget();
    let text = match frontend.root.read(&path) {
        Ok(Some(text)) if text.len() <= templates::MAX_SIZE => text,
        Ok(None) => return failed("No such file or directory"),
        _ => return failed("Permission denied"),
    };
    let (parsed, ended) = templates::parse(&text, &shown);
    let loaded = templates::load(&mut frontend.store, parsed, owner).and_then(|said| {
        frontend.display.say(&said);
        ended
    });
    match loaded {
        Ok(()) => only(SUCCESS),
        Err(died) => say(INTERNAL_ERROR, died.reason.replace('\n', "\\n")),
    }
}
