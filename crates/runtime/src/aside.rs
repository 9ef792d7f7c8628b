//! Work that would hold up the event loop.

use std::sync::{Arc, LazyLock};

use tokio::task::JoinError;

use crate::fair::Fair;

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
        let _turn = self.0.turn(who).await;
        tokio::task::spawn_blocking(work).await
    }
}

/// By which [`Turns`] and [`Fair`] know whoever shares `it`, as long as anybody has it.
pub fn who<T>(it: &Arc<T>) -> u64 {
    Arc::as_ptr(it).addr() as u64
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
