//! WebSockets: after the handshake, bytes both ways. When the cell is about to end, the visitor is told so.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use skep_fleet::{Generation, Lease};
use skep_wire::{ClientBody, Entered, empty};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::body::EdgeBody;
use crate::frames::Frames;
use crate::scratch;

/// A close frame with status 1012, Service Restart (RFC 6455 §5.5.1 and the IANA registry).
const RESTART: [u8; 4] = [0x88, 2, 0x03, 0xf4];
/// How long a visitor has to answer a close frame.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Takes the visitor's side of an upgrade out of a request that asks for one.
pub(crate) fn take(parts: &mut Parts) -> Option<OnUpgrade> {
    let asked = parts.headers.get(header::UPGRADE)?.as_bytes().eq_ignore_ascii_case(b"websocket");
    if !asked {
        return None;
    }
    parts.extensions.remove::<OnUpgrade>()
}

/// Joins the visitor with the cell that has agreed to upgrade, and returns the response to the visitor. The visitor's
/// connection stays counted meanwhile.
pub(crate) fn switch(
    visitor: OnUpgrade,
    response: &mut Response<ClientBody>,
    lease: Lease,
    counted: Option<Arc<Entered>>,
) -> Response<EdgeBody> {
    let cell = hyper::upgrade::on(&mut *response);
    tokio::spawn(async move {
        let (visitor, cell) = match tokio::try_join!(visitor, cell) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%error, "a WebSocket handshake was not finished");
                return;
            }
        };
        // A replaced cell waits for requests, not for sockets that may stay open for days.
        let generation = lease.generation().clone();
        let _open = generation.hold();
        drop(lease);
        join(TokioIo::new(visitor), TokioIo::new(cell), &generation).await;
        drop(counted);
    });
    let mut reply = Response::new(EdgeBody::Own(empty()));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *reply.headers_mut() = std::mem::take(response.headers_mut());
    reply
}

async fn join<V, C>(visitor: V, cell: C, generation: &Generation)
where
    V: AsyncRead + AsyncWrite,
    C: AsyncRead + AsyncWrite,
{
    let (mut from_visitor, mut to_visitor) = tokio::io::split(visitor);
    let (mut from_cell, mut to_cell) = tokio::io::split(cell);
    let up = async {
        while let Ok(said) = scratch::read(&mut from_visitor).await
            && !said.is_empty()
        {
            // A message is a use, and gives the code time of its own.
            generation.touch();
            if to_cell.write_all(&said).await.is_err() {
                break;
            }
        }
        let _ = to_cell.shutdown().await;
    };
    let down = async {
        pass_down(&mut from_cell, &mut to_visitor, generation.retired()).await;
        let _ = to_visitor.shutdown().await;
    };
    tokio::pin!(up, down);
    // Whichever side closes first, the other has a moment to say its last.
    tokio::select! {
        () = &mut up => drop(tokio::time::timeout(LAST_WORDS, down).await),
        () = &mut down => drop(tokio::time::timeout(LAST_WORDS, up).await),
    }
}

/// From the cell to the visitor until the cell closes, or, between two frames, until it is `retired`.
async fn pass_down(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    retired: impl Future<Output = ()>,
) {
    let mut frames = Frames::default();
    tokio::pin!(retired);
    loop {
        let read = tokio::select! {
            read = scratch::read(from) => read,
            () = &mut retired, if frames.between() => {
                let _ = to.write_all(&RESTART).await;
                return;
            }
        };
        let Ok(said) = read else { return };
        frames.pass(&said);
        if said.is_empty() || to.write_all(&said).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_retired_cells_last_frame_is_whole_and_then_comes_1012() {
        let (mut cell, mut edge_side) = tokio::io::duplex(64);
        let (mut edge_out, mut visitor) = tokio::io::duplex(64);
        let (retire, retired) = tokio::sync::oneshot::channel::<()>();
        cell.write_all(&[0x81, 2, b'h']).await.unwrap();
        let edge = tokio::spawn(async move {
            let retired = async {
                let _ = retired.await;
            };
            pass_down(&mut edge_side, &mut edge_out, retired).await;
        });
        let mut all = vec![0; 3];
        visitor.read_exact(&mut all).await.unwrap();
        retire.send(()).unwrap();
        tokio::task::yield_now().await;
        cell.write_all(b"i").await.unwrap();
        visitor.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, [&[0x81, 2, b'h', b'i'][..], &RESTART].concat());
        edge.await.unwrap();
    }
}
