//! An engine with a configuration: one that waited for it, or a new one.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use skep_runtime::Shutdown;
use skep_sandbox::GroupLimits;
use skep_wire::{
    AtHome, BindingTable, BoxFuture, Service, bind_unix, serve_cell, serve_connections, serve_unix,
};

use super::StartError;
use crate::capnp::document;
use crate::engine::{Engine, options, permissions};
use crate::fleet::Shared;
use crate::limits::Limits;
use crate::message::message;
use crate::offering::{Dispatching, Offering};
use crate::offers::Offers;
use crate::relay::{Calls, relay};
use crate::render::{
    BINDINGS_SOCKET, Link, PULSE_FOLDER, Storage, connections_socket, object_folder, object_keys, render,
    takes_events,
};
use crate::responses::{RESPONSES, Responses};
use crate::spec::{Binding, CellSpec};
use crate::stock::Kind;
use crate::uploads::Uploads;

/// What is around a process on our side.
pub(super) struct Around {
    /// Which requests it answers, where its code is told.
    pub responses: Option<Arc<Responses>>,
    /// Content that it was given.
    pub offers: Arc<Offers>,
    /// What visitors upload to it.
    pub uploads: Uploads,
    /// Ends the servers of its sockets.
    pub stop: Shutdown,
}

/// An engine needs fewer than ten.
const MAX_THREADS: u32 = 128;

/// An engine that has the configuration of `spec`, with all that is to be around it, and the sockets that it will listen
/// on.
pub(super) async fn launch(
    shared: &Arc<Shared>,
    spec: &CellSpec,
    storage: Storage,
    around: &Around,
) -> Result<(Engine, Vec<String>), StartError> {
    let machine = &shared.machine;
    let render_in = |folder: &Path| {
        let rendered = render(spec, folder, storage);
        let message = message(&rendered.config, &rendered.files);
        (rendered, message)
    };
    let waiting = match Kind::of(spec, storage, machine.is_jailed()).and_then(|kind| machine.take(kind)) {
        None => None,
        Some(engine) => match render_in(&engine.folder.0) {
            (rendered, Some(message)) => Some((engine, rendered, message)),
            // It can only be given a message.
            (_, None) => {
                tokio::spawn(engine.end());
                None
            }
        },
    };
    if let Some((mut engine, rendered, message)) = waiting {
        surround(shared, spec, storage, &engine.folder.0, rendered.links, around)?;
        if let (Some(group), Some(limits)) = (&engine.group, &spec.limits) {
            group.limit(&group_limits(limits))?;
        }
        engine.started.configure(&message).await;
        return Ok((engine, rendered.sockets));
    }

    let folder = machine.new_folder()?;
    let (rendered, message) = render_in(&folder.0);
    let file = match message {
        Some(_) => None,
        None => {
            for (name, content) in &rendered.files {
                std::fs::write(folder.0.join(name), content)?;
            }
            let file = folder.0.join("config.capnp");
            std::fs::write(&file, document(&rendered.config))?;
            Some(file)
        }
    };
    surround(shared, spec, storage, &folder.0, rendered.links, around)?;
    let group = match &spec.limits {
        None => None,
        Some(limits) => {
            let group = machine.group()?;
            group.limit(&group_limits(limits))?;
            Some(group)
        }
    };
    let permissions = permissions(spec, &folder.0, storage, machine.certificates()?);
    let options = options(spec, &folder.0);
    let mut engine = machine.start(folder, permissions, group, &options, file.as_deref()).await?;
    if let Some(message) = &message {
        engine.started.configure(message).await;
    }
    Ok((engine, rendered.sockets))
}

/// Makes what is in a process's folder, and around it: the folders that it writes, and the sockets that it calls.
fn surround(
    shared: &Arc<Shared>,
    spec: &CellSpec,
    storage: Storage,
    folder: &Path,
    links: Vec<Link>,
    around: &Around,
) -> Result<(), StartError> {
    let objects = object_folder(spec, folder, storage);
    for key in object_keys(spec) {
        std::fs::create_dir_all(objects.join(key))?;
    }
    if !takes_events(spec, storage) {
        std::fs::create_dir(folder.join(PULSE_FOLDER))?;
    }
    serve_bindings(spec, folder, around)?;
    for (id, service) in &spec.connections {
        let listener = bind_unix(&folder.join(connections_socket(id)))?;
        tokio::spawn(serve_connections(listener, service.clone(), around.stop.clone()));
    }
    let calls = Calls::of_a_cell();
    for link in links {
        let listener = bind_unix(&folder.join(&link.socket))?;
        tokio::spawn(relay(listener, link, shared.clone(), calls.clone(), around.stop.clone()));
    }
    Ok(())
}

/// The folder of the cell that calls: among the extensions of what comes by a dispatch namespace binding.
#[derive(Clone, Debug)]
pub struct CallerFolder(pub Arc<Path>);

/// Says who calls.
struct Named {
    service: Arc<dyn Service>,
    folder: CallerFolder,
}

impl Service for Named {
    fn call(&self, mut request: skep_wire::Request) -> BoxFuture<'_, skep_wire::Response> {
        request.extensions_mut().insert(self.folder.clone());
        self.service.call(request)
    }
}

/// What the kernel is to keep of a script's limits.
fn group_limits(limits: &Limits) -> GroupLimits {
    // Two: one for the code, one for what collects its garbage. On a small machine that is no limit.
    let cores = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 2).then_some(2);
    GroupLimits { memory: limits.group_memory(), threads: MAX_THREADS, cores }
}

fn serve_bindings(spec: &CellSpec, folder: &Path, around: &Around) -> Result<(), StartError> {
    let mut table = BindingTable::default();
    // There may be ten thousand of each.
    let (mut buckets, mut dispatchers) = (HashSet::new(), HashSet::new());
    for binding in spec.bindings.values() {
        match binding {
            Binding::R2 { service } => drop(buckets.insert(service)),
            Binding::Dispatch { service } => drop(dispatchers.insert(service)),
            _ => {}
        }
    }
    for (id, service) in &spec.services {
        let mut service = service.clone();
        let offers = around.offers.clone();
        let dispatches = dispatchers.contains(id);
        if buckets.contains(id) {
            service = Arc::new(Offering { service, offers });
        } else if dispatches {
            service = Arc::new(Dispatching { service, offers, uploads: around.uploads.clone() });
            service = Arc::new(Named { service, folder: CallerFolder(folder.into()) });
        }
        // These call other cells.
        if dispatches || spec.outbound.as_ref() == Some(id) {
            service = Arc::new(AtHome::new(service));
        }
        table.insert(id, service);
    }
    if let Some(responses) = &around.responses {
        table.insert(RESPONSES, responses.clone());
    }
    let listener = bind_unix(&folder.join(BINDINGS_SOCKET))?;
    // Who has no limits has no neighbours either.
    match spec.limits {
        Some(_) => tokio::spawn(serve_cell(listener, Arc::new(table), around.stop.clone())),
        None => tokio::spawn(serve_unix(listener, Arc::new(table), around.stop.clone())),
    };
    Ok(())
}
