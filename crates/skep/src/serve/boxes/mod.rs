//! Containers of a node: their images out of its registry, and which script may have which.

mod firewall;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use skep_api::{ContainerApplication, ContainerInstance, namespace_id, own_image};
use skep_catalog::{Content, Kind};
use skep_containers::{Cell, Class, Containers, Engine, Limits, Options};
use skep_fleet::{CellSpec, Containers as AskedAt};
use skep_registry::{Credentials, USER};

use super::tenant::Tenant;

/// The id of the gate among a cell's servers.
const GATE: &str = "docker";
/// Processes and threads of one container.
const MAX_PIDS: u32 = 4096;
/// Instances of an application that says nothing, as on Cloudflare.
const INSTANCES: u64 = 20;
/// How long the password of a pull is good for.
const PULL_MINUTES: u64 = 60;

/// What a node runs containers with.
pub struct Boxes {
    engine: Engine,
    /// Makes names of this node's own among those of others that use the same engine.
    node: String,
    /// Where the engine gets images.
    registry: SocketAddr,
    credentials: Arc<Credentials>,
    /// By account. Two accounts may call their scripts and classes the same.
    accounts: Mutex<HashMap<String, Arc<Containers>>>,
    /// One image at a time.
    pulling: tokio::sync::Mutex<()>,
}

impl Boxes {
    /// Finds the engine, at the socket that is named if one is, and sees whether what containers reach can be bounded.
    pub async fn open(
        named: Option<&str>,
        data: &Path,
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
        let node = hex::encode(Sha256::digest(data.as_os_str().as_encoded_bytes()));
        let this = Self {
            engine,
            node,
            registry,
            credentials,
            accounts: Mutex::default(),
            pulling: tokio::sync::Mutex::default(),
        };
        // Whether it can be done at all is known now, not at the first deploy.
        this.bound(&this.tag("")).await?;
        Ok(Arc::new(this))
    }

    /// What names of an account's things have in them.
    fn tag(&self, account: &str) -> String {
        let hash = hex::encode(Sha256::digest(format!("{}/{account}", self.node)));
        hash[..11].to_owned()
    }

    /// The two bridges of a tag: with a way to the internet, and without.
    fn bridges(tag: &str) -> [String; 2] {
        [format!("sk{tag}o"), format!("sk{tag}c")]
    }

    async fn bound(&self, tag: &str) -> Result<(), String> {
        let [open, closed] = Self::bridges(tag);
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
        let _mine = self.pulling.lock().await;
        if let Some(known) = self.known(account) {
            return Ok(known);
        }
        let tag = self.tag(account);
        self.bound(&tag).await?;
        let options = Options { sees_host: false, bridges: Some(Self::bridges(&tag)) };
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

    /// Removes what a node that was killed has left of an account's.
    pub async fn start(&self, account: &str) -> Result<(), String> {
        self.of(account).await.map(drop)
    }

    /// Removes everything.
    pub async fn stop(&self) {
        let all: Vec<_> = {
            let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            accounts.drain().collect()
        };
        let mut bridges = Vec::from(Self::bridges(&self.tag("")));
        for (account, own) in all {
            match own.sweep().await {
                Ok(_) => bridges.extend(Self::bridges(&self.tag(&account))),
                // What may still run stays bounded.
                Err(error) => tracing::warn!(%error, "containers could not be removed"),
            }
        }
        let lifted =
            tokio::task::spawn_blocking(move || bridges.iter().for_each(|bridge| firewall::lift(bridge)));
        let _ = lifted.await;
    }

    /// The engine's id of an image of the account, which it gets if it has not got it yet.
    async fn image(&self, tenant: &Tenant, image: &str) -> Result<String, String> {
        let (repository, reference) = own_image(&tenant.id, image)
            .ok_or_else(|| format!("the image {image} is not in this node's registry"))?;
        let manifest = tenant.images.manifest(&repository, &reference).map_err(|e| e.to_string())?;
        let digest = manifest.ok_or_else(|| format!("the image {image} is not there: push it first"))?.digest;
        let name = format!("{}/{}/{repository}", self.registry, tenant.id);
        let pinned = format!("{name}@{digest}");
        let _mine = self.pulling.lock().await;
        if !self.engine.has_image(&pinned).await.map_err(|e| e.to_string())? {
            let password = self.credentials.issue(&tenant.id, false, true, PULL_MINUTES);
            let pulled = self.engine.pull(&pinned, Some((USER, &password))).await;
            pulled.map_err(|e| format!("the image {image}: {e}"))?;
        }
        self.engine.image_id(&pinned).await.map_err(|e| e.to_string())
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
                image: self.image(tenant, image).await?,
                limits: Limits {
                    memory: Some(application.size.memory_mib << 20),
                    cpus: Some(application.size.vcpu),
                    pids: Some(MAX_PIDS),
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
        let reaches = gate.clone();
        spec.containers = Some(AskedAt {
            connections: GATE.to_owned(),
            images,
            reaches: Arc::new(move |port| reaches.reaches(port)),
        });
        spec.connections.insert(GATE.to_owned(), gate);
        Ok(())
    }

    /// Lets go of the containers of classes that are other ones now, or are no more. Those that are `gone` end at once; the
    /// others get Cloudflare's fifteen minutes to end by themselves.
    pub async fn let_go(&self, account: &str, before: &[Class], after: &[Class], gone: bool) {
        let Some(containers) = self.known(account) else { return };
        for class in before.iter().filter(|class| !after.contains(class)) {
            let let_go = match gone {
                true => containers.remove_all(class).await,
                false => containers.retire_all(class).await,
            };
            if let Err(error) = let_go {
                tracing::warn!(%error, class = class.label, "containers could not be ended");
            }
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
