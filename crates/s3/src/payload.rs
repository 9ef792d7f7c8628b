//! The content of a request, as it was before it was signed, chunked and summed up.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use http_body_util::BodyDataStream;
use skep_wire::{Body, BoxError};

use crate::account::Account;
use crate::chunks::{Chunks, Signatures};
use crate::claim::{CONTENT_HASH, Claim, UNSIGNED};
use crate::digest::Digests;
use crate::error::S3Error;
use crate::service::aside_if;
use crate::sign::SigningKey;
use crate::xml::Element;

/// A document of no more bytes is read where it is.
const SMALL: usize = 64 * 1024;

/// A content that comes, and what came of it.
pub(crate) struct Payload {
    /// Ends with an error where it is not what it was said to be.
    pub content: BoxStream<'static, Result<Bytes, BoxError>>,
    /// Bytes of it.
    pub length: Option<u64>,
    end: End,
}

/// The digests that the answer repeats, or what was wrong.
type Ended = Result<Vec<(HeaderName, HeaderValue)>, S3Error>;

/// How a content ended, once it has.
#[derive(Clone, Default)]
pub(crate) struct End(Arc<Mutex<Option<Ended>>>);

impl End {
    fn set(&self, end: Ended) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }

    /// What was wrong with the content, if anything was; otherwise `other`.
    pub fn error(&self, other: impl Into<S3Error>) -> S3Error {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Err(error)) => error.clone(),
            _ => other.into(),
        }
    }

    /// The digests that were compared.
    pub fn digests(&self) -> Vec<(HeaderName, HeaderValue)> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Ok(digests)) => digests.clone(),
            _ => Vec::new(),
        }
    }
}

impl Payload {
    /// What comes with a request that is signed by `key`.
    pub fn of(head: &Parts, claim: &Claim, key: &SigningKey, body: Body) -> Result<Self, S3Error> {
        let signatures = || Signatures {
            key: key.clone(),
            at: claim.at.clone(),
            scope: claim.scope(),
            last: claim.signature.clone(),
        };
        let (chunks, signed) = match claim.payload.as_str() {
            UNSIGNED => (None, None),
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => (Some(Chunks::new(None)), None),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" | "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => {
                (Some(Chunks::new(Some(signatures()))), None)
            }
            hash if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => (None, Some(hash)),
            other => return Err(S3Error::header_not_implemented(CONTENT_HASH, other)),
        };
        let digests = Digests::of(&head.headers, signed)?;
        let number = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok());
        let length = match chunks {
            None => number(CONTENT_LENGTH.as_str()),
            Some(_) => Some(number("x-amz-decoded-content-length").ok_or_else(S3Error::missing_length)?),
        };
        let end = End::default();
        let source = Source {
            body: BodyDataStream::new(body),
            rest: Bytes::new(),
            chunks,
            digests: Some(digests),
            end: end.clone(),
        };
        Ok(Self { content: source.content().boxed(), length, end })
    }

    pub fn end(&self) -> End {
        self.end.clone()
    }

    /// What `read` finds in the document that it is, if it is one of no more than `most` bytes; `None` if there is nothing.
    pub async fn document<T: Send + 'static>(
        mut self,
        account: &dyn Account,
        most: usize,
        read: impl FnOnce(&Element) -> Result<T, S3Error> + Send + 'static,
    ) -> Result<Option<T>, S3Error> {
        let length = self.length.and_then(|length| usize::try_from(length).ok()).unwrap_or(most);
        if length > most {
            return Err(S3Error::malformed_xml());
        }
        let _taken = account.room().take(length).await;
        let mut whole = Vec::new();
        while let Some(piece) = self.content.next().await {
            let piece = piece.map_err(|_| self.end.error(S3Error::incomplete_body()))?;
            if whole.len() + piece.len() > length {
                return Err(S3Error::malformed_xml());
            }
            whole.extend_from_slice(&piece);
        }
        if whole.is_empty() {
            return Ok(None);
        }
        let is_large = whole.len() > SMALL;
        let read = move || read(&Element::read(&whole).ok_or_else(S3Error::malformed_xml)?);
        aside_if(is_large, account, read).await?.map(Some)
    }

    /// As [`Payload::document`], with a root of this name.
    pub async fn root<T: Send + 'static>(
        self,
        account: &dyn Account,
        most: usize,
        name: &'static str,
        read: impl FnOnce(&Element) -> Result<T, S3Error> + Send + 'static,
    ) -> Result<T, S3Error> {
        let named = move |root: &Element| match root.name == name {
            true => read(root),
            false => Err(S3Error::malformed_xml()),
        };
        self.document(account, most, named).await?.ok_or_else(S3Error::malformed_xml)
    }
}

struct Source {
    body: BodyDataStream<Body>,
    /// What has come and was not looked at yet.
    rest: Bytes,
    chunks: Option<Chunks>,
    /// Until they were compared.
    digests: Option<Digests>,
    end: End,
}

impl Source {
    fn content(self) -> impl Stream<Item = Result<Bytes, BoxError>> + Send {
        stream::unfold((self, Vec::new().into_iter()), |(mut this, mut ready)| async move {
            loop {
                if let Some(bytes) = ready.next() {
                    return Some((Ok(bytes), (this, ready)));
                }
                match this.next().await {
                    Ok(Some(pieces)) => ready = pieces.into_iter(),
                    Ok(None) => return None,
                    Err(error) => return Some((Err(error), (this, ready))),
                }
            }
        })
    }

    /// What comes next; `None` when it has ended and is what it was said to be.
    async fn next(&mut self) -> Result<Option<Vec<Bytes>>, BoxError> {
        if self.digests.is_none() {
            return Ok(None);
        }
        let next = match self.rest.is_empty() {
            true => self.body.next().await,
            false => {
                // Others wait.
                tokio::task::yield_now().await;
                Some(Ok(std::mem::take(&mut self.rest)))
            }
        };
        let pieces = match next {
            Some(Err(error)) => {
                self.digests = None;
                return Err(error);
            }
            Some(Ok(mut bytes)) => match &mut self.chunks {
                None => Ok(vec![bytes]),
                Some(chunks) => {
                    let pieces = chunks.push(&mut bytes);
                    self.rest = bytes;
                    pieces
                }
            },
            None => {
                let trailers = self.chunks.as_mut().map_or_else(|| Ok(Vec::new()), Chunks::finish);
                let digests = self.digests.take();
                let end = trailers
                    .and_then(|trailers| digests.map_or_else(|| Ok(Vec::new()), |d| d.finish(&trailers)));
                let failed = end.is_err();
                self.end.set(end);
                return if failed {
                    Err("the content is another one than was signed".into())
                } else {
                    Ok(None)
                };
            }
        };
        match pieces {
            Ok(pieces) => {
                if let Some(digests) = &mut self.digests {
                    pieces.iter().for_each(|piece| digests.update(piece));
                }
                Ok(Some(pieces))
            }
            Err(error) => {
                self.digests = None;
                self.end.set(Err(error));
                Err("the content is not what its encoding says".into())
            }
        }
    }
}
