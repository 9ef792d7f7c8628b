//! Copies, of an object or into a part of one.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use percent_encoding::percent_decode_str;
use skep_r2::{Bucket, GetBody, GetOptions, GetOutcome, MAX_PUT_BYTES, ObjectOptions, PutOptions, Range};
use skep_wire::BoxError;

use crate::error::S3Error;
use crate::meta::{self, text};
use crate::multipart::{id, number};
use crate::service::{Answer, Call, document};
use crate::xml::Xml;

const SOURCE: &str = "x-amz-copy-source";
const SOURCE_KEY: &str = "x-amz-copy-source-";

/// The bucket and the key of what is copied.
async fn source(call: &Call<'_>) -> Result<(Arc<Bucket>, String), S3Error> {
    let said = text(&call.head.headers, SOURCE).unwrap_or_default();
    // R2 has no versions to choose from.
    let said = said.split_once("?versionId=").map_or(said.as_str(), |(path, _)| path);
    let path = percent_decode_str(said).decode_utf8_lossy().into_owned();
    let path = path.strip_prefix('/').unwrap_or(&path);
    let (name, key) = path
        .split_once('/')
        .filter(|(name, key)| !name.is_empty() && !key.is_empty())
        .ok_or_else(|| S3Error::invalid_argument("copy source bucket name"))?;
    if !call.grant.read.has(name) {
        return Err(S3Error::access_denied());
    }
    let bucket = call.bucket(name).await?.ok_or_else(S3Error::no_such_bucket)?;
    Ok((bucket, key.to_owned()))
}

async fn read(call: &Call<'_>, range: Option<Range>) -> Result<GetOutcome, S3Error> {
    let headers = &call.head.headers;
    let ssec = meta::ssec(headers, SOURCE_KEY)?;
    let (bucket, key) = source(call).await?;
    let only_if = meta::conditions(headers, SOURCE_KEY);
    Ok(bucket.get(&key, &GetOptions { range, only_if, ssec })?)
}

fn content(body: GetBody) -> BoxStream<'static, Result<Bytes, BoxError>> {
    match body {
        GetBody::Whole(bytes) => stream::iter([Ok(bytes)]).boxed(),
        GetBody::Pieces(pieces) => pieces.map(|piece| piece.map_err(BoxError::from)).boxed(),
    }
}

pub(crate) async fn object(call: &Call<'_>, bucket: &Bucket) -> Answer {
    let headers = &call.head.headers;
    meta::screen_write(headers)?;
    let ssec = meta::ssec(headers, "x-amz-")?;
    let directive = text(headers, "x-amz-metadata-directive").unwrap_or_else(|| "COPY".into());
    if !["COPY", "REPLACE", "MERGE"].contains(&directive.as_str()) {
        return Err(S3Error::invalid_argument(format!("metadata directive {directive}.")));
    }
    let class = meta::class(headers)?;
    let found = read(call, None).await?;
    if found.object.size > MAX_PUT_BYTES {
        return Err(S3Error::too_large());
    }
    let own = ObjectOptions {
        http_fields: found.object.http_fields.unwrap_or_default(),
        custom_fields: found.object.custom_fields.unwrap_or_default(),
        storage_class: class.unwrap_or_default(),
    };
    let object = match directive.as_str() {
        "REPLACE" => meta::options(headers)?,
        "MERGE" => meta::merge(own, headers)?,
        _ => own,
    };
    let only_if = meta::conditions(headers, "cf-copy-destination-");
    let options =
        PutOptions { object, only_if, checksum: None, ssec, length: Some(found.object.size), copies: true };
    let stored = bucket.put(&call.key, options, &mut content(found.body)).await?;
    let mut response = document(copied("CopyObjectResult", &stored.etag, stored.uploaded));
    if let Some(md5) = stored.ssec_key_md5() {
        meta::describe_key(response.headers_mut(), md5);
    }
    Ok(response)
}

fn copied(root: &str, etag: &str, at_ms: i64) -> Xml {
    let mut xml = Xml::of(root);
    xml.text("ETag", &format!("\"{etag}\""));
    xml.text("LastModified", &meta::time(at_ms));
    xml.close(root);
    xml
}

pub(crate) async fn part(call: &Call<'_>, bucket: &Bucket) -> Answer {
    let (number, id) = (number(call)?, id(call));
    let ssec = meta::ssec(&call.head.headers, "x-amz-")?;
    let range = text(&call.head.headers, "x-amz-copy-source-range").map(|text| range(&text)).transpose()?;
    let found = read(call, range).await?;
    let length = found.object.range.map(|span| span.length);
    let mut content = content(found.body);
    let etag = bucket.upload_part(&call.key, id, number, ssec.as_ref(), length, &mut content).await?;
    Ok(document(copied("CopyPartResult", &etag, found.object.uploaded)))
}

/// `bytes=0-9`, and nothing else. Pure.
fn range(text: &str) -> Result<Range, S3Error> {
    let digits =
        |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<i64>().ok()).flatten();
    let ends = text.strip_prefix("bytes=").and_then(|rest| rest.split_once('-'));
    let ends = ends.and_then(|(first, last)| Some((digits(first)?, digits(last)?)));
    let (first, last) =
        ends.ok_or_else(|| S3Error::invalid_argument(format!("Invalid x-amz-copy-source-range: {text}")))?;
    if last < first {
        return Err(S3Error::invalid_argument("x-amz-copy-source-range must be positive."));
    }
    Ok(Range::From { offset: Some(first), length: Some((last - first).saturating_add(1)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_both_ends() {
        let of = |text| range(text).map_err(|error| error.message);
        assert_eq!(of("bytes=2-4"), Ok(Range::From { offset: Some(2), length: Some(3) }));
        assert_eq!(of("bytes=4-2"), Err("x-amz-copy-source-range must be positive.".into()));
        for wrong in ["bytes=2-", "bytes=-2", "2-4", "bytes=+1-2", "bytes=1-99999999999999999999"] {
            assert_eq!(of(wrong), Err(format!("Invalid x-amz-copy-source-range: {wrong}")));
        }
    }
}
