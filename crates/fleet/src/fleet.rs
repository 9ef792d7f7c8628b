//! All cells of this process.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use skep_runtime::{Shutdown, ShutdownTrigger};
use skep_sandbox::Sandbox;
use tokio::sync::Semaphore;

use crate::capnp::document;
use crate::certificates::Certificates;
use crate::generation::StartError;
use crate::log::LogSink;
use crate::process::{Launch, Spawner};
use crate::render::{Storage, render};
use crate::rundir::RunDir;
use crate::spec::{CellSpec, Exposed};
use crate::still::Still;
use crate::tried::{self, Tried};
use crate::worker::Worker;

/// What a fleet needs of its surroundings.
pub struct FleetOptions {
    /// The binary that handles [`LAUNCHER_COMMAND`](crate::LAUNCHER_COMMAND): our own.
    pub launcher: PathBuf,
    /// The engine's binary.
    pub engine: PathBuf,
    /// What holds cells.
    pub sandbox: Sandbox,
    /// Where cells' output goes.
    pub log: LogSink,
    /// Called with the name of a script that is wanted but was never deployed here; it is expected to lead
    /// to a deploy, for which the request waits.
    pub wanted: Option<Wanted>,
    /// When cells are stopped that nobody uses; needs `wanted`. `None`: never.
    pub rest: Option<Rest>,
    /// Requests that may be in a process at once; as many may wait for one.
    pub requests: usize,
}

/// When cells are stopped that nobody uses.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    /// After so long without work.
    pub after: Duration,
    /// While there are more than this, the one that was used longest ago goes as soon as it has no work.
    pub max_cells: usize,
    /// So many processes a script without Durable Objects may have, while requests wait for its code.
    pub per_script: usize,
}

/// Hears of scripts that are wanted.
pub type Wanted = Arc<dyn Fn(&str) + Send + Sync>;

/// What all parts of a fleet share.
pub(crate) struct Shared {
    pub launch: Launch,
    pub sandbox: Sandbox,
    pub spawner: Spawner,
    pub log: LogSink,
    pub stop: Shutdown,
    pub wanted: Option<Wanted>,
    pub rest: Option<Rest>,
    pub requests: usize,
    /// Processes that start now wait for one of these.
    pub starts: Semaphore,
    /// Processes that serve.
    pub running: Arc<AtomicUsize>,
    run_dir: RunDir,
    next_folder: AtomicU64,
    certificates: OnceLock<Certificates>,
    workers: RwLock<BTreeMap<String, Arc<Worker>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("launch", &self.launch).finish_non_exhaustive()
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

    /// How many processes a script may have that has `cells` now.
    pub(crate) fn most_cells(&self, cells: usize) -> usize {
        match self.rest {
            None => 1,
            Some(rest) if self.running.load(Ordering::Relaxed) >= rest.max_cells => {
                rest.per_script.min(cells)
            }
            Some(rest) => rest.per_script,
        }
    }

    /// Before another process is started: asks the one that was used longest ago to rest, if there are too many.
    pub(crate) fn make_room(&self) {
        let Some(rest) = self.rest else { return };
        if self.running.load(Ordering::Relaxed) < rest.max_cells {
            return;
        }
        let workers = self.workers.read().unwrap_or_else(PoisonError::into_inner);
        let resting = |worker: &&Arc<Worker>| worker.last_used();
        let candidates = workers.values().filter(|worker| worker.last_used().is_some());
        if let Some(worker) = candidates.min_by_key(resting) {
            worker.ask_to_rest();
        }
    }

    /// Where cells find certificates; written when it is first asked for.
    pub(crate) fn certificates(&self) -> io::Result<&Certificates> {
        if let Some(known) = self.certificates.get() {
            return Ok(known);
        }
        let gathered = Certificates::gather(self.run_dir.path())?;
        Ok(self.certificates.get_or_init(|| gathered))
    }

    pub(crate) fn new_folder(&self) -> io::Result<PathBuf> {
        let number = self.next_folder.fetch_add(1, Ordering::Relaxed);
        let folder = self.run_dir.path().join(number.to_string());
        std::fs::create_dir(&folder)?;
        Ok(folder)
    }
}

/// All cells of this process. Dropping it ends them.
#[derive(Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
    stop: ShutdownTrigger,
}

impl Fleet {
    /// An empty fleet.
    pub fn new(options: FleetOptions) -> io::Result<Self> {
        let (stop, stopping) = Shutdown::new();
        let shared = Shared {
            launch: Launch { launcher: options.launcher, engine: options.engine },
            sandbox: options.sandbox,
            spawner: Spawner::start()?,
            log: options.log,
            stop: stopping,
            rest: options.rest.filter(|_| options.wanted.is_some()),
            requests: options.requests,
            wanted: options.wanted,
            starts: Semaphore::new(std::thread::available_parallelism().map_or(2, |n| n.get() * 2)),
            running: Arc::default(),
            run_dir: RunDir::create()?,
            next_folder: AtomicU64::new(0),
            certificates: OnceLock::new(),
            workers: RwLock::default(),
        };
        Ok(Self { shared: Arc::new(shared), stop })
    }

    /// The script of that name; made if there is none, so that requests can wait for its first deploy.
    pub fn worker(&self, script: &str) -> Arc<Worker> {
        self.shared.worker(script)
    }

    /// Puts `spec` in the place of what runs under its name, without dropping a request. On an error, what
    /// ran runs on.
    pub async fn deploy(&self, spec: CellSpec) -> Result<(), StartError> {
        self.worker(&spec.name).deploy(spec).await
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
    document(&render(spec, std::path::Path::new("/run/skep/cell"), Storage::Real).config)
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
