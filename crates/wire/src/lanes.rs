//! Event loops of their own for cells that would hold others up.
//!
//! All cells and visitors are served by one thread. A cell whose calls take more than its share of it is served by another thread, together
//! with others of its kind, until it is quiet again. The kernel sees to it that they get what nobody else wants.

use std::cell::Cell;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};

/// Tasks that such a loop runs before it looks for what has come: fewer than usual (61), as each may take long.
const TASKS: u32 = 8;
/// How much the kernel prefers other threads (nice(2)).
const NICE: i32 = 10;

/// After so long it is tried again whether there is a thread to be had.
const AGAIN: Duration = Duration::from_secs(1);

/// Such a loop. Whoever is served by it holds one of these.
#[derive(Debug)]
pub(crate) struct Lane(Handle);

static LANES: LazyLock<Mutex<Lanes>> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Mutex::new(Lanes { open: Vec::new(), most: cores.clamp(2, 16), failed: None })
});

struct Lanes {
    /// They are never closed: what is begun on one ends on it.
    open: Vec<Arc<Lane>>,
    most: usize,
    /// When there was no thread to be had.
    failed: Option<Instant>,
}

thread_local! {
    static IS_LANE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the thread that asks is not the one that serves everybody.
pub fn is_lane() -> bool {
    IS_LANE.get()
}

impl Lane {
    /// The one with the fewest cells, a new one if all have some; `None` if no thread can be had.
    pub fn find() -> Option<Arc<Self>> {
        let mut lanes = LANES.lock().unwrap_or_else(PoisonError::into_inner);
        // One is held by the list.
        let least = lanes.open.iter().min_by_key(|lane| Arc::strong_count(lane)).cloned();
        let is_empty = least.as_ref().is_some_and(|lane| Arc::strong_count(lane) <= 2);
        let in_vain = lanes.failed.is_some_and(|at| at.elapsed() < AGAIN);
        if is_empty || in_vain || lanes.open.len() >= lanes.most {
            return least;
        }
        match Self::open() {
            Ok(lane) => {
                lanes.open.push(lane.clone());
                Some(lane)
            }
            Err(error) => {
                lanes.failed = Some(Instant::now());
                tracing::warn!(%error, "a noisy script slows others down: it cannot have a thread of its own");
                least
            }
        }
    }

    fn open() -> std::io::Result<Arc<Self>> {
        let runtime = Builder::new_current_thread().enable_all().event_interval(TASKS).build()?;
        let handle = runtime.handle().clone();
        skep_runtime::thread("skep-lane", move || {
            IS_LANE.set(true);
            if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                tracing::debug!(%error, "a thread for noisy scripts has the priority of all others");
            }
            runtime.block_on(std::future::pending::<()>());
        })?;
        Ok(Arc::new(Self(handle)))
    }

    pub fn handle(&self) -> &Handle {
        &self.0
    }
}
