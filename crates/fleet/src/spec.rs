//! What a cell runs, in full. Made by the composition root; nothing is looked up later.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use skep_wire::{Connections, Service};

use crate::limits::Limits;
use crate::usage::Usage;

/// One version of one script with everything that it is bound to.
#[derive(Clone)]
pub struct CellSpec {
    /// The script's name; unique in a fleet.
    pub name: String,
    /// The code.
    pub code: Code,
    /// `YYYY-MM-DD`
    pub compatibility_date: String,
    /// Compatibility flags, as the engine names them.
    pub compatibility_flags: Vec<String>,
    /// What appears on `env`, by name.
    pub bindings: BTreeMap<String, Binding>,
    /// The script's own Durable Object classes that are alive.
    pub classes: Vec<DurableClass>,
    /// The script's own Workflows.
    pub workflows: Vec<Workflow>,
    /// The folder that holds the objects' files, one subfolder per unique key. Only one running cell may use
    /// a key at a time.
    pub object_storage: PathBuf,
    /// The servers behind the bindings, by the id that [`Binding`]s use.
    pub services: BTreeMap<String, Arc<dyn Service>>,
    /// The servers behind bindings that speak protocols of their own, by the id that [`Origin::Here`] uses. An id is part of a
    /// file's name.
    pub connections: BTreeMap<String, Arc<dyn Connections>>,
    /// What its objects' containers are asked for at.
    pub containers: Option<Containers>,
    /// The service behind the Cache API, an id in `services`.
    pub cache: Option<String>,
    /// The service that decides between assets and code when another cell calls the default entrypoint, an id
    /// in `services`; `None` where there are no assets. It answers with the asset, or with any response that
    /// has the header [`RUN_WORKER_HEADER`](crate::RUN_WORKER_HEADER).
    pub front: Option<String>,
    /// Whether to start with what delivers events, such as a cron trigger's or a queue's; else that is there from the
    /// first event on.
    pub events: bool,
    /// Who hears what an `email()` handler does with the mail that it gets, an id in `services`; `None` gives it none.
    pub mail: Option<String>,
    /// The code is called by a dispatcher, who gets to see its exceptions; not by visitors.
    pub dispatched: bool,
    /// The server that takes all requests to the outside, an id in `services`; `None` lets them out.
    pub outbound: Option<String>,
    /// Whom requests to the outside may reach, as the engine names networks: `public`, `private`, `10.1.0.0/16`.
    pub egress: Vec<String>,
    /// When the script has to run next by itself, asked while it has nothing to do: the next alarm of its objects.
    pub next_alarm: Option<NextAlarm>,
    /// How large a file of its objects may be just now; `None`: as large as the jail lets it be.
    pub file_limit: Option<FileLimit>,
    /// Scripts that bindings name and that do not run: who calls them is told so.
    pub absent: BTreeSet<String>,
    /// What other cells may call here.
    pub exposed: BTreeSet<Exposed>,
    /// Who hears of events: what came of them, what was logged. It costs about half of the requests per second of a
    /// worker that does nothing else.
    pub tail: Option<Tail>,
    /// Who hears of the spans of traced invocations: what they called, and how long it took. `rate` is the share of those that
    /// nobody else decides on. It costs more than `tail`.
    pub trace: Option<Tail>,
    /// What the cell may use; `None` sets no limits.
    pub limits: Option<Limits>,
    /// Where to count what its processes use.
    pub usage: Arc<Usage>,
    /// Whether to open the engine's inspector.
    pub inspector: bool,
}

/// Where the engine asks for containers.
#[derive(Clone)]
pub struct Containers {
    /// What speaks Docker's API, an id in [`CellSpec::connections`].
    pub connections: String,
    /// The image of each class that has containers, as it is asked for.
    pub images: BTreeMap<String, String>,
    /// Whether the engine has to reach this port of the loopback address: that is how it talks with containers.
    pub reaches: Reaches,
    /// Is told which process has the objects now, by its id and a handle.
    pub runs: Runs,
    /// Says what the engine gets of what its containers send out; `None` while it gets nothing.
    pub led: Leads,
}

/// Connections of containers that a process gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Led {
    /// How many have begun: another number when there was one more.
    pub begun: u64,
    /// How many are there.
    pub open: usize,
}

/// Takes note of a process.
pub type Runs = Arc<dyn Fn(u32, OwnedFd) + Send + Sync>;

/// Counts connections of containers.
#[derive(Clone)]
pub struct Leads(Arc<dyn Fn() -> Option<Led> + Send + Sync>);

impl Leads {
    /// What `count` counts.
    pub fn new(count: impl Fn() -> Option<Led> + Send + Sync + 'static) -> Self {
        Self(Arc::new(count))
    }

    /// The connections; `None` while there can be none.
    pub fn now(&self) -> Option<Led> {
        (self.0)()
    }
}

impl std::fmt::Debug for Leads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Leads").field(&self.now()).finish()
    }
}

/// Says whether a cell has to reach a port of the loopback address.
pub type Reaches = Arc<dyn Fn(u16) -> bool + Send + Sync>;

/// Who hears of a cell's events.
#[derive(Clone, Debug, PartialEq)]
pub struct Tail {
    /// The server, an id in [`CellSpec::services`].
    pub service: String,
    /// The share of events that it hears of, from 0 to 1.
    pub rate: f64,
}

/// Says when a script has to run next by itself.
pub type NextAlarm = Arc<dyn Fn() -> Option<SystemTime> + Send + Sync>;

/// Says how many bytes a file may have that a process writes; `None`: as many as ever.
pub type FileLimit = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// A script's code.
#[derive(Clone, Debug)]
pub enum Code {
    /// Modules; the first one is the main module.
    Modules(Vec<Module>),
    /// One script in service worker syntax.
    ServiceWorker(Bytes),
}

/// One module.
#[derive(Clone, Debug)]
pub struct Module {
    /// The name that others import it by, relative to the main module's folder.
    pub name: String,
    /// How the content is read.
    pub kind: ModuleKind,
    /// The content.
    pub content: Bytes,
}

/// How a module's content is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleKind {
    /// ES module.
    EsModule,
    /// CommonJS.
    CommonJs,
    /// A string.
    Text,
    /// An `ArrayBuffer`.
    Data,
    /// A `WebAssembly.Module`.
    Wasm,
    /// Parsed JSON.
    Json,
}

/// What a name on `env` stands for. `service` is an id in [`CellSpec::services`].
#[allow(missing_docs, reason = "fields repeat what the variant says")]
#[derive(Clone, Debug)]
pub enum Binding {
    /// A string: a variable or a secret.
    Text(String),
    /// A JSON value, as text.
    Json(String),
    /// An `ArrayBuffer`.
    Data(Bytes),
    /// A `WebAssembly.Module`.
    Wasm(Bytes),
    /// A KV namespace.
    Kv { service: String },
    /// An R2 bucket.
    R2 { service: String },
    /// A D1 database.
    D1 { service: String },
    /// A queue to send to.
    Queue { service: String },
    /// An Analytics Engine dataset.
    Analytics { service: String },
    /// A rate limiter; `defaults` is the JSON that the shim takes.
    RateLimit { service: String, defaults: String },
    /// A dispatch namespace.
    Dispatch { service: String },
    /// An HTTP server of ours: static assets.
    Fetcher { service: String },
    /// A Vectorize index.
    Vectorize { service: String, index: String },
    /// A database, as Hyperdrive gives it.
    Hyperdrive { origin: Origin, scheme: String, user: String, password: String, database: String },
    /// What changes images: the id of a server.
    Images { service: String },
    /// A Durable Object class of this script.
    DurableObject { class: String },
    /// A Durable Object class of another script.
    RemoteDurableObject { script: String, class: DurableClass },
    /// An entrypoint of this script.
    OwnEntrypoint { entrypoint: Option<String>, props: Option<String> },
    /// An entrypoint of another script.
    RemoteEntrypoint { script: String, entrypoint: Option<String>, props: Option<String> },
    /// What sends mail: the id of a server.
    SendEmail { service: String },
    /// Models that run elsewhere.
    Ai { service: String },
    /// A secret that is got by its binding; without a value, getting it throws.
    StoredSecret { name: String, value: Option<String> },
    /// What loads code while the script runs, into the same process.
    WorkerLoader,
    /// A Workflow of this script, by its name.
    Workflow { name: String },
    /// A Workflow of another script.
    RemoteWorkflow { script: String, name: String },
}

/// Where a connection of a cell ends that speaks a protocol of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// At an address: `host:port`.
    Address(String),
    /// At a server of ours, an id in [`CellSpec::connections`].
    Here(String),
}

/// A Durable Object class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurableClass {
    /// The exported class.
    pub name: String,
    /// The namespace's identity: object ids and files hang on it. It never changes, also when the class is renamed.
    pub unique_key: String,
    /// Whether objects have the SQL API.
    pub sqlite: bool,
}

/// A Workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workflow {
    /// The Workflow's name; unique in an account.
    pub name: String,
    /// The exported class.
    pub class: String,
    /// What holds for its instances, as JSON: what the engine's implementation reads (`steps`, `retention`), and what
    /// `shims/workflows.js` does (`concurrency`).
    pub settings: String,
}

/// Something of a cell that another cell may call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exposed {
    /// An entrypoint with fixed props (JSON).
    Entrypoint {
        /// The exported name; `None` is the default export.
        entrypoint: Option<String>,
        /// `ctx.props`, as JSON.
        props: Option<String>,
    },
    /// All objects of a class.
    Objects {
        /// The exported class.
        class: String,
    },
    /// The code as an outbound worker.
    Outbound,
    /// The API of a Workflow.
    Workflow {
        /// The Workflow's name.
        name: String,
    },
}

impl Exposed {
    /// The socket's file name, the same in caller and callee.
    pub(crate) fn socket(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        format!("x{:016x}", hasher.finish())
    }
}

impl Binding {
    /// What the binding needs of which other script.
    pub fn remote(&self) -> Option<(&str, Exposed)> {
        match self {
            Self::RemoteDurableObject { script, class } => {
                Some((script, Exposed::Objects { class: class.name.clone() }))
            }
            Self::RemoteEntrypoint { script, entrypoint, props } => {
                Some((script, Exposed::Entrypoint { entrypoint: entrypoint.clone(), props: props.clone() }))
            }
            Self::RemoteWorkflow { script, name } => Some((script, Exposed::Workflow { name: name.clone() })),
            _ => None,
        }
    }
}

impl CellSpec {
    /// Others may call a class still that has gone or been moved since, or that is to come: until they are led to where
    /// it is.
    pub fn hide_gone(&mut self) {
        let classes = &self.classes;
        self.exposed.retain(|exposed| match exposed {
            Exposed::Objects { class } => classes.iter().any(|own| own.name == *class),
            _ => true,
        });
    }

    /// Whether two processes of this script must never run at once: its objects' files have no lock.
    pub fn is_exclusive(&self) -> bool {
        !self.classes.is_empty() || !self.workflows.is_empty()
    }

    /// Whether its processes take events: a worker of its own does that, which costs as much time to start as the
    /// script's own. One with objects cannot be replaced in passing and always has it.
    pub fn takes_events(&self) -> bool {
        self.events || self.is_exclusive()
    }

    /// Whether it passes requests on to scripts of dispatch namespaces.
    pub fn dispatches(&self) -> bool {
        self.bindings.values().any(|binding| matches!(binding, Binding::Dispatch { .. }))
    }

    /// The service ids and names of other scripts that bindings need and nobody provides.
    pub fn missing_services(&self) -> Vec<String> {
        let used = self.bindings.values().filter_map(|binding| match binding {
            Binding::Kv { service }
            | Binding::R2 { service }
            | Binding::D1 { service }
            | Binding::Queue { service }
            | Binding::Analytics { service }
            | Binding::Vectorize { service, .. }
            | Binding::RateLimit { service, .. }
            | Binding::Dispatch { service }
            | Binding::SendEmail { service }
            | Binding::Ai { service }
            | Binding::Fetcher { service } => Some(service),
            _ => None,
        });
        used.chain(&self.cache)
            .chain(&self.front)
            .chain(self.tail.iter().chain(&self.trace).map(|tail| &tail.service))
            .chain(&self.outbound)
            .chain(&self.mail)
            .filter(|id| !self.services.contains_key(*id))
            .cloned()
            .chain(self.bindings.values().filter_map(|binding| match binding {
                Binding::Hyperdrive { origin: Origin::Here(id), .. }
                    if !self.connections.contains_key(id) =>
                {
                    Some(id.clone())
                }
                _ => None,
            }))
            .chain(
                self.containers
                    .iter()
                    .map(|containers| containers.connections.clone())
                    .filter(|id| !self.connections.contains_key(id)),
            )
            .collect()
    }
}
