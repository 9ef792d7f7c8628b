//! Objects: read, written, removed.

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Response as HttpResponse, StatusCode};
use skep_r2::{Bucket, MAX_DELETE_KEYS, OBJECT_LOCKED, PartOf, PutOptions, Span};
use skep_wire::{Response, empty, reply};

use crate::error::S3Error;
use crate::meta;
use crate::multipart;
use crate::payload::Payload;
use crate::service::{Answer, Call, aside_if, document};
use crate::xml::{Element, Xml};

/// The longest list of keys: a thousand of the longest, escaped.
const MOST: usize = 8 << 20;
/// An answer about more keys is written aside.
const FEW: usize = 50;

pub(crate) fn get(call: &Call<'_>, bucket: &Bucket) -> Answer {
    let headers = &call.head.headers;
    let ssec = meta::ssec(headers, "x-amz-")?;
    let part = part(call, bucket)?;
    let (object, mut response) = match &part {
        Some(part) => bucket.serve(&call.key, &ranged(call.head, part), ssec.as_ref())?,
        None => bucket.serve(&call.key, call.head, ssec.as_ref())?,
    };
    match response.status() {
        StatusCode::PRECONDITION_FAILED => return Err(S3Error::precondition_failed()),
        StatusCode::RANGE_NOT_SATISFIABLE => return Err(S3Error::invalid_range()),
        _ => {}
    }
    if let Some(part) = &part {
        describe_part(&mut response, part);
    }
    meta::describe(response.headers_mut(), &object);
    overridden(call, &mut response);
    Ok(response)
}

/// The part that is asked for by its number.
fn part(call: &Call<'_>, bucket: &Bucket) -> Result<Option<PartOf>, S3Error> {
    if call.query.get("partNumber").is_none() {
        return Ok(None);
    }
    let number = multipart::number(call)?;
    if call.head.headers.contains_key(header::RANGE) {
        let text = "Cannot specify both Range header and partNumber query parameter";
        return Err(S3Error::invalid_request(text));
    }
    let found = bucket.part_of(&call.key, number as usize)?;
    found.map(Some).ok_or_else(|| {
        let text = "The requested partnumber is not satisfiable";
        S3Error::new(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidPartNumber", text)
    })
}

/// The request for the bytes of a part. There is no range of none.
fn ranged(head: &Parts, part: &PartOf) -> Parts {
    let mut head = head.clone();
    let Span { offset, length } = part.span;
    let range = format!("bytes={offset}-{}", (offset + length).saturating_sub(1));
    if length > 0
        && let Ok(range) = HeaderValue::try_from(range)
    {
        head.headers.insert(header::RANGE, range);
    }
    head
}

/// Says which part an answer is, also where it has no content.
fn describe_part<B>(response: &mut HttpResponse<B>, part: &PartOf) {
    if let Some(count) = part.count {
        response.headers_mut().insert("x-amz-mp-parts-count", count.into());
    }
    let Span { offset, length } = part.span;
    let range = format!("bytes {offset}-{}/{}", (offset + length).saturating_sub(1), part.size);
    if response.status() == StatusCode::OK
        && length > 0
        && let Ok(range) = HeaderValue::try_from(range)
    {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
}

/// Headers that the query asks for in the place of the object's own.
fn overridden<B>(call: &Call<'_>, response: &mut HttpResponse<B>) {
    for (name, header) in [
        ("response-content-type", header::CONTENT_TYPE),
        ("response-content-language", header::CONTENT_LANGUAGE),
        ("response-content-disposition", header::CONTENT_DISPOSITION),
        ("response-content-encoding", header::CONTENT_ENCODING),
        ("response-cache-control", header::CACHE_CONTROL),
        ("response-expires", header::EXPIRES),
    ] {
        let value = call.query.get(name).and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
        if let Some(value) = value {
            response.headers_mut().insert(header, value);
        }
    }
}

pub(crate) async fn put(call: &Call<'_>, bucket: &Bucket, mut payload: Payload) -> Answer {
    let headers = &call.head.headers;
    meta::screen_write(headers)?;
    let ssec = meta::ssec(headers, "x-amz-")?;
    let options = PutOptions {
        object: meta::options(headers)?,
        only_if: meta::conditions(headers, ""),
        checksum: None,
        ssec,
        length: Some(payload.length.ok_or_else(S3Error::missing_length)?),
        copies: false,
    };
    let end = payload.end();
    let stored = bucket.put(&call.key, options, &mut payload.content).await;
    let stored = stored.map_err(|error| end.error(error))?;
    let mut response = reply(StatusCode::OK, empty());
    response.headers_mut().insert(header::ETAG, etag(&stored.etag)?);
    response.headers_mut().extend(end.digests());
    if let Some(md5) = stored.ssec_key_md5() {
        meta::describe_key(response.headers_mut(), md5);
    }
    Ok(response)
}

/// An etag as HTTP has it.
pub(crate) fn etag(etag: &str) -> Result<HeaderValue, S3Error> {
    HeaderValue::try_from(format!("\"{etag}\"")).map_err(|_| S3Error::internal())
}

pub(crate) async fn delete(call: &Call<'_>, bucket: &Bucket) -> Answer {
    bucket.delete(vec![call.key.clone()]).await?;
    Ok(reply(StatusCode::NO_CONTENT, empty()))
}

/// Removes many. R2 says what it has removed also where that was not asked for (`Quiet`).
pub(crate) async fn delete_all(call: &Call<'_>, bucket: &Bucket, payload: Payload) -> Answer {
    let read = |root: &Element| keys(root).ok_or_else(S3Error::malformed_xml);
    let keys = payload.root(call.account, MOST, "Delete", read).await?;
    let mut failed: Vec<(String, S3Error)> = Vec::new();
    let mut gone = keys.clone();
    match bucket.delete(keys.clone()).await {
        Ok(()) => {}
        // None was removed; others than the locked ones, and those that no object can have, go.
        Err(error) if error.code() == OBJECT_LOCKED || error.status() == StatusCode::BAD_REQUEST => {
            gone.clear();
            for key in keys {
                match bucket.delete(vec![key.clone()]).await {
                    Ok(()) => gone.push(key),
                    Err(error) => failed.push((key, error.into())),
                }
            }
        }
        Err(error) => return Err(error.into()),
    }
    let is_large = gone.len() + failed.len() > FEW;
    aside_if(is_large, call.account, move || deleted(gone, failed)).await
}

/// What is said of keys that are gone, and of those that are not.
fn deleted(gone: Vec<String>, failed: Vec<(String, S3Error)>) -> Response {
    let mut xml = Xml::of("DeleteResult");
    for key in gone {
        xml.open("Deleted");
        xml.text("Key", &key);
        xml.close("Deleted");
    }
    for (key, error) in failed {
        xml.open("Error");
        xml.text("Key", &key);
        xml.text("Code", error.code);
        xml.text("Message", &error.message);
        xml.close("Error");
    }
    xml.close("DeleteResult");
    document(xml)
}

/// The keys in a document; `None` if it is not one such.
fn keys(root: &Element) -> Option<Vec<String>> {
    let keys: Option<Vec<String>> =
        root.all("Object").map(|object| object.value("Key").map(str::to_owned)).collect();
    let quiet = root.value("Quiet").is_none_or(|text| ["true", "false"].contains(&text));
    keys.filter(|keys| quiet && (1..=MAX_DELETE_KEYS).contains(&keys.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_keys_is_read() {
        let list = |text: &str| keys(&Element::read(text.as_bytes()).unwrap());
        let two = "<Delete><Object><Key>a</Key></Object><Object><Key>b</Key><VersionId>1</VersionId></Object></Delete>";
        assert_eq!(list(two), Some(vec!["a".into(), "b".into()]));
        for wrong in [
            "<Delete></Delete>",
            "<Delete><Object></Object></Delete>",
            "<Delete><Object><Key>a</Key></Object><Quiet>yes</Quiet></Delete>",
        ] {
            assert_eq!(list(wrong), None, "{wrong}");
        }
        let many = format!("<Delete>{}</Delete>", "<Object><Key>a</Key></Object>".repeat(1001));
        assert_eq!(list(&many), None);
    }
}
