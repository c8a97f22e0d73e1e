//! Which builtins a job finds, and the way from a call to its builtin.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::debconf::Debconf;
use super::{Answer, BY_NAME, Builtin, Call, DEBCONF, Peer};
use crate::build::stage::failure::Failure;
use crate::build::stage::root::Root;
use crate::sandbox::{Connection, RELAY_DIRECTORY, Reply, Request, Status};

/// Where programs are searched for, in this order.
const PLACES: [&str; 6] = ["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"];

/// The builtins whose programs a root has.
pub(in crate::build::stage) struct Offer {
    root: OwnedFd,
    /// By name; with the way to the image's own program.
    builtins: BTreeMap<&'static str, (Builtin, CString)>,
    names: Vec<&'static str>,
    /// Paths that the relay covers: debconf's, or none.
    covered: Vec<CString>,
    debconf: Debconf,
}

impl Offer {
    /// Looks for the programs in `root`.
    ///
    /// # Errors
    /// When the root cannot be read.
    pub fn look(root: &Root) -> Result<Self, Failure> {
        let mut offer = Self {
            root: root.fd().try_clone().map_err(|error| Failure::file("use", b"/", error))?,
            builtins: BTreeMap::new(),
            names: Vec::new(),
            covered: Vec::new(),
            debconf: Debconf::default(),
        };
        for (name, builtin) in BY_NAME {
            let paths = PLACES.iter().map(|place| format!("/{place}/{name}"));
            for path in paths {
                if root.is_file(&path)? {
                    let path = CString::new(path).unwrap_or_default();
                    offer.builtins.insert(name, (*builtin, path));
                    offer.names.push(name);
                    break;
                }
            }
        }
        if root.is_file(DEBCONF)? {
            offer.covered.extend(CString::new(DEBCONF));
        }
        Ok(offer)
    }

    /// The names that are found on `PATH`.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// The paths that are covered.
    pub fn covered(&self) -> &[CString] {
        &self.covered
    }

    /// Answers one call.
    pub fn answer(&self, request: Request, connection: &mut Connection) -> Reply {
        let program = request.arguments.first().map(|name| String::from_utf8_lossy(name).into_owned());
        let program = program.unwrap_or_default();
        let name = program.rsplit('/').next().unwrap_or_default();
        let (builtin, real) = match self.builtins.get(name) {
            Some((builtin, real)) => (Some(builtin), real.clone()),
            // Under the only path that is covered.
            None => (None, covered_program()),
        };
        let decline = || Reply::Run(real.clone());
        let Some(call) = call(name, request) else { return decline() };
        // A root of its own: another thread may have another call, and scripts exchange directories.
        let root = self.root.try_clone().map_err(drop).and_then(|fd| Root::new(fd).map_err(drop));
        let Ok(root) = root else { return decline() };
        let mut peer = Remote { connection };
        let answer = match builtin {
            Some(builtin) => builtin(&call, &root, &mut peer),
            None => self.debconf.frontend(&call, &root, &mut peer),
        };
        match answer {
            Answer::Decline => decline(),
            Answer::Done(output) => {
                for (descriptor, bytes) in [(1, &output.stdout), (2, &output.stderr)] {
                    if !bytes.is_empty() && connection.write(descriptor, bytes).is_err() {
                        break;
                    }
                }
                Reply::Exit(output.status)
            }
        }
    }
}

/// The covered program, where the relay can run it.
fn covered_program() -> CString {
    CString::new(format!("{RELAY_DIRECTORY}/covered-0")).unwrap_or_default()
}

/// The call behind a request; nothing when it did not come whole or is not UTF-8.
fn call(program: &str, request: Request) -> Option<Call> {
    let arguments = request.arguments.into_iter().skip(1).map(String::from_utf8);
    let variables = request.environment.into_iter().filter_map(|variable| String::from_utf8(variable).ok());
    let variables = variables.filter_map(|variable| {
        let (name, value) = variable.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    Some(Call {
        program: program.to_owned(),
        arguments: arguments.collect::<Result<_, _>>().ok()?,
        environment: variables.collect(),
        directory: String::from_utf8(request.directory?).ok()?,
    })
}

/// The process that made a call.
struct Remote<'a> {
    connection: &'a mut Connection,
}

impl Peer for Remote<'_> {
    fn start(
        &mut self,
        program: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> io::Result<UnixStream> {
        self.connection.start(program, arguments, environment)
    }

    fn wait(&mut self) -> io::Result<u8> {
        let status = match self.connection.wait()? {
            Status::Exited(status) => status,
            Status::Killed(signal) => 128 + signal,
        };
        Ok(u8::try_from(status).unwrap_or(u8::MAX))
    }

    fn write(&mut self, descriptor: u8, bytes: &[u8]) -> io::Result<()> {
        self.connection.write(descriptor, bytes)
    }
}
