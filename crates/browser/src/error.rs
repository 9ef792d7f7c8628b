//! What can go wrong.

use std::io;
use std::path::PathBuf;

use http::StatusCode;

/// Why there is no browser, or no session of one.
#[derive(Debug, thiserror::Error)]
pub enum BrowserError {
    /// No program is there to be started; the text says what to do.
    #[error("{0}")]
    NoProgram(String),
    /// The program could not be started.
    #[error("cannot start the browser {}: {source}", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended, or said nothing for too long, before its DevTools listened.
    #[error("the browser {} did not start: {said}", path.display())]
    NotReady {
        /// The program.
        path: PathBuf,
        /// The last lines that it wrote.
        said: String,
    },
    /// So many sessions run already.
    #[error(
        "Too many browsers are running: {0} at a time. Close one, or wait until one is idle for its keep_alive"
    )]
    Full(usize),
    /// So many sessions of all accounts run already.
    #[error("Too many browsers are running on this node: {0} at a time. Wait until one is closed")]
    NodeFull(usize),
    /// So many are connected to the session already.
    #[error("Too many connections to this session: {0} at a time. Close one")]
    Busy(usize),
    /// There is no such session, or no more.
    #[error("Session not found: {0}")]
    NoSession(String),
    /// The browser does not answer.
    #[error("the browser does not answer: {0}")]
    Unreachable(String),
    /// The request asks for what there is not.
    #[error("{0}")]
    Refused(String),
}

impl BrowserError {
    /// The status that says so over HTTP.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NoProgram(_) | Self::Start { .. } | Self::NotReady { .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Full(_) | Self::NodeFull(_) | Self::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NoSession(_) => StatusCode::NOT_FOUND,
            Self::Unreachable(_) => StatusCode::BAD_GATEWAY,
            Self::Refused(_) => StatusCode::BAD_REQUEST,
        }
    }
}
