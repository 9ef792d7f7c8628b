//! What is said of an object in headers, and back. Pure.
//! <https://developers.cloudflare.com/r2/api/s3/extensions/>

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use skep_r2::{Conditional, CustomField, Etag, HttpFields, Object, ObjectOptions, SsecKey, StorageClass};

use crate::error::S3Error;
use crate::words;

const META: &str = "x-amz-meta-";
const CLASS: &str = "x-amz-storage-class";
/// How many names of metadata no header can have.
const MISSING: HeaderName = HeaderName::from_static("x-amz-missing-meta");
/// Access control lists that mean nothing here and are taken.
const CANNED: [&str; 7] = [
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
];
/// Headers of writes that R2 knows and does not have.
const ABSENT: [&str; 13] = [
    "x-amz-tagging",
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write",
    "x-amz-grant-write-acp",
    "x-amz-website-redirect-location",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-object-lock-legal-hold",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-context",
    "x-amz-server-side-encryption-bucket-key-enabled",
];

/// A header as a text: what is not UTF-8 is ISO 8859-1.
pub(crate) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let bytes = headers.get(name)?.as_bytes();
    let text = std::str::from_utf8(bytes).map(str::to_owned);
    Some(text.unwrap_or_else(|_| bytes.iter().copied().map(char::from).collect()))
}

/// Refuses what would not be kept.
pub(crate) fn screen_write(headers: &HeaderMap) -> Result<(), S3Error> {
    if let Some(name) = ABSENT.into_iter().find(|name| headers.contains_key(*name)) {
        return Err(S3Error::header_not_implemented(name, &text(headers, name).unwrap_or_default()));
    }
    for (name, taken) in [("x-amz-server-side-encryption", &["AES256"][..]), ("x-amz-acl", &CANNED)] {
        match text(headers, name) {
            Some(value) if !taken.contains(&value.as_str()) => {
                return Err(S3Error::header_not_implemented(name, &value));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The storage class that a request asks for.
pub(crate) fn class(headers: &HeaderMap) -> Result<Option<StorageClass>, S3Error> {
    match text(headers, CLASS).as_deref() {
        None => Ok(None),
        Some("STANDARD") => Ok(Some(StorageClass::Standard)),
        Some("STANDARD_IA") => Ok(Some(StorageClass::InfrequentAccess)),
        Some(_) => Err(S3Error::new(
            StatusCode::BAD_REQUEST,
            "InvalidStorageClass",
            "The storage class specified is not valid.",
        )),
    }
}

/// A storage class as S3 calls it.
pub(crate) fn class_name(class: StorageClass) -> &'static str {
    match class {
        StorageClass::Standard => "STANDARD",
        StorageClass::InfrequentAccess => "STANDARD_IA",
    }
}

/// What a write says of its object.
pub(crate) fn options(headers: &HeaderMap) -> Result<ObjectOptions, S3Error> {
    Ok(ObjectOptions {
        http_fields: http_fields(headers),
        custom_fields: custom_fields(headers),
        storage_class: class(headers)?.unwrap_or_default(),
    })
}

fn http_fields(headers: &HeaderMap) -> HttpFields {
    let field = |name: HeaderName| text(headers, name.as_str());
    // How a body came is not how it is kept.
    let encodings = field(header::CONTENT_ENCODING).map(|list| {
        let kept: Vec<&str> = list.split(',').map(str::trim).filter(|one| *one != "aws-chunked").collect();
        kept.join(", ")
    });
    HttpFields {
        content_type: field(header::CONTENT_TYPE),
        content_language: field(header::CONTENT_LANGUAGE),
        content_disposition: field(header::CONTENT_DISPOSITION),
        content_encoding: encodings.filter(|list| !list.is_empty()),
        cache_control: field(header::CACHE_CONTROL),
        cache_expiry: field(header::EXPIRES).and_then(|text| http_date(&text)),
    }
}

fn custom_fields(headers: &HeaderMap) -> Vec<CustomField> {
    let names = headers.keys().filter_map(|name| name.as_str().strip_prefix(META));
    names
        .filter_map(|name| {
            let value = text(headers, &format!("{META}{name}"))?;
            Some(CustomField { k: name.to_owned(), v: words::decoded(&value) })
        })
        .collect()
}

/// What the headers of a copy add to what its source says of itself.
pub(crate) fn merge(mut from: ObjectOptions, headers: &HeaderMap) -> Result<ObjectOptions, S3Error> {
    let new = options(headers)?;
    let (old, given) = (from.http_fields, new.http_fields);
    from.http_fields = HttpFields {
        content_type: given.content_type.or(old.content_type),
        content_language: given.content_language.or(old.content_language),
        content_disposition: given.content_disposition.or(old.content_disposition),
        content_encoding: given.content_encoding.or(old.content_encoding),
        cache_control: given.cache_control.or(old.cache_control),
        cache_expiry: given.cache_expiry.or(old.cache_expiry),
    };
    from.custom_fields.retain(|field| !new.custom_fields.iter().any(|other| other.k == field.k));
    from.custom_fields.extend(new.custom_fields);
    Ok(from)
}

/// Adds what an answer says of an object beside what HTTP has for it.
pub(crate) fn describe(headers: &mut HeaderMap, object: &Object) {
    let mut missing = 0_u32;
    for field in object.custom_fields.iter().flatten() {
        let name = HeaderName::try_from(format!("{META}{}", field.k));
        match (name, HeaderValue::try_from(words::encoded(&field.v))) {
            (Ok(name), Ok(value)) => {
                headers.append(name, value);
            }
            _ => missing += 1,
        }
    }
    if missing > 0 {
        headers.insert(MISSING, missing.into());
    }
    if object.storage_class != StorageClass::Standard {
        headers.insert(CLASS, HeaderValue::from_static(class_name(object.storage_class)));
    }
    let digest = |number: u8| object.checksums.get(&number).and_then(|text| hex::decode(text).ok());
    for (number, name) in [(1, "x-amz-checksum-sha1"), (2, "x-amz-checksum-sha256")] {
        if let Some(value) =
            digest(number).and_then(|bytes| HeaderValue::try_from(STANDARD.encode(bytes)).ok())
        {
            headers.insert(name, value);
        }
    }
    if let Some(md5) = object.ssec_key_md5() {
        describe_key(headers, md5);
    }
}

/// Says with which key, by its MD5 in hexadecimal digits, an object is encrypted.
pub(crate) fn describe_key(headers: &mut HeaderMap, md5: &str) {
    let md5 = hex::decode(md5).ok().and_then(|md5| HeaderValue::try_from(STANDARD.encode(md5)).ok());
    if let Some(md5) = md5 {
        let name = "x-amz-server-side-encryption-customer-algorithm";
        headers.insert(name, HeaderValue::from_static("AES256"));
        headers.insert("x-amz-server-side-encryption-customer-key-md5", md5);
    }
}

/// The key that a request brings, by headers that begin with `prefix`: `x-amz-`, or that and `copy-source-`.
pub(crate) fn ssec(headers: &HeaderMap, prefix: &str) -> Result<Option<SsecKey>, S3Error> {
    let field = |name: &str| text(headers, &format!("{prefix}server-side-encryption-customer-{name}"));
    let (algorithm, key, md5) = (field("algorithm"), field("key"), field("key-md5"));
    if algorithm.is_none() && key.is_none() && md5.is_none() {
        return Ok(None);
    }
    let lacks = |what: &str| {
        S3Error::invalid_argument(format!(
            "Requests specifying Server Side Encryption with Customer provided keys must provide {what}."
        ))
    };
    let key = key.ok_or_else(|| lacks("an appropriate secret key"))?;
    let md5 = md5.ok_or_else(|| lacks("the client calculated MD5 of the secret key"))?;
    let algorithm = algorithm.ok_or_else(|| lacks("a valid encryption algorithm"))?;
    if algorithm != "AES256" {
        return Err(S3Error::new(
            StatusCode::BAD_REQUEST,
            "InvalidEncryptionAlgorithmError",
            "The encryption request that you specified is not valid. The valid value is AES256.",
        ));
    }
    let bytes = STANDARD.decode(key).map_err(|_| lacks("an appropriate secret key"))?;
    let key = SsecKey::from_hex(&hex::encode(bytes))?;
    if STANDARD.decode(md5).ok().map(hex::encode).as_ref() != Some(&key.md5()) {
        let text = "The calculated MD5 hash of the key did not match the hash that was provided.";
        return Err(S3Error::invalid_argument(text));
    }
    Ok(Some(key))
}

/// What must hold, by headers that begin with `prefix`.
pub(crate) fn conditions(headers: &HeaderMap, prefix: &str) -> Conditional {
    let field = |name: &str| text(headers, &format!("{prefix}{name}"));
    Conditional {
        etag_matches: field("if-match").map(|text| etags(&text)),
        etag_does_not_match: field("if-none-match").map(|text| etags(&text)),
        uploaded_before: field("if-unmodified-since").and_then(|text| http_date(&text)).map(|at| at + 1000),
        uploaded_after: field("if-modified-since").and_then(|text| http_date(&text)),
        seconds_granularity: true,
    }
}

fn etags(list: &str) -> Vec<Etag> {
    let one = |text: &str| {
        let (weak, quoted) = text.strip_prefix("W/").map_or((false, text), |rest| (true, rest));
        // Some clients leave the quotes out.
        let value = quoted.trim_matches('"').to_owned();
        match (text, weak) {
            ("*", _) => Etag::Wildcard,
            (_, true) => Etag::Weak { value },
            (_, false) => Etag::Strong { value },
        }
    };
    list.split(',').map(str::trim).map(one).collect()
}

/// Milliseconds since 1970.
fn http_date(text: &str) -> Option<i64> {
    let at = httpdate::parse_http_date(text).ok()?;
    i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// A time as S3's documents have it: `2009-10-12T17:50:30.000Z`.
pub(crate) fn time(ms: i64) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or_default());
    humantime::format_rfc3339_millis(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs.map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap())).collect()
    }

    #[test]
    fn a_copy_keeps_what_it_is_not_told() {
        let from =
            options(&headers(&[("content-type", "a/b"), ("x-amz-meta-a", "1"), ("x-amz-meta-b", "2")]));
        let new = headers(&[("cache-control", "no-store"), ("x-amz-meta-b", "3")]);
        let merged = merge(from.unwrap(), &new).unwrap();
        assert_eq!(merged.http_fields.content_type.as_deref(), Some("a/b"));
        assert_eq!(merged.http_fields.cache_control.as_deref(), Some("no-store"));
        let fields: Vec<_> = merged.custom_fields.iter().map(|f| (f.k.as_str(), f.v.as_str())).collect();
        assert_eq!(fields, [("a", "1"), ("b", "3")]);
    }

    #[test]
    fn how_a_body_came_is_not_kept() {
        let encoding =
            |text| options(&headers(&[("content-encoding", text)])).unwrap().http_fields.content_encoding;
        assert_eq!(encoding("aws-chunked"), None);
        assert_eq!(encoding("aws-chunked, gzip").as_deref(), Some("gzip"));
        assert_eq!(encoding("gzip,aws-chunked").as_deref(), Some("gzip"));
    }

    #[test]
    fn conditions_are_those_of_http() {
        let of = |pairs: &[(&'static str, &str)]| conditions(&headers(pairs), "");
        let object = Some(("e", 1_700_000_000_999));
        assert!(of(&[("if-match", "\"x\", \"e\"")]).holds(object));
        assert!(of(&[("if-match", "e")]).holds(object));
        assert!(!of(&[("if-match", "\"x\"")]).holds(object));
        assert!(!of(&[("if-none-match", "*")]).holds(object));
        assert!(of(&[("if-none-match", "*")]).holds(None));
        let at = "Tue, 14 Nov 2023 22:13:20 GMT";
        assert!(of(&[("if-unmodified-since", at)]).holds(object));
        assert!(!of(&[("if-unmodified-since", "Tue, 14 Nov 2023 22:13:19 GMT")]).holds(object));
        assert!(!of(&[("if-modified-since", at)]).holds(object));
    }

    #[test]
    fn a_key_of_the_clients_own_comes_whole() {
        let name = |end: &str| -> &'static str {
            Box::leak(format!("x-amz-server-side-encryption-customer-{end}").into_boxed_str())
        };
        let key = STANDARD.encode([7; 32]);
        let md5 = STANDARD.encode(hex::decode(SsecKey::from_hex(&"07".repeat(32)).unwrap().md5()).unwrap());
        let all = [(name("algorithm"), "AES256"), (name("key"), &key), (name("key-md5"), &md5)];
        assert!(ssec(&headers(&all), "x-amz-").unwrap().is_some());
        assert!(ssec(&headers(&[]), "x-amz-").unwrap().is_none());
        for n in 0..3 {
            let mut some = all.to_vec();
            some.remove(n);
            assert_eq!(ssec(&headers(&some), "x-amz-").unwrap_err().code, "InvalidArgument");
        }
        let other = [all[0], all[1], (all[2].0, "AAAA")];
        assert_eq!(ssec(&headers(&other), "x-amz-").unwrap_err().code, "InvalidArgument");
    }
}
