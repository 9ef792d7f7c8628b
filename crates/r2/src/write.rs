//! Values on their way in.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use skep_store::{Stored, ValueSink};
use skep_wire::BoxError;

use crate::R2Error;
use crate::bucket::{Bucket, Core};
use crate::change::{Action, Change};
use crate::checksum::{Expected, Hasher};
use crate::condition::Conditional;
use crate::limits::{self, MAX_PUT_BYTES};
use crate::model::{Object, ObjectOptions};
use crate::rows::{self, Content, Place};
use crate::ssec::{Sealer, SsecKey};

/// Largest content kept in its row. A row costs one flush shared with all that are written at the same time, a
/// file two of its own besides, but a row's bytes are written twice (log, then table). Measured with 16 writers,
/// durable puts a second in a row and as a file: 1 KiB 31 k and 4.8 k, 16 KiB 13.6 k and 5.4 k, 32 KiB 6.0 k and
/// 5.2 k, 64 KiB 3.9 k and 5.3 k. Half of where they meet leaves room for disks with faster flushes.
pub(crate) const INLINE_MAX: usize = 16 * 1024;

/// Bytes that an object or a part takes beside its content, about.
pub(crate) const ROW: u64 = 1024;

/// What a put asks for besides its content.
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    /// Metadata.
    pub object: ObjectOptions,
    /// What must hold for the object that there is now.
    pub only_if: Conditional,
    /// The digest that the content must have.
    pub checksum: Option<Expected>,
    /// Encrypt with this key.
    pub ssec: Option<SsecKey>,
    /// The content's length, where the caller declared one; any other is refused.
    pub length: Option<u64>,
    /// Whether the content is another object's: who hears of changes is told so.
    pub copies: bool,
}

/// A content that is on the disk, or small and in memory; in no row yet.
pub(crate) struct Received {
    pub place: Place,
    pub size: u64,
    pub md5: [u8; 16],
    pub checksums: BTreeMap<u8, String>,
}

impl Received {
    pub fn blobs(&self) -> Vec<skep_store::BlobId> {
        match &self.place {
            Place::Blob(id) => vec![id.clone()],
            Place::Inline(_) => Vec::new(),
        }
    }
}

impl Bucket {
    /// Stores an object, durable when this resolves. 10031 if its conditions do not hold,
    /// 10069 if the object that is there is locked.
    pub async fn put<S>(&self, key: &str, options: PutOptions, content: &mut S) -> Result<Object, R2Error>
    where
        S: Stream<Item = Result<Bytes, BoxError>> + Send + Unpin,
    {
        limits::key(key)?;
        limits::metadata(&options.object.http_fields, &options.object.custom_fields)?;
        let PutOptions { object, only_if, checksum, ssec, length, copies } = options;
        let received = self.core.receive(content, length, checksum, ssec.as_ref()).await?;
        let object = Object {
            name: key.to_owned(),
            version: uuid::Uuid::new_v4().simple().to_string(),
            size: received.size,
            etag: hex::encode(received.md5),
            uploaded: 0,
            http_fields: Some(object.http_fields),
            custom_fields: Some(object.custom_fields),
            range: None,
            checksums: received.checksums.clone(),
            storage_class: object.storage_class,
            ssec: ssec.map(|key| key.info()),
        };
        let (new, clock, rules) = (received.blobs(), self.core.clock.clone(), self.core.rules.clone());
        let write = move |t: &rusqlite::Transaction<'_>| {
            let at = clock.now_ms() as i64;
            let now = rows::state(t, &object.name)?;
            // Before the conditions, as R2 does: a put that must not replace anything is told so, too.
            if now.as_ref().is_some_and(|(_, uploaded)| rules.get().locked(&object.name, *uploaded, at)) {
                return Ok(Err(R2Error::object_locked()));
            }
            if !only_if.holds(now.as_ref().map(|(etag, uploaded)| (etag.as_str(), *uploaded))) {
                return Ok(Err(R2Error::precondition_failed()));
            }
            let object = Object { uploaded: at, ..object };
            let garbage = rows::remove(t, &object.name)?;
            rows::insert(t, &object, &Content::One(received.place))?;
            let change = Change::made(if copies { Action::Copy } else { Action::Put }, &object);
            Ok(Ok((object, garbage.into_iter().collect(), vec![change])))
        };
        self.core.commit_change(new, write).await
    }
}

impl Core {
    /// Takes a content to its end, hashing and encrypting as it passes. Nothing is left behind by an error.
    pub async fn receive<S>(
        &self,
        content: &mut S,
        length: Option<u64>,
        expected: Option<Expected>,
        key: Option<&SsecKey>,
    ) -> Result<Received, R2Error>
    where
        S: Stream<Item = Result<Bytes, BoxError>> + Send + Unpin,
    {
        if length.is_some_and(|length| length > MAX_PUT_BYTES) {
            return Err(R2Error::entity_too_large());
        }
        self.blobs.quota().take(ROW)?;
        let mut hasher = Hasher::new(expected);
        let mut sealer = key.map(Sealer::new);
        let mut sink = ValueSink::new(self.blobs.clone(), INLINE_MAX);
        let mut size = 0;
        while let Some(piece) = content.next().await {
            let piece = piece.map_err(|_| R2Error::incomplete_body())?;
            size += piece.len() as u64;
            if size > length.unwrap_or(MAX_PUT_BYTES) {
                return Err(match length {
                    Some(_) => R2Error::incomplete_body(),
                    None => R2Error::entity_too_large(),
                });
            }
            hasher.update(&piece);
            match &mut sealer {
                None => sink.push(piece).await?,
                Some(sealer) => {
                    for sealed in sealer.push(&piece)? {
                        sink.push(sealed).await?;
                    }
                }
            }
        }
        if length.is_some_and(|length| length != size) {
            return Err(R2Error::incomplete_body());
        }
        let (md5, checksums) = hasher.finish()?;
        for sealed in sealer.map(Sealer::finish).transpose()?.unwrap_or_default() {
            sink.push(sealed).await?;
        }
        let place = match sink.finish().await? {
            Stored::Inline(bytes) => {
                // Files are charged as they are written.
                self.blobs.quota().take(bytes.len() as u64)?;
                Place::Inline(bytes)
            }
            Stored::Blob { id, .. } => Place::Blob(id),
        };
        Ok(Received { place, size, md5, checksums })
    }
}
