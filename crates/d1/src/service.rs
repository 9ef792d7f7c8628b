//! The HTTP face: what the engine's D1 client calls.

use std::fs::File;
use std::io::Read;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use skep_runtime::{Bounds, Turns};
use skep_wire::{BoxFuture, Request, Response, Service};

use crate::database::D1Database;
use crate::error::D1Error;
use crate::request::{Asked, ResultsFormat, parse};

/// Carries the session's constraint or bookmark, both ways.
const SESSION: &str = "x-cf-d1-session-commit-token";
/// Bytes of a request at most: Cloudflare's limit for a request's body.
const BODY: usize = 100 << 20;
/// Bytes of requests that may be in memory when another one is read.
const BODIES: Bounds = Bounds { own: 32 << 20, all: 512 << 20, little: 1 << 20 };
/// A request above this is parsed aside.
const AT_ONCE: usize = 256 << 10;
/// Bytes of a dump read at a time.
const PIECE: usize = 256 << 10;

static TURNS: Turns = Turns::new();

impl Service for D1Database {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            match (request.method(), request.uri().path()) {
                (&Method::POST, "/query" | "/execute") => self.statements(request).await,
                (&Method::POST, "/dump") => self.file().await,
                _ => skep_wire::reply(StatusCode::NOT_FOUND, skep_wire::empty()),
            }
        })
    }
}

impl D1Database {
    async fn statements(&self, request: Request) -> Response {
        let in_session =
            request.headers().get(SESSION).is_some_and(|v| !v.as_bytes().trim_ascii().is_empty());
        let format = ResultsFormat::from_query(request.uri().query());
        let _room = skep_wire::room_for(&request, BODY, BODIES).await;
        let body = match skep_wire::read_all(request.into_body(), BODY).await {
            Ok(body) => body,
            Err(error @ skep_wire::ReadError::TooLarge(_)) => {
                return failure(StatusCode::PAYLOAD_TOO_LARGE, &D1Error::new(error.to_string()));
            }
            Err(error) => return failure(StatusCode::BAD_REQUEST, &D1Error::new(error.to_string())),
        };
        let parsed = match body.len() {
            ..=AT_ONCE => parse(&body),
            _ => {
                TURNS.aside(self.who(), move || parse(&body)).await.unwrap_or_else(|_| Err(D1Error::closed()))
            }
        };
        let result = match parsed {
            Ok(Asked::Run(statements)) => self.run(statements, format).await,
            Ok(Asked::Export(options)) => self.export(options).await.map(Bytes::from),
            Err(error) => return failure(StatusCode::BAD_REQUEST, &error),
        };
        match result {
            Ok(body) => {
                let mut response = skep_wire::reply(StatusCode::OK, skep_wire::full(body));
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                if in_session && let Ok(bookmark) = HeaderValue::try_from(self.bookmark()) {
                    headers.insert(SESSION, bookmark);
                }
                response
            }
            // The client looks at the body alone.
            Err(error) => failure(StatusCode::OK, &error),
        }
    }

    async fn file(&self) -> Response {
        let (file, copy) = match self.dump().await {
            Ok(copied) => copied,
            Err(error) => return failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
        };
        let pieces = futures_util::stream::unfold((Some(file), copy), |(file, copy)| async move {
            let read = tokio::task::spawn_blocking(move || read_piece(file?)).await;
            match read {
                Ok(Some((piece, file))) => Some((piece, (file, copy))),
                Ok(None) => None,
                Err(error) => Some((Err(std::io::Error::other(error)), (None, copy))),
            }
        });
        let mut response = skep_wire::reply(StatusCode::OK, skep_wire::stream(pieces));
        let kind = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

/// The next piece and the file for the one after it; `None` at the end.
fn read_piece(mut file: File) -> Option<(std::io::Result<Bytes>, Option<File>)> {
    let mut piece = Vec::with_capacity(PIECE);
    match (&mut file).take(PIECE as u64).read_to_end(&mut piece) {
        Ok(0) => None,
        Ok(_) => Some((Ok(piece.into()), Some(file))),
        Err(error) => Some((Err(error), None)),
    }
}

fn failure(status: StatusCode, error: &D1Error) -> Response {
    #[derive(Serialize)]
    struct Failure {
        success: bool,
        error: String,
    }
    skep_wire::json(status, &Failure { success: false, error: error.to_string() })
}
