//! Work on large requests, done where nobody waits for it.
//!
//! The API is served by the thread that serves visitors. To read a script of sixty megabytes, or a document with a million entries,
//! takes it seconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

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
pub(crate) async fn listed(call: Call, list: impl FnOnce(&Call) -> Answer + Send + 'static) -> Answer {
    LISTS.aside(whose(), move || list(&call)).await.map_err(ApiError::internal)?
}

/// So long one account looks at a list before others have their turn.
const SLICE: Duration = Duration::from_millis(20);

/// What `look` makes of each item, in a thread of its own, slice by slice: an account with thousands of scripts leaves others their turns in between, and nothing
/// goes on for a caller who has gone.
pub(crate) async fn each<I: Send + 'static, T: Send + 'static>(
    items: Vec<I>,
    look: impl Fn(I) -> Result<T, ApiError> + Send + Sync + 'static,
) -> Result<Vec<T>, ApiError> {
    let (look, mut items, mut all) = (Arc::new(look), items.into_iter(), Vec::new());
    while items.len() > 0 {
        let look = look.clone();
        let slice = move || {
            let (start, mut part) = (Instant::now(), Vec::new());
            for item in items.by_ref() {
                part.push(look(item)?);
                if start.elapsed() >= SLICE {
                    break;
                }
            }
            Ok::<_, ApiError>((items, part))
        };
        let part;
        (items, part) = LISTS.aside(whose(), slice).await.map_err(ApiError::internal)??;
        all.extend(part);
    }
    Ok(all)
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
    async fn a_list_is_looked_at_in_its_order_and_others_have_their_turn_meanwhile() {
        let long = |n: u32| {
            std::thread::sleep(SLICE / 4);
            Ok(n)
        };
        let looked = tokio::spawn(of_account("many", each((0..100).collect(), long)));
        tokio::time::sleep(SLICE).await;
        of_account("one", each(vec![()], Ok)).await.unwrap_or_else(|_| panic!("it is a list"));
        assert!(!looked.is_finished(), "the other one came in between");
        let looked = looked.await.unwrap().unwrap_or_else(|_| panic!("nothing failed"));
        assert_eq!(looked, (0..100).collect::<Vec<_>>());
        let failed = each(vec![1, 2, 3], |n| if n == 2 { Err(ApiError::bad(1, "two")) } else { Ok(n) }).await;
        assert!(failed.is_err());
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
