//! A script as others see it: who takes a request, an event, a deploy.

mod supervisor;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use skep_runtime::{Backlog, Bounds, Waiting};
use skep_wire::{SendError, UnixClient, full, read_all};
use tokio::sync::{mpsc, oneshot, watch};

use crate::cells::Cells;
use crate::fleet::{Shared, Wanted};
use crate::generation::{Generation, Lease, StartError};
use crate::spec::CellSpec;
use supervisor::Supervisor;

/// How long a request waits for a cell that is being started or replaced.
const WAIT: Duration = Duration::from_secs(30);
/// An event's outcome is small JSON.
const MAX_EVENT_REPLY: usize = 16 << 20;

/// Bytes of large events that a script has not taken.
const EVENTS: Bounds = Bounds { own: 32 << 20, all: 256 << 20, little: 1 << 20 };
/// Of all scripts.
static ALL_EVENTS: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// Whether requests can be taken.
#[derive(Clone, Debug)]
enum State {
    /// Nothing was deployed yet.
    Asleep,
    /// Soon.
    Starting,
    /// Yes, by these.
    Ready(Cells),
    /// Not until the next deploy: why.
    Broken(Arc<str>),
    /// Not for a while: it used too much, again.
    Resting,
    /// Never again.
    Stopped,
}

impl State {
    /// A lease of a process that lives, if there is one to ask.
    fn lease(&self, most: usize) -> Option<Result<Lease, Unavailable>> {
        let Self::Ready(cells) = self else { return None };
        let cell = cells.least_busy();
        cell.exceeded().is_none().then(|| cell.lease(most).ok_or(Unavailable::Crowded))
    }
}

/// Why a request was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    /// The script does not start; its error.
    #[error("{0}")]
    Broken(Arc<str>),
    /// The script is gone.
    #[error("the script has been stopped")]
    Stopped,
    /// The script has used too much again and again, and is started again later.
    #[error("the script has exceeded its limits several times")]
    Exceeded,
    /// It took too long to start.
    #[error("the script took too long to start")]
    Timeout,
    /// As many requests as may be are in it, or wait for it.
    #[error("the script has too many requests at once")]
    Crowded,
}

/// Why an event has no answer.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// No cell took it: it may be delivered again, nothing has seen it.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The cell ended before it saw it.
    #[error("the cell was not there: {0}")]
    NotReached(String),
    /// The cell ended while it worked on it.
    #[error("the cell was lost: {0}")]
    Lost(String),
}

enum Command {
    Deploy(Box<CellSpec>, oneshot::Sender<Result<(), StartError>>),
    TakeEvents(oneshot::Sender<Result<(), StartError>>),
    Break(String, oneshot::Sender<()>),
    Narrow(oneshot::Sender<()>),
    Rest(Answered),
    GiveUp(oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

/// A script in the fleet.
pub struct Worker {
    name: String,
    state: watch::Receiver<State>,
    commands: mpsc::UnboundedSender<Command>,
    wanted: Option<Wanted>,
    /// Requests that wait for a process, and how many may.
    waiting: AtomicUsize,
    most: usize,
    /// Whether there has been an event.
    has_events: Arc<AtomicBool>,
    /// How many debuggers are attached.
    debugged: Arc<AtomicUsize>,
    /// Whether it has been asked to rest, and has not answered yet.
    asked: Arc<AtomicBool>,
    /// Events that it has not taken.
    inbox: Arc<Backlog>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Worker {
    pub(crate) fn start(name: &str, shared: Arc<Shared>) -> Arc<Self> {
        let (state_tx, state) = watch::channel(State::Asleep);
        let (commands, inbox) = mpsc::unbounded_channel();
        let name = name.to_owned();
        let wanted = shared.wanted.clone();
        let most = shared.requests;
        let has_events: Arc<AtomicBool> = Arc::default();
        let debugged: Arc<AtomicUsize> = Arc::default();
        let supervisor =
            Supervisor::new(name.clone(), has_events.clone(), debugged.clone(), shared, state_tx);
        // It may be a visitor who wants it first.
        skep_runtime::loops::spawn_home(supervisor.run(inbox));
        let (waiting, asked) = (AtomicUsize::new(0), Arc::default());
        let inbox = Backlog::new(ALL_EVENTS.clone());
        Arc::new(Self { name, state, commands, wanted, has_events, debugged, asked, waiting, most, inbox })
    }

    /// The script's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A cell for one request; waits while the script is being started or replaced, or was ended for what it used and that is
    /// not known to all yet.
    pub async fn acquire(&self) -> Result<Lease, Unavailable> {
        if let Some(leased) = self.state.borrow().lease(self.most) {
            return leased;
        }
        let _waits = Waits::count(&self.waiting, self.most).ok_or(Unavailable::Crowded)?;
        tokio::time::timeout(WAIT, self.awake()).await.unwrap_or(Err(Unavailable::Timeout))
    }

    async fn awake(&self) -> Result<Lease, Unavailable> {
        let mut state = self.state.clone();
        loop {
            let now = state.borrow_and_update().clone();
            if let Some(leased) = now.lease(self.most) {
                return leased;
            }
            match now {
                State::Broken(why) => return Err(Unavailable::Broken(why)),
                State::Stopped => return Err(Unavailable::Stopped),
                State::Resting => return Err(Unavailable::Exceeded),
                State::Starting | State::Ready(_) => {}
                State::Asleep => {
                    if let Some(wanted) = &self.wanted {
                        wanted(&self.name);
                    }
                }
            }
            state.changed().await.map_err(|_| Unavailable::Stopped)?;
        }
    }

    /// When it was last used, if it could rest now.
    pub(crate) fn last_used(&self) -> Option<u64> {
        if self.asked.load(Ordering::Relaxed) {
            return None;
        }
        match &*self.state.borrow() {
            State::Ready(cells) => (!cells.is_busy()).then(|| cells.last_used()),
            _ => None,
        }
    }

    /// Lets its process end if it has nothing to do.
    pub(crate) fn ask_to_rest(&self) {
        self.asked.store(true, Ordering::Relaxed);
        let _ = self.commands.send(Command::Rest(Answered(self.asked.clone())));
    }

    /// A process that takes requests now: the only one, unless load has made them several.
    pub fn current(&self) -> Option<Arc<Generation>> {
        match &*self.state.borrow() {
            State::Ready(cells) => Some(cells.least_busy().clone()),
            _ => None,
        }
    }

    /// Keeps the script to one process while the result lives: a debugger sees what that one is asked, and no more.
    pub async fn debugged(&self) -> Debugged {
        let debugged = Debugged::count(&self.debugged);
        let (tx, rx) = oneshot::channel();
        if self.commands.send(Command::Narrow(tx)).is_ok() {
            let _ = rx.await;
        }
        debugged
    }

    /// Resolves when `generation` no longer takes requests.
    pub async fn replaced(&self, generation: &Arc<Generation>) {
        let mut state = self.state.clone();
        let same = |state: &State| matches!(state, State::Ready(cells) if cells.has(generation));
        let _ = state.wait_for(|state| !same(state)).await;
    }

    /// Waits until the script has taken most of the events that were sent to it, so that there is room for one of so many bytes more.
    /// It takes that room until the result is dropped ([`skep_wire::held`]).
    pub async fn room_for_event(&self, bytes: usize) -> Waiting {
        self.inbox.ready(EVENTS).await;
        self.inbox.hold(bytes)
    }

    /// Sends an event (JSON) to the events shim at `path` and returns its answer: the status and JSON.
    pub async fn event(
        &self,
        path: &'static str,
        event: impl Into<Bytes>,
    ) -> Result<(StatusCode, Bytes), EventError> {
        self.traced_event(path, event, None).await
    }

    /// The same for an event that is a span of a recorded trace: its `traceparent`.
    pub async fn traced_event(
        &self,
        path: &'static str,
        event: impl Into<Bytes>,
        traceparent: Option<&str>,
    ) -> Result<(StatusCode, Bytes), EventError> {
        let (_lease, events) = self.acquire_for_event().await?;
        let mut request = http::Request::new(full(event));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = http::Uri::from_static(path);
        let headers = request.headers_mut();
        headers.insert(header::HOST, HeaderValue::from_static("skep"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(span) = traceparent.and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.insert("traceparent", span);
        }
        let response = events.send(request).await.map_err(|error| match error {
            SendError::Connect { .. } => EventError::NotReached(error.to_string()),
            SendError::Lost(_) => EventError::Lost(error.to_string()),
        })?;
        let status = response.status();
        let body = read_all(response.into_body(), MAX_EVENT_REPLY).await;
        Ok((status, body.map_err(|e| EventError::Lost(e.to_string()))?))
    }

    /// A cell for one event. The first one that a script gets may find a process that takes none: it is replaced.
    async fn acquire_for_event(&self) -> Result<(Lease, Arc<UnixClient>), EventError> {
        self.has_events.store(true, Ordering::Relaxed);
        loop {
            let lease = self.acquire().await?;
            if let Some(events) = lease.generation().events() {
                let events = events.clone();
                lease.generation().ready().await;
                return Ok((lease, events));
            }
            drop(lease);
            let (tx, rx) = oneshot::channel();
            self.commands.send(Command::TakeEvents(tx)).map_err(|_| Unavailable::Stopped)?;
            let replaced = rx.await.map_err(|_| Unavailable::Stopped)?;
            replaced.map_err(|error| EventError::NotReached(error.to_string()))?;
        }
    }

    /// Replaces what runs by `spec` without dropping a request. If `spec` does not start, what ran runs on.
    pub(crate) async fn deploy(&self, spec: CellSpec) -> Result<(), StartError> {
        let (tx, rx) = oneshot::channel();
        let gone = || StartError::System(std::io::Error::other("the script has been stopped"));
        self.commands.send(Command::Deploy(Box::new(spec), tx)).map_err(|_| gone())?;
        rx.await.map_err(|_| gone())?
    }

    /// Says to waiting requests that there is nothing to run, and why; what runs already runs on.
    pub(crate) async fn set_broken(&self, why: String) {
        let (tx, rx) = oneshot::channel();
        if self.commands.send(Command::Break(why, tx)).is_ok() {
            let _ = rx.await;
        }
    }

    /// Ends the processes, whose objects another script has from now on. The next request starts one, of what is
    /// deployed then.
    pub(crate) async fn give_up(&self) {
        let (tx, rx) = oneshot::channel();
        if self.commands.send(Command::GiveUp(tx)).is_ok() {
            let _ = rx.await;
        }
    }

    /// Ends the script.
    pub(crate) async fn stop(&self) {
        let (tx, rx) = oneshot::channel();
        if self.commands.send(Command::Stop(tx)).is_ok() {
            let _ = rx.await;
        }
    }
}

/// Takes note, when it is dropped, that a question has been answered.
struct Answered(Arc<AtomicBool>);

impl Drop for Answered {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A debugger that is attached to a script.
#[derive(Debug)]
pub struct Debugged(Arc<AtomicUsize>);

impl Debugged {
    fn count(debugged: &Arc<AtomicUsize>) -> Self {
        debugged.fetch_add(1, Ordering::Relaxed);
        Self(debugged.clone())
    }
}

impl Drop for Debugged {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one that waits.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn count(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        let waits = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < most).then_some(waits)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
