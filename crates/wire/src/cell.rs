//! The calls of one cell, which are served where they hold nobody up, and while it takes what it has asked for.

use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use skep_runtime::{Backlog, Bounds, Shutdown, Waiting};
use tokio::net::UnixListener;
use tokio::runtime::Handle;

use crate::flow::Flow;
use crate::inbox::Inbox;
use crate::lanes::{Lane, is_lane};
use crate::server::{End, Holds, accept, general, plain};
use crate::serving::Parts;
use crate::share::Meter;
use crate::unread;
use crate::{BoxFuture, Request, Response, Service, Serving, Socket};

/// Bodies of calls that are read whole before the call is looked at.
const SMALL: usize = 64 << 10;

/// Connections of all cells.
static CONNECTIONS: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);
/// Connections that a cell may have: it needs one for each answer that it has not read, and each takes one or two of the files that
/// this process may have open.
static OPEN: LazyLock<Bounds> = LazyLock::new(|| Bounds {
    own: part_of_files(8).min(4096),
    all: part_of_files(4),
    little: part_of_files(128),
});

/// One in `of` of the files that this process may have open.
pub fn part_of_files(of: u64) -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    files.map_or(usize::MAX, |files| usize::try_from(files / of).unwrap_or(usize::MAX))
}

/// Serves `service` to one cell on `listener` until `shutdown`. A cell that uses much of the event loop is served by a thread
/// of its own, from its next calls on, until it is quiet again.
pub async fn serve_cell(listener: UnixListener, service: Arc<dyn Service>, shutdown: Shutdown) {
    let cell = Arc::new(CellCalls {
        service,
        shutdown: shutdown.clone(),
        meter: Meter::new(),
        home: Handle::current(),
        lane: Mutex::default(),
        unread: unread::of_a_cell(),
        flow: Arc::default(),
        inbox: Inbox::of_a_cell(),
    });
    let connections = Backlog::new(CONNECTIONS.clone());
    loop {
        // Those that are not taken yet wait in the socket.
        tokio::select! {
            () = shutdown.requested() => return,
            () = connections.ready(*OPEN) => {}
        }
        let Some(stream) = accept(&listener, &shutdown).await else { return };
        let place = connections.hold(1);
        let stream = stream.among(&cell.flow);
        let work = Box::pin(cell.clone().serve(Serving::new(stream, SMALL), None, place));
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
    /// Answers that it has not read.
    unread: Arc<Backlog>,
    /// Sockets that are full.
    flow: Arc<Flow>,
    /// Bodies that are read whole.
    inbox: Inbox,
}

/// A connection on its way to another thread.
struct Moving {
    parts: Parts<std::os::unix::net::UnixStream>,
    /// What was read and is not answered yet.
    first: Option<Box<http::Request<Bytes>>>,
    place: Waiting,
}

impl CellCalls {
    /// Whether it is served in the wrong place.
    fn is_misplaced(&self) -> bool {
        self.meter.is_noisy() != is_lane()
    }

    /// Serves a connection, here and wherever it has to be.
    async fn serve(
        self: Arc<Self>,
        mut serving: Serving<Socket>,
        first: Option<Box<http::Request<Bytes>>>,
        place: Waiting,
    ) {
        let misplaced = || self.is_misplaced();
        let (service, unread) = (&*self.service, Some(&self.unread));
        match plain(&mut serving, None, service, &self.shutdown, first, unread, misplaced).await {
            Ok(End::Other) => {
                let (this, service) = (self.clone(), self.service.clone());
                let misplaced = move || this.is_misplaced();
                let holds = Holds { unread: self.unread.clone(), inbox: self.inbox.clone() };
                general(serving.into_rest(), None, service, self.shutdown.clone(), Some(holds), misplaced)
                    .await;
            }
            Ok(End::Over) => serving.close().await,
            Ok(End::Elsewhere(first)) => {
                self.go(Moving { parts: serving.into_parts().map(Socket::into_std), first, place });
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
            let Moving { parts, first, place } = moving;
            // It is watched by the loop that it is registered in.
            match parts.try_map(Socket::from_std) {
                Ok(parts) => {
                    let parts = parts.map(|socket| socket.among(&this.flow));
                    this.serve(Serving::from_parts(parts), first, place).await;
                }
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
