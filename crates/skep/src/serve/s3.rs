//! The S3 API of accounts' buckets: at `<account>.r2.<base domain>`, or with the bucket before it.
//! <https://developers.cloudflare.com/r2/api/s3/api/>

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use http::request::Parts;
use skep_api::{BucketError, Platform, R2Access, R2Scope, make_bucket, remove_bucket};
use skep_catalog::{Kind, Registry, Resource};
use skep_edge::{AskedPath, LocalHandler};
use skep_r2::{Bucket, MAX_PUT_BYTES};
use skep_runtime::Clock;
use skep_s3::{Account, BucketInfo, Changed, Grant, Place, Room, Scope};
use skep_wire::{Body, BoxFuture, Response};

use super::accounts::Accounts;
use super::tenant::Tenant;

/// Bytes of a body beside its content: what is signed in chunks says so much of each.
const CHUNKED: u64 = MAX_PUT_BYTES / 16;

/// All accounts, by their ids.
#[derive(Default)]
pub struct S3Hosts(HashMap<String, Arc<S3>>);

impl S3Hosts {
    /// Adds an account.
    pub fn add(&mut self, account: S3) {
        self.0.insert(account.tenant.id.clone(), Arc::new(account));
    }

    /// What answers at a host name; the name of a bucket may stand before the account's.
    pub fn at(&self, host: &str, domains: &[String]) -> Option<Arc<dyn LocalHandler>> {
        let (label, account) = self.find(host, domains)?;
        Some(Arc::new(Host { account: account.clone(), bucket: label.map(str::to_owned) }))
    }

    /// The account that a host name is of.
    pub fn account(&self, host: &str, domains: &[String]) -> Option<&str> {
        Some(&self.find(host, domains)?.1.tenant.id)
    }

    /// The account whose name below the base domain this is, with nothing before it.
    pub fn is_account(&self, host: &str, domains: &[String]) -> bool {
        self.find(host, domains).is_some_and(|(label, _)| label.is_none())
    }

    fn find<'a>(&self, host: &'a str, domains: &[String]) -> Option<(Option<&'a str>, &Arc<S3>)> {
        let below = domains.iter().find_map(|domain| host.strip_suffix(domain)?.strip_suffix(".r2."))?;
        let (label, id) = below.rsplit_once('.').map_or((None, below), |(label, id)| (Some(label), id));
        Some((label, self.0.get(id)?))
    }
}

/// An account's S3 API.
pub struct S3 {
    /// The account.
    pub tenant: Arc<Tenant>,
    /// Whose tokens are access keys.
    pub registry: Arc<Registry>,
    /// Where buckets are removed.
    pub accounts: Weak<Accounts>,
    /// The time that requests are signed at.
    pub clock: Clock,
}

fn scope(scope: R2Scope) -> Scope {
    match scope {
        R2Scope::All => Scope::All,
        R2Scope::Named(names) => Scope::Named(names),
    }
}

fn changed(result: Result<(), BucketError>) -> Result<Changed, String> {
    match result {
        Ok(()) => Ok(Changed::Done),
        Err(BucketError::Exists) => Ok(Changed::Exists),
        Err(BucketError::Missing) => Ok(Changed::Missing),
        Err(BucketError::NotEmpty(_)) => Ok(Changed::NotEmpty),
        Err(BucketError::InvalidName) => Ok(Changed::InvalidName),
        Err(BucketError::InvalidLocation(_)) => Ok(Changed::InvalidLocation),
        Err(BucketError::Other(error)) => Err(format!("{:?}", error.errors)),
    }
}

impl S3 {
    fn now_ms(&self) -> i64 {
        i64::try_from(self.clock.now_ms()).unwrap_or(i64::MAX)
    }

    fn info(row: Resource) -> BucketInfo {
        let location = row.settings["location"].as_str().map(str::to_ascii_uppercase);
        BucketInfo { name: row.name, created_ms: row.created_ms, location }
    }
}

impl Account for S3 {
    fn id(&self) -> &str {
        &self.tenant.id
    }

    fn room(&self) -> &Room {
        &self.tenant.s3_room
    }

    fn grant(&self, key: &str) -> Result<Option<Grant>, String> {
        let found = self.registry.token_by_id(key, self.now_ms()).map_err(|e| e.to_string())?;
        Ok(found.filter(|(token, _)| token.account == self.tenant.id).map(|(token, hash)| {
            let R2Access { read, write, manage } = R2Access::of(&token);
            Grant { secret: hex::encode(hash), read: scope(read), write: scope(write), manage }
        }))
    }

    fn buckets(&self) -> Result<Vec<BucketInfo>, String> {
        let rows = self.tenant.stores.catalog.resources(Kind::R2).map_err(|e| e.to_string())?;
        Ok(rows.into_iter().map(Self::info).collect())
    }

    fn bucket<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Arc<Bucket>>, String>> {
        Box::pin(async move {
            let row = self.tenant.stores.catalog.resource(Kind::R2, name).map_err(|e| e.to_string())?;
            let Some(row) = row else { return Ok(None) };
            if let Some(bucket) = self.tenant.stores.r2.ready(&row.name) {
                return Ok(Some(bucket));
            }
            let tenant = self.tenant.clone();
            // The first time it is opened.
            let opened = tokio::task::spawn_blocking(move || tenant.stores.r2.bucket(&row.name)).await;
            opened.map_err(|e| e.to_string())?.map(Some).map_err(|e| e.to_string())
        })
    }

    fn create<'a>(
        &'a self,
        name: &'a str,
        location: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Changed, String>> {
        Box::pin(async move {
            let catalog = &self.tenant.stores.catalog;
            let made = make_bucket(catalog, name, "Standard", location, self.now_ms()).await;
            changed(made.map(drop))
        })
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Changed, String>> {
        Box::pin(async move {
            let accounts = self.accounts.upgrade().ok_or("the node is stopping")?;
            let platform: &dyn Platform = accounts.as_ref();
            changed(remove_bucket(platform, &self.tenant.id, name).await)
        })
    }
}

/// A host name of an account.
struct Host {
    account: Arc<S3>,
    bucket: Option<String>,
}

impl LocalHandler for Host {
    fn handles(&self, _path: &str) -> bool {
        true
    }

    fn max_body(&self) -> Option<u64> {
        Some(MAX_PUT_BYTES + CHUNKED)
    }

    fn handle<'a>(&'a self, head: &'a Parts, body: Body) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            let place = Place { path: AskedPath::of(head), before: "", bucket: self.bucket.as_deref() };
            skep_s3::answer(self.account.as_ref(), place, head, body, self.account.now_ms()).await
        })
    }
}
