//! The registry of container images: beside the API, over the accounts' folders.

use std::collections::HashSet;
use std::sync::Arc;

use skep_api::{Api, ApiService, ContainerApplication};
use skep_registry::{ImageRegistry, ImageStore};
use skep_runtime::Jobs;
use skep_wire::{BoxFuture, Request, Response, Service};

use super::accounts::Accounts;
use super::tenant::Tenant;

/// The registry alone, from which the engine of containers gets images.
pub struct Registry(ImageRegistry);

impl Registry {
    /// Over the images of all accounts.
    pub fn new(accounts: Arc<Accounts>) -> Self {
        let credentials = skep_api::Platform::registry(&*accounts).clone();
        Self(ImageRegistry::new(accounts, credentials))
    }
}

impl Service for Registry {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        self.0.call(request)
    }
}

/// What is served on the API's address.
pub struct Front {
    api: ApiService,
    registry: Registry,
}

impl Front {
    /// The API, and below `/v2` the registry.
    pub fn new(api: Arc<Api>, accounts: Arc<Accounts>) -> Self {
        Self { api: ApiService(api), registry: Registry::new(accounts) }
    }
}

impl Service for Front {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        match ImageRegistry::is_for(request.uri().path()) {
            true => self.registry.call(request),
            false => self.api.call(request),
        }
    }
}

impl skep_registry::Accounts for Accounts {
    fn images(&self, account: &str) -> Result<Arc<ImageStore>, String> {
        Ok(self.tenant_of(account)?.images.clone())
    }

    fn in_use(&self, account: &str) -> Result<HashSet<String>, String> {
        in_use(&*self.tenant_of(account)?)
    }
}

/// The manifests that must stay.
fn in_use(tenant: &Tenant) -> Result<HashSet<String>, String> {
    let found = ContainerApplication::images_in_use(tenant, &tenant.id);
    found.map_err(|error| error.errors.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("; "))
}

/// Removes uploads that were given up and images that nobody needs, from now on.
pub fn tidy(tenant: &Arc<Tenant>, jobs: &Jobs) {
    let of = Arc::downgrade(tenant);
    tenant.images.tidy_by(jobs, &tenant.id, move || match of.upgrade() {
        Some(tenant) => in_use(&tenant),
        None => Err("the account is closed".to_owned()),
    });
}
