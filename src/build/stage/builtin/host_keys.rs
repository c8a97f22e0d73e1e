//! `ssh-keygen` as far as openssh-server's postinst makes host keys with it.
//!
//! Host keys never stay in an image: finishing removes them, and the first boot makes new ones. So none is made here;
//! there is a file in its place. It has the form of a private key, so that an image in which one were left would be
//! refused as any other with a key in it.
//!
//! Declined: everything but the two calls of that script, keys that are there already.

use super::answer::{Answer, Call, Output, Peer};
use crate::build::stage::failure::Failure;
use crate::build::stage::root::{Attributes, Root};

const TYPES: [&str; 3] = ["rsa", "ecdsa", "ed25519"];

/// See the module.
pub(super) fn ssh_keygen(call: &Call, root: &Root, _: &mut dyn Peer) -> Answer {
    root.forget();
    match call.words().as_slice() {
        ["-q", "-f", path, "-N", "", "-t", kind] if is_free(root, path, kind) == Some(true) => {
            match make(root, path) {
                Ok(()) => Answer::success(),
                Err(failure) => Answer::failed(call, &failure),
            }
        }
        ["-l", "-f", path] if is_in_place(root, path) == Some(true) => {
            let stdout = format!("no key in {path}: the first boot makes it\n").into_bytes();
            Answer::Done(Output { stdout, ..Output::default() })
        }
        _ => Answer::Decline,
    }
}

fn path_of(kind: &str) -> String {
    format!("/etc/ssh/ssh_host_{kind}_key")
}

fn is_free(root: &Root, path: &str, kind: &str) -> Option<bool> {
    let known = TYPES.contains(&kind) && path == path_of(kind);
    let program = root.is_file("/usr/bin/ssh-keygen").ok()? && root.is_directory("/etc/ssh").ok()?;
    let free = root.kind(path).ok()?.is_none() && root.kind(&format!("{path}.pub")).ok()?.is_none();
    Some(known && program && free)
}

fn is_in_place(root: &Root, path: &str) -> Option<bool> {
    let private = path.strip_suffix(".pub")?;
    let known = TYPES.iter().any(|kind| private == path_of(kind));
    Some(known && root.read(private).ok()?? == placeholder() && root.read(path).ok()??.is_empty())
}

fn make(root: &Root, path: &str) -> Result<(), Failure> {
    root.write(path, &placeholder(), Attributes::of_root(0o600))?;
    root.write(&format!("{path}.pub"), b"", Attributes::of_root(0o644))
}

/// A text that has the form of a private key and is none.
fn placeholder() -> Vec<u8> {
    let label = "OPENSSH PRIVATE KEY";
    let line = "PLACEHOLDER".repeat(6);
    format!("-----BEGIN {label}-----\n{line}\n{line}\n-----END {label}-----\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::secrets::scan_content;
    use crate::tree::TreePath;

    #[test]
    fn an_image_with_a_placeholder_left_in_it_is_refused() {
        let path = TreePath::new(path_of("rsa")).unwrap();
        assert_eq!(scan_content(&path, &placeholder()).len(), 1);
    }
}
