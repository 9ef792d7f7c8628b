//! The typed configuration of one worker. Paths are absolute; names and limits are wrangler's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value as Json;

use crate::size::Size;
use crate::storage::{D1Database, KvNamespace, R2Bucket};

/// One worker, as its configuration and the chosen environment describe it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerConfig {
    /// The file.
    pub path: PathBuf,
    /// Its folder: what relative paths start from.
    pub dir: PathBuf,
    /// The folder of the file that a person wrote: another one where a build tool generated this. State is kept there, as builds empty their own folder.
    pub project_dir: PathBuf,
    /// The chosen environment.
    pub environment: Option<String>,
    /// The script's name.
    pub name: String,
    /// The entry file; `None` for a project of assets alone.
    pub main: Option<PathBuf>,
    /// `YYYY-MM-DD`; `None` means the engine's own date.
    pub compatibility_date: Option<String>,
    /// Compatibility flags.
    pub compatibility_flags: Vec<String>,
    /// Plain variables; a string is text, anything else JSON.
    pub vars: BTreeMap<String, Json>,
    /// Variables from `.dev.vars` or `.env`: they hide those of the same name in `vars`.
    pub secrets: BTreeMap<String, String>,
    /// KV namespaces.
    pub kv_namespaces: Vec<KvNamespace>,
    /// R2 buckets.
    pub r2_buckets: Vec<R2Bucket>,
    /// D1 databases.
    pub d1_databases: Vec<D1Database>,
    /// Durable Object bindings.
    pub durable_objects: Vec<DurableObject>,
    /// Durable Object migrations, in order.
    pub migrations: Vec<Migration>,
    /// Durable Object classes as `exports` declares them, in place of migrations.
    pub exports: BTreeMap<String, ObjectExport>,
    /// Containers of Durable Objects.
    pub containers: Vec<Container>,
    /// Queue bindings.
    pub queue_producers: Vec<QueueProducer>,
    /// Queues whose messages come to this worker.
    pub queue_consumers: Vec<QueueConsumer>,
    /// Cron expressions.
    pub crons: Vec<String>,
    /// Service bindings.
    pub services: Vec<ServiceBinding>,
    /// Dispatch namespaces that this worker calls scripts of.
    pub dispatch_namespaces: Vec<DispatchNamespace>,
    /// Workers that hear of this one's events.
    pub tail_consumers: Vec<String>,
    /// Workflows.
    pub workflows: Vec<WorkflowBinding>,
    /// Workflows as `exports` declares them, bound or not.
    pub exported_workflows: Vec<WorkflowExport>,
    /// Analytics Engine datasets.
    pub analytics_engine_datasets: Vec<AnalyticsDataset>,
    /// Vectorize indexes.
    pub vectorize: Vec<VectorizeIndex>,
    /// Databases of one's own, over TCP.
    pub hyperdrive: Vec<Hyperdrive>,
    /// Rate limiters.
    pub ratelimits: Vec<RateLimit>,
    /// What sends mail.
    pub send_email: Vec<SendEmail>,
    /// Bindings to models, by their names on `env`.
    pub ai: Vec<String>,
    /// Bindings to browsers, by their names on `env`.
    pub browsers: Vec<String>,
    /// Secrets of the Secrets Store.
    pub stored_secrets: Vec<StoredSecret>,
    /// Bindings that load code while the worker runs, by their names on `env`.
    pub worker_loaders: Vec<String>,
    /// The binding that changes images, by its name on `env`.
    pub images: Option<String>,
    /// The binding that holds the version's id, tag and time.
    pub version_metadata: Option<String>,
    /// Static assets.
    pub assets: Option<Assets>,
    /// Workers Sites: static files as they were served before there were assets.
    pub site: Option<Site>,
    /// Files on `env`, by binding.
    pub wasm_modules: BTreeMap<String, PathBuf>,
    /// Files on `env` as strings.
    pub text_blobs: BTreeMap<String, PathBuf>,
    /// Files on `env` as `ArrayBuffer`s.
    pub data_blobs: BTreeMap<String, PathBuf>,
    /// How the code is put together.
    pub bundle: Bundle,
    /// Settings for `dev`.
    pub dev: Dev,
}

/// `durable_objects.bindings[]`
#[derive(Clone, Debug, PartialEq)]
pub struct DurableObject {
    /// The name on `env`.
    pub name: String,
    /// The exported class.
    pub class_name: String,
    /// The script that exports it, if another.
    pub script_name: Option<String>,
}

/// `containers[]`
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// The name for people.
    pub name: String,
    /// The Durable Object class whose objects have one each.
    pub class_name: String,
    /// What it runs.
    pub image: ContainerImage,
    /// What one may use.
    pub size: Size,
    /// How many may run at once.
    pub max_instances: u32,
}

/// Where an image is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerImage {
    /// It is built.
    Dockerfile {
        /// The Dockerfile.
        file: PathBuf,
        /// The folder that it may copy from.
        context: PathBuf,
        /// Arguments of the build.
        arguments: Vec<(String, String)>,
    },
    /// It is in a registry, or was made on this machine.
    Reference(String),
}

/// `migrations[]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migration {
    /// Unique and in order.
    pub tag: String,
    /// Classes with key-value storage.
    pub new_classes: Vec<String>,
    /// Classes with SQLite storage.
    pub new_sqlite_classes: Vec<String>,
    /// From and to.
    pub renamed_classes: Vec<(String, String)>,
    /// Classes whose objects are deleted.
    pub deleted_classes: Vec<String>,
    /// From, from which script, to.
    pub transferred_classes: Vec<(String, String, String)>,
}

/// A Durable Object class in `exports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectExport {
    /// It is there; its objects have the SQL API or not.
    Live {
        /// `sqlite`, and not `legacy-kv`.
        sqlite: bool,
    },
    /// Its objects are deleted.
    Deleted,
    /// Its objects belong to another class.
    Renamed {
        /// That class.
        to: String,
    },
    /// It is there; its objects come from another script.
    Expecting {
        /// `sqlite`, and not `legacy-kv`.
        sqlite: bool,
        /// That script.
        from: String,
    },
    /// Its objects belong to another script.
    Transferred {
        /// That script.
        to: String,
    },
}

/// `queues.producers[]`
#[derive(Clone, Debug, PartialEq)]
pub struct QueueProducer {
    /// The name on `env`.
    pub binding: String,
    /// The queue.
    pub queue: String,
    /// Seconds before messages are delivered.
    pub delivery_delay: Option<u32>,
}

/// `queues.consumers[]`
#[derive(Clone, Debug, PartialEq)]
pub struct QueueConsumer {
    /// The queue.
    pub queue: String,
    /// Messages per batch at most.
    pub max_batch_size: Option<u32>,
    /// Seconds to wait for a full batch.
    pub max_batch_timeout: Option<u32>,
    /// Deliveries after the first one.
    pub max_retries: Option<u32>,
    /// Where messages go that failed too often.
    pub dead_letter_queue: Option<String>,
    /// Batches at once.
    pub max_concurrency: Option<u32>,
    /// Seconds before a failed message is delivered again.
    pub retry_delay: Option<u32>,
}

/// `services[]`
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceBinding {
    /// The name on `env`.
    pub binding: String,
    /// The script.
    pub service: String,
    /// The exported class; the default export where none is given.
    pub entrypoint: Option<String>,
    /// `ctx.props` of the callee.
    pub props: Option<Json>,
}

/// `dispatch_namespaces[]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DispatchNamespace {
    /// The name on `env`.
    pub binding: String,
    /// The namespace; the binding's name where none is given.
    pub namespace: String,
    /// Who gets what the namespace's scripts ask of the outside.
    pub outbound: Option<Outbound>,
}

/// `dispatch_namespaces[].outbound`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// The worker.
    pub service: String,
    /// What a dispatcher may tell it.
    pub parameters: Vec<String>,
}

/// `workflows[]`
#[derive(Clone, Debug, PartialEq)]
pub struct WorkflowBinding {
    /// The name on `env`.
    pub binding: String,
    /// The Workflow.
    pub name: String,
    /// The exported class.
    pub class_name: String,
    /// The script that exports it, if another.
    pub script_name: Option<String>,
    /// What holds for its instances.
    pub settings: WorkflowSettings,
}

/// A Workflow in `exports`.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkflowExport {
    /// The exported class.
    pub class_name: String,
    /// The Workflow.
    pub name: String,
    /// What holds for its instances.
    pub settings: WorkflowSettings,
}

/// What holds for all instances of a Workflow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkflowSettings {
    /// Cron expressions: each makes an instance.
    pub schedules: Vec<String>,
    /// Steps that an instance may take.
    pub steps: Option<u32>,
    /// Instances that may run at once.
    pub concurrency: Option<u32>,
    /// How long one that completed or was terminated is kept: milliseconds, or a text like `3 days`.
    pub success_retention: Option<Json>,
    /// How long one that failed is kept.
    pub error_retention: Option<Json>,
}

/// `analytics_engine_datasets[]`
#[derive(Clone, Debug, PartialEq)]
pub struct AnalyticsDataset {
    /// The name on `env`.
    pub binding: String,
    /// The dataset; the binding's name where none is given.
    pub dataset: String,
}

/// `vectorize[]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorizeIndex {
    /// The name on `env`.
    pub binding: String,
    /// The index.
    pub index_name: String,
    /// Numbers of each vector of an index that is not there yet: Skep's own.
    pub dimensions: Option<u32>,
    /// `cosine`, `euclidean` or `dot-product`, of an index that is not there yet: Skep's own.
    pub metric: Option<String>,
    /// Whether somebody makes the index; else it comes with its first vectors.
    pub is_made: bool,
}

/// `hyperdrive[]`, as it is while one develops.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hyperdrive {
    /// The name on `env`.
    pub binding: String,
    /// `postgres`, `postgresql` or `mysql`.
    pub scheme: String,
    /// Host and port.
    pub address: String,
    /// Who asks.
    pub user: String,
    /// What proves it.
    pub password: String,
    /// Which database.
    pub database: String,
}

/// `send_email[]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SendEmail {
    /// The name on `env`.
    pub name: String,
    /// The only address that mail goes to.
    pub destination_address: Option<String>,
    /// The addresses that mail goes to.
    pub allowed_destination_addresses: Option<Vec<String>>,
    /// The addresses that mail comes from.
    pub allowed_sender_addresses: Option<Vec<String>>,
}

/// `secrets_store_secrets[]`
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSecret {
    /// The name on `env`.
    pub binding: String,
    /// The store; its secrets are told apart by their names alone.
    pub store_id: String,
    /// The secret's name.
    pub secret_name: String,
    /// What it is; `None` where there is none.
    pub value: Option<String>,
}

/// `ratelimits[]`, or `unsafe.bindings[]` of type `ratelimit`.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimit {
    /// The name on `env`.
    pub name: String,
    /// Limiters with the same id share their counters.
    pub namespace_id: String,
    /// Requests per period.
    pub limit: u32,
    /// Seconds.
    pub period: f64,
    /// Requests per burst window.
    pub burst: Option<u32>,
    /// Seconds.
    pub burst_window: Option<f64>,
    /// Seconds.
    pub bucket_size: Option<f64>,
}

/// `assets`
#[derive(Clone, Debug, PartialEq)]
pub struct Assets {
    /// The folder.
    pub directory: PathBuf,
    /// The name on `env`.
    pub binding: Option<String>,
    /// `auto-trailing-slash`, `force-trailing-slash`, `drop-trailing-slash` or `none`.
    pub html_handling: Option<String>,
    /// `single-page-application`, `404-page` or `none`.
    pub not_found_handling: Option<String>,
    /// Which requests go to the worker first.
    pub run_worker_first: RunWorkerFirst,
}

/// `site`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The folder.
    pub bucket: PathBuf,
    /// Patterns, as `.gitignore` has them, of the files that are taken; all where there are none.
    pub include: Vec<String>,
    /// Patterns of those that are left out.
    pub exclude: Vec<String>,
}

/// `assets.run_worker_first`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunWorkerFirst {
    /// All or none.
    Always(bool),
    /// Those whose path matches.
    Paths(Vec<String>),
}

/// How the code is put together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bundle {
    /// Leave the files as they are.
    pub no_bundle: bool,
    /// Also upload files that no import names; default: `no_bundle`.
    pub find_additional_modules: Option<bool>,
    /// Module names without a hash.
    pub preserve_file_names: bool,
    /// The folder that module names start from.
    pub base_dir: Option<PathBuf>,
    /// Shorter code.
    pub minify: bool,
    /// Keep `fn.name`; default: yes.
    pub keep_names: Option<bool>,
    /// Which files are modules of which kind.
    pub rules: Vec<Rule>,
    /// Module names to others.
    pub alias: BTreeMap<String, String>,
    /// Identifiers to expressions.
    pub define: BTreeMap<String, String>,
    /// `tsconfig.json`
    pub tsconfig: Option<PathBuf>,
    /// For JSX.
    pub jsx_factory: Option<String>,
    /// For JSX.
    pub jsx_fragment: Option<String>,
    /// A command to run first.
    pub command: Option<String>,
    /// Where to run it.
    pub command_dir: Option<PathBuf>,
    /// Changes in these folders run it again.
    pub watch_dirs: Vec<PathBuf>,
}

/// `rules[]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `ESModule`, `CommonJS`, `CompiledWasm`, `Text` or `Data`.
    pub kind: String,
    /// Which files.
    pub globs: Vec<String>,
    /// Whether later rules of the same kind count too; default: no, with a warning.
    pub fallthrough: Option<bool>,
}

/// `dev`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dev {
    /// The address to listen on.
    pub ip: Option<String>,
    /// The port to listen on.
    pub port: Option<u16>,
    /// The port for DevTools.
    pub inspector_port: Option<u16>,
    /// Whether containers are made; if nothing is said, they are.
    pub enable_containers: Option<bool>,
    /// Where Docker listens.
    pub container_engine: Option<String>,
}
