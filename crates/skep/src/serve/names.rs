//! Keeps the claims of host names in line with what the catalogs of the accounts say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use skep_catalog::{Catalog, CatalogError, Registry};
use skep_wire::BoxFuture;
use tokio::sync::OwnedMutexGuard;

use super::tenant::Tenant;

/// Whose a host name is.
pub struct Names {
    registry: Arc<Registry>,
    /// By account: held from a claim to the row that needs it, and while what no row needs is given up.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Names {
    /// As the registry has them.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry, turns: Mutex::default() }
    }

    /// Adopts what the catalogs of all accounts say; before anything is changed.
    pub async fn adopt(&self, tenants: &[Arc<Tenant>]) -> Result<(), CatalogError> {
        let used = tenants.iter().map(|tenant| Ok((tenant.id.clone(), tenant.stores.catalog.names()?)));
        let used = used.collect::<Result<_, CatalogError>>()?;
        for (account, name) in self.registry.adopt(used).await? {
            tracing::warn!(account, name, "another account has this host name: it does not lead to this one");
        }
        Ok(())
    }

    /// All names, with the accounts that have them.
    pub fn all(&self) -> Result<HashMap<String, String>, CatalogError> {
        self.registry.claims()
    }

    async fn turn(&self, account: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.entry(account.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }

    /// Runs `change` once `names` are the account's own.
    pub async fn claim(
        &self,
        tenant: &Tenant,
        names: Vec<String>,
        change: BoxFuture<'static, Result<(), CatalogError>>,
    ) -> Result<(), CatalogError> {
        let _turn = self.turn(&tenant.id).await;
        self.registry.claim(&tenant.id, names).await?;
        let changed = change.await;
        if changed.is_err() {
            self.give_up(&tenant.id, &tenant.stores.catalog).await?;
        }
        changed
    }

    /// Gives up the names that the account does not use any more.
    pub async fn settle(&self, tenant: &Tenant) -> Result<(), CatalogError> {
        if self.registry.claims_of(&tenant.id)?.is_empty() {
            return Ok(());
        }
        let _turn = self.turn(&tenant.id).await;
        self.give_up(&tenant.id, &tenant.stores.catalog).await
    }

    /// In the account's turn.
    async fn give_up(&self, account: &str, catalog: &Catalog) -> Result<(), CatalogError> {
        let used = catalog.names()?;
        let unused: Vec<String> = self.registry.claims_of(account)?.difference(&used).cloned().collect();
        if unused.is_empty() {
            return Ok(());
        }
        self.registry.release(account, unused).await
    }
}
