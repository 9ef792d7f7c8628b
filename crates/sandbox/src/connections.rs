//! Connections that are opened by somebody else: a process in a jail cannot call `connect` itself.

use std::os::fd::AsFd;

use skep_intercept::{Listener, install};

use crate::jail::{JailError, Step};
use crate::passing::{pass, passed};

const LAYER: &str = "the guard of connections";

/// Gives up `connect` and passes the listener on through standard input, which must be a unix socket.
pub(crate) fn hand_over() -> Result<(), JailError> {
    let listener = install(&[libc::SYS_connect]).step(LAYER)?;
    pass(std::io::stdin(), b'c', Some(listener.as_fd())).step(LAYER)
}

/// What a [guarded](crate::Jail::is_guarded) process sends first on `control`, the other end of its standard input; `None`
/// if it ended before. Would block until then.
pub fn listener(control: impl AsFd) -> std::io::Result<Option<Listener>> {
    let first = passed(control)?;
    Ok(first.and_then(|(_, listener)| listener).map(Listener::from_fd))
}
