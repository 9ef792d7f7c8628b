//! From one cell to another: bytes between two unix sockets.
//!
//! A cell's configuration names a socket of ours, never another cell's: so a callee can be replaced or not
//! be there yet, and a cell reaches nothing that its bindings do not name.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, LazyLock};
use std::task::{Poll, ready};
use std::time::Duration;

use skep_runtime::{Backlog, Bounds, Shutdown, Waiting};
use skep_wire::{Socket, part_of_files};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::UnixListener;

use crate::fleet::Shared;
use crate::generation::Generation;
use crate::render::Link;

/// How long a call may still finish on a callee that has been replaced.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// Calls of all cells to others.
static ALL: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);
/// Calls that a cell may have at once; each takes two of the files that this process may have open. Two scripts that call each other
/// again and again come to an end here, if their memory does not end before; many scripts that do leave half of the files to others.
static OPEN: LazyLock<Bounds> = LazyLock::new(|| {
    // Where there are few files, a script that calls another one for each of its visitors goes before what others might need.
    Bounds {
        own: part_of_files(16).clamp(128, 4096),
        all: part_of_files(8).max(128),
        little: part_of_files(512).max(4),
    }
});

/// The calls of one cell.
pub(crate) struct Calls(Arc<Backlog>);

impl Calls {
    /// None yet.
    pub fn of_a_cell() -> Arc<Self> {
        Arc::new(Self(Backlog::new(ALL.clone())))
    }

    /// Counts one more for as long as the result lives; `None` if there are as many as may be.
    fn begin(&self) -> Option<Waiting> {
        let one = self.0.hold(1);
        (!one.is_over(*OPEN)).then_some(one)
    }
}

/// Passes connections on `listener` on to the script that `link` names, until `stop`; more than `calls` may be are closed.
pub(crate) async fn relay(
    listener: UnixListener,
    link: Link,
    shared: Arc<Shared>,
    calls: Arc<Calls>,
    stop: Shutdown,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.requested() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((caller, _)) => {
                let (Ok(caller), Some(place)) = (Socket::try_from(caller), calls.begin()) else { continue };
                let (link, shared, stop) = (link.clone(), shared.clone(), stop.clone());
                tokio::spawn(async move {
                    let _place = place;
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

/// What is read at once.
const PIECE: usize = 64 << 10;

thread_local! {
    /// Bytes between two sockets, within one look at them: a call that waits for its answer has no buffer, and a script may have
    /// thousands of those.
    static BETWEEN: RefCell<Vec<u8>> = RefCell::new(vec![0; PIECE]);
}

/// Bytes both ways; what the caller sends is a use of the callee.
async fn pass(caller: &mut Socket, callee: &mut Socket, generation: &Generation) -> io::Result<()> {
    let (mut from_caller, mut to_caller) = tokio::io::split(caller);
    let (mut from_callee, mut to_callee) = tokio::io::split(callee);
    let up = one_way(&mut from_caller, &mut to_callee, || generation.touch());
    let down = one_way(&mut from_callee, &mut to_caller, || {});
    tokio::try_join!(up, down).map(|_| ())
}

/// Bytes one way, to their end.
async fn one_way(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    passed: impl Fn(),
) -> io::Result<()> {
    loop {
        let rest = poll_fn(|cx| {
            BETWEEN.with_borrow_mut(|between| {
                let mut piece = ReadBuf::new(between);
                ready!(Pin::new(&mut *from).poll_read(cx, &mut piece))?;
                let piece = piece.filled();
                if piece.is_empty() {
                    return Poll::Ready(Ok(None));
                }
                let written = match Pin::new(&mut *to).poll_write(cx, piece) {
                    Poll::Ready(written) => written?,
                    Poll::Pending => 0,
                };
                Poll::Ready(io::Result::Ok(Some(piece[written..].to_vec())))
            })
        });
        let Some(rest) = rest.await? else { return to.shutdown().await };
        passed();
        if !rest.is_empty() {
            to.write_all(&rest).await?;
        }
    }
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn what_is_sent_arrives_whole_also_where_it_is_read_slowly() {
        let pair = || UnixStream::pair().map(|(a, b)| (a, Socket::try_from(b).unwrap())).unwrap();
        let ((mut sender, mut from), (mut receiver, mut to)) = (pair(), pair());
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let sending = async {
            sender.write_all(&sent).await.unwrap();
            sender.shutdown().await.unwrap();
        };
        let receiving = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let mut all = Vec::new();
            receiver.read_to_end(&mut all).await.unwrap();
            all
        };
        let (_, passed, all) = tokio::join!(sending, one_way(&mut from, &mut to, || {}), receiving);
        passed.unwrap();
        assert!(all == expected);
    }
}
