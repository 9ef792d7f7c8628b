//! Work on large requests, done where nobody waits for it.
//!
//! The API is served by the thread that serves visitors. To read a script of sixty megabytes, or a document with a million entries,
//! takes it seconds.

use skep_runtime::{Turns, who_is};

use crate::call::Call;
use crate::reply::{Answer, ApiError};

/// Bytes that are looked at at once.
const SMALL: usize = 64 << 10;

static TURNS: Turns = Turns::new();
/// Lists take a millisecond, and do not wait for what takes seconds.
static LISTS: Turns = Turns::new();

tokio::task_local! {
    /// Whose call it is: accounts take turns.
    static WHOSE: u64;
}

/// A call of `account`, whose large work waits for no more than one of each other account's.
pub(crate) async fn of_account<F: Future>(account: &str, call: F) -> F::Output {
    WHOSE.scope(who_is(account), call).await
}

/// Whose call it is, by which [`Turns`] know it.
pub(crate) fn whose() -> u64 {
    WHOSE.try_with(|whose| *whose).unwrap_or_default()
}

/// Does `work` on `size` bytes: at once if they are few, else in a thread of its own when it is its account's turn.
pub(crate) async fn aside<T: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    TURNS.aside_if(size > SMALL, whose(), work).await.map_err(ApiError::internal)
}

/// Answers a call that reads a list, in a thread of its own when it is its account's turn: the length of a list is seen late.
pub(crate) async fn listed(call: Call, list: fn(&Call) -> Answer) -> Answer {
    LISTS.aside(whose(), move || list(&call)).await.map_err(ApiError::internal)?
}

/// Does `work` that is long, whatever its size says, in a thread of its own when it is its account's turn.
pub(crate) async fn long<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    TURNS.aside(whose(), work).await.map_err(ApiError::internal)?
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_is_large_is_done_by_another_thread() {
        let here = std::thread::current().id();
        assert_eq!(aside(1, || std::thread::current().id()).await.ok(), Some(here));
        let there = aside(SMALL + 1, || std::thread::current().id()).await.ok();
        assert!(there.is_some_and(|there| there != here));
    }

    #[tokio::test]
    async fn who_asks_for_much_waits_behind_himself() {
        let (order, count) = (Arc::<Mutex<Vec<&str>>>::default(), 20 * skep_runtime::half_of_the_cores());
        let work = |account: &'static str| {
            let order = order.clone();
            let work = move || {
                std::thread::sleep(Duration::from_millis(5));
                order.lock().unwrap().push(account);
            };
            tokio::spawn(of_account(account, aside(SMALL + 1, work)))
        };
        let mut all: Vec<_> = (0..count).map(|_| work("many")).collect();
        tokio::task::yield_now().await;
        all.push(work("one"));
        for work in all {
            assert!(work.await.unwrap().is_ok());
        }
        let order = order.lock().unwrap();
        let place = order.iter().position(|account| *account == "one").unwrap();
        assert!(place < count / 2, "{place}");
    }
}
