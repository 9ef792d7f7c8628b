//! The S3 API of buckets under `skep dev`, where wrangler has it: below `/cdn-cgi/local/r2/s3`, with a key for each bucket that the
//! configuration gives one.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use skep_config::{S3Credentials, WorkerConfig};
use skep_edge::AskedPath;
use skep_r2::Bucket;
use skep_runtime::Clock;
use skep_s3::{Account, BucketInfo, Changed, Grant, Place, Room, Scope};
use skep_wire::{Body, BoxFuture, Response, empty, reply};

use crate::stores::Stores;

const PATH: &str = "/cdn-cgi/local/r2/s3";

/// Whether a path is one of the S3 API's.
pub fn is_below(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Buckets and their keys.
pub struct S3 {
    buckets: BTreeMap<String, (S3Credentials, Arc<Bucket>)>,
    clock: Clock,
    room: Room,
}

impl S3 {
    /// The buckets of all workers of a session that have a key; `None` if none has.
    pub fn of<'a>(
        configs: impl Iterator<Item = &'a WorkerConfig>,
        stores: &Stores,
        clock: &Clock,
    ) -> Option<Self> {
        let mut buckets = BTreeMap::new();
        for bucket in configs.flat_map(|config| &config.r2_buckets) {
            let Some(credentials) = &bucket.s3_credentials else { continue };
            match stores.r2.bucket(&bucket.bucket_name) {
                Ok(open) => {
                    buckets.insert(bucket.bucket_name.clone(), (credentials.clone(), open));
                }
                Err(error) => {
                    tracing::error!(%error, bucket = bucket.bucket_name, "a bucket has no S3 API");
                }
            }
        }
        (!buckets.is_empty()).then(|| Self { buckets, clock: clock.clone(), room: Room::default() })
    }

    /// The answer to a request below [`PATH`]. Pages of all origins may send one, as under wrangler.
    pub fn answer<'a>(&'a self, head: &'a Parts, body: Body) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            let any = HeaderValue::from_static("*");
            let mut response = match head.method {
                Method::OPTIONS => preflight(head),
                _ => {
                    let place = Place { path: AskedPath::of(head), before: PATH, bucket: None };
                    let now = i64::try_from(self.clock.now_ms()).unwrap_or(i64::MAX);
                    skep_s3::answer(self, place, head, body, now).await
                }
            };
            response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any.clone());
            response.headers_mut().insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, any);
            response
        })
    }
}

fn preflight(head: &Parts) -> Response {
    let mut response = reply(StatusCode::NO_CONTENT, empty());
    let methods = HeaderValue::from_static("GET,HEAD,PUT,POST,DELETE");
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    if let Some(names) = head.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    response
}

impl Account for S3 {
    fn id(&self) -> &str {
        "local"
    }

    fn room(&self) -> &Room {
        &self.room
    }

    fn grant(&self, key: &str) -> Result<Option<Grant>, String> {
        let Some((own, _)) = self.buckets.values().find(|(own, _)| own.access_key_id == key) else {
            return Ok(None);
        };
        let same = self.buckets.iter().filter(|(_, (other, _))| other == own);
        let names = Scope::Named(same.map(|(name, _)| name.clone()).collect());
        let secret = own.secret_access_key.clone();
        Ok(Some(Grant { secret, read: names.clone(), write: names, manage: true }))
    }

    fn buckets(&self) -> Result<Vec<BucketInfo>, String> {
        let names = self.buckets.keys().cloned();
        Ok(names.map(|name| BucketInfo { name, created_ms: 0, location: None }).collect())
    }

    fn bucket<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Arc<Bucket>>, String>> {
        Box::pin(async move { Ok(self.buckets.get(name).map(|(_, bucket)| bucket.clone())) })
    }

    fn create<'a>(&'a self, _: &'a str, _: Option<&'a str>) -> BoxFuture<'a, Result<Changed, String>> {
        Box::pin(async { Ok(Changed::Fixed) })
    }

    fn remove<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Changed, String>> {
        Box::pin(async { Ok(Changed::Fixed) })
    }
}
