//! The engine's framing: what is read is asked for in a header, what is written in a JSON before the content.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream, StreamExt};
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use serde::Serialize;
use skep_wire::{
    BoxError, BoxFuture, NamedFile, Request, Response, SENDFILE_LEAST, SendFile, Service, empty, full,
    header_bytes, reply,
};

use crate::bucket::Bucket;
use crate::read::{GetBody, GetOutcome};
use crate::request::{self, Call};
use crate::{GetOptions, R2Error};

const REQUEST: &str = "cf-r2-request";
const METADATA_SIZE: &str = "cf-r2-metadata-size";
const ERROR: &str = "cf-r2-error";

/// Longest JSON of a call: a delete of 1000 keys of 1024 bytes, each byte escaped, is 6 MB.
const MAX_JSON: u64 = 8 << 20;

/// Bytes that the JSON of most objects takes no more than.
const HEAD: usize = 512;

type Content = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>;

impl Service for Bucket {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let answered = match *request.method() {
                Method::GET => self.read(&request),
                Method::PUT => self.write(request).await,
                _ => Err(request::invalid()),
            };
            answered.unwrap_or_else(|error| refusal(&error))
        })
    }
}

impl Bucket {
    fn read(&self, request: &Request) -> Result<Response, R2Error> {
        let json = header_bytes(request.headers(), REQUEST).ok_or_else(request::invalid)?;
        match request::parse(json)? {
            Call::Head { key } => framed(&self.head(&key)?),
            Call::List(options) => framed(&self.list(&options)?),
            Call::Get { key, options } => self.answer_get(&key, &options),
            _ => Err(request::invalid()),
        }
    }

    fn answer_get(&self, key: &str, options: &GetOptions) -> Result<Response, R2Error> {
        let GetOutcome { object, body, stored } = self.get(key, options)?;
        let length = object.range.map_or(0, |span| span.length);
        let whole = if let GetBody::Whole(bytes) = &body { bytes.len() } else { 0 };
        let mut head = Vec::with_capacity(HEAD + whole);
        serde_json::to_writer(&mut head, &object).map_err(|_| R2Error::internal())?;
        let head_len = head.len();
        let body = match body {
            GetBody::Whole(bytes) => {
                head.extend_from_slice(&bytes);
                full(head)
            }
            GetBody::Pieces(pieces) => skep_wire::stream(stream::iter([Ok(Bytes::from(head))]).chain(pieces)),
        };
        let mut response = with_size(reply(StatusCode::OK, body), head_len);
        response.headers_mut().insert(header::CONTENT_LENGTH, (head_len as u64 + length).into());
        if let Some(stored) = stored.filter(|_| length >= SENDFILE_LEAST) {
            // As `shims/sendfile.js` makes it of what the script gets.
            let offset = object.range.map_or(0, |span| span.offset);
            let name = format!("{}.{offset}.{length}", object.version).into();
            let file = SendFile::new(length, stored);
            response.extensions_mut().insert(NamedFile { name, file });
        }
        Ok(response)
    }

    async fn write(&self, request: Request) -> Result<Response, R2Error> {
        let (size, length) = framing(request.headers())?;
        let (json, mut content) = split(Box::pin(request.into_body().into_data_stream()), size).await?;
        let answered = match request::parse(&json) {
            Ok(call) => self.run(call, length, &mut content).await,
            Err(error) => Err(error),
        };
        if answered.is_err() {
            // The engine reads an answer only after it has sent everything.
            while let Some(Ok(_)) = content.next().await {}
        }
        answered
    }

    async fn run(&self, call: Call, length: Option<u64>, content: &mut Content) -> Result<Response, R2Error> {
        match call {
            Call::Put { key, mut options } => {
                options.length = length;
                whole(&self.put(&key, *options, content).await?)
            }
            Call::Create { key, options, ssec } => {
                let id = self.create_multipart_upload(&key, *options, ssec.as_ref()).await?;
                whole(&serde_json::json!({ "uploadId": id }))
            }
            Call::UploadPart { key, upload, number, ssec } => {
                let etag = self.upload_part(&key, &upload, number, ssec.as_ref(), length, content).await?;
                whole(&serde_json::json!({ "etag": etag }))
            }
            Call::Complete { key, upload, parts } => {
                whole(&self.complete_multipart_upload(&key, &upload, parts).await?)
            }
            Call::Abort { key, upload } => {
                self.abort_multipart_upload(&key, &upload).await?;
                Ok(reply(StatusCode::OK, empty()))
            }
            Call::Delete { keys } => {
                self.delete(keys).await?;
                Ok(reply(StatusCode::OK, empty()))
            }
            Call::Head { .. } | Call::Get { .. } | Call::List(_) => Err(request::invalid()),
        }
    }
}

/// Bytes of JSON, and bytes of content behind it where that is declared.
fn framing(headers: &http::HeaderMap) -> Result<(usize, Option<u64>), R2Error> {
    let number =
        |name| -> Option<u64> { std::str::from_utf8(header_bytes(headers, name)?).ok()?.trim().parse().ok() };
    let size = number(METADATA_SIZE).filter(|size| *size <= MAX_JSON).ok_or_else(request::invalid)?;
    let all = number(header::CONTENT_LENGTH.as_str());
    let length = all.map(|all| all.checked_sub(size).ok_or_else(request::invalid)).transpose()?;
    Ok((size as usize, length))
}

/// The first `size` bytes, and what follows them.
async fn split(mut body: Content, size: usize) -> Result<(Bytes, Content), R2Error> {
    let mut head = BytesMut::new();
    let mut rest = Bytes::new();
    while head.len() < size {
        let piece = body.next().await.ok_or_else(request::invalid)?;
        let mut piece = piece.map_err(|_| R2Error::incomplete_body())?;
        let mine = piece.split_to(piece.len().min(size - head.len()));
        head.extend_from_slice(&mine);
        rest = piece;
    }
    let first = (!rest.is_empty()).then_some(Ok(rest));
    Ok((head.freeze(), Box::pin(stream::iter(first).chain(body))))
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, R2Error> {
    serde_json::to_vec(value).map_err(|_| R2Error::internal())
}

/// An answer to a write: all of it is JSON.
fn whole(value: &impl Serialize) -> Result<Response, R2Error> {
    Ok(reply(StatusCode::OK, full(to_json(value)?)))
}

/// An answer to a read without content.
fn framed(value: &impl Serialize) -> Result<Response, R2Error> {
    let json = to_json(value)?;
    let size = json.len();
    Ok(with_size(reply(StatusCode::OK, full(json)), size))
}

fn with_size(mut response: Response, size: usize) -> Response {
    response.headers_mut().insert(METADATA_SIZE, size.into());
    response
}

fn refusal(error: &R2Error) -> Response {
    let text =
        serde_json::json!({ "version": 1, "v4code": error.code(), "message": error.message() }).to_string();
    let mut response = match error.object().map(framed) {
        Some(Ok(response)) => response,
        _ => reply(error.status(), empty()),
    };
    *response.status_mut() = error.status();
    if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
        response.headers_mut().insert(ERROR, value);
    }
    response
}
