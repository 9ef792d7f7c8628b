//! The protocol: requests to what is stored.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;
use skep_store::read_pieces;
use skep_wire::{
    Body, BoxFuture, Patience, Rate, ReadError, Request, Response, Service, empty, full, patient, read_all,
    reply, stream,
};

use crate::credentials::{Credentials, Grant};
use crate::error::RegistryError;
use crate::lists;
use crate::manifest::MAX_MANIFEST;
use crate::memory::kept;
use crate::name::{Digest, Reference, Repository};
use crate::path::{self, NoTarget, Part, Target};
use crate::ranges;
use crate::store::ImageStore;
use crate::upload;

/// How long a client may send nothing of a body that is waited for.
const BODY_TIME: Duration = Duration::from_secs(100);
/// How slowly it may send: an eighth of what a line of 64 kbit/s takes.
const BODY_RATE: Rate = Rate { grace: BODY_TIME, least: 1000 };

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// Whose images are where.
pub trait Accounts: Send + Sync + 'static {
    /// The images of an account.
    fn images(&self, account: &str) -> Result<Arc<ImageStore>, String>;
    /// The manifests that an account's applications run, as `repository@digest`.
    fn in_use(&self, account: &str) -> Result<HashSet<String>, String>;
}

/// The registry of all accounts of a node, below `/v2`.
pub struct ImageRegistry {
    accounts: Arc<dyn Accounts>,
    credentials: Arc<Credentials>,
}

type Answer = Result<Response, RegistryError>;

impl ImageRegistry {
    /// Over the images of `accounts`, for those who have `credentials`.
    pub fn new(accounts: Arc<dyn Accounts>, credentials: Arc<Credentials>) -> Self {
        Self { accounts, credentials }
    }

    /// Whether a request is for a registry.
    pub fn is_for(path: &str) -> bool {
        path.strip_prefix("/v2").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    async fn answer(&self, request: Request) -> Answer {
        let (head, body) = request.into_parts();
        let authorization = head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let grant = authorization.and_then(|header| self.credentials.check(header));
        let grant = grant.ok_or_else(RegistryError::unauthorized)?;
        let path = head.uri.path();
        let target = path::read(path.strip_prefix("/v2").unwrap_or(path)).map_err(|why| match why {
            NoTarget::Unknown => RegistryError::missing("UNSUPPORTED", format!("there is no {path} here")),
            NoTarget::Name => RegistryError::bad(
                "NAME_INVALID",
                "a repository is called ACCOUNT/NAME, in lower case letters and digits with single dots, dashes and underscores",
            ),
            NoTarget::Digest => RegistryError::bad("DIGEST_INVALID", "digests are sha256: and 64 hexadecimal digits"),
            NoTarget::Reference => {
                RegistryError::bad("TAG_INVALID", "a manifest is asked for by a tag or by a sha256 digest")
            }
        })?;
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        if !(if reads { grant.pull || grant.push } else { grant.push }) {
            return Err(RegistryError::denied("these credentials are not for this"));
        }
        let images = |account: &str| self.accounts.images(account).map_err(RegistryError::internal);
        match target {
            Target::Base if reads => Ok(reply(StatusCode::OK, full("{}"))),
            Target::Catalog if reads => lists::catalog(&images(&grant.account)?, &grant.account, &head).await,
            Target::Garbage if head.method == Method::PUT => {
                let in_use = self.accounts.in_use(&grant.account).map_err(RegistryError::internal)?;
                let removed = images(&grant.account)?.collect(in_use).await?;
                Ok(skep_wire::json(StatusCode::OK, &json!({ "removed": removed })))
            }
            Target::Within(account, ..) if account != grant.account => {
                Err(RegistryError::denied("requested access to the resource is denied"))
            }
            Target::Within(account, repository, part) => {
                let images = images(&account)?;
                let call = Call { images, grant, repository, head };
                call.answer(part, patient(body, Patience::new(BODY_TIME, BODY_RATE))).await
            }
            _ => Err(no_method()),
        }
    }
}

impl Service for ImageRegistry {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        let is_head = request.method() == Method::HEAD;
        Box::pin(async move {
            let answer = self.answer(request).await;
            let mut response = answer.unwrap_or_else(RegistryError::into_response);
            response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
            if is_head && !response.status().is_success() {
                *response.body_mut() = empty();
            }
            response
        })
    }
}

fn no_method() -> RegistryError {
    RegistryError::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "the registry does not do this here")
}

/// A request that may be answered.
struct Call {
    images: Arc<ImageStore>,
    grant: Grant,
    repository: Repository,
    head: Parts,
}

impl Call {
    async fn answer(self, part: Part, body: Body) -> Answer {
        let method = self.head.method.clone();
        match (method, part) {
            (Method::HEAD, Part::Blob(digest)) => self.blob_head(&digest).await,
            (Method::GET, Part::Blob(digest)) => self.blob(&digest).await,
            (Method::DELETE, Part::Blob(digest)) => {
                self.images.delete_blob(&self.repository, &digest).await?;
                Ok(reply(StatusCode::ACCEPTED, empty()))
            }
            (Method::POST, Part::Uploads) => self.begin(body).await,
            (Method::GET | Method::HEAD, Part::Upload(id)) => {
                let len = self.images.progress(&self.repository, &id).await?;
                Ok(self.under_way(StatusCode::NO_CONTENT, &id, len))
            }
            (Method::PATCH, Part::Upload(id)) => {
                let len = self.images.append(&self.repository, &id, self.from()?, body).await?;
                Ok(self.under_way(StatusCode::ACCEPTED, &id, len))
            }
            (Method::PUT, Part::Upload(id)) => {
                let digest = self.digest("digest")?.ok_or_else(|| {
                    RegistryError::bad(
                        "DIGEST_INVALID",
                        "an upload ends with ?digest=, the sha256 digest of all of it",
                    )
                })?;
                self.images.finish(&self.repository, &id, &digest, self.from()?, body).await?;
                Ok(self.made("blobs", &digest, None))
            }
            (Method::DELETE, Part::Upload(id)) => {
                self.images.give_up(&self.repository, &id)?;
                Ok(reply(StatusCode::NO_CONTENT, empty()))
            }
            (Method::GET | Method::HEAD, Part::Manifest(reference)) => self.manifest(&reference).await,
            (Method::PUT, Part::Manifest(reference)) => self.put_manifest(&reference, body).await,
            (Method::DELETE, Part::Manifest(reference)) => {
                self.images.delete_manifest(&self.repository, &reference).await?;
                Ok(reply(StatusCode::ACCEPTED, empty()))
            }
            (Method::GET | Method::HEAD, Part::Tags) => {
                lists::tags(&self.images, &self.grant.account, &self.repository, &self.head).await
            }
            (Method::GET | Method::HEAD, Part::Referrers(digest)) => {
                let account = &self.grant.account;
                lists::referrers(&self.images, account, &self.repository, &digest, &self.head).await
            }
            _ => Err(no_method()),
        }
    }

    /// The address of something in the repository.
    fn place(&self, what: &str) -> HeaderValue {
        let place = format!("/v2/{}/{}/{what}", self.grant.account, self.repository);
        HeaderValue::try_from(place).unwrap_or(HeaderValue::from_static("/v2/"))
    }

    fn under_way(&self, status: StatusCode, id: &str, len: u64) -> Response {
        let mut response = reply(status, empty());
        let headers = response.headers_mut();
        headers.insert(header::LOCATION, self.place(&format!("blobs/uploads/{id}")));
        headers.insert(header::RANGE, upload::range(len));
        headers.extend(HeaderValue::try_from(id).ok().map(|id| (UPLOAD_ID, id)));
        response
    }

    fn made(&self, kind: &str, digest: &Digest, subject: Option<Digest>) -> Response {
        let mut response = reply(StatusCode::CREATED, empty());
        let headers = response.headers_mut();
        headers.insert(header::LOCATION, self.place(&format!("{kind}/{digest}")));
        set_digest(headers, digest);
        let subject = subject.and_then(|subject| HeaderValue::try_from(subject.as_str()).ok());
        headers.extend(subject.map(|subject| (SUBJECT, subject)));
        response
    }

    fn query(&self, name: &str) -> Option<String> {
        path::query(&self.head.uri, name)
    }

    fn digest(&self, name: &str) -> Result<Option<Digest>, RegistryError> {
        let Some(text) = self.query(name) else { return Ok(None) };
        let digest = Digest::parse(&text);
        let wrong = || RegistryError::bad("DIGEST_INVALID", format!("{text:?} is not a sha256 digest"));
        digest.map(Some).ok_or_else(wrong)
    }

    fn header(&self, name: HeaderName) -> Option<&str> {
        self.head.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Where a chunk says that it begins.
    fn from(&self) -> Result<Option<u64>, RegistryError> {
        let Some(text) = self.header(header::CONTENT_RANGE) else { return Ok(None) };
        let wrong = || RegistryError::bad("BLOB_UPLOAD_INVALID", format!("{text:?} is not a range of bytes"));
        ranges::chunk(text).map(Some).ok_or_else(wrong)
    }

    async fn begin(self, body: Body) -> Answer {
        if let Some(digest) = self.digest("mount")? {
            // Another account's repository is none that could be mounted from.
            let own = format!("{}/", self.grant.account);
            let from = self.query("from");
            let from = from.as_deref().and_then(|from| from.strip_prefix(&own)).and_then(Repository::parse);
            if let Some(from) = from
                && self.images.link(&self.repository, &digest, &from).await?.is_some()
            {
                return Ok(self.made("blobs", &digest, None));
            }
        }
        let digest = self.digest("digest")?;
        let id = self.images.begin(&self.repository).await?;
        let Some(digest) = digest else { return Ok(self.under_way(StatusCode::ACCEPTED, &id, 0)) };
        let kept = self.images.finish(&self.repository, &id, &digest, None, body).await;
        if kept.is_err() {
            // Nobody knows its id; it may be over already.
            let _ = self.images.give_up(&self.repository, &id);
        }
        kept?;
        Ok(self.made("blobs", &digest, None))
    }

    async fn blob_head(&self, digest: &Digest) -> Answer {
        let size = self.images.find_blob(&self.repository, digest, self.grant.push).await?;
        let size = size.ok_or_else(RegistryError::no_blob)?;
        let mut response = reply(StatusCode::OK, empty());
        blob_headers(&mut response, digest, size);
        Ok(response)
    }

    async fn blob(&self, digest: &Digest) -> Answer {
        let (images, repository, wanted) = (self.images.clone(), self.repository.clone(), digest.clone());
        let opened = tokio::task::spawn_blocking(move || images.blob(&repository, &wanted)).await;
        let (file, size) = opened.map_err(RegistryError::internal)??.ok_or_else(RegistryError::no_blob)?;
        let span = match self.header(header::RANGE).and_then(|header| ranges::asked(header, size)) {
            None => None,
            Some(Ok(span)) => Some(span),
            Some(Err(())) => {
                let error = RegistryError::new(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    "SIZE_INVALID",
                    format!("the blob has {size} bytes"),
                );
                let header =
                    HeaderValue::try_from(format!("bytes */{size}")).map_err(RegistryError::internal)?;
                return Err(error.with(header::CONTENT_RANGE, header));
            }
        };
        let (status, offset, len) = match span {
            None => (StatusCode::OK, 0, size),
            Some(span) => (StatusCode::PARTIAL_CONTENT, span.offset, span.len),
        };
        let mut response = reply(status, stream(read_pieces(file, offset, len)));
        blob_headers(&mut response, digest, len);
        if span.is_some() {
            let range = format!("bytes {offset}-{}/{size}", offset + len - 1);
            let range = HeaderValue::try_from(range).map_err(RegistryError::internal)?;
            response.headers_mut().insert(header::CONTENT_RANGE, range);
        }
        Ok(response)
    }

    async fn manifest(&self, reference: &Reference) -> Answer {
        let found =
            self.images.manifest(&self.repository, reference)?.ok_or_else(RegistryError::no_manifest)?;
        let body = match self.head.method == Method::HEAD {
            true => empty(),
            false => {
                let content = self.images.content(&self.repository, &found).await?;
                full(content.ok_or_else(RegistryError::no_manifest)?)
            }
        };
        let mut response = reply(StatusCode::OK, body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(found.size));
        let kind = HeaderValue::try_from(found.media_type).map_err(RegistryError::internal)?;
        headers.insert(header::CONTENT_TYPE, kind);
        set_digest(headers, &found.digest);
        Ok(response)
    }

    async fn put_manifest(&self, reference: &Reference, body: Body) -> Answer {
        // Its account's own: nobody else waits for who sends slowly.
        let announced = self.header(header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
        let most = announced.map_or(MAX_MANIFEST, |size: usize| size.min(MAX_MANIFEST));
        let room = self.images.memory.room(most).await;
        let content = read_all(body, most).await.map_err(|error| match error {
            ReadError::TooLarge(most) => {
                let text = format!("a manifest has at most {most} bytes");
                RegistryError::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", text)
            }
            ReadError::Broken(error) => {
                RegistryError::bad("MANIFEST_INVALID", format!("the body broke off: {error}"))
            }
        })?;
        let (content, kind) = (kept(content, room), self.header(header::CONTENT_TYPE));
        let (digest, subject) = self.images.put_manifest(&self.repository, reference, content, kind).await?;
        Ok(self.made("manifests", &digest, subject))
    }
}

fn set_digest(headers: &mut http::HeaderMap, digest: &Digest) {
    headers.extend(HeaderValue::try_from(digest.as_str()).ok().map(|digest| (CONTENT_DIGEST, digest)));
}

fn blob_headers(response: &mut Response, digest: &Digest, len: u64) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.extend(HeaderValue::try_from(format!("\"{digest}\"")).ok().map(|tag| (header::ETAG, tag)));
    set_digest(headers, digest);
}
