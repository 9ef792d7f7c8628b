//! Responses that name what Skep sends for their cell.

use http::{HeaderValue, Response, header};
use http_body::Body as _;
use skep_fleet::{Lease, Offered};
use skep_wire::{Body, SENDFILE_HEADER};

/// A response that names content which nobody has, or has any more.
#[derive(Debug)]
pub(crate) struct Gone;

/// The content that a cell's response names, if it does; the response is its head then.
pub(crate) fn take<B>(response: &mut Response<B>, lease: &Lease) -> Result<Option<Body>, Gone> {
    let headers = response.headers_mut();
    let Some(name) = headers.remove(SENDFILE_HEADER) else { return Ok(None) };
    let find = |name: HeaderValue| lease.generation().offered(name.to_str().ok()?);
    // What a script writes into that header itself is nobody's, too.
    let file = match find(name).ok_or(Gone)? {
        Offered::File(file) => file,
        Offered::Body(body) => {
            match body.size_hint().exact() {
                Some(length) => headers.insert(header::CONTENT_LENGTH, length.into()),
                None => headers.remove(header::CONTENT_LENGTH),
            };
            return Ok(Some(body));
        }
    };
    headers.insert(header::CONTENT_LENGTH, file.length().into());
    let body = file.body().map_err(|error| {
        tracing::warn!(%error, "an object cannot be sent");
        Gone
    })?;
    response.extensions_mut().insert(file);
    Ok(Some(body))
}
