//! The caches of one worker, kept on the disk.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use skep_runtime::{Clock, Room};
use skep_store::{BlobId, Blobs, Database, StoreError, Stored, ValueSink};

use crate::account::Share;
use crate::key::Key;
use crate::rows::{self, NewRow, Place};

/// Bodies up to this many bytes live in the database; above it a file of their own is cheaper to write and to read.
pub(crate) const INLINE_MAX: usize = 64 * 1024;
/// Bytes of bodies that are not complete which there is room for, however little may be cached.
const LEAST_INCOMING: u64 = 64 << 20;
/// Rows that one write of the upkeep changes: bounds how long puts wait behind it.
const BATCH: usize = 200;
/// Batches of one run of the upkeep.
const MAX_BATCHES: usize = 500;
/// Uses remembered until the next upkeep; further ones go unnoted, which only makes the eviction less exact.
const MAX_TOUCHED: usize = 10_000;
/// An entry's last use is noted no more often than this, in milliseconds.
const TOUCH_EVERY: u64 = 60_000;
/// Pages that are given back to the file system at a time.
const PAGES: u32 = 250;
/// How often a read looks again when the file that its row names was replaced meanwhile.
const MAX_TRIES: usize = 8;

/// How much may be cached.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one body.
    pub object: u64,
    /// Bytes of all heads and bodies of a worker; past it the least recently used go.
    pub total: u64,
    /// The same of all workers of a store.
    pub store: u64,
}

impl Default for Limits {
    /// 512 MB an object (<https://developers.cloudflare.com/workers/platform/limits/#cache-api-limits>), 1 GiB of a worker, 10 GiB in all.
    fn default() -> Self {
        Self { object: 512_000_000, total: 1 << 30, store: 10 << 30 }
    }
}

/// A body that was found.
#[derive(Debug)]
pub(crate) enum Content {
    Inline(Bytes),
    /// An open file, which stays whole when the entry goes.
    File(File),
}

/// A fresh entry.
#[derive(Debug)]
pub(crate) struct Hit {
    pub head: Vec<u8>,
    pub content: Content,
    pub size: u64,
    /// Seconds.
    pub age: u64,
}

/// What is to be stored once its body is there.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub key: Key,
    pub head: Vec<u8>,
    /// Seconds.
    pub age: u64,
    /// Seconds.
    pub fresh_for: u64,
    pub body: ValueSink,
}

/// `caches.default` and all named caches of one worker.
#[derive(Debug)]
pub struct WorkerCache {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    db: Database,
    blobs: Blobs,
    clock: Clock,
    limits: Limits,
    touched: Mutex<HashSet<i64>>,
    /// Of bodies that are not complete: as much again as all that are.
    incoming: Arc<Room>,
    /// What counts towards what all workers cache.
    share: Share,
}

impl WorkerCache {
    /// Opens the caches in `folder` and removes the files that a crash has left there.
    pub(crate) fn open(
        folder: &Path,
        clock: Clock,
        limits: Limits,
        share: Share,
    ) -> Result<Self, StoreError> {
        let db = Database::open_with(&folder.join("cache.sqlite"), rows::SCHEMA, rows::prepare)?;
        let blobs = Blobs::open(&folder.join("blobs"))?;
        blobs.sweep(&db.read(rows::blobs)?)?;
        share.set(db.read(rows::held)?);
        Ok(Self {
            shared: Arc::new(Shared {
                db,
                blobs,
                clock,
                limits,
                touched: Mutex::default(),
                incoming: Room::new(usize::try_from(limits.total.max(LEAST_INCOMING)).unwrap_or(usize::MAX)),
                share,
            }),
        })
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.shared.clock.now_ms()
    }

    pub(crate) fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// Room for bodies that are not complete.
    pub(crate) fn incoming(&self) -> &Arc<Room> {
        &self.shared.incoming
    }

    /// What it has of what all workers cache.
    pub(crate) fn share(&self) -> &Share {
        &self.shared.share
    }

    /// Where the body of a put goes.
    pub(crate) fn sink(&self) -> ValueSink {
        ValueSink::new(self.shared.blobs.clone(), INLINE_MAX)
    }

    /// The fresh entry of `key`.
    pub(crate) fn find(&self, key: &Key) -> Result<Option<Hit>, StoreError> {
        let now = self.now_ms();
        let mut tries = 0;
        loop {
            let Some(row) = self.shared.db.read(|db| rows::get(db, key, now))? else { return Ok(None) };
            let content = match row.place {
                Place::Inline(body) => Content::Inline(body),
                Place::Blob(id) => match self.shared.blobs.read(&id) {
                    Ok(file) => Content::File(file),
                    // Replaced or evicted between the row and the file: the row is another one now.
                    Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                        tries += 1;
                        if tries > MAX_TRIES {
                            return Ok(None);
                        }
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            if now.saturating_sub(row.used) > TOUCH_EVERY {
                self.shared.note_use(row.id);
            }
            let age = row.age + now.saturating_sub(row.stored) / 1000;
            return Ok(Some(Hit { head: row.head, content, size: row.size, age }));
        }
    }

    /// Stores an entry, and makes room if that is too much.
    pub(crate) async fn store(&self, incoming: Incoming) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        // A task of its own: what is begun ends, also when the caller has gone away.
        let task = tokio::spawn(async move { shared.store(incoming).await });
        task.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Removes the entry of `key`; says whether there was a fresh one.
    pub(crate) async fn remove(&self, key: Key) -> Result<bool, StoreError> {
        let shared = self.shared.clone();
        let task = tokio::spawn(async move {
            let now = shared.clock.now_ms();
            let Some(removed) = shared.db.write(move |t| rows::delete(t, &key, now)).await? else {
                return Ok(false);
            };
            shared.remove_files(removed.blob.into_iter().collect()).await;
            Ok(removed.fresh)
        });
        task.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Notes uses, removes what is stale, evicts what is too much; returns how many entries went.
    pub(crate) async fn tidy(&self) -> Result<usize, StoreError> {
        let shared = &self.shared;
        shared.flush_uses().await?;
        let now = shared.clock.now_ms();
        let mut removed = 0;
        for _ in 0..MAX_BATCHES {
            let (count, files) = shared.db.write(move |t| rows::remove_stale(t, now, BATCH)).await?;
            shared.remove_files(files).await;
            removed += count;
            if count < BATCH {
                break;
            }
        }
        let removed = removed + shared.evict().await?;
        shared.share.set(shared.db.read(rows::held)?);
        shared.db.looked_after();
        Ok(removed)
    }

    /// When the entry was used that was used longest ago, in milliseconds.
    pub(crate) async fn oldest(&self) -> Result<Option<u64>, StoreError> {
        self.shared.flush_uses().await?;
        self.shared.db.read(rows::oldest)
    }

    /// Removes what was used no later than `until`, what was used longest ago first, until `wanted` bytes are gone, and gives their room
    /// back; returns how many entries went.
    pub(crate) async fn shed(&self, until: u64, wanted: u64) -> Result<usize, StoreError> {
        let shared = &self.shared;
        // When it was used is not known more exactly.
        let until = until.saturating_add(TOUCH_EVERY);
        let (count, files) = shared.db.write(move |t| rows::shed(t, until, wanted, BATCH)).await?;
        shared.remove_files(files).await;
        while shared.db.write(|t| rows::shrink(t, PAGES)).await? {}
        shared.share.set(shared.db.read(rows::held)?);
        Ok(count)
    }

    /// Whether it was used since it was tidied.
    pub(crate) fn is_used(&self) -> bool {
        self.shared.db.is_used()
    }

    /// Bytes of all heads and bodies that are stored.
    pub fn usage(&self) -> Result<u64, StoreError> {
        self.shared.db.read(rows::usage)
    }
}

impl Shared {
    async fn store(&self, incoming: Incoming) -> Result<(), StoreError> {
        let Incoming { key, head, age, fresh_for, body } = incoming;
        let stored = body.finish().await?;
        let size = stored.len();
        let (place, file) = match stored {
            Stored::Inline(body) => (Place::Inline(body), None),
            Stored::Blob { id, .. } => (Place::Blob(id.clone()), Some(id)),
        };
        let now = self.clock.now_ms();
        let expires = now.saturating_add(fresh_for.saturating_mul(1000));
        let row = NewRow { key, head, place, size, age, now, expires };
        let written = self.db.write(move |t| Ok((rows::put(t, &row)?, rows::usage(t)?, rows::held(t)?)));
        match written.await {
            Ok((replaced, usage, held)) => {
                self.share.set(held);
                self.remove_files(replaced.into_iter().collect()).await;
                if usage > self.limits.total {
                    self.evict().await?;
                }
                Ok(())
            }
            Err(error) => {
                // Should the row be there after all, its file is missing, and that is a miss; see `find`.
                self.remove_files(file.into_iter().collect()).await;
                Err(error)
            }
        }
    }

    /// Goes a tenth below the limit, so that not every further put has to.
    async fn evict(&self) -> Result<usize, StoreError> {
        if self.db.read(rows::usage)? <= self.limits.total {
            return Ok(0);
        }
        self.flush_uses().await?;
        let target = self.limits.total / 10 * 9;
        let mut evicted = 0;
        for _ in 0..MAX_BATCHES {
            let (count, files) = self.db.write(move |t| rows::evict(t, target, BATCH)).await?;
            self.remove_files(files).await;
            evicted += count;
            if count < BATCH {
                break;
            }
        }
        Ok(evicted)
    }

    fn note_use(&self, id: i64) {
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        if touched.len() < MAX_TOUCHED {
            touched.insert(id);
        }
    }

    async fn flush_uses(&self) -> Result<(), StoreError> {
        let ids: Vec<i64> = self.touched.lock().unwrap_or_else(PoisonError::into_inner).drain().collect();
        let now = self.clock.now_ms();
        for batch in ids.chunks(BATCH) {
            let batch = batch.to_vec();
            self.db.write(move |t| rows::touch(t, &batch, now)).await?;
        }
        Ok(())
    }

    /// Removes files that no row names any more. Readers that have one open keep it.
    async fn remove_files(&self, files: Vec<BlobId>) {
        if files.is_empty() {
            return;
        }
        let blobs = self.blobs.clone();
        let removed = tokio::task::spawn_blocking(move || files.iter().try_for_each(|id| blobs.remove(id)));
        if let Ok(Err(error)) = removed.await {
            tracing::warn!(%error, "a cached body that was removed stays on the disk until the next start");
        }
    }
}
