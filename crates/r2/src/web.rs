//! A bucket as a web site: its objects by their paths, to be read by anybody
//! (<https://developers.cloudflare.com/r2/buckets/public-buckets/>).
//!
//! Whether anybody may is decided by who calls this.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{self, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use percent_encoding::percent_decode_str;
use skep_wire::{Body, Response, SendFile, empty, full, reply};

use crate::bucket::Bucket;
use crate::model::Object;
use crate::ranges::{self, Asked, Range, Span};
use crate::read::GetBody;
use crate::ssec::{self, SsecKey};
use crate::{Conditional, Etag, GetOptions, R2Error, cors};

/// Times that an object may be replaced between the look at it and its content, before the visitor is told to come again.
const TRIES: usize = 5;

/// What a request gets of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Some(Span),
    NotModified,
    Failed,
    NoSuchRange,
}

impl Bucket {
    /// The answer to a visitor's request.
    pub fn visit(&self, head: &Parts) -> Response {
        if head.method == Method::OPTIONS {
            return self.preflight(&head.headers);
        }
        let mut response = match head.method {
            Method::GET | Method::HEAD => self.object(head).unwrap_or_else(|error| refusal(&error)),
            _ => {
                let mut response =
                    page(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", "Objects are only read here.");
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
                response
            }
        };
        response.headers_mut().extend(self.granted(head));
        if head.method == Method::HEAD {
            *response.body_mut() = empty();
        }
        response
    }

    /// The answer to a browser that asks whether a page of another origin may send a request.
    pub fn preflight(&self, headers: &HeaderMap) -> Response {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let (origin, asked) = (text(header::ORIGIN), text(header::ACCESS_CONTROL_REQUEST_METHOD));
        let names = text(header::ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default();
        let rules = self.rules();
        let allowed = origin.zip(asked);
        let allowed =
            allowed.and_then(|(origin, method)| cors::preflight(&rules.cors, origin, method, names));
        let mut response = match allowed {
            Some(_) => reply(StatusCode::NO_CONTENT, empty()),
            None => page(StatusCode::FORBIDDEN, "Forbidden", "This CORS request is not allowed."),
        };
        response.headers_mut().extend(allowed.unwrap_or_default());
        response
    }

    /// What the answer to a request says to the page that it is from.
    pub fn granted(&self, head: &Parts) -> HeaderMap {
        let origin = head.headers.get(header::ORIGIN).and_then(|value| value.to_str().ok());
        cors::granted(&self.rules().cors, origin, head.method.as_str())
    }

    fn object(&self, head: &Parts) -> Result<Response, R2Error> {
        let path = head.uri.path();
        let path = path.strip_prefix('/').unwrap_or(path);
        let key = percent_decode_str(path).decode_utf8().map_err(|_| R2Error::no_such_key())?;
        self.serve(&key, head, None).map(|(_, response)| response)
    }

    /// An object, and the answer to a GET or HEAD of it with its conditions and range: statuses 200, 206, 304, 412 and 416. 10007 if
    /// there is none.
    pub fn serve(
        &self,
        key: &str,
        head: &Parts,
        ssec: Option<&SsecKey>,
    ) -> Result<(Object, Response), R2Error> {
        for _ in 0..TRIES {
            let object = self.head(key)?;
            ssec::check(object.ssec.as_ref(), ssec)?;
            let part = match part(&head.headers, &object) {
                Part::Some(_) | Part::NoSuchRange if head.method == Method::HEAD => Part::Whole,
                part => part,
            };
            let wanted = match part {
                Part::Whole if head.method == Method::GET => None,
                Part::Some(span) if head.method == Method::GET => Some(span),
                _ => {
                    let response = answer(&object, part, empty());
                    return Ok((object, response));
                }
            };
            let only_if = Conditional {
                etag_matches: Some(vec![Etag::Strong { value: object.etag.clone() }]),
                ..Conditional::default()
            };
            let range = wanted.map(|Span { offset, length }| Range::From {
                offset: i64::try_from(offset).ok(),
                length: i64::try_from(length).ok(),
            });
            match self.get(key, &GetOptions { range, only_if, ssec: ssec.cloned() }) {
                Ok(found) => {
                    let body = match found.body {
                        GetBody::Whole(bytes) => full(bytes),
                        GetBody::Pieces(pieces) => skep_wire::stream(pieces),
                    };
                    let mut response = answer(&found.object, part, body);
                    let length = found.object.range.map_or(0, |span| span.length);
                    if let Some(stored) = found.stored {
                        response.extensions_mut().insert(SendFile::new(length, stored));
                    }
                    return Ok((found.object, response));
                }
                // It was replaced in between.
                Err(error) if error.status() == StatusCode::PRECONDITION_FAILED => {}
                Err(error) => return Err(error),
            }
        }
        Err(R2Error::unavailable())
    }
}

/// What of an object a request gets: RFC 9110 §13.2.2 and §14.2. Pure.
fn part(headers: &HeaderMap, object: &Object) -> Part {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let date = |name| text(name).and_then(|text| httpdate::parse_http_date(text).ok());
    // Dates have seconds.
    let modified =
        UNIX_EPOCH + Duration::from_secs(u64::try_from(object.uploaded / 1000).unwrap_or_default());
    let named = |list: &str, weak: bool| names(list, &object.etag, weak);
    match (text(header::IF_MATCH), date(header::IF_UNMODIFIED_SINCE)) {
        (Some(list), _) if !named(list, false) => return Part::Failed,
        (None, Some(since)) if modified > since => return Part::Failed,
        _ => {}
    }
    match (text(header::IF_NONE_MATCH), date(header::IF_MODIFIED_SINCE)) {
        (Some(list), _) if named(list, true) => return Part::NotModified,
        (None, Some(since)) if modified <= since => return Part::NotModified,
        _ => {}
    }
    let still = text(header::IF_RANGE).is_none_or(|validator| {
        let at = httpdate::parse_http_date(validator).ok();
        at.map_or_else(|| named(validator, false), |at| at == modified)
    });
    match text(header::RANGE).filter(|_| still).map(|range| ranges::asked(range, object.size)) {
        None | Some(Asked::Nothing) => Part::Whole,
        Some(Asked::Part(span)) => Part::Some(span),
        Some(Asked::PastTheEnd) => Part::NoSuchRange,
    }
}

/// Whether a list of etags has this one.
fn names(list: &str, etag: &str, weak_too: bool) -> bool {
    list.split(',').map(str::trim).any(|one| {
        let (weak, quoted) = one.strip_prefix("W/").map_or((false, one), |quoted| (true, quoted));
        let same = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) == Some(etag);
        one == "*" || same && (weak_too || !weak)
    })
}

fn answer(object: &Object, part: Part, body: Body) -> Response {
    let (status, length) = match part {
        Part::Whole => (StatusCode::OK, Some(object.size)),
        Part::Some(span) => (StatusCode::PARTIAL_CONTENT, Some(span.length)),
        Part::NotModified => (StatusCode::NOT_MODIFIED, None),
        Part::Failed => {
            return page(
                StatusCode::PRECONDITION_FAILED,
                "Precondition Failed",
                "The object is another one.",
            );
        }
        Part::NoSuchRange => {
            let mut response = page(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "Range Not Satisfiable",
                "The object is not that long.",
            );
            insert(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{}", object.size));
            return response;
        }
    };
    let mut response = reply(status, body);
    let headers = response.headers_mut();
    let fields = object.http_fields.clone().unwrap_or_default();
    let expires = fields.cache_expiry.and_then(date);
    let kept = [
        (header::CONTENT_LANGUAGE, fields.content_language),
        (header::CONTENT_DISPOSITION, fields.content_disposition),
        (header::CONTENT_ENCODING, fields.content_encoding),
        (header::CACHE_CONTROL, fields.cache_control),
        (header::EXPIRES, expires),
        (header::LAST_MODIFIED, date(object.uploaded)),
        (header::ETAG, Some(format!("\"{}\"", object.etag))),
    ];
    for (name, value) in kept.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        insert(headers, name, &value);
    }
    if let Some(length) = length {
        insert(
            headers,
            header::CONTENT_TYPE,
            fields.content_type.as_deref().unwrap_or("application/octet-stream"),
        );
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    if let Part::Some(Span { offset, length }) = part {
        let range = format!("bytes {offset}-{}/{}", offset + length - 1, object.size);
        insert(headers, header::CONTENT_RANGE, &range);
    }
    response
}

/// A header that an object brings may be none that HTTP takes: then it is left out.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
        headers.insert(name, value);
    }
}

/// Milliseconds since 1970 as HTTP has dates.
fn date(ms: i64) -> Option<String> {
    let at: SystemTime = UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(ms).ok()?))?;
    // The year 9999 is the last that it can write.
    (ms < 253_402_300_800_000).then(|| httpdate::fmt_http_date(at))
}

fn refusal(error: &R2Error) -> Response {
    match error.status() {
        StatusCode::NOT_FOUND => page(
            StatusCode::NOT_FOUND,
            "Object not found",
            "This object does not exist or is not publicly accessible at this URL. Check the URL of the object that \
             you are looking for, or ask its owner to make it public.",
        ),
        // A key that no object can have is that of none.
        _ if error.code() == R2Error::invalid_object_name().code() => refusal(&R2Error::no_such_key()),
        status => page(status, status.canonical_reason().unwrap_or("Error"), error.message()),
    }
}

fn page(status: StatusCode, title: &str, text: &str) -> Response {
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\
         <body><h1>{title}</h1><p>{text}</p></body></html>\n"
    );
    let mut response = reply(status, full(html));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> Object {
        Object {
            name: "k".into(),
            version: "v".into(),
            size: 10,
            etag: "e".into(),
            uploaded: 1_700_000_000_999,
            http_fields: None,
            custom_fields: None,
            range: None,
            checksums: Default::default(),
            storage_class: Default::default(),
            ssec: None,
        }
    }

    fn of(pairs: &[(&'static str, &'static str)]) -> Part {
        let headers = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        part(&headers.collect(), &object())
    }

    const AT: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
    const BEFORE: &str = "Tue, 14 Nov 2023 22:13:19 GMT";

    #[test]
    fn conditions_go_before_ranges() {
        let some = |offset, length| Part::Some(Span { offset, length });
        for (headers, expected) in [
            (&[][..], Part::Whole),
            (&[("if-match", "\"x\", \"e\"")], Part::Whole),
            (&[("if-match", "*")], Part::Whole),
            (&[("if-match", "W/\"e\"")], Part::Failed),
            (&[("if-match", "\"e\""), ("if-unmodified-since", BEFORE)], Part::Whole),
            (&[("if-unmodified-since", BEFORE)], Part::Failed),
            (&[("if-unmodified-since", AT)], Part::Whole),
            (&[("if-none-match", "W/\"e\"")], Part::NotModified),
            (&[("if-none-match", "\"x\""), ("if-modified-since", AT)], Part::Whole),
            (&[("if-modified-since", AT)], Part::NotModified),
            (&[("if-modified-since", BEFORE)], Part::Whole),
            (&[("if-modified-since", "yesterday")], Part::Whole),
            (&[("range", "bytes=2-4")], some(2, 3)),
            (&[("range", "bytes=2-4"), ("if-none-match", "\"e\"")], Part::NotModified),
            (&[("range", "bytes=2-4"), ("if-range", "\"e\"")], some(2, 3)),
            (&[("range", "bytes=2-4"), ("if-range", "\"x\"")], Part::Whole),
            (&[("range", "bytes=2-4"), ("if-range", AT)], some(2, 3)),
            (&[("range", "bytes=2-4"), ("if-range", BEFORE)], Part::Whole),
            (&[("range", "bytes=10-")], Part::NoSuchRange),
            (&[("range", "bytes=4-2")], Part::Whole),
            (&[("range", "lines=1-2")], Part::Whole),
        ] {
            assert_eq!(of(headers), expected, "{headers:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_headers_are_answered(name in 0usize..7, value in "[ -~]{0,40}") {
            let name = [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_RANGE, header::RANGE,
                header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE, header::ORIGIN][name].clone();
            let headers = HeaderMap::from_iter([
                (name, HeaderValue::try_from(value).unwrap()),
                (header::RANGE, HeaderValue::from_static("bytes=1-")),
            ]);
            if let Part::Some(span) = part(&headers, &object()) {
                proptest::prop_assert!(span.length > 0 && span.offset + span.length <= 10);
            }
        }
    }
}
