//! What runs of one account, kept in line with its catalog.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use skep_api::{Candidate, Examined, TailEvents};
use skep_assets::Assets;
use skep_catalog::{Content, Kind, NamedHandlers, Sealer, Version, split_name};
use skep_cron::{Cron, CronHandle};
use skep_edge::{Meter, Site};
use skep_fleet::{
    Binding, CellLog, CellSpec, DurableClass, Exposed, Fleet, FleetOptions, Limits, LogEvent, Worker,
    print_config,
};
use skep_queues::ConsumerHandle;
use skep_runtime::{Clock, Shutdown};
use skep_wire::{BoxFuture, Service};
use tokio::sync::mpsc;

use super::alarms::next_alarm;
use super::dispatch::{Dispatch, Gate, namespaces_of};
use super::links::links_of;
use super::metrics::{EventKind, Meters};
use super::tails::Tails;
use super::tenant::Tenant;
use super::version::{bundle_of, config_of, cpu_of, open_assets, subrequests_of};
use crate::events::{CronTrigger, Note, QueueConsumer};
use crate::stand_ins::Running;
use crate::wiring::{Identity, wire};

/// Cells go on reporting for so long after nobody listens any more.
const UNTAIL_AFTER: std::time::Duration = std::time::Duration::from_secs(10);

/// What a runner needs of its surroundings.
#[derive(Clone)]
pub struct Surroundings {
    pub launcher: std::path::PathBuf,
    pub engine: std::path::PathBuf,
    /// What holds cells.
    pub sandbox: skep_sandbox::Sandbox,
    pub sealer: Arc<Sealer>,
    pub clock: Clock,
    pub shutdown: Shutdown,
    pub log: skep_fleet::LogSink,
    /// What is counted of scripts.
    pub meters: Arc<Meters>,
    /// When scripts are stopped that nobody uses.
    pub rest: skep_fleet::Rest,
    /// Bytes of memory that a cell may use beside what the engine needs.
    pub cell_memory: u64,
    /// Whom requests to the outside may reach, as the engine names networks.
    pub egress: Vec<String>,
}

/// A version that takes a share of a script's requests.
pub struct Share {
    /// The version's id.
    pub version: String,
    /// 0 to 100.
    pub percentage: f64,
    /// What it is called in the fleet; `None` if it has no code.
    pub worker: Option<String>,
    /// Its assets.
    pub assets: Option<Arc<Assets>>,
    /// Where to count its requests, with those of the script's other versions.
    pub meter: Arc<Meter>,
}

/// A script as requests find it.
pub struct Live {
    /// The versions that take requests; the first one is the main one.
    pub shares: Vec<Share>,
    /// Whether its own address leads to it.
    pub workers_dev: bool,
    /// Whether its versions have addresses.
    pub previews: bool,
    /// Whether its dispatch namespace lets it see `request.cf`.
    pub trusted: bool,
}

/// What was deployed to the fleet under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Deployed {
    version: String,
    /// What others can call of it.
    exposed: BTreeSet<Exposed>,
    /// A hash of the engine's configuration, with what is not of the version: who calls it, what its namespace says.
    config: [u8; 32],
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
    running: Mutex<HashMap<String, Deployed>>,
    /// One deploy at a time of each script.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    crons: Mutex<HashMap<String, CronHandle>>,
    tails: Arc<Tails>,
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
        let tails = Tails::new(unwanted);
        let fleet = Fleet::new(FleetOptions {
            launcher: around.launcher.clone(),
            engine: around.engine.clone(),
            sandbox: around.sandbox.clone(),
            log: {
                let (log, tails, clock) = (around.log.clone(), tails.clone(), around.clock.clone());
                Arc::new(move |said: CellLog| {
                    if let LogEvent::Exceeded(exceeded) = said.event {
                        // A cell that is ended cannot say so itself.
                        tails.exceeded(&said.script, exceeded, clock.now_ms());
                    }
                    log(said);
                })
            },
            wanted: Some(Arc::new(move |name| {
                let _ = wanted.send(name.to_owned());
            })),
            rest: Some(around.rest),
        })
        .map_err(|e| format!("cannot make the folder for cells' sockets: {e}"))?;
        let this = Arc::new(Self {
            tenant,
            around,
            fleet,
            live: RwLock::default(),
            links: Mutex::default(),
            running: Mutex::default(),
            turns: Mutex::default(),
            crons: Mutex::default(),
            tails,
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
        for script in catalog.scripts().map_err(|e| e.to_string())? {
            self.relink(&script.name)?;
            self.schedule(&script.name)?;
        }
        self.consume()?;
        self.wake_for_alarms()
    }

    /// Starts scripts when the alarms are due that were set before this start.
    fn wake_for_alarms(self: &Arc<Self>) -> Result<(), String> {
        let stores = &self.tenant.stores;
        let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (script, _, namespace) in stores.catalog.all_namespaces().map_err(|e| e.to_string())? {
            keys.entry(script).or_default().push(namespace.unique_key);
        }
        let objects = stores.objects();
        let mut due: Vec<(std::time::SystemTime, String)> = keys
            .into_iter()
            .filter_map(|(script, keys)| Some((next_alarm(&objects, &keys)?, script)))
            .collect();
        // An instance of a Workflow may be under way.
        for workflow in stores.catalog.resources(Kind::Workflow).map_err(|e| e.to_string())? {
            if let Some(script) = workflow.settings["script_name"].as_str() {
                due.push((std::time::UNIX_EPOCH, script.to_owned()));
            }
        }
        due.sort();
        let weak = Arc::downgrade(self);
        tokio::spawn(async move {
            for (at, script) in due {
                let until = at.duration_since(std::time::SystemTime::now()).unwrap_or_default();
                tokio::time::sleep(until).await;
                let Some(runner) = weak.upgrade() else { return };
                if let Err(error) = runner.start(&script).await {
                    tracing::warn!(script, error, "a script whose alarm is due does not start");
                }
            }
        });
        Ok(())
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
        self.start_if(name, false)
    }

    /// Starts it in any case; what runs is replaced.
    fn start_anew<'a>(self: &'a Arc<Self>, name: &'a str) -> BoxFuture<'a, Result<(), String>> {
        self.start_if(name, true)
    }

    fn start_if<'a>(self: &'a Arc<Self>, name: &'a str, anew: bool) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let (script, id) = name.split_once('@').map_or((name, None), |(script, id)| (script, Some(id)));
            let version = match id {
                None => self.active(script)?.and_then(|versions| versions.into_iter().next()).map(|(v, _)| v),
                Some(id) => self.version(script, id)?,
            };
            let version = version.ok_or_else(|| format!("the script {script} is not deployed"))?;
            if id.is_some() || split_name(script).0.is_some() {
                lock(&self.links).insert(name.to_owned(), links_of(script, name, &version.content));
                self.expose_callees(name).await?;
            }
            let turn = self.turn(script);
            let _mine = turn.lock().await;
            let runs = self.is_awake(name);
            match !anew && runs && !self.lacks(name) {
                true => Ok(()),
                false => self.deploy(script, name, version, anew).await,
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
        let spec = {
            let (script, name) = (script.clone(), name.clone());
            self.blocking(move |this| this.spec(&script, &name, &version.content, Some(&version))).await?
        };
        let deployed = Deployed {
            version: id,
            exposed: spec.exposed.clone(),
            config: Sha256::digest(print_config(&spec)).into(),
        };
        // Whom a tail's events go to is not in the configuration.
        let same = spec.tail.is_none() && lock(&self.running).get(&name) == Some(&deployed);
        if same && !anew && self.is_awake(&name) {
            return Ok(());
        }
        self.fleet.deploy(spec).await.map_err(|e| e.to_string())?;
        lock(&self.running).insert(name, deployed);
        Ok(())
    }

    /// What others call of `name`.
    fn needed_of(&self, name: &str) -> BTreeSet<Exposed> {
        let links = lock(&self.links);
        let all = links.values().flatten().filter(|(callee, _)| callee == name);
        all.map(|(_, exposed)| exposed.clone()).collect()
    }

    fn spec(
        self: &Arc<Self>,
        script: &str,
        name: &str,
        content: &Content,
        version: Option<&Version>,
    ) -> Result<CellSpec, String> {
        let stores = &self.tenant.stores;
        let mut config = config_of(&self.tenant.id, script, content, &self.around.sealer)?;
        if name != script {
            // The objects of a script live in its main version's cell; others call them there.
            name.clone_into(&mut config.name);
            let main = || Some(script.to_owned());
            config
                .durable_objects
                .iter_mut()
                .for_each(|b| b.script_name = b.script_name.take().or_else(main));
            config.workflows.iter_mut().for_each(|b| b.script_name = b.script_name.take().or_else(main));
        }
        let bundle = bundle_of(&self.tenant, content)?;
        let assets = open_assets(&self.tenant, content, &config)?;
        let mut scripts = Running::default();
        for service in config.services.iter().map(|binding| &binding.service) {
            if stores.catalog.script(service).map_err(|e| e.to_string())?.is_some() {
                scripts.scripts.insert(service.clone());
            }
        }
        let identity = version.map(|version| Identity {
            id: version.id.clone(),
            tag: version.annotations.get("workers/tag").cloned().unwrap_or_default(),
            timestamp: humantime::format_rfc3339_millis(
                std::time::UNIX_EPOCH + std::time::Duration::from_millis(version.created_ms.unsigned_abs()),
            )
            .to_string(),
        });
        let mut spec = wire(&config, &bundle, stores, assets.as_ref(), &scripts, identity.as_ref())?.spec;
        spec.inspector = false;
        if let Some(version) = version
            && let Some(sink) = self.sink(script, version)?
        {
            spec.services.insert("tail".into(), sink);
            spec.tail = Some("tail".into());
        }
        let keys: Vec<String> = spec.classes.iter().map(|class| class.unique_key.clone()).collect();
        if !keys.is_empty() {
            let objects = spec.object_storage.clone();
            spec.next_alarm = Some(Arc::new(move || next_alarm(&objects, &keys)));
        }
        spec.egress.clone_from(&self.around.egress);
        spec.limits = Some(Limits {
            memory: self.around.cell_memory,
            cpu: cpu_of(content),
            subrequests: subrequests_of(content),
        });
        if version.is_some() {
            spec.usage = self.around.meters.of(&self.tenant.id, script).usage.clone();
        }
        self.dispatching(script, content, &mut spec);
        spec.exposed = self.needed_of(name);
        Ok(spec)
    }

    /// What dispatch namespaces have to do with it.
    fn dispatching(self: &Arc<Self>, script: &str, content: &Content, spec: &mut CellSpec) {
        for (n, (name, namespace, outbound)) in namespaces_of(&content.bindings).enumerate() {
            let service = format!("dispatch{n}");
            let dispatch =
                Dispatch { runner: Arc::downgrade(self), namespace: namespace.to_owned(), outbound };
            spec.services.insert(service.clone(), Arc::new(dispatch));
            spec.bindings.insert(name.to_owned(), Binding::Dispatch { service });
        }
        if split_name(script).0.is_none() {
            return;
        }
        spec.dispatched = true;
        if self.outbound_of(script).is_some() {
            let gate = Gate { runner: Arc::downgrade(self), script: script.to_owned() };
            spec.services.insert("outbound".into(), Arc::new(gate));
            spec.outbound = Some("outbound".into());
        }
    }

    /// The outbound worker of a script's dispatch namespace, if any dispatcher names one.
    pub fn outbound_of(&self, script: &str) -> Option<String> {
        let namespace = split_name(script).0?;
        let outbounds = lock(&self.outbounds);
        outbounds.values().flatten().find(|(id, _)| id == namespace).map(|(_, worker)| worker.clone())
    }

    /// A script's, by the fleet's name.
    pub fn worker(&self, name: &str) -> Arc<Worker> {
        self.fleet.worker(name)
    }

    /// What seals secrets.
    pub fn sealer(&self) -> &Sealer {
        &self.around.sealer
    }

    /// What requests need to know of the versions.
    fn load(&self, script: &str, versions: &[(Version, f64)]) -> Result<Live, String> {
        let row = self.tenant.stores.catalog.script(script).map_err(|e| e.to_string())?;
        let meter = self.around.meters.of(&self.tenant.id, script).requests.clone();
        let mut shares = Vec::new();
        for (n, (version, percentage)) in versions.iter().enumerate() {
            let config = config_of(&self.tenant.id, script, &version.content, &self.around.sealer)?;
            let name = if n == 0 { script.to_owned() } else { variant(script, &version.id) };
            shares.push(Share {
                version: version.id.clone(),
                percentage: *percentage,
                worker: (!version.content.modules.is_empty()).then_some(name),
                assets: open_assets(&self.tenant, &version.content, &config)?,
                meter: meter.clone(),
            });
        }
        let workers_dev = row.as_ref().and_then(|row| row.workers_dev).unwrap_or(false);
        let previews = row.and_then(|row| row.previews).unwrap_or(workers_dev);
        let trusted = match split_name(script).0 {
            None => true,
            Some(id) => {
                let namespace =
                    self.tenant.stores.catalog.resource(Kind::Dispatch, id).map_err(|e| e.to_string())?;
                namespace.is_some_and(|namespace| namespace.settings["trusted_workers"] == true)
            }
        };
        Ok(Live { shares, workers_dev, previews, trusted })
    }

    /// A deployed script; read from the catalog when it is first asked for.
    pub fn live(&self, script: &str) -> Option<Arc<Live>> {
        if let Some(live) = self.live.read().unwrap_or_else(PoisonError::into_inner).get(script) {
            return Some(live.clone());
        }
        let loaded = self.active(script).and_then(|versions| match versions {
            Some(versions) => self.load(script, &versions).map(Some),
            None => Ok(None),
        });
        match loaded {
            Ok(live) => {
                let live = Arc::new(live?);
                let mut all = self.live.write().unwrap_or_else(PoisonError::into_inner);
                Some(all.entry(script.to_owned()).or_insert(live).clone())
            }
            Err(error) => {
                tracing::error!(script, error, "a script cannot be read from the catalog");
                None
            }
        }
    }

    /// What answers for a share.
    pub fn site(&self, share: &Share) -> Site {
        let worker = share.worker.as_ref().map(|name| self.fleet.worker(name));
        Site { worker, assets: share.assets.clone(), local: None, meter: Some(share.meter.clone()) }
    }

    /// What answers for a version that is addressed by itself.
    pub fn preview(&self, script: &str, prefix: &str) -> Option<Site> {
        let live = self.live(script).filter(|live| live.previews)?;
        if let Some(share) = live.shares.iter().find(|share| share.version.starts_with(prefix)) {
            return Some(self.site(share));
        }
        let catalog = &self.tenant.stores.catalog;
        let row = catalog.script(script).ok()??;
        let version = catalog.version_with_prefix(&row.tag, prefix).ok()??;
        let loaded = self.load(script, &[(version.clone(), 0.0)]).ok()?;
        let mut share = loaded.shares.into_iter().next()?;
        share.worker = share.worker.map(|_| variant(script, &version.id));
        Some(self.site(&share))
    }

    /// Starts a version once in a cell that is thrown away.
    pub async fn try_out(self: &Arc<Self>, candidate: &Candidate) -> Result<Examined, String> {
        let wanted = candidate.clone();
        let mut spec = self
            .blocking(move |this| this.spec(&wanted.script, &wanted.script, &wanted.content, None))
            .await?;
        spec.classes = candidate
            .namespaces
            .iter()
            .map(|(name, namespace)| DurableClass {
                name: name.clone(),
                unique_key: namespace.unique_key.clone(),
                sqlite: namespace.sqlite,
            })
            .collect();
        let tried = self.fleet.try_out(&spec).await.map_err(|e| e.to_string())?;
        let named = tried.named.into_iter().map(|named| NamedHandlers {
            handlers: match named.is_class && named.handlers.is_empty() {
                true => vec!["class".into()],
                false => named.handlers,
            },
            name: named.name,
        });
        Ok(Examined {
            handlers: tried.handlers,
            named: named.collect(),
            startup_time_ms: tried.took.as_millis() as u64,
        })
    }

    /// Where a version's events go, if anybody wants them.
    fn sink(&self, script: &str, version: &Version) -> Result<Option<Arc<dyn Service>>, String> {
        let row = self.tenant.stores.catalog.script(script).map_err(|e| e.to_string())?;
        let consumers: Vec<Arc<Worker>> = row
            .iter()
            .flat_map(|row| &row.settings.tail_consumers)
            .filter_map(|consumer| consumer["service"].as_str())
            .filter(|consumer| *consumer != script)
            .map(|consumer| self.fleet.worker(consumer))
            .collect();
        let wanted = self.tails.is_wanted(script) || !consumers.is_empty();
        Ok(wanted.then(|| self.tails.sink(script, &version.id, consumers)))
    }

    /// The events of a script from now on. Its cells are started anew if they do not report them yet.
    pub async fn tail(self: &Arc<Self>, script: &str) -> Result<TailEvents, String> {
        let (events, is_new) = self.tails.listen(script);
        if is_new {
            self.start_all_anew(script).await?;
        }
        Ok(events)
    }

    /// Lets cells report no more if nobody listens. Those with Durable Objects do so at the next deploy: their
    /// objects would be started anew for it.
    async fn untail(self: &Arc<Self>, script: &str) -> Result<(), String> {
        let has_objects =
            !self.tenant.stores.catalog.namespaces(script).map_err(|e| e.to_string())?.is_empty();
        if has_objects || self.tails.is_wanted(script) {
            return Ok(());
        }
        self.start_all_anew(script).await
    }

    async fn start_all_anew(self: &Arc<Self>, script: &str) -> Result<(), String> {
        for name in self.awake().into_iter().filter(|name| is_of(script, name)) {
            self.start_anew(&name).await?;
        }
        Ok(())
    }

    /// Notes whom the versions of `script` call. Returns the dispatch namespaces that have an outbound worker now
    /// and had none before, or the other way round.
    fn relink(&self, script: &str) -> Result<BTreeSet<String>, String> {
        let mut found = BTreeMap::new();
        let mut outbounds = Vec::new();
        for (n, (version, _)) in self.active(script)?.unwrap_or_default().iter().enumerate() {
            let name = if n == 0 { script.to_owned() } else { variant(script, &version.id) };
            found.insert(name.clone(), links_of(script, &name, &version.content));
            let named = namespaces_of(&version.content.bindings);
            outbounds.extend(named.filter_map(|(_, id, outbound)| Some((id.to_owned(), outbound?.worker))));
        }
        let running: BTreeSet<String> = lock(&self.running).keys().cloned().collect();
        let mut links = lock(&self.links);
        // Versions that run because somebody addressed them go on calling.
        links.retain(|name, _| !is_of(script, name) || (name != script && running.contains(name)));
        links.extend(found.into_iter().filter(|(_, links)| !links.is_empty()));
        drop(links);
        let with_outbound = |all: &BTreeMap<String, Vec<(String, String)>>| -> BTreeSet<String> {
            all.values().flatten().map(|(namespace, _)| namespace.clone()).collect()
        };
        let mut all = lock(&self.outbounds);
        let before = with_outbound(&all);
        match outbounds.is_empty() {
            true => drop(all.remove(script)),
            false => drop(all.insert(script.to_owned(), outbounds)),
        }
        Ok(&before ^ &with_outbound(&all))
    }

    /// Starts anew those that `caller`, a script or one version of it, calls and that do not let themselves be
    /// called like that yet.
    async fn expose_callees(self: &Arc<Self>, caller: &str) -> Result<(), String> {
        let callees: BTreeSet<String> = {
            let links = lock(&self.links);
            let own = links.iter().filter(|(name, _)| is_of(caller, name));
            own.flat_map(|(_, links)| links).map(|(callee, _)| callee.clone()).collect()
        };
        for callee in callees.iter().filter(|callee| *callee != caller) {
            if self.lacks(callee) && self.is_awake(callee) {
                self.start(callee).await?;
            }
        }
        Ok(())
    }

    /// A dispatch namespace has other settings.
    pub fn namespace_changed(&self, id: &str) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        live.retain(|script, _| split_name(script).0 != Some(id));
    }

    async fn forget(&self, script: &str) {
        self.live.write().unwrap_or_else(PoisonError::into_inner).remove(script);
        lock(&self.crons).remove(script);
        self.around.meters.forget(&self.tenant.id, script);
        self.retire_others(script, &BTreeSet::new()).await;
    }

    /// Ends what runs of `script` and is not among `names`.
    async fn retire_others(&self, script: &str, names: &BTreeSet<String>) {
        let gone: Vec<String> = {
            let mut running = lock(&self.running);
            let gone = running
                .keys()
                .filter(|name| is_of(script, name) && !names.contains(*name))
                .cloned()
                .collect();
            running.retain(|name, _| !is_of(script, name) || names.contains(name));
            gone
        };
        for name in gone {
            self.fleet.remove(&name).await;
        }
    }

    fn schedule(&self, script: &str) -> Result<(), String> {
        let row = self.tenant.stores.catalog.script(script).map_err(|e| e.to_string())?;
        let schedules = row.map(|row| row.settings.schedules).unwrap_or_default();
        let expressions: Vec<_> =
            schedules.iter().filter_map(|schedule| schedule.cron.parse().ok()).collect();
        let mut crons = lock(&self.crons);
        crons.remove(script);
        if !expressions.is_empty() {
            let name = script.to_owned();
            let report = Box::new(move |text: &str| tracing::info!(script = name, text));
            let note = self.note(script, EventKind::Scheduled);
            let trigger = Arc::new(CronTrigger { worker: self.fleet.worker(script), report, note });
            let Surroundings { clock, shutdown, .. } = &self.around;
            crons.insert(
                script.to_owned(),
                Cron::start(expressions, clock.clone(), shutdown.clone(), trigger),
            );
        }
        Ok(())
    }

    /// Counts events of a script in its metrics, of which it has some from the first one on.
    fn note(&self, script: &str, kind: EventKind) -> Note {
        let (account, script) = (self.tenant.id.clone(), script.to_owned());
        let meters = self.around.meters.clone();
        Box::new(move |outcome| meters.of(&account, &script).events.note(kind, outcome))
    }

    /// Gives every queue's consumer its messages.
    fn consume(&self) -> Result<(), String> {
        let catalog = &self.tenant.stores.catalog;
        let mut wanted = BTreeMap::new();
        for queue in catalog.resources(skep_catalog::Kind::Queue).map_err(|e| e.to_string())? {
            if queue.settings["delivery_paused"] == true {
                continue;
            }
            let consumers = queue.settings["consumers"].as_array().into_iter().flatten();
            let Some(consumer) = consumers.into_iter().find(|consumer| consumer["script"].is_string()) else {
                continue;
            };
            wanted.insert(queue.name, consumer.clone());
        }
        let mut consumers = lock(&self.consumers);
        consumers.retain(|queue, (consumer, _)| wanted.get(queue) == Some(consumer));
        for (queue, consumer) in wanted {
            if consumers.contains_key(&queue) {
                continue;
            }
            let script = consumer["script"].as_str().unwrap_or_default();
            let note = self.note(script, EventKind::Queue);
            let deliver = Arc::new(QueueConsumer { worker: self.fleet.worker(script), note });
            let settings = super::links::consumer_settings(&consumer);
            let handle = self.tenant.stores.queues.consume(&queue, settings, deliver);
            consumers.insert(queue, (consumer, handle));
        }
        Ok(())
    }

    /// Ends everything.
    pub async fn stop(&self) {
        lock(&self.consumers).clear();
        lock(&self.crons).clear();
        self.fleet.stop().await;
    }
}
