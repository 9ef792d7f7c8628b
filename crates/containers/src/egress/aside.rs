//! The thread for what containers send out: copying and encryption take time.

use std::io;
use std::sync::Arc;

use skep_runtime::Beside;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Connections of all containers at the same time; more are closed.
const MOST: usize = 2048;

/// The thread; it ends, and all that it does, when this is dropped.
#[derive(Debug)]
pub(crate) struct Aside {
    thread: Beside,
    room: Arc<Semaphore>,
}

/// Where to begin something on it, and room for connections.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub handle: Handle,
    pub room: Arc<Semaphore>,
}

impl Aside {
    pub fn start() -> io::Result<Self> {
        Ok(Self { thread: Beside::start("containers-out")?, room: Arc::new(Semaphore::new(MOST)) })
    }

    pub fn place(&self) -> Place {
        Place { handle: self.thread.handle().clone(), room: self.room.clone() }
    }
}
