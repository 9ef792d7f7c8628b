//! Values on their way out.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use skep_store::{Sending, read_pieces};
use skep_wire::{Body, Piece};

use crate::bucket::{Bucket, Core, ReadLease};
use crate::condition::Conditional;
use crate::model::Object;
use crate::ranges::{self, Range, Span};
use crate::rows::{self, Content, Place};
use crate::ssec::{self, Opener, SsecKey};
use crate::{R2Error, limits};

/// What a get asks for.
#[derive(Clone, Debug, Default)]
pub struct GetOptions {
    /// Only a part of the object.
    pub range: Option<Range>,
    /// What must hold for the object.
    pub only_if: Conditional,
    /// The key that the object was put with.
    pub ssec: Option<SsecKey>,
}

/// An object and the asked part of its content.
pub struct GetOutcome {
    /// With `range`: what part `body` is.
    pub object: Object,
    /// The content.
    pub body: GetBody,
    /// The same content for others, where it has files; not if a key is needed.
    pub stored: Option<Stored>,
}

/// A content that goes out. An error in a stream means that no more comes, never wrong bytes.
pub enum GetBody {
    /// All of it.
    Whole(Bytes),
    /// In pieces, as they are asked for.
    Pieces(BoxStream<'static, io::Result<Bytes>>),
}

/// A content with files, which nobody removes as long as this lives.
#[derive(Clone, Debug)]
pub struct Stored {
    core: Arc<Core>,
    segments: Arc<[Segment]>,
    _lease: Option<Arc<ReadLease>>,
}

/// A part of one stored content.
#[derive(Clone, Debug)]
struct Segment {
    place: Place,
    /// Plain bytes of the whole content.
    size: u64,
    span: Span,
}

impl Bucket {
    /// An object with its content. 10007 if there is none; 10031, with the object in the error, if the
    /// conditions do not hold.
    pub fn get(&self, key: &str, options: &GetOptions) -> Result<GetOutcome, R2Error> {
        limits::key(key)?;
        let core = &self.core;
        let find = || core.db.read(|c| rows::find(c, key))?.ok_or_else(R2Error::no_such_key);
        let (mut object, mut content) = find()?;
        let mut lease = None;
        while !matches!(content, Content::One(Place::Inline(_))) {
            let version = std::mem::take(&mut object.version);
            let held = core.lease(&version);
            (object, content) = find()?;
            if object.version == version {
                lease = Some(held);
                break;
            }
        }
        if !options.only_if.holds(Some((&object.etag, object.uploaded))) {
            return Err(R2Error::precondition_failed().with_object(object));
        }
        ssec::check(object.ssec.as_ref(), options.ssec.as_ref())?;
        let span = ranges::resolve(options.range.as_ref(), object.size)?;
        object.range = Some(span);
        let segments = core.segments(content, object.size, span)?;
        let key = options.ssec.as_ref();
        if let (None, [Segment { place: Place::Inline(bytes), span, .. }]) = (key, segments.as_slice()) {
            let body = GetBody::Whole(part(bytes, *span).map_err(|_| R2Error::internal())?);
            return Ok(GetOutcome { object, body, stored: None });
        }
        let stored = Stored { core: core.clone(), segments: segments.into(), _lease: lease.map(Arc::new) };
        let body = GetBody::Pieces(stored.pieces(key.cloned())?);
        Ok(GetOutcome { object, body, stored: key.is_none().then_some(stored) })
    }
}

impl Stored {
    fn pieces(&self, key: Option<SsecKey>) -> Result<BoxStream<'static, io::Result<Bytes>>, R2Error> {
        // The first file is opened before the answer starts, so that a lost file is an error code.
        let first = self.segments.first().map(|first| open(&self.core, first, key.as_ref())).transpose()?;
        let this = self.clone();
        let rest = stream::iter(1..self.segments.len()).flat_map(move |n| {
            // All of it is held, with the lease.
            let this = &this;
            open(&this.core, &this.segments[n], key.as_ref())
                .unwrap_or_else(|error| stream::iter([Err(io::Error::other(error.to_string()))]).boxed())
        });
        Ok(first.unwrap_or_else(|| stream::empty().boxed()).chain(rest).boxed())
    }
}

impl skep_wire::Content for Stored {
    fn piece(&self, n: usize) -> io::Result<Option<Piece>> {
        let Some(Segment { place, span, .. }) = self.segments.get(n) else { return Ok(None) };
        Ok(Some(match place {
            Place::Inline(bytes) => Piece::Bytes(part(bytes, *span)?),
            Place::Blob(id) => {
                let file = self.core.blobs.read(id).map_err(io::Error::other)?;
                Piece::File { file, offset: span.offset, length: span.length }
            }
        }))
    }

    fn body(&self) -> io::Result<Body> {
        self.pieces(None).map(skep_wire::stream).map_err(io::Error::other)
    }
}

impl Core {
    fn segments(&self, content: Content, size: u64, span: Span) -> Result<Vec<Segment>, R2Error> {
        let upload = match content {
            Content::One(place) => return Ok(vec![Segment { place, size, span }]),
            Content::Parts(upload) => upload,
        };
        let (mut segments, mut start) = (Vec::new(), 0);
        for part in self.db.read(|c| rows::parts(c, &upload))? {
            let end = start + part.size;
            let (from, to) = (span.offset.max(start), (span.offset + span.length).min(end));
            if from < to {
                let span = Span { offset: from - start, length: to - from };
                segments.push(Segment { place: part.place, size: part.size, span });
            }
            start = end;
        }
        Ok(segments)
    }
}

fn open(
    core: &Core,
    segment: &Segment,
    key: Option<&SsecKey>,
) -> Result<BoxStream<'static, io::Result<Bytes>>, R2Error> {
    let Segment { place, size, span } = segment.clone();
    let Some(key) = key else {
        return Ok(match place {
            Place::Blob(id) => read_pieces(core.blobs.read(&id)?, span.offset, span.length).boxed(),
            Place::Inline(bytes) => stream::iter([part(&bytes, span)]).boxed(),
        });
    };
    let sealed = match place {
        Place::Blob(id) => Sealed::File(core.blobs.read(&id)?),
        Place::Inline(bytes) => Sealed::Memory(bytes),
    };
    Ok(decrypt(sealed, key.clone(), size, span).boxed())
}

enum Sealed {
    File(File),
    Memory(Bytes),
}

impl Sealed {
    fn read(&self, range: std::ops::Range<u64>) -> io::Result<Vec<u8>> {
        match self {
            Self::File(file) => {
                let mut bytes = vec![0; (range.end - range.start) as usize];
                file.read_exact_at(&mut bytes, range.start)?;
                Ok(bytes)
            }
            Self::Memory(bytes) => {
                let part = bytes.get(range.start as usize..range.end as usize);
                part.map(<[u8]>::to_vec).ok_or_else(truncated)
            }
        }
    }
}

/// A part of a content in a row.
fn part(bytes: &Bytes, span: Span) -> io::Result<Bytes> {
    let (from, to) = (span.offset as usize, (span.offset + span.length) as usize);
    if to <= bytes.len() { Ok(bytes.slice(from..to)) } else { Err(truncated()) }
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "a stored value is shorter than its row says")
}

fn decrypt(
    sealed: Sealed,
    key: SsecKey,
    size: u64,
    span: Span,
) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static {
    let end = span.offset + span.length;
    stream::unfold(Some((sealed, None, span.offset, Sending::begin())), move |state| {
        let key = key.clone();
        async move {
            let (sealed, opener, at, sending) = state.filter(|(_, _, at, _)| *at < end)?;
            let batch = sending.piece() as u64;
            let batch = tokio::task::spawn_blocking(move || {
                let opener = match opener {
                    Some(opener) => opener,
                    None => Opener::new(&key, &sealed.read(0..Opener::SALT)?, size),
                };
                let (plain, next) = decrypt_batch(&sealed, &opener, at, end.min(at + batch))?;
                Ok::<_, io::Error>((plain, Some((sealed, Some(opener), next, sending))))
            });
            match batch.await.map_err(io::Error::other).flatten() {
                Ok((plain, next)) => Some((Ok(plain), next)),
                Err(error) => Some((Err(error), None)),
            }
        }
    })
}

/// The plain bytes from `at` to `end`, and where the next batch starts.
fn decrypt_batch(sealed: &Sealed, opener: &Opener, mut at: u64, end: u64) -> io::Result<(Bytes, u64)> {
    let mut out = Vec::with_capacity((end - at) as usize);
    while at < end {
        let (plain, stored) = opener.piece(at);
        let bytes = opener.open(at, &sealed.read(stored)?);
        let bytes =
            bytes.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a stored value was altered"))?;
        let to = plain.end.min(end);
        let part =
            bytes.get((at - plain.start) as usize..(to - plain.start) as usize).ok_or_else(truncated)?;
        out.extend_from_slice(part);
        at = to;
    }
    Ok((out.into(), at))
}
