//! Response bodies.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use skep_fleet::Lease;
use skep_wire::{Body, BoxError, ClientBody};

use crate::decode::Decoded;

/// A response's body: the cell's, as it comes, or our own.
#[derive(Debug)]
pub enum EdgeBody {
    /// From a cell; the lease counts the request in until the body has been sent.
    Cell(ClientBody, Lease),
    /// From a cell, decoded for a client that does not take its encoding.
    Decoded(Box<Decoded<ClientBody>>, Lease),
    /// Sent by us for a cell.
    Sent(Body, Lease),
    /// From us.
    Own(Body),
}

impl http_body::Body for EdgeBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Cell(body, _) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Decoded(body, _) => body.poll_frame(cx),
            Self::Sent(body, _) | Self::Own(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Cell(body, _) => body.is_end_stream(),
            Self::Decoded(body, _) => body.is_end_stream(),
            Self::Sent(body, _) | Self::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Cell(body, _) => body.size_hint(),
            Self::Decoded(..) => SizeHint::default(),
            Self::Sent(body, _) | Self::Own(body) => body.size_hint(),
        }
    }
}
