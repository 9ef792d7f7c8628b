//! Blobs on their way in: pieces that are written and hashed as they come, into a file that has no name until its
//! digest was checked. What is given up, or under way when the node ends, leaves nothing.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use sha2::{Digest as _, Sha256};
use skep_store::{BlobId, BlobWriter, Quota, StoreError};
use skep_wire::Body;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::error::RegistryError;
use crate::name::{Digest, Repository};
use crate::rows::{self, BlobRow};
use crate::store::{ImageStore, MAX_BLOB};

/// Uploads of an account at the same time. Each has a file open.
const MOST: usize = 128;
/// One that nobody has gone on with for so long is over.
const ABANDONED_MS: i64 = 24 * 60 * 60 * 1000;
/// Bytes handed to the disk at a time.
const PIECE: usize = 256 << 10;

/// An upload that has begun.
#[derive(Debug)]
pub(crate) struct Session {
    repository: Repository,
    touched: AtomicI64,
    /// Held by the request that goes on with it; `None` once it is over.
    partly: Arc<Mutex<Option<Partly>>>,
}

/// What has come of a blob.
#[derive(Debug)]
pub(crate) struct Partly {
    /// `None` once the file has its name.
    writer: Option<BlobWriter>,
    hash: Sha256,
    room: Arc<Quota>,
    /// Taken from `room`, until the blob is kept.
    taken: u64,
}

impl Drop for Partly {
    fn drop(&mut self) {
        self.room.give_back(self.taken);
    }
}

impl Partly {
    fn len(&self) -> u64 {
        self.writer.as_ref().map_or(0, BlobWriter::len)
    }

    fn write(&mut self, pieces: &[Bytes]) -> Result<(), StoreError> {
        for piece in pieces {
            self.room.take(piece.len() as u64)?;
            self.taken += piece.len() as u64;
            self.writer.as_mut().ok_or(StoreError::Closed)?.write(piece)?;
            self.hash.update(piece);
        }
        Ok(())
    }
}

type Going = OwnedMutexGuard<Option<Partly>>;

impl ImageStore {
    fn sessions(&self) -> MutexGuard<'_, std::collections::HashMap<String, Arc<Session>>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an upload; its id.
    pub(crate) async fn begin(&self, repository: &Repository) -> Result<String, RegistryError> {
        let blobs = self.blobs.clone();
        let writer = tokio::task::spawn_blocking(move || blobs.create(BlobId::random())).await;
        let writer = writer.map_err(RegistryError::internal)??;
        let partly = Partly { writer: Some(writer), hash: Sha256::new(), room: self.room.clone(), taken: 0 };
        let session = Session {
            repository: repository.clone(),
            touched: AtomicI64::new(self.now()),
            partly: Arc::new(Mutex::new(Some(partly))),
        };
        let id = uuid::Uuid::new_v4().to_string();
        let mut sessions = self.sessions();
        if sessions.len() >= MOST {
            let text = format!("{MOST} uploads are under way; end some, or try again later");
            return Err(RegistryError::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", text));
        }
        sessions.insert(id.clone(), Arc::new(session));
        Ok(id)
    }

    fn session(&self, repository: &Repository, id: &str) -> Result<Arc<Session>, RegistryError> {
        let session = self.sessions().get(id).filter(|own| own.repository == *repository).cloned();
        let session = session.ok_or_else(RegistryError::no_upload)?;
        session.touched.store(self.now(), Ordering::Relaxed);
        Ok(session)
    }

    /// How much of an upload has come.
    pub(crate) async fn progress(&self, repository: &Repository, id: &str) -> Result<u64, RegistryError> {
        let session = self.session(repository, id)?;
        let partly = session.partly.lock().await;
        partly.as_ref().map(Partly::len).ok_or_else(RegistryError::no_upload)
    }

    /// Ends an upload; what has come of it goes.
    pub(crate) fn give_up(&self, repository: &Repository, id: &str) -> Result<(), RegistryError> {
        self.session(repository, id)?;
        self.sessions().remove(id);
        Ok(())
    }

    /// Ends those that nobody has gone on with for a day; how many.
    pub(crate) fn end_uploads(&self) -> usize {
        let (mut sessions, now) = (self.sessions(), self.now());
        let before = sessions.len();
        sessions.retain(|_, session| now - session.touched.load(Ordering::Relaxed) < ABANDONED_MS);
        before - sessions.len()
    }

    /// Takes more of an upload, which must begin at `from` if that is said; how much there is now.
    pub(crate) async fn append(
        &self,
        repository: &Repository,
        id: &str,
        from: Option<u64>,
        body: Body,
    ) -> Result<u64, RegistryError> {
        let session = self.session(repository, id)?;
        let going = self.receive(&session, from, body).await;
        session.touched.store(self.now(), Ordering::Relaxed);
        going.map(|going| going.as_ref().map_or(0, Partly::len))
    }

    /// Takes the rest of an upload, which is kept if it is what `digest` says. If it is not, it is over.
    pub(crate) async fn finish(
        self: &Arc<Self>,
        repository: &Repository,
        id: &str,
        digest: &Digest,
        from: Option<u64>,
        body: Body,
    ) -> Result<(), RegistryError> {
        let session = self.session(repository, id)?;
        let mut going = self.receive(&session, from, body).await?;
        let partly = going.take().ok_or_else(RegistryError::no_upload)?;
        self.sessions().remove(id);
        let (this, repository, digest) = (self.clone(), repository.clone(), digest.clone());
        // To its end, also if nobody waits any more: a file has its name before its row.
        let kept = tokio::spawn(async move { this.keep(&repository, &digest, partly).await });
        kept.await.map_err(RegistryError::internal)?
    }

    /// Takes what is sent. Whoever goes away meanwhile leaves what was written, to go on with.
    async fn receive(
        &self,
        session: &Session,
        from: Option<u64>,
        mut body: Body,
    ) -> Result<Going, RegistryError> {
        let busy = || {
            RegistryError::new(StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID", "the upload is being written to")
        };
        let mut going = session.partly.clone().try_lock_owned().map_err(|_| busy())?;
        let mut len = going.as_ref().ok_or_else(RegistryError::no_upload)?.len();
        if from.is_some_and(|from| from != len) {
            let text = format!("the upload goes on at {len}");
            let error = RegistryError::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", text);
            return Err(error.with(http::header::RANGE, range(len)));
        }
        let (mut pieces, mut held) = (Vec::new(), 0);
        loop {
            let frame = body.frame().await;
            let is_over = !matches!(frame, Some(Ok(_)));
            if let Some(Ok(frame)) = frame {
                let Ok(data) = frame.into_data() else { continue };
                held += data.len();
                len += data.len() as u64;
                pieces.push(data);
                if len > MAX_BLOB {
                    let text = format!("a layer has at most {MAX_BLOB} bytes");
                    return Err(RegistryError::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", text));
                }
            } else if let Some(Err(error)) = frame {
                // What came is kept: the sender may ask how much that is, and go on.
                write(going, std::mem::take(&mut pieces)).await?;
                return Err(RegistryError::bad(
                    "BLOB_UPLOAD_INVALID",
                    format!("the body broke off: {error}"),
                ));
            }
            if held >= PIECE || is_over && held > 0 {
                going = write(going, std::mem::take(&mut pieces)).await?;
                held = 0;
            }
            if is_over {
                return Ok(going);
            }
        }
    }

    /// Keeps what has come, if it is what `digest` says.
    async fn keep(
        &self,
        repository: &Repository,
        digest: &Digest,
        partly: Partly,
    ) -> Result<(), RegistryError> {
        let found = Digest::of(&partly.hash.clone().finalize());
        if found != *digest {
            let text = format!("what was uploaded is {found}, not {digest}");
            return Err(RegistryError::bad("DIGEST_INVALID", text));
        }
        let size = partly.len();
        let finished = tokio::task::spawn_blocking(move || {
            let mut partly = partly;
            let file = partly.writer.take().ok_or(StoreError::Closed)?.finish()?;
            partly.taken = 0;
            Ok::<_, StoreError>(file)
        });
        let file = finished.await.map_err(RegistryError::internal)??;
        let row = BlobRow { file: file.clone(), size };
        let (repository, digest, now) = (repository.clone(), digest.clone(), self.now());
        let kept = self.db.write(move |t| {
            let is_new = rows::any_blob(t, digest.as_str())?.is_none();
            if is_new {
                rows::insert_blob(t, digest.as_str(), &row)?;
            }
            rows::link(t, repository.as_str(), digest.as_str(), now)?;
            Ok(is_new)
        });
        let kept = kept.await;
        if !matches!(kept, Ok(true)) {
            self.discard(vec![(file, size)]).await;
        }
        kept?;
        Ok(())
    }
}

/// `0-` and the last byte, as uploads are answered; nothing has come where it is `0-0`, too.
pub(crate) fn range(len: u64) -> http::HeaderValue {
    http::HeaderValue::try_from(format!("0-{}", len.saturating_sub(1)))
        .unwrap_or(http::HeaderValue::from_static("0-0"))
}

/// Writes pieces. Done to the end even when nobody waits: what holds the upload goes along.
async fn write(mut going: Going, pieces: Vec<Bytes>) -> Result<Going, RegistryError> {
    let written = tokio::task::spawn_blocking(move || {
        let outcome = match going.as_mut() {
            Some(partly) => partly.write(&pieces),
            None => Err(StoreError::Closed),
        };
        if outcome.is_err() {
            // Part of it may have been written: nobody can go on with it.
            *going = None;
        }
        // The pieces come back to be freed where they were made.
        (outcome.map(|()| going), pieces)
    });
    let (going, _pieces) = written.await.map_err(RegistryError::internal)?;
    Ok(going?)
}
