//! The sessions: one browser process each, until it is closed, ends, or gets no command for a while.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::BrowserError;
use crate::host::Host;
use crate::process::{Devtools, Process};

/// How long a session lives without a command, if nothing is said, and at most.
/// <https://developers.cloudflare.com/browser-run/limits/>
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const LONGEST_KEEP_ALIVE: Duration = Duration::from_secs(600);
/// How long one that has just begun may take to end with all others.
const CLOSES: Duration = Duration::from_secs(5);
/// How long a new one waits for those that have just been told to close.
const CLOSING: Duration = Duration::from_secs(1);
/// Sessions that have ended and are remembered.
const REMEMBERED: usize = 100;

/// Connections to a session at once, and those of them whose messages come in chunks.
const CONNECTIONS: usize = 64;
pub(crate) const LEGACY: usize = 2;
/// Answers of a browser that are read at once.
const ASKS: usize = 2;

/// The browsers of one account.
pub struct Browsers {
    host: Arc<Host>,
    most: usize,
    state: Mutex<State>,
    /// How many are there, for who waits for none.
    count: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    /// Places that are taken, by sessions and by those that begin.
    taken: usize,
    sessions: HashMap<String, Arc<Session>>,
    ended: VecDeque<Told>,
    closing: bool,
}

/// A session as it is told.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Told {
    pub session_id: String,
    /// Milliseconds since the epoch, as all times here.
    start_time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_start_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close_reason: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close_reason_text: Option<&'static str>,
}

/// Why a session ended, in Cloudflare's numbers and words:
/// <https://developers.cloudflare.com/browser-run/puppeteer/#list-recent-sessions>
#[derive(Clone, Copy)]
enum Closed {
    Normally,
    Idle,
}

/// A browser and who is connected to it.
#[derive(Debug)]
pub(crate) struct Session {
    pub id: String,
    pub devtools: Devtools,
    /// Where what passes between it and others is moved.
    pub handle: Handle,
    pub asks: Semaphore,
    pub legacy: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    started_ms: u64,
    keep_alive: Duration,
    used: Mutex<Instant>,
    connection: Mutex<Option<(String, u64)>>,
    close: Notify,
    gone: watch::Sender<bool>,
}

/// A connection to a session, counted while this is there.
#[derive(Debug)]
pub(crate) struct Connection {
    pub session: Arc<Session>,
    id: String,
    _room: OwnedSemaphorePermit,
}

impl Browsers {
    pub(crate) fn new(host: Arc<Host>, most: usize) -> Arc<Self> {
        Arc::new(Self { host, most, state: Mutex::default(), count: watch::Sender::new(0) })
    }

    pub(crate) fn most(&self) -> usize {
        self.most
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a browser. Without a command for `keep_alive` milliseconds, ten minutes at most, it ends.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        keep_alive: Option<u64>,
    ) -> Result<Arc<Session>, BrowserError> {
        let place = self.wait_for_place().await?;
        let process = self.host.start().await?;
        let keep_alive = keep_alive.map_or(KEEP_ALIVE, Duration::from_millis).min(LONGEST_KEEP_ALIVE);
        let session = Arc::new(Session {
            id: Uuid::new_v4().to_string(),
            devtools: process.devtools.clone(),
            handle: self.host.handle(),
            asks: Semaphore::new(ASKS),
            legacy: Arc::new(Semaphore::new(LEGACY)),
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            started_ms: now_ms(),
            keep_alive,
            used: Mutex::new(Instant::now()),
            connection: Mutex::default(),
            close: Notify::new(),
            gone: watch::Sender::new(false),
        });
        {
            let mut state = self.state();
            if state.closing {
                return Err(BrowserError::Refused("Skep is ending".to_owned()));
            }
            state.sessions.insert(session.id.clone(), session.clone());
        }
        tokio::spawn(place.watch(process, session.clone()));
        Ok(session)
    }

    /// The session of an id.
    pub(crate) fn session(&self, id: &str) -> Result<Arc<Session>, BrowserError> {
        self.state().sessions.get(id).cloned().ok_or_else(|| BrowserError::NoSession(id.to_owned()))
    }

    /// The sessions that run, the oldest first.
    pub(crate) fn running(&self) -> Vec<Told> {
        let mut all: Vec<Told> = self.state().sessions.values().map(|session| session.told()).collect();
        all.sort_by(|a, b| (a.start_time, &a.session_id).cmp(&(b.start_time, &b.session_id)));
        all
    }

    /// The sessions that ended, the last one first, after those that run.
    pub(crate) fn history(&self) -> Vec<Told> {
        let mut all = self.running();
        all.reverse();
        all.extend(self.state().ended.iter().cloned());
        all
    }

    /// Ends a session, and waits until its browser has gone.
    pub(crate) async fn close(&self, session: &Session) {
        session.close.notify_one();
        let _ = session.gone.subscribe().wait_for(|gone| *gone).await;
    }

    /// Ends all of them, and waits until they have gone, but not long: those end with this process, too. None begins after this.
    pub async fn close_all(&self) {
        let all: Vec<Arc<Session>> = {
            let mut state = self.state();
            state.closing = true;
            state.sessions.values().cloned().collect()
        };
        all.iter().for_each(|session| session.close.notify_one());
        let mut count = self.count.subscribe();
        let _ = tokio::time::timeout(CLOSES, count.wait_for(|count| *count == 0)).await;
    }

    async fn wait_for_place(self: &Arc<Self>) -> Result<Place, BrowserError> {
        let until = Instant::now() + CLOSING;
        let mut count = self.count.subscribe();
        loop {
            count.mark_unchanged();
            match self.take_place() {
                Err(BrowserError::Full(most)) => {
                    let changed = tokio::time::timeout_at(until, count.changed()).await;
                    changed.map_err(|_| BrowserError::Full(most))?.map_err(|_| BrowserError::Full(most))?;
                }
                taken => return taken,
            }
        }
    }

    fn take_place(self: &Arc<Self>) -> Result<Place, BrowserError> {
        let mut state = self.state();
        if state.closing {
            return Err(BrowserError::Refused("Skep is ending".to_owned()));
        }
        if state.taken >= self.most {
            return Err(BrowserError::Full(self.most));
        }
        let room = self.host.room()?;
        state.taken += 1;
        self.count.send_replace(state.taken);
        Ok(Place { browsers: self.clone(), _room: room })
    }
}

/// Room for one browser.
struct Place {
    browsers: Arc<Browsers>,
    _room: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.browsers.state();
        state.taken -= 1;
        self.browsers.count.send_replace(state.taken);
    }
}

impl Place {
    /// Waits for the session's end, and sees to it.
    async fn watch(self, mut process: Process, session: Arc<Session>) {
        let closed = loop {
            tokio::select! {
                () = process.ended() => break Closed::Normally,
                () = session.close.notified() => break Closed::Normally,
                () = tokio::time::sleep_until(session.idle_at()) => {
                    if session.idle_at() <= Instant::now() {
                        break Closed::Idle;
                    }
                }
            }
        };
        if process.end().await {
            tracing::warn!(
                session = session.id,
                "a browser wanted more memory than it may use, and was ended or lost pages"
            );
        }
        let mut state = self.browsers.state();
        state.sessions.remove(&session.id);
        state.ended.truncate(REMEMBERED - 1);
        state.ended.push_front(session.told_at_the_end(closed));
        drop(state);
        session.gone.send_replace(true);
    }
}

impl Session {
    /// A command has come.
    pub fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn idle_at(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) + self.keep_alive
    }

    /// Counts a connection; the last one is shown.
    pub fn connect(self: &Arc<Self>) -> Result<Connection, BrowserError> {
        let room = self.connections.clone().try_acquire_owned();
        let _room = room.map_err(|_| BrowserError::Busy(CONNECTIONS))?;
        self.touch();
        let id = Uuid::new_v4().to_string();
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some((id.clone(), now_ms()));
        Ok(Connection { session: self.clone(), id, _room })
    }

    /// As it is listed.
    pub fn told(&self) -> Told {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (connection_id, connection_start_time) = connection.unzip();
        Told {
            session_id: self.id.clone(),
            start_time: self.started_ms,
            connection_id,
            connection_start_time,
            end_time: None,
            close_reason: None,
            close_reason_text: None,
        }
    }

    fn told_at_the_end(&self, closed: Closed) -> Told {
        let (number, text) = match closed {
            Closed::Normally => (1, "NormalClosure"),
            Closed::Idle => (2, "BrowserIdle"),
        };
        Told {
            connection_id: None,
            connection_start_time: None,
            end_time: Some(now_ms()),
            close_reason: Some(number),
            close_reason_text: Some(text),
            ..self.told()
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut shown = self.session.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.as_ref().is_some_and(|(id, _)| *id == self.id) {
            *shown = None;
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
