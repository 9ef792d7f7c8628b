//! Containers of a node: their images out of its registry, and which script may have which.

mod disk;
mod firewall;
mod images;
mod left;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use skep_api::{ContainerApplication, ContainerInstance, namespace_id};
use skep_catalog::{Content, Kind};
use skep_containers::{Cell, Class, Containers, Engine, Limits, Options};
use skep_fleet::CellSpec;
use skep_registry::Credentials;

use super::tenant::Tenant;
pub use disk::watch;
pub use left::clear;

/// Processes and threads of one container, if the machine has sixteen times as many: one alone cannot take them all.
const MAX_PIDS: u32 = 4096;
/// Instances of an application that says nothing, as on Cloudflare.
const INSTANCES: u64 = 20;

/// How many of its processes a machine gives to one container; `most` is what the kernel says it has at most.
fn pids(most: Option<String>) -> u32 {
    let most: Option<u32> = most.and_then(|most| most.trim().parse().ok());
    most.map_or(MAX_PIDS, |most| (most / 16).min(MAX_PIDS))
}

/// What keeps a node's things apart from those of others that use the same engine.
fn node_of(data: &Path) -> String {
    hex::encode(Sha256::digest(data.as_os_str().as_encoded_bytes()))
}

/// What names of an account's things have in them.
fn tag(node: &str, account: &str) -> String {
    let hash = hex::encode(Sha256::digest(format!("{node}/{account}")));
    hash[..11].to_owned()
}

/// The two bridges of a tag: with a way to the internet, and without.
fn bridges(tag: &str) -> [String; 2] {
    [format!("sk{tag}o"), format!("sk{tag}c")]
}

/// What a node runs containers with.
pub struct Boxes {
    engine: Engine,
    /// Makes names of this node's own among those of others that use the same engine.
    node: String,
    /// Where the engine gets images.
    registry: SocketAddr,
    credentials: Arc<Credentials>,
    /// Processes and threads of one container.
    pids: u32,
    /// Where the engine keeps what containers write.
    root: Option<PathBuf>,
    /// By account. Two accounts may call their scripts and classes the same.
    accounts: Mutex<HashMap<String, Arc<Containers>>>,
    /// One account at a time.
    opening: tokio::sync::Mutex<()>,
    /// What the images of classes are called in the engine, by account and class. One is got at a time.
    given: tokio::sync::Mutex<HashMap<(String, String), String>>,
}

impl Boxes {
    /// Finds the engine, at the socket that is named if one is, and sees whether what containers reach can be bounded.
    pub async fn open(
        named: Option<&str>,
        data: &Path,
        accounts: &[String],
        registry: SocketAddr,
        credentials: Arc<Credentials>,
    ) -> Result<Arc<Self>, String> {
        let engine = Engine::find(named, |name| std::env::var_os(name)).await;
        let engine = engine.map_err(|tried| format!("--containers: {tried}"))?;
        if engine.is_podman() {
            return Err(
                "--containers: a node needs Docker: what Podman's containers reach is not bounded yet"
                    .to_owned(),
            );
        }
        left::remember(data, accounts, engine.address()).await?;
        let node = node_of(data);
        let root = engine.root().await;
        let this = Self {
            engine,
            root,
            node,
            registry,
            credentials,
            pids: pids(std::fs::read_to_string("/proc/sys/kernel/pid_max").ok()),
            accounts: Mutex::default(),
            given: tokio::sync::Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        };
        // Whether it can be done at all is known now, not at the first deploy.
        this.bound(&tag(&this.node, "")).await?;
        Ok(Arc::new(this))
    }

    async fn bound(&self, tag: &str) -> Result<(), String> {
        let [open, closed] = bridges(tag);
        let bounded = tokio::task::spawn_blocking(move || {
            firewall::bound(&open, true).and_then(|()| firewall::bound(&closed, false))
        });
        bounded.await.map_err(|e| e.to_string())?.map_err(|why| {
            format!(
                "--containers: this machine cannot bound what containers reach ({why}), and others' containers would reach the \
                 machine's own ports: it takes root and iptables"
            )
        })
    }

    /// An account's containers. What an earlier run of the node has left of them is removed when they are first asked for.
    async fn of(&self, account: &str) -> Result<Arc<Containers>, String> {
        if let Some(known) = self.known(account) {
            return Ok(known);
        }
        let _mine = self.opening.lock().await;
        if let Some(known) = self.known(account) {
            return Ok(known);
        }
        let tag = tag(&self.node, account);
        self.bound(&tag).await?;
        let options = Options { sees_host: false, bridges: Some(bridges(&tag)), way: Some(firewall::way) };
        let containers = Containers::new(self.engine.clone(), &tag, options);
        containers.sweep().await.map_err(|e| e.to_string())?;
        self.accounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(account.to_owned(), containers.clone());
        Ok(containers)
    }

    fn known(&self, account: &str) -> Option<Arc<Containers>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).get(account).cloned()
    }

    /// Those of all accounts.
    fn all(&self) -> Vec<Arc<Containers>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Removes what a node that was killed has left of an account's.
    pub async fn start(&self, tenant: &Tenant) -> Result<(), String> {
        self.of(&tenant.id).await?;
        self.tidy(tenant).await.map(drop)
    }

    /// Removes everything.
    pub async fn stop(&self) {
        let all: Vec<_> = {
            let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            accounts.drain().collect()
        };
        let mut gone = Vec::from(bridges(&tag(&self.node, "")));
        for (account, own) in all {
            match own.sweep().await {
                Ok(_) => gone.extend(bridges(&tag(&self.node, &account))),
                // What may still run stays bounded.
                Err(error) => tracing::warn!(%error, "containers could not be removed"),
            }
        }
        let lifted =
            tokio::task::spawn_blocking(move || gone.iter().for_each(|bridge| firewall::lift(bridge)));
        let _ = lifted.await;
    }

    /// The containers that a version of a script may have, with their images in the engine.
    pub async fn classes(
        &self,
        tenant: &Tenant,
        script: &str,
        content: &Content,
    ) -> Result<Vec<Class>, String> {
        let wanted =
            content.containers.as_ref().and_then(|all| all.as_array()).map(Vec::as_slice).unwrap_or_default();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let catalog = &tenant.stores.catalog;
        let namespaces = catalog.namespaces(script).map_err(|e| e.to_string())?;
        let applications = catalog.resources(Kind::Container).map_err(|e| e.to_string())?;
        let applications: Vec<_> = applications.iter().map(ContainerApplication::of).collect();
        let mut classes = Vec::new();
        for own in wanted {
            let class = own["class_name"].as_str().unwrap_or_default();
            let Some(namespace) = namespaces.get(class) else { continue };
            let id = namespace_id(&namespace.unique_key);
            // Until it has an application, its objects start none.
            let Some(application) = applications.iter().find(|application| application.namespace_id == id)
            else {
                continue;
            };
            let Some(image) = &application.image else { continue };
            classes.push(Class {
                unique_key: namespace.unique_key.clone(),
                label: format!("{script}-{class}"),
                image: self.image(tenant, &namespace.unique_key, image).await?,
                limits: Limits {
                    memory: Some(application.size.memory_mib << 20),
                    cpus: Some(application.size.vcpu),
                    pids: Some(self.pids),
                    disk: Some(application.size.disk_mb * 1_000_000),
                },
                max_instances: usize::try_from(application.max_instances.unwrap_or(INSTANCES))
                    .unwrap_or(usize::MAX),
            });
        }
        Ok(classes)
    }

    /// Gives a cell the containers of `classes`.
    pub async fn add(
        &self,
        account: &str,
        namespaces: &BTreeMap<String, skep_catalog::Namespace>,
        classes: Vec<Class>,
        spec: &mut CellSpec,
    ) -> Result<(), String> {
        if classes.is_empty() {
            return Ok(());
        }
        let images = namespaces.iter().filter_map(|(class, namespace)| {
            let own = classes.iter().find(|own| own.unique_key == namespace.unique_key)?;
            Some((class.clone(), own.image_name()))
        });
        let images = images.collect();
        let gate = self.of(account).await?.gate(Cell { classes });
        crate::gates::give(spec, gate, images);
        Ok(())
    }

    /// Lets go of the containers of classes that are other ones now, or are no more. Those that are `gone` end at once; the
    /// others get Cloudflare's fifteen minutes to end by themselves.
    pub async fn let_go(&self, tenant: &Tenant, before: &[Class], after: &[Class], gone: bool) {
        let Some(containers) = self.known(&tenant.id) else { return };
        let other: Vec<&Class> = before.iter().filter(|class| !after.contains(class)).collect();
        if other.is_empty() {
            return;
        }
        for class in other {
            let let_go = match gone {
                true => containers.remove_all(class).await,
                false => containers.retire_all(class).await,
            };
            if let Err(error) = let_go {
                tracing::warn!(%error, class = class.label, "containers could not be ended");
            }
            if gone {
                self.given.lock().await.remove(&(tenant.id.clone(), class.unique_key.clone()));
            }
        }
        if let Err(error) = self.tidy(tenant).await {
            tracing::warn!(error, "images could not be removed from the Docker engine");
        }
    }

    /// What runs of a namespace, by the API's id of it.
    pub async fn instances(&self, tenant: &Tenant, id: &str) -> Vec<ContainerInstance> {
        let Some(containers) = self.known(&tenant.id) else { return Vec::new() };
        let all = tenant.stores.catalog.all_namespaces().unwrap_or_default();
        let found = all.into_iter().find(|(_, _, namespace)| namespace_id(&namespace.unique_key) == id);
        let Some((script, class, _)) = found else { return Vec::new() };
        let listed = containers.list(&format!("{script}-{class}")).await;
        let listed = listed.inspect_err(|error| tracing::warn!(%error, "containers could not be listed"));
        let shown = listed.unwrap_or_default().into_iter().map(|own| ContainerInstance {
            id: own.id,
            object: own.object,
            image: own.image,
            started_ms: own.created_s.saturating_mul(1000),
        });
        shown.collect()
    }
}
