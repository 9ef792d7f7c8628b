//! All accounts of a node: the API's view of the system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use skep_api::{Addresses, Candidate, ContainerInstance, Examined, InstanceError, Platform, TailEvents};
use skep_assets::{ContentCache, DEFAULT_CAPACITY};
use skep_catalog::{CatalogError, Registry};
use skep_cron::Expression;
use skep_d1::Paused;
use skep_fleet::Still;
use skep_hyperdrive::{Failure, Origin};
use skep_registry::Credentials;
use skep_runtime::Jobs;
use skep_wire::BoxFuture;

use super::hosts::Hosts;
use super::names::Names;
use super::notifications::Notifications;
use super::runner::{Runner, Surroundings};
use super::s3::S3;
use super::tenant::Tenant;
use super::{hyperdrive, images, quota, sizes};
use crate::events::ask_instances;

/// How often unused content is looked for.
const TIDY: Duration = Duration::from_secs(60 * 60);

/// How often images that nobody needs are looked for in Docker: one may have to wait for a container.
const TIDY_ENGINE: Duration = Duration::from_secs(10 * 60);
/// How often histories are tidied.
const TIDY_HISTORY: Duration = Duration::from_secs(10 * 60);

/// All accounts, open.
pub struct Accounts {
    this: Weak<Self>,
    data: PathBuf,
    registry: Arc<Registry>,
    addresses: Addresses,
    hosts: Arc<Hosts>,
    names: Arc<Names>,
    around: Surroundings,
    jobs: Jobs,
    assets: Arc<ContentCache>,
    open: Mutex<BTreeMap<String, Arc<Runner>>>,
    /// One reads where everything answers at a time.
    reading: tokio::sync::Mutex<()>,
}

impl Accounts {
    /// Opens all accounts and reads where they answer.
    pub async fn open(
        data: &Path,
        registry: Arc<Registry>,
        addresses: Addresses,
        base_domains: Vec<String>,
        jobs: Jobs,
        around: Surroundings,
    ) -> Result<Arc<Self>, String> {
        let mut domains = base_domains;
        domains.push("localhost".into());
        registry.answer_below(domains.clone());
        let this = Arc::new_cyclic(|this| Self {
            this: this.clone(),
            data: data.to_owned(),
            names: Arc::new(Names::new(registry.clone())),
            registry,
            addresses,
            hosts: Arc::new(Hosts::new(domains)),
            around,
            jobs,
            assets: Arc::new(ContentCache::new(DEFAULT_CAPACITY)),
            open: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        });
        let mut tenants = Vec::new();
        for account in this.registry.accounts().map_err(|e| e.to_string())? {
            let runner = this.runner(&account.id)?;
            if let Some(boxes) = &this.around.boxes {
                boxes.start(&runner.tenant).await?;
            }
            runner.boot()?;
            tenants.push(runner.tenant.clone());
        }
        this.names.adopt(&tenants).await.map_err(|e| e.to_string())?;
        this.read_hosts()?;
        Ok(this)
    }

    /// Where all scripts answer.
    pub fn hosts(&self) -> Arc<Hosts> {
        self.hosts.clone()
    }

    fn runner(&self, account: &str) -> Result<Arc<Runner>, String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runner) = open.get(account) {
            return Ok(runner.clone());
        }
        // Ids are ours; this one names a folder.
        if account.is_empty() || !account.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(format!("there is no account {account:?}"));
        }
        let dir = self.data.join("accounts").join(account);
        let Surroundings { clock, shutdown, keeps, .. } = &self.around;
        let tenant = Tenant::open(account, &dir, self.assets.clone(), *keeps, clock, &self.jobs, shutdown)?;
        let tenant = Arc::new(tenant);
        tenant.stores.r2.listen(Arc::new(Notifications(Arc::downgrade(&tenant))));
        images::tidy(&tenant, &self.jobs);
        if keeps.stores.history.is_some() {
            let tidied = tenant.clone();
            self.jobs.every(
                format!("{account}: tidy the history of D1 databases"),
                TIDY_HISTORY,
                move || {
                    let tenant = tidied.clone();
                    async move {
                        let tidied = tokio::task::spawn_blocking(move || tenant.stores.d1.tidy()).await;
                        tidied.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
                    }
                },
            );
        }
        if tenant.quota.is_limited() {
            tokio::spawn(quota::keep(tenant.clone()));
            let kept = tenant.clone();
            self.jobs.every(format!("{account}: measure what is stored"), sizes::EVERY, move || {
                quota::keep(kept.clone())
            });
        }
        let (tidied, clock) = (tenant.clone(), clock.clone());
        self.jobs.every(format!("{account}: remove unused content"), TIDY, move || {
            let (tenant, now) = (tidied.clone(), clock.now_ms());
            async move { tenant.forget_unused(i64::try_from(now).unwrap_or(i64::MAX)).await }
        });
        if let Some(boxes) = &self.around.boxes {
            let (boxes, of) = (Arc::downgrade(boxes), Arc::downgrade(&tenant));
            self.jobs.every(format!("{account}: remove unused images from Docker"), TIDY_ENGINE, move || {
                let (boxes, tenant) = (boxes.upgrade(), of.upgrade());
                async move {
                    match (boxes, tenant) {
                        (Some(boxes), Some(tenant)) => boxes.tidy(&tenant).await,
                        _ => Ok(String::new()),
                    }
                }
            });
        }
        let runner = Runner::new(tenant, self.around.clone())?;
        open.insert(account.to_owned(), runner.clone());
        Ok(runner)
    }

    /// What belongs to an account.
    pub fn tenant_of(&self, account: &str) -> Result<Arc<Tenant>, String> {
        Ok(self.runner(account)?.tenant.clone())
    }

    fn read_hosts(&self) -> Result<(), String> {
        let mut all = Vec::new();
        for account in self.registry.accounts().map_err(|e| e.to_string())? {
            all.push((account.subdomain, self.runner(&account.id)?));
        }
        let s3 = |runner: &Arc<Runner>| S3 {
            tenant: runner.tenant.clone(),
            registry: self.registry.clone(),
            accounts: self.this.clone(),
            clock: self.around.clock.clone(),
        };
        self.hosts.set(all, self.names.all().map_err(|e| e.to_string())?, s3)
    }

    /// Gives up host names that an account does not use any more, and reads where everything answers.
    async fn settle(&self, account: &str) -> Result<(), String> {
        self.names.settle(&self.runner(account)?.tenant).await.map_err(|e| e.to_string())?;
        // Aside: it takes as long as all accounts have routes. One after the other: the last one has seen everything.
        let _one = self.reading.lock().await;
        let this = self.this.upgrade().ok_or("the node ends")?;
        tokio::task::spawn_blocking(move || this.read_hosts()).await.map_err(|e| e.to_string())?
    }

    /// All that are open.
    pub fn runners(&self) -> Vec<Arc<Runner>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Makes all who write files of Durable Objects pause until the result is dropped. Blocking.
    pub fn hold_still(&self) -> Vec<Still> {
        self.runners().iter().map(|runner| runner.fleet().hold_still()).collect()
    }

    /// Stops all writes of D1 databases, with their histories stored, until the result is dropped. Blocking.
    pub fn pause_d1(&self) -> Vec<Paused> {
        self.runners().iter().filter_map(|runner| runner.tenant.stores.d1.pause()).collect()
    }

    /// Ends everything that runs.
    pub async fn stop(&self) {
        for runner in self.runners() {
            runner.stop().await;
        }
        if let Some(browsers) = &self.around.browsers {
            browsers.stop().await;
        }
        if let Some(boxes) = &self.around.boxes {
            boxes.stop().await;
        }
    }
}

impl Platform for Accounts {
    fn tenant(&self, account: &str) -> Result<Arc<dyn skep_api::Tenant>, String> {
        Ok(self.runner(account)?.tenant.clone())
    }

    fn ai(&self) -> &Arc<skep_ai::Ai> {
        &self.around.ai
    }

    fn runs_browsers(&self) -> bool {
        self.around.browsers.is_some()
    }

    fn registry(&self) -> &Arc<Credentials> {
        &self.around.credentials
    }

    fn runs_containers(&self) -> Result<(), String> {
        match self.around.boxes {
            Some(_) => Ok(()),
            None => {
                Err("this node runs no containers: `skep serve --containers` runs them with Docker"
                    .to_owned())
            }
        }
    }

    fn container_instances<'a>(
        &'a self,
        account: &'a str,
        namespace_id: &'a str,
    ) -> BoxFuture<'a, Vec<ContainerInstance>> {
        Box::pin(async move {
            match (&self.around.boxes, self.tenant_of(account)) {
                (Some(boxes), Ok(tenant)) => boxes.instances(&tenant, namespace_id).await,
                _ => Vec::new(),
            }
        })
    }

    fn try_out<'a>(
        &'a self,
        account: &'a str,
        candidate: &'a Candidate,
    ) -> BoxFuture<'a, Result<Examined, String>> {
        Box::pin(async move { self.runner(account)?.try_out(candidate).await })
    }

    fn apply<'a>(&'a self, account: &'a str, script: &'a str) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            self.runner(account)?.apply(script).await?;
            self.settle(account).await
        })
    }

    fn settings_changed<'a>(
        &'a self,
        account: &'a str,
        script: &'a str,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move { self.runner(account)?.settings_changed(script).await })
    }

    fn namespace_changed(&self, account: &str, id: &str) -> Result<(), String> {
        self.runner(account)?.namespace_changed(id);
        Ok(())
    }

    fn tail<'a>(&'a self, account: &'a str, script: &'a str) -> BoxFuture<'a, Result<TailEvents, String>> {
        Box::pin(async move { self.runner(account)?.tail(script).await })
    }

    fn instances<'a>(
        &'a self,
        account: &'a str,
        script: &'a str,
        call: serde_json::Value,
    ) -> BoxFuture<'a, Result<serde_json::Value, InstanceError>> {
        Box::pin(async move {
            let runner = self.runner(account).map_err(InstanceError::NotRunning)?;
            ask_instances(&runner.worker(script), &call).await
        })
    }

    fn check_database<'a>(&'a self, origin: &'a Origin) -> BoxFuture<'a, Result<(), (u32, String)>> {
        Box::pin(async move {
            self.around.hyperdrive.check(origin).await.map_err(|failure| {
                let help = match failure {
                    Failure::Forbidden(_) => {
                        ". A database at a private address has to be let in where the node is started: --hyperdrive-allow ADDRESS:PORT"
                    }
                    _ => "",
                };
                (failure.code(), format!("{failure}{help}"))
            })
        })
    }

    fn forget_database(&self, account: &str, id: &str) {
        self.around.hyperdrive.forget(&hyperdrive::shared_id(account, id));
    }

    fn check_cron(&self, cron: &str) -> Result<(), String> {
        cron.parse::<Expression>().map(|_| ()).map_err(|e| e.to_string())
    }

    fn next_run(&self, cron: &str, after_ms: i64) -> Option<i64> {
        let after = u64::try_from(after_ms).ok()?;
        i64::try_from(cron.parse::<Expression>().ok()?.next_after(after)?).ok()
    }

    fn addresses_changed<'a>(&'a self, account: &'a str) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(self.settle(account))
    }

    fn claim<'a>(
        &'a self,
        account: &'a str,
        names: Vec<String>,
        change: BoxFuture<'static, Result<(), CatalogError>>,
    ) -> BoxFuture<'a, Result<(), CatalogError>> {
        Box::pin(async move {
            let tenant = self.runner(account).map_err(CatalogError::Invalid)?.tenant.clone();
            if let Some(name) = names.iter().find(|name| self.hosts.is_beneath_another(name, account)) {
                return Err(CatalogError::Taken(name.clone()));
            }
            let claims = self.names.clone();
            let claimed = tokio::spawn(async move { claims.claim(&tenant, names, change).await });
            claimed.await.map_err(|e| CatalogError::Invalid(e.to_string()))?
        })
    }

    fn addresses(&self) -> &Addresses {
        &self.addresses
    }
}
