//! How `tests/builtin` gets at builtins: one call in a root, as the image's own program would get it.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Child;

use super::{Answer, BY_NAME, Call, Peer, Root};

/// What a call came to: exit status, standard output, standard error.
pub type Done = (u8, Vec<u8>, Vec<u8>);

/// Starts a program of the root with arguments and further variables; the socket is its standard input and output.
pub type Start<'a> = &'a mut dyn FnMut(&str, &[&str], &[(&str, &str)], OwnedFd) -> io::Result<Child>;

/// Makes a call; nothing when it is declined or there is no such builtin.
pub fn call(
    root: OwnedFd,
    program: &str,
    arguments: &[&str],
    environment: &BTreeMap<String, String>,
    start: Start<'_>,
) -> Option<Done> {
    let (_, builtin) = BY_NAME.iter().find(|(name, _)| *name == program)?;
    let call = Call {
        program: program.to_owned(),
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        environment: environment.clone(),
        directory: "/".into(),
    };
    let mut caller = Caller { start, child: None, said: Default::default() };
    match builtin(&call, &Root::new(root).ok()?, &mut caller) {
        Answer::Decline => None,
        Answer::Done(output) => {
            let [stdout, stderr] = caller.said;
            Some((output.status, [stdout, output.stdout].concat(), [stderr, output.stderr].concat()))
        }
    }
}

/// Whoever makes the call.
struct Caller<'a> {
    start: Start<'a>,
    child: Option<Child>,
    /// Standard output and error.
    said: [Vec<u8>; 2],
}

impl Peer for Caller<'_> {
    fn start(
        &mut self,
        program: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        self.child = Some((self.start)(program, arguments, environment, theirs.into())?);
        Ok(ours)
    }

    fn wait(&mut self) -> io::Result<u8> {
        let mut child = self.child.take().ok_or(io::ErrorKind::NotFound)?;
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_end(&mut self.said[1])?;
        }
        let status = child.wait()?;
        let status = status.code().or_else(|| Some(128 + status.signal()?));
        Ok(status.and_then(|status| u8::try_from(status).ok()).unwrap_or(u8::MAX))
    }

    fn write(&mut self, descriptor: u8, bytes: &[u8]) -> io::Result<()> {
        self.said[usize::from(descriptor == 2)].extend(bytes);
        Ok(())
    }
}
