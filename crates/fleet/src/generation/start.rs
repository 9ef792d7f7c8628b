//! From a specification to a process that listens.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use skep_runtime::{Shutdown, ShutdownTrigger};
use skep_sandbox::{Group, GroupLimits, Permissions};
use skep_wire::{BindingTable, BoxFuture, Service, UnixClient, bind_unix, serve_unix};
use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::sync::{Notify, watch};

use super::lease::Counted;
use super::{Generation, now_ms};
use crate::capnp::document;
use crate::certificates::Certificates;
use crate::egress::Egress;
use crate::fleet::Shared;
use crate::guard::Guard;
use crate::limits::{Exceeded, Inside, Pace};
use crate::log::{CellLog, LogEvent, LogSink, is_out_of_memory, parse, start_failure};
use crate::message::message;
use crate::process::{Config, Started, each_line};
use crate::relay::relay;
use crate::render::{
    BINDINGS_SOCKET, DEBUG_SOCKET, EVENTS_SOCKET, HTTP_SOCKET, PULSE_FOLDER, PULSE_SOCKET, Storage,
    object_folder, object_keys, render,
};
use crate::spec::{Binding, CellSpec, Exposed};
use crate::usage::Usage;
use crate::watch::{Offence, Watched};

/// How long the engine may take from its start to listening.
const START_LIMIT: Duration = Duration::from_secs(30);

/// What the engine says of a socket is a short line.
const MAX_CONTROL_LINE: u64 = 16 << 10;

/// An engine needs fewer than ten.
const MAX_THREADS: u32 = 128;

/// Why a process did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The script's own fault: its exception or syntax error, in the engine's words.
    #[error("{0}")]
    Script(String),
    /// The machine's fault.
    #[error("cannot start a cell: {0}")]
    System(#[from] io::Error),
    /// The specification does not fit together: a bug of ours.
    #[error("cannot start a cell: no server for {0}")]
    MissingService(String),
}

impl From<skep_wire::ServeError> for StartError {
    fn from(error: skep_wire::ServeError) -> Self {
        Self::System(io::Error::other(error))
    }
}

#[derive(Deserialize)]
struct ControlEvent {
    event: String,
    socket: Option<String>,
    port: Option<u16>,
}

/// A process that was started and does not listen yet.
struct Coming {
    log: LogSink,
    folder: PathBuf,
    started: Started,
    /// Those that it will listen on.
    sockets: Vec<String>,
    servers: ShutdownTrigger,
    counted: Option<Counted>,
    usage: Option<Arc<Usage>>,
    group: Option<Group>,
}

impl Generation {
    /// Starts a process and returns when it listens.
    pub(crate) async fn start(
        shared: &Arc<Shared>,
        spec: &CellSpec,
        storage: Storage,
    ) -> Result<Arc<Self>, StartError> {
        if let Some(id) = spec.missing_services().into_iter().next() {
            return Err(StartError::MissingService(id));
        }
        let folder = shared.new_folder()?;
        let rendered = render(spec, &folder, storage);
        let config = match message(&rendered.config, &rendered.files) {
            Some(message) => Config::Message(message),
            None => {
                for (name, content) in &rendered.files {
                    std::fs::write(folder.join(name), content)?;
                }
                let config = folder.join("config.capnp");
                std::fs::write(&config, document(&rendered.config))?;
                Config::File(config)
            }
        };
        let certificates = shared.certificates()?;
        let permissions = permissions(spec, &folder, storage, certificates);
        for folder in &permissions.write {
            std::fs::create_dir_all(folder)?;
        }
        if !spec.takes_events() {
            std::fs::create_dir(folder.join(PULSE_FOLDER))?;
        }

        let (servers, stop) = Shutdown::new();
        serve_bindings(spec, &folder, &stop)?;
        for link in rendered.links {
            let listener = bind_unix(&folder.join(&link.socket))?;
            tokio::spawn(relay(listener, link, shared.clone(), stop.clone()));
        }
        // Many that start at once would all be late; some are on time.
        let _turn = shared.starts.acquire().await;
        let group = group(shared, spec)?;
        let jail = shared.sandbox.jail(permissions, group.as_ref());
        let options = options(spec, &folder);
        let egress = Egress::parse(&spec.egress).map_err(io::Error::other)?;
        let mut started = shared.launch.start(&shared.spawner, config, &options, &jail, certificates).await?;
        if let Some(listener) = started.connections.take() {
            let (process, pid) = (started.process.handle()?, started.process.id());
            let guard = Guard {
                script: spec.name.clone(),
                process,
                pid,
                folders: jail.write,
                egress,
                open: Mutex::default(),
            };
            tokio::spawn(guard.run(listener));
        }
        // What a trial says, the real one says again.
        let log = match storage {
            Storage::Real => shared.log.clone(),
            Storage::Throwaway => Arc::new(|_| {}),
        };
        let counted = (storage == Storage::Real).then(|| Counted::new(&shared.running));
        let usage = counted.is_some().then(|| spec.usage.clone());
        Self::come_up(
            spec,
            Coming { log, folder, started, sockets: rendered.sockets, servers, counted, usage, group },
        )
        .await
    }

    async fn come_up(spec: &CellSpec, coming: Coming) -> Result<Arc<Self>, StartError> {
        let Coming { log, folder, started, sockets, servers, counted, usage, group } = coming;
        let group = group.map(Arc::new);
        let Started { process, mut control, stdout, stderr, .. } = started;
        let pid = process.id();
        let killer = process.killer()?;
        let offence = Offence::default();
        // Until it listens, what it says is kept: it may be the reason why it does not.
        let early = Arc::new(Mutex::new(Some(Vec::new())));
        let pace = spec.limits.map(|_| Pace::new(Instant::now()));
        let reader = Reader {
            log: log.clone(),
            script: spec.name.clone(),
            early: early.clone(),
            pace,
            offence: offence.clone(),
        };
        let readers = [tokio::spawn(reader.clone().read(stdout)), tokio::spawn(reader.read(stderr))];
        let (ended_tx, ended) = watch::channel(None);
        if let Some(usage) = &usage {
            usage.begin(pid);
        }
        let (blamed, own_group) = (offence.clone(), group.clone());
        tokio::spawn(async move {
            // Its output ends when it does: the engine starts no processes that could hold it open.
            for reader in readers {
                let _ = reader.await;
            }
            if let Some(usage) = usage {
                usage.end(pid);
            }
            let how = process.reap().await.map_or_else(|e| e.to_string(), |status| status.to_string());
            if own_group.is_some_and(|group| group.ran_out_of_memory()) {
                let _ = blamed.set(Exceeded::Memory);
            }
            ended_tx.send_replace(Some(how));
        });

        let watched = match spec.limits {
            Some(limits) => {
                Some(Watched { pid, killer: killer.try_clone()?, limits, offence: offence.clone(), group })
            }
            None => None,
        };
        let over = async {
            match &watched {
                Some(watched) => watched.coming_up().await,
                None => std::future::pending().await,
            }
        };
        let listening = tokio::select! {
            listening = tokio::time::timeout(START_LIMIT, wait_listening(&mut control, sockets)) => listening,
            () = over => Ok(None),
        };
        let Ok(Some(inspector_port)) = listening else {
            killer.kill();
            let mut gone = ended.clone();
            let _ = gone.wait_for(Option::is_some).await;
            let said = early.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
            let _ = std::fs::remove_dir_all(&folder);
            return Err(StartError::Script(match (listening, offence.get()) {
                (_, Some(exceeded)) => exceeded.at_start().to_owned(),
                (Err(_), None) => format!("The script did not start within {} s", START_LIMIT.as_secs()),
                (Ok(_), None) => start_failure(&said),
            }));
        };
        let said = early.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        for event in said {
            log(CellLog { script: spec.name.clone(), event });
        }
        let takes_events = spec.takes_events();
        let pulse = UnixClient::new(folder.join(if takes_events { EVENTS_SOCKET } else { PULSE_SOCKET }));
        let busy = Arc::new(Notify::new());
        let this = Arc::new(Self {
            http: UnixClient::new(folder.join(HTTP_SOCKET)),
            events: takes_events.then(|| pulse.clone()),
            outbound: UnixClient::new(folder.join(Exposed::Outbound.socket())),
            folder,
            pid,
            inspector_port: inspector_port.filter(|_| spec.inspector),
            has_objects: spec.is_exclusive(),
            in_flight: AtomicUsize::new(0),
            caps: Mutex::default(),
            open: AtomicUsize::new(0),
            uses: AtomicU64::new(0),
            last_used: AtomicU64::new(now_ms()),
            _counted: counted,
            idle: Notify::new(),
            busy: busy.clone(),
            offence,
            retired: watch::Sender::new(false),
            killer,
            ended: ended.clone(),
            _servers: servers,
        });
        if let Some(watched) = watched {
            let (watch, mut ended) = (Arc::downgrade(&this), ended);
            let inside = move || {
                watch.upgrade().map_or_else(Inside::default, |generation| Inside {
                    one: generation.only_one(),
                    cap: generation.caps().keys().next().copied(),
                })
            };
            tokio::spawn(async move {
                tokio::select! {
                    _ = ended.wait_for(Option::is_some) => {}
                    () = watched.running(pulse, busy, inside) => {}
                }
            });
        }
        Ok(this)
    }
}

/// What the engine may do for `spec`, beside being the engine.
fn permissions(spec: &CellSpec, folder: &Path, storage: Storage, certificates: &Certificates) -> Permissions {
    let objects = object_folder(spec, folder, storage);
    let mut write = vec![folder.to_owned()];
    write.extend(object_keys(spec).map(|key| objects.join(key)));
    Permissions {
        read: certificates.files.clone(),
        list: spec.is_exclusive().then_some(objects).into_iter().collect(),
        write,
        // What goes out through an outbound worker needs no network of its own.
        network: spec.outbound.is_none(),
        listen: spec.inspector,
    }
}

/// How the engine is started, beside its configuration.
fn options(spec: &CellSpec, folder: &Path) -> Vec<OsString> {
    let mut options = Vec::new();
    if spec.inspector {
        options.push("--inspector-addr=127.0.0.1:0".into());
    }
    if spec.dispatched {
        options.push(format!("--debug-port=unix:{}", folder.join(DEBUG_SOCKET).display()).into());
    }
    options
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

/// The control group for a process of `spec`, which has limits.
fn group(shared: &Shared, spec: &CellSpec) -> io::Result<Option<Group>> {
    let Some(limits) = spec.limits else { return Ok(None) };
    // Two: one for the code, one for what collects its garbage. On a small machine that is no limit.
    let cores = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 2).then_some(2);
    let limits = GroupLimits { memory: limits.group_memory(), threads: MAX_THREADS, cores };
    shared.sandbox.group(&limits).map(Some)
}

fn serve_bindings(spec: &CellSpec, folder: &Path, stop: &Shutdown) -> Result<(), StartError> {
    let mut table = BindingTable::default();
    let dispatches = |id: &str| {
        spec.bindings.values().any(|b| matches!(b, Binding::Dispatch { service } if service == id))
    };
    for (id, service) in &spec.services {
        let mut service = service.clone();
        if dispatches(id) {
            service = Arc::new(Named { service, folder: CallerFolder(folder.into()) });
        }
        table.insert(id, service);
    }
    let listener = bind_unix(&folder.join(BINDINGS_SOCKET))?;
    tokio::spawn(serve_unix(listener, Arc::new(table), stop.clone()));
    Ok(())
}

/// Waits until the engine listens on all of `sockets`; `None` if it ended before. The inner value is the
/// inspector's port.
async fn wait_listening(
    control: &mut (impl tokio::io::AsyncBufRead + Unpin),
    mut sockets: Vec<String>,
) -> Option<Option<u16>> {
    let mut inspector = None;
    let mut line = String::new();
    while !sockets.is_empty() {
        line.clear();
        let read = (&mut *control).take(MAX_CONTROL_LINE).read_line(&mut line).await;
        if read.ok()? == 0 || !line.ends_with('\n') {
            return None;
        }
        let Ok(ControlEvent { event, socket, port }) = serde_json::from_str(&line) else { continue };
        match event.as_str() {
            "listen-inspector" => inspector = port,
            _ => sockets.retain(|name| Some(name) != socket.as_ref()),
        }
    }
    Some(inspector)
}

/// Reads what a process says.
#[derive(Clone)]
struct Reader {
    log: LogSink,
    script: String,
    /// Where it goes until the process listens.
    early: Arc<Mutex<Option<Vec<LogEvent>>>>,
    pace: Option<Pace>,
    /// What it says of itself may be the reason why it ends.
    offence: Offence,
}

impl Reader {
    async fn read(self, from: impl tokio::io::AsyncRead + Unpin) {
        each_line(from, self.pace, |line| {
            let Some(event) = parse(line) else { return };
            if is_out_of_memory(&event) {
                let _ = self.offence.set(Exceeded::Memory);
            }
            if let Some(early) = self.early.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                early.push(event);
                return;
            }
            (self.log)(CellLog { script: self.script.clone(), event });
        })
        .await;
    }
}
