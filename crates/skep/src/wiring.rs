//! From a project to a cell: which server stands behind which binding.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use skep_assets::{Assets, AssetsBinding};
use skep_bundle::{Bundle, Format};
use skep_config::{Hyperdrive, WorkerConfig, WorkflowExport, WorkflowSettings};
use skep_fleet::{Binding, CellSpec, Code, DurableClass, Module, ModuleKind, Origin, Workflow};
use skep_images::Images;
use skep_ratelimit::Limits;
use skep_vectorize::{Local, Metric};
use skep_wire::Service;

use crate::dates::ENGINE_DATE;
use crate::mail::KeptMail;
use crate::site::namespace_of;
use crate::stand_ins::{Front, Running};
use crate::stores::Stores;

/// A cell in the making.
struct Wiring<'a> {
    config: &'a WorkerConfig,
    stores: &'a Stores,
    images: &'a Images,
    /// All workers of the session.
    running: &'a Running,
    bindings: BTreeMap<String, Binding>,
    services: BTreeMap<String, Arc<dyn Service>>,
    /// For people: name, kind, what it is backed by.
    table: Vec<[String; 3]>,
}

/// A cell and what a person may want to know of it.
pub struct Wired {
    /// What to deploy.
    pub spec: CellSpec,
    /// Name, kind and backing of every binding.
    pub table: Vec<[String; 3]>,
}

/// What a version metadata binding holds.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The version's id.
    pub id: String,
    /// The tag that it was uploaded with.
    pub tag: String,
    /// When it was made, RFC 3339.
    pub timestamp: String,
}

impl Identity {
    fn of_this_start() -> Self {
        Self {
            id: uuid::Uuid::new_v4().to_string(),
            tag: String::new(),
            timestamp: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        }
    }
}

/// Whether what a binding names is of this worker.
pub fn is_own(config: &WorkerConfig, script: Option<&String>) -> bool {
    script.is_none_or(|script| *script == config.name)
}

/// Puts a project's code and its bindings together. `running` are all workers of the session.
pub fn wire(
    config: &WorkerConfig,
    bundle: &Bundle,
    stores: &Stores,
    images: &Images,
    assets: Option<&Arc<Assets>>,
    running: &Running,
    identity: Option<&Identity>,
) -> Result<Wired, String> {
    check_classes(config, bundle)?;
    let mut wiring = Wiring {
        config,
        stores,
        images,
        running,
        bindings: BTreeMap::new(),
        services: BTreeMap::new(),
        table: Vec::new(),
    };
    wiring.values(identity)?;
    wiring.storage()?;
    wiring.events()?;
    wiring.scripts()?;
    if let Some(assets) = assets {
        wiring.assets(assets);
    }
    wiring.services.insert("cache".into(), Arc::new(stores.cache.later(&config.name)));
    let namespaces = stores.catalog.namespaces(&config.name).map_err(|e| e.to_string())?;
    let spec = CellSpec {
        name: config.name.clone(),
        code: code(bundle, &mut wiring.bindings),
        compatibility_date: config.compatibility_date.clone().unwrap_or_else(|| ENGINE_DATE.into()),
        compatibility_flags: config.compatibility_flags.clone(),
        bindings: wiring.bindings,
        classes: namespaces
            .into_iter()
            .map(|(name, n)| DurableClass { name, unique_key: n.unique_key, sqlite: n.sqlite })
            .collect(),
        workflows: own_workflows(config)?,
        object_storage: stores.objects(),
        front: wiring.services.contains_key("front").then(|| "front".into()),
        services: wiring.services,
        connections: BTreeMap::new(),
        containers: None,
        cache: Some("cache".into()),
        events: false,
        mail: None,
        dispatched: false,
        next_alarm: None,
        file_limit: None,
        outbound: None,
        egress: vec!["public".into(), "private".into()],
        absent: BTreeSet::new(),
        exposed: BTreeSet::new(),
        tail: None,
        trace: None,
        limits: None,
        usage: Arc::default(),
        inspector: true,
    };
    Ok(Wired { spec, table: wiring.table })
}

/// The Workflows that are of this worker: what `exports` says of one counts, else the first binding to it.
pub fn workflows_of(config: &WorkerConfig) -> Vec<WorkflowExport> {
    let mut workflows = config.exported_workflows.clone();
    for binding in config.workflows.iter().filter(|w| is_own(config, w.script_name.as_ref())) {
        if !workflows.iter().any(|w| w.name == binding.name) {
            workflows.push(WorkflowExport {
                class_name: binding.class_name.clone(),
                name: binding.name.clone(),
                settings: binding.settings.clone(),
            });
        }
    }
    workflows
}

fn own_workflows(config: &WorkerConfig) -> Result<Vec<Workflow>, String> {
    let workflow = |own: WorkflowExport| {
        let settings = engine_settings(&own.settings);
        let settings = settings.map_err(|e| format!("the Workflow \"{}\": {e}", own.name))?;
        Ok(Workflow { name: own.name, class: own.class_name, settings: settings.to_string() })
    };
    workflows_of(config).into_iter().map(workflow).collect()
}

/// As the engine reads them, and our shims.
fn engine_settings(settings: &WorkflowSettings) -> Result<serde_json::Value, String> {
    let mut said = serde_json::Map::new();
    said.extend(settings.steps.map(|steps| ("steps".to_owned(), steps.into())));
    said.extend(settings.concurrency.map(|limit| ("concurrency".to_owned(), limit.into())));
    let mut retention = serde_json::Map::new();
    for (name, value) in [("success", &settings.success_retention), ("error", &settings.error_retention)] {
        let Some(value) = value else { continue };
        let ms = skep_catalog::duration_ms(value).ok_or_else(|| {
            format!("{value} is no duration: a number of milliseconds, or a text such as \"3 days\"")
        })?;
        retention.insert(name.to_owned(), ms.into());
    }
    if !retention.is_empty() {
        said.insert("retention".to_owned(), retention.into());
    }
    Ok(said.into())
}

/// The text is wrangler's.
fn check_classes(config: &WorkerConfig, bundle: &Bundle) -> Result<(), String> {
    if bundle.format == Format::ServiceWorker {
        let needs_modules = config.durable_objects.iter().any(|b| is_own(config, b.script_name.as_ref()));
        return match needs_modules {
            true => Err(format!(
                "You seem to be trying to use Durable Objects in a Worker written as a service-worker.\n{} has no exports",
                config.main.as_deref().unwrap_or(&config.dir).display()
            )),
            false => Ok(()),
        };
    }
    // Where nothing was bundled nobody knows what is exported; the engine will say.
    if bundle.exports.is_empty() {
        return Ok(());
    }
    let exported = |class: &&String| !bundle.exports.contains(class);
    let objects = config.durable_objects.iter().filter(|b| is_own(config, b.script_name.as_ref()));
    let missing: BTreeSet<&String> = objects.map(|b| &b.class_name).filter(exported).collect();
    let workflows = config.workflows.iter().filter(|b| is_own(config, b.script_name.as_ref()));
    let workflows = workflows.map(|b| &b.class_name);
    let workflows = workflows.chain(config.exported_workflows.iter().map(|own| &own.class_name));
    let missing_workflows: BTreeSet<&String> = workflows.filter(exported).collect();
    let entry = config.main.as_deref().unwrap_or(&config.dir).display();
    for (kind, missing) in [("Durable Objects", missing), ("Workflows", missing_workflows)] {
        if !missing.is_empty() {
            let names: Vec<&str> = missing.into_iter().map(String::as_str).collect();
            return Err(format!(
                "Your Worker depends on the following {kind}, which are not exported in your entrypoint file: {}.\n\
                 You should export these objects from your entrypoint, {entry}.",
                names.join(", ")
            ));
        }
    }
    Ok(())
}

/// In service worker syntax, modules are globals.
fn code(bundle: &Bundle, bindings: &mut BTreeMap<String, Binding>) -> Code {
    let kind = |kind| match kind {
        skep_bundle::ModuleKind::EsModule => ModuleKind::EsModule,
        skep_bundle::ModuleKind::CommonJs => ModuleKind::CommonJs,
        skep_bundle::ModuleKind::Text => ModuleKind::Text,
        skep_bundle::ModuleKind::Data => ModuleKind::Data,
        skep_bundle::ModuleKind::Wasm => ModuleKind::Wasm,
    };
    let modules = bundle.modules.iter();
    if bundle.format == Format::Modules {
        let module = |m: &skep_bundle::Module| Module {
            name: m.name.trim_start_matches("./").to_owned(),
            kind: kind(m.kind),
            content: m.content.clone(),
        };
        return Code::Modules(modules.map(module).collect());
    }
    for module in modules.clone().skip(1) {
        let binding = match kind(module.kind) {
            ModuleKind::Wasm => Binding::Wasm(module.content.clone()),
            ModuleKind::Text => Binding::Text(String::from_utf8_lossy(&module.content).into_owned()),
            _ => Binding::Data(module.content.clone()),
        };
        bindings.insert(module.global_name(), binding);
    }
    Code::ServiceWorker(modules.clone().next().map(|m| m.content.clone()).unwrap_or_default())
}

impl Wiring<'_> {
    fn add(&mut self, name: &str, kind: &str, backing: impl Into<String>, binding: Binding) {
        self.table.push([format!("env.{name}"), kind.to_owned(), backing.into()]);
        self.bindings.insert(name.to_owned(), binding);
    }

    /// Keeps a server and returns the id that the cell will call it by.
    fn serve(&mut self, service: Arc<dyn Service>) -> String {
        let id = format!("b{}", self.services.len());
        self.services.insert(id.clone(), service);
        id
    }

    fn values(&mut self, identity: Option<&Identity>) -> Result<(), String> {
        for (name, value) in &self.config.vars {
            let binding = match value {
                serde_json::Value::String(text) => Binding::Text(text.clone()),
                other => Binding::Json(other.to_string()),
            };
            self.add(name, "Environment variable", "the configuration", binding);
        }
        for (name, value) in &self.config.secrets {
            self.table.retain(|row| row[0] != format!("env.{name}"));
            self.add(name, "Secret", "a file beside the configuration", Binding::Text(value.clone()));
        }
        for b in &self.config.stored_secrets {
            let backing = match &b.value {
                Some(_) => "a file beside the configuration",
                None => "nothing: it has no value",
            };
            let stored = Binding::StoredSecret { name: b.secret_name.clone(), value: b.value.clone() };
            self.add(&b.binding, "Secrets Store secret", backing, stored);
        }
        for name in &self.config.worker_loaders {
            self.add(name, "Worker loader", "the same process", Binding::WorkerLoader);
        }
        if let Some(name) = &self.config.version_metadata {
            let (identity, backing) = match identity {
                Some(identity) => (identity.clone(), "this version"),
                None => (Identity::of_this_start(), "this start"),
            };
            let Identity { id, tag, timestamp } = identity;
            let json = serde_json::json!({ "id": id, "tag": tag, "timestamp": timestamp }).to_string();
            self.add(name, "Version metadata", backing, Binding::Json(json));
        }
        let read = |path: &std::path::Path| {
            std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
        };
        for (name, path) in &self.config.wasm_modules {
            self.add(name, "Wasm module", path.to_string_lossy(), Binding::Wasm(read(path)?.into()));
        }
        for (name, path) in &self.config.data_blobs {
            self.add(name, "Data blob", path.to_string_lossy(), Binding::Data(read(path)?.into()));
        }
        for (name, path) in &self.config.text_blobs {
            let text = String::from_utf8_lossy(&read(path)?).into_owned();
            self.add(name, "Text blob", path.to_string_lossy(), Binding::Text(text));
        }
        Ok(())
    }

    fn storage(&mut self) -> Result<(), String> {
        let stores = self.stores;
        for b in &self.config.kv_namespaces {
            let namespace = stores.kv.namespace(&b.id).map_err(|e| e.to_string())?;
            let service = self.serve(namespace);
            self.add(&b.binding, "KV namespace", format!("kv/ \"{}\"", b.id), Binding::Kv { service });
        }
        if self.config.site.is_some() {
            let id = namespace_of(self.config);
            let service = self.serve(stores.kv.namespace(&id).map_err(|e| e.to_string())?);
            self.add("__STATIC_CONTENT", "Workers Site", format!("kv/ \"{id}\""), Binding::Kv { service });
        }
        for b in &self.config.r2_buckets {
            let bucket = stores.r2.bucket(&b.bucket_name).map_err(|e| e.to_string())?;
            let service = self.serve(bucket);
            self.add(&b.binding, "R2 bucket", format!("r2/ \"{}\"", b.bucket_name), Binding::R2 { service });
        }
        for b in &self.config.d1_databases {
            let database = stores.d1.database(&b.database_id).map_err(|e| e.to_string())?;
            let service = self.serve(database);
            self.add(
                &b.binding,
                "D1 database",
                format!("d1/ \"{}\"", b.database_id),
                Binding::D1 { service },
            );
        }
        for b in &self.config.hyperdrive {
            let Hyperdrive { binding, scheme, address, user, password, database } = b.clone();
            let backing = format!("{scheme} at {address}");
            let origin = Origin::Address(address);
            let to = Binding::Hyperdrive { origin, scheme, user, password, database };
            self.add(&binding, "Hyperdrive", backing, to);
        }
        for b in &self.config.analytics_engine_datasets {
            let service = self.serve(stores.analytics.dataset(&b.dataset));
            let backing = format!("analytics/ \"{}\"", b.dataset);
            self.add(&b.binding, "Analytics Engine", backing, Binding::Analytics { service });
        }
        for b in &self.config.vectorize {
            let local = (!b.is_made).then(|| Local {
                dimensions: b.dimensions.map(|count| count as usize),
                metric: b.metric.as_deref().and_then(Metric::parse).unwrap_or_default(),
            });
            let service = self.serve(stores.vectorize.binding(&b.index_name, local));
            let backing = format!("vectorize/ \"{}\"", b.index_name);
            let to = Binding::Vectorize { service, index: b.index_name.clone() };
            self.add(&b.binding, "Vectorize index", backing, to);
        }
        Ok(())
    }

    fn events(&mut self) -> Result<(), String> {
        for b in &self.config.queue_producers {
            let service = self.serve(self.stores.queues.producer(&b.queue, b.delivery_delay));
            self.add(&b.binding, "Queue", format!("queues/ \"{}\"", b.queue), Binding::Queue { service });
        }
        for b in &self.config.ratelimits {
            let invalid = |e: &dyn std::fmt::Display| format!("the rate limit \"{}\": {e}", b.name);
            let mut limits = Limits::simple(b.limit.into(), b.period).map_err(|e| invalid(&e))?;
            if let Some(burst) = b.burst {
                let window = b.burst_window.unwrap_or(1.0);
                limits = limits.with_burst(burst.into(), window).map_err(|e| invalid(&e))?;
            }
            if let Some(size) = b.bucket_size {
                limits = limits.with_bucket(size).map_err(|e| invalid(&e))?;
            }
            let defaults = serde_json::json!({ "limit": b.limit, "period": b.period }).to_string();
            let service = self.serve(self.stores.ratelimits.namespace(&b.namespace_id, limits));
            let backing = format!("memory, {} in {} s", b.limit, b.period);
            self.add(&b.name, "Rate limit", backing, Binding::RateLimit { service, defaults });
        }
        if let Some(name) = &self.config.images {
            let service = self.serve(self.images.binding());
            self.add(name, "Images", "a process for each image", Binding::Images { service });
        }
        for b in &self.config.send_email {
            let backing = match (&b.destination_address, &b.allowed_destination_addresses) {
                (Some(address), _) => format!("email/, to {address}"),
                (None, Some(addresses)) => format!("email/, to {}", addresses.join(", ")),
                (None, None) => "email/".to_owned(),
            };
            let binding = b.clone();
            let mail = KeptMail { binding, script: self.config.name.clone(), folder: self.stores.mail() };
            let service = self.serve(Arc::new(mail));
            self.add(&b.name, "Send email", backing, Binding::SendEmail { service });
        }
        Ok(())
    }

    fn scripts(&mut self) -> Result<(), String> {
        let config = self.config;
        for b in &config.durable_objects {
            let named = b.script_name.clone().unwrap_or_else(|| config.name.clone());
            // A class may have been moved to another script since.
            let catalog = &self.stores.catalog;
            let mut home = catalog.home_of(&named, &b.class_name).map_err(|e| e.to_string())?;
            if home.is_none() && named == config.name {
                home = catalog.awaited_home(&named, &b.class_name).map_err(|e| e.to_string())?;
            }
            let (script, class) = match home {
                Some((script, name, n)) => {
                    (script, DurableClass { name, unique_key: n.unique_key, sqlite: n.sqlite })
                }
                None => {
                    let (name, unique_key) = (b.class_name.clone(), format!("{named}-{}", b.class_name));
                    (named, DurableClass { name, unique_key, sqlite: false })
                }
            };
            if script == config.name {
                let class = class.name;
                self.add(&b.name, "Durable Object", format!("do/ {class}"), Binding::DurableObject { class });
                continue;
            }
            let backing = self.running.shown(&script, format!("{} of {script}", class.name));
            self.add(&b.name, "Durable Object", backing, Binding::RemoteDurableObject { script, class });
        }
        for b in &config.services {
            let (entrypoint, props) = (b.entrypoint.clone(), b.props.as_ref().map(ToString::to_string));
            let backing = match &entrypoint {
                Some(entrypoint) => format!("{entrypoint} of {}", b.service),
                None => b.service.clone(),
            };
            let site = self.running.sites.get(&b.service).filter(|_| entrypoint.is_none());
            let binding = match (b.service == config.name, site) {
                (true, _) => Binding::OwnEntrypoint { entrypoint, props },
                (_, Some(assets)) => {
                    Binding::Fetcher { service: self.serve(Arc::new(AssetsBinding(assets.clone()))) }
                }
                _ => Binding::RemoteEntrypoint { script: b.service.clone(), entrypoint, props },
            };
            let backing = match binding {
                Binding::RemoteEntrypoint { .. } if !self.running.scripts.contains(&b.service) => {
                    self.running.shown(&b.service, b.service.clone())
                }
                _ => backing,
            };
            self.add(&b.binding, "Service", backing, binding);
        }
        for b in &config.workflows {
            let name = b.name.clone();
            let (backing, binding) = match &b.script_name {
                Some(script) if *script != config.name => {
                    (format!("{name} of {script}"), Binding::RemoteWorkflow { script: script.clone(), name })
                }
                _ => (format!("do/ workflow {name}"), Binding::Workflow { name }),
            };
            self.add(&b.binding, "Workflow", backing, binding);
        }
        Ok(())
    }

    fn assets(&mut self, assets: &Arc<Assets>) {
        let Some(config) = &self.config.assets else { return };
        self.services.insert("front".into(), Arc::new(Front(assets.clone())));
        if let Some(name) = &config.binding {
            let service = self.serve(Arc::new(AssetsBinding(assets.clone())));
            let backing = config.directory.to_string_lossy().into_owned();
            self.add(name, "Assets", backing, Binding::Fetcher { service });
        }
    }
}
