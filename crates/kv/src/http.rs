//! The binding's HTTP protocol. The engine shows an error's reason phrase to the application.

use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use serde::Serialize;
use skep_store::{StoreError, read_pieces};
use skep_wire::{Body, BoxFuture, ReadError, Request, Response, Service};

use crate::bulk;
use crate::error::KvError;
use crate::key::decode_key;
use crate::limits::{check_cache_ttl, parse_expiration, parse_list_limit};
use crate::namespace::Namespace;
use crate::types::{ListOptions, PutOptions, Value};

const METADATA: HeaderName = HeaderName::from_static("cf-kv-metadata");
const EXPIRATION: HeaderName = HeaderName::from_static("cf-expiration");
/// Bytes of a refused request that are read to the end, so that the connection lives and the reason arrives.
const MAX_DRAIN: usize = 64 * 1024 * 1024;

impl Service for Namespace {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let (head, mut body) = request.into_parts();
            match self.answer(&head, &mut body).await {
                Ok(response) => response,
                Err(error) => {
                    if let KvError::Store(inner) = &error
                        && !matches!(inner, StoreError::DiskFull | StoreError::QuotaReached)
                    {
                        tracing::error!(error = %inner, "a KV operation failed");
                    }
                    drain(&mut body).await;
                    skep_wire::reason(error.status(), &error.to_string())
                }
            }
        })
    }
}

impl Namespace {
    async fn answer(&self, head: &http::request::Parts, body: &mut Body) -> Result<Response, KvError> {
        let path = head.uri.path();
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let raw_key = path.strip_prefix('/').unwrap_or(path);
        match (&head.method, raw_key) {
            (&Method::GET, "") => self.answer_list(&query),
            (&Method::GET, _) => self.answer_get(raw_key, &query),
            (&Method::PUT, _) => self.answer_put(head, raw_key, &query, body).await,
            (&Method::DELETE, _) => {
                self.delete(&query.key(raw_key)?).await?;
                Ok(ok())
            }
            (&Method::POST, "bulk/get") => self.answer_bulk_get(body).await,
            _ => Err(KvError::Method),
        }
    }

    fn answer_get(&self, raw_key: &str, query: &Query) -> Result<Response, KvError> {
        let key = query.key(raw_key)?;
        query.cache_ttl.as_deref().map(check_cache_ttl).transpose()?;
        let entry = self.get(&key)?.ok_or(KvError::NotFound)?;
        let body = match entry.value {
            Value::Inline(value) => skep_wire::full(value),
            Value::File(file) => skep_wire::stream(read_pieces(file, 0, entry.size)),
        };
        let mut response = skep_wire::reply(StatusCode::OK, body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, entry.size.into());
        if let Some(at) = entry.expiration {
            headers.insert(EXPIRATION, at.into());
        }
        if let Some(metadata) =
            entry.metadata.and_then(|json| HeaderValue::from_maybe_shared(bytes(json)).ok())
        {
            headers.insert(METADATA, metadata);
        }
        Ok(response)
    }

    fn answer_list(&self, query: &Query) -> Result<Response, KvError> {
        let mut options = ListOptions { cursor: query.cursor.clone(), ..ListOptions::default() };
        if let Some(limit) = &query.limit {
            options.limit = parse_list_limit(limit)?;
        }
        if let Some(prefix) = &query.prefix {
            options.prefix.clone_from(prefix);
        }
        let page = self.list(&options)?;
        let keys = page.keys.iter().map(|key| ListKey {
            name: &key.name,
            expiration: key.expiration,
            metadata: key.metadata.as_deref(),
        });
        let list = List {
            keys: keys.collect(),
            list_complete: page.cursor.is_none(),
            cursor: page.cursor.as_deref(),
        };
        Ok(skep_wire::json(StatusCode::OK, &list))
    }

    async fn answer_put(
        &self,
        head: &http::request::Parts,
        raw_key: &str,
        query: &Query,
        body: &mut Body,
    ) -> Result<Response, KvError> {
        let key = query.key(raw_key)?;
        let metadata = match skep_wire::header_bytes(&head.headers, METADATA.as_str()) {
            Some(raw) => Some(std::str::from_utf8(raw).map_err(|_| KvError::MetadataNotJson)?.to_owned()),
            None => None,
        };
        let expiration = parse_expiration(query.expiration.as_deref(), query.expiration_ttl.as_deref())?;
        self.put_from(&key, &PutOptions { expiration, metadata }, body).await?;
        Ok(ok())
    }

    async fn answer_bulk_get(&self, body: &mut Body) -> Result<Response, KvError> {
        let request = skep_wire::read_all(body, bulk::MAX_REQUEST).await.map_err(|error| match error {
            ReadError::TooLarge(_) => KvError::TooManyKeys,
            ReadError::Broken(source) => KvError::Interrupted(source),
        })?;
        let object = bulk::get(self, &request).await?;
        let mut response = skep_wire::reply(StatusCode::OK, object);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

#[derive(Serialize)]
struct List<'a> {
    keys: Vec<ListKey<'a>>,
    list_complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a str>,
}

#[derive(Serialize)]
struct ListKey<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration: Option<u64>,
    /// JSON inside a JSON string: the engine parses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a str>,
}

/// The parameters of any request; the first of a name counts.
#[derive(Debug, Default)]
struct Query {
    url_encoded: bool,
    cache_ttl: Option<String>,
    expiration: Option<String>,
    expiration_ttl: Option<String>,
    limit: Option<String>,
    prefix: Option<String>,
    cursor: Option<String>,
}

impl Query {
    fn parse(query: &str) -> Self {
        let mut all = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let slot = match &*name {
                "urlencoded" => {
                    all.url_encoded |= value.eq_ignore_ascii_case("true");
                    continue;
                }
                "cache_ttl" => &mut all.cache_ttl,
                "expiration" => &mut all.expiration,
                "expiration_ttl" => &mut all.expiration_ttl,
                "key_count_limit" => &mut all.limit,
                "prefix" => &mut all.prefix,
                "cursor" => &mut all.cursor,
                _ => continue,
            };
            slot.get_or_insert_with(|| value.into_owned());
        }
        all
    }

    fn key<'a>(&self, raw: &'a str) -> Result<std::borrow::Cow<'a, str>, KvError> {
        if self.url_encoded { decode_key(raw) } else { Ok(raw.into()) }
    }
}

fn ok() -> Response {
    skep_wire::reply(StatusCode::OK, skep_wire::empty())
}

fn bytes(text: String) -> bytes::Bytes {
    text.into_bytes().into()
}

async fn drain(body: &mut Body) {
    let mut left = MAX_DRAIN;
    while let Some(Ok(frame)) = body.frame().await {
        let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, bytes::Bytes::len)) else { return };
        left = rest;
    }
}
