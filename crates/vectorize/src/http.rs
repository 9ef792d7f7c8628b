//! The HTTP face: what the engine's Vectorize client calls.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use skep_runtime::{Bounds, Turns};
use skep_wire::{BoxFuture, ReadError, Request, Response, Service, read_all};

use crate::error::VectorizeError;
use crate::index::Index;
use crate::limits::{MAX_BATCH_WORKERS, MAX_UPLOAD};
use crate::query::Query;
use crate::store::Binding;
use crate::vector::{Unparsable, Vector, parse_lines};

/// Vectors are read aside, in turns.
static READS: Turns = Turns::new();
/// Bytes of requests that may be in memory when another one is read.
const BODIES: Bounds = Bounds { own: 32 << 20, all: 512 << 20, little: 1 << 20 };
/// Bytes of a request without vectors to keep: one vector as text, a filter, ids.
const MAX_REQUEST: usize = 1 << 20;

#[derive(Deserialize)]
struct Ids {
    ids: Vec<String>,
}

impl Service for Binding {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move { self.answer(request).await.unwrap_or_else(|error| refusal(&error)) })
    }
}

impl Binding {
    async fn answer(&self, request: Request) -> Result<Response, VectorizeError> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        // Vectors are more than their text while they are read, and until they are stored.
        let _room = skep_wire::room_for(&request, MAX_UPLOAD, BODIES).await;
        let body = request.into_body();
        match (&method, path.as_str()) {
            (&Method::GET, "/info") => shown(&self.index().await?.details()?),
            (&Method::POST, "/query") => {
                let query = Query::parse(&small(body).await?)?;
                shown(&self.index().await?.query(query).await?)
            }
            (&Method::POST, "/getByIds") => shown(&self.index().await?.get(&ids(&small(body).await?)?)?),
            (&Method::POST, "/deleteByIds") => {
                let ids = ids(&small(body).await?)?;
                mutated(self.index().await?.delete(ids).await?)
            }
            (&Method::POST, "/insert") => {
                let index = self.index().await?;
                let vectors = vectors(&index, body, "insert").await?;
                mutated(index.insert(vectors).await?)
            }
            (&Method::POST, "/upsert") => {
                let index = self.index().await?;
                let vectors = vectors(&index, body, "upsert").await?;
                mutated(index.upsert(vectors).await?)
            }
            _ => Err(VectorizeError::NotFound),
        }
    }
}

fn shown(value: &impl Serialize) -> Result<Response, VectorizeError> {
    Ok(skep_wire::json(StatusCode::OK, value))
}

fn mutated(id: String) -> Result<Response, VectorizeError> {
    shown(&json!({ "mutationId": id }))
}

fn refusal(error: &VectorizeError) -> Response {
    if error.status().is_server_error() {
        tracing::error!(%error, "a call of a Vectorize index failed");
    }
    let text = error.to_string();
    let body = match error.code() {
        Some(code) => json!({ "code": code, "error": text }),
        None => json!({ "error": text }),
    };
    skep_wire::json(error.status(), &body)
}

async fn small(body: skep_wire::Body) -> Result<Bytes, VectorizeError> {
    read_all(body, MAX_REQUEST).await.map_err(|error| match error {
        ReadError::TooLarge(_) => VectorizeError::Json(format!("it is longer than {MAX_REQUEST} bytes")),
        ReadError::Broken(source) => VectorizeError::Interrupted(source),
    })
}

fn ids(body: &[u8]) -> Result<Vec<String>, VectorizeError> {
    let ids = serde_json::from_slice::<Ids>(body).map_err(|error| VectorizeError::Json(error.to_string()))?;
    Ok(ids.ids)
}

async fn vectors(
    index: &Index,
    body: skep_wire::Body,
    operation: &'static str,
) -> Result<Vec<Vector>, VectorizeError> {
    let body = read_all(body, MAX_UPLOAD).await.map_err(|error| match error {
        ReadError::TooLarge(_) => VectorizeError::TooLong(operation),
        ReadError::Broken(source) => VectorizeError::Interrupted(source),
    })?;
    let read = READS
        .aside(index.who(), move || parse_lines(&body, operation, MAX_BATCH_WORKERS, Unparsable::Error))
        .await;
    read.unwrap_or_else(|_| Err(skep_store::StoreError::Closed.into()))
}
