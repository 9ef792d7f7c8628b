//! Work that would hold up the event loop.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinError;

use crate::fair::{Fair, Turn};

/// How long one works before others go first.
const SLICE: Duration = Duration::from_millis(50);

/// Half of the machine's cores, and at least one: what work that takes long may have.
pub fn half_of_the_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2).max(1)
}

/// Turns at working in a thread aside, on half of the cores: the others are left to what is waited for.
#[derive(Debug)]
pub struct Turns(LazyLock<Arc<Fair>>);

impl Turns {
    /// For one kind of work; a static, so that it is for all of it together.
    pub const fn new() -> Self {
        Self(LazyLock::new(|| Fair::new(half_of_the_cores())))
    }

    /// Does `work` of `who` in a thread aside when it is its turn. Who asks for much waits behind himself.
    pub async fn aside<T: Send + 'static>(
        &self,
        who: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let turn = self.0.turn(who).await;
        // With the work: who gives up waiting for it has not stopped it.
        let work = move || {
            let _turn = turn;
            work()
        };
        tokio::task::spawn_blocking(work).await
    }

    /// Does `work` at once where it is small, and [aside](Self::aside) where it `is_large`.
    pub async fn aside_if<T: Send + 'static>(
        &self,
        is_large: bool,
        who: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        if is_large { self.aside(who, work).await } else { Ok(work()) }
    }

    /// The same as [`Turns::aside`], with work that says now and then that others may go first.
    pub async fn in_slices<T: Send + 'static>(
        &self,
        who: u64,
        work: impl FnOnce(&mut Slices) -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let fair = self.0.clone();
        let turn = Some(fair.turn(who).await);
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || {
            work(&mut Slices { fair, turn, who, since: Instant::now(), runtime })
        })
        .await
    }
}

/// A turn at work that takes long, which may be given up in between.
#[derive(Debug)]
pub struct Slices {
    fair: Arc<Fair>,
    turn: Option<Turn>,
    who: u64,
    since: Instant,
    runtime: Handle,
}

impl Slices {
    /// Lets others go first, if they wait and this one has worked for [`SLICE`]. Blocks until it is its turn again.
    pub fn pause(&mut self) {
        if self.since.elapsed() < SLICE || !self.fair.others_wait(self.who) {
            return;
        }
        if let Some(turn) = self.turn.take() {
            self.turn = Some(self.runtime.block_on(self.fair.again(turn)));
        }
        self.since = Instant::now();
    }
}

/// By which [`Turns`] and [`Fair`] know whoever shares `it`, as long as anybody has it.
pub fn who<T>(it: &Arc<T>) -> u64 {
    Arc::as_ptr(it).addr() as u64
}

/// The same of whoever has this name.
pub fn who_is(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

impl Default for Turns {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_has_its_turn_until_it_is_over() {
        static ONE: Turns = Turns(LazyLock::new(|| Fair::new(1)));
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let first = ONE.aside(1, move || told.recv());
        let soon = Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, first).await.is_err());
        let second = tokio::spawn(ONE.aside(2, || ()));
        tokio::time::sleep(soon).await;
        assert!(!second.is_finished());
        tell.send(()).unwrap();
        second.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_takes_long_lets_others_go_first() {
        static ONE: Turns = Turns(LazyLock::new(|| Fair::new(1)));
        let (tell, told) = std::sync::mpsc::channel();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let long = tokio::spawn(ONE.in_slices(1, move |slices| {
            let _ = begun.send(());
            // For as long as it takes the other one to have its turn.
            while told.try_recv().is_err() {
                std::thread::sleep(SLICE / 10);
                slices.pause();
            }
        }));
        begins.await.unwrap();
        ONE.aside(2, move || tell.send(()).unwrap()).await.unwrap();
        assert!(long.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn what_is_done_aside_is_done_by_few_threads_at_once() {
        static TURNS: Turns = Turns::new();
        static INSIDE: AtomicUsize = AtomicUsize::new(0);
        let here = std::thread::current().id();
        let work = move || {
            let inside = INSIDE.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(1));
            INSIDE.fetch_sub(1, Ordering::SeqCst);
            assert_ne!(std::thread::current().id(), here);
            inside
        };
        let all: Vec<_> = (0..50).map(|_| tokio::spawn(TURNS.aside(1, work))).collect();
        let cores = std::thread::available_parallelism().unwrap().get();
        for one in all {
            assert!(one.await.unwrap().unwrap() < (cores / 2).max(1));
        }
    }
}
