//! Buckets themselves.

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};
use skep_r2::Bucket;
use skep_wire::{empty, reply};

use crate::account::Changed;
use crate::error::S3Error;
use crate::meta::{text, time};
use crate::operation::Operation;
use crate::payload::Payload;
use crate::service::{Answer, Call, document, failed};
use crate::xml::{Element, Xml};

/// The longest document that says where a bucket is to be.
const MOST: usize = 16 * 1024;
/// Buckets on a page.
const PAGE: usize = 1000;

/// The buckets that the key is good for. What chooses among them may be in headers, which go before the query:
/// <https://developers.cloudflare.com/r2/api/s3/extensions/#listbuckets>
pub(crate) fn list(call: &Call<'_>) -> Answer {
    let known = ["prefix", "start-after", "continuation-token", "max-keys"];
    if let Some(other) = call.query.names().find(|name| !known.contains(name)) {
        return Err(S3Error::not_implemented(&format!("ListBuckets search parameter {other}")));
    }
    let given = |name: &str| {
        let header = text(&call.head.headers, &format!("cf-{name}"));
        header.or_else(|| call.query.get(name).map(str::to_owned))
    };
    let [prefix, start, token, most] = known.map(given);
    let most = most.map_or(Ok(PAGE), |text| text.parse()).ok().filter(|most| (1..=PAGE).contains(most));
    let most = most.ok_or_else(S3Error::invalid_max_keys)?;
    let after = token.as_deref().or(start.as_deref()).unwrap_or_default();
    let mut all = call.account.buckets().map_err(failed)?;
    all.retain(|bucket| {
        bucket.name.as_str() > after
            && prefix.as_deref().is_none_or(|prefix| bucket.name.starts_with(prefix))
            && call.grant.read.has(&bucket.name)
    });
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let more = all.len() > most;
    all.truncate(most);
    let next = all.last().filter(|_| more).map(|last| last.name.clone());

    let mut xml = Xml::of("ListAllMyBucketsResult");
    xml.open("Buckets");
    for bucket in &all {
        xml.open("Bucket");
        xml.text("CreationDate", &time(bucket.created_ms));
        xml.text("Name", &bucket.name);
        xml.close("Bucket");
    }
    xml.close("Buckets");
    owner(&mut xml, "Owner", call.account.id());
    xml.maybe("Prefix", prefix.as_deref());
    xml.maybe("StartAfter", start.as_deref());
    xml.maybe("ContinuationToken", token.as_deref());
    xml.maybe("NextContinuationToken", next.as_deref());
    xml.text("IsTruncated", if more { "true" } else { "false" });
    xml.text("KeyCount", &all.len().to_string());
    xml.text("MaxKeys", &most.to_string());
    xml.close("ListAllMyBucketsResult");
    let mut response = document(xml);
    let headers = response.headers_mut();
    headers.insert("cf-is-truncated", HeaderValue::from_static(if more { "true" } else { "false" }));
    if let Some(next) = next.and_then(|next| HeaderValue::try_from(next).ok()) {
        headers.insert("cf-next-continuation-token", next);
    }
    Ok(response)
}

/// Whose something is: an account's, whose name is its id.
pub(crate) fn owner(xml: &mut Xml, element: &str, account: &str) {
    xml.open(element);
    xml.text("ID", account);
    xml.text("DisplayName", account);
    xml.close(element);
}

pub(crate) async fn create(call: &Call<'_>, payload: Payload) -> Answer {
    let read = |root: &Element| match root.name == "CreateBucketConfiguration" {
        true => Ok(root.value("LocationConstraint").map(|name| name.trim().to_owned())),
        false => Err(S3Error::malformed_xml()),
    };
    let asked = payload.document(call.account, MOST, read).await?.flatten();
    // Where nothing is said of it, and where a client can say nothing else.
    let location = asked.filter(|name| !["", "auto", "us-east-1"].contains(&name.as_str()));
    changed(call.account.create(&call.name, location.as_deref()).await.map_err(failed)?)?;
    let mut response = reply(StatusCode::OK, empty());
    if let Ok(location) = HeaderValue::try_from(format!("{}/{}", call.before, call.name)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// A bucket that is missing: an upload may ask for it to be made.
/// <https://developers.cloudflare.com/r2/api/s3/extensions/#auto-creating-buckets-on-upload>
pub(crate) async fn made(call: &Call<'_>, operation: Operation) -> Result<Arc<Bucket>, S3Error> {
    let uploads = matches!(operation, Operation::PutObject | Operation::CreateMultipartUpload);
    let wanted = text(&call.head.headers, "cf-create-bucket-if-missing").as_deref() == Some("true");
    if !uploads || !wanted {
        return Err(S3Error::no_such_bucket());
    }
    if !call.grant.manage {
        return Err(S3Error::access_denied());
    }
    match call.account.create(&call.name, None).await.map_err(failed)? {
        // Somebody else was faster.
        Changed::Exists => {}
        other => changed(other)?,
    }
    call.bucket(&call.name).await?.ok_or_else(S3Error::no_such_bucket)
}

pub(crate) async fn remove(call: &Call<'_>) -> Answer {
    changed(call.account.remove(&call.name).await.map_err(failed)?)?;
    Ok(reply(StatusCode::NO_CONTENT, empty()))
}

pub(crate) fn location(call: &Call<'_>) -> Answer {
    let all = call.account.buckets().map_err(failed)?;
    let own = all.into_iter().find(|bucket| bucket.name == call.name);
    let mut xml = Xml::of("LocationConstraint");
    xml.chars(&own.and_then(|bucket| bucket.location).unwrap_or_else(|| "auto".into()));
    xml.close("LocationConstraint");
    Ok(document(xml))
}

fn changed(what: Changed) -> Result<(), S3Error> {
    let (status, code, text) = match what {
        Changed::Done => return Ok(()),
        Changed::Missing => return Err(S3Error::no_such_bucket()),
        Changed::Fixed => {
            return Err(S3Error::not_implemented("A change of buckets that a configuration says"));
        }
        Changed::Exists => (
            StatusCode::CONFLICT,
            "BucketAlreadyOwnedByYou",
            "Your previous request to create the named bucket succeeded and you already own it.",
        ),
        Changed::NotEmpty => {
            (StatusCode::CONFLICT, "BucketNotEmpty", "The bucket you tried to delete is not empty.")
        }
        Changed::InvalidName => {
            (StatusCode::BAD_REQUEST, "InvalidBucketName", "The specified bucket name is not valid.")
        }
        Changed::InvalidLocation => (
            StatusCode::BAD_REQUEST,
            "InvalidLocationConstraint",
            "The specified location constraint is not valid.",
        ),
    };
    Err(S3Error::new(status, code, text))
}
