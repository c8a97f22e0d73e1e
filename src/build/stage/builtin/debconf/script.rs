//! A script that talks to debconf, from its start to its end.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::net::SendFlags;

use super::frontend::Frontend;
use super::protocol::{Module, Reply};
use super::store::Died;
use crate::build::stage::builtin::Peer;

/// Longest line of a script, in bytes.
const MAX_LINE: u64 = 1 << 20;
/// Most that a script may say, in bytes.
const MAX_SAID: u64 = 64 << 20;

/// Runs a script and answers it. Its exit status, as debconf takes it.
pub(super) fn run(
    frontend: &mut Frontend<'_>,
    peer: &mut dyn Peer,
    program: &str,
    arguments: &[&str],
    owner: &[u8],
) -> Result<u8, Died> {
    let mut module = Module::new(frontend, owner);
    let stream = peer.start(program, arguments, &[("DEBIAN_HAS_FRONTEND", "1")]).map_err(|error| {
        let status = error.raw_os_error().and_then(|number| u8::try_from(number).ok()).unwrap_or(255);
        Died { reason: format!("open2: exec of {program} failed: {error}"), status }
    })?;
    let talked = talk(frontend, &mut module, &stream, peer);
    if let Err(died) = talked {
        // It sees that nobody is there any more.
        drop(stream);
        let _ = peer.wait();
        return Err(died);
    }
    // After `STOP`, a script goes on with its standard input and output still open.
    let ended = peer.wait().map_err(|error| Died::new(format!("lost {program}: {error}")))?;
    module.finish(frontend);
    Ok(ended)
}

fn talk(
    frontend: &mut Frontend<'_>,
    module: &mut Module<'_>,
    stream: &UnixStream,
    peer: &mut dyn Peer,
) -> Result<(), Died> {
    let mut lines = BufReader::new(stream.take(MAX_SAID));
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => return Err(Died::new(format!("cannot hear the script: {error}"))),
        }
        // Perl takes a last line of `0` for the end.
        if line.is_empty() || line == b"0" {
            return match lines.get_ref().limit() {
                0 => Err(Died::new(format!("the script said more than {MAX_SAID} bytes"))),
                _ => Ok(()),
            };
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() as u64 == MAX_LINE {
            return Err(Died::new(format!("the script said a line of more than {MAX_LINE} bytes")));
        }
        let replied = module.line(frontend, &line);
        let (stdout, stderr) = frontend.display.take();
        for (descriptor, text) in [(1, stdout), (2, stderr)] {
            if !text.is_empty() {
                peer.write(descriptor, &text).map_err(|error| Died::new(error.to_string()))?;
            }
        }
        let Reply::Line(mut reply) = replied? else { return Ok(()) };
        reply.push(b'\n');
        match send(stream, &reply) {
            // debconf fails when the script has ended without waiting for this, and does not when that ends a moment
            // later. Here it never does: a build must not depend on it.
            Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => {}
            Err(error) => return Err(Died::new(format!("cannot answer the script: {error}"))),
        }
    }
}

fn send(stream: &UnixStream, mut text: &[u8]) -> Result<(), Errno> {
    while !text.is_empty() {
        match rustix::net::send(stream, text, SendFlags::NOSIGNAL) {
            Ok(sent) => text = &text[sent..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
