//! Which builtins a job finds, and the way from a call to its builtin.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::{Answer, BUILTINS, Call, Found, Peer, Run};
use crate::build::stage::failure::Failure;
use crate::build::stage::root::Root;
use crate::digest::Sha256;
use crate::sandbox::{Connection, RELAY_DIRECTORY, Reply, Request, Status};

/// Where programs are searched for, in this order.
const PLACES: [&str; 6] = ["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"];

/// The builtins whose programs a root has, in a version that they were compared with.
pub(in crate::build::stage) struct Offer {
    root: OwnedFd,
    /// By the last part of the path; with the way to the image's own program.
    builtins: BTreeMap<&'static str, (Run, CString)>,
    names: Vec<&'static str>,
    covered: Vec<CString>,
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
        };
        for builtin in BUILTINS {
            let path = match builtin.found {
                Found::Path(path) => root.is_file(path.as_bytes()).then(|| path.to_owned()),
                Found::Name(name) => PLACES
                    .iter()
                    .map(|place| format!("/{place}/{name}"))
                    .find(|path| root.is_file(path.as_bytes())),
            };
            let Some(path) = path else { continue };
            let bytes = root.read(&path)?.unwrap_or_default();
            if !builtin.compared.contains(&Sha256::of(&bytes).to_string().as_str()) {
                continue;
            }
            let name = path.rsplit('/').next().unwrap_or_default();
            let (name, real) = match builtin.found {
                Found::Name(name) => {
                    offer.names.push(name);
                    (name, path.clone())
                }
                Found::Path(known) => {
                    let real = format!("{RELAY_DIRECTORY}/covered-{}", offer.covered.len());
                    offer.covered.extend(CString::new(path.clone()));
                    (&known[known.len() - name.len()..], real)
                }
            };
            let real = CString::new(real).map_err(|error| Failure::file("use", path.as_bytes(), error))?;
            offer.builtins.insert(name, (builtin.run, real));
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
        let program = program.as_deref().and_then(|name| name.rsplit('/').next()).unwrap_or_default();
        let Some((run, real)) = self.builtins.get(program) else { return Reply::Exit(127) };
        let decline = || Reply::Run(real.clone());
        let Some(call) = call(program, request) else { return decline() };
        // A root of its own: another thread may have another call, and scripts exchange directories.
        let root = self.root.try_clone().map_err(drop).and_then(|fd| Root::new(fd).map_err(drop));
        let Ok(root) = root else { return decline() };
        match run(&call, &root, &mut Remote { connection }) {
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
