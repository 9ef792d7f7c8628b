//! From a specification to a process that listens.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use skep_runtime::{Shutdown, ShutdownTrigger};
use skep_wire::UnixClient;
use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::sync::{Notify, OnceCell, watch};

use super::launch::{Around, launch};
use super::lease::Counted;
use super::{Generation, now_ms};
use crate::collector::{Collector, MOST, tend};
use crate::egress::Egress;
use crate::engine::Engine;
use crate::fleet::Shared;
use crate::guard::Guard;
use crate::limits::{Exceeded, Inside, Pace};
use crate::log::{CellLog, LogEvent, LogSink, is_out_of_memory, parse, start_failure};
use crate::process::{Started, each_line};
use crate::render::{EVENTS_SOCKET, HTTP_SOCKET, PULSE_SOCKET, Storage, collects, takes_events};
use crate::spec::{CellSpec, Exposed};
use crate::usage::Usage;
use crate::watch::{Files, Offence, Watched};

/// How long the engine may take from its start to listening.
const START_LIMIT: Duration = Duration::from_secs(30);

/// What the engine says of a socket is a short line.
const MAX_CONTROL_LINE: u64 = 16 << 10;

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
    engine: Engine,
    /// Those that it will listen on.
    sockets: Vec<String>,
    servers: ShutdownTrigger,
    takes_events: bool,
    counted: Option<Counted>,
    usage: Option<Arc<Usage>>,
    around: Around,
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
        let egress = Egress::parse(&spec.egress).map_err(io::Error::other)?;
        let machine = &shared.machine;
        let _turn = machine.starts.turn(shared.account).await;
        let (servers, stop) = Shutdown::new();
        let (offers, uploads) = Default::default();
        let around = Around { responses: spec.limits.map(|_| Arc::default()), offers, uploads, stop };
        let (mut engine, sockets) = launch(shared, spec, storage, &around).await?;
        if let Some(listener) = engine.started.connections.take() {
            let (process, pid) = (engine.started.process.handle()?, engine.started.process.id());
            let guard = Guard {
                script: spec.name.clone(),
                process,
                pid,
                folders: engine.own.clone(),
                egress,
                reaches: spec.containers.as_ref().map(|containers| containers.reaches.clone()),
                open: Mutex::default(),
            };
            tokio::spawn(guard.run(listener));
        }
        if let Some(containers) = spec.containers.as_ref().filter(|_| storage == Storage::Real) {
            let process = &engine.started.process;
            (containers.runs)(process.id(), process.handle()?);
        }
        // What a trial says, the real one says again.
        let log = match storage {
            Storage::Real => shared.log.clone(),
            Storage::Throwaway => Arc::new(|_| {}),
        };
        let counted = (storage == Storage::Real).then(|| Counted::new(&shared.cells, &machine.cells));
        let usage = counted.is_some().then(|| spec.usage.clone());
        let takes_events = takes_events(spec, storage);
        let coming = Coming { log, engine, sockets, servers, takes_events, counted, usage, around };
        Self::come_up(spec, coming).await
    }

    async fn come_up(spec: &CellSpec, coming: Coming) -> Result<Arc<Self>, StartError> {
        let Coming { log, engine, sockets, servers, takes_events, counted, usage, around } = coming;
        let Engine { folder, started, group, .. } = engine;
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

        let collector = collects(spec).then(|| Collector::new(&folder.0, takes_events));
        let watched = match spec.limits {
            Some(limits) => {
                let collector = collector.clone();
                let next_alarm = spec.next_alarm.clone();
                let (killer, offence) = (killer.try_clone()?, offence.clone());
                let files = spec.file_limit.clone().map(Files::new);
                Some(Watched { pid, killer, limits, offence, group, collector, files, next_alarm })
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
        let pulse = UnixClient::new(folder.0.join(if takes_events { EVENTS_SOCKET } else { PULSE_SOCKET }));
        let busy = Arc::new(Notify::new());
        let this = Arc::new(Self {
            http: UnixClient::new(folder.0.join(HTTP_SOCKET)),
            events: takes_events.then(|| pulse.clone()),
            pulse: pulse.clone(),
            outbound: UnixClient::new(folder.0.join(Exposed::Outbound.socket())),
            folder,
            pid,
            inspector_port: inspector_port.filter(|_| spec.inspector),
            has_objects: spec.is_exclusive(),
            has_workflows: !spec.workflows.is_empty(),
            in_flight: AtomicUsize::new(0),
            caps: Mutex::default(),
            open: AtomicUsize::new(0),
            called: AtomicUsize::new(0),
            ready: OnceCell::new(),
            bounds: collector.clone().filter(|_| spec.limits.is_some()),
            leads: spec.containers.as_ref().map(|containers| containers.led.clone()),
            uses: AtomicU64::new(0),
            last_used: AtomicU64::new(now_ms()),
            _counted: counted,
            idle: Notify::new(),
            busy: busy.clone(),
            responses: around.responses,
            offers: around.offers,
            uploads: spec.dispatches().then_some(around.uploads),
            offence,
            retired: watch::Sender::new(false),
            killer,
            ended: ended.clone(),
            _servers: servers,
        });
        let mut gone = ended;
        if let Some(watched) = watched {
            let watch = Arc::downgrade(&this);
            let inside = move || {
                watch.upgrade().map_or_else(Inside::default, |generation| Inside {
                    one: generation.only_one(),
                    cap: generation.caps().keys().next().copied(),
                    none: generation.is_alone(),
                })
            };
            tokio::spawn(async move {
                tokio::select! {
                    _ = gone.wait_for(Option::is_some) => {}
                    () = watched.running(pulse, busy, inside) => {}
                }
            });
        } else {
            let (killer, offence) = (this.killer.try_clone()?, this.offence.clone());
            tokio::spawn(async move {
                tokio::select! {
                    _ = gone.wait_for(Option::is_some) => {}
                    () = tend(collector, pid, busy, MOST) => {
                        let _ = offence.set(Exceeded::Memory);
                        killer.kill();
                    }
                }
            });
        }
        // An alarm calls nobody else first.
        if this.has_objects {
            this.ready().await;
        }
        Ok(this)
    }
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
