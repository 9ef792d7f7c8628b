//! WebSockets: after the handshake, bytes both ways.

use http::request::Parts;
use http::{Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use skep_fleet::Lease;
use skep_wire::{ClientBody, empty};

use crate::body::EdgeBody;

/// Takes the visitor's side of an upgrade out of a request that asks for one.
pub(crate) fn take(parts: &mut Parts) -> Option<OnUpgrade> {
    let asked = parts.headers.get(header::UPGRADE)?.as_bytes().eq_ignore_ascii_case(b"websocket");
    if !asked {
        return None;
    }
    parts.extensions.remove::<OnUpgrade>()
}

/// Joins the visitor with the cell that has agreed to upgrade, and returns the response to the visitor.
pub(crate) fn switch(
    visitor: OnUpgrade,
    response: &mut Response<ClientBody>,
    lease: Lease,
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
        drop(lease);
        let (mut visitor, mut cell) = (TokioIo::new(visitor), TokioIo::new(cell));
        let _ = tokio::io::copy_bidirectional(&mut visitor, &mut cell).await;
        drop(generation);
    });
    let mut reply = Response::new(EdgeBody::Own(empty()));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *reply.headers_mut() = std::mem::take(response.headers_mut());
    reply
}
