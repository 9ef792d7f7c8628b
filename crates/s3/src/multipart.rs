//! Objects that come in parts.

use std::collections::HashSet;

use http::{StatusCode, header};
use skep_r2::{Bucket, MAX_PARTS, PublishedPart};
use skep_wire::{empty, reply};

use crate::error::S3Error;
use crate::meta;
use crate::objects::etag;
use crate::payload::Payload;
use crate::service::{Answer, Call, document};
use crate::xml::{Element, Xml};

/// The longest list of parts: 10,000, each with its digests.
const MOST: usize = 8 << 20;

pub(crate) async fn create(call: &Call<'_>, bucket: &Bucket) -> Answer {
    let headers = &call.head.headers;
    meta::screen_write(headers)?;
    let ssec = meta::ssec(headers, "x-amz-")?;
    let id = bucket.create_multipart_upload(&call.key, meta::options(headers)?, ssec.as_ref()).await?;
    let mut xml = Xml::of("InitiateMultipartUploadResult");
    xml.text("Bucket", &call.name);
    xml.text("Key", &call.key);
    xml.text("UploadId", &id);
    xml.close("InitiateMultipartUploadResult");
    let mut response = document(xml);
    if let Some(key) = ssec {
        meta::describe_key(response.headers_mut(), &key.md5());
    }
    Ok(response)
}

/// The number of the part that a request is about.
pub(crate) fn number(call: &Call<'_>) -> Result<u32, S3Error> {
    let number = call.query.get("partNumber").and_then(|text| text.trim().parse().ok());
    number.filter(|number| (1..=MAX_PARTS).contains(number)).ok_or_else(|| {
        S3Error::invalid_argument("Part number must be an integer between 1 and 10000, inclusive.")
    })
}

/// The upload that a request is about.
pub(crate) fn id<'a>(call: &'a Call<'_>) -> &'a str {
    call.query.get("uploadId").unwrap_or_default()
}

pub(crate) async fn part(call: &Call<'_>, bucket: &Bucket, mut payload: Payload) -> Answer {
    let (number, id) = (number(call)?, id(call));
    let ssec = meta::ssec(&call.head.headers, "x-amz-")?;
    let length = Some(payload.length.ok_or_else(S3Error::missing_length)?);
    let end = payload.end();
    let stored = bucket.upload_part(&call.key, id, number, ssec.as_ref(), length, &mut payload.content).await;
    let stored = stored.map_err(|error| end.error(error))?;
    let mut response = reply(StatusCode::OK, empty());
    response.headers_mut().insert(header::ETAG, etag(&stored)?);
    response.headers_mut().extend(end.digests());
    if let Some(key) = ssec {
        meta::describe_key(response.headers_mut(), &key.md5());
    }
    Ok(response)
}

pub(crate) async fn complete(call: &Call<'_>, bucket: &Bucket, payload: Payload) -> Answer {
    let parts = payload.root(call.account, MOST, "CompleteMultipartUpload", parts).await?;
    if bucket.upload(&call.key, id(call))?.is_none() {
        return Err(S3Error::no_such_upload());
    }
    let object = bucket.complete_multipart_upload(&call.key, id(call), parts).await?;
    let host = meta::text(&call.head.headers, "host").unwrap_or_default();
    let scheme = if call.head.extensions.get() == Some(&http::uri::Scheme::HTTPS) { "https" } else { "http" };
    let location = format!("{scheme}://{host}{}", call.head.uri.path());
    let mut xml = Xml::of("CompleteMultipartUploadResult");
    xml.text("Location", &location);
    xml.text("Bucket", &call.name);
    xml.text("Key", &call.key);
    xml.text("ETag", &format!("\"{}\"", object.etag));
    xml.close("CompleteMultipartUploadResult");
    Ok(document(xml))
}

/// The parts in a document. Pure.
fn parts(root: &Element) -> Result<Vec<PublishedPart>, S3Error> {
    let (mut parts, mut seen) = (Vec::new(), HashSet::new());
    for part in root.all("Part") {
        let number = part.value("PartNumber").and_then(|text| text.trim().parse::<i64>().ok());
        let (Some(number), Some(etag)) = (number, part.value("ETag")) else {
            return Err(S3Error::malformed_xml());
        };
        let number = u32::try_from(number).ok().filter(|number| (1..=MAX_PARTS).contains(number));
        let number = number.ok_or_else(S3Error::invalid_part)?;
        if !seen.insert(number) {
            let text = "There was a problem with the multipart upload.";
            return Err(S3Error::new(StatusCode::BAD_REQUEST, "InvalidPart", text));
        }
        parts.push(PublishedPart { etag: etag.trim().trim_matches('"').to_owned(), part: number });
    }
    match parts.is_empty() {
        true => Err(S3Error::malformed_xml()),
        false => Ok(parts),
    }
}

pub(crate) async fn abort(call: &Call<'_>, bucket: &Bucket) -> Answer {
    if bucket.upload(&call.key, id(call))?.is_none() {
        return Err(S3Error::no_such_upload());
    }
    bucket.abort_multipart_upload(&call.key, id(call)).await?;
    Ok(reply(StatusCode::NO_CONTENT, empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_parts_is_read() {
        let part = |number: &str, etag: &str| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
        };
        let read = |inner: &str| {
            let text = format!("<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>");
            parts(&Element::read(text.as_bytes()).unwrap()).map_err(|error| error.code)
        };
        let two = [part("2", "&quot;b&quot;"), part("1", "a")].concat();
        let named = |etag: &str, part| PublishedPart { etag: etag.into(), part };
        assert_eq!(read(&two), Ok(vec![named("b", 2), named("a", 1)]));
        assert_eq!(read(&[part("1", "a"), part("1", "b")].concat()), Err("InvalidPart"));
        assert_eq!(read(&part("10001", "a")), Err("InvalidPart"));
        for wrong in ["", "<Part><PartNumber>1</PartNumber></Part>", &part("x", "a")] {
            assert_eq!(read(wrong), Err("MalformedXML"), "{wrong}");
        }
    }
}
