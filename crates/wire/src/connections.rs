//! Connections of a cell that speak protocols of their own.

use std::sync::Arc;

use skep_runtime::Shutdown;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use crate::server::accept;
use crate::{BoxFuture, Socket};

/// What takes connections of a cell that speak a protocol of their own.
pub trait Connections: Send + Sync + 'static {
    /// Takes one, until it is over.
    fn serve(&self, connection: Socket) -> BoxFuture<'_, ()>;
}

/// Connections of one socket that are served at once; others wait in the kernel.
const MOST: usize = 256;

/// Serves connections on `listener` until `shutdown`, which ends them.
pub async fn serve_connections(listener: UnixListener, service: Arc<dyn Connections>, shutdown: Shutdown) {
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let place = tokio::select! {
            () = shutdown.requested() => return,
            place = places.clone().acquire_owned() => place,
        };
        let Some(stream) = accept(&listener, &shutdown).await else { return };
        let (service, shutdown) = (service.clone(), shutdown.clone());
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = shutdown.requested() => {}
                () = service.serve(stream) => {}
            }
        });
    }
}
