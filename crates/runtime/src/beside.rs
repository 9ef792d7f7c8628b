//! A thread with an event loop of its own, for what takes time that the thread which serves everybody has not.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// How willingly it leaves the processor to others, setpriority(2).
const NICE: i32 = 10;

/// The thread; it ends, and all that it does, when this is dropped.
#[derive(Debug)]
pub struct Beside {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

impl Beside {
    /// Starts it, under a name of at most 15 bytes.
    pub fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        crate::thread(name, move || {
            // Of this thread alone. Where it cannot be, it is like the others.
            let _ = rustix::process::setpriority_process(None, NICE);
            // Said by being dropped.
            let _ = runtime.block_on(ended);
        })?;
        Ok(Self { handle, _end: end })
    }

    /// Where to begin something on it.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}
