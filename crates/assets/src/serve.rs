//! From a decision to a response.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use skep_wire::{Body, Response, SendFile, empty, full, reply};

use crate::asset::{Content, ContentError, FilePart};
use crate::config::{AssetsConfig, NotFoundHandling};
use crate::encoding::{self, Encoding};
use crate::headers::Matched;
use crate::range::{self, Part};
use crate::site::{Answer, Entry, Site};
use crate::view::View;

/// Browsers ask each time whether their copy is still good.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=0, must-revalidate");
const CF_CACHE_STATUS: HeaderName = HeaderName::from_static("cf-cache-status");
const HIT: HeaderValue = HeaderValue::from_static("HIT");
const BYTES: HeaderValue = HeaderValue::from_static("bytes");
const ACCEPT_ENCODING: HeaderValue = HeaderValue::from_static("accept-encoding");

/// Answers a request from `site`. With `encode`, the body may be compressed.
pub(crate) async fn respond(
    site: &Site,
    config: &AssetsConfig,
    parts: &Parts,
    encode: bool,
) -> Result<Response, ContentError> {
    let view = View::new(parts);
    let answer = site.answer(&view, &parts.method, config.html_handling, config.not_found_handling);
    if site.headers.is_empty() {
        return answer_with(answer, parts, encode).await;
    }
    let url = if site.headers.know_hosts() {
        format!("https://{}{}", view.hostname(), view.pathname)
    } else {
        String::new()
    };
    let rules = site.headers.matching(&view.pathname, &url);
    let mut response = answer_with(answer, parts, encode && rules.leave_encoding()).await?;
    apply(&rules, response.headers_mut());
    Ok(response)
}

/// Applies `_headers`; what shared caches need to keep encodings apart stays.
fn apply(rules: &Matched<'_>, headers: &mut HeaderMap) {
    let varies = headers.contains_key(header::VARY);
    rules.apply(headers);
    let named = |value: &HeaderValue| {
        value.to_str().is_ok_and(|v| v.contains('*') || v.to_ascii_lowercase().contains("accept-encoding"))
    };
    if varies && !headers.get_all(header::VARY).iter().any(named) {
        headers.append(header::VARY, ACCEPT_ENCODING);
    }
}

async fn answer_with(answer: Answer<'_>, parts: &Parts, encode: bool) -> Result<Response, ContentError> {
    match answer {
        Answer::Serve(entry, status) => serve(entry, status, parts, encode).await,
        Answer::Redirect(status, location) => Ok(redirect(status, &location)),
        Answer::NotAllowed => Ok(reply(StatusCode::METHOD_NOT_ALLOWED, empty())),
        Answer::NotFound | Answer::Nothing => Ok(reply(StatusCode::NOT_FOUND, empty())),
        Answer::Broken => Ok(reply(StatusCode::INTERNAL_SERVER_ERROR, empty())),
    }
}

pub(crate) fn redirect(status: StatusCode, location: &str) -> Response {
    match HeaderValue::from_str(location) {
        Ok(location) => {
            let mut response = reply(status, empty());
            response.headers_mut().insert(header::LOCATION, location);
            response
        }
        Err(_) => reply(StatusCode::INTERNAL_SERVER_ERROR, empty()),
    }
}

async fn serve(
    entry: &Entry,
    status: StatusCode,
    parts: &Parts,
    encode: bool,
) -> Result<Response, ContentError> {
    let (asset, request) = (&entry.asset, &parts.headers);
    let ranged = request.contains_key(header::RANGE);
    let negotiated = encode && entry.varies();
    // Ranges are of the file itself, so that its parts fit together.
    let wanted = if negotiated && !ranged { encoding::preferred(request) } else { Encoding::Identity };
    if range::none_match(request, &asset.hash) {
        let mut response = reply(StatusCode::NOT_MODIFIED, empty());
        *response.headers_mut() = head(entry, wanted, negotiated, request);
        return Ok(response);
    }
    let (content, encoding) = content(entry, wanted).await?;
    let size = content.len();
    let part = match (&parts.method, status) {
        (&Method::GET, StatusCode::OK) if ranged => range::part(request, size, asset.etag.as_bytes()),
        _ => Part::Whole,
    };
    let mut headers = HeaderMap::with_capacity(10);
    facts(entry, encoding, negotiated, request, &mut |name: &HeaderName, value: &HeaderValue| {
        headers.insert(name, value.clone());
    });
    let (status, from, to) = match part {
        Part::Whole => (status, 0, size),
        Part::Bytes(from, to) => (StatusCode::PARTIAL_CONTENT, from, to),
        Part::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
    };
    let covered = match part {
        Part::Whole => None,
        Part::Bytes(from, to) => Some(format!("bytes {from}-{}/{size}", to - 1)),
        Part::Unsatisfiable => Some(format!("bytes */{size}")),
    };
    if let Some(value) = covered.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(header::CONTENT_RANGE, value);
    }
    let (body, file) = if parts.method == Method::HEAD {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
        (empty(), None)
    } else {
        body(content, from, to, &mut headers)
    };
    let mut response = reply(status, body);
    *response.headers_mut() = headers;
    if let Some(file) = file {
        response.extensions_mut().insert(file);
    }
    Ok(response)
}

/// The content in the wanted encoding, or as it is where that is not to be had.
async fn content(entry: &Entry, wanted: Encoding) -> Result<(Content, Encoding), ContentError> {
    if wanted != Encoding::Identity {
        if let Some(sibling) = entry.sibling(wanted) {
            return Ok((sibling.content().await?, wanted));
        }
        if let Some(body) = entry.asset.encoded(wanted).await? {
            return Ok((Content::Memory(body), wanted));
        }
    }
    Ok((entry.asset.content().await?, Encoding::Identity))
}

/// The bytes `from..to`; and how the kernel sends them, where they lie in a file.
fn body(content: Content, from: u64, to: u64, headers: &mut HeaderMap) -> (Body, Option<SendFile>) {
    match content {
        Content::Memory(bytes) => {
            let range = usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0);
            (full(if range.len() == bytes.len() { bytes } else { bytes.slice(range) }), None)
        }
        Content::Disk(file, _) => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(to - from));
            let part = FilePart { file, from, to };
            (part.stream(), Some(SendFile::new(to - from, part)))
        }
    }
}

/// The headers of a 304 for a file.
fn head(entry: &Entry, encoding: Encoding, negotiated: bool, request: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(10);
    about(entry, encoding, negotiated, request, &mut |name: &HeaderName, value: &HeaderValue| {
        headers.insert(name, value.clone());
    });
    headers
}

/// Gives `put` the headers of a 200, 206, 404 or 416 for a file.
pub(crate) fn facts(
    entry: &Entry,
    encoding: Encoding,
    negotiated: bool,
    request: &HeaderMap,
    put: &mut impl FnMut(&HeaderName, &HeaderValue),
) {
    about(entry, encoding, negotiated, request, put);
    put(&header::ACCEPT_RANGES, &BYTES);
    if let Some(value) = encoding.header() {
        put(&header::CONTENT_ENCODING, &value);
    }
}

/// Those that a 304 has as well.
fn about(
    entry: &Entry,
    encoding: Encoding,
    negotiated: bool,
    request: &HeaderMap,
    put: &mut impl FnMut(&HeaderName, &HeaderValue),
) {
    let asset = &entry.asset;
    put(&header::ETAG, if encoding == Encoding::Identity { &asset.etag } else { &asset.weak_etag });
    if let Some(kind) = &asset.content_type {
        put(&header::CONTENT_TYPE, kind);
    }
    if !request.contains_key(header::AUTHORIZATION) && !request.contains_key(header::RANGE) {
        put(&header::CACHE_CONTROL, &CACHE_CONTROL);
    }
    put(&CF_CACHE_STATUS, &HIT);
    if negotiated {
        put(&header::VARY, &ACCEPT_ENCODING);
    }
}

/// Whether the assets would answer this request, the worker's wishes aside.
pub(crate) fn can_answer(
    site: &Site,
    config: &AssetsConfig,
    view: &View<'_>,
    method: &Method,
    keep_not_found: bool,
) -> bool {
    let not_found = if keep_not_found { config.not_found_handling } else { NotFoundHandling::None };
    !matches!(site.answer(view, method, config.html_handling, not_found), Answer::Nothing)
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
