//! The calls of one cell, which are served where they hold nobody up.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use skep_runtime::Shutdown;
use tokio::net::UnixListener;
use tokio::runtime::Handle;

use crate::lanes::{Lane, is_lane};
use crate::server::{End, accept, general, plain};
use crate::serving::Parts;
use crate::share::Meter;
use crate::{BoxFuture, Request, Response, Service, Serving, Socket};

/// Bodies of calls that are read whole before the call is looked at.
const SMALL: usize = 64 << 10;

/// Serves `service` to one cell on `listener` until `shutdown`. A cell that uses much of the event loop is served by a thread
/// of its own, from its next calls on, until it is quiet again.
pub async fn serve_cell(listener: UnixListener, service: Arc<dyn Service>, shutdown: Shutdown) {
    let cell = Arc::new(CellCalls {
        service,
        shutdown: shutdown.clone(),
        meter: Meter::new(),
        home: Handle::current(),
        lane: Mutex::default(),
    });
    while let Some(stream) = accept(&listener, &shutdown).await {
        let work = Box::pin(cell.clone().serve(Serving::new(stream, SMALL), None));
        tokio::spawn(Metered { work, cell: cell.clone() });
    }
}

/// What a cell's connections share.
struct CellCalls {
    service: Arc<dyn Service>,
    shutdown: Shutdown,
    meter: Meter,
    /// Where everybody is served.
    home: Handle,
    /// Where it is served while it is noisy.
    lane: Mutex<Option<Arc<Lane>>>,
}

/// A connection on its way to another thread.
struct Moving {
    parts: Parts<std::os::unix::net::UnixStream>,
    /// What was read and is not answered yet.
    first: Option<Box<http::Request<Bytes>>>,
}

impl CellCalls {
    /// Whether it is served in the wrong place.
    fn is_misplaced(&self) -> bool {
        self.meter.is_noisy() != is_lane()
    }

    /// Serves a connection, here and wherever it has to be.
    async fn serve(self: Arc<Self>, mut serving: Serving<Socket>, first: Option<Box<http::Request<Bytes>>>) {
        let misplaced = || self.is_misplaced();
        match plain(&mut serving, None, &*self.service, &self.shutdown, first, misplaced).await {
            Ok(End::Other) => {
                let (this, service) = (self.clone(), self.service.clone());
                let misplaced = move || this.is_misplaced();
                general(serving.into_rest(), None, service, self.shutdown.clone(), misplaced).await;
            }
            Ok(End::Over) => serving.close().await,
            Ok(End::Elsewhere(first)) => {
                self.go(Moving { parts: serving.into_parts().map(Socket::into_std), first });
            }
            Err(error) => tracing::debug!(%error, "a connection ended early"),
        }
    }

    /// Takes a connection to where the cell is served now.
    fn go(self: Arc<Self>, moving: Moving) {
        let lane = {
            let mut lane = self.lane.lock().unwrap_or_else(PoisonError::into_inner);
            *lane = match self.meter.is_noisy() {
                true => lane.take().or_else(Lane::find),
                false => None,
            };
            lane.clone()
        };
        let handle = lane.as_ref().map_or(&self.home, |lane| lane.handle());
        let this = self.clone();
        let work = Box::pin(async move {
            let Moving { parts, first } = moving;
            // It is watched by the loop that it is registered in.
            match parts.try_map(Socket::from_std) {
                Ok(parts) => this.serve(Serving::from_parts(parts), first).await,
                Err(error) => tracing::warn!(%error, "cannot watch a cell's connection"),
            }
        });
        handle.spawn(Metered { work, cell: self.clone() });
    }
}

/// Work for a cell, whose time is counted.
struct Metered {
    work: BoxFuture<'static, ()>,
    cell: Arc<CellCalls>,
}

impl Future for Metered {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let start = Instant::now();
        let done = self.work.as_mut().poll(cx);
        self.cell.meter.count(start, !is_lane());
        done
    }
}

/// A service that is always called where everybody is served, also for a noisy cell: it hands out what others use as well, such as
/// connections, whose events come in the loop that they were opened in.
pub struct AtHome {
    service: Arc<dyn Service>,
    home: Handle,
}

impl AtHome {
    /// `service`, for calls where this is called.
    pub fn new(service: Arc<dyn Service>) -> Self {
        Self { service, home: Handle::current() }
    }
}

/// Ends a task when nobody waits for it any more.
struct Task(tokio::task::JoinHandle<Response>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Service for AtHome {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        if !is_lane() {
            return self.service.call(request);
        }
        let service = self.service.clone();
        let mut task = Task(self.home.spawn(async move { service.call(request).await }));
        Box::pin(async move {
            let failed = |_| crate::reason(http::StatusCode::INTERNAL_SERVER_ERROR, "internal error");
            (&mut task.0).await.unwrap_or_else(failed)
        })
    }
}

#[cfg(test)]
#[path = "cell_tests.rs"]
mod tests;
