//! Files and sockets that one process passes on to another, over a unix socket that both have.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Says `word`, with `what` if there is something.
pub fn pass(to: impl AsFd, word: u8, what: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let descriptors: Vec<BorrowedFd<'_>> = what.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    sendmsg(to, &[IoSlice::new(&[word])], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

/// The next word, and what came with it; `None` if the other end is closed. Waits for it unless the socket does not.
pub fn passed(from: impl AsFd) -> io::Result<Option<(u8, Option<OwnedFd>)>> {
    let mut word = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(from, &mut [IoSliceMut::new(&mut word)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let what = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((received.bytes > 0).then_some((word[0], what)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_is_passed_on_comes_with_its_word() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        pass(&ours, b'a', Some(file.as_fd())).unwrap();
        pass(&ours, b'b', None).unwrap();
        assert!(matches!(passed(&theirs).unwrap(), Some((b'a', Some(_)))));
        assert!(matches!(passed(&theirs).unwrap(), Some((b'b', None))));
        drop(ours);
        assert!(passed(&theirs).unwrap().is_none());
    }
}
