//! Buckets that anybody may read: at their managed domains and at their custom ones.

use std::collections::HashMap;
use std::sync::Arc;

use http::StatusCode;
use http::request::Parts;
use skep_api::{managed_buckets, managed_label};
use skep_edge::LocalHandler;
use skep_r2::Bucket;
use skep_wire::{Body, BoxFuture, Response, full, reply};
use tokio::sync::OnceCell;

use super::tenant::Tenant;

/// The buckets that are public, by where.
#[derive(Default)]
pub struct PublicBuckets {
    /// By the ids in managed domains, with the account.
    managed: HashMap<String, (String, Arc<dyn LocalHandler>)>,
    /// By custom domains.
    domains: HashMap<String, Arc<dyn LocalHandler>>,
}

impl PublicBuckets {
    /// Adds those of an account, at custom domains that `is_own`.
    pub fn add(&mut self, tenant: &Arc<Tenant>, is_own: impl Fn(&str) -> bool) -> Result<(), String> {
        let catalog = &tenant.stores.catalog;
        let public = |name: String| -> Arc<dyn LocalHandler> {
            Arc::new(Public { tenant: tenant.clone(), name, bucket: OnceCell::new() })
        };
        for (id, name) in managed_buckets(&tenant.id, catalog).map_err(|e| e.to_string())? {
            self.managed.insert(id, (tenant.id.clone(), public(name)));
        }
        for domain in catalog.bucket_domains().map_err(|e| e.to_string())? {
            if domain.enabled && is_own(&domain.hostname) {
                // A bucket's id is its name.
                self.domains.insert(domain.hostname, public(domain.bucket));
            }
        }
        Ok(())
    }

    /// The bucket of a custom domain.
    pub fn at(&self, host: &str) -> Option<&Arc<dyn LocalHandler>> {
        self.domains.get(host)
    }

    /// The bucket whose managed domain this is, and its account.
    pub fn managed(&self, host: &str, domains: &[String]) -> Option<&(String, Arc<dyn LocalHandler>)> {
        self.managed.get(domains.iter().find_map(|domain| managed_label(host, domain))?)
    }

    /// The custom domains.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.domains.keys().map(String::as_str)
    }
}

/// One of them. It is opened when it is first asked for.
struct Public {
    tenant: Arc<Tenant>,
    name: String,
    bucket: OnceCell<Arc<Bucket>>,
}

impl Public {
    async fn open(&self) -> Result<Arc<Bucket>, String> {
        let (tenant, name) = (self.tenant.clone(), self.name.clone());
        let opened = tokio::task::spawn_blocking(move || tenant.stores.r2.bucket(&name)).await;
        opened.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }
}

impl LocalHandler for Public {
    fn handles(&self, _path: &str) -> bool {
        true
    }

    fn handle<'a>(&'a self, head: &'a Parts, _: Body) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            match self.bucket.get_or_try_init(|| self.open()).await {
                Ok(bucket) => bucket.visit(head),
                Err(error) => {
                    tracing::error!(bucket = self.name, error, "a public bucket cannot be opened");
                    reply(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        full("This bucket cannot be read at the moment.\n"),
                    )
                }
            }
        })
    }
}
