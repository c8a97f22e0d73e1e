//! Hands open files to the worker over a socket: a stage may have more packages than a process may inherit files.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// How many go in one message; Linux takes 253.
const AT_ONCE: usize = 128;
/// Says that further messages come, or that this is the last.
const MORE: u8 = 1;
const LAST: u8 = 0;

/// Sends all of `files`, in order.
pub(super) fn send(socket: &OwnedFd, files: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut groups = files.chunks(AT_ONCE).peekable();
    while let Some(group) = groups.next() {
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(group)) {
            return Err(Errno::INVAL);
        }
        let byte = [if groups.peek().is_some() { MORE } else { LAST }];
        sendmsg(socket, &[IoSlice::new(&byte)], &mut control, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// Receives what [`send`] sent.
pub(super) fn receive(socket: &OwnedFd) -> Result<Vec<OwnedFd>, Errno> {
    let mut files = Vec::new();
    loop {
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [MORE];
        let received =
            recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                files.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Err(Errno::PIPE);
        }
        if received.flags.contains(rustix::net::ReturnFlags::CTRUNC) {
            return Err(Errno::MFILE);
        }
        if byte[0] == LAST {
            return Ok(files);
        }
    }
}
