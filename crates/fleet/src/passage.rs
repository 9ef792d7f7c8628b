//! One connection from a dispatcher's cell to a script of its namespace, for RPC.
//!
//! The engine can call a process whose address it learns only at run time over its debug port, which reaches all that is
//! in that process. So a cell's own port is nobody's to name: who may call gets a socket of ours, in the caller's own
//! folder, that takes one connection and leads to one process.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use skep_wire::{Socket, bind_unix};
use tokio::net::UnixStream;

use crate::generation::{CallerFolder, Lease};
use crate::render::DEBUG_SOCKET;
use crate::worker::{Unavailable, Worker};

/// How long a passage waits for its one connection.
const WAIT: Duration = Duration::from_secs(10);

/// Why there is no passage.
#[derive(Debug, thiserror::Error)]
pub enum PassageError {
    /// The script cannot be called.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The machine's fault.
    #[error("cannot make a socket: {0}")]
    System(#[from] io::Error),
}

impl Worker {
    /// Makes a socket in the caller's folder that leads to a process of this script, for one connection. The script has
    /// to be a dispatch namespace's. `cpu` is the time that the call may use, if that is less than the script's own limit.
    pub async fn passage(
        &self,
        caller: &CallerFolder,
        cpu: Option<Duration>,
    ) -> Result<PathBuf, PassageError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut lease = self.acquire().await?;
        if let Some(cpu) = cpu {
            lease.cap_cpu(cpu);
        }
        lease.generation().ready().await;
        let path = caller.0.join(format!("p{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let listener = bind_unix(&path).map_err(io::Error::other)?;
        let socket = path.clone();
        tokio::spawn(async move {
            let accepted = tokio::time::timeout(WAIT, listener.accept()).await;
            let _ = std::fs::remove_file(&socket);
            drop(listener);
            if let Ok(Ok((caller, _))) = accepted {
                pass(caller, lease).await;
            }
        });
        Ok(path)
    }
}

/// Bytes both ways until one side ends; the process is in use meanwhile.
async fn pass(caller: UnixStream, lease: Lease) {
    let Ok(mut caller) = Socket::try_from(caller) else { return };
    let Ok(mut callee) = Socket::connect(&lease.generation().socket(DEBUG_SOCKET)).await else { return };
    let _ = tokio::io::copy_bidirectional(&mut caller, &mut callee).await;
}
