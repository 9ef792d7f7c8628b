//! What runs of one account, kept in line with its catalog.

mod dispatching;
mod links;
mod listening;
mod live;
mod specs;
mod triggers;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use serde_json::Value as Json;
use skep_catalog::{CatalogError, Sealer, Version, split_name};
use skep_cron::CronHandle;
use skep_fleet::{CellLog, Exposed, Fleet, FleetOptions, LogEvent, Machine, Worker, config_hash};
use skep_hyperdrive::Hyperdrive;
use skep_images::Images;
use skep_otlp::Exporter;
use skep_queues::ConsumerHandle;
use skep_runtime::{Clock, Shutdown};
use skep_wire::BoxFuture;
use tokio::sync::mpsc;

use super::metrics::Meters;
use super::tails::Tails;
use super::tenant::{Keeps, Tenant};
use super::traces::Calls;
pub use live::{Live, Share};

/// Cells go on reporting for so long after nobody listens any more.
const UNTAIL_AFTER: std::time::Duration = std::time::Duration::from_secs(10);

/// What a runner needs of its surroundings.
#[derive(Clone)]
pub struct Surroundings {
    /// What runs the cells of all accounts.
    pub machine: Arc<Machine>,
    pub sealer: Arc<Sealer>,
    pub clock: Clock,
    pub shutdown: Shutdown,
    pub log: skep_fleet::LogSink,
    /// What is said to an OpenTelemetry collector.
    pub exporter: Option<Exporter>,
    /// What is counted of scripts.
    pub meters: Arc<Meters>,
    /// Scripts that nobody uses are stopped after so long.
    pub rest: std::time::Duration,
    /// So many processes a script without Durable Objects may have.
    pub per_script: usize,
    /// Requests that may be in a cell at once; as many may wait for one.
    pub cell_requests: usize,
    /// How long an invocation may go on after its response.
    pub wait_until: std::time::Duration,
    /// How long objects may go on without an event; `None`: as long as on Cloudflare.
    pub alone: Option<std::time::Duration>,
    /// Bytes of memory that a cell may use beside what the engine needs.
    pub cell_memory: u64,
    /// What objects may take beside that to be awake.
    pub object_room: skep_runtime::Bounds,
    /// What of the past is kept.
    pub keeps: Keeps,
    /// Whom requests to the outside may reach, as the engine names networks.
    pub egress: Vec<String>,
    /// What changes images.
    pub images: Images,
    /// Who may push images of containers.
    pub credentials: Arc<skep_registry::Credentials>,
    /// What runs containers, if anything does.
    pub boxes: Option<Arc<super::boxes::Boxes>>,
    /// What runs browsers, if anything does.
    pub browsers: Option<Arc<super::browsers::Browsers>>,
    /// What runs models.
    pub ai: Arc<skep_ai::Ai>,
    /// What takes the mail that workers send.
    pub relay: Option<Arc<crate::mail::Relay>>,
    /// What connects to databases.
    pub hyperdrive: Arc<Hyperdrive>,
    /// What drivers in cells say to it.
    pub hyperdrive_password: String,
}

/// What was deployed to the fleet under a name.
#[derive(Clone, Debug, PartialEq)]
struct Deployed {
    version: String,
    /// What others can call of it.
    exposed: BTreeSet<Exposed>,
    /// A hash of the engine's configuration, with what is not of the version: who calls it, what its namespace says.
    config: u64,
    /// The containers that its objects may have.
    containers: Vec<skep_containers::Class>,
}

/// When a script is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// If it does not run, or lets others not call what they call of it.
    Missing,
    /// Also if it would be another now.
    Changed,
    /// In any case.
    Always,
}

/// The running side of an account.
pub struct Runner {
    pub tenant: Arc<Tenant>,
    around: Surroundings,
    fleet: Fleet,
    live: RwLock<HashMap<String, Arc<Live>>>,
    /// Which script calls what of which other.
    links: Mutex<BTreeMap<String, Vec<(String, Exposed)>>>,
    /// What was deployed to the fleet.
    running: Arc<Mutex<HashMap<String, Deployed>>>,
    /// One deploy at a time of each script.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    crons: Mutex<HashMap<String, Vec<CronHandle>>>,
    tails: Arc<Tails>,
    /// Which traces calls between scripts are of.
    calls: Calls,
    /// By dispatcher: namespaces and the outbound workers that it names for them.
    outbounds: Mutex<BTreeMap<String, Vec<(String, String)>>>,
    /// By queue: what was asked for, and who does it.
    consumers: Mutex<BTreeMap<String, (Json, ConsumerHandle)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The fleet's name of a version that is not the main one.
fn variant(script: &str, version: &str) -> String {
    format!("{script}@{version}")
}

/// Whether the fleet's `name` is `script` or a version of it.
fn is_of(script: &str, name: &str) -> bool {
    name.strip_prefix(script).is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
}

impl Runner {
    /// What runs.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// An account's runner; nothing is started yet.
    pub fn new(tenant: Arc<Tenant>, around: Surroundings) -> Result<Arc<Self>, String> {
        let (wanted, mut wishes) = mpsc::unbounded_channel::<String>();
        let (unwanted, mut reported) = mpsc::unbounded_channel::<String>();
        let tails = Tails::new(&tenant.id, tenant.logs.clone(), around.exporter.clone(), unwanted);
        let running: Arc<Mutex<HashMap<String, Deployed>>> = Arc::default();
        let fleet = Fleet::new(FleetOptions {
            machine: around.machine.clone(),
            log: {
                let (log, tails, clock) = (around.log.clone(), tails.clone(), around.clock.clone());
                let running = running.clone();
                Arc::new(move |said: CellLog| {
                    if let LogEvent::Exceeded(exceeded) = said.event {
                        // A cell that is ended cannot say so itself.
                        let main = lock(&running).get(&said.script).map(|deployed| deployed.version.clone());
                        tails.exceeded(&said.script, &main.unwrap_or_default(), exceeded, clock.now_ms());
                    }
                    log(said);
                })
            },
            wanted: Some(Arc::new(move |name| {
                let _ = wanted.send(name.to_owned());
            })),
            rest: Some(around.rest),
            per_script: around.per_script,
            requests: around.cell_requests,
        });
        let this = Arc::new(Self {
            tenant,
            around,
            fleet,
            live: RwLock::default(),
            links: Mutex::default(),
            running,
            turns: Mutex::default(),
            crons: Mutex::default(),
            tails,
            calls: Calls::default(),
            outbounds: Mutex::default(),
            consumers: Mutex::default(),
        });
        let weak: Weak<Self> = Arc::downgrade(&this);
        tokio::spawn(async move {
            while let Some(name) = wishes.recv().await {
                let Some(runner) = weak.upgrade() else { return };
                tokio::spawn(async move {
                    if let Err(error) = runner.start(&name).await {
                        runner.fleet.set_broken(&name, error).await;
                    }
                });
            }
        });
        let weak: Weak<Self> = Arc::downgrade(&this);
        tokio::spawn(async move {
            while let Some(script) = reported.recv().await {
                // Whoever lost his connection has time to come back.
                tokio::time::sleep(UNTAIL_AFTER).await;
                while reported.try_recv().is_ok() {}
                let Some(runner) = weak.upgrade() else { return };
                if let Err(error) = runner.untail(&script).await {
                    tracing::warn!(script, error, "a script does not start");
                }
            }
        });
        Ok(this)
    }

    /// Reads what is deployed. Scripts start when they are first asked for, or when an alarm is due.
    pub fn boot(self: &Arc<Self>) -> Result<(), String> {
        let catalog = &self.tenant.stores.catalog;
        let mut workflows = self.workflow_schedules()?;
        let read = catalog.each_deployed(|deployed| {
            self.link(&deployed);
            let workflows = workflows.remove(&deployed.script).unwrap_or_default();
            self.schedule_all(&deployed.script, deployed.schedules, &workflows);
            Ok::<_, CatalogError>(())
        });
        read.map_err(|e| e.to_string())?;
        self.consume()?;
        self.wake_for_alarms()
    }

    /// Whether a process of it runs.
    fn is_awake(&self, name: &str) -> bool {
        self.fleet.worker(name).current().is_some()
    }

    /// What runs now of what was started.
    fn awake(&self) -> Vec<String> {
        let names: Vec<String> = lock(&self.running).keys().cloned().collect();
        names.into_iter().filter(|name| self.is_awake(name)).collect()
    }

    /// Brings what runs of `script` in line with the catalog.
    pub async fn apply(self: &Arc<Self>, script: &str) -> Result<(), String> {
        for namespace in self.relink(script)? {
            // Where requests to the outside go is fixed when a cell starts.
            for name in self.awake().iter().filter(|name| split_name(name).0 == Some(&namespace)) {
                self.start_anew(name).await?;
            }
        }
        self.expose_callees(script).await?;
        let turn = self.turn(script);
        let _mine = turn.lock().await;
        let Some(versions) = self.active(script)? else {
            self.forget(script).await;
            self.consume()?;
            return self.tenant.stores.bury_doomed_objects().await;
        };
        self.tenant.stores.bury_doomed_objects().await?;
        let mut names = BTreeSet::new();
        for (n, (version, _)) in versions.iter().enumerate() {
            if version.content.modules.is_empty() {
                continue;
            }
            let name = if n == 0 { script.to_owned() } else { variant(script, &version.id) };
            // One of many tenants starts when it is asked for.
            if split_name(script).0.is_none() || self.is_awake(&name) {
                self.deploy(script, &name, version.clone(), false).await?;
            }
            names.insert(name);
        }
        let live = self.blocking({
            let (script, versions) = (script.to_owned(), versions.clone());
            move |this| this.load(&script, &versions)
        });
        let live = Arc::new(live.await?);
        self.live.write().unwrap_or_else(PoisonError::into_inner).insert(script.to_owned(), live);
        self.retire_others(script, &names).await;
        self.schedule(script)?;
        self.consume()
    }

    /// Runs `work` where it may block.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || work(&this)).await.map_err(|e| e.to_string())?
    }

    fn turn(&self, script: &str) -> Arc<tokio::sync::Mutex<()>> {
        lock(&self.turns).entry(script.to_owned()).or_default().clone()
    }

    /// The versions that take requests with their shares, the main one first. `None`: not deployed.
    fn active(&self, script: &str) -> Result<Option<Vec<(Version, f64)>>, String> {
        let catalog = &self.tenant.stores.catalog;
        let text = |e: skep_catalog::CatalogError| e.to_string();
        let Some(row) = catalog.script(script).map_err(text)? else { return Ok(None) };
        let Some(deployment) = catalog.active_deployment(&row.tag).map_err(text)? else { return Ok(None) };
        let mut versions = Vec::new();
        for (id, percentage) in deployment.versions {
            if let Some(version) = catalog.version(&row.tag, &id).map_err(text)? {
                versions.push((version, percentage));
            }
        }
        versions.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok((!versions.is_empty()).then_some(versions))
    }

    /// Starts what the fleet calls `name`, a script or one of its other versions, unless it runs and lets others
    /// call what they call of it.
    fn start<'a>(self: &'a Arc<Self>, name: &'a str) -> BoxFuture<'a, Result<(), String>> {
        self.start_if(name, When::Missing)
    }

    /// Starts it in any case; what runs is replaced.
    fn start_anew<'a>(self: &'a Arc<Self>, name: &'a str) -> BoxFuture<'a, Result<(), String>> {
        self.start_if(name, When::Always)
    }

    fn start_if<'a>(self: &'a Arc<Self>, name: &'a str, when: When) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let (script, id) = name.split_once('@').map_or((name, None), |(script, id)| (script, Some(id)));
            let version = match id {
                None => self.active(script)?.and_then(|versions| versions.into_iter().next()).map(|(v, _)| v),
                Some(id) => self.version(script, id)?,
            };
            let version = version.ok_or_else(|| format!("the script {script} is not deployed"))?;
            if id.is_some() || split_name(script).0.is_some() {
                let links = self.links_of(script, name, &version.content.bindings);
                lock(&self.links).insert(name.to_owned(), links);
                self.expose_callees(name).await?;
            }
            let turn = self.turn(script);
            let _mine = turn.lock().await;
            let runs = self.is_awake(name);
            match when == When::Missing && runs && !self.lacks(name) {
                true => Ok(()),
                false => self.deploy(script, name, version, when == When::Always).await,
            }
        })
    }

    fn version(&self, script: &str, id: &str) -> Result<Option<Version>, String> {
        let catalog = &self.tenant.stores.catalog;
        let row = catalog.script(script).map_err(|e| e.to_string())?;
        row.map_or(Ok(None), |row| catalog.version(&row.tag, id).map_err(|e| e.to_string()))
    }

    /// Whether it runs, but others call more of it than it was started for.
    fn lacks(&self, name: &str) -> bool {
        let needed = self.needed_of(name);
        lock(&self.running).get(name).is_some_and(|has| !has.exposed.is_superset(&needed))
    }

    /// Puts a version into the fleet under `name`; unless `anew`, not if it runs there just so.
    async fn deploy(
        self: &Arc<Self>,
        script: &str,
        name: &str,
        version: Version,
        anew: bool,
    ) -> Result<(), String> {
        let id = version.id.clone();
        let (script, name) = (script.to_owned(), name.to_owned());
        // The objects of a script, and so their containers, are those of its main version's cell.
        let containers = match &self.around.boxes {
            Some(boxes) if name == script => boxes.classes(&self.tenant, &script, &version.content).await?,
            _ => Vec::new(),
        };
        let mut spec = {
            let (script, name) = (script.clone(), name.clone());
            self.blocking(move |this| this.spec(&script, &name, &version.content, Some(&version))).await?
        };
        if let Some(boxes) = &self.around.boxes {
            let namespaces = self.tenant.stores.catalog.namespaces(&script).map_err(|e| e.to_string())?;
            boxes.add(&self.tenant.id, &namespaces, containers.clone(), &mut spec).await?;
        }
        let (exposed, config) = (spec.exposed.clone(), config_hash(&spec));
        let deployed = Deployed { version: id, exposed, config, containers: containers.clone() };
        let same = lock(&self.running).get(&name) == Some(&deployed);
        if same && !anew && self.is_awake(&name) {
            return Ok(());
        }
        self.fleet.deploy(spec).await.map_err(|e| e.to_string())?;
        let before = lock(&self.running).insert(name, deployed);
        if let (Some(boxes), Some(before)) = (&self.around.boxes, before) {
            boxes.let_go(&self.tenant, &before.containers, &containers, false).await;
        }
        Ok(())
    }

    /// A script's, by the fleet's name.
    pub fn worker(&self, name: &str) -> Arc<Worker> {
        self.fleet.worker(name)
    }

    async fn forget(&self, script: &str) {
        self.live.write().unwrap_or_else(PoisonError::into_inner).remove(script);
        lock(&self.crons).remove(script);
        self.around.meters.forget(&self.tenant.id, script);
        self.tails.forget(script);
        self.retire_others(script, &BTreeSet::new()).await;
    }

    /// Ends what runs of `script` and is not among `names`.
    async fn retire_others(&self, script: &str, names: &BTreeSet<String>) {
        let gone: Vec<(String, Vec<skep_containers::Class>)> = {
            let mut running = lock(&self.running);
            let gone = running
                .iter()
                .filter(|(name, _)| is_of(script, name) && !names.contains(*name))
                .map(|(name, deployed)| (name.clone(), deployed.containers.clone()))
                .collect();
            running.retain(|name, _| !is_of(script, name) || names.contains(name));
            gone
        };
        for (name, containers) in gone {
            self.fleet.remove(&name).await;
            if let Some(boxes) = &self.around.boxes {
                boxes.let_go(&self.tenant, &containers, &[], true).await;
            }
        }
    }

    /// Ends everything.
    pub async fn stop(&self) {
        lock(&self.consumers).clear();
        lock(&self.crons).clear();
        self.fleet.stop().await;
        self.tenant.logs.flush().await;
    }
}
