//! Connections that are opened by somebody else: a process in a jail cannot call `connect` itself.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use skep_intercept::{Listener, install};

use crate::jail::{JailError, Step};

const LAYER: &str = "the guard of connections";

/// Gives up `connect` and passes the listener on through standard input, which must be a unix socket.
pub(crate) fn hand_over() -> Result<(), JailError> {
    let listener = install(&[libc::SYS_connect]).step(LAYER)?;
    let descriptors = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(std::io::stdin(), &[IoSlice::new(b"c")], &mut ancillary, SendFlags::empty()).step(LAYER)?;
    Ok(())
}

/// What a [guarded](crate::Jail::is_guarded) process sends first on `control`, the other end of its standard input; `None`
/// if it ended before. Would block until then.
pub fn listener(control: impl AsFd) -> std::io::Result<Option<Listener>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    recvmsg(control, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut sent = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors.collect::<Vec<OwnedFd>>()),
        _ => None,
    });
    Ok(sent.next().and_then(|mut descriptors| descriptors.pop()).map(Listener::from_fd))
}
