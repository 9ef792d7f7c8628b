//! What the edge adds to a request, and what it must not let through.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Version};
use serde_json::{Map, Value as Json, json};
pub(crate) use skep_fleet::RAY;
use skep_fleet::{CF_HEADER, PROTO_HEADER};
use skep_wire::{Entered, write_header};

use crate::places::Places;

const CF: HeaderName = HeaderName::from_static(CF_HEADER);
const PROTO: HeaderName = HeaderName::from_static(PROTO_HEADER);
const CONNECTING_IP: HeaderName = HeaderName::from_static("cf-connecting-ip");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const VISITOR: HeaderName = HeaderName::from_static("cf-visitor");
const COUNTRY: HeaderName = HeaderName::from_static("cf-ipcountry");

/// So many headers are added to a request.
const ADDED: usize = 9;

/// What is reserved for a request's own headers.
const ROOM: usize = 512;

/// Names that belong to one connection (RFC 9110 §7.6.1) and are not passed on.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    HeaderName::from_static("keep-alive"),
];

/// A connection's TLS.
#[derive(Clone, Debug)]
pub(crate) struct Secured {
    /// `TLSv1.3`
    pub version: &'static str,
    /// The cipher suite.
    pub cipher: String,
}

/// What is the same for all requests of a connection.
#[derive(Debug)]
pub(crate) struct Visitor {
    /// `http` or `https`.
    pub scheme: &'static str,
    ip: HeaderValue,
    /// `CF-Visitor`.
    visitor: HeaderValue,
    /// `CF-IPCountry`, where it can be known: a code of two letters, `XX` for an address that is nowhere.
    country: Option<HeaderValue>,
    http1: HeaderValue,
    http2: HeaderValue,
    /// The last `Accept-Encoding` and what it made of `cf`: a client sends the same with every request.
    last: Mutex<Option<[HeaderValue; 3]>>,
    /// The last `Accept-Encoding`, and all that [`Visitor::prepare`] adds to a request over HTTP/1.1 but the ray, as lines.
    lines: Mutex<Option<Lines>>,
    /// Its connection, counted for as long as anything goes over it.
    open: Option<Arc<Entered>>,
}

/// An `Accept-Encoding`, and the lines that it leads to.
type Lines = (Option<HeaderValue>, Arc<[u8]>);

impl Visitor {
    /// The address that it comes from.
    pub(crate) fn address(&self) -> &str {
        self.ip.to_str().unwrap_or_default()
    }

    pub(crate) fn new(ip: IpAddr, timezone: &str, secured: Option<Secured>, places: Option<&Places>) -> Self {
        let ip = ip.to_canonical();
        let value = |text: String| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
        let place = places.map(|places| places.of(ip));
        let country = place.as_ref().map(|place| place.get("country").and_then(Json::as_str).unwrap_or("XX"));
        let country = country.map(|country| value(country.to_owned()));
        let place = place.unwrap_or_default();
        let cf = |protocol: &str| value(cf_json(protocol, timezone, secured.as_ref(), place.clone()));
        let (scheme, visitor) = match secured {
            None => ("http", HeaderValue::from_static("{\"scheme\":\"http\"}")),
            Some(_) => ("https", HeaderValue::from_static("{\"scheme\":\"https\"}")),
        };
        Self {
            scheme,
            visitor,
            ip: value(ip.to_string()),
            country,
            http1: cf("HTTP/1.1"),
            http2: cf("HTTP/2"),
            last: Mutex::default(),
            lines: Mutex::default(),
            open: None,
        }
    }

    /// Whose connection this is.
    pub(crate) fn on(self, open: Arc<Entered>) -> Self {
        Self { open: Some(open), ..self }
    }

    /// For what goes on over the connection when HTTP does not.
    pub(crate) fn open(&self) -> Option<Arc<Entered>> {
        self.open.clone()
    }

    /// `cf` with the visitor's own encodings.
    fn with_encoding(&self, cf: &HeaderValue, original: HeaderValue) -> HeaderValue {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some([before, encoding, filled]) = &*last
            && before == cf
            && *encoding == original
        {
            return filled.clone();
        }
        let filled = with_encoding(cf, &original);
        *last = Some([cf.clone(), original, filled.clone()]);
        filled
    }

    /// The head of a request over HTTP/1.1 without a body, as a worker is sent it; `None` where [`Visitor::prepare`] has to think.
    pub(crate) fn head(&self, parts: &Parts, ray: &HeaderValue) -> Option<Vec<u8>> {
        let mut connection = parts.headers.get_all(header::CONNECTION).iter();
        let is_plain = connection.all(|said| said.as_bytes().eq_ignore_ascii_case(b"keep-alive"))
            && parts.version == Version::HTTP_11
            && parts.uri.authority().is_none();
        let path = parts.uri.path_and_query().filter(|path| is_plain && path.as_str().starts_with('/'))?;
        let lines = self.lines(parts.headers.get(header::ACCEPT_ENCODING));
        let mut head = Vec::with_capacity(lines.len() + path.as_str().len() + ROOM);
        for part in [parts.method.as_str(), " ", path.as_str(), " HTTP/1.1\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
        let mut write = |name: &HeaderName, value: &HeaderValue| {
            write_header(&mut head, name.as_str().as_bytes(), value.as_bytes());
        };
        for (name, value) in parts.headers.iter().filter(|(name, _)| passes(name)) {
            // There is no body, whatever was said of it.
            if name != header::CONTENT_LENGTH || value == "0" {
                write(name, value);
            }
        }
        write(&RAY, ray);
        head.extend_from_slice(&lines);
        head.extend_from_slice(b"\r\n");
        Some(head)
    }

    /// What is added to a request, for the visitor's own `Accept-Encoding`.
    fn lines(&self, encoding: Option<&HeaderValue>) -> Arc<[u8]> {
        let mut last = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, lines)) = &*last
            && before.as_ref() == encoding
        {
            return lines.clone();
        }
        let mut headers = HeaderMap::new();
        headers.extend(encoding.map(|encoding| (header::ACCEPT_ENCODING, encoding.clone())));
        self.prepare(&mut headers, Version::HTTP_11, &HeaderValue::from_static(""));
        headers.remove(RAY);
        let mut written = Vec::new();
        for (name, value) in &headers {
            write_header(&mut written, name.as_str().as_bytes(), value.as_bytes());
        }
        let lines: Arc<[u8]> = written.into();
        *last = Some((encoding.cloned(), lines.clone()));
        lines
    }

    /// Turns a visitor's headers into those that a worker sees.
    pub(crate) fn prepare(&self, headers: &mut HeaderMap, version: Version, ray: &HeaderValue) {
        strip_request(headers);
        // Once, not as they come.
        headers.reserve(ADDED);
        let cf = if version == Version::HTTP_2 { &self.http2 } else { &self.http1 };
        // What the worker makes is decoded for a client that does not take it.
        let cf = match headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("br, gzip")) {
            Some(original) => self.with_encoding(cf, original),
            None => cf.clone(),
        };
        headers.insert(CF, cf);
        headers.insert(PROTO, HeaderValue::from_static(self.scheme));
        headers.insert(CONNECTING_IP, self.ip.clone());
        headers.insert(REAL_IP, self.ip.clone());
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(self.scheme));
        headers.insert(VISITOR, self.visitor.clone());
        if let Some(country) = &self.country {
            headers.insert(COUNTRY, country.clone());
        }
        headers.insert(RAY, ray.clone());
    }
}

/// `request.cf` on a machine that is no Cloudflare data centre: what is known, nothing invented. `colo` is
/// a code that no airport has.
fn cf_json(protocol: &str, timezone: &str, secured: Option<&Secured>, place: Map<String, Json>) -> String {
    let known = json!({
        "colo": "LOC",
        "httpProtocol": protocol,
        "timezone": timezone,
        "requestPriority": "",
        "edgeRequestKeepAliveStatus": 1,
        "tlsVersion": secured.map_or("", |s| s.version),
        "tlsCipher": secured.map_or("", |s| s.cipher.as_str()),
    });
    let mut cf = Map::new();
    cf.extend(known.as_object().cloned().into_iter().flatten());
    cf.extend(place);
    // The last one: `with_encoding` fills it in.
    cf.insert("clientAcceptEncoding".to_owned(), "".into());
    ascii(&Json::from(cf).to_string())
}

/// JSON without letters that a header may not have.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            ' '..='~' => text.push(letter),
            _ => letter
                .encode_utf16(&mut [0; 2])
                .iter()
                .for_each(|unit| text.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    text
}

/// `request.cf` with the visitor's own `Accept-Encoding`, which the header does not say any more.
fn with_encoding(cf: &HeaderValue, original: &HeaderValue) -> HeaderValue {
    let filled = || {
        let start = cf.to_str().ok()?.strip_suffix("\"\"}")?;
        let original = serde_json::Value::from(original.to_str().ok()?);
        HeaderValue::try_from(format!("{start}{original}}}")).ok()
    };
    filled().unwrap_or_else(|| cf.clone())
}

/// Whether a visitor's header of this name reaches a worker as it is; for requests whose `Connection` names no others.
fn passes(name: &HeaderName) -> bool {
    let replaced = [&header::ACCEPT_ENCODING, &REAL_IP, &FORWARDED_PROTO, &header::UPGRADE];
    !HOP_BY_HOP.contains(name) && !replaced.contains(&name) && !is_ours(name)
}

/// Whether workers trust the edge by this name.
fn is_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with("cf-") || name.as_str().starts_with("x-skep-")
}

/// Whether a header of this name in a cell's response belongs to the connection between us, or is the edge's to write.
pub(crate) fn stays_behind(name: &str) -> bool {
    HOP_BY_HOP.iter().chain([&RAY]).any(|other| name.eq_ignore_ascii_case(other.as_str()))
}

/// Removes hop-by-hop headers, and all names by which workers trust the edge.
fn strip_request(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = match headers.get(header::CONNECTION) {
        Some(value) if value.as_bytes() != b"keep-alive" && value.as_bytes() != b"close" => listed(value),
        _ => Vec::new(),
    };
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
    if headers.keys().any(is_ours) {
        let forged: Vec<HeaderName> = headers.keys().filter(|name| is_ours(name)).cloned().collect();
        for name in forged {
            headers.remove(name);
        }
    }
}

fn listed(connection: &HeaderValue) -> Vec<HeaderName> {
    let names = connection.to_str().unwrap_or_default().split(',');
    names.filter_map(|name| HeaderName::try_from(name.trim()).ok()).filter(|n| n != header::UPGRADE).collect()
}

/// Removes from a cell's response what belongs to the connection between us.
pub(crate) fn strip_response(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// HTTP/2 has `:authority` for `Host`, and may split `Cookie` (RFC 9113 §8.2.3).
pub(crate) fn normalise_http2(headers: &mut HeaderMap, authority: Option<&str>) {
    if let Some(host) = authority.and_then(|a| HeaderValue::try_from(a).ok()) {
        headers.insert(header::HOST, host);
    }
    if headers.get_all(header::COOKIE).iter().nth(1).is_some() {
        let parts: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(cookie) = HeaderValue::from_bytes(&parts.join(&b"; "[..])) {
            headers.insert(header::COOKIE, cookie);
        }
    }
}

/// The place of all edges that are Skep's, at the end of their rays: a code that no airport has.
const PLACE: &[u8] = b"-LOC";

/// Whether an edge of Skep's has named a request so.
pub(crate) fn is_an_edges(ray: &HeaderValue) -> bool {
    ray.as_bytes().ends_with(PLACE)
}

/// A request id in the form of Cloudflare's: 16 hexadecimal digits and a place.
pub(crate) fn new_ray() -> HeaderValue {
    static STATE: AtomicU64 = AtomicU64::new(0);
    let mut seed = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    if seed == 0 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64);
        seed = STATE.fetch_add(now | 1, Ordering::Relaxed).wrapping_add(now);
    }
    // splitmix64: unique, not secret.
    let mut z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let id = z ^ (z >> 31);
    let mut text = *b"0000000000000000-LOC";
    for (n, byte) in text.iter_mut().take(16).enumerate() {
        *byte = b"0123456789abcdef"[(id >> (60 - 4 * n)) as usize & 15];
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("0000000000000000-LOC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visitor_cannot_pose_as_the_edge() {
        let visitor = Visitor::new("127.0.0.1".parse().unwrap(), "UTC", None, None);
        let mut headers = HeaderMap::new();
        for name in ["cf-connecting-ip", "x-skep-cf", "x-skep-binding", "cf-worker", "x-real-ip", "x-secret"]
        {
            headers.insert(name, HeaderValue::from_static("forged"));
        }
        headers.insert("connection", HeaderValue::from_static("close, x-secret"));
        visitor.prepare(&mut headers, Version::HTTP_11, &new_ray());
        assert!(headers.values().all(|value| value != "forged"), "{headers:?}");
        assert_eq!(headers["cf-connecting-ip"], "127.0.0.1");
    }

    #[test]
    fn a_place_in_any_script_fits_a_header() {
        let place = Map::from_iter([("city".to_owned(), Json::from("Zürich 🏔"))]);
        let cf = cf_json("HTTP/2", "UTC", None, place);
        let value = HeaderValue::try_from(&cf).unwrap();
        let filled = with_encoding(&value, &HeaderValue::from_static("br"));
        let read: Json = serde_json::from_str(filled.to_str().unwrap()).unwrap();
        assert_eq!(read["city"], "Zürich 🏔");
        assert_eq!(read["clientAcceptEncoding"], "br");
    }

    proptest::proptest! {
        /// A head that is written says what the headers say that are prepared.
        #[test]
        fn a_head_is_what_is_prepared(
            headers in proptest::collection::vec(
                (
                    "(host|accept-encoding|connection|te|keep-alive|cookie|content-length|x-real-ip|x-forwarded-proto|cf-ray|cf-x|x-skep-cf|x|upgrade|proxy-authorization)",
                    "(keep-alive|close|x|0|1|gzip, br)",
                ),
                0..6,
            ),
        ) {
            let visitor = Visitor::new("127.0.0.1".parse().unwrap(), "UTC", None, None);
            let mut request = http::Request::get("/a?b").body(()).unwrap();
            for (name, value) in &headers {
                let name = HeaderName::try_from(name.as_str()).unwrap();
                request.headers_mut().append(name, HeaderValue::try_from(value.as_str()).unwrap());
            }
            let (mut parts, ()) = request.into_parts();
            let ray = new_ray();
            let sorted = |lines: Vec<String>| {
                let mut lines = lines;
                lines.sort();
                lines
            };
            if let Some(head) = visitor.head(&parts, &ray) {
                let text = String::from_utf8(head).unwrap();
                let lines = text.strip_prefix("GET /a?b HTTP/1.1\r\n").unwrap().strip_suffix("\r\n\r\n").unwrap();
                visitor.prepare(&mut parts.headers, Version::HTTP_11, &ray);
                parts.headers.remove(header::UPGRADE);
                let prepared = parts.headers.iter().filter(|(name, value)| *name != header::CONTENT_LENGTH || *value == "0");
                let prepared = prepared.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
                let lines = lines.split("\r\n").map(str::to_owned).collect();
                proptest::prop_assert_eq!(sorted(lines), sorted(prepared.collect()));
            } else {
                let said: Vec<&String> = headers.iter().filter(|(name, _)| name == "connection").map(|(_, v)| v).collect();
                proptest::prop_assert!(said.iter().any(|said| *said != "keep-alive"));
            }
        }
    }

    #[test]
    fn rays_differ() {
        let rays: std::collections::HashSet<_> = (0..1000).map(|_| new_ray()).collect();
        assert_eq!(rays.len(), 1000);
        assert!(rays.iter().all(|r| r.len() == 20));
    }

    #[test]
    fn the_visitors_own_encodings_are_in_cf() {
        let visitor = Visitor::new(IpAddr::from([127, 0, 0, 1]), "UTC", None, None);
        let seen = |own: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.extend(own.map(|own| (header::ACCEPT_ENCODING, HeaderValue::from_static(own))));
            visitor.prepare(&mut headers, Version::HTTP_11, &new_ray());
            let cf: serde_json::Value = serde_json::from_slice(headers[CF].as_bytes()).unwrap();
            (
                headers[header::ACCEPT_ENCODING].clone(),
                cf["clientAcceptEncoding"].as_str().unwrap().to_owned(),
            )
        };
        assert_eq!(seen(Some("zstd, \"a")), ("br, gzip".parse().unwrap(), "zstd, \"a".into()));
        assert_eq!(seen(None), ("br, gzip".parse().unwrap(), String::new()));
    }
}
