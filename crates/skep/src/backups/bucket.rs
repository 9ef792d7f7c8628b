//! A bucket of S3, or of what speaks its API, as a place of backups.

use std::ops::Range;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, StatusCode};
use md5::{Digest, Md5};
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::{Credentials, S3Action, UrlStyle};
use serde::{Deserialize, Serialize};
use skep_backup::{Listed, Place, PlaceError};
use skep_deploy::http::{Proxies, Transport, TransportError};
use skep_runtime::Shutdown;
use tokio::runtime::Handle;
use url::Url;

/// What AWS's tools take without a word; R2 takes it for `auto`.
const REGION: &str = "us-east-1";
/// A signed request is good for so long.
const GOOD_FOR: Duration = Duration::from_secs(600);
/// A request takes so long at most: 8 MiB over a slow line.
const TIME: Duration = Duration::from_secs(300);
/// The longest piece, in bytes: the manifest of a very large node.
const MOST: usize = 1 << 30;
/// A request is tried so often. Services of this kind say that they are busy, and expect to be asked again.
const TRIES: u32 = 6;
/// The time before the second attempt; it doubles each time.
const PAUSE: Duration = Duration::from_millis(500);

/// A part of a bucket, and how to get there.
#[derive(Clone, Serialize, Deserialize)]
pub struct Bucket {
    name: String,
    /// Empty, or with a slash at its end.
    prefix: String,
    region: String,
    /// Where it is not AWS.
    endpoint: Option<String>,
    key_id: String,
    secret: String,
    token: Option<String>,
}

impl Bucket {
    /// What a URL `s3://bucket/prefix` and the environment say.
    pub(super) fn parse(url: &Url, env: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let name = url.host_str().filter(|name| !name.is_empty()).ok_or("it names no bucket")?;
        let any = |names: &[&str]| names.iter().find_map(|name| env(name).filter(|value| !value.is_empty()));
        let (mut region, mut endpoint) =
            (any(&["AWS_REGION", "AWS_DEFAULT_REGION"]), any(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]));
        for (key, value) in url.query_pairs() {
            match &*key {
                "region" => region = Some(value.into_owned()),
                "endpoint" => endpoint = Some(value.into_owned()),
                other => return Err(format!("{other} means nothing here; region and endpoint do")),
            }
        }
        let endpoint = endpoint.map(|text| {
            let is_server = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
            match Url::parse(&text).is_ok_and(|url| is_server(&url)) {
                true => Ok(text),
                false => Err(format!("{text} is no address of a server: expected https://HOST")),
            }
        });
        let needed = |name: &str| any(&[name]).ok_or_else(|| format!("set {name}, as for the AWS tools"));
        let prefix = url.path().trim_matches('/');
        let prefix = percent_encoding::percent_decode_str(prefix).decode_utf8_lossy();
        Ok(Self {
            name: name.to_owned(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            region: region.unwrap_or_else(|| REGION.into()),
            endpoint: endpoint.transpose()?,
            key_id: needed("AWS_ACCESS_KEY_ID")?,
            secret: needed("AWS_SECRET_ACCESS_KEY")?,
            token: any(&["AWS_SESSION_TOKEN"]),
        })
    }

    /// What it is called in messages.
    pub(super) fn shown(&self) -> String {
        format!("s3://{}/{}", self.name, self.prefix).trim_end_matches('/').to_owned()
    }

    /// A client of it, whose requests `runtime` sends.
    pub(super) fn open(
        &self,
        proxies: Proxies,
        runtime: Handle,
        shutdown: Shutdown,
    ) -> Result<Client, String> {
        let (endpoint, style) = match &self.endpoint {
            Some(endpoint) => (endpoint.clone(), UrlStyle::Path),
            // Certificates are for names of one part below.
            None if self.name.contains('.') => (aws(&self.region), UrlStyle::Path),
            None => (aws(&self.region), UrlStyle::VirtualHost),
        };
        let endpoint = Url::parse(&endpoint).map_err(|e| format!("{endpoint}: {e}"))?;
        let bucket = rusty_s3::Bucket::new(endpoint, style, self.name.clone(), self.region.clone());
        let credentials = match &self.token {
            Some(token) => Credentials::new_with_token(&self.key_id, &self.secret, token),
            None => Credentials::new(&self.key_id, &self.secret),
        };
        Ok(Client {
            shown: self.shown(),
            bucket: bucket.map_err(|e| format!("{}: {e}", self.shown()))?,
            credentials,
            prefix: self.prefix.clone(),
            http: Transport::new(proxies),
            runtime,
            shutdown,
        })
    }
}

fn aws(region: &str) -> String {
    format!("https://s3.{region}.amazonaws.com")
}

/// A client of a part of a bucket.
pub struct Client {
    shown: String,
    bucket: rusty_s3::Bucket,
    credentials: Credentials,
    prefix: String,
    http: Transport,
    runtime: Handle,
    shutdown: Shutdown,
}

/// A request, but for its signature.
#[derive(Default)]
struct Asked {
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Client {
    /// Asks until there is an answer that says something, and returns it.
    fn ask(
        &self,
        method: &Method,
        asked: &Asked,
        sign: impl Fn() -> Url,
    ) -> Result<(StatusCode, Bytes), PlaceError> {
        let (mut pause, mut attempt) = (PAUSE, 1);
        loop {
            let url = sign();
            let mut request = http::Request::builder().method(method);
            for (name, value) in &asked.headers {
                request = request.header(*name, value);
            }
            let request = request.body(asked.body.clone()).map_err(|e| PlaceError(e.to_string()))?;
            let error = match self.wait_for(self.http.send(&url, request, MOST, TIME))? {
                Ok(response) if !is_busy(response.status()) => {
                    return Ok((response.status(), response.into_body()));
                }
                Ok(response) => said(response.status(), response.body()),
                Err(error @ TransportError::Invalid(_)) => return Err(PlaceError(error.to_string())),
                Err(error) => PlaceError(error.to_string()),
            };
            if attempt == TRIES {
                return Err(error);
            }
            tracing::info!(place = self.shown, %error, attempt, "a bucket is asked again");
            self.wait_for(async { tokio::time::sleep(pause).await })?;
            pause *= 2;
            attempt += 1;
        }
    }

    /// What comes of `work`, unless Skep ends before.
    fn wait_for<T>(&self, work: impl Future<Output = T>) -> Result<T, PlaceError> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.shutdown.requested() => Err(PlaceError("it was not waited for, as Skep ends".into())),
                done = work => Ok(done),
            }
        })
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

/// Whether the same request may be answered in a moment.
fn is_busy(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 429)
}

/// An answer that is an error, in words.
fn said(status: StatusCode, body: &[u8]) -> PlaceError {
    let text = String::from_utf8_lossy(body);
    let part = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(part, _)| part.trim().to_owned())
    };
    match (part("Code"), part("Message")) {
        (Some(code), Some(message)) => PlaceError(format!("{code}: {message} (status {})", status.as_u16())),
        (Some(code), None) => PlaceError(format!("{code} (status {})", status.as_u16())),
        _ => PlaceError(format!("it answers with {status}")),
    }
}

impl Place for Client {
    fn shown(&self) -> String {
        self.shown.clone()
    }

    fn put(&self, key: &str, content: Vec<u8>) -> Result<(), PlaceError> {
        let key = self.key(key);
        // So that nothing else is stored.
        let digest = STANDARD.encode(Md5::digest(&content));
        let asked = Asked { headers: vec![("content-md5", digest)], body: content.into() };
        let sign = || self.bucket.put_object(Some(&self.credentials), &key).sign(GOOD_FOR);
        match self.ask(&Method::PUT, &asked, sign)? {
            (status, _) if status.is_success() => Ok(()),
            (status, body) => Err(said(status, &body)),
        }
    }

    fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<Vec<u8>>, PlaceError> {
        let key = self.key(key);
        let mut asked = Asked::default();
        if let Some(Range { start, end }) = range.clone() {
            asked.headers.push(("range", format!("bytes={start}-{}", end.saturating_sub(1))));
        }
        let sign = || self.bucket.get_object(Some(&self.credentials), &key).sign(GOOD_FOR);
        match (self.ask(&Method::GET, &asked, sign)?, range) {
            ((StatusCode::OK, body), None) => Ok(Some(body.into())),
            ((StatusCode::PARTIAL_CONTENT, body), Some(_)) => Ok(Some(body.into())),
            // Who ignores the range sends all.
            ((StatusCode::OK, body), Some(Range { start, end })) => {
                let part = body.get(start as usize..end as usize);
                part.map(|part| Some(part.to_vec())).ok_or_else(|| PlaceError(format!("{key} is too short")))
            }
            ((StatusCode::NOT_FOUND, body), _) if !is_no_bucket(&body) => Ok(None),
            ((status, body), _) => Err(said(status, &body)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, PlaceError> {
        let prefix = self.key(prefix);
        let (mut found, mut from) = (Vec::new(), None::<String>);
        loop {
            let sign = || {
                let mut list = self.bucket.list_objects_v2(Some(&self.credentials));
                list.with_prefix(prefix.as_str());
                if let Some(from) = &from {
                    list.with_continuation_token(from.as_str());
                }
                list.sign(GOOD_FOR)
            };
            let (status, body) = self.ask(&Method::GET, &Asked::default(), sign)?;
            if !status.is_success() {
                return Err(said(status, &body));
            }
            let listed = ListObjectsV2::parse_response(&String::from_utf8_lossy(&body))
                .map_err(|e| PlaceError(format!("its list of objects cannot be read: {e}")))?;
            for object in listed.contents {
                if let Some(key) = object.key.strip_prefix(&self.prefix) {
                    found.push(Listed { key: key.to_owned(), size: object.size.unwrap_or_default() });
                }
            }
            match listed.next_continuation_token {
                Some(token) => from = Some(token),
                None => return Ok(found),
            }
        }
    }

    fn remove(&self, key: &str) -> Result<(), PlaceError> {
        let key = self.key(key);
        let sign = || self.bucket.delete_object(Some(&self.credentials), &key).sign(GOOD_FOR);
        match self.ask(&Method::DELETE, &Asked::default(), sign)? {
            (status, _) if status.is_success() => Ok(()),
            (StatusCode::NOT_FOUND, body) if !is_no_bucket(&body) => Ok(()),
            (status, body) => Err(said(status, &body)),
        }
    }
}

/// Whether it is not the object that is missing.
fn is_no_bucket(body: &[u8]) -> bool {
    memchr::memmem::find(body, b"NoSuchBucket").is_some()
}

#[cfg(test)]
mod tests;
