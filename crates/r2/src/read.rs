//! Values on their way out.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use skep_store::{Sending, read_pieces};

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
}

/// A content that goes out. An error in a stream means that no more comes, never wrong bytes.
pub enum GetBody {
    /// All of it.
    Whole(Bytes),
    /// In pieces, as they are asked for.
    Pieces(BoxStream<'static, io::Result<Bytes>>),
}

/// A part of one stored content.
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
        let body = core.body(segments, options.ssec.clone(), lease)?;
        Ok(GetOutcome { object, body })
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

    fn body(
        self: &std::sync::Arc<Self>,
        mut segments: Vec<Segment>,
        key: Option<SsecKey>,
        lease: Option<ReadLease>,
    ) -> Result<GetBody, R2Error> {
        if let (None, [Segment { place: Place::Inline(bytes), span, .. }]) = (&key, segments.as_slice()) {
            let (from, to) = (span.offset as usize, (span.offset + span.length) as usize);
            let part =
                if to <= bytes.len() { bytes.slice(from..to) } else { return Err(R2Error::internal()) };
            return Ok(GetBody::Whole(part));
        }
        // The first file is opened before the answer starts, so that a lost file is an error code.
        let rest = segments.split_off(segments.len().min(1));
        let first = segments.pop().map(|segment| open(self, segment, key.as_ref())).transpose()?;
        let core = self.clone();
        let rest = stream::iter(rest).flat_map(move |segment| {
            let _held = &lease;
            open(&core, segment, key.as_ref())
                .unwrap_or_else(|error| stream::iter([Err(io::Error::other(error.to_string()))]).boxed())
        });
        Ok(GetBody::Pieces(first.unwrap_or_else(|| stream::empty().boxed()).chain(rest).boxed()))
    }
}

fn open(
    core: &Core,
    segment: Segment,
    key: Option<&SsecKey>,
) -> Result<BoxStream<'static, io::Result<Bytes>>, R2Error> {
    let Segment { place, size, span } = segment;
    let Some(key) = key else {
        return Ok(match place {
            Place::Blob(id) => read_pieces(core.blobs.read(&id)?, span.offset, span.length).boxed(),
            Place::Inline(bytes) => {
                let (from, to) = (span.offset as usize, (span.offset + span.length) as usize);
                let part = if to <= bytes.len() { Ok(bytes.slice(from..to)) } else { Err(truncated()) };
                stream::iter([part]).boxed()
            }
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
