//! What one Skep has of an engine: its containers, their networks, and the ways into them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value as Json, json};

use crate::create::{self, Around};
use crate::egress::{Aside, Led, Process, Shared, Way, hold};
use crate::engine::{Engine, EngineError, Reply};
use crate::execs::Execs;
use crate::gate::Gate;
use crate::ingress::Ingress;
use crate::names::{Cell, Class, Instance, docker_name, tame};
use crate::policy::Refusal;

/// The label by which all that is ours is found again.
pub(crate) const OWNER: &str = "dev.skep.owner";
/// The labels of a container: what people call its class, and the object.
pub(crate) const CLASS: &str = "dev.skep.class";
pub(crate) const OBJECT: &str = "dev.skep.object";
/// How many bytes it may write, if Docker does not keep it to them.
pub(crate) const DISK: &str = "dev.skep.disk";
/// How long one that is replaced may go on, in seconds.
const RETIRED: u32 = 15 * 60;

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Docker's id.
    pub id: String,
    /// The object's id.
    pub object: String,
    /// What Docker calls the image.
    pub image: String,
    /// When it was made, in seconds since 1970.
    pub created_s: i64,
}

/// How an engine is used.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether containers that may reach the internet find this machine as `host.docker.internal`: on a developer's machine, not
    /// on one where others' containers run.
    pub sees_host: bool,
    /// What the machine calls the bridges of the networks with a way to the internet and without, so that what goes through
    /// them can be bounded. They have at most 15 letters.
    pub bridges: Option<[String; 2]>,
    /// What becomes of a connection to an address when what a container sends out is led past its worker. Without it, all are passed on.
    pub way: Option<fn(SocketAddrV4) -> Way>,
}

/// The containers of one Skep.
#[derive(Debug)]
pub struct Containers {
    pub(crate) engine: Engine,
    pub(crate) owner: String,
    pub(crate) options: Options,
    /// Whether the engine's storage keeps a container to a size. Known once it refused to.
    sized: AtomicBool,
    state: Mutex<State>,
    pub(crate) execs: Execs,
    /// What serves that which containers send out, once one does.
    pub(crate) aside: Mutex<Option<Aside>>,
    /// The networks that are there: with a way out, and without.
    pub(crate) networks: tokio::sync::Mutex<[bool; 2]>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) known: HashMap<Instance, Known>,
    /// The process of the cell that has a namespace's objects now.
    pub(crate) processes: HashMap<String, Arc<Process>>,
    starts: u64,
}

/// What is known of an object's container.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) ingress: Option<Arc<Ingress>>,
    /// What the engine said last of what it may reach.
    pub(crate) rules: Shared,
    /// What it sends out is led to its worker.
    pub(crate) led: Option<Led>,
    /// What Docker calls it, as part of a path, once it was made.
    pub(crate) path: String,
    pub(crate) address: Option<IpAddr>,
    /// It runs, or is about to; the number of the start that made it so.
    pub(crate) running: Option<u64>,
}

impl Containers {
    /// What `owner` has of `engine`: one name for each Skep that uses the same engine, of letters and digits.
    pub fn new(engine: Engine, owner: &str, options: Options) -> Arc<Self> {
        Arc::new(Self {
            engine,
            owner: tame(owner),
            options,
            sized: AtomicBool::new(true),
            state: Mutex::default(),
            execs: Execs::default(),
            aside: Mutex::default(),
            networks: tokio::sync::Mutex::default(),
        })
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The gate of one script.
    pub fn gate(self: &Arc<Self>, cell: Cell) -> Arc<Gate> {
        Arc::new(Gate::new(self.clone(), cell))
    }

    /// Removes all containers and networks of this owner: what a Skep that was killed has left, at the start, and all at the end.
    /// How many containers there were.
    pub async fn sweep(&self) -> Result<usize, EngineError> {
        let removed = self.remove_found(None).await?;
        let filters = encoded(&json!({ "label": [format!("{OWNER}={}", self.owner)] }));
        let mut networks = self.networks.lock().await;
        let found = self.engine.get(&format!("/networks?filters={filters}")).await?.checked()?;
        for own in found.as_array().into_iter().flatten() {
            if let Some(id) = own["Id"].as_str() {
                self.engine.delete(&format!("/networks/{id}")).await?;
            }
        }
        *networks = [false; 2];
        self.engine.unname(&hold::image(&self.owner)).await?;
        self.execs.clear();
        {
            let mut state = self.state();
            let processes = std::mem::take(&mut state.processes);
            *state = State { processes, ..State::default() };
        }
        Ok(removed)
    }

    /// How many containers of a namespace run.
    pub fn running(&self, unique_key: &str) -> usize {
        self.state().running(unique_key)
    }

    /// The containers of a class that run, by the label that its containers have.
    pub async fn list(&self, label: &str) -> Result<Vec<Listed>, EngineError> {
        let found = self.found(Some(label), true).await?;
        let text = |own: &Json| own.as_str().unwrap_or_default().to_owned();
        let listed = found.iter().map(|own| Listed {
            id: text(&own["Id"]),
            object: text(&own["Labels"][OBJECT]),
            image: text(&own["Image"]),
            created_s: own["Created"].as_i64().unwrap_or_default(),
        });
        Ok(listed.collect())
    }

    /// Lets the containers of a class end: each is told to, and ended if it has not after fifteen minutes, as at Cloudflare. That
    /// is not waited for.
    pub async fn retire_all(&self, class: &Class) -> Result<(), EngineError> {
        for own in self.list(&class.label).await? {
            let engine = self.engine.clone();
            tokio::spawn(async move {
                let stopped = engine.post(&format!("/containers/{}/stop?t={RETIRED}", own.id), None).await;
                let removed = match stopped {
                    Ok(_) => engine.remove(&format!("/containers/{}", own.id)).await.map(drop),
                    Err(error) => Err(error),
                };
                if let Err(error) = removed {
                    tracing::warn!(%error, "a container could not be replaced");
                }
            });
        }
        Ok(())
    }

    /// Removes the containers of the objects of a namespace: of a class that is no more, or whose image is another one now.
    pub async fn remove_all(&self, class: &Class) -> Result<(), EngineError> {
        self.remove_found(Some(&class.label)).await?;
        let key = &class.unique_key;
        let held: Vec<String> = {
            let mut state = self.state();
            let own = state.known.iter_mut().filter(|(own, _)| own.unique_key == *key);
            own.filter_map(|(_, own)| own.ended().then(|| own.path.clone())).collect()
        };
        for path in held {
            self.let_go(&path).await;
        }
        Ok(())
    }

    /// What Docker lists of this owner's containers: those of a class, if one is named, and those that run, if only they count.
    pub(crate) async fn found(&self, class: Option<&str>, running: bool) -> Result<Vec<Json>, EngineError> {
        let mut labels = vec![format!("{OWNER}={}", self.owner)];
        labels.extend(class.map(|label| format!("{CLASS}={}", tame(label))));
        let mut filters = json!({ "label": labels });
        if running {
            filters["status"] = json!(["running"]);
        }
        let target = format!("/containers/json?all=true&filters={}", encoded(&filters));
        let found = self.engine.get(&target).await?.checked()?;
        Ok(found.as_array().cloned().unwrap_or_default())
    }

    /// Removes those, whether they run or not. How many there were.
    async fn remove_found(&self, class: Option<&str>) -> Result<usize, EngineError> {
        let found = self.found(class, false).await?;
        let ids: Vec<&str> = found.iter().filter_map(|own| own["Id"].as_str()).collect();
        for id in &ids {
            self.engine.remove(&format!("/containers/{id}")).await?;
        }
        Ok(ids.len())
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What Docker calls the container of `instance`, as part of a path.
    pub(crate) fn path(&self, class: &Class, instance: &Instance) -> String {
        format!("/containers/{}", docker_name(&self.owner, class, &instance.id))
    }

    /// Makes the container of an object, which does not run yet.
    pub(crate) async fn create(
        &self,
        class: &Class,
        instance: &Instance,
        sent: &[u8],
    ) -> Result<Reply, Refusal> {
        let start = self.state().reserve(class, instance)?;
        let made = self.make(class, instance, sent).await;
        if !made.as_ref().is_ok_and(|reply| reply.status.is_success()) {
            self.state().ended(instance, start);
            self.let_go(&self.path(class, instance)).await;
        }
        made
    }

    async fn make(&self, class: &Class, instance: &Instance, sent: &[u8]) -> Result<Reply, Refusal> {
        let name = docker_name(&self.owner, class, &instance.id);
        let rules = self.rules(instance);
        let (internet, led) = {
            let rules = rules.lock();
            (rules.internet, !rules.hosts.is_empty())
        };
        let mut network = self.network(internet).await?;
        let mut sees_host = internet && self.sees_host().await?;
        if led {
            network = self.hold(&name, instance, &network, internet, sees_host).await?;
            // What is said of a network is said to its first container.
            sees_host = false;
        }
        let sized = self.sized.load(Ordering::Relaxed);
        let labels = |sized: bool| {
            let mut labels = json!({ OWNER: self.owner, CLASS: tame(&class.label), OBJECT: instance.id });
            if let Some(disk) = class.limits.disk.filter(|_| !sized) {
                labels[DISK] = disk.to_string().into();
            }
            labels
        };
        let mut around = Around {
            network: &network,
            labels: labels(sized),
            sized,
            sees_host,
            internet: internet || led,
            is_podman: self.engine.is_podman(),
        };
        let target = format!("/containers/create?name={name}");
        let mut reply = self.engine.post(&target, Some(&create::body(class, sent, &around)?)).await?;
        if around.sized && !reply.status.is_success() && is_about_storage(&reply.message()) {
            // Few storages can; which, Docker says only when it is asked to.
            self.sized.store(false, Ordering::Relaxed);
            around.sized = false;
            around.labels = labels(false);
            reply = self.engine.post(&target, Some(&create::body(class, sent, &around)?)).await?;
        }
        if let Some(known) = self.state().known.get_mut(instance) {
            known.path = self.path(class, instance);
        }
        if reply.status == StatusCode::NOT_FOUND {
            tracing::error!(image = class.image, "the image of a container is not there");
        }
        Ok(reply)
    }

    /// Starts the container of an object.
    pub(crate) async fn start(
        self: &Arc<Self>,
        class: &Class,
        instance: &Instance,
    ) -> Result<Reply, Refusal> {
        let start = self.state().reserve(class, instance)?;
        let path = self.path(class, instance);
        let reply = self.engine.post(&format!("{path}/start"), None).await;
        if !reply
            .as_ref()
            .is_ok_and(|reply| reply.status.is_success() || reply.status == StatusCode::NOT_MODIFIED)
        {
            self.state().ended(instance, start);
            return Ok(reply?);
        }
        let reply = reply?;
        self.locate(class, instance).await?;
        let (containers, instance) = (Arc::downgrade(self), instance.clone());
        let engine = self.engine.clone();
        tokio::spawn(async move {
            // However it ends, nobody waits for this one any more.
            let _ = engine.post(&format!("{path}/wait"), None).await;
            if let Some(containers) = containers.upgrade()
                && containers.state().ended(&instance, start)
            {
                containers.let_go(&path).await;
            }
        });
        Ok(reply)
    }

    /// Finds the address of a container that runs.
    async fn locate(&self, class: &Class, instance: &Instance) -> Result<(), EngineError> {
        let inspected = self.engine.get(&format!("{}/json", self.path(class, instance))).await?.checked()?;
        let networks = inspected["NetworkSettings"]["Networks"].as_object();
        if networks.is_none_or(serde_json::Map::is_empty) {
            // It is in the network of another one, whose address is known.
            return Ok(());
        }
        let address =
            networks.into_iter().flatten().find_map(|(_, own)| own["IPAddress"].as_str()?.parse().ok());
        if let Some(known) = self.state().known.get_mut(instance) {
            known.address = address;
        }
        Ok(())
    }

    /// Removes the container of an object.
    pub(crate) async fn remove(&self, class: &Class, instance: &Instance) -> Result<Reply, Refusal> {
        let path = self.path(class, instance);
        let reply = self.engine.remove(&path).await?;
        if reply.status.is_success() || reply.status == StatusCode::NOT_FOUND {
            self.execs.forget(instance);
            let held = self.state().known.get_mut(instance).is_some_and(Known::ended);
            if held {
                self.let_go(&path).await;
            }
        }
        Ok(reply)
    }
}

/// Whether Docker refuses a size: each of its storages says it in words of its own.
fn is_about_storage(message: &str) -> bool {
    let message = message.to_lowercase();
    message.contains("storage") || message.contains("quota")
}

/// Filters as part of a query.
fn encoded(filters: &Json) -> String {
    utf8_percent_encode(&filters.to_string(), NON_ALPHANUMERIC).to_string()
}

impl Known {
    /// Whether what it sent out was led elsewhere.
    fn ended(&mut self) -> bool {
        self.running = None;
        self.address = None;
        self.rules.lock().authority = None;
        self.led.take().is_some()
    }
}

impl State {
    fn running(&self, unique_key: &str) -> usize {
        let own = self.known.iter().filter(|(instance, _)| instance.unique_key == unique_key);
        own.filter(|(_, known)| known.running.is_some()).count()
    }

    /// Counts one more, if the class may have it. The number of this start.
    fn reserve(&mut self, class: &Class, instance: &Instance) -> Result<u64, Refusal> {
        let runs = self.known.get(instance).is_some_and(|known| known.running.is_some());
        if !runs && self.running(&class.unique_key) >= class.max_instances {
            return Err(Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                format!(
                    "Maximum number of running container instances exceeded. Try again later, or try configuring a higher value for \
                     max_instances (it is {})",
                    class.max_instances
                ),
            ));
        }
        self.starts += 1;
        self.known.entry(instance.clone()).or_default().running = Some(self.starts);
        Ok(self.starts)
    }

    /// The container that `start` was about has ended; whether what it sent out was led elsewhere.
    fn ended(&mut self, instance: &Instance, start: u64) -> bool {
        let known = self.known.get_mut(instance).filter(|known| known.running == Some(start));
        known.is_some_and(Known::ended)
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Refused { status, message } => Self::new(status, message),
            absent @ EngineError::Absent { .. } => Self::new(StatusCode::BAD_GATEWAY, absent.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create::Limits;

    fn class(most: usize) -> Class {
        Class {
            unique_key: "k".into(),
            label: "Box".into(),
            image: "i:1".into(),
            limits: Limits::default(),
            max_instances: most,
        }
    }

    fn instance(n: u8) -> Instance {
        Instance { unique_key: "k".into(), id: format!("{n:064x}") }
    }

    #[test]
    fn no_more_run_than_the_class_may_have() {
        let (mut state, class) = (State::default(), class(2));
        let first = state.reserve(&class, &instance(1)).unwrap();
        let second = state.reserve(&class, &instance(2)).unwrap();
        let refused = state.reserve(&class, &instance(3)).unwrap_err();
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(refused.message.contains("max_instances"));
        // The same one again is no other one, and what is said of its first start means nothing any more.
        state.reserve(&class, &instance(1)).unwrap();
        state.ended(&instance(1), first);
        assert!(state.reserve(&class, &instance(3)).is_err());
        state.ended(&instance(2), second);
        state.reserve(&class, &instance(3)).unwrap();
        assert_eq!(state.running("k"), 2);
    }
}
