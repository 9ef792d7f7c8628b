//! All cells of an account.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use skep_runtime::{Shutdown, ShutdownTrigger};

use crate::capnp::document;
use crate::generation::StartError;
use crate::log::LogSink;
use crate::machine::Machine;
use crate::render::{Rendered, Storage, object_keys, render};
use crate::spec::{CellSpec, Exposed};
use crate::still::Still;
use crate::tried::{self, Tried};
use crate::worker::Worker;

/// What a fleet needs of its surroundings.
pub struct FleetOptions {
    /// What runs the cells.
    pub machine: Arc<Machine>,
    /// Where cells' output goes.
    pub log: LogSink,
    /// Called with the name of a script that is wanted but was never deployed here; it is expected to lead
    /// to a deploy, for which the request waits.
    pub wanted: Option<Wanted>,
    /// Cells that nobody uses are stopped after so long without work; needs `wanted`. `None`: never.
    pub rest: Option<Duration>,
    /// So many processes a script without Durable Objects may have, while requests wait for its code.
    pub per_script: usize,
    /// Requests that may be in a process at once; as many may wait for one.
    pub requests: usize,
}

/// Hears of scripts that are wanted.
pub type Wanted = Arc<dyn Fn(&str) + Send + Sync>;

/// What all parts of a fleet share.
pub(crate) struct Shared {
    pub machine: Arc<Machine>,
    /// Whose fleet it is, as far as the machine knows.
    pub account: u64,
    pub log: LogSink,
    pub stop: Shutdown,
    pub wanted: Option<Wanted>,
    pub rest: Option<Duration>,
    pub per_script: usize,
    pub requests: usize,
    /// Processes that serve.
    pub cells: Arc<AtomicUsize>,
    workers: RwLock<BTreeMap<String, Arc<Worker>>>,
    /// By the key of a class's objects: the script that has had them last.
    holders: Mutex<HashMap<String, String>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("account", &self.account).finish_non_exhaustive()
    }
}

impl Shared {
    /// The script that a call is for; `None` where nothing by that name runs or could be woken.
    pub(crate) fn callee(self: &Arc<Self>, script: &str) -> Option<Arc<Worker>> {
        if self.wanted.is_some() {
            return Some(self.worker(script));
        }
        self.workers.read().unwrap_or_else(PoisonError::into_inner).get(script).cloned()
    }

    /// All scripts.
    fn all(&self) -> Vec<Arc<Worker>> {
        self.workers.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn worker(self: &Arc<Self>, script: &str) -> Arc<Worker> {
        if let Some(worker) = self.workers.read().unwrap_or_else(PoisonError::into_inner).get(script) {
            return worker.clone();
        }
        let mut workers = self.workers.write().unwrap_or_else(PoisonError::into_inner);
        workers.entry(script.to_owned()).or_insert_with(|| Worker::start(script, self.clone())).clone()
    }

    /// Notes that the objects of `spec` are its script's. Returns the scripts that had some of them before: their
    /// processes have to end first, as the files have no lock.
    fn take_keys(&self, spec: &CellSpec) -> BTreeSet<String> {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        let before = object_keys(spec).filter_map(|key| holders.insert(key, spec.name.clone()));
        before.filter(|holder| *holder != spec.name).collect()
    }

    /// Notes that `script` has no objects but these: what had others of it has ended.
    fn leave_keys(&self, script: &str, keys: &BTreeSet<String>) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.retain(|key, holder| holder != script || keys.contains(key));
    }

    /// How many processes a script may have that has `cells` now.
    pub(crate) fn most_cells(&self, cells: usize) -> usize {
        match self.machine.is_full() {
            true => self.per_script.min(cells),
            false => self.per_script,
        }
    }

    /// The script that was used longest ago, and when, of those that could rest now.
    pub(crate) fn oldest_resting(&self) -> Option<(u64, Arc<Worker>)> {
        self.rest?;
        let workers = self.workers.read().unwrap_or_else(PoisonError::into_inner);
        let resting = workers.values().filter_map(|worker| Some((worker.last_used()?, worker)));
        resting.min_by_key(|(used, _)| *used).map(|(used, worker)| (used, worker.clone()))
    }
}

/// All cells of an account. Dropping it ends them.
#[derive(Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
    stop: ShutdownTrigger,
}

impl Fleet {
    /// An empty fleet.
    pub fn new(options: FleetOptions) -> Self {
        let (stop, stopping) = Shutdown::new();
        let shared = Arc::new(Shared {
            account: options.machine.next_account(),
            machine: options.machine,
            log: options.log,
            stop: stopping,
            rest: options.rest.filter(|_| options.wanted.is_some()),
            per_script: options.per_script,
            requests: options.requests,
            wanted: options.wanted,
            cells: Arc::default(),
            workers: RwLock::default(),
            holders: Mutex::default(),
        });
        shared.machine.add(&shared);
        Self { shared, stop }
    }

    /// The script of that name; made if there is none, so that requests can wait for its first deploy.
    pub fn worker(&self, script: &str) -> Arc<Worker> {
        self.shared.worker(script)
    }

    /// Puts `spec` in the place of what runs under its name, without dropping a request. On an error, what
    /// ran runs on.
    pub async fn deploy(&self, spec: CellSpec) -> Result<(), StartError> {
        for before in self.shared.take_keys(&spec) {
            self.worker(&before).give_up().await;
        }
        let (name, keys) = (spec.name.clone(), object_keys(&spec).collect());
        self.worker(&name).deploy(spec).await?;
        self.shared.leave_keys(&name, &keys);
        Ok(())
    }

    /// Starts the code of `spec` once, without its objects, and says what it exports.
    pub async fn try_out(&self, spec: &CellSpec) -> Result<Tried, StartError> {
        tried::try_out(&self.shared, spec).await
    }

    /// Ends a script: it takes no more requests, its cells end when they have finished.
    pub async fn remove(&self, script: &str) {
        let worker = {
            let mut workers = self.shared.workers.write().unwrap_or_else(PoisonError::into_inner);
            workers.remove(script)
        };
        if let Some(worker) = worker {
            worker.stop().await;
        }
    }

    /// Tells requests that wait for a script that it cannot be started, and why.
    pub async fn set_broken(&self, script: &str, why: impl Into<String>) {
        self.worker(script).set_broken(why.into()).await;
    }

    /// Stops all processes that write files of Durable Objects in their tracks, until the result is dropped. Blocking.
    pub fn hold_still(&self) -> Still {
        let workers = self.shared.all();
        let running = workers.iter().filter_map(|worker| worker.current());
        Still::of(running.filter(|generation| generation.has_objects).collect())
    }

    /// Ends all cells: requests in flight have a moment to finish.
    pub async fn stop(&self) {
        self.stop.trigger();
        let workers = self.shared.all();
        let stops = workers.iter().map(|worker| worker.stop());
        futures_util::future::join_all(stops).await;
    }
}

/// The engine configuration that `spec` would run with; sockets are shown in `/run/skep/cell`.
pub fn print_config(spec: &CellSpec) -> String {
    document(&shown(spec).config)
}

/// A number that is the same for specs with the same [configuration](print_config), as long as this process lives. What is
/// in the files of the code does not count.
pub fn config_hash(spec: &CellSpec) -> u64 {
    let mut hasher = DefaultHasher::new();
    shown(spec).config.hash(&mut hasher);
    // The configuration names sockets of ours; whom these lead to is not in it.
    for (script, exposed) in spec.bindings.values().filter_map(|binding| binding.remote()) {
        (script, exposed).hash(&mut hasher);
    }
    hasher.finish()
}

fn shown(spec: &CellSpec) -> Rendered {
    render(spec, Path::new("/run/skep/cell"), Storage::Real)
}

/// Gives each spec what the bindings of the others need of it.
pub fn expose(specs: &mut [CellSpec]) {
    let mut needed: BTreeMap<String, BTreeSet<Exposed>> = BTreeMap::new();
    for spec in specs.iter() {
        for (script, exposed) in spec.bindings.values().filter_map(|b| b.remote()) {
            needed.entry(script.to_owned()).or_default().insert(exposed);
        }
    }
    for spec in specs {
        spec.exposed = needed.remove(&spec.name).unwrap_or_default();
    }
}
