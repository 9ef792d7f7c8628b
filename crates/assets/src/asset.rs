//! One file: what is known of it, and its bytes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::HeaderValue;
use skep_wire::{Body, Piece};
use tokio::task::spawn_blocking;

use crate::cache::{ContentCache, Slot};
use crate::encoding::{self, Encoding};
use crate::mime;
use crate::walk::Stamp;

/// Bodies up to this many bytes are kept in memory; longer ones are streamed.
const MAX_IN_MEMORY: u64 = 1024 * 1024;
/// Files up to this many bytes are compressed; longer ones are sent as they are.
const MAX_COMPRESSED: u64 = 4 * 1024 * 1024;
/// Files below this many bytes do not get smaller; Cloudflare's own bound.
const MIN_COMPRESSED: u64 = 50;
/// Bytes read at once from a streamed file: few enough to bound memory, enough that the hops between threads
/// do not count.
const PIECE: usize = 256 * 1024;

/// A file that is served.
#[derive(Debug)]
pub(crate) struct Asset {
    pub(crate) disk: PathBuf,
    pub(crate) size: u64,
    /// `None` when the file is known never to change.
    pub(crate) stamp: Option<Stamp>,
    pub(crate) hash: String,
    /// `"<hash>"`.
    pub(crate) etag: HeaderValue,
    /// `W/"<hash>"`: the same content, encoded.
    pub(crate) weak_etag: HeaderValue,
    pub(crate) content_type: Option<HeaderValue>,
    pub(crate) compressible: bool,
    slots: [Slot; 4],
    /// Encodings that made the body no smaller.
    useless: [AtomicBool; 4],
    /// Held while a body is read or compressed, so that a crowd does it once.
    filling: tokio::sync::Mutex<()>,
    cache: Arc<ContentCache>,
}

/// What is known of a file before it is served.
pub(crate) struct Facts {
    pub(crate) disk: PathBuf,
    pub(crate) size: u64,
    pub(crate) stamp: Option<Stamp>,
    pub(crate) hash: String,
    pub(crate) content_type: Option<String>,
}

/// A body, ready to be sent.
#[derive(Debug)]
pub(crate) enum Content {
    Memory(Bytes),
    Disk(Arc<File>, u64),
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Disk(_, size) => *size,
        }
    }
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentError {
    /// The file is not the one that was listed: the folder must be read anew.
    #[error("the file has changed on disk")]
    Changed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the work was cancelled")]
    Cancelled,
}

impl Asset {
    pub(crate) fn new(facts: Facts, cache: Arc<ContentCache>) -> Self {
        let value = |text: String| HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("\"\""));
        Self {
            etag: value(format!("\"{}\"", facts.hash)),
            weak_etag: value(format!("W/\"{}\"", facts.hash)),
            compressible: facts.content_type.as_deref().is_some_and(mime::is_compressible)
                && (MIN_COMPRESSED..=MAX_COMPRESSED).contains(&facts.size),
            content_type: facts.content_type.and_then(|kind| HeaderValue::from_str(&kind).ok()),
            disk: facts.disk,
            size: facts.size,
            stamp: facts.stamp,
            hash: facts.hash,
            slots: Default::default(),
            useless: Default::default(),
            filling: tokio::sync::Mutex::default(),
            cache,
        }
    }

    pub(crate) fn slot(&self, encoding: Encoding) -> &Slot {
        let [identity, brotli, zstd, gzip] = &self.slots;
        match encoding {
            Encoding::Identity => identity,
            Encoding::Brotli => brotli,
            Encoding::Zstd => zstd,
            Encoding::Gzip => gzip,
        }
    }

    /// The file as it is: from memory, or, if it is long, a handle to read it by.
    pub(crate) async fn content(self: &Arc<Self>) -> Result<Content, ContentError> {
        if let Some(body) = self.slot(Encoding::Identity).get() {
            return Ok(Content::Memory(body));
        }
        if self.size > MAX_IN_MEMORY {
            let asset = self.clone();
            let file = spawn_blocking(move || asset.open()).await.map_err(|_| ContentError::Cancelled)??;
            return Ok(Content::Disk(Arc::new(file), self.size));
        }
        let _filling = self.filling.lock().await;
        if let Some(body) = self.slot(Encoding::Identity).get() {
            return Ok(Content::Memory(body));
        }
        let asset = self.clone();
        let body = spawn_blocking(move || asset.read()).await.map_err(|_| ContentError::Cancelled)??;
        self.cache.keep(self, Encoding::Identity, &body);
        Ok(Content::Memory(body))
    }

    /// Whether it is known that `encoding` makes the body no smaller, or is not for such files.
    pub(crate) fn is_useless(&self, encoding: Encoding) -> bool {
        let known = self.useless.get(encoding.index()).filter(|_| self.compressible);
        known.is_none_or(|useless| useless.load(Ordering::Relaxed))
    }

    /// The file in `encoding`, compressed if nobody asked for it before; `None` when that makes it no smaller.
    pub(crate) async fn encoded(self: &Arc<Self>, encoding: Encoding) -> Result<Option<Bytes>, ContentError> {
        if let Some(body) = self.slot(encoding).get() {
            return Ok(Some(body));
        }
        if self.is_useless(encoding) {
            return Ok(None);
        }
        let _filling = self.filling.lock().await;
        if let Some(body) = self.slot(encoding).get() {
            return Ok(Some(body));
        }
        let _turn = self.cache.compressors.acquire().await.map_err(|_| ContentError::Cancelled)?;
        let asset = self.clone();
        let body = spawn_blocking(move || -> Result<Bytes, ContentError> {
            let content = match asset.slot(Encoding::Identity).get() {
                Some(content) => content,
                None => asset.read()?,
            };
            Ok(encoding::compress(&content, encoding)?.into())
        })
        .await
        .map_err(|_| ContentError::Cancelled)??;
        // Below a twentieth saved, decoding costs the client more than the bytes.
        if body.len() as u64 > self.size - self.size / 20 {
            if let Some(useless) = self.useless.get(encoding.index()) {
                useless.store(true, Ordering::Relaxed);
            }
            return Ok(None);
        }
        self.cache.keep(self, encoding, &body);
        Ok(Some(body))
    }

    fn open(&self) -> Result<File, ContentError> {
        let file = match File::open(&self.disk) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.stamp.is_some() => {
                return Err(ContentError::Changed);
            }
            other => other?,
        };
        self.check(&file)?;
        Ok(file)
    }

    fn check(&self, file: &File) -> Result<(), ContentError> {
        let metadata = file.metadata()?;
        let same = match self.stamp {
            Some(stamp) => Stamp::of(&metadata) == stamp,
            None => metadata.len() == self.size,
        };
        if same { Ok(()) } else { Err(ContentError::Changed) }
    }

    fn read(&self) -> Result<Bytes, ContentError> {
        let mut file = self.open()?;
        let mut content = Vec::with_capacity(usize::try_from(self.size).unwrap_or(0));
        // One byte more than expected tells that the file grew.
        (&mut file).take(self.size + 1).read_to_end(&mut content)?;
        self.check(&file)?;
        if content.len() as u64 == self.size { Ok(content.into()) } else { Err(ContentError::Changed) }
    }
}

impl Drop for Asset {
    fn drop(&mut self) {
        self.cache.release(self.slots.iter().map(Slot::take).sum());
    }
}

/// Bytes `from..to` of a file.
pub(crate) struct FilePart {
    pub file: Arc<File>,
    pub from: u64,
    pub to: u64,
}

impl FilePart {
    /// Piece by piece; a file cut short meanwhile ends in an error, so that the client notices.
    pub(crate) fn stream(&self) -> Body {
        skep_wire::stream(pieces(self.file.clone(), self.from, self.to))
    }
}

impl skep_wire::Content for FilePart {
    fn piece(&self, n: usize) -> io::Result<Option<Piece>> {
        let Self { file, from, to } = self;
        (n == 0)
            .then(|| Ok(Piece::File { file: file.try_clone()?, offset: *from, length: to - from }))
            .transpose()
    }

    fn body(&self) -> io::Result<Body> {
        Ok(self.stream())
    }
}

fn pieces(
    file: Arc<File>,
    from: u64,
    to: u64,
) -> impl futures_util::Stream<Item = Result<Bytes, io::Error>> + Send + 'static {
    futures_util::stream::try_unfold((file, from), move |(file, at)| async move {
        if at >= to {
            return Ok(None);
        }
        let len = usize::try_from(to - at).unwrap_or(PIECE).min(PIECE);
        let (file, piece) = spawn_blocking(move || {
            let mut piece = vec![0_u8; len];
            file.read_exact_at(&mut piece, at).map(|()| (file, piece))
        })
        .await
        .map_err(io::Error::other)??;
        Ok(Some((Bytes::from(piece), (file, at + len as u64))))
    })
}
