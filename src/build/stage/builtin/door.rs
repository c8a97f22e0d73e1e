//! How `tests/builtin` gets at builtins: one call in a root, as the image's own program would get it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::{Answer, BY_NAME, Call, Peer, Root};

/// What a call came to: exit status, standard output, standard error.
pub type Done = (u8, Vec<u8>, Vec<u8>);

/// Makes a call; nothing when it is declined or there is no such builtin.
pub fn call(
    root: OwnedFd,
    program: &str,
    arguments: &[&str],
    environment: &BTreeMap<String, String>,
) -> Option<Done> {
    let (_, builtin) = BY_NAME.iter().find(|(name, _)| *name == program)?;
    let call = Call {
        program: program.to_owned(),
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        environment: environment.clone(),
        directory: "/".into(),
    };
    match builtin(&call, &Root::new(root).ok()?, &mut Nobody) {
        Answer::Decline => None,
        Answer::Done(output) => Some((output.status, output.stdout, output.stderr)),
    }
}

/// A caller for builtins that need none.
struct Nobody;

impl Peer for Nobody {
    fn start(&mut self, _: &str, _: &[&str], _: &[(&str, &str)]) -> io::Result<UnixStream> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn wait(&mut self) -> io::Result<u8> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write(&mut self, _: u8, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
