//! A thread for what containers send out: copying and encryption take time, and the thread that serves everybody has none to spare.

use std::io;
use std::sync::Arc;

use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, oneshot};

/// How willingly it leaves the processor to others, setpriority(2).
const NICE: i32 = 10;

/// Connections of all containers at the same time; more are closed.
const MOST: usize = 2048;

/// The thread; it ends, and all that it does, when this is dropped.
#[derive(Debug)]
pub(crate) struct Aside {
    place: Place,
    _end: oneshot::Sender<()>,
}

/// Where to begin something on it, and room for connections.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub handle: Handle,
    pub room: Arc<Semaphore>,
}

impl Aside {
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new().name("containers-out".to_owned()).spawn(move || {
            // Of this thread alone. Where it cannot be, it is like the others.
            let _ = rustix::process::setpriority_process(None, NICE);
            // Said by being dropped.
            let _ = runtime.block_on(ended);
        })?;
        Ok(Self { place: Place { handle, room: Arc::new(Semaphore::new(MOST)) }, _end: end })
    }

    pub fn place(&self) -> Place {
        self.place.clone()
    }
}
