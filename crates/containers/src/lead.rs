//! Which containers have what they send out led to their worker, and from when.

use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};

use http::StatusCode;
use serde_json::{Value as Json, json};

use crate::archive;
use crate::containers::{Containers, OWNER};
use crate::egress::{self, Aside, Place, Process, Shared, Way, hold};
use crate::engine::Reply;
use crate::names::{Cell, Instance};
use crate::policy::Refusal;

/// What a container is called that holds a network for the one with the name before it.
const HOLDS: &str = "-net";

impl Containers {
    /// What holds of a container now and later.
    pub(crate) fn rules(&self, instance: &Instance) -> Shared {
        self.state().known.entry(instance.clone()).or_default().rules.clone()
    }

    /// What the engine of a cell says of what a container may reach. When this returns, it holds.
    pub(crate) async fn configure(&self, instance: &Instance, settings: &Json) -> Result<(), String> {
        let said = |list: &Json| {
            let hosts = list.as_array().into_iter().flatten().filter_map(Json::as_str);
            hosts.map(str::to_ascii_lowercase).collect::<Vec<String>>()
        };
        let hosts = said(&settings["dns"]["allowHostnames"]);
        if !hosts.is_empty() {
            self.can_lead()?;
        }
        let begins = {
            let mut state = self.state();
            let process = state.processes.get(&instance.unique_key).cloned();
            let known = state.known.entry(instance.clone()).or_default();
            let mut rules = known.rules.lock();
            if let Some(port) = settings["port"].as_u64().and_then(|port| u16::try_from(port).ok()) {
                rules.port = Some(port).filter(|port| *port > 0);
            }
            // It may be another process that has the port now.
            rules.process = process;
            rules.door = None;
            if let Some(enabled) = settings["internet"]["enabled"].as_bool() {
                rules.internet = enabled;
            }
            if settings["dns"]["allowHostnames"].is_array() {
                rules.hosts = hosts;
            }
            let wanted = !rules.hosts.is_empty();
            drop(rules);
            // One that does not run yet is led from its start.
            (wanted && known.led.is_none() && known.address.is_some()).then(|| known.path.clone())
        };
        match begins {
            Some(path) => self.lead(instance, &path).await.map(drop),
            None => Ok(()),
        }
    }

    /// The certificate of the authority that signs for the servers whose part the worker of a container plays.
    pub(crate) fn certificate(&self, instance: &Instance) -> Result<String, String> {
        self.rules(instance).authority().map(|authority| authority.pem())
    }

    /// Puts that certificate where the container at `path` looks for it.
    pub(crate) async fn give_certificate(&self, path: &str, instance: &Instance) -> Result<Reply, Refusal> {
        let failed = |why: String| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why);
        let certificate = self.certificate(instance).map_err(failed)?;
        let archive = archive::of_file(egress::PLACE, 0o444, certificate.as_bytes());
        Ok(self.engine().unpack(path, archive.map_err(|error| failed(error.to_string()))?).await?)
    }

    /// Takes note of the process that has the objects of `cell` now.
    pub(crate) fn run_by(&self, cell: &Cell, id: u32, handle: OwnedFd) {
        let process = Arc::new(Process::new(id, handle));
        let keys = cell.classes.iter().map(|class| class.unique_key.clone());
        self.state().processes.extend(keys.map(|key| (key, process.clone())));
    }

    /// How many connections of the containers of `cell` that are led have begun, and are there.
    pub(crate) fn led(&self, cell: &Cell) -> Option<(u64, usize)> {
        let state = self.state();
        let own = state.known.iter().filter(|(instance, known)| {
            known.led.is_some() && known.running.is_some() && cell.class(instance).is_some()
        });
        own.map(|(_, known)| known.rules.used()).reduce(|one, other| (one.0 + other.0, one.1 + other.1))
    }

    /// Whether what containers send out can be led here at all.
    fn can_lead(&self) -> Result<(), String> {
        let why = if self.engine().is_podman() {
            "with Podman"
        } else if !rustix::process::geteuid().is_root() {
            "unless Skep runs as root, which it takes to enter the network of a container"
        } else {
            return Ok(());
        };
        Err(format!(
            "interceptOutboundHttp(), interceptAllOutboundHttp(), interceptOutboundHttps() and interceptOutboundTcp() do not work on \
             Skep {why}: what a container sends out does not go to the worker"
        ))
    }

    /// Leads what the container at `path` sends out; its address.
    async fn lead(&self, instance: &Instance, path: &str) -> Result<Option<std::net::IpAddr>, String> {
        let inspected = self.engine().get(&format!("{path}/json")).await.and_then(|reply| reply.checked());
        let inspected = inspected.map_err(|e| e.to_string())?;
        let pid =
            inspected["State"]["Pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
        let pid = pid.ok_or("the container has ended")?;
        let id = inspected["Id"].as_str().unwrap_or_default();
        let way = self.options.way.unwrap_or(|_| Way::Open);
        let failed =
            |e: std::io::Error| format!("what the container sends out cannot be led to the worker: {e}");
        let place = self.aside().map_err(failed)?;
        let led = egress::lead(id, pid, self.rules(instance), way, place).await.map_err(failed)?;
        let networks = inspected["NetworkSettings"]["Networks"].as_object();
        let address =
            networks.into_iter().flatten().find_map(|(_, own)| own["IPAddress"].as_str()?.parse().ok());
        if let Some(known) = self.state().known.get_mut(instance).filter(|known| known.running.is_some()) {
            known.led = Some(led);
        }
        Ok(address)
    }

    /// The thread that serves what containers send out.
    fn aside(&self) -> std::io::Result<Place> {
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(aside) = aside.as_ref() {
            return Ok(aside.place());
        }
        Ok(aside.insert(Aside::start()?).place())
    }

    /// Makes a network of its own for the container that will be called `name`, in which what is sent out is led to its worker;
    /// what Docker calls that network.
    pub(crate) async fn hold(
        &self,
        name: &str,
        instance: &Instance,
        network: &str,
        internet: bool,
        sees_host: bool,
    ) -> Result<String, Refusal> {
        let failed = |why: String| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why);
        self.can_lead().map_err(|why| Refusal::new(StatusCode::NOT_IMPLEMENTED, why))?;
        let image = hold::image(&self.owner);
        hold::prepare(self.engine(), &image).await?;
        let path = format!("/containers/{name}");
        self.let_go(&path).await;
        let body = hold::body(&image, network, &json!({ OWNER: self.owner }), internet, sees_host);
        let made = self.engine().post(&format!("/containers/create?name={name}{HOLDS}"), Some(&body)).await?;
        let made = made.checked()?;
        let id = made["Id"].as_str().unwrap_or_default().to_owned();
        self.engine().post(&format!("/containers/{id}/start"), None).await?.checked()?;
        let address = self.lead(instance, &format!("/containers/{id}")).await.map_err(failed)?;
        if let Some(known) = self.state().known.get_mut(instance) {
            known.address = address;
        }
        Ok(format!("container:{id}"))
    }

    /// Removes what holds a network for the container at `path`, if something does.
    pub(crate) async fn let_go(&self, path: &str) {
        let removed = self.engine().delete(&format!("{path}{HOLDS}?force=true&v=true")).await;
        let removed =
            removed.map(
                |reply| if reply.status == StatusCode::NOT_FOUND { Ok(Json::Null) } else { reply.checked() },
            );
        if let Err(error) | Ok(Err(error)) = removed {
            tracing::warn!(%error, "the network of a container stays");
        }
    }
}
