//! Containers of a `skep dev` session: their images, and who may have which.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use skep_catalog::Namespace;
use skep_config::{Container, ContainerImage, WorkerConfig};
use skep_containers::{Cell, Class, Cli, Containers, Engine, Gate, Limits, Options};

use crate::terminal::{Style, paint, say};
use crate::wiring::Wired;

/// Processes and threads of one container: far more than any needs, far fewer than a machine has.
const MAX_PIDS: u32 = 4096;
/// Docker's name for a process that `docker` commands start.
const PROGRAM: &str = "WRANGLER_DOCKER_BIN";

/// What is there to run containers with, once something wants one.
#[derive(Default)]
pub struct Boxes {
    /// Where Docker listens, if the command line says so.
    engine: Option<String>,
    /// Whether containers are made, if the command line says so.
    enabled: Option<bool>,
    opened: Option<Arc<Containers>>,
    /// Docker's ids of the images, by worker and class, with what they were made of.
    images: HashMap<(String, String), (Container, String)>,
    /// The gate of each worker: processes of a worker that follow each other share it.
    gates: HashMap<String, Arc<Gate>>,
}

impl Boxes {
    /// Nothing yet; the two are what the command line says: where Docker listens, and whether containers are made.
    pub fn new(engine: Option<String>, enabled: Option<bool>) -> Self {
        Self { engine, enabled, ..Self::default() }
    }

    /// Whether the containers of `config` are made.
    fn wants(&self, config: &WorkerConfig) -> bool {
        !config.containers.is_empty() && self.enabled.or(config.dev.enable_containers).unwrap_or(true)
    }

    /// Whether there are any.
    pub fn any(&self) -> bool {
        self.opened.is_some()
    }

    /// Has the images of `config` made; `again`: also those that are there. `state` is the folder of the session's state.
    pub async fn prepare(&mut self, config: &WorkerConfig, state: &Path, again: bool) -> Result<(), String> {
        if !self.wants(config) {
            return Ok(());
        }
        let containers = self.open(config, state).await?;
        for own in &config.containers {
            let key = (config.name.clone(), own.class_name.clone());
            if !again && self.images.get(&key).is_some_and(|(made_of, _)| made_of == own) {
                continue;
            }
            let image = image(&containers, own, again)
                .await
                .map_err(|e| format!("the container {}: {e}", own.name))?;
            self.images.insert(key, (own.clone(), image));
        }
        Ok(())
    }

    /// Removes the containers of a worker: they run an image that is no more.
    pub async fn remove_all(&self, worker: &str) -> Result<(), String> {
        let (Some(containers), Some(gate)) = (&self.opened, self.gates.get(worker)) else { return Ok(()) };
        for class in &gate.cell().classes {
            containers.remove_all(class).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Gives a cell what its classes need. `namespaces` are those of the worker.
    pub fn add(
        &mut self,
        config: &WorkerConfig,
        namespaces: &BTreeMap<String, Namespace>,
        wired: &mut Wired,
    ) {
        let Some(containers) = self.opened.clone().filter(|_| self.wants(config)) else { return };
        let mut cell = Cell::default();
        let mut images = BTreeMap::new();
        for own in &config.containers {
            let image = self.images.get(&(config.name.clone(), own.class_name.clone()));
            let (Some(namespace), Some((_, image))) = (namespaces.get(&own.class_name), image) else {
                continue;
            };
            let class = Class {
                unique_key: namespace.unique_key.clone(),
                label: format!("{}-{}", config.name, own.class_name),
                image: image.clone(),
                limits: limits(own),
                max_instances: own.max_instances as usize,
            };
            images.insert(own.class_name.clone(), class.image_name());
            let made_of = match &own.image {
                ContainerImage::Dockerfile { file, .. } => super::shown(file),
                ContainerImage::Reference(image) => image.clone(),
            };
            let backing = format!("{made_of}, {} MiB, {} at most", own.size.memory_mib, own.max_instances);
            wired.table.push([format!("{}.ctx.container", own.class_name), "Container".to_owned(), backing]);
            cell.classes.push(class);
        }
        let gate = containers.gate(cell);
        self.gates.insert(config.name.clone(), gate.clone());
        crate::gates::give(&mut wired.spec, gate, images);
    }

    /// Removes all containers.
    pub async fn stop(&mut self) {
        if let Some(containers) = self.opened.take()
            && let Err(error) = containers.sweep().await
        {
            super::complain("containers could not be removed", &error.to_string());
        }
    }

    /// The engine, with nothing in it that an earlier session has left.
    async fn open(&mut self, config: &WorkerConfig, state: &Path) -> Result<Arc<Containers>, String> {
        if let Some(containers) = &self.opened {
            return Ok(containers.clone());
        }
        let named = self.engine.as_deref().or(config.dev.container_engine.as_deref());
        let engine = Engine::find(named, |name| std::env::var_os(name)).await.map_err(|tried| {
            format!(
                "{tried}\nA Docker engine is needed for the containers of this worker, and none answers. Start Docker or Podman \
                 (`podman system service`); one that listens elsewhere can be named in DOCKER_HOST or by --container-engine. To work \
                 without containers, set \"dev\": {{ \"enable_containers\": false }} in the configuration, or pass \
                 --enable-containers=false."
            )
        })?;
        let options = Options { sees_host: true, ..Options::default() };
        let containers = Containers::new(engine, &owner(state), options);
        let left = containers.sweep().await.map_err(|e| e.to_string())?;
        if left > 0 {
            say(&paint(Style::Dim, &format!("Removed {left} containers that an earlier session has left")));
        }
        self.opened = Some(containers.clone());
        Ok(containers)
    }
}

/// One session has the containers of one folder of state.
fn owner(state: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Of the processors, a container gets as many as there are: with the sixteenth of one that the smallest type has on Cloudflare, the
/// start of most servers takes longer than who waits for it does.
fn limits(own: &Container) -> Limits {
    Limits {
        memory: Some(own.size.memory_mib << 20),
        cpus: None,
        pids: Some(MAX_PIDS),
        disk: Some(own.size.disk_mb * 1_000_000),
    }
}

/// Builds or gets an image; Docker's id of it.
async fn image(containers: &Containers, own: &Container, again: bool) -> Result<String, String> {
    let engine = containers.engine();
    let program: Option<OsString> = std::env::var_os(PROGRAM).filter(|name| !name.is_empty());
    let cli = || {
        let cli = Cli::find(program.as_deref().map(OsStr::new), std::env::var_os("PATH").as_deref());
        let missing = "neither docker nor podman is on the PATH, and the image has to be built by one of them. WRANGLER_DOCKER_BIN may \
                       name it";
        cli.map(|cli| cli.at(engine.address())).ok_or(missing)
    };
    let name = match &own.image {
        ContainerImage::Dockerfile { file, context, arguments } => {
            say(&paint(Style::Dim, &format!("Building the image of the container {}", own.name)));
            let tame: String = own
                .name
                .to_lowercase()
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
                .collect();
            let tag = format!("skep-dev/{}:latest", tame.trim_matches('-'));
            cli()?.build_here(&tag, file, context, arguments).await?;
            tag
        }
        ContainerImage::Reference(image) => {
            let there = engine.has_image(image).await.map_err(|e| e.to_string())?;
            if !there || (again && !image.contains('@')) {
                say(&paint(Style::Dim, &format!("Pulling {image}")));
                let pulled = cli()?.pull(image).await;
                // What was made on this machine is in no registry.
                if let (Err(error), false) = (pulled, there) {
                    return Err(error);
                }
            }
            image.clone()
        }
    };
    engine.image_id(&name).await.map_err(|e| e.to_string())
}
