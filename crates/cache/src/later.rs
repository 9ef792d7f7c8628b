//! A worker's caches that are opened when they are first asked for. Most workers never ask, and open ones cost a folder, a
//! database and a thread each: a third of Skep's own share of a cold start.

use std::sync::Arc;

use http::Method;
use skep_store::StoreError;
use skep_wire::{BoxFuture, Request, Response, Service};
use tokio::sync::OnceCell;

use crate::service::refused;
use crate::store::CacheStore;
use crate::worker::WorkerCache;

/// The caches of one worker, perhaps not open yet.
#[derive(Debug)]
pub struct LaterCache {
    store: CacheStore,
    id: String,
    opened: OnceCell<Arc<WorkerCache>>,
}

impl LaterCache {
    pub(crate) fn new(store: CacheStore, id: &str) -> Self {
        Self { store, id: id.to_owned(), opened: OnceCell::new() }
    }

    async fn open(&self) -> Result<Arc<WorkerCache>, StoreError> {
        let (store, id) = (self.store.clone(), self.id.clone());
        let opened = tokio::task::spawn_blocking(move || store.worker(&id)).await;
        opened.map_err(|e| StoreError::io("cannot open a cache", std::io::Error::other(e)))?
    }
}

impl Service for LaterCache {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            match self.opened.get_or_try_init(|| self.open()).await {
                Ok(cache) => {
                    let puts = request.method() == Method::PUT;
                    let response = cache.call(request).await;
                    // Who stores more than there is room for waits for it.
                    if puts
                        && self.store.is_over()
                        && let Err(error) = self.store.make_room().await
                    {
                        tracing::error!(%error, "no room can be made in the caches of an account");
                    }
                    response
                }
                Err(error) => refused(error.into(), &mut request.into_body()).await,
            }
        })
    }
}
