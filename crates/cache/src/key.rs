//! Which entry a request is about. Pure.

use http::header;
use http::request::Parts;

/// The header in which the engine says whether the URL is `http` or `https` (`forwardedProtoHeader`).
pub const PROTO_HEADER: &str = "x-skep-proto";
/// The header in which the engine sends the request's `cf` as JSON (`cfBlobHeader`).
pub const CF_HEADER: &str = "x-skep-cf";
/// Names the cache of `caches.open(name)`; absent for `caches.default`.
const NAMESPACE_HEADER: &str = "cf-cache-namespace";

/// An entry's key: a hash of the cache's name and of `cf.cacheKey` or the URL.
pub(crate) type Key = [u8; 32];

/// The `cf` blob is not JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadCf;

/// The key of a request. `Vary` has no part in it, as at Cloudflare.
pub(crate) fn key_of(request: &Parts) -> Result<Key, BadCf> {
    let mut hash = blake3::Hasher::new();
    match skep_wire::header_bytes(&request.headers, NAMESPACE_HEADER) {
        Some(name) => {
            hash.update(b"n").update(&(name.len() as u64).to_le_bytes()).update(name);
        }
        None => {
            hash.update(b"d");
        }
    }
    if let Some(key) = custom_key(request)? {
        hash.update(key.as_bytes());
        return Ok(hash.finalize().into());
    }
    let headers = &request.headers;
    hash.update(skep_wire::header_bytes(headers, PROTO_HEADER).unwrap_or(b"http"));
    hash.update(b"://");
    hash.update(skep_wire::header_bytes(headers, header::HOST.as_str()).unwrap_or_default());
    hash.update(request.uri.path_and_query().map_or("/", |path| path.as_str()).as_bytes());
    Ok(hash.finalize().into())
}

/// `cf.cacheKey` as JavaScript's `String()` has it; absent when it is falsy.
fn custom_key(request: &Parts) -> Result<Option<String>, BadCf> {
    #[derive(serde::Deserialize)]
    struct Cf {
        #[serde(default, rename = "cacheKey")]
        cache_key: serde_json::Value,
    }
    let Some(blob) = skep_wire::header_bytes(&request.headers, CF_HEADER) else { return Ok(None) };
    let cf: Option<Cf> = serde_json::from_slice(blob).map_err(|_| BadCf)?;
    Ok(match cf.map(|cf| cf.cache_key) {
        Some(serde_json::Value::String(key)) if !key.is_empty() => Some(key),
        Some(serde_json::Value::Number(key)) if key.as_f64() != Some(0.0) => Some(key.to_string()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(uri: &str, headers: &[(&str, &str)]) -> Key {
        let mut request = http::Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        key_of(&request.body(()).unwrap().into_parts().0).unwrap()
    }

    #[test]
    fn scheme_host_query_and_cache_tell_entries_apart() {
        let plain = key("/a?b=1", &[("host", "x.com"), (PROTO_HEADER, "https")]);
        for other in [
            key("/a?b=1", &[("host", "x.com"), (PROTO_HEADER, "http")]),
            key("/a?b=1", &[("host", "y.com"), (PROTO_HEADER, "https")]),
            key("/a?b=2", &[("host", "x.com"), (PROTO_HEADER, "https")]),
            key("/a?b=1", &[("host", "x.com"), (PROTO_HEADER, "https"), ("cf-cache-namespace", "n")]),
            key("/a?b=1", &[("host", "x.com"), (PROTO_HEADER, "https"), (CF_HEADER, r#"{"cacheKey":"k"}"#)]),
        ] {
            assert_ne!(plain, other);
        }
        let with_cf =
            [("host", "x.com"), (PROTO_HEADER, "https"), (CF_HEADER, r#"{"cacheTtl":5,"cacheKey":""}"#)];
        assert_eq!(plain, key("/a?b=1", &with_cf));
    }

    #[test]
    fn a_custom_key_replaces_the_url() {
        let cf = (CF_HEADER, r#"{"cacheKey":"k"}"#);
        assert_eq!(key("/a", &[("host", "x"), cf]), key("/b", &[("host", "y"), cf]));
    }
}
