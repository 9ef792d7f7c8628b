//! A request: who sends it, what it is about, and what is answered.

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use skep_r2::Bucket;
use skep_runtime::{Turns, who_is};
use skep_wire::{Body, Response, empty, full, reply};

use crate::account::{Account, Grant, Scope};
use crate::claim::{self, Claim};
use crate::error::S3Error;
use crate::list::Asked;
use crate::operation::{Need, Operation};
use crate::payload::Payload;
use crate::query::Query;
use crate::sign::SigningKey;
use crate::xml::Xml;
use crate::{buckets, copy, list, multipart, objects, settings, sign};

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its path as it was sent, which is signed.
    pub path: &'a str,
    /// What of it stands before the bucket: nothing, or `/cdn-cgi/local/r2/s3`.
    pub before: &'a str,
    /// The bucket, if the host names it.
    pub bucket: Option<&'a str>,
}

/// A request that is allowed, with what it is about.
pub(crate) struct Call<'a> {
    pub account: &'a dyn Account,
    pub grant: Grant,
    pub head: &'a Parts,
    pub query: Query,
    /// The bucket's name.
    pub name: String,
    pub key: String,
    /// Where the bucket is, for answers that say so.
    pub before: &'a str,
}

pub(crate) type Answer = Result<Response, S3Error>;

/// A request that has not been looked at.
struct Incoming<'a> {
    account: &'a dyn Account,
    place: Place<'a>,
    head: &'a Parts,
    /// The time, in milliseconds since 1970.
    now_ms: i64,
    /// The bucket that its path, or its host, names.
    name: Option<String>,
    /// The key that its path names.
    key: Option<String>,
}

/// The answer to a request at a time, in milliseconds since 1970.
pub async fn answer(
    account: &dyn Account,
    place: Place<'_>,
    head: &Parts,
    body: Body,
    now_ms: i64,
) -> Response {
    let mut response = match parts(place) {
        Err(error) => error.response(),
        Ok((name, key)) => {
            let incoming = Incoming { account, place, head, now_ms, name, key };
            match head.method {
                Method::OPTIONS => incoming.preflight().await,
                _ => incoming.answered(body).await,
            }
        }
    };
    if head.method == Method::HEAD {
        *response.body_mut() = empty();
    }
    match response.extensions_mut().remove::<DocumentLength>() {
        None => response,
        Some(DocumentLength(length)) => account.room().hold(response, length).await,
    }
}

/// What a path names: a bucket and a key in it, as far as there are any.
fn parts(place: Place<'_>) -> Result<(Option<String>, Option<String>), S3Error> {
    let path = place.path.strip_prefix(place.before).ok_or_else(S3Error::no_route)?;
    let path = path.strip_prefix('/').unwrap_or(path);
    let decoded = |text: &str| match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(S3Error::new(
            StatusCode::BAD_REQUEST,
            "InvalidObjectName",
            "The specified object name is not valid.",
        )),
    };
    let (name, key) = match place.bucket {
        Some(name) => (name, path),
        None => path.split_once('/').unwrap_or((path, "")),
    };
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok((some(decoded(name)?), some(decoded(key)?)))
}

impl<'a> Incoming<'a> {
    /// What a browser is told that asks whether a page may send a request.
    async fn preflight(&self) -> Response {
        let found = match &self.name {
            Some(name) => self.account.bucket(name).await.ok().flatten(),
            None => None,
        };
        // Who may not ask learns nothing of which buckets there are.
        found.map_or_else(|| reply(StatusCode::FORBIDDEN, empty()), |b| b.preflight(&self.head.headers))
    }

    async fn answered(self, body: Body) -> Response {
        let (head, mut of) = (self.head, None);
        let answer = self.done(body, &mut of).await;
        let mut response = answer.unwrap_or_else(|error| error.response());
        if let Some(bucket) = of {
            response.headers_mut().extend(bucket.granted(head));
        }
        response
    }

    /// Does what is asked. `of` is the bucket that it is about, as soon as the sender is known.
    async fn done(self, body: Body, of: &mut Option<Arc<Bucket>>) -> Answer {
        let (head, query) = (self.head, Query::of(&self.head.uri));
        let (claim, grant, signing) = self.sender(&query)?;
        refuse_unkept(head)?;
        let operation = match (&self.name, &self.key) {
            (None, _) => Operation::on_account(&head.method)?,
            (Some(_), None) => Operation::on_bucket(&head.method, &query)?,
            (Some(_), Some(_)) => Operation::on_object(&head.method, &query, &head.headers)?,
        };
        let (name, key) = (self.name.unwrap_or_default(), self.key.unwrap_or_default());
        if !allows(&grant, operation, &name) {
            return Err(S3Error::access_denied());
        }
        let payload = Payload::of(head, &claim, &signing, body)?;
        let call = Call { account: self.account, grant, head, query, name, key, before: self.place.before };
        match operation {
            Operation::ListBuckets => return buckets::list(&call),
            Operation::CreateBucket => return buckets::create(&call, payload).await,
            Operation::DeleteBucket => return buckets::remove(&call).await,
            Operation::Nothing => return Ok(reply(StatusCode::OK, empty())),
            _ => {}
        }
        let bucket = match call.bucket(&call.name).await? {
            Some(bucket) => bucket,
            None => buckets::made(&call, operation).await?,
        };
        call.run(operation, of.insert(bucket), payload).await
    }

    /// Who sends it, by which key, and what that is good for.
    fn sender(&self, query: &Query) -> Result<(Claim, Grant, SigningKey), S3Error> {
        let posts = self.head.method == Method::POST && self.name.is_some() && self.key.is_none();
        if posts && !query.has("delete") && !claim::is_there(self.head, query) {
            // A form of a browser, whose fields say who sends it. The text is R2's.
            return Err(S3Error::not_implemented("Presigned post requests are not yet implemented"));
        }
        let claim = Claim::read(self.head, query, self.now_ms)?;
        let grant = self.account.grant(&claim.key).map_err(failed)?.ok_or_else(S3Error::unauthorized)?;
        let signing = sign::check(&claim, &grant.secret, self.head, self.place.path, query)?;
        Ok((claim, grant, signing))
    }
}

/// Refuses what would mean something that it does not mean here, for any operation.
fn refuse_unkept(head: &Parts) -> Result<(), S3Error> {
    let said = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    if said("x-amz-security-token").is_some() {
        return Err(S3Error::invalid_argument("X-Amz-Security-Token"));
    }
    let owners = ["x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"];
    let found = owners.into_iter().find_map(|name| Some((name, said(name)?)));
    found.map_or(Ok(()), |(name, value)| Err(S3Error::header_not_implemented(name, value)))
}

/// Whether a key is good for an operation on a bucket.
fn allows(grant: &Grant, operation: Operation, name: &str) -> bool {
    match operation.need() {
        // Whoever lists all of them sees those that he may read.
        Need::Read if operation == Operation::ListBuckets => grant.read != Scope::Named(Vec::new()),
        Need::Read => grant.read.has(name),
        Need::Write => grant.write.has(name),
        Need::Manage => grant.manage,
    }
}

/// Does `work` in a thread of its own when it is the account's turn.
pub(crate) async fn aside<T: Send + 'static>(
    account: &dyn Account,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, S3Error> {
    aside_if(true, account, work).await
}

/// Does `work` at once, or [`aside`] where it is large: whoever else is to be answered does not wait for it.
pub(crate) async fn aside_if<T: Send + 'static>(
    is_large: bool,
    account: &dyn Account,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, S3Error> {
    static TURNS: Turns = Turns::new();
    TURNS.aside_if(is_large, who_is(account.id()), work).await.map_err(|error| failed(error.to_string()))
}

/// An error of the machine's, told to its log.
pub(crate) fn failed(error: String) -> S3Error {
    tracing::error!(error, "a request to the S3 API cannot be answered");
    S3Error::internal()
}

impl Call<'_> {
    /// Does what is asked of a bucket.
    async fn run(&self, operation: Operation, opened: &Arc<Bucket>, payload: Payload) -> Answer {
        let bucket = &**opened;
        match operation {
            Operation::HeadBucket => Ok(reply(StatusCode::OK, empty())),
            Operation::GetBucketLocation => buckets::location(self),
            Operation::GetBucketEncryption => Ok(settings::encryption()),
            Operation::GetBucketVersioning => Ok(settings::versioning()),
            Operation::GetNothing(code, text) => Err(S3Error::new(StatusCode::NOT_FOUND, code, text)),
            Operation::GetBucketCors => settings::cors(bucket),
            Operation::PutBucketCors => settings::put_cors(self, bucket, payload).await,
            Operation::DeleteBucketCors => settings::delete_cors(bucket).await,
            Operation::GetBucketLifecycle => settings::lifecycle(bucket),
            Operation::PutBucketLifecycle => settings::put_lifecycle(self, opened, payload).await,
            Operation::DeleteBucketLifecycle => settings::delete_lifecycle(bucket).await,
            Operation::ListObjects => {
                self.listed(opened, |asked, bucket| list::objects(asked, bucket, false)).await
            }
            Operation::ListObjectsV2 => {
                self.listed(opened, |asked, bucket| list::objects(asked, bucket, true)).await
            }
            Operation::ListMultipartUploads => self.listed(opened, list::uploads).await,
            Operation::ListParts => self.listed(opened, list::parts).await,
            Operation::DeleteObjects => objects::delete_all(self, bucket, payload).await,
            Operation::GetObject | Operation::HeadObject => objects::get(self, bucket),
            Operation::PutObject => objects::put(self, bucket, payload).await,
            Operation::DeleteObject => objects::delete(self, bucket).await,
            Operation::CopyObject => copy::object(self, bucket).await,
            Operation::CreateMultipartUpload => multipart::create(self, bucket).await,
            Operation::UploadPart => multipart::part(self, bucket, payload).await,
            Operation::UploadPartCopy => copy::part(self, bucket).await,
            Operation::CompleteMultipartUpload => multipart::complete(self, bucket, payload).await,
            Operation::AbortMultipartUpload => multipart::abort(self, bucket).await,
            Operation::ListBuckets
            | Operation::CreateBucket
            | Operation::DeleteBucket
            | Operation::Nothing => Err(S3Error::no_route()),
        }
    }

    /// A list, made where nobody else waits for it: accounts take turns.
    async fn listed(&self, bucket: &Arc<Bucket>, list: fn(&Asked, &Bucket) -> Answer) -> Answer {
        let asked = Asked {
            query: self.query.clone(),
            account: self.account.id().to_owned(),
            name: self.name.clone(),
            key: self.key.clone(),
        };
        let bucket = bucket.clone();
        aside(self.account, move || list(&asked, &bucket)).await?
    }

    /// A bucket of the account.
    pub async fn bucket(&self, name: &str) -> Result<Option<Arc<Bucket>>, S3Error> {
        self.account.bucket(name).await.map_err(failed)
    }
}

/// How long a document is, which is in memory until it is sent. An extension of its answer.
#[derive(Clone, Copy)]
struct DocumentLength(usize);

/// An answer with a document.
pub(crate) fn document(xml: Xml) -> Response {
    let text = xml.finish();
    let length = DocumentLength(text.len());
    let mut response = reply(StatusCode::OK, full(text));
    response.extensions_mut().insert(length);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}
