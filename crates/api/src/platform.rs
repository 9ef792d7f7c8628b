//! What the API needs of the system around it.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_ai::Ai;
use skep_analytics::AnalyticsStore;
use skep_catalog::{Catalog, CatalogError, Content, NamedHandlers, Namespace};
use skep_d1::D1Store;
use skep_hyperdrive::Origin;
use skep_kv::KvStore;
use skep_logs::LogStore;
use skep_queues::Queues;
use skep_r2::R2Store;
use skep_registry::{Credentials, ImageStore};
use skep_runtime::Taken;
use skep_store::Blobs;
use skep_vectorize::VectorizeStore;
use skep_wire::BoxFuture;

/// What belongs to one account.
pub trait Tenant: Send + Sync {
    /// What is deployed.
    fn catalog(&self) -> &Catalog;
    /// Modules, assets and manifests.
    fn blobs(&self) -> &Blobs;
    /// KV.
    fn kv(&self) -> &KvStore;
    /// R2.
    fn r2(&self) -> &R2Store;
    /// D1.
    fn d1(&self) -> &D1Store;
    /// Analytics Engine.
    fn analytics(&self) -> &AnalyticsStore;
    /// Vectorize.
    fn vectorize(&self) -> &VectorizeStore;
    /// Images of containers.
    fn images(&self) -> &Arc<ImageStore>;
    /// Queues.
    fn queues(&self) -> &Queues;
    /// What scripts logged.
    fn logs(&self) -> &LogStore;
    /// Up to `limit` objects of a Durable Object namespace after the id `after`, by id, and whether there are more.
    /// Blocking.
    fn objects(
        &self,
        unique_key: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<StoredObject>, bool), String>;
}

/// A Durable Object that was called at least once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Whether it has kept anything.
    pub has_stored_data: bool,
}

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerInstance {
    /// The engine's id.
    pub id: String,
    /// The Durable Object that it belongs to, by its id.
    pub object: String,
    /// The image.
    pub image: String,
    /// When it was started, in milliseconds since 1970.
    pub started_ms: i64,
}

/// A version that is not there yet.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The script.
    pub script: String,
    /// What it is made of.
    pub content: Content,
    /// The Durable Object namespaces that it would have.
    pub namespaces: BTreeMap<String, Namespace>,
}

/// What was seen of code that started.
#[derive(Clone, Debug, Default)]
pub struct Examined {
    /// Handlers of the default export.
    pub handlers: Vec<String>,
    /// The other exports.
    pub named: Vec<NamedHandlers>,
    /// Milliseconds until it was ready.
    pub startup_time_ms: u64,
}

/// Where scripts answer.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// `<script>.<account>` is put before it: `localhost`.
    pub domain: String,
    /// `:8080`, or nothing for the scheme's own port.
    pub port: String,
    /// The API's own address, for links: `http://127.0.0.1:8788`.
    pub api: String,
}

/// The events of a script.
pub type TailEvents = tokio::sync::broadcast::Receiver<Arc<TailEvent>>;

/// An event on its way to those who listen.
#[derive(Debug)]
pub struct TailEvent {
    /// An object as `wrangler tail` takes it, as JSON: a value of JSON takes forty times as much memory as its text may.
    pub text: String,
    /// So many were left out before it, as nobody had read others.
    pub lost: u64,
    /// The room that it takes until everybody has read it.
    pub room: Vec<Taken>,
}

/// Why a question about a Workflow's instances has no answer.
#[derive(Clone, Debug)]
pub enum InstanceError {
    /// The Workflow says why.
    Refused(String),
    /// What is deployed of the script does not have the Workflow.
    NotDeployed,
    /// The script does not run.
    NotRunning(String),
}

/// The system around the API.
pub trait Platform: Send + Sync + 'static {
    /// What belongs to an account.
    fn tenant(&self, account: &str) -> Result<Arc<dyn Tenant>, String>;
    /// Starts a version once, in a cell that is thrown away. The error is for the developer.
    fn try_out<'a>(
        &'a self,
        account: &'a str,
        candidate: &'a Candidate,
    ) -> BoxFuture<'a, Result<Examined, String>>;
    /// Brings what runs in line with the catalog: resolves when requests get what is deployed now.
    fn apply<'a>(&'a self, account: &'a str, script: &'a str) -> BoxFuture<'a, Result<(), String>>;
    /// A script has other settings of those that are not of a version.
    fn settings_changed<'a>(&'a self, account: &'a str, script: &'a str)
    -> BoxFuture<'a, Result<(), String>>;
    /// A dispatch namespace has other settings, or is gone.
    fn namespace_changed(&self, account: &str, id: &str) -> Result<(), String>;
    /// The events of a script, as JSON, from now on. While somebody listens, its cells report them.
    fn tail<'a>(&'a self, account: &'a str, script: &'a str) -> BoxFuture<'a, Result<TailEvents, String>>;
    /// Asks `script` about instances of its Workflows; `call` is for `shims/workflows.js`. Starts it if need be.
    fn instances<'a>(
        &'a self,
        account: &'a str,
        script: &'a str,
        call: serde_json::Value,
    ) -> BoxFuture<'a, Result<serde_json::Value, InstanceError>>;
    /// Whether a database can be connected to and takes a query; the error is Cloudflare's code and why not.
    fn check_database<'a>(&'a self, origin: &'a Origin) -> BoxFuture<'a, Result<(), (u32, String)>>;
    /// A Hyperdrive configuration is gone.
    fn forget_database(&self, account: &str, id: &str);
    /// Who may push images to the node's registry.
    fn registry(&self) -> &Arc<Credentials>;
    /// Whether the node runs browsers.
    fn runs_browsers(&self) -> bool;
    /// Whether the node runs containers; the error says what it takes.
    fn runs_containers(&self) -> Result<(), String>;
    /// The containers that run for objects of a namespace, by the API's id of it.
    fn container_instances<'a>(
        &'a self,
        account: &'a str,
        namespace_id: &'a str,
    ) -> BoxFuture<'a, Vec<ContainerInstance>>;
    /// What runs models, or says that nothing does.
    fn ai(&self) -> &Arc<Ai>;
    /// Whether a cron expression can be followed; the error says why not.
    fn check_cron(&self, cron: &str) -> Result<(), String>;
    /// When a cron expression is due next after a moment, both in milliseconds since 1970; `None` if never.
    fn next_run(&self, cron: &str, after_ms: i64) -> Option<i64>;
    /// Buckets of an account are public elsewhere now.
    fn addresses_changed<'a>(&'a self, account: &'a str) -> BoxFuture<'a, Result<(), String>>;
    /// Makes host names, or those that a pattern of a route begins with (`*.example.com`), the account's own, and then
    /// changes its catalog. [`CatalogError::Taken`] says which name is another account's. The change runs to its end even
    /// if nobody waits for it any more.
    fn claim<'a>(
        &'a self,
        account: &'a str,
        names: Vec<String>,
        change: BoxFuture<'static, Result<(), CatalogError>>,
    ) -> BoxFuture<'a, Result<(), CatalogError>>;
    /// Where scripts answer.
    fn addresses(&self) -> &Addresses;
}
