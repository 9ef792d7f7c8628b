//! A file with its head as one text, for a connection that is sent texts.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use skep_wire::{date, write_header, write_status};

use crate::config::AssetsConfig;
use crate::encoding::{self, Encoding};
use crate::serve::facts;
use crate::site::{Answer, Entry, Site};
use crate::view::View;

/// Longer bodies are not copied.
const MAX_BODY: usize = 16 << 10;
/// What is reserved for the head.
const HEAD: usize = 512;
/// What a request may not have, if its answer is to be a file as it is.
const CONDITIONS: [HeaderName; 2] = [header::RANGE, header::IF_NONE_MATCH];

/// The answer to a request that is nothing but a file which lies in memory, as a message of HTTP/1.1 with the lines of `more`
/// in its head; `None` for all others.
pub(crate) fn text(
    site: &Site,
    config: &AssetsConfig,
    parts: &Parts,
    more: &[&[u8]],
) -> Option<(StatusCode, Vec<u8>)> {
    let is_plain = parts.method == Method::GET
        && site.headers.is_empty()
        && !CONDITIONS.iter().any(|name| parts.headers.contains_key(name));
    if !is_plain {
        return None;
    }
    let view = View::new(parts);
    let answer = site.answer(&view, &parts.method, config.html_handling, config.not_found_handling);
    let Answer::Serve(entry, status) = answer else { return None };
    let negotiated = entry.varies();
    let wanted = if negotiated { encoding::preferred(&parts.headers) } else { Encoding::Identity };
    let (body, encoding) = at_hand(entry, wanted)?;
    if body.len() > MAX_BODY {
        return None;
    }
    let mut text = Vec::with_capacity(HEAD + more.iter().map(|line| line.len()).sum::<usize>() + body.len());
    write_status(&mut text, status, status.canonical_reason().unwrap_or_default().as_bytes());
    write_header(&mut text, b"content-length", body.len().to_string().as_bytes());
    write_header(&mut text, b"date", date().as_bytes());
    facts(entry, encoding, negotiated, &parts.headers, &mut |name: &HeaderName, value: &HeaderValue| {
        write_header(&mut text, name.as_str().as_bytes(), value.as_bytes());
    });
    for piece in more.iter().chain([&b"\r\n"[..], &body].iter()) {
        text.extend_from_slice(piece);
    }
    Some((status, text))
}

/// The content in the wanted encoding, or as it is where that is known not to be had; `None` if something has to be done for it.
fn at_hand(entry: &Entry, wanted: Encoding) -> Option<(Bytes, Encoding)> {
    if wanted != Encoding::Identity {
        if let Some(sibling) = entry.sibling(wanted) {
            return Some((sibling.slot(Encoding::Identity).get()?, wanted));
        }
        if !entry.asset.is_useless(wanted) {
            return Some((entry.asset.slot(wanted).get()?, wanted));
        }
    }
    Some((entry.asset.slot(Encoding::Identity).get()?, Encoding::Identity))
}
