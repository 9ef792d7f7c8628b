//! One namespace: what the binding and an admin interface both do.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_body::Body as _;
use http_body_util::BodyExt;
use skep_runtime::Clock;
use skep_store::{BlobId, Blobs, Database, Quota, StoreError, Stored, ValueSink};
use skep_wire::Body;

use crate::error::KvError;
use crate::limits::{
    INLINE_MAX, MAX_BULK_WRITE_KEYS, MAX_LIST_KEYS, MAX_VALUE_BYTES, check_key, check_key_len,
    check_metadata, expires_at,
};
use crate::rows::{self, Place, Row};
use crate::types::{BulkEntry, Entry, ListOptions, ListPage, PutOptions, Value};

/// Rows that one background or bulk write changes: bounds how long other writes wait behind it.
const BATCH: usize = 200;
/// Batches of one run of the background removal.
const MAX_BATCHES: usize = 500;
/// How often a read looks again when the file that its row names was replaced meanwhile.
const MAX_TRIES: usize = 8;
/// Bytes of a too long value that are read to the end, so that its sender gets to hear why.
const MAX_DRAIN: u64 = 64 * 1024 * 1024;

/// Bytes that a row takes beside its key, its value and its metadata, about.
const ROW: usize = 64;

/// One namespace.
#[derive(Debug)]
pub struct Namespace {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    db: Database,
    blobs: Blobs,
    clock: Clock,
}

/// An entry on its way in.
struct Incoming {
    key: String,
    expires: Option<u64>,
    metadata: Option<String>,
    value: ValueSink,
}

impl Namespace {
    /// Opens the namespace in `folder` and removes the files that a crash has left there.
    pub(crate) fn open(folder: &Path, clock: Clock, quota: Arc<Quota>) -> Result<Self, StoreError> {
        let db = Database::open(&folder.join("kv.sqlite"), rows::SCHEMA)?;
        let blobs = Blobs::open(&folder.join("blobs"))?.within(quota);
        blobs.sweep(&db.read(rows::blobs)?)?;
        Ok(Self { shared: Arc::new(Shared { db, blobs, clock }) })
    }

    /// The entry of `key`.
    pub fn get(&self, key: &str) -> Result<Option<Entry>, KvError> {
        check_key(key)?;
        Ok(self.shared.get(key)?)
    }

    /// The same without looking for the value where it is a file.
    pub(crate) fn row(&self, key: &str) -> Result<Option<Row>, KvError> {
        let now = self.shared.clock.now_secs();
        Ok(self.shared.db.read(|db| rows::get(db, key, now))?)
    }

    /// By which those who take turns know it.
    pub(crate) fn who(&self) -> u64 {
        skep_runtime::who(&self.shared)
    }

    /// This namespace.
    pub(crate) fn again(&self) -> Self {
        Self { shared: self.shared.clone() }
    }

    /// Stores `value` under `key` in place of what was there; durable when this resolves.
    pub async fn put(&self, key: &str, options: PutOptions, mut value: Body) -> Result<(), KvError> {
        self.put_from(key, &options, &mut value).await
    }

    /// As [`Namespace::put`]; what was not read of the value is still there after an error.
    pub(crate) async fn put_from(
        &self,
        key: &str,
        options: &PutOptions,
        value: &mut Body,
    ) -> Result<(), KvError> {
        let mut entry = self.incoming(key, options)?;
        receive(value, &mut entry.value).await?;
        Ok(Shared::store(&self.shared, vec![entry]).await?)
    }

    /// Removes `key`; one that is not there is no error.
    pub async fn delete(&self, key: &str) -> Result<(), KvError> {
        check_key(key)?;
        Ok(Shared::delete(&self.shared, vec![key.to_owned()]).await?)
    }

    /// A page of keys.
    pub fn list(&self, options: &ListOptions) -> Result<ListPage, KvError> {
        check_key_len(&options.prefix)?;
        if !(1..=MAX_LIST_KEYS).contains(&options.limit) {
            let text = options.limit.to_string();
            return Err(if options.limit == 0 {
                KvError::LimitNotPositive(text)
            } else {
                KvError::LimitTooLarge(text)
            });
        }
        let range = page_range(options)?;
        let now = self.shared.clock.now_secs();
        let (keys, last) =
            self.shared.db.read(|db| rows::list(db, (&range.0, &range.1), options.limit, now))?;
        Ok(ListPage { keys, cursor: last.map(|key| BASE64.encode(key)) })
    }

    /// Stores up to 10,000 entries. All are checked before the first is stored; they are not one transaction.
    pub async fn put_many(&self, entries: Vec<BulkEntry>) -> Result<(), KvError> {
        if entries.len() > MAX_BULK_WRITE_KEYS {
            return Err(KvError::TooManyWrites);
        }
        let mut checked = Vec::with_capacity(entries.len());
        for entry in entries {
            if entry.value.len() as u64 > MAX_VALUE_BYTES {
                return Err(KvError::ValueTooLong(entry.value.len() as u64));
            }
            checked.push((self.incoming(&entry.key, &entry.options)?, entry.value));
        }
        let mut checked = checked.into_iter().peekable();
        while checked.peek().is_some() {
            let mut batch = Vec::with_capacity(BATCH);
            for (mut entry, value) in checked.by_ref().take(BATCH) {
                entry.value.push(value).await?;
                batch.push(entry);
            }
            Shared::store(&self.shared, batch).await?;
        }
        Ok(())
    }

    /// Removes up to 10,000 keys; those that are not there are no error. Not one transaction.
    pub async fn delete_many(&self, keys: &[String]) -> Result<(), KvError> {
        if keys.len() > MAX_BULK_WRITE_KEYS {
            return Err(KvError::TooManyWrites);
        }
        keys.iter().try_for_each(|key| check_key(key))?;
        for batch in keys.chunks(BATCH) {
            Shared::delete(&self.shared, batch.to_vec()).await?;
        }
        Ok(())
    }

    /// Whether there may be something to remove: it was used since there was not.
    pub(crate) fn is_used(&self) -> bool {
        self.shared.db.is_used()
    }

    /// Removes entries that have expired; returns how many.
    pub(crate) async fn remove_expired(&self) -> Result<usize, StoreError> {
        let now = self.shared.clock.now_secs();
        let mut removed = 0;
        for _ in 0..MAX_BATCHES {
            let (count, blobs) = self.shared.db.write(move |t| rows::remove_expired(t, now, BATCH)).await?;
            self.shared.remove_files(blobs).await;
            removed += count;
            if count < BATCH {
                self.shared.db.looked_after();
                break;
            }
        }
        Ok(removed)
    }

    fn incoming(&self, key: &str, options: &PutOptions) -> Result<Incoming, KvError> {
        check_key(key)?;
        let now = self.shared.clock.now_secs();
        Ok(Incoming {
            key: key.to_owned(),
            expires: options.expiration.map(|e| expires_at(e, now)).transpose()?,
            metadata: options.metadata.as_deref().map(check_metadata).transpose()?,
            value: ValueSink::new(self.shared.blobs.clone(), INLINE_MAX),
        })
    }
}

impl Shared {
    fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let now = self.clock.now_secs();
        let mut tries = 0;
        loop {
            let Some(row) = self.db.read(|db| rows::get(db, key, now))? else { return Ok(None) };
            let value = match row.place {
                Place::Inline(value) => Value::Inline(value),
                Place::Blob(id) => match self.blobs.read(&id) {
                    Ok(file) => Value::File(file),
                    // Overwritten and removed between the row and the file: the row is another one now.
                    Err(StoreError::Io { source, .. })
                        if source.kind() == std::io::ErrorKind::NotFound && tries < MAX_TRIES =>
                    {
                        tries += 1;
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            let Row { size, expires, metadata, .. } = row;
            return Ok(Some(Entry { value, size, expiration: expires, metadata }));
        }
    }

    /// Runs in a task of its own: what is begun ends, also when the caller has gone away.
    async fn store(this: &Arc<Self>, entries: Vec<Incoming>) -> Result<(), StoreError> {
        let this = this.clone();
        let task = tokio::spawn(async move {
            let mut ready = Vec::with_capacity(entries.len());
            let mut files = Vec::new();
            // What goes into rows; files are charged as they are written.
            let mut rows_bytes = 0;
            for Incoming { key, expires, metadata, value } in entries {
                let stored = match value.finish().await {
                    Ok(stored) => stored,
                    Err(error) => return this.undo(files, error).await,
                };
                let size = stored.len();
                let place = match stored {
                    Stored::Inline(value) => {
                        rows_bytes += value.len();
                        Place::Inline(value)
                    }
                    Stored::Blob { id, .. } => {
                        files.push(id.clone());
                        Place::Blob(id)
                    }
                };
                rows_bytes += key.len() + metadata.as_ref().map_or(0, String::len) + ROW;
                ready.push((key, Row { place, size, expires, metadata }));
            }
            if let Err(error) = this.blobs.quota().take(rows_bytes as u64) {
                return this.undo(files, error).await;
            }
            let written = this.db.write(move |t| {
                let mut replaced = Vec::new();
                for (key, row) in &ready {
                    replaced.extend(rows::put(t, key, row)?);
                }
                Ok(replaced)
            });
            match written.await {
                Ok(replaced) => {
                    this.remove_files(replaced).await;
                    Ok(())
                }
                Err(error) => {
                    this.blobs.quota().give_back(rows_bytes as u64);
                    this.undo(files, error).await
                }
            }
        });
        task.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn delete(this: &Arc<Self>, keys: Vec<String>) -> Result<(), StoreError> {
        let this = this.clone();
        let task = tokio::spawn(async move {
            let written = this.db.write(move |t| {
                let mut files = Vec::new();
                for key in &keys {
                    files.extend(rows::delete(t, key.as_bytes())?);
                }
                Ok(files)
            });
            let files = written.await?;
            this.remove_files(files).await;
            Ok(())
        });
        task.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Removes the files of a put that failed, unless a row names them after all: an error of the disk at the
    /// very end does not say which it is. What stays goes at the next start.
    async fn undo(&self, mut files: Vec<BlobId>, error: StoreError) -> Result<(), StoreError> {
        files.retain(|file| matches!(self.db.read(|db| rows::names_blob(db, file)), Ok(false)));
        self.remove_files(files).await;
        Err(error)
    }

    /// Removes files that no row names any more. Readers that have one open keep it.
    async fn remove_files(&self, files: Vec<BlobId>) {
        if files.is_empty() {
            return;
        }
        let blobs = self.blobs.clone();
        let removed = tokio::task::spawn_blocking(move || files.iter().try_for_each(|id| blobs.remove(id)));
        if let Ok(Err(error)) = removed.await {
            tracing::warn!(%error, "a value that was replaced stays on the disk until the next start");
        }
    }
}

/// Moves a value of at most [`MAX_VALUE_BYTES`] from the wire into `sink`.
async fn receive(body: &mut Body, sink: &mut ValueSink) -> Result<(), KvError> {
    if let Some(len) = body.size_hint().exact()
        && len > MAX_VALUE_BYTES
    {
        return Err(KvError::ValueTooLong(len));
    }
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(KvError::Interrupted)?.into_data() else { continue };
        total += data.len() as u64;
        if total > MAX_DRAIN {
            break;
        }
        if total <= MAX_VALUE_BYTES {
            sink.push(data).await?;
        }
    }
    if total > MAX_VALUE_BYTES { Err(KvError::ValueTooLong(total)) } else { Ok(()) }
}

/// The keys of a page: from the first on, before the second.
fn page_range(options: &ListOptions) -> Result<(Vec<u8>, Vec<u8>), KvError> {
    let prefix = options.prefix.as_bytes();
    let mut from = prefix.to_vec();
    if let Some(cursor) = options.cursor.as_deref().filter(|cursor| !cursor.is_empty()) {
        let mut after = BASE64.decode(cursor).map_err(|_| KvError::Cursor)?;
        // The next key in byte order.
        after.push(0);
        from = from.max(after);
    }
    // UTF-8 has no byte 0xFF, and its last byte never overflows to one.
    let mut below = prefix.to_vec();
    match below.last_mut() {
        Some(last) => *last += 1,
        None => below.push(0xFF),
    }
    Ok((from, below))
}
