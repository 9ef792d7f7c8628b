//! From one cell to another: bytes between two unix sockets.
//!
//! A cell's configuration names a socket of ours, never another cell's: so a callee can be replaced or not
//! be there yet, and a cell reaches nothing that its bindings do not name.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use skep_runtime::Shutdown;
use skep_wire::Socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use crate::fleet::Shared;
use crate::generation::Generation;
use crate::render::Link;

/// How long a call may still finish on a callee that has been replaced.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// Passes connections on `listener` on to the script that `link` names, until `stop`.
pub(crate) async fn relay(listener: UnixListener, link: Link, shared: Arc<Shared>, stop: Shutdown) {
    loop {
        let accepted = tokio::select! {
            () = stop.requested() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((caller, _)) => {
                let Ok(caller) = Socket::try_from(caller) else { continue };
                let (link, shared, stop) = (link.clone(), shared.clone(), stop.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = stop.requested() => {}
                        () = connection(caller, &link, &shared) => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, script = link.script, "cannot accept a call between cells");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Bytes both ways; what the caller sends is a use of the callee.
async fn pass(caller: &mut Socket, callee: &mut Socket, generation: &Generation) -> io::Result<()> {
    let (mut from_caller, mut to_caller) = tokio::io::split(caller);
    let (mut from_callee, mut to_callee) = tokio::io::split(callee);
    let up = async {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let read = from_caller.read(&mut buffer).await?;
            if read == 0 {
                return to_callee.shutdown().await;
            }
            generation.touch();
            to_callee.write_all(&buffer[..read]).await?;
        }
    };
    let down = async {
        tokio::io::copy(&mut from_callee, &mut to_caller).await?;
        to_caller.shutdown().await
    };
    tokio::try_join!(up, down).map(|_| ())
}

/// One connection; dropped without an answer if the callee is not there, which the caller's engine reports.
async fn connection(mut caller: Socket, link: &Link, shared: &Arc<Shared>) {
    let Some(worker) = shared.callee(&link.script) else {
        tracing::warn!(script = link.script, "a binding names a script that does not run");
        return;
    };
    let Ok(lease) = worker.acquire().await else { return };
    let generation = lease.generation().clone();
    let Ok(mut callee) = Socket::connect(&generation.socket(&link.exposed.socket())).await else { return };
    generation.ready().await;
    // The engine keeps one connection for all its calls: it would hold the callee back for ever.
    drop(lease);
    let _called = generation.call();
    let replaced = async {
        worker.replaced(&generation).await;
        tokio::time::sleep(LAST_CALLS).await;
    };
    tokio::select! {
        _ = pass(&mut caller, &mut callee, &generation) => {}
        () = replaced => {}
    }
}
