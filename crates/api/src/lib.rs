//! The Cloudflare v4 REST API over the catalog and the binding servers' admin side.
//! <https://developers.cloudflare.com/api/>
//!
//! Reads requests, checks tokens, decides, changes the catalog, answers in Cloudflare's envelope. Does not know
//! cells or sockets: a [`Platform`] tries code out and brings what runs in line with the catalog.
//!
//! Entry point: [`Api`], a [`skep_wire::Service`].

mod call;
mod platform;
mod reply;
mod router;

mod account;
mod ai;
mod analytics;
mod aside;
mod assets;
mod bindings;
mod bodies;
mod consumers;
mod container_images;
mod container_instances;
mod container_rollouts;
mod container_sizes;
mod containers;
mod d1;
mod d1_time_travel;
mod deployments;
mod description;
mod dispatch;
mod exports;
mod flags;
mod form;
mod guard;
#[cfg(test)]
mod hostile;
mod hyperdrive;
mod identity;
mod instances;
mod kv;
mod limits;
mod messages;
mod migrations;
mod modules;
mod notifications;
mod objects;
mod observability;
mod openapi;
mod permissions;
mod queues;
mod r2;
mod r2_absent;
mod r2_buckets;
mod r2_bulk;
mod r2_domains;
mod r2_rules;
mod routes;
mod script_limits;
mod scripts;
mod secrets;
mod secrets_store;
mod services;
mod settings;
mod subdomain;
mod tail_filter;
mod tails;
mod tokens;
mod upload;
mod uploaded;
mod vectorize;
mod versions;
mod worker_objects;
mod worker_versions;
mod workers;
mod workflows;

use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;
use skep_catalog::{AuditEntry, Registry, Sealer, Terms, Token};
use skep_runtime::Clock;
use skep_wire::{BoxFuture, Request, Response, Service};
use tokio::sync::{RwLock, RwLockWriteGuard};

pub use bindings::seal_context as secret_context;
use call::Call;
pub use container_images::own_image;
pub use container_sizes::InstanceSize;
pub use containers::ContainerApplication;
pub use hyperdrive::hyperdrive_origin;
pub use objects::namespace_id;
pub use platform::{
    Addresses, Candidate, ContainerInstance, Examined, InstanceError, Platform, StoredObject, TailEvent,
    TailEvents, Tenant,
};
pub use r2_buckets::{BucketError, R2Access, R2Scope, make as make_bucket, remove as remove_bucket};
pub use r2_domains::{managed_buckets, managed_label};
pub use reply::ApiError;
pub use router::{OPERATIONS, Operation};
pub use script_limits::ScriptLimits;
pub use secrets_store::stored_secret;

/// The path that everything is below.
pub const BASE: &str = "/client/v4";

/// How long a client may send nothing of a body that is waited for.
const BODY_TIME: std::time::Duration = std::time::Duration::from_secs(100);
/// How slowly it may send: half of what a line of 64 kbit/s takes. Bodies have room of the node's memory.
const BODY_RATE: skep_wire::Rate = skep_wire::Rate { grace: BODY_TIME, least: 4000 };

/// The API.
pub struct Api {
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) clock: Clock,
    pub(crate) limits: ScriptLimits,
    /// Whether there is a mail relay, which bindings that send mail need.
    pub(crate) has_relay: bool,
    pub(crate) tails: tails::Sessions,
    guard: guard::Guard,
    /// Room for bodies that are read whole.
    bodies: bodies::Bodies,
    /// Held for reading by calls that may store sealed values.
    changing: RwLock<()>,
}

impl Api {
    /// The API over `platform`. Without a mail relay bindings that send mail are refused.
    pub fn new(
        platform: Arc<dyn Platform>,
        registry: Arc<Registry>,
        sealer: Arc<Sealer>,
        clock: Clock,
        limits: ScriptLimits,
        has_relay: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            platform,
            registry,
            sealer,
            clock,
            limits,
            has_relay,
            tails: tails::Sessions::default(),
            guard: guard::Guard::default(),
            bodies: bodies::Bodies::default(),
            changing: RwLock::default(),
        })
    }

    /// Waits until no call is under way that may store a secret; none begins until the result is dropped.
    pub async fn without_changes(&self) -> RwLockWriteGuard<'_, ()> {
        self.changing.write().await
    }

    async fn answer(self: Arc<Self>, request: Request) -> Result<Response, ApiError> {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        let below = path.strip_prefix(BASE).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let below = below.ok_or_else(|| ApiError::no_route(&path))?;
        let found = router::find(&head.method, below)?;
        let token = match found.operation.open {
            // Carries a token of its own kind, which its handler checks.
            true => Token {
                id: String::new(),
                account: found.params.first().cloned().unwrap_or_default(),
                terms: Terms::default(),
                created_ms: 0,
                modified_ms: 0,
            },
            false => self.authenticate(&head)?,
        };
        let mut params = found.params;
        let operation = found.operation;
        let of_account = operation.path.starts_with("/accounts/:account");
        if of_account && !params.is_empty() {
            let account = params.remove(0);
            if !operation.open && account != token.account {
                return Err(ApiError::new(StatusCode::FORBIDDEN, 10000, "Authentication error"));
            }
        }
        if !operation.open && !permissions::allows(&token.terms.permissions, permissions::need(operation)) {
            return Err(ApiError::new(StatusCode::FORBIDDEN, 10000, "Authentication error"));
        }
        let changes = permissions::changes(operation);
        let action = format!("{} {below}", head.method);
        let (account, id) = (token.account.clone(), token.id.clone());
        let body = skep_wire::patient(body, skep_wire::Patience::new(BODY_TIME, BODY_RATE)).into();
        let call = Call { api: self.clone(), operation, token, params, head, body, seat: None };
        let seals =
            ["/workers/", "/hyperdrive/", "/secrets_store/"].iter().any(|area| operation.path.contains(area));
        let changing = match changes && seals {
            true => Some(self.changing.read().await),
            false => None,
        };
        let answer = aside::of_account(&account, (operation.handler)(call)).await;
        drop(changing);
        // Who has no API token writes nothing into an account's log, unless it was let in.
        if changes && (!operation.open || of_account && answer.is_ok()) {
            let outcome = match &answer {
                Ok(response) => response.status(),
                Err(error) => error.status,
            };
            let entry =
                AuditEntry { at_ms: self.now_ms(), account, token: id, action, outcome: outcome.as_u16() };
            self.registry.audit(entry).await?;
        }
        answer
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        i64::try_from(self.clock.now_ms()).unwrap_or(i64::MAX)
    }

    fn authenticate(&self, head: &http::request::Parts) -> Result<Token, ApiError> {
        let refused = || ApiError::new(StatusCode::UNAUTHORIZED, 10000, "Authentication error");
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let Some(secret) = bearer.or_else(|| text("x-auth-key")) else {
            return Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                9106,
                "Missing X-Auth-Key, X-Auth-Email or Authorization headers",
            ));
        };
        let (secret, now) = (secret.trim(), self.now_ms());
        let from = head.extensions.get::<SocketAddr>().map(SocketAddr::ip);
        if let Err(seconds) = self.guard.admit(from, secret, now) {
            let text = format!("Too many wrong tokens. Please try again in {seconds} seconds");
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, 10429, text).retry_after(seconds));
        }
        let token = self.registry.token(secret, now)?;
        self.guard.tried(from, secret, token.is_some(), now);
        token.ok_or_else(refused)
    }
}

/// [`Api`] as a server.
pub struct ApiService(pub Arc<Api>);

impl Service for ApiService {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        let api = self.0.clone();
        Box::pin(async move { api.answer(request).await.unwrap_or_else(ApiError::into_response) })
    }
}
