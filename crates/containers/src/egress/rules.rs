//! What holds of a container whose worker wants to see what it sends out.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::authority::Authority;
use super::door::{Door, Process};

/// What is to become of a connection that no worker takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The engine passes it on, if the container may reach the internet.
    Open,
    /// It ends there.
    Closed,
    /// The same, and the address is the machine's own: the engine is not to try it.
    Own,
}

/// What holds of a container.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// The process of its cell.
    pub process: Option<Arc<Process>>,
    /// Where that takes connections, as it says.
    pub port: Option<u16>,
    /// The same, once it was looked at.
    pub door: Option<Result<Arc<Door>, String>>,
    /// The hosts of which there is a name whether a name server knows them or not. With none, nothing is led to a worker.
    pub hosts: Vec<String>,
    /// Whether it may reach the internet.
    pub internet: bool,
    /// Who signs for servers whose part a worker plays.
    pub authority: Option<Arc<Authority>>,
}

/// The same for those who act by it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    rules: Arc<Mutex<Rules>>,
    finding: Arc<tokio::sync::Mutex<()>>,
    /// Connections that have begun, and those that are there.
    begun: Arc<AtomicU64>,
    open: Arc<AtomicUsize>,
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections have begun, and how many are there.
    pub fn used(&self) -> (u64, usize) {
        (self.begun.load(Ordering::Relaxed), self.open.load(Ordering::Relaxed))
    }

    /// Who signs for servers whose part a worker plays: one for each container.
    pub fn authority(&self) -> Result<Arc<Authority>, String> {
        let mut rules = self.lock();
        if let Some(known) = &rules.authority {
            return Ok(known.clone());
        }
        let made = Arc::new(Authority::new()?);
        rules.authority = Some(made.clone());
        Ok(made)
    }

    /// Where the engine takes connections. What was found out holds until the engine says something new.
    pub async fn door(&self) -> io::Result<Arc<Door>> {
        let known = || self.lock().door.clone();
        let _mine = match known() {
            Some(door) => return door.map_err(io::Error::other),
            None => self.finding.lock().await,
        };
        if let Some(door) = known() {
            return door.map_err(io::Error::other);
        }
        let (process, port) = {
            let rules = self.lock();
            (rules.process.clone(), rules.port)
        };
        let (Some(process), Some(said)) = (process, port) else {
            return Err(io::Error::other("no engine takes connections"));
        };
        let found = tokio::task::spawn_blocking(move || Door::find(process, said)).await;
        let found = found.map_err(io::Error::other)?.map(Arc::new).map_err(|error| error.to_string());
        if let Err(error) = &found {
            tracing::warn!(error, "what a container sends out does not get to its worker");
        }
        let mut rules = self.lock();
        if rules.port == port {
            rules.door = Some(found.clone());
        }
        found.map_err(io::Error::other)
    }
}

/// Counts a connection until this is dropped.
pub(crate) struct Open(Arc<AtomicUsize>);

impl Open {
    pub fn count(shared: &Shared) -> Self {
        shared.begun.fetch_add(1, Ordering::Relaxed);
        shared.open.fetch_add(1, Ordering::Relaxed);
        Self(shared.open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
