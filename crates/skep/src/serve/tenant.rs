//! What belongs to one account, open.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use skep_analytics::AnalyticsStore;
use skep_api::StoredObject;
use skep_assets::ContentCache;
use skep_catalog::{Catalog, Kind};
use skep_d1::D1Store;
use skep_kv::KvStore;
use skep_logs::LogStore;
use skep_queues::Queues;
use skep_r2::R2Store;
use skep_registry::ImageStore;
use skep_runtime::{Clock, Jobs, Shutdown};
use skep_store::{BlobId, Blobs, Quota};
use skep_vectorize::VectorizeStore;

use super::links::queue_settings;
use super::sizes::Sizes;
use super::stored;
use crate::stores::{Keeping, Stores};

/// Content that no version uses is kept this long: an upload may be about to use it. The second is for an account that
/// is nearly full, and longer than the token of an upload of assets is valid.
const UNUSED_MS: i64 = 24 * 60 * 60 * 1000;
const UNUSED_NEARLY_FULL_MS: i64 = 2 * 60 * 60 * 1000;

/// An account's storage.
pub struct Tenant {
    /// The account.
    pub id: String,
    /// Behind its bindings.
    pub stores: Stores,
    /// What its scripts logged.
    pub logs: LogStore,
    /// Modules, assets, manifests.
    pub blobs: Blobs,
    /// Images of its containers.
    pub images: Arc<ImageStore>,
    /// How much of all that it may store, and stores.
    pub quota: Arc<Quota>,
    /// What of that is measured.
    pub sizes: Sizes,
    /// Small assets of all its scripts.
    pub asset_cache: Arc<ContentCache>,
    /// For documents of its S3 API.
    pub s3_room: skep_s3::Room,
}

/// How long and how much of what is over is kept.
#[derive(Clone, Copy, Debug)]
pub struct Keeps {
    /// Logs of scripts.
    pub logs: skep_logs::Retention,
    /// Earlier states of D1 databases, and what scripts cache.
    pub stores: Keeping,
    /// Bytes that an account may store; `None`: any number.
    pub storage: Option<u64>,
}

impl Tenant {
    /// Opens or creates it in `dir`.
    pub fn open(
        id: &str,
        dir: &Path,
        cache: Arc<ContentCache>,
        keeps: Keeps,
        clock: &Clock,
        jobs: &Jobs,
        shutdown: &Shutdown,
    ) -> Result<Self, String> {
        let quota = Arc::new(keeps.storage.map_or_else(Quota::default, Quota::new));
        let stores = Stores::open(dir, "--data", clock, jobs, shutdown, keeps.stores, &quota)?;
        // Before anything looks for messages that were kept for long enough.
        for queue in stores.catalog.resources(Kind::Queue).map_err(|e| e.to_string())? {
            stores.queues.configure(&queue.name, queue_settings(&queue.settings));
        }
        let logs = LogStore::open(&dir.join("logs"), id, keeps.logs, clock.clone(), jobs, shutdown.clone())
            .map_err(|e| format!("cannot open the logs in {}: {e}", dir.display()))?;
        let blobs = Blobs::open(&dir.join("content")).map_err(|e| e.to_string())?.within(quota.clone());
        let named = stores.catalog.all_blobs().map_err(|e| e.to_string())?;
        let named: HashSet<BlobId> = named.iter().filter_map(|name| BlobId::parse(name)).collect();
        blobs.sweep(&named).map_err(|e| e.to_string())?;
        let images = ImageStore::open(&dir.join("registry"), clock.clone(), quota.clone())
            .map_err(|e| format!("cannot open the image registry in {}: {e}", dir.display()))?;
        let images = Arc::new(images);
        let sizes = Sizes::new(quota.clone());
        Ok(Self {
            id: id.to_owned(),
            stores,
            logs,
            blobs,
            images,
            quota,
            sizes,
            asset_cache: cache,
            s3_room: skep_s3::Room::default(),
        })
    }

    /// Removes content that no version has used for a day, or for two hours if there is little room.
    pub async fn forget_unused(&self, now_ms: i64) -> Result<String, String> {
        let kept_ms = if self.quota.is_nearly_full() { UNUSED_NEARLY_FULL_MS } else { UNUSED_MS };
        let unused = self.stores.catalog.forget_unused(now_ms - kept_ms).await.map_err(|e| e.to_string())?;
        let blobs = self.blobs.clone();
        let count = unused.len();
        let removed = tokio::task::spawn_blocking(move || {
            unused.iter().filter_map(|name| BlobId::parse(name)).try_for_each(|id| blobs.remove(&id))
        });
        removed.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        Ok(format!("{count} removed"))
    }
}

impl skep_api::Tenant for Tenant {
    fn catalog(&self) -> &Catalog {
        &self.stores.catalog
    }

    fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    fn kv(&self) -> &KvStore {
        &self.stores.kv
    }

    fn r2(&self) -> &R2Store {
        &self.stores.r2
    }

    fn d1(&self) -> &D1Store {
        &self.stores.d1
    }

    fn analytics(&self) -> &AnalyticsStore {
        &self.stores.analytics
    }

    fn vectorize(&self) -> &VectorizeStore {
        &self.stores.vectorize
    }

    fn images(&self) -> &Arc<ImageStore> {
        &self.images
    }

    fn queues(&self) -> &Queues {
        &self.stores.queues
    }

    fn logs(&self) -> &LogStore {
        &self.logs
    }

    fn objects(
        &self,
        unique_key: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<StoredObject>, bool), String> {
        stored::objects(&self.stores.objects().join(unique_key), after, limit)
    }
}
