//! One process of one version of a script, with its folder, its sockets and the requests in it.

mod launch;
mod lease;
mod start;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use skep_runtime::ShutdownTrigger;
use skep_wire::{Request, UnixClient};
use tokio::sync::{Notify, OnceCell, watch};

use crate::collector::Collector;
use crate::engine::Folder;
use crate::idle::{Seen, cpu_ticks};
use crate::limits::Exceeded;
use crate::offers::{Offered, Offers};
use crate::process::Killer;
use crate::responses::Responses;
use crate::spec::{Leads, Led};
use crate::uploads::Uploads;
use crate::watch::{Offence, affirms};
pub use launch::CallerFolder;
use lease::{Called, Counted};
pub use lease::{Hold, Lease};
pub use start::StartError;

/// How long it may take to say whether its Workflows rest; meanwhile nothing else is done for its script.
const RESTS_PATIENCE: Duration = Duration::from_secs(1);

/// A running process of a script.
#[derive(Debug)]
pub struct Generation {
    folder: Folder,
    http: Arc<UnixClient>,
    /// `None` if it takes no events.
    events: Option<Arc<UnixClient>>,
    outbound: Arc<UnixClient>,
    pulse: Arc<UnixClient>,
    pid: u32,
    inspector_port: Option<u16>,
    /// Whether it writes the files of Durable Objects.
    pub(crate) has_objects: bool,
    has_workflows: bool,
    in_flight: AtomicUsize,
    /// CPU times that requests in it may use at most, and how many have each.
    caps: Mutex<BTreeMap<Duration, usize>>,
    /// Connections that stay open, such as WebSockets.
    open: AtomicUsize,
    /// Connections of other cells, which stay open whether anything is called or not.
    called: AtomicUsize,
    /// Whether its code has been made ready for being called otherwise than by a visitor.
    ready: OnceCell<()>,
    /// What sets bounds in its code, where there are any.
    bounds: Option<Collector>,
    /// Says what it gets of what its containers send out.
    leads: Option<Leads>,
    /// How often it was used by others than its containers.
    uses: AtomicU64,
    /// Milliseconds since the fleet began.
    last_used: AtomicU64,
    _counted: Option<Counted>,
    idle: Notify,
    /// Something has come in.
    busy: Arc<Notify>,
    /// Which requests it answers, where its code is told.
    responses: Option<Arc<Responses>>,
    offers: Arc<Offers>,
    /// What visitors upload to it, if it may pass that on.
    uploads: Option<Uploads>,
    offence: Offence,
    retired: watch::Sender<bool>,
    killer: Killer,
    ended: watch::Receiver<Option<String>>,
    // Ends the servers of its sockets when the generation is dropped.
    _servers: ShutdownTrigger,
}

impl Generation {
    fn caps(&self) -> MutexGuard<'_, BTreeMap<Duration, usize>> {
        self.caps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says, by a number, which one invocation is in it, with what it does after its response; `None` if there may be
    /// several. Events of objects come without us, and one may call many of them: there, what is done by itself after the
    /// last use counts as one.
    fn only_one(&self) -> Option<u64> {
        let one = match self.has_objects {
            // Steps of a Workflow come one after the other for days.
            true => self.in_flight() == 0 && !self.has_workflows && self.led().open == 0,
            false => self.in_flight() <= 1 && self.open.load(Ordering::SeqCst) == 0,
        };
        one.then(|| self.uses())
    }

    /// Connections of its containers: each is an event of an object, or several.
    fn led(&self) -> Led {
        self.leads.as_ref().and_then(Leads::now).unwrap_or_default()
    }

    /// How often it was used.
    fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed) + self.led().begun
    }

    /// What it was ended for, if it used too much.
    pub fn exceeded(&self) -> Option<Exceeded> {
        self.offence.get().copied()
    }

    /// Whether its process lives, as far as it answers: one that is ending closes its connections in no order, so that it may
    /// still seem to listen when the first ones are gone. Code that keeps it busy is waited for.
    pub async fn lives(&self) -> bool {
        crate::watch::answers(&self.pulse, "/health").await
    }

    /// The client for requests.
    pub fn http(&self) -> &Arc<UnixClient> {
        &self.http
    }

    /// The client for requests to the code as an outbound worker, which must be [exposed](Exposed::Outbound).
    pub fn outbound(&self) -> &Arc<UnixClient> {
        &self.outbound
    }

    /// The client for events, if it takes any.
    pub(crate) fn events(&self) -> Option<&Arc<UnixClient>> {
        self.events.as_ref()
    }

    /// Content that it was given, by the name that it has for it; a body is there once.
    pub fn offered(&self, name: &str) -> Option<Offered> {
        self.offers.find(name)
    }

    /// A request as it is to be sent to it.
    pub fn admit(&self, request: Request) -> Request {
        match &self.uploads {
            Some(uploads) => uploads.enter(request),
            None => request,
        }
    }

    /// The engine's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The port of the engine's inspector on the loopback address, if it was asked for.
    pub fn inspector_port(&self) -> Option<u16> {
        self.inspector_port
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    /// Counts a request in until the lease is dropped, if there are fewer than `most`.
    pub(crate) fn lease(self: &Arc<Self>, most: usize) -> Option<Lease> {
        let before = self.in_flight.fetch_add(1, Ordering::SeqCst);
        let lease = Lease { generation: self.clone(), cap: None, ray: None };
        if before >= most {
            return None;
        }
        if before == 0 {
            self.busy.notify_one();
        }
        self.touch();
        Some(lease)
    }

    /// Notes that it is used now.
    pub fn touch(&self) {
        self.uses.fetch_add(1, Ordering::Relaxed);
        self.last_used.store(now_ms(), Ordering::Relaxed);
    }

    /// Counts a connection that stays open, such as a WebSocket, until the result is dropped: the process is not
    /// stopped for want of work meanwhile.
    pub fn hold(self: &Arc<Self>) -> Hold {
        self.open.fetch_add(1, Ordering::SeqCst);
        Hold(self.clone())
    }

    /// Whether nobody waits for anything that it does, as far as can be seen.
    pub(crate) fn is_alone(&self) -> bool {
        self.in_flight() == 0 && self.called.load(Ordering::Relaxed) == 0 && self.led().open == 0
    }

    /// Counts a connection of another cell until the result is dropped.
    pub(crate) fn call(self: &Arc<Self>) -> Called {
        self.called.fetch_add(1, Ordering::Relaxed);
        Called(self.clone())
    }

    /// Makes the code ready for calls that do not come from a visitor: bounds are set in it where it is first called with a
    /// context, and so the first one has to be ours. Once.
    pub(crate) async fn ready(&self) {
        let Some(bounds) = &self.bounds else { return };
        self.ready.get_or_init(|| bounds.call()).await;
    }

    /// Whether each instance of its Workflows would go on from where it is if the process ended: none runs a step. Who does not
    /// say so soon is in the middle of something.
    pub(crate) async fn workflows_rest(&self) -> bool {
        match (&self.events, self.has_workflows) {
            (_, false) => true,
            (Some(events), true) => affirms(events, "/resting", RESTS_PATIENCE).await,
            (None, true) => false,
        }
    }

    /// How many requests are in it.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Whether a request or a connection is in it.
    pub(crate) fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::SeqCst) > 0
            || self.open.load(Ordering::SeqCst) > 0
            || self.led().open > 0
    }

    /// Milliseconds, comparable among generations.
    pub(crate) fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    /// What can be seen of it from outside.
    pub(crate) fn seen(&self) -> Seen {
        Seen {
            busy: self.is_busy(),
            uses: self.uses(),
            cpu: cpu_ticks(self.pid),
            called: self.called.load(Ordering::Relaxed) > 0,
        }
    }

    /// Resolves with how the process ended.
    pub(crate) async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(how) => how.clone().unwrap_or_default(),
            Err(_) => "the watcher is gone".to_owned(),
        }
    }

    /// Whether the process runs.
    pub(crate) fn is_running(&self) -> bool {
        self.ended.borrow().is_none()
    }

    /// Resolves when no request is in it, or after `limit`.
    pub(crate) async fn drained(&self, limit: Duration) {
        let empty = async {
            loop {
                let notified = self.idle.notified();
                if self.in_flight.load(Ordering::SeqCst) == 0 {
                    return;
                }
                notified.await;
            }
        };
        let _ = tokio::time::timeout(limit, empty).await;
    }

    /// Tells those who hold connections open that they should find a newer process.
    pub(crate) fn retire(&self) {
        self.retired.send_replace(true);
    }

    /// Resolves when connections that stay open, WebSockets, should be closed: the process is about to end.
    pub async fn retired(&self) {
        let _ = self.retired.subscribe().wait_for(|retired| *retired).await;
    }

    /// Stops the process in its tracks, to go on later, or lets it go on.
    pub(crate) fn pause(&self, paused: bool) {
        self.killer.pause(paused);
    }

    /// Asks the process to end; after `grace` it has to.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.retire();
        self.killer.terminate();
        if tokio::time::timeout(grace, self.ended()).await.is_err() {
            self.kill().await;
        }
    }

    /// Ends the process at once. Its objects lose nothing: they acknowledge only what is on the disk.
    pub(crate) async fn kill(&self) {
        self.killer.kill();
        self.ended().await;
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.killer.kill();
    }
}

/// Milliseconds since this was first asked.
fn now_ms() -> u64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGIN.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}
